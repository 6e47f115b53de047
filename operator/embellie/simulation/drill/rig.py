# SPDX-License-Identifier: Apache-2.0
"""The rig: rooms, clusters and troubles advanced turn by turn, with a policy that sees sensors only.

Drills of equal length and layout run beside each other in one batch; each has random streams of its own, so that what
happens to it does not depend on its neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Protocol

import numpy as np

from embellie.simulation.drill.commission import node_base_kw, worst_pue
from embellie.simulation.drill.jobs import DrillJob, draw_jobs, gang_of
from embellie.simulation.drill.scenarios import Course, Kind, Trouble, course
from embellie.simulation.drill.site import Site
from embellie.simulation.drill.survey import Wear, apply_wear
from embellie.simulation.drill.vary import varied
from embellie.simulation.plant import Noise, PlantSpec, Rooms, Sensors, zone_names
from embellie.simulation.plant.exchange import Array

METERED_S = 900.0
"""Contracts and permits are checked on the mean of a quarter of an hour."""
_WORST = 1.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drill:
    """One scenario with one seed: the room as it is, and as it was designed."""

    course: Course
    designed: PlantSpec
    room: PlantSpec
    jobs: tuple[DrillJob, ...]
    contract_kw: float
    ceiling_kw: float | None
    """The permit while a night ceiling holds [kW of heat of the loop to the outside]."""

    def contract_now_kw(self, now_s: float, *, announced: bool = False) -> float:
        """Return the power that may be drawn now [kW].

        `announced`: as the operator's contract says, in which a cut counts from its notice on, and orders do not stand.
        """
        for trouble in self.course.troubles:
            begin = trouble.begin_s - (trouble.notice_s if announced else 0.0)
            counts = trouble.kind is Kind.CONTRACT or (trouble.kind is Kind.ORDER and not announced)
            if counts and begin <= now_s < trouble.end_s:
                return self.contract_kw * trouble.amount
        return self.contract_kw

    def ceiling_now_kw(self, now_s: float) -> float:
        """Return the heat that the loop may leave to the outside now [kW]."""
        for trouble in self.course.troubles:
            if trouble.kind is Kind.CEILING and trouble.active(now_s) and self.ceiling_kw is not None:
                return self.ceiling_kw
        always = self.room.limits.ceiling_kw
        return np.inf if always is None else always


def prepare(name: str, seed: int, plant: PlantSpec) -> Drill:
    """Draw a drill."""
    drawn = course(name, seed)
    rng = np.random.default_rng([seed, 5])
    room = varied(plant, rng)
    jobs = draw_jobs(
        seed,
        gpus=plant.gpus,
        span_s=drawn.span_s,
        utilisation=drawn.utilisation,
        rated_w=plant.node.gpu_rated_w,
    )
    for trouble in drawn.troubles:
        if trouble.kind is Kind.GANG:
            largest = max(plant.loop.nodes, plant.hall.racks_per_row * plant.hall.nodes_per_rack) * plant.node.gpus
            gpus = min(int(trouble.amount), largest // plant.node.gpus * plant.node.gpus)
            jobs.append(gang_of(gpus, trouble.begin_s, rng, plant.node.gpu_rated_w, plant.node.gpus))
    worst_kw = worst_it_kw(plant)
    share = next((t.amount for t in drawn.troubles if t.kind is Kind.CEILING), None)
    loop_kw = plant.loop.nodes * (plant.node.idle_kw + plant.node.added_kw()) * plant.loop.liquid_share
    return Drill(
        course=drawn,
        designed=plant,
        room=room,
        jobs=tuple(jobs),
        contract_kw=plant.limits.contracted_kw or worst_kw * worst_pue(plant) * 1.02,
        ceiling_kw=None if share is None else min(share * loop_kw, plant.limits.ceiling_kw or np.inf),
    )


def worst_it_kw(plant: PlantSpec) -> float:
    """Return what the room's machines draw at worst [kW]."""
    hall = plant.hall_nodes * node_base_kw(plant, liquid=False)
    loop = plant.loop.nodes * node_base_kw(plant, liquid=True)
    return hall + loop + (plant.hall_nodes + plant.loop.nodes) * plant.node.added_kw(_WORST)


@dataclass(slots=True, kw_only=True, eq=False)
class Seen:
    """What a scrape brought: values by room and signal (NaN: nothing), and how old the samples are [s]."""

    values: Array
    ages_s: Array
    index: dict[str, int]


class Policy(Protocol):
    """Decides from what is seen; acts on the sites."""

    def turn(self, now_s: float, seen: Seen) -> None:
        """Take one turn."""

    def level(self) -> np.ndarray:
        """Return how hard each zone is held back now, shape (rooms, zones); only for counting flaps."""

    def blocked_starts(self, b: int) -> int:
        """Return how many jobs of a room were kept waiting for a limit at least once."""

    def foresaw_s(self, b: int, job: str, at_s: float) -> float:
        """Return how long before it was known that a job's bound would force its start against a limit [s]; 0: not."""


@dataclass(slots=True, kw_only=True, eq=False)
class Log:
    """The truth, turn by turn; arrays have the shape (turns, rooms) or (turns, rooms, zones)."""

    turn_s: float
    inlet_c: Array
    return_c: Array
    facility_kw: Array
    rejected_kw: Array
    delivered_kw: Array
    heat_kw: Array
    demand_kw: Array
    level: np.ndarray
    slowed: np.ndarray
    waiting: np.ndarray
    """Whether work waits."""


class Rig:
    """A batch of drills."""

    def __init__(self, drills: Sequence[Drill]) -> None:
        self.drills = tuple(drills)
        first = drills[0]
        self.turn_s = first.room.control.turn_s if first.course.hours < 100 else max(30.0, first.room.control.turn_s)
        self.sites = tuple(Site(d.room, list(d.jobs)) for d in drills)
        seeds = [(d.course.seed, k_of(d)) for d in drills]
        specs = [d.room for d in drills]
        self.rooms = Rooms(specs, Noise([(*s, 1) for s in seeds], specs[0].racks + 1))
        names = len(Sensors(self.rooms, lambda: np.zeros(0)).names)
        self.sensors = Sensors(self.rooms, Noise([(*s, 2) for s in seeds], names))
        self.zones = zone_names(specs[0])
        self._added = np.zeros((len(drills), sum(self.sites[0].nodes.values())))
        self._gpu_w = np.zeros((len(drills), specs[0].racks + 1))
        for b, site in enumerate(self.sites):
            self._added[b], self._gpu_w[b] = site.added_kw, site.gpu_w
            site.added_kw, site.gpu_w = self._added[b], self._gpu_w[b]
        self._edges = [
            sorted({t.begin_s for t in d.course.troubles} | {t.end_s for t in d.course.troubles}) for d in drills
        ]
        outdoor, wet = self._weather(0.0)
        self.rooms.settle(self._added, self._gpu_w, outdoor, wet, hours=4.0)
        self.rooms.time_s = 0.0

    def clock(self, b: int, now_s: float) -> datetime:
        """Return a drill's time."""
        return self.drills[b].course.weather.start + timedelta(seconds=now_s)

    def run(self, policy: Policy, until_s: float | None = None) -> Log:
        """Advance to the end, or to `until_s`."""
        span = min(until_s or np.inf, *(d.course.span_s for d in self.drills))
        turns = round(span / self.turn_s)
        shape, zones = (turns, len(self.drills)), len(self.zones)
        log = Log(
            turn_s=self.turn_s,
            inlet_c=np.zeros((*shape, zones), dtype=np.float32),
            return_c=np.zeros(shape, dtype=np.float32),
            facility_kw=np.zeros(shape, dtype=np.float32),
            rejected_kw=np.zeros(shape, dtype=np.float32),
            delivered_kw=np.zeros(shape, dtype=np.float32),
            heat_kw=np.zeros((*shape, zones), dtype=np.float32),
            demand_kw=np.zeros(shape, dtype=np.float32),
            level=np.zeros((*shape, zones), dtype=np.int8),
            slowed=np.zeros((*shape, zones), dtype=bool),
            waiting=np.zeros(shape, dtype=bool),
        )
        scrape_every = max(1, round(self.drills[0].room.sensors.scrape_s / self.turn_s))
        seen: Seen | None = None
        for k in range(turns):
            now_s = k * self.turn_s
            outdoor, wet = self._weather(now_s)
            self._strike(now_s)
            self.sensors.record(outdoor, wet)
            for site in self.sites:
                site.advance(now_s)
            if k % scrape_every == 0 or seen is None:
                values, ages = self.sensors.read()
                seen = Seen(values=values, ages_s=ages.copy(), index=self.sensors.index)
            else:
                seen = Seen(values=seen.values, ages_s=seen.ages_s + self.turn_s, index=self.sensors.index)
            policy.turn(now_s, seen)
            self.rooms.advance(self._added, self._gpu_w, outdoor, wet, self.turn_s)
            self._note(log, k, outdoor, policy)
        for site in self.sites:
            site.settle()
        return log

    def _note(self, log: Log, k: int, outdoor: Array, policy: Policy) -> None:
        rooms = self.rooms
        log.inlet_c[k] = rooms.zone_inlet_c()
        log.return_c[k] = rooms.loop.return_c
        log.facility_kw[k] = rooms.facility_kw
        log.rejected_kw[k] = rooms.loop.rejected_kw
        log.delivered_kw[k] = rooms.loop.delivered_kw
        log.heat_kw[k] = rooms.zone_heat_kw()
        log.demand_kw[k] = rooms.loop.demand_kw(outdoor)
        log.level[k] = policy.level()
        log.slowed[k] = rooms.zone_slowed()
        log.waiting[k] = [bool(site.waiting or site.paused) for site in self.sites]

    def _weather(self, now_s: float) -> tuple[Array, Array]:
        dry, wet = np.empty(len(self.drills)), np.empty(len(self.drills))
        for b, drill in enumerate(self.drills):
            offset = drill.room.sensors.outdoor_offset_k
            d, w = drill.course.weather.at(now_s / 3600.0)
            dry[b], wet[b] = d + offset, min(d + offset, w + 0.4 * offset)
        return dry, wet

    def _strike(self, now_s: float) -> None:
        """Let troubles begin and end."""
        for b, edges in enumerate(self._edges):
            if not edges or now_s < edges[0]:
                continue
            while edges and edges[0] <= now_s:
                edges.pop(0)
            active = [t for t in self.drills[b].course.troubles if t.active(now_s)]
            apply_wear(self.rooms, [b], next((t.wear for t in active if t.kind is Kind.WEAR), Wear()))
            sensors = self.sensors
            sensors.extra_delay_s[b] = max((t.amount for t in active if t.kind is Kind.DELAY), default=0.0)
            sensors.stuck[b] = self._named(active, Kind.STUCK)
            sensors.silent[b] = self._named(active, Kind.SILENT)
            lies = self._named(active, Kind.LIE)
            sensors.offset[b] = np.where(lies, next((t.amount for t in active if t.kind is Kind.LIE), 0.0), 0.0)

    def _named(self, active: Sequence[Trouble], kind: Kind) -> np.ndarray:
        wishes = [w for t in active if t.kind is kind for w in t.signals]
        chosen = []
        for name in self.sensors.names:
            heat = not name.endswith("/power") or kind is Kind.SILENT
            chosen.append(heat and any(fnmatchcase(name, wish) for wish in wishes))
        return np.array(chosen)


def k_of(drill: Drill) -> int:
    """Return a number for a drill's scenario, for its random streams."""
    return sum(ord(c) * (k + 1) for k, c in enumerate(drill.course.name))
