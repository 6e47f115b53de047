# SPDX-License-Identifier: Apache-2.0
"""What a GPU is worth in each slot ahead, where there are not enough of them for everybody's cleanest hours."""

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.simulation.whatif.axis import IntArray
from embellie.simulation.whatif.case import Case
from embellie.simulation.whatif.engine import Engine
from embellie.simulation.whatif.lengths import Lengths
from embellie.simulation.whatif.prices import Windows, search

_STEPS_COLD, _STEPS_WARM = 40, 8
_LOAD_H = 24.0
_KEEP_FREE = 0.97
"""Part of the cluster that is planned with: gangs do not fill the last GPUs."""


class Scarcity:
    """Prices by slot, taken on from turn to turn. Tomorrow's arrivals are expected to be like those of the last day."""

    def __init__(self, case: Case, lengths: Lengths) -> None:
        self._case, self._lengths = case, lengths
        self._price: FloatArray | None = None
        self._slot = 0
        self._idle_kw = case.site.idle_kw_per_gpu
        self._expected = np.full(case.work.count, -1, dtype=np.int64)

    def prices(self, slot: int, costs: FloatArray, engine: Engine) -> FloatArray:
        """Return the price of a GPU in each slot ahead [g], shape of `costs`.

        Args:
            slot: The slot that begins.
            costs: What 1 kW is expected to emit in each slot ahead [g].
            engine: What waits and runs.
        """
        case, work, per = self._case, self._case.work, self._case.axis.ticks_per_slot
        now, size = slot * per, costs.size
        flexible, fixed = engine.active(), engine.fixed()
        coming = self._coming(now)
        rest = self._rest(flexible, engine, now)
        jobs = np.concatenate((flexible, coming))
        wait = np.concatenate((engine.left_to_wait(flexible, now), work.wait[coming]))
        # What lies past the horizon has no price.
        length = np.minimum(np.concatenate((rest, self._length(coming))), np.maximum(1, size * per - wait))
        windows = Windows(
            release=np.concatenate((np.zeros(flexible.size, dtype=np.int64), self._again(coming, now))),
            length=length,
            wait=wait,
            pausable=work.pausable[jobs],
            gpus=work.gpus[jobs],
            grams_kw=np.maximum(0.0, work.power_kw[jobs] - work.gpus[jobs] * self._idle_kw),
            ticks_per_slot=per,
            n_slots=size,
        )
        capacity = np.full(size, float(case.site.capacity_gpus or 0.0) * _KEEP_FREE)
        if fixed.size:
            busy = np.minimum(size, -(-self._rest(fixed, engine, now) // per))
            gone = np.bincount(busy, weights=work.gpus[fixed], minlength=size + 1)
            capacity = np.maximum(0.0, capacity - (work.gpus[fixed].sum() - np.cumsum(gone)[:size]))
        warm = self._shifted(slot, size)
        steps = _STEPS_COLD if warm is None else _STEPS_WARM
        self._price, _ = search(windows, costs, capacity, upper=None, iterations=steps, warm=warm)
        self._slot = slot
        return self._price

    def _shifted(self, slot: int, size: int) -> FloatArray | None:
        if self._price is None:
            return None
        kept = self._price[min(slot - self._slot, self._price.size) :]
        return np.concatenate((kept, np.zeros(size)))[:size]

    def _coming(self, now: int) -> IntArray:
        """Return the jobs of the last day, which stand for those of the next one."""
        arrival = self._case.work.arrival
        first, last = np.searchsorted(arrival, [now - self._case.axis.ticks(_LOAD_H), now])
        return np.arange(first, last, dtype=np.int64)

    def _again(self, jobs: IntArray, now: int) -> IntArray:
        later: IntArray = self._case.work.arrival[jobs] + self._case.axis.ticks(_LOAD_H) - now
        return later

    def _length(self, jobs: IntArray) -> IntArray:
        if self._lengths.exact:
            known: IntArray = self._case.work.length[jobs]
            return known
        for job in jobs[self._expected[jobs] < 0].tolist():
            self._expected[job] = max(1, self._lengths.expected(job))
        guessed: IntArray = self._expected[jobs]
        return guessed

    def _rest(self, jobs: IntArray, engine: Engine, now: int) -> IntArray:
        """Return the expected rest of jobs, at least a tick [ticks]."""
        work = self._case.work
        done = engine.done(jobs, now)
        if self._lengths.exact or jobs.size == 0:
            known: IntArray = np.maximum(1, work.length[jobs] - done)
            return known
        kinds = np.array([self._lengths.kind(int(job)) for job in jobs])
        rest = np.empty(jobs.size)
        for kind in np.unique(kinds).tolist():
            rows = kinds == kind
            rest[rows] = self._lengths.law(kind).rest_h(done[rows] * self._case.axis.tick_h)
        ticks: IntArray = np.maximum(1, (rest / self._case.axis.tick_h).astype(np.int64))
        return ticks
