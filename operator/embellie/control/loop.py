# SPDX-License-Identifier: Apache-2.0
"""The planning loop: level-triggered, one turn after another, all state in the API server or recomputable.

A turn reads everything, decides everything and applies the difference. Only a turn that came to its end beats the
heart that the watchdog listens to, so an operator that hangs anywhere counts as dead.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from embellie.cluster.client import ApiError, KubeClient
from embellie.cluster.lease import Heartbeat, LeaseElector
from embellie.cluster.plan_objects import PlanRecord
from embellie.cluster.store import Store
from embellie.cluster.switch import Switch
from embellie.cluster.watch import Relisted, Relists
from embellie.control import pace
from embellie.control.acting.actuation import MEASURED_FROM, Actuation
from embellie.control.acting.pause_desk import PauseDesk
from embellie.control.acting.switch_keeper import SwitchKeeper
from embellie.control.assembly.assemble import Assembly
from embellie.control.deciding.seen import (
    Lead,
    Rest,
    Seen,
    is_settled,
    next_due,
)
from embellie.control.deciding.turn import Verdicts, decide
from embellie.control.heat.heat_desk import HeatDesk
from embellie.control.lookout import Lookout
from embellie.control.options import Options
from embellie.control.recording.ledger_writer import Recorder
from embellie.control.telling.measures import Facts, Measures
from embellie.control.telling.status_desk import StatusDesk
from embellie.control.work.tenants import tenant_use
from embellie.domain.clock import Clock
from embellie.domain.plan import Decision, Plan, PriceBook
from embellie.domain.snapshot import Snapshot, TenantUse
from embellie.telemetry import metrics

logger = logging.getLogger(__name__)


class Loop:
    """One operator's loop; `run` returns when it is told to stop."""

    def __init__(
        self,
        *,
        options: Options,
        client: KubeClient,
        store: Store,
        clock: Clock,
        lookout: Lookout,
        heat: HeatDesk,
        elector: LeaseElector,
        actuation: Actuation,
        pauses: PauseDesk,
        recorder: Recorder | None,
        stop: threading.Event,
    ) -> None:
        self._options = options
        self._store = store
        self._clock = clock
        self._lookout = lookout
        self._heat = heat
        self._elector = elector
        self._actuation = actuation
        self._stop = stop
        self._recorder = recorder
        self._pauses = pauses
        self._switch = Switch(client, options.namespace, f"{options.name}-switch")
        self._keeper = SwitchKeeper(self._switch)
        self._heartbeat = Heartbeat(client, options.namespace, options.identity, name=f"{options.name}-heartbeat")
        self._statuses = StatusDesk(client)
        self._measures = Measures(
            options.forecast_dir,
            per_workload=options.workload_metrics,
            keeps_accounts=options.ledger_path is not None,
        )
        self._rest = Rest()
        self._standing: Plan | None = None
        self._prices: PriceBook | None = None
        self._tenants: Mapping[str, TenantUse] = {}
        self._standing_until = 0.0
        self._relists = Relists(client, store, actuation.read_plans)
        self._recent_s: deque[float] = deque(maxlen=pace.RECENT_TURNS)
        """Durations of the last turns [wall s]."""
        self._kept_house_at = float("-inf")
        self._lead: Lead | None = None
        self.alive_at = time.monotonic()
        """When the loop last went round [monotonic s]; the liveness probe looks at it."""

    def run(self) -> None:
        """Go round until stopped. A turn that fails is logged and tried again; it does not beat."""
        while not self._stop.is_set():
            self.alive_at = time.monotonic()
            again = False
            if self._elector.is_leader():
                again = self._one_turn()
            else:
                self._stand_by()
            metrics.LEADER.set(1 if self._elector.is_leader() else 0)
            if not again:
                self._wait()

    def shut_down(self) -> None:
        """Hold nothing new from now on; what is held is the next leader's, or the watchdog's."""
        if self._elector.is_leader():
            try:
                self._switch.disable()
            except ApiError as error:
                logger.warning("the switch could not be turned off: %s", error)

    def _stand_by(self) -> None:
        """Let the forecaster of this pod work ahead, and see what runs: a new leader needs both in its first turn."""
        view = self._lookout.stand_by()
        if view is not None and self._recorder is not None:
            self._recorder.watch(view)

    def _wait(self) -> None:
        period_s = self._period_s
        if self._store.wake.wait(period_s if self._elector.is_leader() else min(period_s, 1.0)):
            self._stop.wait(pace.DEBOUNCE_S)
        self._store.wake.clear()

    def _one_turn(self) -> bool:
        started = time.monotonic()
        try:
            more = self._turn(started)
        except ApiError as error:
            metrics.TURNS.labels("api_error").inc()
            logger.warning("turn given up, the API server said: %s", error)
            self._stop.wait(1.0)
            return False
        except Exception:  # a task boundary: one bad object must not end the operator; without a beat the watchdog acts
            metrics.TURNS.labels("error").inc()
            logger.exception("turn failed")
            self._stop.wait(1.0)
            return False
        metrics.TURNS.labels("complete").inc()
        self._recent_s.append(time.monotonic() - started)
        metrics.TURN_SECONDS.labels("whole").observe(self._recent_s[-1])
        return more

    def _turn(self, started: float) -> bool:
        """Do one turn; return whether the next should follow at once."""
        relisted = self._relists.step()
        if relisted is not None:
            self._begin_anew(relisted)
        if not self._actuation.loaded:
            self._actuation.load()
            self._actuation.forget_gone(self._store.view().workloads)
        seen = self._lookout.gather()
        if self._rest.may_go_on(seen.key, started):
            # Nothing that a decision rests on has changed and nothing is due: what was decided stands.
            self._keeper.mind(self._rest.namespaces)
            self._heartbeat.beat(datetime.now(UTC))
            return self._write_the_rest(seen)
        in_flight = self._actuation.in_flight(seen.view.workloads)
        assembly, verdicts = self._decide(seen, in_flight, started)
        if not self._elector.is_leader():
            return False
        decided_at = self._clock.now()
        self._prices = verdicts.standing.prices or self._prices
        release_s = max(pace.RELEASE_WITHIN_S - (time.monotonic() - started), pace.RELEASE_AT_LEAST_S)
        carried = self._actuation.carry_out(verdicts, assembly, decided_at, release_s)
        if carried.powerless:
            # Only a silent heart brings the watchdog, whose rights are its own; and nothing new is to be held.
            raise ApiError(403, "Forbidden", "our account has lost the rights to release what is held")
        more_due = verdicts.more_due or carried.not_begun
        self._standing = verdicts.standing if more_due else None
        carried = replace(
            carried, records=(*carried.records, *self._pause(seen, assembly, in_flight, verdicts.releases))
        )
        self._measures.count(carried.records)
        left = True
        if not more_due or started - self._kept_house_at > pace.BUSY_HOUSE_S:
            # Starts come before what is said about them: in a crowd this waits some seconds, and plans longer.
            self._kept_house_at = started
            write_s = pace.WRITE_BUSY_S if more_due or verdicts.newcomers else self._write_s
            left = self._keep_house(seen, assembly, verdicts, carried.records, write_s)
        self._heartbeat.beat(datetime.now(UTC))
        if self._recorder is not None:
            self._recorder.turn(assembly, seen.view, carried.records, self._actuation.promised(), self._heat.power)
        again = more_due or verdicts.newcomers or carried.conflicts
        self._rest = Rest(
            key=None if again or seen.to_pause or not is_settled(verdicts, assembly.snapshot) else seen.key,
            until=started + self._quiet_s(verdicts, assembly.snapshot),
            namespaces=assembly.table.enforced_namespaces(),
            records=carried.records if left else (),
        )
        return again or left

    def _decide(self, seen: Seen, in_flight: Mapping[str, str], started: float) -> tuple[Assembly, Verdicts]:
        """Decide about everything, by the standing plan or by a new one, which stands for a while."""
        planned_at = time.monotonic()
        turn_s = self._turn_length_s(seen)
        standing = self._standing if started < self._standing_until else None
        self._lead = self._lead or Lead(started, seen.now)
        if standing is None:
            # Fairness is a matter of hours, and only a plan asks for it.
            self._tenants = tenant_use(seen.view.workloads, self._actuation.known(), seen.now, self._clock.from_wall)
        with self._store.still(), self._actuation.still():
            assembly = self._lookout.assemble(
                seen,
                turn_s=turn_s,
                bounds=self._actuation.promised(),
                in_flight=in_flight,
                tenants=self._tenants,
            )
            verdicts = decide(
                assembly,
                seen.view.workloads,
                self._actuation.known(),
                {*in_flight, *self._actuation.unwritten()},
                self._batch_size(),
                self._actuation.put_back(),
                standing,
                leads_since=self._lead.began_at if self._lead.awaits_forecasts(seen, started) else None,
                before=self._prices,
            )
        decided_at = time.monotonic()
        metrics.TURN_SECONDS.labels("plan").observe(decided_at - planned_at)
        if started >= self._standing_until:
            stands_s = max(pace.PLAN_STANDS_S, pace.PLAN_STANDS_TIMES * (decided_at - planned_at))
            self._standing_until = decided_at + stands_s
        return assembly, verdicts

    def _keep_house(
        self, seen: Seen, assembly: Assembly, verdicts: Verdicts, records: Sequence[PlanRecord], write_s: float
    ) -> bool:
        """Write what a turn decided into plans, the switch, statuses and metrics; return whether plans are left."""
        left = self._actuation.write_plans(records, seen.view.workloads, assembly.snapshot.now, write_s)
        self._keeper.mind(assembly.table.enforced_namespaces())
        self._statuses.tell(assembly, seen.readings, verdicts, self._heat.reports, self._keeper.holding)
        facts = Facts(
            assembly=assembly,
            records=records,
            standing=verdicts.standing,
            problems=seen.readings.problems,
            heat=self._heat.reports,
            collisions=verdicts.collisions,
        )
        self._measures.tell(facts)
        return left

    def _write_the_rest(self, seen: Seen) -> bool:
        """Go on writing down what was decided, without deciding it again; return whether some is still left."""
        records = self._rest.records
        if not records:
            return False
        left = self._actuation.write_plans(records, seen.view.workloads, seen.now, self._write_s)
        self._rest = replace(self._rest, records=records if left else ())
        return left

    def _pause(
        self, seen: Seen, assembly: Assembly, in_flight: Mapping[str, str], releases: Sequence[Decision]
    ) -> Sequence[PlanRecord]:
        """Do what heat asks of running work that allows it."""
        known, now = self._actuation.known(), assembly.snapshot.now
        records, resumed, under_way = self._pauses.turn(
            assembly, seen.view, self._heat.wanted, known, in_flight, now, releases, self._heat.why
        )
        self._heat.keep_pauses(under_way)
        self._actuation.note(records, resumed)
        return records

    @property
    def _period_s(self) -> float:
        """Time between two turns [wall s]."""
        return self._clock.wall_seconds(timedelta(seconds=self._options.turn_seconds))

    @property
    def _write_s(self) -> float:
        """Time for WorkloadPlans in one turn [wall s]; what is left follows in the next, at once."""
        return min(pace.WRITE_S, pace.WRITE_OF_PERIOD * self._period_s)

    def _quiet_s(self, verdicts: Verdicts, snapshot: Snapshot) -> float:
        """How long nothing need be decided if nothing changes [wall s]."""
        margin = timedelta(seconds=2.0 * snapshot.turn_s + self._options.turn_seconds)
        until_due_s = self._clock.wall_seconds(next_due(verdicts, snapshot.now) - margin)
        return min(pace.QUIET_TURNS * self._period_s, until_due_s)

    def _begin_anew(self, relisted: Relisted) -> None:
        """Decide everything anew after a full list, and see which plans somebody removed."""
        if relisted.plans is not None:
            self._actuation.take_plans(relisted.plans)
        self._actuation.forget_gone(self._store.view().workloads)
        self._rest = Rest()
        if relisted.pruned:
            logger.info("a full list pruned %d objects whose deletion was missed", relisted.pruned)

    @property
    def _releases_per_s(self) -> float:
        """Releases that may and can be written [1/wall s]."""
        return min(self._options.release_rate, self._actuation.releases_per_s)

    def _batch_size(self) -> int:
        """As many releases as can be written in `pace.RELEASE_WITHIN_S`, so that none waits long after its decision."""
        return max(MEASURED_FROM, int(self._releases_per_s * pace.RELEASE_WITHIN_S))

    def _turn_length_s(self, seen: Seen) -> float:
        """Longest time from one turn to the next [s of the operator's clock].

        The period, a turn's own work, and the releases that are due within minutes, since bounds may come in crowds. A
        bound inside twice that counts as reached: until the next turn has acted, and a period to spare.
        """
        soon = seen.now + pace.BACKLOG_TURNS * timedelta(seconds=self._options.turn_seconds)
        promised = self._actuation.promised()
        due = sum(1 for w in seen.view.workloads if w.held and w.waiting and promised.get(w.key.uid, soon) < soon)
        extra_wall_s = max(self._recent_s, default=0.0) + due / self._releases_per_s
        return self._options.turn_seconds * (1.0 + extra_wall_s / self._period_s)
