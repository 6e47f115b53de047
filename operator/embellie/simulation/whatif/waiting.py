# SPDX-License-Identifier: Apache-2.0
"""To run now or to wait, when nobody knows how long the work will take. Pure.

Work that may be paused: a dynamic programme over slots t, the slots u that it has run and the slots b that it may still
wait. V is the expected rest of its emissions per kW, given that it still runs, less (mean intensity) x (expected rest
of the work), which it emits whenever it runs:

    run    (c[t] - mean) r(u) + p(u) V[t+1](u+1, b)    r: expected part of the slot that it fills; p: to outlive it
    pause  w + V[t+1](u, b-1)                          only with b >= 1; w: the price of a slot's wait
    V[t](u, b) = the lesser of the two, 0 at the end of the horizon

Work that may not be paused: the start s with the least w s + sum over x of S(x) c[s+x]; it is looked at anew every
slot, so that what has become known since then counts.
"""

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.simulation.whatif.lengths import Law

MOST_RUN_SLOTS = 96
"""Work that has run longer counts as having run so long."""


class PauseTable:
    """V at the end of the first slot, for one law and some prices of waiting."""

    def __init__(
        self, costs: FloatArray, law: Law, slot_h: float, most_wait: int, wait_costs: FloatArray, most_run: int
    ) -> None:
        """Solve the programme.

        Args:
            costs: Grams that 1 kW emits in each slot ahead, shape (slots,), at least two of them.
            law: The distribution of lengths.
            slot_h: Length of a slot [h].
            most_wait: Slots that any job may still wait, at least 1.
            wait_costs: Price of a slot's wait per kW of the job, shape (prices,) [g/kW].
            most_run: Slots that any job may have run at the end of the horizon.
        """
        self._law, self._slot_h = law, slot_h
        self._runs = min(MOST_RUN_SLOTS, most_run)
        self._waits = most_wait
        done = np.arange(self._runs + 1, dtype=np.float64) * slot_h
        fills = law.expected_run_h(done, slot_h) / slot_h
        outlives = np.minimum(1.0, law.chance(done + slot_h) / law.chance(done))
        self._mean = float(costs.mean())
        after = np.minimum(np.arange(1, self._runs + 2), self._runs)
        value = np.zeros((wait_costs.size, done.size, most_wait + 1))
        price = wait_costs[:, None, None]
        for cost in costs[:0:-1] - self._mean:
            run = (cost * fills)[None, :, None] + outlives[None, :, None] * value[:, after, :]
            run[:, :, 1:] = np.minimum(run[:, :, 1:], price + value[:, :, :-1])
            value = run
        self._value = value

    def gain(
        self,
        cost: float,
        price_row: np.ndarray,
        wait_cost: FloatArray,
        done: FloatArray,
        left: FloatArray,
        part: FloatArray,
    ) -> FloatArray:
        """Return what running in the rest of this slot saves against pausing in it [g/kW].

        Args:
            cost: Grams that 1 kW emits in the whole slot.
            price_row: Row of `wait_costs` of each job.
            wait_cost: Each job's price of a slot's wait [g/kW].
            done: Slots that it has run.
            left: Slots that it may still wait; with less than `part` it must run.
            part: Part of the slot that is left, 0..1.
        """
        done_h = np.minimum(done, self._runs) * self._slot_h
        fill = self._law.expected_run_h(done_h, part * self._slot_h) / self._slot_h
        outlive = np.minimum(1.0, self._law.chance(done_h + part * self._slot_h) / self._law.chance(done_h))
        run = (cost - self._mean) * fill + outlive * self._at(price_row, done + part, left)
        pause = wait_cost * part + self._at(price_row, done, left - part)
        result: FloatArray = np.where(left < part - 1e-9, np.inf, pause - run)
        return result

    def _at(self, row: np.ndarray, done: FloatArray, left: FloatArray) -> FloatArray:
        u = np.clip(done, 0.0, self._runs - 1e-6)
        b = np.clip(left, 0.0, self._waits - 1e-6)
        i, j = u.astype(np.int64), b.astype(np.int64)
        x, y = u - i, b - j
        v = self._value
        low = (1.0 - y) * v[row, i, j] + y * v[row, i, j + 1]
        high = (1.0 - y) * v[row, i + 1, j] + y * v[row, i + 1, j + 1]
        mixed: FloatArray = (1.0 - x) * low + x * high
        return mixed


def start_gain(
    costs: FloatArray,
    law: Law,
    slot_h: float,
    wait_cost: FloatArray,
    left: FloatArray,
    part: float,
) -> FloatArray:
    """Return what starting now saves against the best later start, for work that may not be paused [g/kW].

    Args:
        costs: Grams that 1 kW emits in each slot from this one on.
        law: The distribution of lengths.
        slot_h: Length of a slot [h].
        wait_cost: Each job's price of a slot's wait [g/kW], shape (jobs,).
        left: Slots that each job may still wait, shape (jobs,).
        part: Part of this slot that is left, 0..1.
    """
    most = int(left.max()) if left.size else 0
    reach = max(1, min(costs.size - most - 1, int(law.reach_h / slot_h) + 1))
    edges = np.arange(reach + 1, dtype=np.float64) * slot_h
    weights = law.expected_run_h(np.zeros(reach), edges[1:]) - law.expected_run_h(np.zeros(reach), edges[:-1])
    weights = weights / slot_h
    padded = np.concatenate((costs, np.full(max(0, most + reach + 1 - costs.size), costs.mean())))
    later = np.array([float(weights @ padded[s : s + reach]) for s in range(1, most + 1)])
    first = law.expected_run_h(
        np.zeros(reach), np.maximum(0.0, edges[1:] - (1.0 - part) * slot_h)
    ) - law.expected_run_h(np.zeros(reach), np.maximum(0.0, edges[:-1] - (1.0 - part) * slot_h))
    now = float((first / slot_h) @ padded[:reach])
    result = np.full(left.size, np.inf)
    if most < 1:
        return result
    waits = part + np.arange(most)
    total = later[None, :] + wait_cost[:, None] * waits[None, :]
    open_ = waits[None, :] <= left[:, None] + 1e-9
    best = np.where(open_, total, np.inf).min(axis=1)
    return np.where(np.isfinite(best), best - now, np.inf)


def pause_gain_known(
    costs: FloatArray, remaining: FloatArray, left: FloatArray, part: float, wait_cost: FloatArray
) -> FloatArray:
    """Return what running in the rest of this slot saves against pausing, where the rest of the work is known [g/kW].

    The rest takes the cheapest slots of its window either way; `remaining` and `left` are slots, shape (jobs,).
    """
    result = np.full(remaining.size, np.inf)
    ahead = np.maximum(0.0, remaining + left - part)
    free = np.flatnonzero(left >= part - 1e-9)
    for rows in np.array_split(free[np.argsort(ahead[free], kind="stable")], max(1, free.size // 256)):
        if rows.size == 0:
            continue
        width = int(np.ceil(ahead[rows].max())) + 1
        later = _long(costs, width + 1)[1:]
        size = np.clip(ahead[rows, None] - np.arange(width), 0.0, 1.0)
        order = np.argsort(np.where(size > 0.0, later, np.inf), axis=1, kind="stable")
        sizes = np.take_along_axis(size, order, axis=1)
        rates = later[order]
        before = np.cumsum(sizes, axis=1) - sizes
        now = np.minimum(part, remaining[rows])
        all_of_it = (np.clip(remaining[rows, None] - before, 0.0, sizes) * rates).sum(axis=1)
        without = (np.clip((remaining[rows] - now)[:, None] - before, 0.0, sizes) * rates).sum(axis=1)
        result[rows] = all_of_it - without - costs[0] * now + wait_cost[rows] * part
    return result


def start_gain_known(
    costs: FloatArray, length: FloatArray, left: FloatArray, part: float, wait_cost: FloatArray
) -> FloatArray:
    """Return what starting now saves against the best later start, where lengths are known [g/kW]."""
    most = int(left.max(initial=0.0)) + 1
    far = _long(costs, most + int(np.ceil(length.max(initial=1.0))) + 2)
    sums = np.concatenate(([0.0], np.cumsum(far)))
    grid = np.arange(sums.size, dtype=np.float64)
    begin = 1.0 - part
    now = np.interp(begin + length, grid, sums) - np.interp(begin, grid, sums)
    waits = part + np.arange(most)
    starts = np.arange(1, most + 1)
    later = np.interp(starts[None, :] + length[:, None], grid, sums) - sums[starts][None, :]
    total = np.where(waits[None, :] <= left[:, None] + 1e-9, later + wait_cost[:, None] * waits[None, :], np.inf)
    result: FloatArray = total.min(axis=1) - now
    return result


def _long(costs: FloatArray, size: int) -> FloatArray:
    """Return costs for so many slots: past their end the last quarter of them repeats."""
    if costs.size >= size:
        return costs[:size]
    return np.concatenate((costs, np.resize(costs[-max(1, costs.size // 4) :], size - costs.size)))
