# SPDX-License-Identifier: Apache-2.0
"""A thin synchronous client: JSON in, JSON out, on plain paths.

Authentication, TLS and the connection pool are the `kubernetes` package's; its generated models stay out of it, because
reading ten thousand objects through them costs seconds. Every call has a timeout, and retries are ours alone: only
what the server asked to repeat (429 and 503), bounded, with its own `Retry-After`, and reads over a broken connection.
"""

import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

import urllib3
from kubernetes.client.configuration import Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.client.rest import RESTClientObject
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config

from embellie import __version__
from embellie.domain import names
from embellie.domain.snapshot import WorkloadKey

Json: TypeAlias = dict[str, Any]

JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
PAGE_SIZE = 500
LIST_TIMEOUT_S = 60.0
POOL_SIZE = 32
WATCH_BYTES = 1 << 16
MAX_ATTEMPTS = 4
MIN_TIMEOUT_S = 0.5
AUTH_CACHE_S = 15.0
SAME_TIME_S = 5.0
"""Times that differ by no more are the same; an answer's `Date` may be so old when it is read."""
IN_CLUSTER_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")

_RETRY_STATUSES = frozenset({429, 503})
_JITTER = random.SystemRandom()
logger = logging.getLogger(__name__)


class ApiError(Exception):
    """The API server refused, or did not answer (`status` 0)."""

    def __init__(
        self, status: int, reason: str, message: str, retry_after_s: float | None = None, details: Json | None = None
    ) -> None:
        super().__init__(f"{status} {reason}: {message}"[:600])
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s
        self.details = details or {}

    @property
    def unreachable(self) -> bool:
        """Whether no usable answer came: nothing is known about the object."""
        return self.status == 0 or self.status == 429 or self.status >= 500

    @property
    def conflict(self) -> bool:
        """Whether the object is not as it was read: a lost race (409) or a guard that failed (422)."""
        return self.status == 409 or (self.status == 422 and not self.invalid)

    @property
    def invalid(self) -> bool:
        """Whether what was to be written is not valid: only then does a 422 name the fields. Trying again is no use."""
        return self.status == 422 and bool(self.details.get("causes"))


class ConfigurationError(Exception):
    """No usable kubeconfig and no in-cluster token; the message says what to do."""


def object_path(api_version: str, plural: str, name: str = "", *, namespace: str = "", subresource: str = "") -> str:
    """Return the path of a resource or of one object.

    >>> object_path("batch/v1", "jobs", "train", namespace="team-a")
    '/apis/batch/v1/namespaces/team-a/jobs/train'
    >>> object_path("v1", "nodes")
    '/api/v1/nodes'
    """
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    scope = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    path = f"{root}{scope}/{plural}"
    if name:
        path += f"/{quote(name, safe='')}"
    return f"{path}/{subresource}" if subresource else path


def workload_path(key: WorkloadKey) -> str:
    """Return the path of a workload."""
    return object_path(key.kind.api_version, key.kind.plural, key.name, namespace=key.namespace)


class Listing:
    """The items of a list, fetched page by page.

    When the server has forgotten the snapshot that the pages belong to (410), the rest comes from a newer one. Where
    it offers no such continuation the list starts again, so that an item may come twice: readers key by uid.
    """

    def __init__(self, client: "KubeClient", path: str, params: Mapping[str, str] | None) -> None:
        self._client = client
        self._path = path
        self._params = {"limit": str(PAGE_SIZE), **(params or {})}
        self.resource_version = ""
        """Of the first page, from which a watch would miss nothing; empty before it came."""

    def __iter__(self) -> Iterator[Json]:
        """Yield every item."""
        token = ""
        restarted = False
        self.resource_version = ""
        while True:
            params = {**self._params, "continue": token} if token else self._params
            try:
                page = self._client.request("GET", self._path, params=params, timeout_s=LIST_TIMEOUT_S)
            except ApiError as error:
                if error.status != 410 or not token:
                    raise
                token = str(error.details.get("continue", ""))
                if not token:
                    if restarted:
                        raise
                    restarted = True
                    self.resource_version = ""
                continue
            meta = page.get("metadata") or {}
            self.resource_version = self.resource_version or str(meta.get("resourceVersion", ""))
            yield from page.get("items") or ()
            token = str(meta.get("continue") or "")
            if not token:
                return


class KubeClient:
    """Raw calls to one API server. Safe to share between threads."""

    def __init__(self, configuration: Configuration, *, sleep: Callable[[float], None] = time.sleep) -> None:
        # None would mean urllib3's own three retries, which repeat a write without asking us.
        configuration.retries = False
        configuration.connection_pool_maxsize = POOL_SIZE
        self._configuration = configuration
        self._rest = RESTClientObject(configuration)
        self._host = str(configuration.host).rstrip("/")
        self._sleep = sleep
        self._auth_lock = threading.Lock()
        self._auth: str | None = None
        self._auth_until = 0.0
        self._behind_s = 0.0

    @classmethod
    def from_environment(cls, kubeconfig: str | Path | None = None) -> "KubeClient":
        """Connect with the given kubeconfig, else as the pod we run in, else with KUBECONFIG or ~/.kube/config."""
        return cls(load_configuration(kubeconfig))

    @property
    def configuration(self) -> Configuration:
        """How the API server is reached and who we are; the watch connects with the same."""
        return self._configuration

    @property
    def host(self) -> str:
        """The API server's base URL."""
        return self._host

    def behind(self) -> timedelta:
        """Return how far this machine's clock is behind the API server's, by the last answer; 0 where it is ahead."""
        return timedelta(seconds=self._behind_s)

    def close(self) -> None:
        """Close the pooled connections."""
        self._rest.close()

    def authorization(self) -> str | None:
        """Return the Authorization header; None where a client certificate speaks for us.

        Asking the configuration runs its refresh hook (a rotated in-cluster token, an expired exec credential). The
        answer is kept for some seconds, because the hook is not made for several threads and hundreds of calls.
        """
        with self._auth_lock:
            if self._auth is None or time.monotonic() >= self._auth_until:
                setting = self._configuration.auth_settings().get("BearerToken")
                value = setting["value"] if setting else None
                self._auth = value.strip() if value else None
                self._auth_until = time.monotonic() + AUTH_CACHE_S
            return self._auth

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        content_type: str | None = None,
        timeout_s: float = 10.0,
    ) -> Json:
        """Make one call and return the answer's JSON; raise `ApiError` for anything but success.

        `timeout_s` bounds the call with all of its repetitions.
        """
        url = self._host + path + (f"?{urlencode(params)}" if params else "")
        give_up_at = time.monotonic() + timeout_s
        attempt = 0
        while True:
            attempt += 1
            left_s = max(MIN_TIMEOUT_S, give_up_at - time.monotonic())
            try:
                return self._once(method, url, body, content_type, left_s)
            except ApiError as error:
                if attempt >= MAX_ATTEMPTS or not self._may_repeat(method, error, attempt):
                    raise
                delay_s = _delay_s(attempt, error)
                if time.monotonic() + delay_s + MIN_TIMEOUT_S > give_up_at:
                    raise
                self._sleep(delay_s)

    def get(self, path: str, params: Mapping[str, str] | None = None, timeout_s: float = 10.0) -> Json:
        """Read one object."""
        return self.request("GET", path, params=params, timeout_s=timeout_s)

    def list_all(self, path: str, params: Mapping[str, str] | None = None) -> Listing:
        """Return an iterable over a whole list, read in pages of 500."""
        return Listing(self, path, params)

    def watch(self, path: str, accept: str, lasts_s: int, since: str = "") -> Iterator[Json]:
        """Yield what changes, until the server ends it; raise `ApiError` where it breaks.

        Without a resource version to go on from (`since`) what is there comes first. Bookmarks tell such versions.
        """
        params = {"watch": "1", "timeoutSeconds": str(lasts_s), "allowWatchBookmarks": "true"}
        url = f"{self._host}{path}?{urlencode({**params, 'resourceVersion': since} if since else params)}"
        rest = b""
        try:
            answer = self._rest.request(  # type: ignore[no-untyped-call]
                "GET", url, headers=self._headers(accept), _request_timeout=(3.0, lasts_s + 30.0)
            )
            if answer.status != 200:
                raise _failure(answer.status, answer.read(), None, f"WATCH {path}")
            for part in answer.response.stream(WATCH_BYTES):
                *lines, rest = (rest + part).split(b"\n")
                yield from map(_object, lines)
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            raise ApiError(0, "Unreachable", f"{type(error).__name__}: {error}") from error

    def create(self, path: str, obj: Mapping[str, Any], timeout_s: float = 10.0) -> Json:
        """Create an object in the collection `path`."""
        return self.request("POST", path, body=obj, params={"fieldManager": names.FIELD_MANAGER}, timeout_s=timeout_s)

    def replace(self, path: str, obj: Mapping[str, Any], timeout_s: float = 10.0) -> Json:
        """Replace an object; its resourceVersion guards against a lost update."""
        return self.request("PUT", path, body=obj, params={"fieldManager": names.FIELD_MANAGER}, timeout_s=timeout_s)

    def json_patch(self, path: str, operations: Sequence[Mapping[str, Any]], timeout_s: float = 10.0) -> Json:
        """Apply a JSON patch (RFC 6902)."""
        return self.request(
            "PATCH",
            path,
            body=list(operations),
            params={"fieldManager": names.FIELD_MANAGER},
            content_type=JSON_PATCH,
            timeout_s=timeout_s,
        )

    def apply(self, path: str, obj: Mapping[str, Any], *, subresource: str = "", timeout_s: float = 10.0) -> Json:
        """Server-side apply: own exactly the fields that `obj` names, and take them from whoever has them."""
        return self.request(
            "PATCH",
            f"{path}/{subresource}" if subresource else path,
            body=obj,
            params={"fieldManager": names.FIELD_MANAGER, "force": "true"},
            content_type=APPLY_PATCH,
            timeout_s=timeout_s,
        )

    def delete(self, path: str, *, uid: str = "") -> None:
        """Delete an object, only the one with `uid` where it is given; it is no error when it is gone already."""
        body: Json = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            self.request("DELETE", path, body=body)
        except ApiError as error:
            if error.status != 404:
                raise

    def _may_repeat(self, method: str, error: ApiError, attempt: int) -> bool:
        if error.status == 401 and attempt == 1:
            with self._auth_lock:
                # The token may have been rotated since we read it; read again, a second refusal counts.
                self._auth = None
            return True
        return error.status in _RETRY_STATUSES or (error.status == 0 and method == "GET")

    def _headers(self, accept: str) -> dict[str, str]:
        headers = {"Accept": accept, "User-Agent": f"embellie/{__version__}"}
        authorization = self.authorization()
        return {**headers, "Authorization": authorization} if authorization else headers

    def _once(self, method: str, url: str, body: Any, content_type: str | None, timeout_s: float) -> Json:
        headers = self._headers("application/json")
        if body is not None:
            headers["Content-Type"] = content_type or "application/json"
        try:
            response = self._rest.request(  # type: ignore[no-untyped-call]
                method, url, headers=headers, body=body, _request_timeout=(min(3.0, timeout_s), timeout_s)
            )
            data = response.read()
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            raise ApiError(0, "Unreachable", f"{type(error).__name__}: {error}") from error
        self._compare_clocks(response.headers.get("Date"))
        if 200 <= response.status < 300:
            return _object(data)
        asked = f"{method} {url.partition('?')[0]}"
        raise _failure(response.status, data, response.headers.get("Retry-After"), asked)

    def _compare_clocks(self, date: str | None) -> None:
        try:
            behind_s = parsedate_to_datetime(date).timestamp() - time.time() if date else 0.0
        except ValueError:
            return
        if abs(max(behind_s, 0.0) - self._behind_s) > SAME_TIME_S:
            self._behind_s = max(behind_s, 0.0)
            logger.warning("our clock is %.0f s behind the API server's, which counts", self._behind_s)


def load_configuration(kubeconfig: str | Path | None = None) -> Configuration:
    """Find out how to reach the API server and who we are."""
    configuration = Configuration()
    try:
        if kubeconfig is None and _in_cluster():
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            load_kube_config(  # type: ignore[no-untyped-call]
                config_file=str(kubeconfig) if kubeconfig else os.environ.get("KUBECONFIG"),
                client_configuration=configuration,
                persist_config=False,
            )
    except (ConfigException, OSError) as error:
        raise ConfigurationError(
            f"no access to a cluster: {str(error).rstrip('.')}; name a kubeconfig with --kubeconfig"
        ) from error
    return configuration


def _delay_s(attempt: int, error: ApiError) -> float:
    """How long to wait before the next attempt: what the server asked for, and never in step with other clients."""
    if error.status == 401:
        return 0.0
    asked_s = error.retry_after_s if error.retry_after_s is not None else 0.1 * 2**attempt
    return asked_s * _JITTER.uniform(1.0, 1.3)


def _in_cluster() -> bool:
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and IN_CLUSTER_TOKEN.is_file()


def _object(data: bytes) -> Json:
    try:
        parsed = json.loads(data)
    except ValueError as error:
        raise ApiError(0, "Unreadable", f"the answer is not JSON: {data[:100]!r}") from error
    if not isinstance(parsed, dict):
        raise ApiError(0, "Unreadable", f"the answer is not an object: {data[:100]!r}")
    return parsed


def _failure(status: int, data: bytes, retry_after: str | None, asked: str) -> ApiError:
    """Read a Status object; a proxy's HTML page, or the 404 of a kind that is not installed, is quoted as it is."""
    reason, message, details = "", f"{asked}: {data[:300].decode('utf-8', 'replace').strip()}", {}
    try:
        parsed = json.loads(data)
    except ValueError:
        parsed = None
    if isinstance(parsed, dict) and parsed.get("kind") == "Status":
        reason, message = str(parsed.get("reason") or ""), str(parsed.get("message") or "")
        details = dict(parsed.get("details") or {})
        # An expired list offers here how to go on from a newer snapshot.
        details["continue"] = (parsed.get("metadata") or {}).get("continue", "")
    delay_s = float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else None
    return ApiError(status, reason, message, delay_s, details)
