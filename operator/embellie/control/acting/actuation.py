# SPDX-License-Identifier: Apache-2.0
"""Carries a turn's verdicts out: releases, hand-offs, events, WorkloadPlans."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime

from embellie.cluster import catalogue
from embellie.cluster.actuate import Outcome, ReleaseOrder, Releaser, ReleaseResult
from embellie.cluster.events import EventRecorder
from embellie.cluster.plan_objects import PlanRecord
from embellie.cluster.plans import KnownPlan, PlanList, PlanWriter
from embellie.cluster.records import WorkloadRecord
from embellie.control.assembly.assemble import Assembly
from embellie.control.deciding.turn import Verdicts, starts_soon
from embellie.domain import names
from embellie.domain.plan import Decision
from embellie.domain.reasons import Reason, State
from embellie.domain.snapshot import WorkloadKey, WorkloadKind
from embellie.telemetry import metrics

logger = logging.getLogger(__name__)

ECHO_S = 120.0
"""How long a release may take to come back through the watch (which may be silent for 70 s and reconnect)."""
RESIDENCY_LABEL = names.RESIDENCY
"""A label that no node carries by itself: work that may run nowhere stays Pending in sight instead of crossing."""

MEASURED_FROM = 16
"""Batches from this size on tell how fast the API server takes releases."""

FIRST_GUESS_PER_S = 40.0
"""What an API server is taken to manage before the first batch was measured: a small one does this much."""

_LAST_WORDS = frozenset({State.RELEASED, State.HANDED_OFF, State.SHADOW})
"""States that no later turn decides about again; what is said about them must not be lost."""
_REFUSED = (403, 422)
"""What a quota or an admission policy answers."""
_RETRIED = frozenset({Outcome.CONFLICT, Outcome.DENIED, Outcome.UNREACHABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What stands after the writes."""

    records: tuple[PlanRecord, ...]
    conflicts: bool
    """Some releases lost a race and should be tried again at once."""
    not_begun: bool
    """Some releases were not begun in time and are still due."""
    powerless: bool
    """Releases were refused, because our account lost the rights, and it has not got them back."""


class Actuation:
    """Writes for one leader. What it remembers can be read back from the API server."""

    def __init__(self, *, releaser: Releaser, plans: PlanWriter, events: EventRecorder) -> None:
        self._releaser = releaser
        self._plans = plans
        self._events = events
        self._released: dict[str, tuple[float, str]] = {}
        """Releases of a moment ago: uid -> (monotonic time, cell)."""
        self._refused: set[str] = set()
        """uids whose last release did not go through."""
        self._denied: set[str] = set()
        """uids whose release the API server refuses as it is."""
        self._powerless: set[WorkloadKind] = set()
        """What our account has lost the rights to release."""
        self._unwritten: dict[str, PlanRecord] = {}
        """Last words about workloads that the next turn does not decide about any more."""
        self.releases_per_s = FIRST_GUESS_PER_S
        """What the API server took in the last batch."""
        self.loaded = False
        """Whether the plans that are written were read."""

    def load(self) -> None:
        """Read what was promised before; without it no bound could be kept."""
        count = self._plans.load()
        self.loaded = True
        logger.info("read %d workload plans", count)

    def still(self) -> AbstractContextManager[None]:
        """Let events wait while a turn decides."""
        return self._events.still()

    def read_plans(self) -> PlanList:
        """Read all plans again, beside the turns."""
        return self._plans.read()

    def take_plans(self, listed: PlanList) -> None:
        """See which plans somebody removed or changed."""
        self._plans.take(listed)

    def promised(self) -> Mapping[str, datetime]:
        """Return the latest start that each workload was promised, by uid."""
        return self._plans.promised()

    def known(self) -> Mapping[str, KnownPlan]:
        """Return what is written about each workload, by uid."""
        return self._plans.known()

    def in_flight(self, workloads: Iterable[WorkloadRecord]) -> Mapping[str, str]:
        """Return the releases that have not come back through the watch yet: uid -> cell."""
        now = time.monotonic()
        if self._released:
            still = {w.key.uid for w in workloads if w.held}
            self._released = {u: r for u, r in self._released.items() if u in still and now - r[0] < ECHO_S}
        return {uid: cell for uid, (_, cell) in self._released.items()}

    def put_back(self) -> frozenset[str]:
        """Return the uids that must not stand in the way of others: their last release did not go through."""
        return frozenset(self._refused)

    def forget_gone(self, workloads: Iterable[WorkloadRecord]) -> None:
        """Drop what is known about workloads that no longer exist."""
        existing = {w.key.uid for w in workloads}
        self._plans.retain(existing)
        self._refused &= existing
        self._denied &= existing
        self._unwritten = {uid: record for uid, record in self._unwritten.items() if uid in existing}

    def unwritten(self) -> frozenset[str]:
        """Return the uids whose last decision is not written down yet."""
        return frozenset(self._unwritten)

    def carry_out(self, verdicts: Verdicts, assembly: Assembly, decided_at: datetime, begin_within_s: float) -> Carried:
        """Release what can be begun in time, hand off, and tell; return the records as they stand now.

        A release carries the time of its decision: in a crowd the snapshot that it rests on is seconds older.
        """
        records = {record.key: record for record in verdicts.records}
        self._events.give_way(to_releases=verdicts.more_due)
        outcomes = self._release(verdicts.releases, assembly, records, decided_at, begin_within_s)
        handed = self._releaser.hand_off(verdicts.to_unmark) if verdicts.to_unmark else ()
        for record in verdicts.hand_offs:
            records[record.key] = record
            if record.state is State.HANDED_OFF:
                self._events.record(catalogue.handed_off(record.key, record.message))
        for record in records.values():
            self._tell(record, assembly)
            if record.state in _LAST_WORDS:
                self._unwritten[record.key.uid] = record
        refused = {d.key.kind for d, o in zip(verdicts.releases, outcomes, strict=True) if o is Outcome.DENIED}
        refused |= {result.key.kind for result in handed if result.outcome is Outcome.DENIED}
        self._powerless = {kind for kind in self._powerless | refused if not self._releaser.may_release(kind)}
        # That was nothing against the place: with the rights back they start where they are planned.
        self._denied -= {d.key.uid for d in verdicts.releases if d.key.kind in self._powerless}
        return Carried(
            records=tuple(records.values()),
            conflicts=Outcome.CONFLICT in outcomes,
            not_begun=Outcome.NOT_BEGUN in outcomes,
            powerless=bool(self._powerless),
        )

    def note(self, records: Iterable[PlanRecord], resumed: Iterable[WorkloadRecord]) -> None:
        """Take over what others of this leader wrote: last words to be recorded, and starts on their way."""
        for record in records:
            if record.state in _LAST_WORDS:
                self._unwritten[record.key.uid] = record
        for workload in resumed:
            self._released[workload.key.uid] = (time.monotonic(), workload.annotations.get(names.CELL, ""))

    def write_plans(
        self, records: Sequence[PlanRecord], workloads: Iterable[WorkloadRecord], now: datetime, begin_within_s: float
    ) -> bool:
        """Write the WorkloadPlans that changed and can be begun in time; return whether some are left."""
        if self._unwritten:
            # A successor of the same name must not find its predecessor's last words in its plan.
            alive = {w.key.uid for w in workloads if not w.deleting}
            self._unwritten = {uid: record for uid, record in self._unwritten.items() if uid in alive}
        todo = {**self._unwritten, **{record.key.uid: record for record in records}}
        report = self._plans.write(tuple(todo.values()), now, begin_within_s)
        known = self._plans.known()
        self._unwritten = {
            uid: record
            for uid, record in todo.items()
            if record.state in _LAST_WORDS and not _is_written(record, known.get(uid))
        }
        for uid, error in report.failed.items():
            if uid not in known and error.status in _REFUSED:
                self._events.record(catalogue.plan_refused(todo[uid].key, error.message))
        if report.failed:
            logger.warning(
                "%d workload plans could not be written, for example: %s",
                len(report.failed),
                next(iter(report.failed.values())),
            )
        return report.not_begun > 0

    def _release(
        self,
        decisions: Sequence[Decision],
        assembly: Assembly,
        records: dict[WorkloadKey, PlanRecord],
        decided_at: datetime,
        begin_within_s: float,
    ) -> Sequence[Outcome]:
        if not decisions:
            return ()
        orders = [
            ReleaseOrder(
                key=d.key,
                placement_labels=placement(assembly.subjects[d.key].record, d.cell, assembly),
                cell=d.cell,
                reason=str(d.reason),
                released_at=decided_at,
                decided_on=assembly.subjects[d.key].record,
            )
            for d in (self._unconfined(d, assembly) for d in decisions)
        ]
        started = time.monotonic()
        results = self._releaser.release(orders, begin_within_s)
        for result in results:
            self._settle(result, records)
            if result.outcome in _RETRIED:
                self._refused.add(result.key.uid)
            elif result.outcome is not Outcome.NOT_BEGUN:
                self._refused.discard(result.key.uid)
        elapsed_s = time.monotonic() - started
        metrics.TURN_SECONDS.labels("release").observe(elapsed_s)
        outcomes = [result.outcome for result in results]
        begun = len(outcomes) - outcomes.count(Outcome.NOT_BEGUN)
        if begun >= MEASURED_FROM:
            self.releases_per_s = begun / elapsed_s
        return outcomes

    def _unconfined(self, decision: Decision, assembly: Assembly) -> Decision:
        """Past the bound, and refused with our placement: let it go without, unless that could cross a border."""
        subject = assembly.subjects[decision.key]
        if decision.key.uid not in self._denied or subject.record.annotations.get(names.RESIDENCY):
            return decision
        past = decision.latest_start <= assembly.snapshot.now
        return replace(decision, cell=None) if past else decision

    def _settle(self, result: ReleaseResult, records: dict[WorkloadKey, PlanRecord]) -> None:
        record = records[result.key]
        if result.outcome is Outcome.RELEASED:
            self._released[result.key.uid] = (time.monotonic(), record.cell)
            metrics.RELEASES.labels(str(record.reason)).inc()
            self._events.record(catalogue.released(record.key, str(record.reason), record.message))
        elif result.outcome in (Outcome.GONE, Outcome.REPLACED, Outcome.RELEASED_BEFORE):
            # Gone, or about to come through the watch with the word of the release on it.
            del records[result.key]
        elif result.outcome is Outcome.NOT_BEGUN:
            records[result.key] = replace(
                record, state=State.HELD, reason=Reason.RELEASE_RATE, message=starts_soon(record.message)
            )
        elif result.outcome in _RETRIED:
            metrics.FAILED_RELEASES.labels(str(result.outcome)).inc()
            if result.outcome is Outcome.DENIED:
                self._denied.add(result.key.uid)
                if result.key.uid not in self._refused:
                    who = (result.key.namespace, result.key.name)
                    logger.error("release of %s/%s was refused, and is tried again: %s", *who, result.message)
                self._events.record(catalogue.release_failed(record.key, result.message))
            # A conflict is over in a moment; what refuses or fails (somebody's webhook) can only be mended where it is.
            said = f": {result.message[:300]}" if result.message and result.outcome is not Outcome.CONFLICT else ""
            records[result.key] = replace(
                record,
                state=State.HELD,
                reason=Reason.WRITE_CONFLICT,
                message=f"The release could not be written ({result.outcome}{said}) and is tried again next turn.",
            )
        else:
            message = f"Somebody else decided first: {result.message or result.outcome}."
            records[result.key] = replace(
                record, state=State.HANDED_OFF, reason=Reason.STARTED_BY_OTHER, message=message
            )
            self._events.record(catalogue.handed_off(record.key, message))

    def _tell(self, record: PlanRecord, assembly: Assembly) -> None:
        """Post the events of a standing; the recorder drops what was said within the hour."""
        if record.state is State.HELD:
            # Work that starts in a moment gets one word, when it starts; and of thousands that wait nothing is new.
            if record.reason is not Reason.RELEASE_RATE and not self._events.has_told(record.key.uid, catalogue.HELD):
                self._events.record(catalogue.held(record.key, record.message))
        elif record.state is State.HELD_BY_LIMIT:
            self._events.record(catalogue.held_by_limit(record.key, record.message))
        elif record.state is State.SHADOW and record.reason is Reason.WOULD_HOLD:
            self._events.record(catalogue.would_hold(record.key, record.message))
        for problem in record.problems:
            annotation, _, text = problem.removeprefix("annotation ").partition(": ")
            self._events.record(catalogue.invalid_annotation(record.key, annotation, text))
        subject = assembly.subjects.get(record.key)
        if subject is not None and subject.refused_bound is not None:
            self._events.record(
                catalogue.deadline_moved_back(record.key, subject.refused_bound, subject.workload.latest_start)
            )


def _is_written(record: PlanRecord, known: KnownPlan | None) -> bool:
    return known is not None and (known.state, known.reason) == (record.state, record.reason)


def placement(record: WorkloadRecord, cell_name: str | None, assembly: Assembly) -> Mapping[str, str]:
    """Return the labels that confine a start to its cell; without a cell, to its residency at least."""
    cell = assembly.cells.get(cell_name or "")
    if cell is not None:
        return cell.placement_labels
    residency = record.annotations.get(names.RESIDENCY)
    if not residency:
        return {}
    return assembly.places.shelter(record) or {RESIDENCY_LABEL: _label_value(residency)}


def _label_value(residency: str) -> str:
    """Write a residency as a label value, whatever its user typed."""
    # ASCII only: the API server refuses any other label value, and a refused release would hold past the bound.
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in residency)[:63].strip("-_.")
    return kept or "unreadable"
