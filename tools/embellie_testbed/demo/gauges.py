# SPDX-License-Identifier: Apache-2.0
"""Reads a few numbers from Prometheus again and again, and keeps their history for the view."""

import math
import threading
import time
from collections.abc import Mapping

import requests

_EVERY_S = 1.0
_KEPT = 400
"""Values of a history."""


class Gauges(threading.Thread):
    """Samples named PromQL expressions, each of which yields one number."""

    def __init__(self, *, url: str, queries: Mapping[str, str]) -> None:
        """Prepare; `start()` begins."""
        super().__init__(name="gauges", daemon=True)
        self._url, self._queries = url.rstrip("/"), dict(queries)
        self._lock = threading.Lock()
        self._history: dict[str, list[float]] = {name: [] for name in self._queries}
        self._latest: dict[str, float | None] = dict.fromkeys(self._queries)
        self._stop_asked = threading.Event()

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stop_asked.set()

    def latest(self, name: str) -> float | None:
        """Return the newest value; None where the last query gave none."""
        with self._lock:
            return self._latest[name]

    def history(self, name: str) -> tuple[float, ...]:
        """Return the values so far, oldest first."""
        with self._lock:
            return tuple(self._history[name])

    def run(self) -> None:
        """Sample until asked to stop."""
        session = requests.Session()
        session.trust_env = False
        while not self._stop_asked.wait(_EVERY_S):
            for name, query in self._queries.items():
                value = self._ask(session, query)
                with self._lock:
                    self._latest[name] = value
                    if value is not None:
                        self._history[name] = [*self._history[name], value][-_KEPT:]
        session.close()

    def _ask(self, session: requests.Session, query: str) -> float | None:
        try:
            answer = session.get(
                f"{self._url}/api/v1/query", params={"query": query, "time": str(time.time())}, timeout=2
            )
            result = answer.json()["data"]["result"]
            value = float(result[0]["value"][1])
        except (requests.exceptions.RequestException, ValueError, KeyError, IndexError, TypeError):
            # The view then says "no reading": a witness does not invent one.
            return None
        return value if math.isfinite(value) else None
