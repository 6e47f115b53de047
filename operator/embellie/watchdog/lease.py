# SPDX-License-Identifier: Apache-2.0
"""Two Leases: the heartbeat that is watched, and the election among the watchdog's replicas.

Both judge age by what *we* saw change, on our monotonic clock: clocks of other machines prove nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from embellie.watchdog import names
from embellie.watchdog.api import Api, ApiError, Object, UnreachableError, namespaced, parse_time
from embellie.watchdog.log import log

PREFIX = "apis/coordination.k8s.io/v1"
LONGEST = 4
"""Of our own durations: whatever a record says, a holder that has not renewed it for so many is gone."""
MOST_TRANSITIONS = 2**31 - 1
"""What the API server takes."""


def lease_path(namespace: str, name: str = "") -> str:
    """Return where the API server has a Lease, or the collection."""
    return namespaced(PREFIX, namespace, "leases", name)


def read_lease(api: Api, namespace: str, name: str) -> Object | None:
    """Return a Lease; None where there is none."""
    try:
        return api.get(lease_path(namespace, name))
    except ApiError as error:
        if error.status == 404:
            return None
        raise


def micro_time(moment: datetime) -> str:
    """Write a MicroTime as the API server does."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Heartbeat:
    """How long the operator has completed no turn. Pure: it is told what was read, and when.

    Only time between two readings counts as silence: while the API server is away, or takes no writes, the operator
    cannot renew either.
    """

    def __init__(self, dead_man_seconds: float, longest_gap_seconds: float) -> None:
        self._dead_man_seconds = dead_man_seconds
        self._longest_gap_seconds = longest_gap_seconds
        self._seen: str | None = None
        self._observed_at: float | None = None
        self._silent_seconds = 0.0

    @property
    def silent_seconds(self) -> float:
        """For how long nothing has changed [s]."""
        return self._silent_seconds

    @property
    def stale(self) -> bool:
        """Whether the operator counts as gone."""
        return self._silent_seconds >= self._dead_man_seconds

    def observe(self, lease: Object | None, at: float, wall: datetime) -> None:
        """Take in one reading: the Lease (None: there is none), the monotonic time and the wall clock."""
        version = _version(lease)
        if self._observed_at is None:
            self._silent_seconds = self._head_start(lease, wall)
        elif version != self._seen and lease is not None:
            self._silent_seconds = 0.0
        else:
            self._silent_seconds += min(max(at - self._observed_at, 0.0), self._longest_gap_seconds)
        self._seen, self._observed_at = version, at

    def _head_start(self, lease: Object | None, wall: datetime) -> float:
        """Silence before our start. A quarter of the limit is always watched: a skewed clock must not release all."""
        renewed = renew_time(lease)
        if renewed is None:
            return 0.0
        age_seconds = (wall - renewed).total_seconds()
        return max(0.0, min(age_seconds, self._dead_man_seconds * 0.75))


def _version(lease: Object | None) -> str | None:
    if lease is None:
        return None
    return f"{lease.get('metadata', {}).get('uid')}/{(lease.get('spec') or {}).get('renewTime')}"


def renew_time(lease: Object | None) -> datetime | None:
    """Return when a Lease was last renewed; None where it does not say so, or says no time."""
    return parse_time(((lease or {}).get("spec") or {}).get("renewTime"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectionTimes:
    """The usual times of a Kubernetes election [s]."""

    lease_seconds: int = 15
    renew_deadline_seconds: float = 10.0
    retry_seconds: float = 2.0


class Election:
    """One candidate. `step` is called every `retry_seconds`; `leads` is asked before every write."""

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        name: str,
        identity: str,
        monotonic: Callable[[], float],
        times: ElectionTimes | None = None,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._lease_name = names.election_name(name)
        self._identity = identity
        self._monotonic = monotonic
        self.times = times or ElectionTimes()
        self._renewed_at: float | None = None
        self._seen: str | None = None
        self._seen_at = monotonic()

    @property
    def leads(self) -> bool:
        """Whether we lead; false as soon as the renewal is overdue, before another may take over."""
        return self._renewed_at is not None and (
            self._monotonic() - self._renewed_at < self.times.renew_deadline_seconds
        )

    @property
    def writes_pass(self) -> bool:
        """Whether anybody's renewal got through lately; where ours do not, the operator's cannot either."""
        return self._monotonic() - self._seen_at < 3.0 * self.times.retry_seconds

    def step(self) -> None:
        """Renew, or take over a Lease that has not changed for its whole duration."""
        begun = self._monotonic()
        led = self._renewed_at is not None
        try:
            won = self._try(begun)
        except (ApiError, UnreachableError) as error:
            log("election-waits", error=str(error))
            if led and not self.leads:
                self._renewed_at = None
                log("leadership-lost")
            return
        self._renewed_at = begun if won else None
        if won != led:
            log("leadership-won" if won else "leadership-lost", identity=self._identity)

    def resign(self) -> None:
        """Let the other replica take over at once."""
        if not self.leads:
            return
        self._renewed_at = None
        try:
            lease = read_lease(self._api, self._namespace, self._lease_name)
            if lease and lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"].update(holderIdentity="", leaseDurationSeconds=1)
                self._api.replace(lease_path(self._namespace, self._lease_name), lease)
        except (ApiError, UnreachableError) as error:
            log("resign-failed", error=str(error))

    def _try(self, begun: float) -> bool:
        lease = read_lease(self._api, self._namespace, self._lease_name)
        if lease is None:
            return self._write(None, 0)
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        version = str(lease["metadata"].get("resourceVersion"))
        if version != self._seen:
            self._seen, self._seen_at = version, begun
        if holder == self._identity:
            return self._write(lease, int(spec.get("leaseTransitions") or 0))
        own = self.times.lease_seconds
        duration = min(float(spec.get("leaseDurationSeconds") or own), LONGEST * own)
        if holder and begun - self._seen_at < duration:
            return False
        return self._write(lease, min(int(spec.get("leaseTransitions") or 0) + 1, MOST_TRANSITIONS))

    def _write(self, lease: Object | None, transitions: int) -> bool:
        now = micro_time(datetime.now(UTC))
        acquired = ((lease or {}).get("spec") or {}).get("acquireTime")
        mine = ((lease or {}).get("spec") or {}).get("holderIdentity") == self._identity
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self.times.lease_seconds,
            "acquireTime": acquired if mine and acquired else now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }
        body: Object = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._lease_name, "namespace": self._namespace},
            "spec": spec,
        }
        try:
            if lease is None:
                self._api.create(lease_path(self._namespace), body)
            else:
                body["metadata"]["resourceVersion"] = lease["metadata"]["resourceVersion"]
                self._api.replace(lease_path(self._namespace, self._lease_name), body)
        except ApiError as error:
            if error.status in (404, 409):  # another candidate was faster
                return False
            raise
        return True
