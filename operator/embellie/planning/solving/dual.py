# SPDX-License-Identifier: Apache-2.0
"""The Lagrangian of a problem at given prices: its value, what each job would do, and how full that makes each row.

Relaxing all capacity rows leaves each job alone with its prices. A run costs sums over sliding windows, read from
cumulative sums, and a job takes the least of its starts. Pausable work takes the cheapest slots of its window:
with slots ranked by price, a binary search over counts of "rank below q inside the window" finds which.
So an evaluation costs tables by shape, zone and slot, and a few look-ups for each job and zone.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.planning.solving.inputs import most_wanted_price
from embellie.planning.solving.options import Compiled
from embellie.planning.solving.problem import BoolArray, IntArray, Prices
from embellie.planning.solving.wanted import by_zone, run_worth, wanted_value

_RANKS = 4
"""Slots of neighbouring price that are taken together: the search needs no finer order, the proof does without."""
_EPS_H = 1e-4


class _Parts(NamedTuple):
    """What pausable jobs chose: a zone, all slots of a price level below `above` - 1, and a share of that level's."""

    zone: IntArray
    above: IntArray
    share: FloatArray
    level: IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """The Lagrangian at some prices."""

    value: float
    """About what `bound.lower_bound` proves: pausable work is taken in groups of slots."""
    gpu_over: FloatArray
    """What the jobs would use of each row over its capacity: the supergradient, shape (Z, T)."""
    power_over: FloatArray
    heat_over: FloatArray
    wanted_short: FloatArray
    """What would still be wanted, below 0 where there is more: the supergradient of its prices."""
    cost: FloatArray
    """Each job's least cost at the prices, shape (J,)."""


class Lagrangian:
    """Evaluates prices. Made once for a problem."""

    def __init__(self, compiled: Compiled) -> None:
        self._c = c = compiled
        self.zones, self.slots = c.zones, c.slots
        window = (c.latest >= c.release) & (c.release < c.slots)
        self._runs = np.flatnonzero(~c.pausable & window)
        room = np.concatenate([[0.0], np.cumsum(c.hours)])
        enough = room[c.deadline] - room[np.minimum(c.release, c.deadline)] >= c.length_h - 1e-9
        self._parts = np.flatnonzero(c.pausable & window & enough)
        self._prepare_runs()
        self._prepare_parts()
        zones = c.problem.zones
        self._finite = (np.isfinite(zones.power_kw), np.isfinite(zones.heat_kw))

    def _prepare_runs(self) -> None:
        c, rows = self._c, self._runs
        self._shapes, self._shape = c.shapes(rows, with_length=True)
        s = self._shapes
        base = c.energy(s.length, s.weighing) * s.power_kw[:, None, None]
        base += (s.delay[:, None] * c.edges[None, :-1])[:, None, :]
        most = most_wanted_price(c.problem) * c.problem.zones.wanted_share.max(axis=1, initial=0.0)[:, None]
        earned = float(most.sum()) * float(s.power_kw.max(initial=0.0)) if c.wants else 0.0
        self._offset = max(0.0, -float(base.min(initial=0.0))) + 1.0 + earned
        self._base = base + self._offset
        self._span = c.spans(s.length) if c.wants else None
        self._end, self._limit_end = (c.ends[rows].astype(np.int64) for rows in (s.length, s.limit_length))
        self._bits = (1 << int(self.zones * self.slots).bit_length()) - 1
        self._cell = np.arange(self.zones)[:, None] * self.slots + np.arange(self.slots)
        first, last = c.release[rows], c.latest[rows]
        self._run_size = c.size[rows]
        # Every start of every job in each of its zones, job by job: one gather and one minimum by job.
        pair, zone = np.nonzero(c.fits[rows])
        span = (last - first + 1)[pair]
        begin = (self._shape[pair] * self.zones + zone) * self.slots + first[pair]
        before = np.cumsum(span) - span
        self._starts = np.repeat(begin - before, span) + np.arange(span.sum())
        self._placeable, at = np.unique(pair, return_index=True)
        self._from_start = before[at]
        # Kept from step to step: fresh memory costs more than what is done in it.
        self._value, self._by_start = np.empty(base.shape), np.empty(self._starts.size, dtype=np.int64)
        self._total = np.empty((base.shape[0], self.slots))

    def _prepare_parts(self) -> None:
        c, rows = self._c, self._parts
        self._kinds, self._kind = c.shapes(rows, with_length=False)
        k = self._kinds
        self._slot_base = k.power_kw[:, None, None] * (c.rates[k.weighing] * c.hours)
        self._slot_base = self._slot_base + (k.delay[:, None] * (c.hours * c.middles)[None])[:, None, :]
        zone = np.arange(self.zones)[None, :]
        self._rank_levels = -(-self.slots // _RANKS)
        shape = (k.gpu.shape[0], self.zones, self._rank_levels + 1, self.slots + 1)
        self._counted, self._paid = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
        self._each = np.empty((*shape[:3], self.slots), dtype=np.float32)
        self._cover, self._covered = np.empty(shape), np.empty(shape)
        cell = (self._kind[:, None] * self.zones + zone) * (shape[2] * shape[3])
        self._from, self._to = c.release[rows], c.deadline[rows]
        self._left_cell, self._right_cell = cell + self._from[:, None], cell + self._to[:, None]
        self._part_ok = c.fits[rows]
        self._part_size, self._part_h = c.size[rows], c.length_h[rows]

    def evaluate(self, prices: Prices) -> Outcome:
        """Return the Lagrangian at prices >= 0."""
        c, zones = self._c, self._c.problem.zones
        limit = limit_prices(prices, c)
        wanted = by_zone(prices.wanted, c) if c.wants else None
        use = np.zeros((3, self.zones, self.slots + 1))
        cost = np.full(c.job.size, np.inf)
        runs = self._choose_runs(prices.gpu, limit, wanted, cost)
        parts = self._choose_parts(prices.gpu, limit, wanted, cost)
        winner, least = self._by_job(cost)
        if self._runs.size:
            self._use_runs(runs, winner[self._runs], use)
        gpu_slots, limit_slots, kw_slots = np.cumsum(use, axis=2)[..., :-1]
        if parts is not None:
            self._use_parts(parts, winner[self._parts], gpu_slots, limit_slots, kw_slots)
        power, heat = np.zeros_like(zones.power_kw), np.zeros_like(zones.heat_kw)
        short = zones.wanted_kw.copy()
        for zone in range(self.zones):
            for row, share in c.serves[zone]:
                short[row] -= share * kw_slots[zone]
            if zones.power_group[zone] >= 0:
                power[zones.power_group[zone]] += zones.power_factor[zone] * limit_slots[zone]
            if zones.heat_group[zone] >= 0:
                heat[zones.heat_group[zone]] += limit_slots[zone]
        value = float(least.sum()) - capacity_value(prices, c) + float(wanted_value(prices, c.problem).sum())
        over = [
            np.where(ok, use - np.where(ok, cap, 0.0), -np.inf)
            for ok, use, cap in ((self._finite[0], power, zones.power_kw), (self._finite[1], heat, zones.heat_kw))
        ]
        return Outcome(
            value=value,
            gpu_over=gpu_slots - np.maximum(zones.gpus, 0.0),
            power_over=over[0],
            heat_over=over[1],
            wanted_short=short,
            cost=least,
        )

    def _by_job(self, cost: FloatArray) -> tuple[BoolArray, FloatArray]:
        """Return which options are used, and each job's cost."""
        jobs = self._c.problem.jobs
        if cost.size == jobs.count:
            used = cost < jobs.unplaced_cost
            return used, np.where(used, cost, jobs.unplaced_cost)
        least = jobs.unplaced_cost.copy()
        np.minimum.at(least, self._c.job, cost)
        wins = (cost <= least[self._c.job]) & (cost < jobs.unplaced_cost[self._c.job])
        rank = np.flatnonzero(wins)
        _, first = np.unique(self._c.job[rank], return_index=True)
        used = np.zeros(cost.size, dtype=bool)
        used[rank[first]] = True
        return used, least

    def _choose_runs(
        self, gpu: FloatArray, limit: FloatArray, wanted: FloatArray | None, cost: FloatArray
    ) -> tuple[IntArray, IntArray]:
        if not self._runs.size:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        s, value, total = self._shapes, self._value, self._total
        value[:] = self._base
        for prices, kw, ends in ((gpu, s.gpu, self._end), (limit, s.limit_kw, self._limit_end)):
            for zone, sums in enumerate(_cumulative(prices)):
                np.take(sums, ends, out=total, mode="clip")
                total -= sums[:-1]
                total *= kw[:, None]
                value[:, zone] += total
        if wanted is not None and self._span is not None:
            for zone in range(self.zones):
                value[:, zone] -= s.power_kw[:, None] * run_worth(self._span, wanted[zone])
        # Zone and slot ride in the lowest bits: one minimum finds the value and, on ties, the first zone and start.
        bits, rows = self._bits, self._runs
        table = value.view(np.int64)
        table &= ~bits
        table |= self._cell
        best, start = np.zeros(rows.size, dtype=np.int64), np.zeros(rows.size, dtype=np.int64)
        if self._placeable.size:
            np.take(table.reshape(-1), self._starts, out=self._by_start, mode="clip")
            found = np.minimum.reduceat(self._by_start, self._from_start)
            best[self._placeable], start[self._placeable] = np.divmod(found & bits, self.slots)
            price = (found & ~bits).view(np.float64) - self._offset
            cost[rows[self._placeable]] = price * self._run_size[self._placeable]
            cost[rows] -= self._c.at_once[rows]
        return best, start

    def _use_runs(self, chosen: tuple[IntArray, IntArray], used: BoolArray, use: FloatArray) -> None:
        """Add what runs use to differences by zone and slot: of GPUs, power at worst, and expected power."""
        zone, start = (a[used] for a in chosen)
        rows = self._runs[used]
        shape = self._shape[used]
        wide = self.slots + 1
        first, size = zone * wide + start, use[0].size
        for layer, weight, end in (
            (0, self._c.gpus[rows], self._end),
            (1, self._c.limit_kw[rows], self._limit_end),
        ):
            flat = np.bincount(first, weight, size) - np.bincount(zone * wide + end[shape, start], weight, size)
            use[layer] += flat.reshape(use[layer].shape)
        if self._span is not None:
            into, part = (table[shape, start] for table in self._span)
            kw = self._c.power_kw[rows]
            flat = np.bincount(first, kw, size) - np.bincount(zone * wide + into, kw * (1.0 - part), size)
            flat -= np.bincount(zone * wide + np.minimum(into + 1, self.slots), kw * part, size)
            use[2] += flat.reshape(use[2].shape)

    def _choose_parts(
        self, gpu: FloatArray, limit: FloatArray, wanted: FloatArray | None, cost: FloatArray
    ) -> "_Parts | None":
        if not self._parts.size:
            return None
        k, slots, levels = self._kinds, self.slots, self._rank_levels
        price = self._slot_base + k.gpu[:, None, None] * gpu[None] + k.limit_kw[:, None, None] * limit[None]
        if wanted is not None:
            price -= k.power_kw[:, None, None] * wanted[None]
        order = np.argsort(price / self._c.hours, axis=2, kind="stable")
        level = np.empty_like(order)
        np.put_along_axis(level, order, np.broadcast_to(np.arange(slots) // _RANKS, order.shape), axis=2)
        # counted[k, z, q, t]: hours in slots before t whose level is below q; paid: their prices.
        below = level[:, :, None, :] < np.arange(levels + 1)[None, None, :, None]
        counted, paid, each = self._counted, self._paid, self._each
        for sums, values in ((counted, self._c.hours), (paid, price[:, :, None, :])):
            np.multiply(below, values.astype(np.float32), out=each)
            np.cumsum(each, axis=3, out=sums[..., 1:])
        hours, money = counted.reshape(-1), paid.reshape(-1)
        left, right, wide = self._left_cell, self._right_cell, slots + 1
        # Search for the lowest level below which the window holds enough hours.
        low = np.zeros(left.shape, dtype=np.int64)
        high = np.full(left.shape, levels, dtype=np.int64)
        need = self._part_h.astype(np.float32)[:, None]
        for _ in range(int(levels).bit_length()):
            middle = (low + high) >> 1
            enough = hours[right + middle * wide] - hours[left + middle * wide] >= need - _EPS_H
            high = np.where(enough, middle, high)
            low = np.where(enough, low, np.minimum(middle + 1, high))
        above, under = high * wide, np.maximum(high - 1, 0) * wide
        all_h = hours[right + above] - hours[left + above]
        less_h = hours[right + under] - hours[left + under]
        part = np.clip((need - less_h) / np.maximum(all_h - less_h, _EPS_H), 0.0, 1.0)
        total = part * (money[right + above] - money[left + above])
        total += (1.0 - part) * (money[right + under] - money[left + under])
        total[~self._part_ok] = np.inf
        zone = total.argmin(axis=1)
        rows = np.arange(zone.size)
        cost[self._parts] = total[rows, zone] * self._part_size - self._c.at_once[self._parts]
        return _Parts(zone, high[rows, zone], part[rows, zone], level)

    def _use_parts(
        self, parts: "_Parts", used: BoolArray, gpu_slots: FloatArray, limit_slots: FloatArray, kw_slots: FloatArray
    ) -> None:
        wide, levels = self.slots + 1, self._rank_levels
        zone, above, share = parts.zone[used], parts.above[used], parts.share[used]
        size = self._part_size[used]
        row = (self._kind[used] * self.zones + zone) * (levels + 1)
        at = np.concatenate([row + above, row + np.maximum(above - 1, 0)]) * wide
        weight = np.concatenate([size * share, size * (1.0 - share)])
        first, last = np.tile(self._from[used], 2), np.tile(self._to[used], 2)
        cover = self._cover
        cover.fill(0.0)
        np.add.at(cover.reshape(-1), at + first, weight)
        np.subtract.at(cover.reshape(-1), at + last, weight)
        # Who takes all below level q covers the slots of every lower level in its window.
        for q in range(levels - 1, -1, -1):
            cover[:, :, q] += cover[:, :, q + 1]
        np.cumsum(cover, axis=3, out=self._covered)
        kind, zones = np.ogrid[: cover.shape[0], : cover.shape[1]]
        use = self._covered[kind[..., None], zones[..., None], parts.level + 1, np.arange(self.slots)]
        gpu_slots += np.tensordot(self._kinds.gpu, use, 1)
        limit_slots += np.tensordot(self._kinds.limit_kw, use, 1)
        if self._c.wants:
            kw_slots += np.tensordot(self._kinds.power_kw, use, 1)


def _cumulative(values: FloatArray) -> FloatArray:
    out = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=out[:, 1:])
    return out


def limit_prices(prices: Prices, compiled: Compiled) -> FloatArray:
    """Return what a kW of IT power pays by zone and slot for power and heat together, shape (Z, T)."""
    zones = compiled.problem.zones
    out = np.zeros((compiled.zones, compiled.slots))
    for zone in range(compiled.zones):
        if zones.power_group[zone] >= 0:
            out[zone] += zones.power_factor[zone] * prices.power[zones.power_group[zone]]
        if zones.heat_group[zone] >= 0:
            out[zone] += prices.heat[zones.heat_group[zone]]
    return out


def capacity_value(prices: Prices, compiled: Compiled) -> float:
    """Return what all capacity is worth at the prices; a row without a limit has the price 0."""
    zones = compiled.problem.zones
    worth = 0.0
    for price, capacity in ((prices.gpu, zones.gpus), (prices.power, zones.power_kw), (prices.heat, zones.heat_kw)):
        priced = price > 0
        worth += float((price[priced] * np.maximum(capacity[priced], 0.0)).sum())
    return worth
