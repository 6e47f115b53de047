# SPDX-License-Identifier: Apache-2.0
"""Leader election on a Lease, and the heartbeat of completed turns.

Wall clocks of two machines are never compared. A candidate watches the record: only when it has not changed for the
holder's whole lease duration, measured on the candidate's own monotonic clock, may it be taken. A leader counts its
renewals from the moment before each was sent, and stops leading by itself `renew_deadline_s` after the last one that
went through, whether or not its thread gets to run. The deadline is shorter than the lease, so there is always a gap
between one leader's end and the next one's beginning.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from embellie.cluster.client import ApiError, object_path
from embellie.domain.times import micro_time

API_VERSION = "coordination.k8s.io/v1"
LEADER_LEASE = "embellie-leader"
HEARTBEAT_LEASE = "embellie-heartbeat"

logger = logging.getLogger(__name__)

RETRY_PERIOD_S = 2.0
HEARTBEAT_S = 120
"""What the heartbeat's lease says of itself; the watchdog measures its silence by a limit of its own."""
LONGEST = 4
"""Of our own durations: whatever a record says, a holder that has not renewed it for so many is gone."""
MOST_TRANSITIONS = 2**31 - 1
"""What the API server takes."""


class LeaseClient(Protocol):
    """What the election needs of a `KubeClient`."""

    def get(self, path: str, params: Mapping[str, str] | None = None, timeout_s: float = 10.0) -> dict[str, Any]:
        """Read an object."""
        ...

    def create(self, path: str, obj: Mapping[str, Any], timeout_s: float = 10.0) -> dict[str, Any]:
        """Create an object."""
        ...

    def replace(self, path: str, obj: Mapping[str, Any], timeout_s: float = 10.0) -> dict[str, Any]:
        """Replace an object, guarded by its resourceVersion."""
        ...


class ApplyClient(Protocol):
    """What the heartbeat needs of a `KubeClient`."""

    def apply(
        self, path: str, obj: Mapping[str, Any], *, subresource: str = "", timeout_s: float = 10.0
    ) -> dict[str, Any]:
        """Server-side apply."""
        ...


def wall_now() -> datetime:
    """Return the wall-clock time, which a Lease shows to people and nobody compares."""
    return datetime.now(UTC)


class LeaseElector:
    """One candidate. `start` runs it in a thread of its own; `step` is one attempt, for whoever keeps time itself."""

    def __init__(
        self,
        client: LeaseClient,
        namespace: str,
        identity: str,
        *,
        name: str = LEADER_LEASE,
        duration_s: int = 15,
        renew_deadline_s: float = 10.0,
        on_started: Callable[[], None] = lambda: None,
        on_lost: Callable[[], None] = lambda: None,
        on_rewound: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = wall_now,
    ) -> None:
        """`on_rewound` is called when the API server knows less than it did: it was restored from a backup.

        A watch that goes on from a version of before then hears nothing until as much was written again.
        """
        if not RETRY_PERIOD_S < renew_deadline_s < duration_s:
            raise ValueError("a lease needs retry period < renew deadline < duration")
        self.identity = identity
        self._client = client
        self._namespace = namespace
        self._name = name
        self._collection = object_path(API_VERSION, "leases", namespace=namespace)
        self._path = object_path(API_VERSION, "leases", name, namespace=namespace)
        self._duration_s = duration_s
        self._renew_deadline_s = renew_deadline_s
        self._on_started = on_started
        self._on_lost = on_lost
        self._on_rewound = on_rewound
        self._monotonic = monotonic
        self._wall = wall
        self._observed: tuple[object, ...] | None = None
        self._observed_at = 0.0
        self._version = 0
        """The lease's last resourceVersion; the API server counts one for all that it keeps."""
        self._lock = threading.Lock()
        self._renewed_at: float | None = None
        """Start of the last renewal that went through; None while not leading."""
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def is_leader(self) -> bool:
        """Whether this candidate leads at this very moment."""
        with self._lock:
            return self._renewed_at is not None and self._monotonic() - self._renewed_at < self._renew_deadline_s

    def start(self) -> None:
        """Take part in the election from now on."""
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop taking part and hand the lease back, so that another need not wait for it to run out.

        Call it when the last write is done.
        """
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(self._renew_deadline_s)
        self.release()

    def step(self) -> bool:
        """Try once to take or to renew the lease; return whether this candidate leads."""
        started_at = self._monotonic()
        try:
            held = self._try(started_at)
        except ApiError as error:
            # Nothing is known: go on leading until the deadline, which `is_leader` minds by itself.
            logger.warning("lease %s could not be renewed: %s", self._name, error)
            held = None
        self._settle(held, started_at)
        return self.is_leader()

    def release(self) -> None:
        """Give the lease up, if we have it. A failure only means that it runs out by itself."""
        with self._lock:
            leading, self._renewed_at = self._renewed_at is not None, None
        if not leading:
            return
        try:
            lease = self._client.get(self._path, timeout_s=self._call_timeout_s())
            if (lease.get("spec") or {}).get("holderIdentity") == self.identity:
                # A candidate takes a lease without a holder at once.
                spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                self._client.replace(self._path, {**lease, "spec": spec}, timeout_s=self._call_timeout_s())
        except ApiError as error:
            logger.warning("lease %s could not be handed back: %s", self._name, error)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self.step()
                self._stopping.wait(RETRY_PERIOD_S)
        finally:
            if not self._stopping.is_set():
                # Whatever ended this thread, a leader that does not renew any more must not go on.
                self._on_lost()

    def _settle(self, held: bool | None, started_at: float) -> None:
        """Take in what an attempt brought, and tell whoever waits for a change."""
        with self._lock:
            was_leading = self._renewed_at is not None
            too_late = was_leading and self._monotonic() - (self._renewed_at or 0.0) >= self._renew_deadline_s
            if held is False or too_late:
                # A renewal that came back after the deadline does not revive a leader who had stopped meanwhile.
                self._renewed_at = None
            elif held:
                self._renewed_at = started_at
            leading = self._renewed_at is not None
        if leading and not was_leading:
            logger.info("leading as %s", self.identity)
            self._on_started()
        elif was_leading and not leading:
            logger.error("the lease %s is lost", self._name)
            self._on_lost()

    def _try(self, started_at: float) -> bool | None:
        timeout_s = self._call_timeout_s()
        try:
            lease = self._client.get(self._path, timeout_s=timeout_s)
        except ApiError as error:
            if error.status != 404:
                raise
            return self._write(lambda: self._client.create(self._collection, self._fresh(), timeout_s=timeout_s))
        spec = lease.get("spec") or {}
        self._observe(lease, spec)
        holder = spec.get("holderIdentity") or ""
        if holder not in ("", self.identity) and not self._run_out(spec):
            return False
        # A record with our name from an earlier life is ours to take, and counted as a new reign.
        taken = holder != self.identity or not self._leads_since(started_at)
        renewed = {**lease, "spec": self._spec(spec, taken=taken)}
        return self._write(lambda: self._client.replace(self._path, renewed, timeout_s=timeout_s))

    def _write(self, write: Callable[[], dict[str, Any]]) -> bool | None:
        try:
            lease = write()
        except ApiError as error:
            if error.status == 409:
                # Perhaps a renewal of our own that timed out and came late: the next read tells who has it.
                return None
            raise
        self._observe(lease, lease.get("spec") or {})
        return True

    def _observe(self, lease: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
        record = (
            lease["metadata"].get("uid"),
            spec.get("holderIdentity"),
            spec.get("renewTime"),
            spec.get("acquireTime"),
        )
        if record != self._observed:
            self._observed, self._observed_at = record, self._monotonic()
        version = int(lease["metadata"]["resourceVersion"])
        if version < self._version:
            self._on_rewound()
        self._version = version

    def _run_out(self, spec: Mapping[str, Any]) -> bool:
        duration_s = spec.get("leaseDurationSeconds")
        return self._monotonic() - self._observed_at >= min(
            duration_s if isinstance(duration_s, int) else self._duration_s, LONGEST * self._duration_s
        )

    def _leads_since(self, moment: float) -> bool:
        with self._lock:
            return self._renewed_at is not None and moment - self._renewed_at < self._renew_deadline_s

    def _call_timeout_s(self) -> float:
        # Two calls must fit between two deadlines, with room for another try.
        return self._renew_deadline_s / 4

    def _spec(self, before: Mapping[str, Any], *, taken: bool) -> dict[str, Any]:
        now = micro_time(self._wall())
        spec = {
            **before,
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._duration_s,
            "renewTime": now,
        }
        if taken:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = min(int(before.get("leaseTransitions") or 0) + 1, MOST_TRANSITIONS)
        return spec

    def _fresh(self) -> dict[str, Any]:
        return {
            "apiVersion": API_VERSION,
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {**self._spec({}, taken=True), "leaseTransitions": 0},
        }


class Heartbeat:
    """Tells the watchdog that turns complete. Only a completed turn may beat: a hung operator must look dead."""

    def __init__(self, client: ApplyClient, namespace: str, identity: str, *, name: str = HEARTBEAT_LEASE) -> None:
        self._client = client
        self._path = object_path(API_VERSION, "leases", name, namespace=namespace)
        self._lease = {
            "apiVersion": API_VERSION,
            "kind": "Lease",
            "metadata": {"name": name, "namespace": namespace},
        }
        self._identity = identity

    def beat(self, now: datetime) -> None:
        """Renew the heartbeat; `now` is wall time. Raises ApiError when it does not go through."""
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": HEARTBEAT_S,
            "renewTime": micro_time(now),
        }
        self._client.apply(self._path, {**self._lease, "spec": spec}, timeout_s=5.0)
