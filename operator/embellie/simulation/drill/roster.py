# SPDX-License-Identifier: Apache-2.0
"""The jobs of a drilled room as the operator knows them: worst-case power, learnt as they run, and what can be shed."""

from collections.abc import Collection
from datetime import datetime, timedelta

import numpy as np

from embellie.domain.durations import OVERRUN, overrun_of
from embellie.domain.snapshot import Flex, RunningGang, Workload, WorkloadKey, WorkloadKind
from embellie.simulation.drill.jobs import KNEE_SHARE, DrillJob
from embellie.simulation.drill.rig import Drill
from embellie.simulation.drill.site import Run, Site
from embellie.thermal.job_power import JobPower
from embellie.thermal.power import WORST_CASE_FACTOR, added_power_kw, worst_added_power_kw
from embellie.thermal.relief import HeatLoad

_METER_EVERY_S = 60.0
_LOOK_EVERY_S = 600.0
_METER_SD = 0.02


class Roster:
    """What runs and waits in one room. `shared` is the time at which all drills of a rig begin."""

    def __init__(self, b: int, drill: Drill, site: Site, shared: datetime) -> None:
        self._b, self._site, self._shared = b, site, shared
        self._node, self._caps = drill.designed.node, drill.room.control.caps
        self._prefix = f"{b}-"
        self._power = JobPower()
        self._rng = np.random.default_rng([drill.course.seed, 23])
        self._metered_s = self._looked_s = -np.inf
        self._worst_w: dict[str, float] = {}
        self._overrun = OVERRUN
        self._gangs: dict[str, tuple[tuple[float, float | None, float], RunningGang]] = {}
        self._loads: dict[str, tuple[tuple[object, ...], HeatLoad]] = {}
        self._workloads: dict[str, Workload] = {}
        self._running: tuple[tuple[int, float], tuple[RunningGang, ...]] = ((-1, 0.0), ())

    def meter(self, now_s: float) -> None:
        """Learn what each job draws, as its GPUs' own meters tell once a minute; under a cap they tell little."""
        if now_s < self._metered_s + _METER_EVERY_S:
            return
        self._metered_s = now_s
        running = self._site.running
        drawing = [run for run in running.values() if run.drawing and run.cap_w is None and not run.pausing]
        noise = self._rng.normal(1.0, _METER_SD, len(drawing))
        for run, error in zip(drawing, noise.tolist(), strict=True):
            self._power.observe(run.job.id, {run.job.id: run.watts * error})
        if now_s >= self._looked_s + _LOOK_EVERY_S:
            self._looked_s = now_s
            found = {name: power.worst_w(name) for name in running if (power := self._power.of(name)) is not None}
            self._worst_w = {name: watts for name, watts in found.items() if watts is not None}
            self._overrun = overrun_of(self._site.tally.took)

    def added_kw(self, run: Run) -> float:
        """Return what a run adds to its idle nodes now [kW]."""
        node = self._node
        return added_power_kw(run.job.gpus, run.watts, node.gpu_idle_w, 100.0 * node.host_share)

    def worst_kw(self, job: DrillJob) -> float:
        """Return what a job may add at worst, without a cap [kW]."""
        node = self._node
        overhead = 100.0 * node.host_share
        learnt = self._worst_w.get(job.id)
        return worst_added_power_kw(
            job.gpus, node.gpu_rated_w, node.gpu_idle_w, overhead, learnt_worst_watts_per_gpu=learnt
        )

    def gang(self, run: Run) -> RunningGang:
        """Return a run as the snapshot holds it."""
        key = (run.start_s, self._worst_w.get(run.job.id), self._overrun)
        kept = self._gangs.get(run.job.id)
        if kept is not None and kept[0] == key:
            return kept[1]
        start = self._shared + timedelta(seconds=run.start_s)
        end = start + timedelta(seconds=run.job.stated_s)
        worst = self.worst_kw(run.job)
        gang = RunningGang(
            cell=self._prefix + run.zone,
            gpus=run.job.gpus,
            power_kw=worst / WORST_CASE_FACTOR,
            worst_power_kw=worst,
            expected_end_p50=end,
            expected_end_p90=end,
            started_at=start,
            uid=self.key(run),
            length_stated=True,
            overrun=self._overrun,
        )
        self._gangs[run.job.id] = (key, gang)
        return gang

    def gangs(self) -> tuple[RunningGang, ...]:
        """Return all that runs as the snapshot holds it."""
        known = (self._site.version, self._looked_s)
        if self._running[0] != known:
            self._running = (known, tuple(self.gang(run) for run in self._site.running.values()))
        return self._running[1]

    def workload(self, job: DrillJob) -> Workload:
        """Return a waiting job as the snapshot holds it."""
        kept = self._workloads.get(job.id)
        if kept is not None:
            return kept
        worst = self.worst_kw(job)
        found = Workload(
            key=WorkloadKey(namespace="drill", name=job.id, kind=WorkloadKind.JOB, uid=job.id),
            created_at=self._shared + timedelta(seconds=job.submit_s),
            latest_start=self._shared + timedelta(seconds=job.latest_start_s),
            pods=job.pods,
            gpus_per_pod=job.gpus_per_pod,
            power_kw=worst / WORST_CASE_FACTOR,
            worst_power_kw=worst,
            duration_p50_s=job.stated_s,
            duration_p90_s=job.stated_s,
            flex=Flex.PATIENT,
            tenant="drill",
            policy="drill",
            enforced=True,
            allowed_cells=frozenset(self._prefix + zone for zone in self._site.zones),
        )
        self._workloads[job.id] = found
        return found

    def loads(self, zones: Collection[str]) -> list[HeatLoad]:
        """Return what draws in some zones and what can be done about it; what was told to pause still draws."""
        return [self._load(r) for r in self._site.running.values() if r.zone in zones and (r.drawing or r.pausing)]

    def key(self, run: Run) -> str:
        """Return by what name the ladder knows a run."""
        return f"{self._b}|{run.job.id}"

    def _load(self, run: Run) -> HeatLoad:
        saved_s, may_pause = self._site.last_checkpoint_s(run), run.may_pause(self._site.now_s)
        key = (run.start_s, run.cap_w, run.pausing, may_pause, saved_s, run.drawing)
        kept = self._loads.get(run.job.id)
        if kept is not None and kept[0] == key:
            return kept[1]
        load = HeatLoad(
            key=self.key(run),
            zone=self._prefix + run.zone,
            nodes=(),
            gpus=run.job.gpus,
            power_kw=self.added_kw(run),
            priority=run.job.priority,
            pausable=may_pause,
            checkpoint_s=run.job.checkpoint_s,
            last_checkpoint=self._shared + timedelta(seconds=saved_s),
            started_at=self._shared + timedelta(seconds=run.start_s),
            cap_w=run.cap_w,
            rated_w=self._node.gpu_rated_w,
            knee_w=KNEE_SHARE * self._node.gpu_rated_w,
            idle_w=self._node.gpu_idle_w,
            host_share=self._node.host_share,
            capable=self._caps and not run.pausing,
        )
        self._loads[run.job.id] = (key, load)
        return load
