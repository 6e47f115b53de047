# SPDX-License-Identifier: Apache-2.0
"""What places cost and which parts they have, for many jobs at once."""

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.planning.solving.options import Compiled
from embellie.planning.solving.problem import BoolArray, IntArray, Place


class Tally:
    """Places of some jobs as arrays: one row for each job, one for each slot of work in parts."""

    def __init__(self, c: Compiled, jobs: IntArray, places: list[Place]) -> None:
        self._c, self._jobs = c, jobs
        self._row = np.array([p.option for p in places], dtype=np.int64)
        self._zone = np.array([p.zone for p in places], dtype=np.int64)
        slices = [p.where if isinstance(p.where, slice) else None for p in places]
        self._whole: BoolArray = np.array([s is not None for s in slices], dtype=bool)
        bounds = [(s.start, s.stop) for s in slices if s is not None]
        self._runs = np.array(bounds, dtype=np.int64).reshape(-1, 2)
        split = [p.where for p in places if not isinstance(p.where, slice)]
        self._slots = np.concatenate(split) if split else np.zeros(0, dtype=np.int64)
        sizes = np.array([where.size for where in split], dtype=np.int64)
        self._of = np.repeat(np.arange(sizes.size), sizes)
        """By slot: which of the jobs in parts."""
        self._first = np.cumsum(sizes) - sizes
        starts = np.ones(self._slots.size, dtype=bool)
        starts[1:] = (np.diff(self._slots) != 1) | (np.diff(self._of) != 0)
        self._starts = starts
        """By slot: a part begins with it."""

    def parts(self) -> IntArray:
        """Return whose, first slot and slot after the last of each part, by job and time, shape (parts, 3)."""
        at = np.flatnonzero(self._starts)
        last = np.concatenate([at[1:], [self._slots.size]]) - 1 if at.size else at
        split = self._jobs[~self._whole][self._of[at]]
        whose = np.concatenate([self._jobs[self._whole], split])
        first = np.concatenate([self._runs[:, 0], self._slots[at]])
        end = np.concatenate([self._runs[:, 1], self._slots[last] + 1])
        table = np.stack([whose, first, end], axis=1)
        return table[np.lexsort((first, whose))]

    def costs(self, run_base: FloatArray, part_base: FloatArray, shape: IntArray) -> FloatArray:
        """Return what each job adds to the objective: no prices, with pauses and churn.

        Args:
            run_base: Of a run of one unit by shape, zone and first slot.
            part_base: Of a slot of one unit by shape, zone and slot.
            shape: Of each option.
        """
        c, jobs = self._c, self._c.problem.jobs
        cost = np.empty(self._jobs.size)
        start = np.empty(self._jobs.size, dtype=np.int64)
        start[self._whole] = self._runs[:, 0]
        row, zone = self._row[self._whole], self._zone[self._whole]
        cost[self._whole] = run_base[shape[row], zone, self._runs[:, 0]] * c.size[row] - c.at_once[row]
        if self._slots.size:
            row, zone = self._row[~self._whole], self._zone[~self._whole]
            start[~self._whole] = self._slots[self._first]
            by_slot, at = row[self._of], zone[self._of]
            hours = c.hours[self._slots]
            used = hours.copy()
            last = np.concatenate([self._first[1:], [self._slots.size]]) - 1
            used[last] -= np.maximum(0.0, np.add.reduceat(hours, self._first) - c.length_h[row])
            paid = part_base[shape[by_slot], at, self._slots] / hours * used
            # Lost work earns nothing, even at negative prices: a pause never pays.
            again = self._starts.copy()
            again[self._first] = False
            rate = np.where(again, np.maximum(c.rates[c.weighing[by_slot], at, self._slots], 0.0), 0.0)
            pause_kwh = jobs.pause_h[self._jobs[~self._whole]] * c.power_kw[row]
            cost[~self._whole] = np.add.reduceat(paid, self._first) * c.size[row] - c.at_once[row]
            cost[~self._whole] += pause_kwh * np.add.reduceat(rate, self._first)
        before_zone, before = jobs.previous_zone[self._jobs], jobs.previous_start[self._jobs]
        moved = (before_zone >= 0) & ((before_zone != self._zone) | (before != start))
        return cost + np.where(moved, jobs.churn_cost[self._jobs], 0.0)
