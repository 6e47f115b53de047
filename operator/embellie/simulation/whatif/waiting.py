# SPDX-License-Identifier: Apache-2.0
"""To run now or to wait, when nobody knows how long the work will take. Pure.

Work that may be paused: a dynamic programme over slots t, the slots u that it has run and the slots b that it may still
wait. V is the expected rest of its emissions per kW, given that it still runs, less (mean intensity) x (expected rest
of the work), which it emits whenever it runs:

    run    (c[t] - mean) r(u) + p(u) V[t+1](u+1, b)    r: expected part of the slot that it fills; p: to outlive it
    pause  w + V[t+1](u, b-1)                          only with b >= 1; w: the price of a slot's wait
    V[t](u, b) = the lesser of the two, 0 at the end of the horizon

Work that may not be paused: the start s with the least w s + sum over x of S(x) c[s+x], inside a slot too: where the
intensity falls after a slot and rises after the next, a run of one and a half begins best in the midst of the first. It
is looked at anew every slot, so that what has become known since then counts.
"""

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.simulation.whatif.lengths import Law

MOST_RUN_SLOTS = 96
"""Work that has run longer counts as having run so long."""
STARTS_PER_SLOT = 4
"""Starts that are looked at in a slot where lengths are not known."""
_EPS = 1e-6
"""Less than a tick [slots]: no wait."""


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
    costs: FloatArray, law: Law, slot_h: float, wait_cost: FloatArray, left: FloatArray, part: float
) -> tuple[FloatArray, FloatArray]:
    """Return what starting now saves against the best later start, for work that may not be paused, and its wait.

    Starts are the parts of slots, so many as `STARTS_PER_SLOT`.

    Args:
        costs: Grams that 1 kW emits in each slot from this one on.
        law: The distribution of lengths.
        slot_h: Length of a slot [h].
        wait_cost: Each job's price of a slot's wait [g/kW], shape (jobs,).
        left: Slots that each job may still wait, shape (jobs,).
        part: Part of this slot that is left, 0..1.

    Returns:
        The saving [g/kW], infinite where there is no later start; slots until the best later start. Shape (jobs,).
    """
    begin, most = 1.0 - part, int(left.max(initial=0.0)) + 1
    reach = max(1, min(costs.size - most, int(law.reach_h / slot_h) + 1))
    padded = np.concatenate((costs, np.full(max(0, most + reach + 1 - costs.size), costs.mean())))
    grid = np.arange(most * STARTS_PER_SLOT + 1) / STARTS_PER_SLOT
    edges = np.arange(reach * STARTS_PER_SLOT + 1) / STARTS_PER_SLOT
    fills = np.diff(law.expected_run_h(np.zeros(edges.size), edges * slot_h)) / slot_h
    later = np.correlate(np.repeat(padded[: most + reach + 1], STARTS_PER_SLOT), fills)[: grid.size]
    edges = np.clip(np.arange(reach + 2) - begin, 0.0, reach)
    now = np.diff(law.expected_run_h(np.zeros(edges.size), edges * slot_h)) / slot_h @ padded[: reach + 1]
    starts = np.concatenate((np.broadcast_to(grid, (left.size, grid.size)), begin + left[:, None]), axis=1)
    return _best(np.full(left.size, now), np.interp(starts, grid, later), starts - begin, left, wait_cost)


def _best(
    now: FloatArray, later: FloatArray, waits: FloatArray, left: FloatArray, wait_cost: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return what a start now saves against the best of the later ones, and the wait until that."""
    open_ = (waits > _EPS) & (waits <= left[:, None] + _EPS)
    total = np.where(open_, later + wait_cost[:, None] * waits, np.inf)
    best = total.argmin(axis=1)[:, None]
    found: FloatArray = np.take_along_axis(total, best, axis=1)[:, 0]
    wait: FloatArray = np.take_along_axis(np.broadcast_to(waits, total.shape), best, axis=1)[:, 0]
    return found - now, wait


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
    costs: FloatArray, length: FloatArray, left: FloatArray, part: float, wait_cost: FloatArray, *, within: bool
) -> tuple[FloatArray, FloatArray]:
    """Return what starting now saves against the best later start, where lengths are known, and its wait, as above.

    Later starts are the beginnings of slots; `within` them too: then the best run begins or ends on a slot's edge.
    """
    most = int(left.max(initial=0.0)) + 1
    far = _long(costs, most + int(np.ceil(length.max(initial=1.0))) + 2)
    sums = np.concatenate(([0.0], np.cumsum(far)))
    grid = np.arange(sums.size, dtype=np.float64)
    begin = 1.0 - part
    now = np.interp(begin + length, grid, sums) - np.interp(begin, grid, sums)
    starts = np.broadcast_to(np.arange(1.0, most + 1.0), (length.size, most))
    if within:
        by_end = np.ceil(begin + length)[:, None] - length[:, None] + np.arange(most)
        starts = np.concatenate((starts, by_end, begin + left[:, None]), axis=1)
    later = np.interp(starts + length[:, None], grid, sums) - np.interp(starts, grid, sums)
    return _best(now, later, starts - begin, left, wait_cost)


def _long(costs: FloatArray, size: int) -> FloatArray:
    """Return costs for so many slots: past their end the last quarter of them repeats."""
    if costs.size >= size:
        return costs[:size]
    return np.concatenate((costs, np.resize(costs[-max(1, costs.size // 4) :], size - costs.size)))
