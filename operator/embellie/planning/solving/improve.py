# SPDX-License-Identifier: Apache-2.0
"""Improving a plan: large neighbourhoods around jobs without a place, and passes in which every job may move.

Every step keeps all capacities; a step that makes the plan dearer is taken back.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np

from embellie.planning.solving.passes import fill, sweep
from embellie.planning.solving.place import Placer
from embellie.planning.solving.problem import IntArray, Place, Prices
from embellie.planning.solving.room import Room
from embellie.planning.solving.wanted import shortfall_cost

_STALLED, _STALLED_OF_MANY = 1e-5, 1e-3
"""A round that improves the objective by less than this part of it is the last: of the only plan, and of one of many,
where another order gains more than another round."""
_MOST_EVICTED = 1000
_TARGETS, _FEW = 4, 64
"""So many places are tried for each job without one where these are few; else one."""


class Improver:
    """A complete plan that gets better."""

    def __init__(self, placer: Placer, room: Room, places: list[Place | None], prices: Prices, order: IntArray) -> None:
        self._placer, self._prices, self._order = placer, prices, order
        self._rank = np.empty(order.size, dtype=np.int64)
        self._rank[order] = np.arange(order.size)
        self.room, self.places = room, places
        self.cost = self._total(room)
        self._tried: dict[int, int] = {}
        self._zone = np.full(order.size, -1, dtype=np.int64)
        self._runs_in = np.zeros((order.size, placer.c.slots), dtype=bool)

    def _total(self, room: Room) -> float:
        return math.fsum([*self._placer.true_costs(self.places), self._short(room)])

    def _short(self, room: Room) -> float:
        return shortfall_cost(self._placer.c.problem, room.wanted)

    def run(self, rounds: int, stop: Callable[[], bool], *, one_of_many: bool = False) -> None:
        """Improve until nothing helps, `rounds` are done or `stop` says so; `one_of_many`: until little helps."""
        stalled = _STALLED_OF_MANY if one_of_many else _STALLED
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
            if stop() or (number and before - self.cost <= stalled * abs(before)):
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
        placer, jobs = self._placer, self._placer.c.problem.jobs
        waiting = {job for job, place in enumerate(self.places) if place is None and self._tried.get(job, 0) < 2}
        if not waiting:
            return
        placer.set_prices(self._prices)
        self._note(range(jobs.count))
        # Dearer work that cannot pause never gives way: what it holds is taken for all that follow.
        kept = Room(placer.c)
        for job in np.lexsort((np.arange(jobs.count), -jobs.unplaced_cost)).tolist():
            if stop():
                return
            if job in waiting and self.places[job] is None:
                self._tried[job] = self._tried.get(job, 0) + 1
                self._place_among(job, kept, _TARGETS if len(waiting) <= _FEW else 1)
            place = self.places[job]
            if place is not None and not jobs.pausable[job]:
                placer.take(kept, place)

    def _note(self, jobs: Iterable[int]) -> None:
        """Note in which zone and slots these jobs run."""
        for job in jobs:
            place = self.places[job]
            self._zone[job], self._runs_in[job] = -1, False
            if place is not None:
                self._zone[job] = place.zone
                self._runs_in[job, place.where] = True

    def _place_among(self, job: int, kept: Room, targets: int) -> None:
        """Give a job a free place, else the cheapest one that pays in what those leave who never give way."""
        target, left = self._placer.choose(self.room, np.array([job]))[0], kept.copy()
        for _ in range(targets):
            target = target or self._placer.choose(left, np.array([job]))[0]
            if target is None or self._take(job, target):
                return
            left.gpu[target.zone, target.where] = -1.0
            target = None

    def _take(self, job: int, target: Place) -> bool:
        """Give a job a place, and those who are there others, if that makes the plan cheaper; tell whether it did."""
        placer = self._placer
        room, changed = self.room.copy(), {job: self.places[job]}
        for other in self._in_the_way(job, target):
            if placer.fits(room, target) or len(changed) > _MOST_EVICTED:
                break
            place = self.places[other]
            if place is not None:
                placer.take(room, place, -1)
                changed[other] = place
        if not placer.fits(room, target):
            return False
        placer.take(room, target)
        places = list(self.places)
        for other in changed:
            places[other] = None
        places[job] = target
        evicted = np.array([o for o in changed if o != job], dtype=np.int64)
        fill(placer, room, places, evicted[np.argsort(self._rank[evicted])])
        them = np.array(list(changed), dtype=np.int64)
        before = placer.costs_of(them, list(changed.values()))
        after = placer.costs_of(them, [places[o] for o in changed])
        gain = math.fsum([*before, *-after, self._short(self.room), -self._short(room)])
        if gain <= 0.0:
            return False
        self.room, self.places = room, places
        self.cost -= gain
        self._note(changed)
        return True

    def _in_the_way(self, job: int, target: Place) -> IntArray:
        """Return who gives way to a job: first who may pause and has room left for those slots, then who is cheaper."""
        jobs, slot = self._placer.c.problem.jobs, np.arange(self._placer.c.slots)
        wanted = np.zeros(slot.size, dtype=bool)
        wanted[target.where] = True
        wanted[target.limit_where] = True
        cheaper = jobs.unplaced_cost < jobs.unplaced_cost[job]
        rows = np.flatnonzero(
            (self._zone == target.zone) & (cheaper | jobs.pausable) & (jobs.priority <= jobs.priority[job])
        )
        overlap = self._runs_in[rows[:, None], np.flatnonzero(wanted)].sum(axis=1)
        rows, overlap = rows[overlap > 0], overlap[overlap > 0]
        free = (slot >= jobs.release[rows, None]) & (slot < jobs.deadline[rows, None]) & ~self._runs_in[rows]
        free &= self.room.gpu[target.zone] >= jobs.gpus[rows, None]
        free &= self.room.limit[target.zone] >= jobs.limit_kw[rows, None]
        moves = jobs.pausable[rows] & (free.sum(axis=1) >= overlap)
        rows, moves = rows[moves | cheaper[rows]], moves[moves | cheaper[rows]]
        slack = (jobs.latest_start[rows] - jobs.release[rows]) / jobs.duration_h[rows]
        # Few that move are enough if they are large, but not larger than what is asked for.
        size, need = jobs.gpus[rows], jobs.gpus[job]
        rough = np.where(moves, np.where(size >= need, size - need, 2.0 * need - size), 0.0)
        found: IntArray = rows[np.lexsort((-slack, ~jobs.pausable[rows], rough, ~moves))]
        return found
