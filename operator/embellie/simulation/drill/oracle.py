# SPDX-License-Identifier: Apache-2.0
"""What a scheduler could have run that knows the plant, the weather and the jobs, and may pause at no cost.

At each step it runs, first come first served, whatever fits GPUs and what the room can truly carry then: the survey of
the very room that is drilled, with the cooling that works at that hour, without margin or reserve. Nothing is lost when
it pauses. A real controller can only come near.
"""

import numpy as np

from embellie.simulation.drill.jobs import DrillJob
from embellie.simulation.drill.scenarios import Course, Kind
from embellie.simulation.drill.site import zone_sizes
from embellie.simulation.drill.survey import OUTDOOR_C, Survey, Wear, one_failed, survey
from embellie.simulation.plant import PlantSpec, zone_names
from embellie.simulation.plant.exchange import Array

STEP_S = 300.0


def useful_gpu_s(spec: PlantSpec, course: Course, jobs: list[DrillJob], limits: "Limits") -> Array:
    """Return the work that the oracle gets done in each step of the drill [GPU s]."""
    zones = zone_names(spec)
    sizes = zone_sizes(spec)
    idle_kw = {zone: sizes[zone] * spec.node.idle_kw for zone in zones}
    left = {job.id: job.work_s for job in jobs}
    need = {job.id: added_kw(spec, job) for job in jobs}
    order = sorted(jobs, key=lambda j: (j.submit_s, j.id))
    smallest = min((job.gpus for job in jobs), default=0)
    alive: list[DrillJob] = []
    home: dict[str, str] = {}
    steps, coming = int(course.span_s / STEP_S), 0
    done_s = np.zeros(steps)
    for step in range(steps):
        now_s = step * STEP_S
        while coming < len(order) and order[coming].submit_s <= now_s:
            alive.append(order[coming])
            coming += 1
        room = dict(zip(zones, limits.zone_kw(now_s) - np.array([idle_kw[z] for z in zones]), strict=True))
        site_kw = limits.site_kw(now_s) - sum(idle_kw.values())
        nodes = {zone: _Nodes(size, spec.node.gpus) for zone, size in sizes.items()}
        free = sum(one.free_gpus for one in nodes.values())
        for job in alive:
            if free < smallest:
                break
            kw = need[job.id]
            if kw > site_kw or job.gpus > free:
                continue
            # A gang stays where it is while it can, so that it does not move with every step.
            at_home = home.get(job.id)
            for zone in sorted(zones, key=lambda z, at=at_home: (z != at, -room[z])):  # type: ignore[misc]
                if kw <= room[zone] and nodes[zone].fits(job.pods, job.gpus_per_pod):
                    nodes[zone].take(job.pods, job.gpus_per_pod)
                    free -= job.gpus
                    room[zone] -= kw
                    site_kw -= kw
                    home[job.id] = zone
                    worked = min(STEP_S, left[job.id])
                    left[job.id] -= worked
                    done_s[step] += worked * job.gpus
                    break
        alive = [job for job in alive if left[job.id] > 0.0]
    return done_s


class _Nodes:
    """Equal nodes, as how many of them have 0, 1, 2, ... GPUs free; filled best fit, pod by pod."""

    __slots__ = ("_counts", "free_gpus")

    def __init__(self, nodes: int, gpus_per_node: int) -> None:
        self._counts = [0] * gpus_per_node + [nodes]
        self.free_gpus = nodes * gpus_per_node

    def fits(self, pods: int, gpus_per_pod: int) -> bool:
        if pods * gpus_per_pod > self.free_gpus:
            return False
        counts = self._counts
        return sum(counts[k] * (k // gpus_per_pod) for k in range(gpus_per_pod, len(counts))) >= pods

    def take(self, pods: int, gpus_per_pod: int) -> None:
        counts = self._counts
        for _ in range(pods):
            k = gpus_per_pod
            while not counts[k]:
                k += 1
            counts[k] -= 1
            counts[k - gpus_per_pod] += 1
        self.free_gpus -= pods * gpus_per_pod


def added_kw(spec: PlantSpec, job: DrillJob) -> float:
    """Return what a job truly draws beside its idle nodes, fans left out [kW]."""
    node = spec.node
    return job.gpus * max(0.0, job.watts - node.gpu_idle_w) * (1.0 + node.host_share) / 1000.0


class Limits:
    """What the room can truly carry at each moment of a course."""

    def __init__(
        self,
        spec: PlantSpec,
        course: Course,
        *,
        contract_kw: float,
        ceiling_kw: float | None,
        reserve: bool = False,
    ) -> None:
        """Ask a room; with `reserve` one CRAC unit, one pump and the heat network count as out, and margins hold."""
        self._spec, self._course, self._reserve = spec, course, reserve
        self._contract_kw, self._ceiling_kw = contract_kw, ceiling_kw
        self._whole = survey(spec)
        self._surveys: dict[Wear, tuple[Survey, Array]] = {}

    def wear(self, now_s: float) -> Wear:
        """Return what of the cooling works now."""
        for trouble in self._course.troubles:
            if trouble.kind is Kind.WEAR and trouble.active(now_s):
                return trouble.wear
        return one_failed(self._spec) if self._reserve else Wear()

    def zone_kw(self, now_s: float) -> Array:
        """Return the most heat of each zone, fans taken off [kW]."""
        found, capacity = self._survey(now_s)
        outdoor = self._outdoor(now_s)
        most = np.array([np.interp(outdoor, OUTDOOR_C, capacity[:, k]) for k in range(capacity.shape[1])])
        ceiling = self._ceiling(now_s)
        if ceiling is not None and found.zones[-1] == "loop":
            # A permit holds while the network takes what it takes; only the cooling's reserve counts it as gone.
            delivered = float(np.interp(outdoor, OUTDOOR_C, self._whole.delivered_kw[:, -4]))
            most[-1] = min(most[-1], (ceiling + delivered) / max(0.05, self._spec.loop.liquid_share))
        fans = self._spec.node.fan_full_kw * 0.6**3 * self._spec.hall.racks_per_row * self._spec.hall.nodes_per_rack
        most[: self._spec.hall.rows] -= fans
        return most

    def site_kw(self, now_s: float) -> float:
        """Return the most IT power that the contract allows [kW]."""
        share = 1.0
        for trouble in self._course.troubles:
            if trouble.kind in (Kind.CONTRACT, Kind.ORDER) and trouble.active(now_s):
                share = trouble.amount
        pue = float(np.interp(self._outdoor(now_s), OUTDOOR_C, self._survey(now_s)[0].pue[:, 10]))
        return self._contract_kw * share / pue

    def _survey(self, now_s: float) -> tuple[Survey, Array]:
        """Return the room at rest with what works now, and the most heat of its zones then."""
        wear = self.wear(now_s)
        if wear not in self._surveys:
            found = survey(self._spec, wear)
            self._surveys[wear] = found, found.capacity_kw(self._spec, margins=self._reserve)
        return self._surveys[wear]

    def _outdoor(self, now_s: float) -> float:
        return self._course.weather.at(now_s / 3600.0)[0] + self._spec.sensors.outdoor_offset_k

    def _ceiling(self, now_s: float) -> float | None:
        for trouble in self._course.troubles:
            if trouble.kind is Kind.CEILING and trouble.active(now_s):
                return self._ceiling_kw
        return self._spec.limits.ceiling_kw
