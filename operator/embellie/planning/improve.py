# SPDX-License-Identifier: Apache-2.0
"""Improving a plan: large neighbourhoods around jobs without a place, and passes in which every job may move.

Every step keeps all capacities; a step that makes the plan dearer is taken back.
"""

import math
from collections.abc import Callable

import numpy as np

from embellie.planning.floors import shortfall_cost
from embellie.planning.passes import fill, sweep
from embellie.planning.place import Place, Placer
from embellie.planning.problem import IntArray, Prices
from embellie.planning.room import Room

_STALLED = 1e-5
"""A round that improves the objective by less than this part of it is the last."""
_MOST_EVICTED = 1000


class Improver:
    """A complete plan that gets better."""

    def __init__(self, placer: Placer, room: Room, places: list[Place | None], prices: Prices, order: IntArray) -> None:
        self._placer, self._prices, self._order = placer, prices, order
        self._rank = np.empty(order.size, dtype=np.int64)
        self._rank[order] = np.arange(order.size)
        self.room, self.places = room, places
        self.cost = self._total(room)
        self._tried: dict[int, int] = {}

    def _total(self, room: Room) -> float:
        return math.fsum([*self._placer.true_costs(self.places), self._short(room)])

    def _short(self, room: Room) -> float:
        return shortfall_cost(self._placer.c.problem, room.owed)

    def run(self, rounds: int, stop: Callable[[], bool]) -> None:
        """Improve until nothing helps, `rounds` are done or `stop` says so."""
        rng = np.random.default_rng(0)
        for number in range(rounds):
            before = self.cost
            self._make_room(stop)
            # A pass at the prices makes room where it is dear, one at true costs takes what is left.
            room, places = self.room.copy(), list(self.places)
            for share in (1.0, 0.0) if number else (0.0,):
                self._placer.set_prices(self._prices, share)
                sweep(self._placer, room, places, rng.permutation(self._order.size), stop)
            self._accept(room, places)
            if stop() or (number and before - self.cost <= _STALLED * abs(before)):
                return

    def _accept(self, room: Room, places: list[Place | None]) -> None:
        kept, self.places = self.places, places
        cost = self._total(room)
        if cost < self.cost:
            self.room, self.cost = room, cost
        else:
            self.places = kept

    def _make_room(self, stop: Callable[[], bool]) -> None:
        """Give jobs without a place the one that the prices favour, and find new ones for those who were there."""
        jobs = self._placer.c.problem.jobs
        self._placer.set_prices(self._prices)
        waiting = [job for job, place in enumerate(self.places) if place is None and self._tried.get(job, 0) < 2]
        waiting.sort(key=lambda job: (-jobs.unplaced_cost[job], job))
        empty = Room(self._placer.c)
        for job in waiting:
            if stop():
                return
            self._tried[job] = self._tried.get(job, 0) + 1
            if self.places[job] is None:
                self._evict_for(job, empty)

    def _evict_for(self, job: int, empty: Room) -> None:
        placer = self._placer
        target = placer.choose(self.room, np.array([job]))[0] or placer.choose(empty, np.array([job]))[0]
        if target is None:
            return
        room, changed = self.room.copy(), {job: self.places[job]}
        for other in self._in_the_way(job, target):
            if placer.fits(room, target) or len(changed) > _MOST_EVICTED:
                break
            place = self.places[other]
            if place is not None:
                placer.take(room, place, -1)
                changed[other] = place
        if not placer.fits(room, target):
            return
        placer.take(room, target)
        places = list(self.places)
        for other in changed:
            places[other] = None
        places[job] = target
        evicted = np.array([o for o in changed if o != job], dtype=np.int64)
        fill(placer, room, places, evicted[np.argsort(self._rank[evicted])])
        gain = math.fsum(placer.true_cost(o, old) - placer.true_cost(o, places[o]) for o, old in changed.items())
        gain += self._short(self.room) - self._short(room)
        if gain > 0.0:
            self.room, self.places = room, places
            self.cost -= gain

    def _in_the_way(self, job: int, target: Place) -> IntArray:
        """Return placed jobs that overlap a place, cheapest to lose and most flexible first."""
        c, jobs = self._placer.c, self._placer.c.problem.jobs
        slots = np.zeros(c.slots, dtype=bool)
        slots[target.where] = True
        slots[target.limit_where] = True
        found = [
            other
            for other, place in enumerate(self.places)
            if place is not None
            and place.zone == target.zone
            and other != job
            and slots[place.where].any()
            and jobs.unplaced_cost[other] < jobs.unplaced_cost[job]
            and jobs.priority[other] <= jobs.priority[job]
        ]
        rows = np.array(found, dtype=np.int64)
        slack = (jobs.latest_start[rows] - jobs.release[rows]) / jobs.duration_h[rows]
        return rows[np.lexsort((-slack, ~jobs.pausable[rows]))]
