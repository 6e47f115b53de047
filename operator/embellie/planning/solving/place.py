# SPDX-License-Identifier: Apache-2.0
"""Finding places: the cheapest free one of many jobs at once. Nothing is ever placed over a capacity."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.planning.solving.dual import limit_prices
from embellie.planning.solving.inputs import most_wanted_price
from embellie.planning.solving.options import Compiled
from embellie.planning.solving.pauses import as_needed, cheapest_parts
from embellie.planning.solving.problem import BoolArray, IntArray, Place, Prices
from embellie.planning.solving.room import Room, open_slots, open_starts
from embellie.planning.solving.tally import Tally
from embellie.planning.solving.wanted import load_kw, run_worth

_CLOSED = 1e15
"""Stands for infinity where sums must stay finite."""
_SHORT = 256
"""Below so many slots single precision orders prices well enough, and twice as fast."""


class Placer:
    """Chooses places at prices."""

    def __init__(self, compiled: Compiled) -> None:
        self.c = c = compiled
        self._by_job = np.array_equal(c.job, np.arange(c.problem.jobs.count))
        self._first = np.searchsorted(c.job, np.arange(c.problem.jobs.count + 1))
        self._shape = np.zeros(c.job.size, dtype=np.int64)
        runs, parts = np.flatnonzero(~c.pausable), np.flatnonzero(c.pausable)
        self._runs, self._shape[runs] = c.shapes(runs, with_length=True)
        self._kinds, self._shape[parts] = c.shapes(parts, with_length=False)
        r, k = self._runs, self._kinds
        self._run_base = c.energy(r.length, r.weighing) * r.power_kw[:, None, None]
        self._run_base += (r.delay[:, None] * c.edges[None, :-1])[:, None, :]
        self._part_base = k.power_kw[:, None, None] * (c.rates[k.weighing] * c.hours)
        self._part_base = self._part_base + (k.delay[:, None] * (c.hours * c.middles)[None])[:, None, :]
        short = c.slots < _SHORT
        self._float: Any = np.float32 if short else np.float64
        self._int: Any = np.int32 if short else np.int64
        self._bits = self._int((1 << int(c.slots).bit_length()) - 1)
        self._slot_bits = np.arange(c.slots, dtype=self._int)
        self._even = bool(np.ptp(c.hours) < 1e-9) if c.slots else True
        self._told: list[tuple[Place | None, float] | None] = [None] * c.problem.jobs.count
        jobs = c.problem.jobs
        self._careful = (jobs.pause_h > 0) | (jobs.min_run_h > c.hours.min())
        self._sticky = (jobs.churn_cost > 0) & (jobs.previous_zone >= 0) & (jobs.previous_start >= 0)
        self._run_cost, self._part_cost = self._run_base, self._part_base
        self._worth = most_wanted_price(c.problem)

    def set_prices(self, prices: Prices, share: float = 1.0) -> None:
        """Choose at these prices from now on, times `share`; wanted power at its price, else at what it is worth.

        A share of 0 leaves the objective itself.
        """
        c, r, k = self.c, self._runs, self._kinds
        full = most_wanted_price(c.problem)
        self._worth = full + share * (prices.wanted - full)
        gpu, limit = prices.gpu * share, limit_prices(prices, c) * share
        sums = [np.concatenate([np.zeros((c.zones, 1)), np.cumsum(v, axis=1)], axis=1) for v in (gpu, limit)]
        end, limit_end = c.ends[r.length], c.ends[r.limit_length]
        cost = self._run_base.copy()
        for z in range(c.zones):
            cost[:, z] += r.gpu[:, None] * (sums[0][z][end] - sums[0][z][None, :-1])
            cost[:, z] += r.limit_kw[:, None] * (sums[1][z][limit_end] - sums[1][z][None, :-1])
        self._run_cost = cost
        self._part_cost = self._part_base + k.gpu[:, None, None] * gpu[None] + k.limit_kw[:, None, None] * limit[None]

    def choose(self, room: Room, jobs: IntArray, places: list[Place | None] | None = None) -> list[Place | None]:
        """Return the cheapest place of each job in what is left; what `places` says it holds counts as free to it."""
        if self._by_job:
            return self._choose_options(room, jobs, places)
        rows = np.concatenate([np.arange(self._first[j], self._first[j + 1]) for j in jobs]) if jobs.size else jobs
        found = self._choose_options(room, rows, places)
        best: dict[int, Place] = {}
        for place in found:
            if place is not None:
                job = int(self.c.job[place.option])
                if job not in best or place.cost < best[job].cost:
                    best[job] = place
        return [best.get(int(j)) for j in jobs]

    def _choose_options(self, room: Room, rows: IntArray, places: list[Place | None] | None) -> list[Place | None]:
        out: list[Place | None] = [None] * rows.size
        pausable = self.c.pausable[rows]
        for which, chooser in ((~pausable, self._choose_runs), (pausable, self._choose_parts)):
            at = np.flatnonzero(which)
            if at.size:
                own = self._own(rows[at], places) if places is not None else None
                wanted = self._wanted(room, rows[at], places) if self.c.wants else None
                for i, place in zip(at, chooser(room, rows[at], own, wanted), strict=True):
                    out[i] = place
        return out

    def _wanted(self, room: Room, rows: IntArray, places: list[Place | None] | None) -> FloatArray:
        """Return what is wanted beside what each job itself draws of it, shape (n, rows of wanted power, T) [kW]."""
        wanted = np.repeat(room.wanted[None], rows.size, axis=0)
        for i, row in enumerate(rows if places is not None else ()):
            place = places[self.c.job[row]] if places is not None else None
            if place is not None and place.option == row:
                self._give_back(wanted[i], place)
        return wanted

    def _give_back(self, wanted: FloatArray, place: Place) -> None:
        kw = load_kw(self.c, place.option, place.where)
        for row, share in self.c.serves[place.zone]:
            wanted[row, place.where] += share * kw

    def _earning(self, rows: IntArray, wanted: FloatArray) -> FloatArray:
        """Return what jobs earn by wanted power in each slot that they run whole, per unit of size, shape (n, Z, T)."""
        power, size = self.c.power_kw[rows][:, None], self.c.size[rows][:, None]
        out = np.zeros((rows.size, self.c.zones, self.c.slots))
        for zone, served in enumerate(self.c.serves):
            for row, share in served:
                out[:, zone] += self._worth[row] * np.clip(wanted[:, row], 0.0, share * power) / size
        return out

    def _earned(self, place: Place, wanted: FloatArray) -> float:
        """Return what a place earns where so much is wanted, shape (rows, T) [kW]."""
        kw = load_kw(self.c, place.option, place.where)
        return sum(
            float((self._worth[row, place.where] * np.clip(wanted[row, place.where], 0.0, share * kw)).sum())
            for row, share in self.c.serves[place.zone]
        )

    def earned(self, room: Room, place: Place, *, own: bool = False) -> float:
        """Return what a place earns by what is wanted now; `own`: it is taken, what it draws itself is wanted too."""
        if not self.c.wants or not self.c.serves[place.zone]:
            return 0.0
        wanted = room.wanted
        if own:
            wanted = wanted.copy()
            self._give_back(wanted, place)
        return self._earned(place, wanted)

    def _own(self, rows: IntArray, places: list[Place | None]) -> BoolArray:
        own = np.zeros((2, rows.size, self.c.zones, self.c.slots), dtype=bool)
        for i, row in enumerate(rows):
            place = places[self.c.job[row]]
            # What another mode of it takes may be less than what this one needs.
            if place is not None and place.option == row:
                own[0, i, place.zone, place.where] = True
                own[1, i, place.zone, place.limit_where] = True
        return own

    def _choose_runs(
        self, room: Room, rows: IntArray, own: BoolArray | None, wanted: FloatArray | None
    ) -> list[Place | None]:
        c = self.c
        cost = np.where(open_starts(room, c, rows, own), self._run_cost[self._shape[rows]], np.inf)
        if wanted is not None:
            into, part = c.spans(c.length[rows])
            cost -= run_worth((into[:, None], part[:, None]), self._earning(rows, wanted))
        for i in np.flatnonzero(self._sticky[c.job[rows]]):
            job, row = c.job[rows[i]], rows[i]
            before = c.problem.jobs
            if before.previous_start[job] < c.slots and before.previous_zone[job] < c.zones:
                at = (i, before.previous_zone[job], before.previous_start[job])
                cost[at] -= before.churn_cost[job] / c.size[row]
        flat = cost.reshape(rows.size, -1)
        best = flat.argmin(axis=1)
        value = flat[np.arange(rows.size), best]
        zone, start = np.divmod(best, c.slots)
        end, limit_end = c.ends[c.length[rows], start], c.ends[c.limit_length[rows], start]
        price = value * c.size[rows] - c.at_once[rows]
        found = [
            Place(int(row), int(z), slice(int(s), int(e)), slice(int(s), int(f)), float(v)) if v < np.inf else None
            for row, z, s, e, f, v in zip(rows, zone, start, end, limit_end, price, strict=True)
        ]
        return found if wanted is None else self._with_earned(found, wanted)

    def _with_earned(self, places: list[Place | None], wanted: FloatArray) -> list[Place | None]:
        return [
            place if place is None else place._replace(earned=self._earned(place, wanted[i]))
            for i, place in enumerate(places)
        ]

    def _choose_parts(
        self, room: Room, rows: IntArray, own: BoolArray | None, wanted: FloatArray | None
    ) -> list[Place | None]:
        c = self.c
        ok = open_slots(room, c, rows, own)
        # Only zones that a job may use are ranked: `of` and `zones` name the pairs.
        of, zones = np.nonzero(c.fits[rows])
        price = self._part_cost[self._shape[rows[of]], zones]
        earned = self._earning(rows, wanted) if wanted is not None else None
        if earned is not None:
            price = price - earned[of, zones]
        # Rates rise above 0, so that the slot can ride in the lowest bits and order ties by time.
        lift = max(0.0, -float(price.min(initial=0.0)))
        rate = np.where(ok[of, zones], price / c.hours + lift, _CLOSED).astype(self._float)
        key = (rate.view(self._int) & ~self._bits) | self._slot_bits
        ranked = np.sort(key, axis=1)
        rate = (ranked & ~self._bits).view(self._float)
        need, at = c.length_h[rows[of]], np.arange(of.size)
        if self._even:
            count = np.ceil(need / c.hours[0] - 1e-9).astype(np.int64)
            last = np.minimum(count, c.slots) - 1
            total = np.cumsum(rate, axis=1)[at, last] * c.hours[0]
            total[count > c.slots] = _CLOSED
        else:
            hours = c.hours[ranked & self._bits]
            before = np.cumsum(hours, axis=1) - hours
            total = (np.clip(need[:, None] - before, 0.0, hours) * rate).sum(axis=1)
            total[hours.sum(axis=1) < need - 1e-9] = _CLOSED
            last = np.maximum((before < need[:, None] - 1e-9).sum(axis=1) - 1, 0)
        by_zone, pair = np.full(c.fits[rows].shape, _CLOSED), np.zeros(c.fits[rows].shape, dtype=np.int64)
        by_zone[of, zones], pair[of, zones] = total, at
        zone, row_at = by_zone.argmin(axis=1), np.arange(rows.size)
        value, best = by_zone[row_at, zone], pair[row_at, zone]
        found = np.flatnonzero(value < _CLOSED / 10)
        careful = self._careful[c.job[rows]]
        chosen = key[best[found]] <= ranked[best[found], last[best[found]]][:, None]
        ends = np.cumsum(chosen.sum(axis=1)).tolist()
        all_slots = np.nonzero(chosen)[1]
        slots_of = [all_slots[first:last] for first, last in pairwise([0, *ends])]
        out: list[Place | None] = [None] * rows.size
        for i, slots in zip(found.tolist(), slots_of, strict=True):
            row = int(rows[i])
            if careful[i]:
                own_price = self._part_cost[self._shape[row]]
                out[i] = self._choose_careful(row, ok[i], own_price if earned is None else own_price - earned[i])
            else:
                used = slots if self._even else as_needed(slots, c.hours, float(c.length_h[row]))
                cost = (float(value[i]) - lift * c.length_h[row]) * c.size[row] - c.at_once[row]
                out[i] = Place(row, int(zone[i]), used, used, float(cost))
        return out if wanted is None else self._with_earned(out, wanted)

    def _choose_careful(self, row: int, ok: BoolArray, price: FloatArray) -> Place | None:
        c, jobs = self.c, self.c.problem.jobs
        job = c.job[row]
        pause = jobs.pause_h[job] * c.power_kw[row] / c.size[row] * np.maximum(c.rates[c.weighing[row]], 0.0)
        found = cheapest_parts(price, ok, pause, c.hours, float(c.length_h[row]), float(jobs.min_run_h[job]))
        if found is None:
            return None
        cost, zone, slots = found
        return Place(row, zone, slots, slots, cost * float(c.size[row]) - float(c.at_once[row]))

    def fits(self, room: Room, place: Place) -> bool:
        """Return whether a place is still free."""
        c, o = self.c, place.option
        return room.fits(place.zone, place.where, place.limit_where, c.gpus[o], c.limit_kw[o])

    def take(self, room: Room, place: Place, sign: int = 1) -> None:
        """Take a place's room, or give it back with `sign` -1."""
        c, o = self.c, place.option
        room.take(place.zone, place.where, place.limit_where, sign * c.gpus[o], sign * c.limit_kw[o])
        if c.wants:
            room.serve(place.zone, place.where, sign * load_kw(c, o, place.where))

    def costs_of(self, jobs: IntArray, places: Sequence[Place | None]) -> FloatArray:
        """Return what jobs add to the objective in these places: no prices, with pauses and churn, shape (n,)."""
        cost = self.c.problem.jobs.unplaced_cost[jobs]
        placed = [place for place in places if place is not None]
        rows = np.array([place is not None for place in places], dtype=bool)
        cost[rows] = Tally(self.c, jobs[rows], placed).costs(self._run_base, self._part_base, self._shape)
        return cost

    def true_costs(self, places: list[Place | None]) -> list[float]:
        """Return what all jobs add to the objective."""
        told = self._told
        news = [job for job, place in enumerate(places) if (t := told[job]) is None or t[0] is not place]
        costs = self.costs_of(np.array(news, dtype=np.int64), [places[job] for job in news])
        for job, cost in zip(news, costs.tolist(), strict=True):
            told[job] = (places[job], cost)
        return [t[1] if t is not None else 0.0 for t in told]
