# SPDX-License-Identifier: Apache-2.0
"""Carries releases out, many at a time: a fresh read, one guarded patch, and a plain word about what became of it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial

from embellie.cluster import patches, rights
from embellie.cluster.client import ApiError, KubeClient, workload_path
from embellie.cluster.patches import Operation, Raw, hand_off_patch, release_patch_job, release_patch_pod
from embellie.cluster.records import WorkloadRecord, parse_bare_pod, parse_job
from embellie.cluster.side_by_side import BEGIN_WITHIN_S, side_by_side
from embellie.domain import names
from embellie.domain.snapshot import WorkloadKey, WorkloadKind
from embellie.domain.times import format_time

GIVE_UP_AFTER = 8
"""So many calls in a row without an answer end a batch: the rest would only wait for the same timeouts."""

_SILENCE = frozenset({0, 429, 502, 503, 504})
_FROM_CACHE = {"resourceVersion": "0"}


class Outcome(StrEnum):
    """What became of one order."""

    RELEASED = "Released"
    ALREADY_RELEASED = "AlreadyReleased"
    """Somebody else removed the gate or unsuspended it; our marker is taken off."""
    RELEASED_BEFORE = "ReleasedBefore"
    """It carries the word of an earlier release of ours or of the watchdog's."""
    GONE = "Gone"
    """Deleted, or being deleted."""
    REPLACED = "Replaced"
    """Another object has the name now."""
    NOT_OURS = "NotOurs"
    """Without our marker, or handed to a Kueue queue: not started."""
    CONFLICT = "Conflict"
    """Changed under our hands; to be tried again next turn."""
    DENIED = "Denied"
    """Refused by RBAC, an admission policy or validation."""
    UNREACHABLE = "Unreachable"
    """No usable answer."""
    NOT_BEGUN = "NotBegun"
    """The time for the batch was up, or too many before it got no answer."""


_SETTLED_BY_A_COPY = frozenset({Outcome.RELEASED, Outcome.ALREADY_RELEASED})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseOrder:
    """Let this workload start, there, for this reason."""

    key: WorkloadKey
    placement_labels: Mapping[str, str]
    cell: str | None
    reason: str
    released_at: datetime
    decided_on: WorkloadRecord | None = None
    """What the decision was made about: an object that differs by now is not released, but decided about anew."""

    @property
    def kind(self) -> WorkloadKind:
        """Job or pod."""
        return self.key.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseResult:
    """What became of it. `message` is for people."""

    key: WorkloadKey
    outcome: Outcome
    message: str = ""


class Releaser:
    """Releases workloads through a pool of threads. Used by one turn at a time."""

    def __init__(
        self,
        client: KubeClient,
        *,
        max_parallel: int = 16,
        may_write: Callable[[], bool] = lambda: True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`may_write` is asked before each write: a leader that lost its lease must stop in the middle of a batch."""
        self._client = client
        self._max_parallel = max_parallel
        self._may_write = may_write
        self._monotonic = monotonic
        self._silent = 0
        """Calls in a row without an answer. A plain int without a lock: a lost update only means one more try."""

    def release(self, batch: Sequence[ReleaseOrder], begin_within_s: float = BEGIN_WITHIN_S) -> list[ReleaseResult]:
        """Carry the orders out, and return a result for each, in their order.

        None is begun later than `begin_within_s`: a decision that waits long for its turn should be made anew.
        """
        return self._run(batch, self._release_one, begin_within_s)

    def hand_off(self, keys: Sequence[WorkloadKey]) -> list[ReleaseResult]:
        """Take our marker off workloads that somebody else starts or started; ALREADY_RELEASED means that it is off.

        One that still waits for us keeps its marker (CONFLICT).
        """
        return self._run(keys, self._hand_off_one, BEGIN_WITHIN_S)

    def may_release(self, kind: WorkloadKind) -> bool:
        """Tell whether our account has the rights to release such work; what nobody can tell counts as yes."""
        group = kind.api_version.rpartition("/")[0]
        for verb in ("get", "patch"):
            try:
                answer = self._client.create(rights.REVIEWS, rights.review(verb, group, kind.plural))
            except ApiError:
                return True
            if not rights.is_allowed(answer):
                return False
        return True

    def _run(
        self,
        batch: Sequence[ReleaseOrder] | Sequence[WorkloadKey],
        one: Callable[..., ReleaseResult],
        begin_within_s: float,
    ) -> list[ReleaseResult]:
        self._silent = 0
        orders = {_key(order).uid: order for order in batch}
        results = side_by_side(
            partial(self._guarded, one),
            tuple(orders.values()),
            threads=self._max_parallel,
            begin_within_s=begin_within_s,
            may_begin=lambda: self._silent < GIVE_UP_AFTER,
            monotonic=self._monotonic,
        )
        found = dict(zip(orders, results, strict=True))
        # What was not begun has not failed: next turn it goes before what got no answer, be that one webhook's fault.
        return [found[_key(order).uid] or ReleaseResult(key=_key(order), outcome=Outcome.NOT_BEGUN) for order in batch]

    def _guarded(self, one: Callable[..., ReleaseResult], order: ReleaseOrder | WorkloadKey) -> ReleaseResult:
        """Turn every refusal of the API server into an outcome."""
        key = _key(order)
        try:
            result = self._attempt(one, order, self._cached(key))
            if result.outcome not in _SETTLED_BY_A_COPY:
                # The copy may be old (a controller often writes to a new object's status just now), so that nothing but
                # a guarded write is concluded from it: one more read, from the quorum, and one more try.
                result = self._attempt(one, order, self._client.get(workload_path(key)))
        except ApiError as error:
            outcome = _outcome_of(error)
            # A webhook of somebody's that fails (500) is no silence: it concerns its own objects only.
            self._silent = self._silent + 1 if error.status in _SILENCE else 0
            result = ReleaseResult(key=key, outcome=outcome, message=error.message)
        return result

    def _cached(self, key: WorkloadKey) -> Raw | None:
        """Read from the API server's cache: a fraction of a read from etcd, and of a list of all that is held."""
        try:
            return self._client.get(workload_path(key), _FROM_CACHE)
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def _attempt(
        self,
        one: Callable[..., ReleaseResult],
        order: ReleaseOrder | WorkloadKey,
        raw: Raw | None,
    ) -> ReleaseResult:
        key = _key(order)
        if raw is None:
            return ReleaseResult(key=key, outcome=Outcome.GONE)
        meta = raw["metadata"]
        if meta["uid"] != key.uid:
            return ReleaseResult(key=key, outcome=Outcome.REPLACED)
        if meta.get("deletionTimestamp"):
            return ReleaseResult(key=key, outcome=Outcome.GONE, message="it is being deleted")
        try:
            result = one(order, raw)
        except ApiError as error:
            if not error.conflict:
                raise
            result = ReleaseResult(key=key, outcome=Outcome.CONFLICT, message=error.message)
        self._silent = 0
        return result

    def _release_one(self, order: ReleaseOrder, raw: Raw) -> ReleaseResult:
        if not patches.has_marker(raw):
            return _without_marker(order, raw)
        if patches.queue_of(raw):
            self._patch(order.key, hand_off_patch(raw))
            return ReleaseResult(
                key=order.key,
                outcome=Outcome.NOT_OURS,
                message=f"the queue {patches.queue_of(raw)!r} decides when it starts",
            )
        if not patches.is_waiting(raw, order.kind):
            return self._hand_off_one(order.key, raw)
        if order.decided_on is not None and _differs(order.decided_on, raw):
            return ReleaseResult(key=order.key, outcome=Outcome.CONFLICT, message="it was edited meanwhile")
        make = release_patch_job if order.kind is WorkloadKind.JOB else release_patch_pod
        operations = make(raw, order.placement_labels, order.released_at, order.reason, order.cell)
        self._patch(order.key, operations)
        return ReleaseResult(key=order.key, outcome=Outcome.RELEASED)

    def _hand_off_one(self, key: WorkloadKey, raw: Raw) -> ReleaseResult:
        if not patches.has_marker(raw):
            return ReleaseResult(key=key, outcome=Outcome.ALREADY_RELEASED)
        if patches.is_waiting(raw, key.kind) and not patches.queue_of(raw):
            return ReleaseResult(key=key, outcome=Outcome.CONFLICT, message="it waits again")
        self._patch(key, hand_off_patch(raw))
        return ReleaseResult(key=key, outcome=Outcome.ALREADY_RELEASED, message="somebody else let it start")

    def _patch(self, key: WorkloadKey, operations: list[Operation]) -> None:
        if not self._may_write():
            raise ApiError(0, "NotLeader", "this replica does not lead any more")
        self._client.json_patch(workload_path(key), operations)


def _differs(known: WorkloadRecord, raw: Raw) -> bool:
    """Tell whether an object asks for something else than what was decided about: size, place or border."""
    if known.unreadable:
        return False
    fresh = parse_job(raw) if known.key.kind is WorkloadKind.JOB else parse_bare_pod(raw)
    if fresh is None:
        return True
    residency = names.RESIDENCY
    return (fresh.pods, fresh.gpus_per_pod, fresh.constraints, fresh.annotations.get(residency)) != (
        known.pods,
        known.gpus_per_pod,
        known.constraints,
        known.annotations.get(residency),
    )


def _key(order: ReleaseOrder | WorkloadKey) -> WorkloadKey:
    return order.key if isinstance(order, ReleaseOrder) else order


def _without_marker(order: ReleaseOrder, raw: Raw) -> ReleaseResult:
    """Tell our own earlier release, whose answer was lost, from an object that was never ours."""
    annotations = raw["metadata"].get("annotations") or {}
    ours = annotations.get(names.RELEASED_AT) == format_time(order.released_at)
    if ours and not patches.is_waiting(raw, order.kind):
        return ReleaseResult(key=order.key, outcome=Outcome.RELEASED, message="an earlier try went through")
    if annotations.get(names.RELEASED_AT):
        return ReleaseResult(key=order.key, outcome=Outcome.RELEASED_BEFORE, message="it was released before")
    return ReleaseResult(key=order.key, outcome=Outcome.NOT_OURS, message="it does not carry our marker")


def _outcome_of(error: ApiError) -> Outcome:
    if error.status in (404, 410):
        return Outcome.GONE
    if error.conflict:
        return Outcome.CONFLICT
    if error.invalid or error.status in (400, 401, 403):
        return Outcome.DENIED
    return Outcome.UNREACHABLE
