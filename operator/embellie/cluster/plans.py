# SPDX-License-Identifier: Apache-2.0
"""Writes WorkloadPlans: only what changed, each kind of news in its turn, and no longer than a turn can spare.

What was written last is kept small (ten thousand plans must fit), and read back from the API server after a restart.
The bound of a plan only ever moves earlier; the API server refuses anything else too, and its refusal counts as
"there is an earlier bound already".
"""

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum
from itertools import zip_longest
from typing import Any

from embellie.cluster.client import ApiError, KubeClient, object_path
from embellie.cluster.meddling import Meddling
from embellie.cluster.patches import pointer
from embellie.cluster.plan_objects import PlanRecord, plan_identity, plan_name, plan_object, plan_status
from embellie.cluster.plan_watch import is_foreign
from embellie.cluster.side_by_side import BEGIN_WITHIN_S, side_by_side
from embellie.domain import names
from embellie.domain.reasons import State
from embellie.domain.times import format_time, parse_time

PLURAL = "workloadplans"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPlan:
    """What the API server holds about one workload, as far as we know."""

    latest_start: datetime
    policy: str
    mode: str
    state: str
    reason: str
    cell: str
    planned_start: str
    generation: int | None
    kept: bytes
    """The parts of the status that the next one builds on (times and history), as JSON: half the size of a dict."""
    signature: tuple[object, ...] | None
    """Of the record that was written; None for a plan that was read."""
    foreign: bool = False
    """Somebody else wrote into it: whatever it says, it is written again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanList:
    """All plans, as a list told them."""

    before: Mapping[str, KnownPlan]
    """What was known when the list began, by uid: what is known otherwise by now was written since."""
    found: Mapping[str, KnownPlan]
    bounds: Mapping[str, datetime]
    """Of what nobody owns, too."""
    orphans: tuple[Mapping[str, Any], ...]
    """Metadata of plans that nobody owns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReport:
    """What became of a turn's plans."""

    written: int
    not_begun: int
    """Left for the next turn."""
    failed: Mapping[str, ApiError]
    """uid -> what the API server said."""


class PlanWriter:
    """Writes plans through a pool of threads. Used by one turn at a time."""

    def __init__(
        self,
        client: KubeClient,
        *,
        max_parallel: int = 8,
        may_write: Callable[[], bool] = lambda: True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`may_write` is asked before each write: a leader that lost its lease must stop at once."""
        self._client = client
        self._max_parallel = max_parallel
        self._may_write = may_write
        self._monotonic = monotonic
        self._known: dict[str, KnownPlan] = {}
        self._promised: dict[str, datetime] = {}
        """The earliest bound that each workload was ever given; outlives a plan that somebody deletes."""
        self._heard: deque[tuple[str, bool]] = deque()
        self._meddled = Meddling(monotonic)

    def load(self) -> int:
        """Read what is written already; return how many plans there are."""
        return self.take(self.read())

    def read(self) -> PlanList:
        """Read what the API server holds, beside whatever a turn writes meanwhile; `take` makes it ours."""
        before = dict(self._known)
        found: dict[str, KnownPlan] = {}
        bounds: dict[str, datetime] = {}
        orphans = []
        for raw in self._client.list_all(object_path(names.API_VERSION, PLURAL)):
            known = read_plan(raw)
            if not raw["metadata"].get("ownerReferences"):
                orphans.append(raw["metadata"])
            elif known is not None:
                found[raw["spec"]["workloadRef"]["uid"]] = known
            if known is not None:
                bounds[raw["spec"]["workloadRef"]["uid"]] = known.latest_start
        return PlanList(before=before, found=found, bounds=bounds, orphans=tuple(orphans))

    def take(self, listed: PlanList) -> int:
        """Take over what was read, but for what was written since; remove what nobody owns. Return how many are known.

        A plan that somebody removed is forgotten, and so written again.
        """
        for uid, bound in listed.bounds.items():
            self._promise(uid, bound)
        written = {uid: known for uid, known in self._known.items() if listed.before.get(uid) is not known}
        self._known = {**listed.found, **written}
        for meta in listed.orphans:
            # Its work was deleted with --cascade=orphan, and no garbage collector will come for it.
            path = object_path(names.API_VERSION, PLURAL, meta["name"], namespace=meta["namespace"])
            try:
                self._client.delete(path, uid=meta["uid"])
            except ApiError as error:
                logger.warning("the plan %s/%s is left over: %s", meta["namespace"], meta["name"], error)
        return len(self._known)

    def hear(self, uid: str, gone: bool) -> None:
        """Take note that somebody else wrote or removed a workload's plan: the next write puts it right. Any thread."""
        self._heard.append((uid, gone))

    def _put_right(self) -> None:
        while self._heard:
            uid, gone = self._heard.popleft()
            self._meddled.note(uid, gone)
        for uid, gone in self._meddled.due():
            known = self._known.pop(uid, None)
            if known is not None and not gone:
                self._known[uid] = replace(known, foreign=True)

    def known(self) -> Mapping[str, KnownPlan]:
        """Return what is written, by the workload's uid."""
        return self._known

    def promised(self) -> Mapping[str, datetime]:
        """Return the bound that stands for each workload, by its uid."""
        return self._promised

    def _promise(self, uid: str, bound: datetime) -> None:
        self._promised[uid] = min(bound, self._promised.get(uid, bound))

    def retain(self, uids: Collection[str]) -> None:
        """Forget the plans of workloads that are gone."""
        self._known = {uid: known for uid, known in self._known.items() if uid in uids}
        self._promised = {uid: bound for uid, bound in self._promised.items() if uid in uids}

    def write(self, records: Sequence[PlanRecord], now: datetime, begin_within_s: float = BEGIN_WITHIN_S) -> PlanReport:
        """Write what changed. What cannot be begun in time is left for the next turn."""
        self._put_right()
        for record in records:
            self._promise(record.key.uid, record.latest_start)
        differing = [r for r in (_within(r, self._known.get(r.key.uid)) for r in records) if self._differs(r)]
        due = in_turns(differing, lambda record: _news(record, self._known.get(record.key.uid)))
        outcomes = side_by_side(
            lambda record: self._one(record, now),
            due,
            threads=self._max_parallel,
            begin_within_s=begin_within_s,
            may_begin=self._may_write,
            monotonic=self._monotonic,
        )
        failed: dict[str, ApiError] = {}
        for record, outcome in zip(due, outcomes, strict=True):
            if isinstance(outcome, ApiError):
                failed[record.key.uid] = outcome
            elif outcome is not None:
                self._known[record.key.uid] = outcome
                # An earlier one may have stood there, which is what its user was told.
                self._promise(record.key.uid, outcome.latest_start)
        for uid, error in failed.items():
            logger.debug("the plan of %s was not written: %s", uid, error)
        not_begun = outcomes.count(None)
        written = len(due) - not_begun - len(failed)
        return PlanReport(written=written, not_begun=not_begun, failed=failed)

    def _differs(self, record: PlanRecord) -> bool:
        known = self._known.get(record.key.uid)
        if known is None or known.foreign:
            return True
        if known.signature is None and not _answers_differ(record, known):
            # Read after a restart: the same answer is not worth another write.
            self._known[record.key.uid] = replace(known, signature=record.signature())
            return False
        return known.signature != record.signature()

    def _one(self, record: PlanRecord, now: datetime) -> KnownPlan | ApiError:
        """Write one plan: return the new state of knowledge, or what went wrong."""
        known = self._known.get(record.key.uid)
        try:
            if known is None or known.foreign or _specs_differ(record, known):
                record, known = self._write_object(record)
            return self._write_status(record, known, now)
        except ApiError as error:
            return error

    def _write_object(self, record: PlanRecord) -> tuple[PlanRecord, KnownPlan]:
        path = _path(record)
        try:
            written = self._client.apply(path, plan_object(record))
        except ApiError as error:
            if error.status != 422:
                raise
            earlier = self._make_way(record, path)
            if earlier is None:
                raise
            record = replace(record, latest_start=min(record.latest_start, earlier))
            written = self._client.apply(path, plan_object(record))
        fresh = read_plan(written)
        if fresh is None:
            raise ApiError(0, "Unreadable", f"{path} came back without a workload")
        return record, fresh

    def _make_way(self, record: PlanRecord, path: str) -> datetime | None:
        """Find out what stands against a plan: an earlier bound, which is returned, or a predecessor's plan.

        None where it is something else, such as a policy of the cluster's admins.
        """
        try:
            standing = self._client.get(path)
        except ApiError as error:
            if error.status != 404:
                raise
            return None
        spec = standing.get("spec") or {}
        if (spec.get("workloadRef") or {}).get("uid") != record.key.uid:
            # A workload of the same name was deleted, and its plan was not collected yet.
            self._client.delete(path, uid=standing["metadata"]["uid"])
            return record.latest_start
        bound = parse_time(spec.get("latestStartTime"))
        return bound if bound is not None and bound < record.latest_start else None

    def _write_status(self, record: PlanRecord, known: KnownPlan, now: datetime) -> KnownPlan:
        previous = json.loads(known.kept)
        status = plan_status(record, previous, now, known.generation)
        body = {**plan_identity(record.key), "status": status}
        try:
            stands = self._client.apply(_path(record), body, subresource="status").get("status") or {}
            strange = stands.keys() - status.keys()
            if strange:
                # What somebody else added belongs to them until it is removed.
                operations = [{"op": "remove", "path": pointer("status", field)} for field in sorted(strange)]
                self._client.json_patch(f"{_path(record)}/status", operations)
        except ApiError as error:
            if error.status == 404:
                # Somebody deleted the plan: the next turn makes it anew.
                self._known.pop(record.key.uid, None)
            raise
        return replace(
            known,
            state=str(record.state),
            reason=str(record.reason),
            cell=record.cell,
            planned_start=str(status.get("plannedStartTime", "")),
            kept=_keep(status),
            signature=record.signature(),
            foreign=False,
        )


def _path(record: PlanRecord) -> str:
    return object_path(names.API_VERSION, PLURAL, plan_name(record.key), namespace=record.key.namespace)


def _within(record: PlanRecord, known: KnownPlan | None) -> PlanRecord:
    """Keep the bound that was promised, whatever the record says, in whole seconds as a plan has it."""
    bound = record.latest_start.replace(microsecond=0)
    if known is not None:
        bound = min(bound, known.latest_start)
    return record if bound == record.latest_start else replace(record, latest_start=bound)


def _specs_differ(record: PlanRecord, known: KnownPlan) -> bool:
    return (record.latest_start, record.policy, record.mode) != (known.latest_start, known.policy, known.mode)


def _answers_differ(record: PlanRecord, known: KnownPlan) -> bool:
    planned_hour = format_time(record.planned_start)[:13] if record.planned_start else ""
    return (
        _specs_differ(record, known)
        or (record.state, record.reason, record.cell) != (known.state, known.reason, known.cell)
        or planned_hour != known.planned_start[:13]
    )


class News(IntEnum):
    """What a plan's next words are about."""

    RELEASE = 0
    OTHER_ANSWER = 1
    FIRST_ANSWER = 2
    NUMBERS = 3


def _news(record: PlanRecord, known: KnownPlan | None) -> News:
    if known is not None and (known.state, known.reason) == (record.state, record.reason):
        return News.NUMBERS
    if record.state is State.RELEASED:
        return News.RELEASE
    return News.FIRST_ANSWER if known is None else News.OTHER_ANSWER


def in_turns(records: Sequence[PlanRecord], news: Callable[[PlanRecord], News]) -> list[PlanRecord]:
    """Return the records in the order in which they are written: new numbers last, all other news in turns.

    Releases come without end where work keeps reaching its bound, and what waits must get its answer meanwhile. In
    each the latest start comes first.
    """
    kinds: dict[News, list[PlanRecord]] = {kind: [] for kind in News}
    for record in sorted(records, key=lambda r: -r.planned_start.timestamp() if r.planned_start else 0.0):
        kinds[news(record)].append(record)
    numbers = kinds.pop(News.NUMBERS)
    return [record for turn in zip_longest(*kinds.values()) for record in turn if record is not None] + numbers


def _keep(status: Mapping[str, Any]) -> bytes:
    kept = {field: status.get(field) for field in ("state", "sinceTime", "conditions", "history")}
    return json.dumps(kept, separators=(",", ":")).encode()


def read_plan(raw: Mapping[str, Any]) -> KnownPlan | None:
    """Read a plan from the API server; None where it says nothing that could be kept."""
    spec, status = raw.get("spec") or {}, raw.get("status") or {}
    latest_start = parse_time(spec.get("latestStartTime"))
    if latest_start is None or not (spec.get("workloadRef") or {}).get("uid"):
        return None
    return KnownPlan(
        latest_start=latest_start,
        policy=str(spec.get("policyName", "")),
        mode=str(spec.get("mode", "")),
        state=str(status.get("state", "")),
        reason=str(status.get("reason", "")),
        cell=str(status.get("cellName", "")),
        planned_start=str(status.get("plannedStartTime", "")),
        generation=(raw.get("metadata") or {}).get("generation"),
        kept=_keep(status),
        signature=None,
        foreign=is_foreign(raw.get("metadata") or {}),
    )
