# SPDX-License-Identifier: Apache-2.0
"""A few lines of Kubernetes API over plain HTTP, for the demo's feeder and observer.

The observer bears witness to what the operator did, so it shares no client, no cache and no parsing with the operator.
"""

import base64
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests
import yaml

JSON = dict[str, Any]
_CONNECT_S, _IDLE_S = 5.0, 4.0


class Api:
    """One kubeconfig's API server."""

    def __init__(self, kubeconfig: Path) -> None:
        """Read server, trust and credentials from a kubeconfig's current context."""
        config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
        cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
        user = next(u["user"] for u in config["users"] if u["name"] == context["user"])
        self._scratch = tempfile.TemporaryDirectory(prefix="embellie-demo-")
        self._server = str(cluster["server"]).rstrip("/")
        self._headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
        trust = self._file(cluster, "certificate-authority")
        self._verify: str | bool = trust or not cluster.get("insecure-skip-tls-verify", False)
        cert, key = self._file(user, "client-certificate"), self._file(user, "client-key")
        self._cert = (cert, key) if cert and key else None

    def close(self) -> None:
        """Remove what was written for the TLS library."""
        self._scratch.cleanup()

    def session(self) -> requests.Session:
        """Open a connection pool; one per thread."""
        session = requests.Session()
        session.trust_env = False
        session.headers.update(self._headers)
        session.verify = self._verify
        session.cert = self._cert
        return session

    def get(self, session: requests.Session, path: str, **query: str) -> JSON:
        """Read one object or list."""
        answer = session.get(self._server + path, params=query, timeout=(_CONNECT_S, 30))
        answer.raise_for_status()
        found: JSON = answer.json()
        return found

    def create(self, session: requests.Session, path: str, body: JSON) -> JSON:
        """Create one object."""
        answer = session.post(self._server + path, json=body, timeout=(_CONNECT_S, 30))
        answer.raise_for_status()
        made: JSON = answer.json()
        return made

    def stream(self, session: requests.Session, path: str, version: str) -> Iterator[tuple[str, JSON, float]]:
        """Yield (type, object, wall-clock time of receipt) until the server ends the watch or nothing comes."""
        query = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": "300"}
        with session.get(self._server + path, params=query, stream=True, timeout=(_CONNECT_S, _IDLE_S)) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines(chunk_size=None):
                received = time.time()
                event = json.loads(line)
                yield event["type"], event["object"], received

    def _file(self, section: JSON, name: str) -> str:
        """Return the path of a file that a kubeconfig names or carries."""
        if f"{name}-data" in section:
            path = Path(self._scratch.name) / name
            path.write_bytes(base64.b64decode(section[f"{name}-data"]))
            path.chmod(0o600)
            return str(path)
        return str(section.get(name, ""))


class Watch(threading.Thread):
    """Lists and watches one collection, and hands each event to `apply` with the time it was received."""

    def __init__(self, api: Api, path: str, apply: Callable[[str, JSON, float], None]) -> None:
        """Prepare; `start()` begins."""
        super().__init__(name=f"watch {path}", daemon=True)
        self._api, self._path, self._apply = api, path, apply
        self._stop_asked = threading.Event()
        self.synced = threading.Event()

    def stop(self) -> None:
        """Ask the thread to end; it does so at the next event or idle timeout."""
        self._stop_asked.set()

    def run(self) -> None:
        """List, then watch, and list again whenever the watch cannot be continued."""
        session = self._api.session()
        version = ""
        while not self._stop_asked.is_set():
            try:
                version = self._follow(session, version or self._list(session))
            except (requests.exceptions.RequestException, ValueError, KeyError):
                # The API server may be restarting or the line may be cut in the middle: start over from a list.
                version = ""
                self._stop_asked.wait(0.2)
        session.close()

    def _list(self, session: requests.Session) -> str:
        found = self._api.get(session, self._path)
        received = time.time()
        for item in found.get("items", []):
            self._apply("ADDED", item, received)
        self.synced.set()
        return str(found["metadata"]["resourceVersion"])

    def _follow(self, session: requests.Session, version: str) -> str:
        """Watch from `version`; return the version to go on from, or an empty string to list again."""
        try:
            for kind, item, received in self._api.stream(session, self._path, version):
                if self._stop_asked.is_set():
                    return version
                if kind == "ERROR":
                    return ""
                version = str(item["metadata"]["resourceVersion"])
                if kind != "BOOKMARK":
                    self._apply(kind, item, received)
        except (requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError):
            # Nothing came for a while: the same version goes on.
            return version
        return version
