# SPDX-License-Identifier: Apache-2.0
"""What a scheduler could have run that knows the plant, the weather and the jobs, and has the operator's own means.

It starts, first come first served, what fits for the whole of its run, of which it knows the true length and power,
beside all that runs and is to go on then, in the true weather. What does not fit so far, and allows it, it starts to
pause it once: after checkpoint and grace, in which it draws power and works nothing, it goes on within the hours that a
pause may last, where it fits to its end. It caps nothing, and no promise binds it: a job may wait for ever.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embellie.simulation.drill.jobs import DrillJob
from embellie.simulation.drill.oracle import STEP_S, Limits, added_kw
from embellie.simulation.drill.scenarios import Course
from embellie.simulation.drill.site import PAUSE_S, zone_sizes
from embellie.simulation.plant import PlantSpec
from embellie.simulation.plant.exchange import Array

_AHEAD_S = 48 * 3600.0
"""How far beyond the end of a drill a start of its last hours is judged [s]."""
_SHORTEST_S = 1800.0
"""Nothing is started that is to be paused sooner [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    """A gang holds its GPUs from one step to another (not included), and works from a moment of the first on."""

    zone: int
    begin: int
    end: int
    works_s: float


class _Free:
    """What each zone and the site have left at each step: heat [kW], power [kW] and GPUs."""

    def __init__(self, spec: PlantSpec, course: Course, limits: Limits) -> None:
        sizes = np.array(list(zone_sizes(spec).values()))
        idle_kw = sizes * spec.node.idle_kw
        moments = [step * STEP_S for step in range(int((course.span_s + _AHEAD_S) / STEP_S))]
        self._zone_kw = np.array([limits.zone_kw(at_s) - idle_kw for at_s in moments])
        self._site_kw = np.array([limits.site_kw(at_s) for at_s in moments]) - idle_kw.sum()
        self._gpus = np.tile(sizes * spec.node.gpus, (len(moments), 1))

    def full(self, step: int) -> bool:
        return not self._gpus[step].any()

    def zones(self, step: int, kw: float, gpus: int) -> list[int]:
        """Return the zones that take a gang at one step."""
        if kw > self._site_kw[step]:
            return []
        return [int(z) for z in np.flatnonzero((kw <= self._zone_kw[step]) & (gpus <= self._gpus[step]))]

    def fits_until(self, zone: int, begin: int, end: int, kw: float, gpus: int) -> int:
        """Return up to which step, at most `end`, a zone takes a gang; what lies beyond all steps is free."""
        takes = self._takes(zone, begin, end, kw, gpus)
        return end if takes.all() else begin + int(takes.argmin())

    def first_fit(self, begin: int, last: int, length: int, kw: float, gpus: int) -> tuple[int, int] | None:
        """Return the first step, at most `last`, from which a zone takes a gang for a number of steps, and the zone."""
        found = []
        for zone in range(self._zone_kw.shape[1]):
            full = np.flatnonzero(~self._takes(zone, begin, last + length, kw, gpus))
            edges = np.concatenate([[-1], full, [last - begin + length]])
            long = np.flatnonzero(np.diff(edges) > length)
            found += [(begin + int(edges[k]) + 1, zone) for k in long[:1]]
        return min(found, default=None)

    def _takes(self, zone: int, begin: int, end: int, kw: float, gpus: int) -> np.ndarray:
        here = slice(begin, end)
        heat = kw <= np.minimum(self._zone_kw[here, zone], self._site_kw[here])
        return np.asarray(heat & (gpus <= self._gpus[here, zone]))

    def least_kw(self, zone: int, begin: int, end: int) -> float:
        return float(self._zone_kw[begin:end, zone].min())

    def take(self, stretch: _Stretch, kw: float, gpus: int) -> None:
        here = slice(stretch.begin, stretch.end)
        self._zone_kw[here, stretch.zone] -= kw
        self._site_kw[here] -= kw
        self._gpus[here, stretch.zone] -= gpus


def useful_by_own_means_gpu_s(spec: PlantSpec, course: Course, jobs: Sequence[DrillJob], limits: Limits) -> Array:
    """Return the work that such a scheduler gets done in each step of the drill [GPU s]."""
    free = _Free(spec, course, limits)
    waiting = sorted(jobs, key=lambda j: (j.submit_s, j.id))
    done_s = np.zeros(int(course.span_s / STEP_S))
    for step in range(len(done_s)):
        left: list[DrillJob] = []
        for k, job in enumerate(waiting):
            if job.submit_s > step * STEP_S or free.full(step):
                left += waiting[k:]
                break
            kw = added_kw(spec, job)
            stretches = _planned(spec, free, job, kw, step)
            if not stretches:
                left.append(job)
            for one in stretches:
                free.take(one, kw, job.gpus)
                _work(done_s, one, job.gpus)
        waiting = left
    return done_s


def _planned(spec: PlantSpec, free: _Free, job: DrillJob, kw: float, step: int) -> list[_Stretch]:
    """Return when and where a job runs that starts now: at one go, with one pause, or not at all (empty)."""
    start_s = spec.control.start_delay_s
    end = step + _steps(start_s + job.work_s)
    found = [(free.fits_until(zone, step, end, kw, job.gpus), zone) for zone in free.zones(step, kw, job.gpus)]
    if not found:
        return []
    until, zone = max(found, key=lambda one: (one[0], free.least_kw(one[1], step, one[0])))
    if until == end:
        return [_Stretch(zone=zone, begin=step, end=end, works_s=job.work_s)]
    leaves = until - _steps(job.checkpoint_s + spec.control.grace_s)
    first_s = (leaves - step) * STEP_S - start_s
    if not job.pausable or first_s < _SHORTEST_S:
        return []
    rest_s = job.work_s - first_s
    length = _steps(start_s + rest_s)
    goes_on = free.first_fit(until, leaves + _steps(PAUSE_S), length, kw, job.gpus)
    if goes_on is None:
        return []
    back, other = goes_on
    return [
        _Stretch(zone=zone, begin=step, end=until, works_s=first_s),
        _Stretch(zone=other, begin=back, end=back + length, works_s=rest_s),
    ]


def _steps(seconds: float) -> int:
    return max(1, math.ceil(seconds / STEP_S))


def _work(done_s: Array, stretch: _Stretch, gpus: int) -> None:
    """Count a stretch's work, as far as it lies within the drill."""
    whole = int(stretch.works_s // STEP_S)
    done_s[stretch.begin : stretch.begin + whole] += gpus * STEP_S
    if stretch.begin + whole < len(done_s):
        done_s[stretch.begin + whole] += gpus * (stretch.works_s - whole * STEP_S)
