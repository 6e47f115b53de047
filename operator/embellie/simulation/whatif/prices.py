# SPDX-License-Identifier: Apache-2.0
"""Prices on GPUs and on a site's own power by slot, and the lower bound that they prove; partial slots count exactly.

Relax "no more than C GPUs in the mean of a slot". For any prices q >= 0 (grams per GPU and slot)

    bound(q) = sum over jobs of min over its ways to run of (emissions + sum over slots of q x GPUs x part of the slot)
               - sum over slots of q x C

is at most what any schedule emits that keeps the capacity and each job's window: the relaxed terms of a schedule that
keeps the capacity sum up to no more than 0. It is raised by projected supergradient steps with Polyak's length.

Own power is a second such row: in a slot with S kW of it, each kWh of which spares v, power P emits grid x P less
v x min(S, P). For any price 0 <= r <= v that is at least (grid - v + r) x P - r x S: all work is told that it runs on
own power, and pays r for it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embellie.domain.forecast import FloatArray
from embellie.simulation.whatif.axis import BoolArray, IntArray

_BLOCK = 400_000
"""Most job-slots that are worked on at once."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OwnPower:
    """What a site's own plants leave for work, by slot."""

    kw: FloatArray
    """Shape (n_slots,), in the mean of a slot [kW]."""
    spares_g: FloatArray
    """What a kW of it spares in a slot, at least 0, shape (n_slots,) [g]."""


class Windows:
    """Jobs with the slots that they may use, prepared for many price vectors. Times are ticks, slots count from 0."""

    def __init__(
        self,
        *,
        release: IntArray,
        length: IntArray,
        wait: IntArray,
        pausable: BoolArray,
        gpus: FloatArray,
        grams_kw: FloatArray,
        ticks_per_slot: int,
        n_slots: int,
        own_power: bool = False,
    ) -> None:
        """Prepare; `grams_kw` is what counts as power in the emissions of a job [kW].

        With `own_power`, evaluations return the use of power beside that of GPUs.
        """
        self._per, self.n_slots = ticks_per_slot, n_slots
        self._release, self._length, self._wait = release, length, wait
        self._gpus, self._kw = gpus, grams_kw
        self._amounts = (gpus, grams_kw) if own_power else (gpus,)
        end = release + length + wait
        first, last = release // ticks_per_slot, -(-end // ticks_per_slot)
        self._first = first
        self._parts = [
            (rows, *self._windows_of(rows, width)) for rows, width in _blocks(np.flatnonzero(pausable), last - first)
        ]
        self._runs = list(_blocks(np.flatnonzero(~pausable), 2 * (wait // ticks_per_slot) + 4))

    def evaluate(self, grams: FloatArray, price: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return each job's least priced cost, and what those choices use in the mean of each slot: GPUs, then power.

        Args:
            grams: What 1 kW emits in each slot, shape (n_slots,) [g].
            price: Price of a GPU in each slot, shape (n_slots,) [g].
        """
        cost = np.zeros(self._release.size)
        use = np.zeros((len(self._amounts), self.n_slots))
        for rows, size, at in self._parts:
            self._cheapest_parts(rows, size, at, grams, price, cost, use)
        for rows, width in self._runs:
            self._cheapest_run(rows, width, grams, price, cost, use)
        return cost, use.reshape(-1)

    def _windows_of(self, rows: IntArray, width: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Return the ticks that jobs may use of each slot of their windows, and which slots those are."""
        per = self._per
        slots = self._first[rows, None] + np.arange(width)
        start, end = self._release[rows, None], (self._release + self._length + self._wait)[rows, None]
        size = np.clip(np.minimum((slots + 1) * per, end) - np.maximum(slots * per, start), 0, per)
        return size.astype(np.int32), np.minimum(slots, self.n_slots - 1).astype(np.int32)

    def _cheapest_parts(
        self,
        rows: IntArray,
        size: npt.NDArray[np.int32],
        at: npt.NDArray[np.int32],
        grams: FloatArray,
        price: FloatArray,
        cost: FloatArray,
        use: FloatArray,
    ) -> None:
        per = self._per
        rate = self._kw[rows, None] * grams[at] + self._gpus[rows, None] * price[at]
        order = np.argsort(np.where(size > 0, rate, np.inf), axis=1, kind="stable")
        sizes = np.take_along_axis(size, order, axis=1)
        before = np.cumsum(sizes, axis=1, dtype=np.int64) - sizes
        taken = np.clip(self._length[rows, None] - before, 0, sizes) / per
        cost[rows] = (taken * np.take_along_axis(rate, order, axis=1)).sum(axis=1)
        chosen = np.take_along_axis(at, order, axis=1)
        for row, amount in enumerate(self._amounts):
            use[row] += np.bincount(chosen.ravel(), (taken * amount[rows, None]).ravel(), self.n_slots)

    def _cheapest_run(
        self, rows: IntArray, width: int, grams: FloatArray, price: FloatArray, cost: FloatArray, use: FloatArray
    ) -> None:
        per, release, length, wait = self._per, self._release[rows], self._length[rows], self._wait[rows]
        sums = [np.concatenate(([0.0], np.cumsum(v))) for v in (grams, price)]
        half = width // 2
        steps = np.arange(half)
        # The best start lies where the run begins or ends on a slot's edge, or at an end of the window.
        begin = (release // per)[:, None] * per + steps * per
        finish = (-(-(release + length) // per))[:, None] * per + steps * per - length[:, None]
        starts = np.clip(np.concatenate((begin, finish), axis=1), release[:, None], (release + wait)[:, None])

        def integral(total: FloatArray, rate: FloatArray, tick: IntArray) -> FloatArray:
            slot = np.clip(tick // per, 0, self.n_slots - 1)
            value: FloatArray = total[slot] + (tick - slot * per) / per * rate[slot]
            return value

        ends = starts + length[:, None]
        total = self._kw[rows, None] * (integral(sums[0], grams, ends) - integral(sums[0], grams, starts))
        total += self._gpus[rows, None] * (integral(sums[1], price, ends) - integral(sums[1], price, starts))
        best = total.argmin(axis=1)
        index = np.arange(rows.size)
        cost[rows] = total[index, best]
        for row, amount in enumerate(self._amounts):
            _add_use(use[row], starts[index, best], ends[index, best], amount[rows], per)


def _add_use(use: FloatArray, start: IntArray, end: IntArray, amount: FloatArray, per: int) -> None:
    """Add runs to the mean use of slots, by the second difference of their ramps."""
    slope = np.zeros(use.size + 2)
    for tick, sign in ((start, 1.0), (end, -1.0)):
        slot = np.minimum(tick // per, use.size)
        part = np.where(tick // per > use.size, 0.0, (tick - slot * per) / per)
        np.add.at(slope, slot, sign * amount * (1.0 - part))
        np.add.at(slope, slot + 1, sign * amount * part)
    use += np.cumsum(slope)[: use.size]


def _blocks(rows: IntArray, widths: IntArray) -> list[tuple[IntArray, int]]:
    """Return the rows in blocks of like width."""
    ordered = rows[np.argsort(widths[rows], kind="stable")]
    blocks: list[tuple[IntArray, int]] = []
    begin = 0
    while begin < ordered.size:
        end = begin + 1
        while (
            end < ordered.size
            and (end + 1 - begin) * widths[ordered[end]] <= _BLOCK
            and (widths[ordered[end]] <= 1.3 * widths[ordered[begin]] + 4)
        ):
            end += 1
        blocks.append((ordered[begin:end], int(widths[ordered[end - 1]])))
        begin = end
    return blocks


def search(
    windows: Windows,
    grams: FloatArray,
    capacity: FloatArray,
    *,
    upper: float,
    steps: int,
    own: OwnPower | None = None,
) -> float:
    """Return the best bound that the prices found prove [g].

    Args:
        windows: The jobs.
        grams: What 1 kW emits in each slot [g].
        capacity: GPUs of each slot.
        upper: What a known schedule emits [g]: sets the length of the steps.
        steps: How many of them.
        own: The site's own power; `windows` must have been prepared for it.
    """
    slots = grams.size
    price, most = np.zeros(slots), np.full(slots, np.inf)
    if own is not None:
        capacity, grams = np.concatenate((capacity, own.kw)), grams - own.spares_g
        price, most = np.concatenate((price, own.spares_g)), np.concatenate((most, own.spares_g))
    best_price, best = price, -np.inf
    share, stalled = 1.0, 0
    direction = np.zeros(price.size)
    for _ in range(steps):
        paid = grams if own is None else grams + price[slots:]
        cost, use = windows.evaluate(paid, price[:slots])
        value = float(cost.sum()) - float(price @ capacity)
        if value > best:
            best, best_price, stalled = value, price, 0
        else:
            stalled += 1
            if stalled >= 5:
                share, stalled, price = share / 2.0, 0, best_price
                direction[:] = 0.0
                continue
        direction = 0.6 * direction + (use - capacity)
        # What would push a price of 0 below 0 takes no part in the step.
        direction = np.where((price <= 0.0) & (direction < 0.0), 0.0, direction)
        # Nor what would push it above the most that it may be.
        direction = np.where((price >= most) & (direction > 0.0), 0.0, direction)
        norm = float(direction @ direction)
        gap = max(upper - value, 1e-3 * abs(upper))
        if norm <= 1e-12:
            break
        price = np.clip(price + share * gap / norm * direction, 0.0, most)
    return best
