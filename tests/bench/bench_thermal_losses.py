# SPDX-License-Identifier: Apache-2.0
"""Where the operator's utilisation in drills stays below that of an oracle with the same reserve, by cause.

    make bench-thermal-losses                 all drills of a day, seeds 101 to 103
    SEEDS=101,110 SCENARIOS=heatwave make ... others; never those that are judged (2 to 21)

For each five minutes the GPUs that the oracle keeps busy and the operator does not are laid to what keeps them so:
what is told of each waiting job by the operator's own limits, in order of the queue, as far as free GPUs go, and gangs
that checkpoint, leave or start. Where the operator is ahead (it catches up, or the oracle pauses) counts against it.
"""

import os
import sys
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed

import numpy as np

from embellie.domain.heat import HeatOutlook
from embellie.domain.limits import HeatBound, counted_until, heat_room_now
from embellie.domain.snapshot import ThermalZoneState
from embellie.simulation.drill.desk import Desk
from embellie.simulation.drill.jobs import DrillJob
from embellie.simulation.drill.operator import OperatorPolicy
from embellie.simulation.drill.oracle import STEP_S, Limits, useful_gpu_s
from embellie.simulation.drill.own_means import useful_by_own_means_gpu_s
from embellie.simulation.drill.rig import Rig, Seen, prepare
from embellie.simulation.drill.scenarios import MONTH, SCENARIOS
from embellie.simulation.plant import PlantSpec
from embellie.thermal.load_ahead import LoadAhead
from embellie.thermal.power import added_power_kw
from embellie.thermal.shield import Rises

SEATS = "its gang fits nowhere"
CLOSED = "closed after it overheated"
SENSOR = "a sensor is not trusted"
CLASS = "worst-case power of work that is not learnt"
AHEAD = "hottest hour of the run: its cooling"
DERATED = "hottest hour of the run: a permit, or the cooling's derating"
STORED = "hottest hour of the run: heat that a loop would still hold then"
NOW = "the zone is full now"
NEIGHBOUR = "its heat would reach a full neighbour"
CONTRACT = "contracted power"
RAMP = "start ramp"
NOTHING = "nothing: it starts next turn"
STARTING = "pods start"
PAUSING = "checkpoint and grace of pauses"
CAPPED = "slower under caps"
BEHIND = "the operator is ahead"
OWN_MEANS = "oracle with the operator's own means and the reserve"
CAUSES = (
    AHEAD,
    DERATED,
    STORED,
    NOW,
    CLASS,
    CLOSED,
    SENSOR,
    NEIGHBOUR,
    CONTRACT,
    RAMP,
    SEATS,
    NOTHING,
    STARTING,
    PAUSING,
    CAPPED,
)
_HOT = frozenset({HeatBound.LADDER, HeatBound.READING, HeatBound.RETURN, HeatBound.BARRIER, HeatBound.PROVEN})


class Watched(OperatorPolicy):
    """The operator, asked after each turn what keeps its free GPUs free."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig)
        self.steps = round(rig.drills[0].course.span_s / STEP_S)
        self.useful = np.zeros((len(rig.sites), self.steps))
        self.idle: list[list[defaultdict[str, float]]] = [
            [defaultdict(float) for _ in range(self.steps)] for _ in rig.sites
        ]
        """By room, step and cause: GPU seconds."""
        self._turn_s = rig.turn_s
        self._last: list[dict[str, float]] = [{} for _ in rig.sites]

    def turn(self, now_s: float, seen: Seen) -> None:
        super().turn(now_s, seen)
        step = min(self.steps - 1, int(now_s / STEP_S))
        for b, desk in enumerate(self.rooms):
            if desk.stated_s == now_s:
                self._last[b] = blocked(desk)
            elif not desk.site.waiting:
                self._last[b] = {}
            for cause, gpus in {**self._last[b], **held(desk)}.items():
                self.idle[b][step][cause] += gpus * self._turn_s
            working = sum(r.job.gpus * r.speed for r in desk.site.running.values() if r.drawing and not r.pausing)
            self.useful[b, step] += working * self._turn_s


def held(desk: Desk) -> dict[str, float]:
    """Return GPUs that are taken and do nothing, or less than they could, by cause."""
    found: dict[str, float] = defaultdict(float)
    for run in desk.site.running.values():
        if run.pausing:
            found[PAUSING] += run.job.gpus
        elif not run.drawing:
            found[STARTING] += run.job.gpus
        elif run.speed < 1.0:
            found[CAPPED] += run.job.gpus * (1.0 - run.speed)
    return found


def blocked(desk: Desk) -> dict[str, float]:
    """Return free GPUs for which work waits, by what keeps it waiting."""
    site = desk.site
    free = sum(pool.free_gpus for pool in site.pools.values())
    found: dict[str, float] = defaultdict(float)
    rises = Rises(desk.snapshot(desk.stated_s))
    for job in [*site.waiting.values(), *(run.job for run in site.paused.values())]:
        gpus = min(free, job.gpus)
        if gpus <= 0:
            break
        found[why(desk, rises, job)] += gpus
        free -= gpus
    return found


def why(desk: Desk, rises: Rises, job: DrillJob) -> str:
    """Return what keeps a job from the zone that is nearest to taking it."""
    seats = [z for z in desk.site.zones if desk.site.pools[z].fits(job.pods, job.gpus_per_pod)]
    if not seats:
        return SEATS
    causes = []
    for zone in seats:
        causes.append(_in_zone(desk, rises, job, zone))
        if causes[-1] == NOTHING:
            break
    return min(causes, key=_EASE.index)


_EASE = (NOTHING, RAMP, CLASS, CONTRACT, AHEAD, DERATED, STORED, NEIGHBOUR, NOW, CLOSED, SENSOR)


def _in_zone(desk: Desk, rises: Rises, job: DrillJob, zone: str) -> str:
    name = desk.prefix + zone
    state = next(s for s in desk.states if s.name == name)
    worst_kw = desk.jobs.worst_kw(job)
    words = rises.refusal(name, worst_kw, job.stated_s)
    if words is None:
        return NOTHING
    if "contracted" in words:
        return CONTRACT
    if "spread" in words:
        return RAMP
    room = heat_room_now(state)
    if room.bound in _HOT:
        return CLOSED
    node = desk.drill.designed.node
    true_kw = added_power_kw(job.gpus, job.watts, node.gpu_idle_w, 100.0 * node.host_share)
    if _fits(desk, state, zone, true_kw, job.stated_s):
        return CLASS
    if not room.trusted:
        return SENSOR
    if "would reach" in words:
        return NEIGHBOUR
    if state.outlook is None or "hottest hour" not in words:
        return NOW
    worst = {run.job.id: desk.jobs.gang(run).worst_power_kw for run in desk.site.zone_gangs(zone)}
    bound = _ahead(desk, state, state.outlook, zone, worst).least_spare(job.stated_s).bound
    return {HeatBound.STORED: STORED, HeatBound.CEILING: DERATED}.get(HeatBound(bound), AHEAD)


def _fits(desk: Desk, state: ThermalZoneState, zone: str, added_kw: float, run_s: float) -> bool:
    """Tell whether a job fits when all of the zone draws what it really draws."""
    node = desk.drill.designed.node
    true = {
        run.job.id: added_power_kw(run.job.gpus, run.job.watts, node.gpu_idle_w, 100.0 * node.host_share)
        for run in desk.site.zone_gangs(zone)
    }
    if state.base_power_kw + sum(true.values()) + added_kw > heat_room_now(state).limit_kw:
        return False
    return state.outlook is None or added_kw <= _ahead(desk, state, state.outlook, zone, true).least_spare(run_s).kw


def _ahead(
    desk: Desk, state: ThermalZoneState, outlook: HeatOutlook, zone: str, power_kw: Mapping[str, float]
) -> LoadAhead:
    gangs = desk.site.zone_gangs(zone)
    loads = [(counted_until(desk.jobs.gang(run), desk.now), power_kw[run.job.id]) for run in gangs]
    return LoadAhead(outlook, state.base_power_kw, loads, desk.now)


def losses(names: list[str], seed: int) -> dict[str, dict[str, float]]:
    """Return for each scenario the points of utilisation that each cause costs."""
    drills = [prepare(name, seed, PlantSpec()) for name in names]
    rig = Rig(drills)
    policy = Watched(rig)
    rig.run(policy)
    found = {}
    for b, drill in enumerate(drills):
        limits = Limits(drill.room, drill.course, contract_kw=drill.contract_kw, ceiling_kw=drill.ceiling_kw,
                        reserve=True)  # fmt: skip
        oracle = useful_gpu_s(drill.room, drill.course, list(drill.jobs), limits)[: policy.steps]
        whole = rig.sites[b].gpus * drill.course.span_s / 100.0
        points: dict[str, float] = defaultdict(float)
        for step, more in enumerate(oracle - policy.useful[b]):
            causes = policy.idle[b][step]
            total = sum(causes.values())
            if more <= 0.0:
                points[BEHIND] += more / whole
            elif total <= 0.0:
                points[NOTHING] += more / whole
            else:
                for cause, gpu_s in causes.items():
                    points[cause] += more * gpu_s / total / whole
        useful_s = rig.sites[b].tally.useful_gpu_s
        points["work done twice"] = (float(policy.useful[b].sum()) - useful_s) / whole
        points["used"] = useful_s / whole
        points["oracle"] = float(oracle.sum()) / whole
        points[OWN_MEANS] = (
            float(useful_by_own_means_gpu_s(drill.room, drill.course, list(drill.jobs), limits).sum()) / whole
        )
        found[drill.course.name] = points
    return found


def main() -> int:
    """Run and print one line for each scenario."""
    seeds = [int(seed) for seed in os.environ.get("SEEDS", "101,102,103").split(",")]
    names = os.environ.get("SCENARIOS", ",".join(name for name in SCENARIOS if name != MONTH)).split(",")
    rows: list[tuple[str, dict[str, float]]] = []
    with ProcessPoolExecutor(int(os.environ.get("JOBS", "1"))) as pool:
        for done in as_completed([pool.submit(losses, names, seed) for seed in seeds]):
            rows += done.result().items()
    columns = ("used", "oracle", OWN_MEANS, *CAUSES, "work done twice", BEHIND)
    print("points of utilisation, mean of seeds", ", ".join(str(seed) for seed in seeds))
    for number, column in enumerate(columns):
        print(f"  {number:2}  {column}")
    print(f"{'scenario':18}" + "".join(f"{number:7}" for number in range(len(columns))))
    for name in [*names, "all"]:
        some = [row for scenario, row in rows if name in (scenario, "all")]
        means = [sum(row.get(column, 0.0) for row in some) / len(some) for column in columns]
        print(f"{name:18}" + "".join(f"{mean:7.1f}" for mean in means))
    return 0


if __name__ == "__main__":
    sys.exit(main())
