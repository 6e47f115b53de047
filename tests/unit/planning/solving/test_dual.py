# SPDX-License-Identifier: Apache-2.0
"""The Lagrangian that the price search climbs, against the proof of the bound and its own definition."""

import math
from dataclasses import replace

import numpy as np
import pytest

from embellie.planning.solving.bound import lower_bound
from embellie.planning.solving.dual import Lagrangian
from embellie.planning.solving.inputs import make_jobs, make_zones, no_prices, shifted
from embellie.planning.solving.instances import random_instance
from embellie.planning.solving.options import Compiled
from embellie.planning.solving.problem import Mode, Prices, Problem
from embellie.planning.solving.search import Found, Search
from embellie.planning.solving.solver import Effort, solve


def drawn(problem: Problem, seed: int, scale: float = 200.0) -> Prices:
    rng, none = np.random.default_rng(seed), no_prices(problem)
    return replace(none, gpu=scale * rng.random(none.gpu.shape), heat=scale * rng.random(none.heat.shape))


@pytest.mark.parametrize("seed", range(4))
def test_work_in_one_piece_takes_the_start_that_the_proof_takes(seed: int) -> None:
    problem = random_instance(jobs=60, zones=1 + seed, hours=36, load=0.6, future=0.4, seed=seed, pausable=0.0)
    lagrangian = Lagrangian(Compiled(problem))
    # One after the other: what is kept from step to step must not leak into the next.
    for prices in (drawn(problem, 1), no_prices(problem), drawn(problem, 2, 2000.0)):
        proved = lower_bound(problem, prices, overbooked=True)
        assert lagrangian.evaluate(prices).value == pytest.approx(proved, rel=1e-8)


@pytest.mark.parametrize("pausable", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("modes", [(Mode(),), (Mode(), Mode(power=0.6, speed=0.9))], ids=["one way", "two ways to run"])
def test_what_rows_lack_tells_how_the_value_goes_on(pausable: float, modes: tuple[Mode, ...]) -> None:
    drawn_jobs = random_instance(jobs=80, zones=3, hours=36, load=0.6, future=0.4, seed=5, pausable=pausable)
    problem = replace(drawn_jobs, modes=modes, modes_allowed=np.ones((80, len(modes)), dtype=bool))
    lagrangian = Lagrangian(Compiled(problem))
    one, other = drawn(problem, 1), drawn(problem, 2)
    for begin, end in ((one, other), (other, one)):
        here, there = lagrangian.evaluate(begin), lagrangian.evaluate(end)
        along = ((end.gpu - begin.gpu) * here.gpu_over).sum() + ((end.heat - begin.heat) * here.heat_over).sum()
        # A concave function lies below its supergradient; groups of slots of like price blur it a little.
        assert there.value <= here.value + along + 1e-3 * abs(here.value)


def test_no_job_with_a_zone_or_none_at_all_is_evaluated() -> None:
    problem = random_instance(jobs=5, zones=2, hours=24, load=0.5, future=0.0, seed=0, pausable=0.0)
    nowhere = replace(problem, jobs=replace(problem.jobs, zones=np.zeros((5, 2), dtype=bool)))
    value = Lagrangian(Compiled(nowhere)).evaluate(no_prices(nowhere)).value
    assert value == pytest.approx(problem.jobs.unplaced_cost.sum())


def test_a_dozen_steps_that_are_all_there_is_prove_nearly_as_much_as_many() -> None:
    problem = random_instance(jobs=100, zones=2, hours=48, load=0.6, future=0.3, seed=4)
    proved = [
        solve(problem, budget_s=math.inf, clock=lambda: 0.0, effort=effort).lower_bound
        for effort in (Effort(first_iterations=12, improve=False), Effort(iterations=100, rounds=1))
    ]
    assert proved[0] >= 0.985 * proved[1]


def test_where_far_more_is_wanted_than_there_is_prices_rise_to_what_room_is_worth() -> None:
    count, slots, free, no_place = 120, 24, 3.0, 5.0
    rate = 1.0 + 0.2 * np.cos(np.arange(slots) / slots * 2.0 * np.pi)
    hour_each = make_jobs(
        gpus=np.ones(count),
        power_kw=1.0,
        duration_h=1.0,
        unplaced_cost=no_place,
        n_zones=1,
        n_slots=slots,
        pausable=np.ones(count, dtype=bool),
    )
    zones = make_zones(cost_per_kwh=[rate], gpus=np.full((1, slots), free))
    compiled = Compiled(Problem(edges_h=np.arange(slots + 1.0), zones=zones, jobs=hour_each))
    search = Search(compiled, Lagrangian(compiled), iterations=100, warm=None)
    search.plan_for(100)
    search.run(100, lambda: False)
    # All hours are full, and the rest gets no place.
    best = free * rate.sum() + no_place * (count - free * slots)
    assert 0.99 * best <= search.best.value <= best


def turn(hour: int, costs: tuple[float, ...]) -> Problem:
    """Return what waits at an hour, and comes in the next day, in grids whose hours lie 5 % apart; all may pause.

    Each job is bound to one of the grids, which cost so much in the mean.
    """
    rng, slots, count = np.random.default_rng(3), 48, 500 * len(costs)
    begin = rng.integers(-12, 48, count) - hour
    some = (begin > -12) & (begin < 24)
    gpus, hours = (rng.choice(values, count)[some] for values in ([1.0, 2.0, 4.0, 8.0], [1.0, 2.0, 3.0, 6.0]))
    last = begin[some] + 12
    wave = 1.0 + 0.05 * np.cos((np.arange(slots) + hour) / 24.0 * 2.0 * np.pi)
    bound_to = rng.integers(len(costs), size=count)[some]
    return Problem(
        edges_h=np.arange(slots + 1.0),
        zones=make_zones(cost_per_kwh=np.outer(costs, wave), gpus=np.full((len(costs), slots), 150.0)),
        jobs=make_jobs(
            gpus=gpus,
            power_kw=0.5 * gpus,
            duration_h=hours,
            unplaced_cost=2000.0 * gpus * hours,
            n_zones=len(costs),
            n_slots=slots,
            zones=bound_to[:, None] == np.arange(len(costs)),
            release=np.maximum(last - 12, 0),
            latest_start=last,
            deadline=last + hours.astype(np.int64),
            pausable=np.ones(gpus.size, dtype=bool),
        ),
    )


def searched(problem: Problem, steps: int, warm: Prices | None) -> Found:
    compiled = Compiled(problem)
    search = Search(compiled, Lagrangian(compiled), iterations=steps, warm=warm)
    search.run(steps, lambda: False)
    return search.best


@pytest.mark.parametrize("costs", [(400.0,), (400.0, 20.0, 20.0)])
def test_few_steps_a_turn_settle_over_turns_where_hours_differ_little(costs: tuple[float, ...]) -> None:
    problem = turn(0, costs)
    found = searched(problem, 10, None)
    for hour in range(1, 11):
        problem = turn(hour, costs)
        found = searched(problem, 8, shifted(found.prices, problem.edges_h, problem.edges_h, 1.0))
    best = searched(problem, 60, found.prices).value
    free = Lagrangian(Compiled(problem)).evaluate(no_prices(problem)).value
    assert best - found.value < 0.3 * (best - free)
