# SPDX-License-Identifier: Apache-2.0
"""Carries pauses out, and says so: the Job, its WorkloadPlan and an Event tell the same."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from embellie.api.energypolicy import PolicyMode
from embellie.cluster import catalogue
from embellie.cluster.actuate import Outcome, ReleaseOrder, Releaser
from embellie.cluster.client import ApiError
from embellie.cluster.events import Event, EventRecorder
from embellie.cluster.pauses import TELL_WITHIN_S, Pauser
from embellie.cluster.plan_objects import PlanRecord
from embellie.cluster.plans import KnownPlan
from embellie.cluster.records import WorkloadRecord
from embellie.cluster.side_by_side import side_by_side
from embellie.cluster.store import View
from embellie.cluster.switch import Switch
from embellie.control.acting.actuation import placement
from embellie.control.assembly.assemble import Assembly
from embellie.control.deciding.pause_acts import Announcement, Pauses, Reminder, Resumption, Suspension, Withdrawal
from embellie.control.deciding.pausing import because, said, step
from embellie.control.deciding.turn import plain_record
from embellie.domain import names
from embellie.domain.clock import Clock
from embellie.domain.plan import Decision
from embellie.domain.reasons import Reason, State
from embellie.domain.snapshot import WorkloadKey
from embellie.domain.times import parse_time

logger = logging.getLogger(__name__)

BEGIN_WITHIN_S = 5.0
"""No write about a pause begins later in its turn, and the next one goes on: somebody's webhook that hangs must not
keep the turn from its heartbeat [s]."""
THREADS = 16
AGAIN_S = 60.0
"""So soon a pause is announced again of which a pod could not be told: the others begin a checkpoint each time [s]."""
_ALMOST_A_SECOND = timedelta(microseconds=999_999)


class PauseDesk:
    """Pauses and resumes for one leader; everything it must remember stands on the Jobs."""

    def __init__(
        self,
        *,
        pauser: Pauser,
        releaser: Releaser,
        events: EventRecorder,
        switch: Switch,
        clock: Clock,
        may_write: Callable[[], bool] = lambda: True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`may_write` is asked before each write: a leader that lost its lease must stop at once."""
        self._switch = switch
        self._clock = clock
        self._may_write = may_write
        self._monotonic = monotonic
        self._pauser = pauser
        self._releaser = releaser
        self._events = events
        self._gave_up: dict[WorkloadKey, float] = {}
        """What was refused, and until when it is not announced again [monotonic s]."""
        self._denied: set[WorkloadKey] = set()
        """What the API server did not let go on in its cell."""

    def turn(
        self,
        assembly: Assembly,
        view: View,
        wanted: Collection[str],
        known: Mapping[str, KnownPlan],
        in_flight: Collection[str],
        now: datetime,
        releases: Sequence[Decision] = (),
        why: Mapping[str, str] | None = None,
    ) -> tuple[list[PlanRecord], list[WorkloadRecord], frozenset[str]]:
        """Announce, suspend, withdraw and resume what is due.

        Return what stands now, what goes on again, and the uids of what is told to pause or stays paused.
        """
        told = why or {}
        if wanted and not self._switch.no_uninstall():
            wanted = ()  # nobody would be left to let it go on
        if self._gave_up:
            there = {record.key for record in view.workloads}
            self._gave_up = {key: until for key, until in self._gave_up.items() if key in there}
        pauses = step(assembly, view.workloads, view.pods, wanted, in_flight, now, releases)
        self._write(pauses, told, now)
        resumed = self._resume(pauses.resume, assembly, now)
        return self._records(pauses, resumed, known, assembly, told), [r.record for r in resumed], pauses.under_way

    def _write(self, pauses: Pauses, told: Mapping[str, str], now: datetime) -> None:
        """Suspend, announce and take back, and tell of what was written."""
        acts: list[tuple[WorkloadKey, Callable[[], Event | None]]] = []
        acts += [(due.key, partial(self._suspend, due, told.get(due.key.uid, ""), now)) for due in pauses.suspend]
        acts += [(new.key, partial(self._announce, new)) for new in pauses.announce]
        acts += [(late.key, partial(self._remind, late)) for late in pauses.remind]
        acts += [(back.key, partial(self._withdraw, back)) for back in pauses.withdraw]

        def carry_out(act: tuple[WorkloadKey, Callable[[], Event | None]]) -> None:
            event = self._tried(*act)
            if event is not None:
                self._events.record(event)

        side_by_side(
            carry_out,
            acts,
            threads=THREADS,
            begin_within_s=BEGIN_WITHIN_S,
            may_begin=self._may_write,
            monotonic=self._monotonic,
        )

    def _suspend(self, due: Suspension, why: str, now: datetime) -> Event | None:
        if not self._pauser.suspend(due.key, due.announced, due.cell, now):
            return None
        message = f"Paused because {because(due.cell, why)}."
        return catalogue.paused(due.key, message, acknowledged=due.acknowledged)

    def _announce(self, new: Announcement) -> Event | None:
        if self._monotonic() < self._gave_up.get(new.key, 0.0):
            return None
        # A turn may take long, telling many pods too, and what is written has whole seconds: none of that is taken off
        # the checkpoint's time.
        telling = timedelta(seconds=TELL_WITHIN_S if len(new.listeners) > 1 else 0.0)
        by = (self._clock.now() + telling + new.takes + _ALMOST_A_SECOND).replace(microsecond=0)
        by = max([by, *filter(None, (parse_time(pod.told) for pod in new.told))])
        announced = self._pauser.announce(new.key, by, new.listeners, new.told)
        return catalogue.pause_announced(new.key, by) if announced else None

    def _remind(self, late: Reminder) -> Event | None:
        self._pauser.remind(late.announced, late.listeners)
        return None

    def _withdraw(self, back: Withdrawal) -> Event | None:
        return catalogue.pause_withdrawn(back.key) if self._pauser.withdraw(back.key, back.listeners) else None

    def _tried(self, key: WorkloadKey, write: Callable[[], Event | None]) -> Event | None:
        """Make one write, and return what it did; what is refused is logged once and tried again."""
        try:
            wrote = write()
        except ApiError as error:
            if not error.conflict:
                if key not in self._gave_up:
                    logger.warning("the pause of %s/%s could not be written: %s", key.namespace, key.name, error)
                self._gave_up[key] = self._monotonic() + AGAIN_S
            return None
        if wrote is not None:
            self._gave_up.pop(key, None)
        return wrote

    def _resume(self, resumptions: Sequence[Resumption], assembly: Assembly, now: datetime) -> list[Resumption]:
        """Let them go on in the cells that they ran in, whose heat was asked; without a place rather than never."""
        places = [(r.record, "" if r.may_roam and r.record.key in self._denied else r.cell) for r in resumptions]
        orders = [
            ReleaseOrder(
                key=record.key,
                placement_labels=placement(record, cell, assembly),
                cell=cell if cell in assembly.cells else None,
                reason=Reason.COOLED,
                released_at=now,
                decided_on=record,
            )
            for record, cell in places
        ]
        results = self._releaser.release(orders)
        done = []
        self._denied = {result.key for result in results if result.outcome is Outcome.DENIED}
        for resumption, result in zip(resumptions, results, strict=True):
            key = resumption.record.key
            if result.outcome is Outcome.RELEASED:
                done.append(resumption)
                self._events.record(catalogue.released(key, Reason.COOLED, _goes_on(resumption)))
            elif result.outcome not in (Outcome.GONE, Outcome.REPLACED, Outcome.ALREADY_RELEASED):
                if result.outcome is Outcome.DENIED:
                    self._events.record(catalogue.release_failed(key, result.message))
                logger.warning(
                    "%s/%s could not be resumed: %s %s",
                    key.namespace,
                    key.name,
                    result.outcome,
                    result.message,
                )
        return done

    def _records(
        self,
        pauses: Pauses,
        resumed: Sequence[Resumption],
        known: Mapping[str, KnownPlan],
        assembly: Assembly,
        why: Mapping[str, str],
    ) -> list[PlanRecord]:
        found = []
        for record in pauses.standing:
            before = known.get(record.key.uid) or _unplanned(record, assembly)
            words = said(record, assembly, why.get(record.key.uid, ""))
            found.append(plain_record(record, before, State.PAUSED, Reason.HEAT_PAUSE, words))
        for resumption in resumed:
            record = resumption.record
            before = known.get(record.key.uid) or _unplanned(record, assembly)
            found.append(plain_record(record, before, State.RELEASED, Reason.COOLED, _goes_on(resumption)))
        return found


def _unplanned(record: WorkloadRecord, assembly: Assembly) -> KnownPlan:
    """Stand in for the plan of a Job that ran before there was anything to plan: it was never held."""
    policy = assembly.table.match(record)
    return KnownPlan(
        latest_start=parse_time(record.annotations.get(names.PAUSED_AT)) or assembly.snapshot.now,
        policy=policy.metadata.name if policy is not None else "",
        mode=PolicyMode.ENFORCE,
        state="",
        reason="",
        cell=record.annotations.get(names.CELL, ""),
        planned_start="",
        generation=None,
        kept=b"{}",
        signature=None,
    )


def _goes_on(resumption: Resumption) -> str:
    return f"Goes on after a pause: {resumption.why}."
