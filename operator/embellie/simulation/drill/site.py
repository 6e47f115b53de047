# SPDX-License-Identifier: Apache-2.0
"""One room's cluster during a drill: its queue, its nodes, what runs, and how orders take effect.

Orders are slow, as they are in life: pods take a while to start and to draw power, a cap comes after the agent's
delay, and a paused job writes its checkpoint and then goes on drawing power until its grace is over.
"""

from dataclasses import dataclass, field

import numpy as np

from embellie.simulation.drill.jobs import DrillJob, throughput
from embellie.simulation.nodes import NodePool
from embellie.simulation.plant import PlantSpec, zone_names

PAUSE_S = 4 * 3600.0
"""How long a pause lasts at most; the operator's own default [s]."""
DAY_S = 86400.0


@dataclass(slots=True, kw_only=True, eq=False)
class Run:
    """A gang that holds GPUs."""

    job: DrillJob
    zone: str
    seats: list[int]
    start_s: float
    draws_from_s: float
    left_s: float
    """Work still to do at full speed, as of `since_s`."""
    since_s: float
    forced: bool
    drawing: bool = False
    cap_w: float | None = None
    speed: float = 1.0
    paused_s: float | None = None
    """When it was last told to pause [s]; None: never."""
    done_s: float = 0.0
    """When it ends, or stops drawing after a pause, if nothing changes."""
    pausing: bool = False

    def may_pause(self, now_s: float) -> bool:
        """Tell whether it may be told to pause now: where its user allows it, once a day."""
        rested = self.paused_s is None or now_s >= self.paused_s + DAY_S
        return self.job.pausable and not self.pausing and rested

    @property
    def watts(self) -> float:
        """What each of its GPUs draws now."""
        if not self.drawing:
            return 0.0
        return self.job.watts if self.cap_w is None else min(self.job.watts, self.cap_w)


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a site counts as it goes."""

    busy_gpu_s: float = 0.0
    starting_gpu_s: float = 0.0
    """Of the busy time, that of pods that did not work yet."""
    lost_gpu_s: float = 0.0
    pauses: int = 0
    caps: int = 0
    finished: int = 0
    took: list[tuple[float, float]] = field(default_factory=list)
    """Of runs that were never paused what was stated and what they took [s]."""
    forced: list[tuple[float, str, str]] = field(default_factory=list)
    """Starts that a bound forced: when, zone, job."""

    @property
    def useful_gpu_s(self) -> float:
        """GPU time in which work went on, at full speed [GPU s]."""
        return self.busy_gpu_s - self.starting_gpu_s - self.lost_gpu_s


def zone_sizes(spec: PlantSpec) -> dict[str, int]:
    """Return how many nodes each zone has."""
    per_row = spec.hall.racks_per_row * spec.hall.nodes_per_rack
    return {zone: spec.loop.nodes if zone == "loop" else per_row for zone in zone_names(spec)}


class Site:
    """The cluster of one room."""

    def __init__(self, spec: PlantSpec, jobs: list[DrillJob]) -> None:
        self.spec = spec
        self.zones = zone_names(spec)
        self.nodes = zone_sizes(spec)
        sizes = list(self.nodes.values())
        self.first_node = dict(zip(self.zones, [sum(sizes[:k]) for k in range(len(sizes))], strict=True))
        self.pools = {zone: NodePool(size, spec.node.gpus) for zone, size in self.nodes.items()}
        self.gpus = sum(sizes) * spec.node.gpus
        self.coming = sorted(jobs, key=lambda j: (j.submit_s, j.id), reverse=True)
        self.waiting: dict[str, DrillJob] = {}
        self.running: dict[str, Run] = {}
        self.paused: dict[str, Run] = {}
        """Paused by an order; they hold no GPUs."""
        self.added_kw = np.zeros(sum(sizes))
        self.gpu_w = np.full(spec.racks + 1, spec.node.gpu_idle_w)
        self.busy = 0
        self.tally = Tally()
        self.version = 0
        """Changes whenever something starts, stops, is capped or waits."""
        self._next_s = 0.0
        self.now_s = 0.0
        self._kept: dict[str, float] = {}

    def advance(self, now_s: float) -> None:
        """Bring in what was submitted, end what is through, let starts draw."""
        self.tally.busy_gpu_s += self.busy * (now_s - self.now_s)
        self.now_s = now_s
        while self.coming and self.coming[-1].submit_s <= now_s:
            job = self.coming.pop()
            if any(self._ever_fits(job, zone) for zone in self.zones):
                self.waiting[job.id] = job
                self.version += 1
        if now_s + 1e-6 < self._next_s:
            return
        for run in list(self.running.values()):
            if not run.drawing and not run.pausing and run.draws_from_s <= now_s:
                self._settle(run, now_s)
                run.drawing = True
                self._reckon(run)
                self._power(run)
            elif run.done_s <= now_s:
                self._end(run, now_s)
        self._plan_next()

    def start(self, job: DrillJob, zone: str, now_s: float, *, forced: bool) -> bool:
        """Start a waiting or paused job where it fits; return whether it did."""
        pool = self.pools[zone]
        if not pool.fits(job.pods, job.gpus_per_pod):
            return False
        before = self.paused.pop(job.id, None)
        self.waiting.pop(job.id, None)
        run = Run(
            job=job,
            zone=zone,
            seats=pool.take(job.pods, job.gpus_per_pod),
            start_s=now_s,
            draws_from_s=now_s + self.spec.control.start_delay_s,
            left_s=before.left_s if before is not None else job.work_s,
            since_s=now_s,
            forced=forced,
            paused_s=None if before is None else before.paused_s,
        )
        run.done_s = np.inf
        self.running[job.id] = run
        self.busy += job.gpus
        if forced:
            self.tally.forced.append((now_s, zone, job.id))
        self.version += 1
        self._plan_next()
        return True

    def cap(self, key: str, watts: float | None, now_s: float) -> None:
        """Set or lift a gang's power cap; it holds from the next turn on."""
        run = self.running.get(key)
        if run is None or run.cap_w == watts or run.pausing:
            return
        self._settle(run, now_s)
        run.cap_w = watts
        run.speed = 1.0 if watts is None else throughput(watts, run.job.watts)
        self.tally.caps += 1
        self._reckon(run)
        self._power(run)
        self.version += 1
        self._plan_next()

    def pause(self, key: str, now_s: float, *, orderly: bool = True) -> None:
        """Announce a pause: checkpoint, then the grace, then the GPUs are free.

        Without an acknowledged checkpoint (not `orderly`) what was done since the last one is lost.
        """
        run = self.running.get(key)
        if run is None or run.pausing:
            return
        self._settle(run, now_s)
        checkpoint_s = run.job.checkpoint_s if orderly and run.drawing else 0.0
        if not orderly:
            done = run.job.work_s - run.left_s
            back = min(done, (now_s - run.start_s) % run.job.checkpoint_every_s * run.speed) if run.drawing else 0.0
            if not run.job.pausable:
                back = done
            run.left_s += back
            self.tally.lost_gpu_s += back * run.job.gpus
        run.pausing, run.speed, run.paused_s = True, 0.0, now_s
        run.done_s = now_s + checkpoint_s + self.spec.control.grace_s
        self.tally.lost_gpu_s += (run.done_s - now_s) * run.job.gpus
        self.tally.pauses += 1
        self.version += 1
        self._plan_next()

    def settle(self) -> None:
        """Count at the end of a drill what starts, or runs under a cap, has lost so far too."""
        for run in self.running.values():
            self._settle(run, self.now_s)

    def zone_gangs(self, zone: str) -> list[Run]:
        """Return what holds GPUs in a zone."""
        return [run for run in self.running.values() if run.zone == zone]

    def last_checkpoint_s(self, run: Run) -> float:
        """Return when the run last wrote a checkpoint of its own accord."""
        every = run.job.checkpoint_every_s
        return run.start_s + (self.now_s - run.start_s) // every * every

    def _ever_fits(self, job: DrillJob, zone: str) -> bool:
        per_node = self.spec.node.gpus
        return job.gpus_per_pod <= per_node and self.nodes[zone] * (per_node // job.gpus_per_pod) >= job.pods

    def _settle(self, run: Run, now_s: float) -> None:
        """Take off the work that was done since the last change."""
        if not run.drawing and not run.pausing:
            self.tally.starting_gpu_s += (now_s - run.since_s) * run.job.gpus
        if run.drawing:
            worked = max(0.0, now_s - run.since_s)
            run.left_s = max(0.0, run.left_s - worked * run.speed)
            self.tally.lost_gpu_s += worked * (1.0 - run.speed) * run.job.gpus if not run.pausing else 0.0
        run.since_s = now_s

    def _reckon(self, run: Run) -> None:
        if not run.pausing:
            run.done_s = run.since_s + run.left_s / run.speed if run.speed > 0 else np.inf

    def _end(self, run: Run, now_s: float) -> None:
        self._settle(run, now_s)
        run.drawing = False
        self._power(run)
        del self.running[run.job.id]
        self.pools[run.zone].give_back(run.seats, run.job.gpus_per_pod)
        self.busy -= run.job.gpus
        if run.pausing and run.left_s > 1.0:
            self.paused[run.job.id] = run
        else:
            self.tally.finished += 1
            if run.paused_s is None:
                self.tally.took.append((run.job.stated_s, now_s - run.start_s))
        self.version += 1

    def _power(self, run: Run) -> None:
        """Put what a run draws now onto its nodes."""
        node, kept = self.spec.node, self._kept
        new = max(0.0, run.watts - node.gpu_idle_w) * (1.0 + node.host_share) / 1000.0 * run.job.gpus_per_pod
        change = new - kept.pop(run.job.id, 0.0)
        if new > 0.0:
            kept[run.job.id] = new
        first = self.first_node[run.zone]
        for seat in run.seats:
            self.added_kw[first + seat] = max(0.0, self.added_kw[first + seat] + change)
        self._hottest(run.zone)

    def _hottest(self, zone: str) -> None:
        idle = self.spec.node.gpu_idle_w
        if zone == "loop":
            self.gpu_w[-1] = max((run.watts for run in self.zone_gangs(zone)), default=idle)
            return
        per_rack = self.spec.hall.nodes_per_rack
        first = self.first_node[zone] // per_rack
        racks = self.nodes[zone] // per_rack
        self.gpu_w[first : first + racks] = idle
        for run in self.zone_gangs(zone):
            for seat in run.seats:
                rack = first + seat // per_rack
                self.gpu_w[rack] = max(self.gpu_w[rack], run.watts)

    def _plan_next(self) -> None:
        moments = [run.done_s if run.drawing or run.pausing else run.draws_from_s for run in self.running.values()]
        self._next_s = min(moments, default=np.inf)
