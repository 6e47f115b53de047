# SPDX-License-Identifier: Apache-2.0
"""The planner: prices, a price-guided first plan, improvement, and a proof of how good it is.

It always has an answer: improvement, else the greedy plan at the prices so far, else first come first served. Time is
told by a clock that is passed in; work is also bounded by counts (`Effort`), so that where the time suffices the same
problem always gives the same plan.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.planning.solving.binding import binding_rows
from embellie.planning.solving.bound import lower_bound
from embellie.planning.solving.dual import Lagrangian
from embellie.planning.solving.fifo import first_come
from embellie.planning.solving.improve import Improver
from embellie.planning.solving.inputs import fitting, no_prices, validated
from embellie.planning.solving.options import Compiled
from embellie.planning.solving.passes import build, sweep
from embellie.planning.solving.place import Placer
from embellie.planning.solving.problem import Binding, BoolArray, IntArray, Place, Prices, Problem, Solution, Stage
from embellie.planning.solving.room import Room
from embellie.planning.solving.search import Search
from embellie.planning.solving.tally import Tally
from embellie.planning.solving.wanted import shortfall_cost

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much work at most, whatever the time."""

    first_iterations: int = 8
    """Price steps before the first plan."""
    iterations: int = 600
    """Price steps in all; less where prices are warm."""
    rounds: int = 12
    """Rounds of improvement after the last build."""
    restarts: int = 0
    """Plans made anew in other orders after that, who got no place before going first."""
    near_enough: float = 0.005
    """A plan this near to its bound, as a part of it, is not made anew."""
    improve: bool = True
    """False: the first plan and its bound only."""
    prove: bool = True
    """False: `binding` is not worked out, the bound is not proved (minus infinity), and jobs without a place are left
    to the caller."""


_WARM_ITERATIONS = 40
_FIRST_SHARE, _SEARCH_SHARE, _BUILD_SHARE = 0.15, 0.50, 0.65
_GIANT = 8.0
"""A gang that takes one part in so many of its largest zone goes before smaller ones."""
_MEASURED = 3
"""So many steps tell how many the time allows."""
_NOISE = (0.0, 0.02, 0.1, 0.3)
"""How far a restart shuffles the order, as a part of all jobs."""
_GIVEN_UP = (1.0, 0.5)
"""What part of the GPU-hours that go without a place is chosen anew, until a plan is better: large gangs that make room
for others leave some of it empty."""
_EACH_LEAST, _EACH_MOST, _TRIES = 1.0, 1e4, 6
"""What each job without a place may cost beside its own, from [gCO2] and up to times the dearest; plans to find it."""
_CHECK = 0.6
"""The check against first come first served takes about this part of a first plan."""
_REASONS = 0.6
"""Working out reasons takes about this part of a first plan."""


def solve(
    problem: Problem,
    *,
    budget_s: float,
    clock: Clock,
    warm: Prices | None = None,
    effort: Effort | None = None,
    sought: BoolArray | None = None,
) -> Solution:
    """Return a plan with a proved lower bound within `budget_s` of the clock's time.

    Args:
        problem: What to plan. Raises ValueError, naming the field, where it is malformed.
        budget_s: Seconds to use at most; infinite leaves it to `effort`.
        clock: Returns seconds, e.g. `time.monotonic`.
        warm: Prices of the last turn on this problem's axis (`inputs.shifted`); what does not fit is ignored.
        effort: Bounds by counts.
        sought: Which jobs get places; the others only take part in the prices, and count as without a place. None: all.
            Raises ValueError where `effort` improves or proves: both are about all jobs.
    """
    effort = effort or Effort()
    if sought is not None and (effort.improve or effort.prove):
        raise ValueError("sought needs an effort that neither improves nor proves")
    if not validated(problem).jobs.count or not problem.n_zones:
        return _nothing(problem)
    return _Run(problem, budget_s, clock, warm, effort).run(sought)


def _nothing(problem: Problem) -> Solution:
    """Return the plan where there is nothing to place, or no zone to place it in."""
    count = problem.jobs.count
    none, blank = np.full(count, -1, dtype=np.int64), np.zeros(0, dtype=np.int64)
    short = shortfall_cost(problem, problem.zones.wanted_kw)
    cost = math.fsum([*problem.jobs.unplaced_cost, short])
    return Solution(
        zone=none,
        start=none,
        mode=np.zeros(count, dtype=np.int64),
        part_job=blank,
        part_start=blank,
        part_end=blank,
        cost=problem.jobs.unplaced_cost,
        binding=np.full(count, Binding.UNPLACED, dtype=np.int64),
        prices=no_prices(problem),
        shortfall_cost=short,
        objective=cost,
        lower_bound=cost,
        stage=Stage.GREEDY,
        first_seconds=0.0,
        first_objective=cost,
        seconds=0.0,
        iterations=0,
        restarts=0,
    )


class _Run:
    def __init__(self, problem: Problem, budget_s: float, clock: Clock, warm: Prices | None, effort: Effort) -> None:
        self._began, self._clock, self._budget = clock(), clock, budget_s
        self._problem, self._effort = problem, effort
        self._warm = fitting(warm, problem)
        self._c = Compiled(problem)
        self._placer = Placer(self._c)
        self._best: list[Place | None] = [None] * problem.jobs.count
        self._best_cost = math.inf
        self._best_room: Room | None = None
        self._stage = Stage.FIFO
        self._reserve_s = 0.0
        self._restarts = 0
        self._orders = _orders(self._c)
        self._order = self._orders[0]
        self._given_up = np.zeros(problem.jobs.count, dtype=bool)
        self._gpu_h = np.maximum(problem.jobs.gpus, 1.0) * problem.jobs.duration_h

    def _spent(self) -> float:
        return self._clock() - self._began

    def _until(self, share: float) -> Callable[[], bool]:
        return self._stop_at(share * self._budget)

    def _stop_at(self, end_s: float) -> Callable[[], bool]:
        return lambda: self._spent() >= end_s

    def _before_reserve(self) -> Callable[[], bool]:
        return self._stop_at(self._budget - self._reserve_s)

    def run(self, sought: BoolArray | None) -> Solution:
        if sought is not None:
            self._order = self._order[sought[self._order]]
        effort, count = self._effort, self._problem.jobs.count
        lagrangian = Lagrangian(self._c)
        iterations = effort.iterations if effort.improve else effort.first_iterations
        if self._warm is not None:
            iterations = min(iterations, _WARM_ITERATIONS)
        search = Search(self._c, lagrangian, iterations=iterations, warm=self._warm)
        search.run(effort.first_iterations, self._until(_FIRST_SHARE))
        building = self._spent()
        self._build(search.best.prices, self._order, self._until(0.9))
        first_seconds, first_cost = self._spent(), self._best_cost
        building = first_seconds - building
        self._reserve_s = _REASONS * building
        # The yardstick first: what is left for the end is left out where time runs short.
        left_out = _unplaced(self._best)
        others = self._first_come() if effort.prove else None
        if effort.improve and count:
            began, done = self._spent(), search.done
            search.run(done + _MEASURED, self._until(_SEARCH_SHARE))
            per_step = (self._spent() - began) / max(1, search.done - done)
            room_for = (_SEARCH_SHARE * self._budget - self._spent()) / per_step if per_step > 0 else math.inf
            search.plan_for(int(min(iterations, search.done + max(0.0, room_for))))
            search.run(iterations, self._until(_SEARCH_SHARE))
        prices = search.best.prices if search.done else no_prices(self._problem)
        # The proof needs the prices only: made before the plan is improved, it cannot come too late.
        bound = lower_bound(self._problem, prices, self._c) if effort.prove else -math.inf
        if effort.improve and count:
            # What a build leaves to improvements.
            # Where the first plan left out more than the yardstick, the last will too, and others are made then.
            after = (2.0 + _TRIES) if others is not None else _CHECK
            stop = self._stop_at(self._budget - self._reserve_s - after * building)
            self._improve(prices, lagrangian, stop)
            self._restart(prices, bound, stop)
        if effort.prove and others is None and _unplaced(self._best) > left_out:
            others = self._first_come()
        if others is not None:
            self._place_as_many(*others, prices, lagrangian)
        return self._solution(prices, bound, first_seconds, first_cost, search.done)

    def _keep(self, room: Room, places: list[Place | None], stage: Stage) -> bool:
        cost = self._cost(room, places)
        better = cost < self._best_cost
        if better:
            self._best, self._best_cost, self._stage = list(places), cost, stage
            self._best_room = room.copy()
        return better

    def _cost(self, room: Room, places: list[Place | None]) -> float:
        return math.fsum([*self._placer.true_costs(places), shortfall_cost(self._problem, room.wanted)])

    def _build(self, prices: Prices, order: IntArray, stop: Callable[[], bool]) -> None:
        self._placer.set_prices(prices)
        room, places = build(self._placer, order, stop)
        if self._keep(room, places, Stage.GREEDY):
            self._order = order

    def _improve(self, prices: Prices, lagrangian: Lagrangian, stop: Callable[[], bool]) -> None:
        if stop():
            return
        for order in self._orders:
            if not self._until(_BUILD_SHARE)():
                self._build(prices, order, stop)
        self._give_up(prices, lagrangian, stop)
        if self._best_room is None or not math.isfinite(self._best_cost):
            return
        improver = Improver(self._placer, self._best_room, self._best, prices, self._order)
        improver.run(self._effort.rounds, stop, one_of_many=self._effort.restarts > 0)
        if improver.cost < self._best_cost:
            self._stage = Stage.IMPROVED
        self._best, self._best_room, self._best_cost = improver.places, improver.room, improver.cost

    def _give_up(self, prices: Prices, lagrangian: Lagrangian, stop: Callable[[], bool]) -> None:
        """Choose anew who goes without a place: whose GPU-hours gain least by one, as many as do now, or fewer."""
        gain = self._gain(prices, lagrangian)
        left = np.array([place is None for place in self._best]) & (gain > 0.0)
        if not left.any():
            return
        for part in _GIVEN_UP:
            given_up = self._last_served(gain, part * self._gpu_h[left].sum())
            if stop():
                return
            order = self._after_others(given_up)
            self._build(prices, order, stop)
            if self._order is order:
                self._given_up = given_up
                return

    def _gain(self, prices: Prices, lagrangian: Lagrangian) -> FloatArray:
        return self._problem.jobs.unplaced_cost - lagrangian.evaluate(prices).cost

    def _last_served(self, gain: FloatArray, gpu_h: float) -> BoolArray:
        """Tell who takes so many GPU-hours and gains least by them."""
        jobs = self._problem.jobs
        last = np.lexsort((gain / self._gpu_h, -jobs.tenant_rank, jobs.priority))
        given_up = np.zeros(jobs.count, dtype=bool)
        given_up[last[np.cumsum(self._gpu_h[last]) - self._gpu_h[last] < gpu_h]] = True
        return given_up

    def _after_others(self, given_up: BoolArray) -> IntArray:
        return np.lexsort((np.argsort(self._order), given_up, -self._problem.jobs.priority))

    def _restart(self, prices: Prices, bound: float, stop: Callable[[], bool]) -> None:
        """Plan anew in other orders while it pays: whether large gangs find room hangs on who goes before them."""
        trouble = np.array([place is None for place in self._best], dtype=np.float64)
        rank = np.argsort(self._order)
        for number in range(self._effort.restarts):
            if stop() or self._best_cost - bound <= self._effort.near_enough * abs(bound):
                return
            noise = np.random.default_rng(number).normal(0.0, _NOISE[number % len(_NOISE)] * rank.size, rank.size)
            order = np.lexsort((rank + noise, -trouble, self._given_up, -self._problem.jobs.priority))
            self._placer.set_prices(prices)
            room, places = build(self._placer, order, stop)
            improver = Improver(self._placer, room, places, prices, order)
            improver.run(self._effort.rounds, stop, one_of_many=self._effort.restarts > 0)
            trouble += [place is None for place in improver.places]
            self._keep(improver.room, improver.places, Stage.IMPROVED)
            self._restarts += not stop()

    def _first_come(self) -> tuple[Room, list[Place | None]] | None:
        """Return what first come first served places; None where it places no more jobs than the plan so far."""
        unplaced = _unplaced(self._best)
        if not unplaced:
            return None
        # Without any other plan this is the answer, whatever the time.
        stop = self._before_reserve() if unplaced < len(self._best) else (lambda: False)
        room, places = first_come(self._placer, stop, unplaced)
        return (room, places) if _unplaced(places) < unplaced else None

    def _place_as_many(self, room: Room, places: list[Place | None], prices: Prices, lagrangian: Lagrangian) -> None:
        """Where the other plan leaves fewer jobs without a place, take one that leaves no more than it."""
        most = _unplaced(places)
        if most >= _unplaced(self._best):
            return
        gpu_h = float(self._gpu_h[[place is None for place in self._best]].sum())
        gain, stop = self._gain(prices, lagrangian), self._before_reserve()
        self._best, self._best_cost, self._best_room = places, self._cost(room, places), room
        self._stage = Stage.FIFO
        # A price on each that goes without, the same for all, lets those go without that take the most GPU-hours.
        self._placer.set_prices(prices)
        low, high = _EACH_LEAST, max(1.0, float(np.abs(gain).max())) * _EACH_MOST
        for _ in range(_TRIES):
            each = math.sqrt(low * high)
            other, planned = build(self._placer, self._after_others(self._last_served(gain + each, gpu_h)), stop)
            if stop():
                break
            if _unplaced(planned) > most:
                low = each
            else:
                high = each
                self._keep(other, planned, Stage.GREEDY)
        if self._stage is Stage.FIFO:
            self._placer.set_prices(no_prices(self._problem), 0.0)
            sweep(self._placer, room, places, np.arange(len(places)), stop)
            self._best_cost = self._cost(room, places)

    def _solution(self, prices: Prices, bound: float, first_s: float, first_cost: float, iterations: int) -> Solution:
        count = self._problem.jobs.count
        zone, start = np.full(count, -1, dtype=np.int64), np.full(count, -1, dtype=np.int64)
        mode = np.zeros(count, dtype=np.int64)
        placed = [(job, place) for job, place in enumerate(self._best) if place is not None]
        jobs = np.array([job for job, _ in placed], dtype=np.int64)
        zone[jobs] = [place.zone for _, place in placed]
        mode[jobs] = self._c.mode[[place.option for _, place in placed]]
        table = Tally(self._c, jobs, [place for _, place in placed]).parts()
        start[table[::-1, 0]] = table[::-1, 1]
        binding = np.zeros(count, dtype=np.int64)
        if self._effort.prove:
            binding = binding_rows(self._placer, prices, self._best)
        cost = np.array(self._placer.true_costs(self._best))
        wanted = self._best_room.wanted if self._best_room is not None else self._problem.zones.wanted_kw
        short = shortfall_cost(self._problem, wanted)
        return Solution(
            zone=zone,
            start=start,
            mode=mode,
            part_job=table[:, 0],
            part_start=table[:, 1],
            part_end=table[:, 2],
            cost=cost,
            binding=binding,
            prices=prices,
            shortfall_cost=short,
            objective=math.fsum([*cost, short]),
            lower_bound=bound,
            stage=self._stage,
            first_seconds=first_s,
            first_objective=first_cost,
            seconds=self._spent(),
            iterations=iterations,
            restarts=self._restarts,
        )


def _unplaced(places: list[Place | None]) -> int:
    return sum(place is None for place in places)


def _orders(c: Compiled) -> list[IntArray]:
    """Return orders in which places are given, the best in general first.

    By priority, then gangs that take a large part of a zone, then tenants that got less, what cannot pause, and the
    least slack for its length; big gangs count as tighter in the second. Of equals the first come is the first served.
    """
    jobs = c.problem.jobs
    latest = np.clip(jobs.latest_start, 0, c.slots - 1)
    slack_h = c.edges[latest] - c.edges[np.clip(jobs.release, 0, c.slots - 1)]
    tightness = slack_h / np.maximum(jobs.duration_h, c.hours.min())
    keys = (
        (tightness, jobs.pausable),
        ((slack_h + 6.0) / jobs.duration_h / np.sqrt(np.maximum(jobs.gpus, 1.0)), jobs.pausable),
        (slack_h, -jobs.duration_h, jobs.pausable),
    )
    largest = np.where(jobs.zones, c.problem.zones.gpus.max(axis=1, initial=0.0)[None, :], 0.0).max(axis=1, initial=0.0)
    giant = -np.floor(_GIANT * jobs.gpus / np.maximum(largest, 1.0))
    return [np.lexsort((*key, jobs.tenant_rank, giant, -jobs.priority)) for key in keys]
