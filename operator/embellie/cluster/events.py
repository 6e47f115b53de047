# SPDX-License-Identifier: Apache-2.0
"""Writes Kubernetes Events without ever holding a turn up: a bounded queue, a thread, and losses instead of waits.

Events are for people and may be lost; the record is the WorkloadPlan. What may be said is in `catalogue.py`.
"""

import logging
import queue
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from embellie.cluster.client import ApiError, KubeClient, object_path
from embellie.domain.snapshot import WorkloadKey
from embellie.domain.times import micro_time

REPORTING_CONTROLLER = "embellie.io/operator"
SAME_WITHIN_S = 3600.0
REMEMBERED = 20_000
"""Events remembered for deduplication; the oldest are forgotten first."""
QUEUE_SIZE = 12_000
"""Room for a word about each of ten thousand workloads that are let go at once (about 1 KiB each)."""

GIVE_WAY_S = 2.0
"""However many releases are due, one event goes out in so long: nobody shall think that the recorder is dead [s]."""

MAX_NOTE_BYTES = 1024
"""The API server refuses longer notes."""

logger = logging.getLogger(__name__)


class EventType(StrEnum):
    """The two types that Kubernetes knows."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened. Two with the same object, reason and `sameness` within an hour are one."""

    regarding: WorkloadKey
    reason: str
    action: str
    note: str
    type: EventType = EventType.NORMAL
    sameness: str = ""
    """What makes the note another one: never a number that changes by itself."""


def shorten(text: str, limit_bytes: int = MAX_NOTE_BYTES) -> str:
    """Cut a text to so many bytes of UTF-8, and show that it was cut.

    >>> shorten("für morgen", 6)
    'fü…'
    """
    encoded = text.encode()
    if len(encoded) <= limit_bytes:
        return text
    return encoded[: limit_bytes - 3].decode(errors="ignore") + "…"


class TokenBucket:
    """Lets `rate_per_s` through in the long run, and `burst` at once."""

    def __init__(self, rate_per_s: float, burst: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._monotonic = monotonic
        self._tokens = float(burst)
        self._filled_at = monotonic()

    def wait_s(self) -> float:
        """Take a token, and return how long to wait before using it [s]."""
        now = self._monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate_per_s)
        self._filled_at = now
        self._tokens -= 1.0
        return max(0.0, -self._tokens / self._rate_per_s)


RATE_PER_S = 50.0
"""Events that are written in the long run."""


class EventRecorder:
    """Takes events from any thread and writes each new one once an hour at most."""

    def __init__(
        self,
        client: KubeClient,
        instance: str,
        *,
        rate_per_s: float = RATE_PER_S,
        burst: int = 200,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._instance = instance[:128]
        self._monotonic = monotonic
        self._bucket = TokenBucket(rate_per_s, burst, monotonic)
        self._queue: queue.Queue[tuple[Event, datetime]] = queue.Queue(QUEUE_SIZE)
        self._seen: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._may_go = threading.Event()
        self._may_go.set()
        self._thread: threading.Thread | None = None
        self.written = 0
        self.dropped = 0
        """Events lost to a full queue or a refusal."""

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is queued, for at most so long, and end."""
        self._stopping.set()
        self._may_go.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def give_way(self, to_releases: bool) -> None:
        """While more releases are due than a turn can write, events wait: starts come before words about them."""
        if to_releases and not self._stopping.is_set():
            self._may_go.clear()
        else:
            self._may_go.set()

    @contextmanager
    def still(self) -> Iterator[None]:
        """Let events wait meanwhile: whoever decides needs the interpreter, and the processor of a small machine."""
        went = self._may_go.is_set()
        self._may_go.clear()
        try:
            yield
        finally:
            if went or self._stopping.is_set():
                self._may_go.set()

    def record(self, event: Event) -> bool:
        """Queue an event; False when it is a repetition or the queue is full. Never blocks."""
        if not self._is_new(event):
            return False
        try:
            self._queue.put_nowait((event, datetime.now(UTC)))
        except queue.Full:
            # Not said, so not seen: whoever tells the same next turn is heard then.
            with self._lock:
                self._seen.pop(_identity(event), None)
            self.dropped += 1
            return False
        return True

    def has_told(self, uid: str, reason: str) -> bool:
        """Tell whether an event of this reason about this object would be a repetition, before it is made."""
        with self._lock:
            return self._is_repeated((uid, reason, ""), self._monotonic())

    def _is_repeated(self, key: tuple[str, str, str], now: float) -> bool:
        before = self._seen.get(key)
        return before is not None and now - before < SAME_WITHIN_S

    def _is_new(self, event: Event) -> bool:
        now = self._monotonic()
        key = _identity(event)
        with self._lock:
            if self._is_repeated(key, now):
                return False
            self._seen[key] = now
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="events", daemon=True)
                self._thread.start()
            self._seen.move_to_end(key)
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return True

    def _run(self) -> None:
        while True:
            try:
                event, happened_at = self._queue.get(timeout=0.5)
            except queue.Empty:
                if self._stopping.is_set():
                    return
                continue
            self._may_go.wait(GIVE_WAY_S)
            # When stopping, the rest goes out without pacing: the process ends anyway.
            self._stopping.wait(self._bucket.wait_s())
            self._write(event, happened_at)

    def _write(self, event: Event, happened_at: datetime) -> None:
        body = to_object(event, happened_at, self._instance)
        path = object_path("events.k8s.io/v1", "events", namespace=event.regarding.namespace)
        try:
            self._client.create(path, body, timeout_s=5.0)
        except ApiError as error:
            # A namespace on its way out refuses new objects; nothing else depends on an event.
            self.dropped += 1
            logger.debug("event %s was not written: %s", event.reason, error)
        else:
            self.written += 1


def _identity(event: Event) -> tuple[str, str, str]:
    return event.regarding.uid, event.reason, event.sameness


def to_object(event: Event, happened_at: datetime, instance: str) -> dict[str, Any]:
    """Return the events.k8s.io/v1 object."""
    key = event.regarding
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{key.name[:200].rstrip('-.')}.{uuid.uuid4().hex[:16]}", "namespace": key.namespace},
        "eventTime": micro_time(happened_at),
        "reportingController": REPORTING_CONTROLLER,
        "reportingInstance": instance,
        "type": str(event.type),
        "reason": event.reason[:128],
        "action": event.action[:128],
        "note": shorten(event.note),
        "regarding": {
            "apiVersion": key.kind.api_version,
            "kind": str(key.kind),
            "name": key.name,
            "namespace": key.namespace,
            "uid": key.uid,
        },
    }
