# SPDX-License-Identifier: Apache-2.0
"""A small REST client on top of the `kubernetes` package: raw dicts, a timeout on every call, paginated lists."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import urllib3
import yaml
from kubernetes import client, config

Object: TypeAlias = dict[str, Any]

TIMEOUT_SECONDS = (3.0, 8.0)
"""Connect and read timeout of one request [s]."""
PAGE_SIZE = 500
ANYTHING = "application/json"
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""Without spec and status: a fraction of the bytes of a list."""
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
USER_AGENT = "embellie-watchdog"
NO_KUBECONFIG = "no access to a cluster: the kubeconfig is not YAML of kind Config; name another with --kubeconfig"


class ApiError(Exception):
    """The API server answered with an error."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}"[:500])
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def conflict(self) -> bool:
        """Whether the object is not as it was read (a failed guard answers 422, a lost race 409)."""
        return self.status in (409, 422)

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed a little later."""
        return self.status in (408, 429) or self.status >= 500


class UnreachableError(Exception):
    """No answer came from the API server."""


class NoAnswerError(UnreachableError):
    """It took the call and did not answer in time: that may be one object's fault, as of a webhook that hangs."""


class ConfigurationError(Exception):
    """No usable kubeconfig and no in-cluster token; the message says what to do."""


def connect(kubeconfig: Path | None = None, context: str | None = None) -> "Api":
    """Return a client: from a kubeconfig if one is named, in a pod from its token, else from the default kubeconfig."""
    settings = client.Configuration()
    try:
        if kubeconfig is None and context is None and "KUBECONFIG" not in os.environ and SERVICE_ACCOUNT.is_dir():
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        else:
            config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=str(kubeconfig) if kubeconfig else None,
                context=context,
                client_configuration=settings,
                persist_config=False,
            )
    except (config.ConfigException, OSError) as error:
        raise ConfigurationError(
            f"no access to a cluster: {str(error).rstrip('.')}; name a kubeconfig with --kubeconfig"
        ) from error
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:
        # What the client makes of a file that is something else.
        raise ConfigurationError(NO_KUBECONFIG) from error
    # Our own loops retry, with the guards of a fresh read; the pool must not repeat a write by itself.
    settings.retries = False
    settings.connection_pool_maxsize = 8
    return Api(settings)


class Api:
    """Raw calls to one API server. Safe to share between threads."""

    def __init__(self, settings: client.Configuration) -> None:
        self._client = client.ApiClient(settings)
        self._client.user_agent = USER_AGENT

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        accept: str = ANYTHING,
    ) -> Object:
        """Make one request and return its JSON answer."""
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = content_type
        request = self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = self._client.call_api(*request, _request_timeout=TIMEOUT_SECONDS)
            data = response.read()  # type: ignore[no-untyped-call]
        except client.ApiException as error:
            raise UnreachableError(str(error.reason)) from error
        except urllib3.exceptions.ReadTimeoutError as error:
            raise NoAnswerError(f"{type(error).__name__}: {error}") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableError(f"{type(error).__name__}: {error}") from error
        return _parse(response.status, data)

    def get(self, path: str, **query: str) -> Object:
        """Read one object."""
        return self.call("GET", path, query=query)

    def create(self, path: str, body: Object) -> Object:
        """Create an object in a collection."""
        return self.call("POST", path, body=body)

    def replace(self, path: str, body: Object) -> Object:
        """Replace an object; its resourceVersion guards against a lost race."""
        return self.call("PUT", path, body=body)

    def json_patch(self, path: str, operations: list[Object]) -> Object:
        """Apply a JSON patch."""
        return self.call("PATCH", path, body=operations, content_type="application/json-patch+json")

    def merge_patch(self, path: str, body: Object) -> Object:
        """Apply a JSON merge patch."""
        return self.call("PATCH", path, body=body, content_type="application/merge-patch+json")

    def list(
        self, path: str, *, accept: str = ANYTHING, keep: Callable[[Object], bool] | None = None, **query: str
    ) -> list[Object]:
        """Return all items of a collection, page by page; a list that expires in the middle is started again.

        Of a large collection `keep` picks those that are wanted before the next page comes.
        """
        for _ in range(3):
            try:
                return list(filter(keep, self._pages(path, query, accept)))
            except ApiError as error:
                if error.status != 410:
                    raise
        return list(filter(keep, self._pages(path, query, accept)))

    def _pages(self, path: str, query: Mapping[str, str], accept: str) -> Iterator[Object]:
        page = {"limit": str(PAGE_SIZE), **query}
        while True:
            answer = self.call("GET", path, query=page, accept=accept)
            for item in answer.get("items") or ():
                # Half of an object's bytes, of which nobody here reads any.
                (item.get("metadata") or {}).pop("managedFields", None)
                yield item
            token = (answer.get("metadata") or {}).get("continue")
            if not token:
                return
            page = {**page, "continue": token}


def _parse(status: int, data: bytes | None) -> Object:
    """Return the JSON object of an answer, or raise what it says."""
    try:
        answer = json.loads(data or b"{}")
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    if status >= 400:
        text = (data or b"").decode(errors="replace")
        raise ApiError(status, str(answer.get("reason") or "Error"), str(answer.get("message") or text)[:400])
    return answer


def namespaced(prefix: str, namespace: str, plural: str, name: str = "") -> str:
    """Return the path of a namespaced collection or object, e.g. of `apis/batch/v1` and `jobs`."""
    path = f"/{prefix}/namespaces/{quote(namespace, safe='')}/{plural}"
    return f"{path}/{quote(name, safe='')}" if name else path


def parse_time(text: object) -> datetime | None:
    """Read an API server's timestamp; None where there is none, or nonsense."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
