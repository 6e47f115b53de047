# SPDX-License-Identifier: Apache-2.0
"""The few REST calls that the testbed itself makes, on the standard library and one kept-open connection per client."""

import base64
import http.client
import json
import ssl
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_PAGE = 1000
"""Objects that a list asks for at a time."""


class ApiError(RuntimeError):
    """The API server refused a request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Rest:
    """One connection to an API server with a bearer token. Not for several threads at once."""

    def __init__(self, *, server: str, certificate_authority_pem: str, token: str) -> None:
        self.server = server
        self.certificate_authority_pem = certificate_authority_pem
        address = urllib.parse.urlsplit(server)
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._connection = http.client.HTTPSConnection(
            address.hostname or "127.0.0.1",
            address.port,
            timeout=30,
            context=ssl.create_default_context(cadata=certificate_authority_pem),
        )

    @classmethod
    def from_kubeconfig(cls, path: Path) -> "Rest":
        """Connect as the user of a kubeconfig that this testbed wrote."""
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        cluster = content["clusters"][0]["cluster"]
        return cls(
            server=cluster["server"],
            certificate_authority_pem=base64.b64decode(cluster["certificate-authority-data"]).decode(),
            token=content["users"][0]["user"]["token"],
        )

    def get(self, path: str) -> dict[str, Any]:
        """Return the object at `path`."""
        return self.request("GET", path)

    def text(self, path: str) -> str:
        """Return what a path that does not speak JSON says, such as /readyz."""
        return self._exchange("GET", path, None, "application/json").decode(errors="replace")

    def request(
        self, method: str, path: str, body: object | None = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        """Make one request and return the JSON that it answers, or raise `ApiError`."""
        content = self._exchange(method, path, None if body is None else json.dumps(body).encode(), content_type)
        answer: dict[str, Any] = json.loads(content)
        return answer

    def objects(self, path: str) -> list[dict[str, Any]]:
        """Return all objects of a collection, read page by page."""
        return self.objects_with_version(path)[0]

    def objects_with_version(self, path: str) -> tuple[list[dict[str, Any]], str]:
        """Return all objects of a collection and the version from which a watch goes on."""
        objects: list[dict[str, Any]] = []
        token = ""
        separator = "&" if "?" in path else "?"
        while True:
            page = self.get(f"{path}{separator}limit={_PAGE}" + (f"&continue={token}" if token else ""))
            objects += page["items"]
            token = urllib.parse.quote(page["metadata"].get("continue", ""))
            if not token:
                return objects, page["metadata"]["resourceVersion"]

    def watch(self, path: str, version: str, *, seconds: int) -> Iterator[dict[str, Any]]:
        """Yield the events of a collection after `version` until the server ends the watch."""
        separator = "&" if "?" in path else "?"
        query = f"watch=1&resourceVersion={version}&timeoutSeconds={seconds}&allowWatchBookmarks=true"
        self._connection.timeout = seconds + 30
        self._connection.close()
        self._connection.request("GET", f"{path}{separator}{query}", headers=self._headers)
        response = self._connection.getresponse()
        if response.status >= 400:
            raise ApiError(response.status, response.read().decode(errors="replace")[:2000])
        for line in response:
            yield json.loads(line)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _exchange(self, method: str, path: str, body: bytes | None, content_type: str) -> bytes:
        headers = {**self._headers, "Content-Type": content_type} if body is not None else self._headers
        try:
            self._connection.request(method, path, body=body, headers=headers)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            # The next call opens a new connection; only the caller knows whether to repeat this one.
            self._connection.close()
            raise
        if response.status >= 400:
            raise ApiError(response.status, content.decode(errors="replace")[:2000])
        return content
