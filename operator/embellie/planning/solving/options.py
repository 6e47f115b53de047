# SPDX-License-Identifier: Apache-2.0
"""A problem compiled for speed: each job in each of its modes is an option; equal options share tables.

Costs are linear in the size of a gang, so all that differs between two options of the same *shape* (kW per GPU,
durations, delay rate) is a factor. Tables are made by shape, zone and slot; jobs only look things up.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embellie.domain.forecast import FloatArray
from embellie.planning.solving.inputs import any_mode
from embellie.planning.solving.problem import BoolArray, IntArray, Problem

_EPS_H = 1e-9
_DIGITS = 9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shapes:
    """Distinct ways to use a slot or a run, per unit of size (a GPU, or a gang without GPUs); S shapes."""

    gpu: FloatArray
    """GPUs per unit: 1, or 0 for work without GPUs."""
    power_kw: FloatArray
    limit_kw: FloatArray
    delay: FloatArray
    """Cost of an hour's delay of a unit (runs), or of an hour's delay of an hour's work of a unit (pausable)."""
    weighing: IntArray
    """Row of `Compiled.rates`."""
    length: IntArray
    """Row of `Compiled.lengths_h` that the objective and the GPU rows see."""
    limit_length: IntArray
    """Row of `Compiled.lengths_h` that power and heat rows see."""


class Compiled:
    """Options and tables that do not depend on prices: N options, Z zones, T slots, L distinct lengths.

    An option is a job in one of its modes. Arrays have shape (N,) unless told otherwise.
    """

    job: IntArray
    """Whose option it is: a row of `Problem.jobs`."""
    mode: IntArray
    """A row of `Problem.modes`."""
    gpus: FloatArray
    size: FloatArray
    """What tables by shape are multiplied with: its GPUs, 1 for work without GPUs."""
    power_kw: FloatArray
    """Expected power, by which energy counts."""
    limit_kw: FloatArray
    """Power at worst, which power and heat rows see."""
    length_h: FloatArray
    """Expected length, which the objective and the GPU rows see."""
    limit_h: FloatArray
    """Length at P90, which power and heat rows see."""
    lengths_h: FloatArray
    """Distinct values of both, rising, shape (L,)."""
    length: IntArray
    """Row of `length_h` in `lengths_h`."""
    limit_length: IntArray
    """Row of `limit_h` in `lengths_h`."""
    ends: npt.NDArray[np.int32]
    """The first edge at or after the end of a run, by length and first slot, shape (L, T)."""
    release: IntArray
    """First slot that it may start in."""
    latest: IntArray
    """Last slot that it may start in; before `release` there is none."""
    deadline: IntArray
    """It may use slots before this one only."""
    pausable: BoolArray
    fits: BoolArray
    """Zones that it may use and that are ever large enough for it, shape (N, Z)."""
    rates: FloatArray
    """What a kWh costs by weighing, zone and slot, shape (1 + W, Z, T)."""
    weighing: IntArray
    """Row of `rates`."""
    delay: FloatArray
    """What an hour of delay costs."""
    at_once: FloatArray
    """Delay cost of a run at once, counted from now: taken off, as lateness counts from its first slot."""
    wants: bool
    """Whether any power is wanted that is worth something."""
    serves: list[list[tuple[int, float]]]
    """By zone: rows of wanted power that it serves, each with its share."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.slots, self.zones = problem.n_slots, problem.n_zones
        self.edges = problem.edges_h
        self.hours = np.diff(self.edges)
        self.middles = (self.edges[:-1] + self.edges[1:]) / 2.0
        self.job, self.mode = np.nonzero(any_mode(problem))
        self._take_sizes(problem)
        self._take_rates(problem)
        self._take_lengths()
        self._take_windows(problem)
        self.fits = self._large_enough()
        self.wants = bool((problem.zones.wanted_kw * problem.zones.wanted_cost_per_kwh > 0.0).any())
        self.serves = problem.zones.serves()
        self._take_delays(problem)
        self._shape_keys = self._keys()

    def _take_sizes(self, problem: Problem) -> None:
        jobs, job = problem.jobs, self.job
        speed = np.array([m.speed for m in problem.modes])[self.mode]
        power = np.array([m.power for m in problem.modes])[self.mode]
        self.size = np.where(jobs.gpus > 0, jobs.gpus, 1.0)[job]
        self.gpus = jobs.gpus[job]
        self.power_kw = jobs.power_kw[job] * power
        self.limit_kw = jobs.limit_kw[job] * power
        self.length_h = jobs.duration_h[job] / speed
        self.limit_h = jobs.limit_h[job] / speed
        self.pausable = jobs.pausable[job]
        self.weighing = jobs.weighing[job]

    def _take_rates(self, problem: Problem) -> None:
        none = np.zeros((0, self.zones, self.slots))
        others = problem.weighings if problem.weighings is not None else none
        self.rates = np.concatenate([problem.zones.cost_per_kwh[None], others])
        # Cumulative energy cost of 1 kW by zone at the edges; behind the last edge at the last slot's rate.
        self._energy_at = np.zeros((self.rates.shape[0], self.zones, self.slots + 1))
        np.cumsum(self.rates * self.hours, axis=2, out=self._energy_at[..., 1:])

    def _take_lengths(self) -> None:
        both = np.round(np.concatenate([self.length_h, self.limit_h]), _DIGITS)
        self.lengths_h, rows = np.unique(both, return_inverse=True)
        self.length, self.limit_length = rows[: self.job.size], rows[self.job.size :]
        ends_h = self.edges[None, :-1] + self.lengths_h[:, None]
        self.ends = np.minimum(np.searchsorted(self.edges, ends_h - _EPS_H), self.slots).astype(np.int32)

    def _take_windows(self, problem: Problem) -> None:
        jobs, job, slots = problem.jobs, self.job, self.slots
        self.release = np.clip(jobs.release[job], 0, slots)
        self.deadline = np.clip(jobs.deadline[job], 0, slots)
        self.latest = np.minimum(jobs.latest_start[job], slots - 1)
        # Without a pause, pausable work must start so early that it ends in its window.
        last = np.searchsorted(self.edges, self.edges[self.deadline] - self.length_h + _EPS_H, side="right") - 1
        self.latest = np.where(self.pausable, np.minimum(self.latest, last), self.latest)
        self._bound_slow_modes(problem)

    def _take_delays(self, problem: Problem) -> None:
        self.delay = problem.jobs.delay_cost_per_h[self.job]
        first = np.minimum(self.release, self.slots - 1)
        self.at_once = self.delay * (self.edges[first] + np.where(self.pausable, self.length_h / 2.0, 0.0))

    def _keys(self) -> FloatArray:
        """Return what makes options alike but for their size, one column each."""
        rate = np.where(self.pausable, self.size * self.length_h, self.size)
        keys = (self.gpus > 0, self.power_kw / self.size, self.limit_kw / self.size, self.delay / rate, self.weighing)
        return np.asarray(np.round(np.stack([np.asarray(key, dtype=np.float64) for key in keys]), _DIGITS))

    def _bound_slow_modes(self, problem: Problem) -> None:
        """A slower mode may start only so late that it still meets the deadline of the first one."""
        slow = self.mode > 0
        if not slow.any():
            return
        first = {int(j): i for i, j in enumerate(self.job) if self.mode[i] == 0}
        base = np.array([first.get(int(j), -1) for j in self.job])
        lengths = problem.jobs.limit_h[self.job]
        end_h = self.edges[np.maximum(self.latest, 0)] + lengths
        for i in np.flatnonzero(slow & ~self.pausable):
            limit = end_h[i] if base[i] >= 0 else np.inf
            if self.deadline[i] < self.slots:
                limit = min(limit, float(self.edges[self.deadline[i]]))
            fits = self.edges[:-1] + self.limit_h[i] <= limit + _EPS_H
            self.latest[i] = min(int(self.latest[i]), int(fits.sum()) - 1)

    def _large_enough(self) -> BoolArray:
        """Return zones that a job may use and that are ever large enough for it, shape (N, Z)."""
        zones = self.problem.zones
        most = zones.gpus.max(axis=1, initial=0.0)
        fits: BoolArray = self.problem.jobs.zones[self.job] & (self.gpus[:, None] <= most[None, :] + 1e-9)
        return fits

    def shapes(self, rows: npt.NDArray[np.int64], *, with_length: bool) -> tuple[Shapes, IntArray]:
        """Return the distinct shapes of some options, and which one each of them has."""
        keys = self._shape_keys[:, rows]
        if with_length:
            keys = np.concatenate([keys, self.length[None, rows], self.limit_length[None, rows]])
        distinct, inverse = np.unique(keys, axis=1, return_inverse=True)
        none = np.zeros(distinct.shape[1], dtype=np.int64)
        shapes = Shapes(
            gpu=distinct[0],
            power_kw=distinct[1],
            limit_kw=distinct[2],
            delay=distinct[3],
            weighing=distinct[4].astype(np.int64),
            length=distinct[5].astype(np.int64) if with_length else none,
            limit_length=distinct[6].astype(np.int64) if with_length else none,
        )
        return shapes, inverse.reshape(-1)

    def energy(self, lengths: IntArray, weighing: IntArray) -> FloatArray:
        """Return what 1 kW costs over runs of these lengths and weighings from each slot, shape (n, Z, T)."""
        end = self.edges[None, :-1] + self.lengths_h[lengths][:, None]
        row = np.minimum(np.searchsorted(self.edges, end, side="right") - 1, self.slots - 1)
        rest = end - self.edges[row]
        out = np.empty((lengths.shape[0], self.zones, self.slots))
        for zone in range(self.zones):
            at, rate = self._energy_at[weighing, zone], self.rates[weighing, zone]
            out[:, zone] = np.take_along_axis(at, row, axis=1) - at[:, :-1]
            out[:, zone] += np.take_along_axis(rate, row, axis=1) * rest
        return out

    def spans(self, lengths: IntArray) -> tuple[IntArray, FloatArray]:
        """Return the slot in which runs of these lengths end, by first slot, and the part of it that they run.

        Both of shape (n, T). A run that ends with a slot, or goes on behind the last edge, ends in the one after it,
        and runs no part of that.
        """
        end = self.edges[None, :-1] + self.lengths_h[lengths][:, None]
        row = np.searchsorted(self.edges, end + _EPS_H, side="right") - 1
        inside = row < self.slots
        at = np.minimum(row, self.slots - 1)
        part = np.where(inside, np.clip((end - self.edges[at]) / self.hours[at], 0.0, 1.0), 0.0)
        return np.where(inside, row, self.slots).astype(np.int64), part
