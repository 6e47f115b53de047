# SPDX-License-Identifier: Apache-2.0
"""The planner's bound and plan against HiGHS: bound <= LP <= MILP <= plan, with and without pauses and wanted power."""

import math
from dataclasses import replace

import numpy as np
import pytest
from exact import solve_exactly

from embellie.planning.solving.instances import random_instance
from embellie.planning.solving.problem import Problem, Solution
from embellie.planning.solving.solver import Effort, solve


def answer(problem: Problem) -> Solution:
    return solve(problem, budget_s=math.inf, clock=lambda: 0.0, effort=Effort(iterations=60, rounds=4))


def with_wanted(problem: Problem, seed: int) -> Problem:
    """Let two of the zones serve heat networks of their own, by night more than by day, and two share a site's sun."""
    rng, zones = np.random.default_rng(seed), problem.zones
    night = np.arange(problem.n_slots) % 24 < 8
    most = zones.gpus[:2] * 0.4 * rng.uniform(0.2, 1.0, (2, 1))
    heat, worth = most * np.where(night, 1.0, 0.4), rng.uniform(50.0, 400.0, 2)
    sun = zones.gpus[1] * np.maximum(0.0, np.sin((np.arange(problem.n_slots) - 6.0) * np.pi / 12.0))
    return replace(
        problem,
        zones=replace(
            zones,
            wanted_share=np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.2, 1.5]]),
            wanted_kw=np.stack([*heat, sun]),
            wanted_cost_per_kwh=np.stack(
                [*np.repeat(worth[:, None], problem.n_slots, axis=1), np.maximum(zones.cost_per_kwh[1] - 45.0, 0.0)]
            ),
        ),
    )


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("pausable", [0.0, 0.6, 1.0])
def test_bound_below_lp_below_milp_below_plan(seed: int, pausable: float) -> None:
    check_order(random_instance(jobs=24, zones=3, hours=24, load=0.5, future=0.3, seed=seed, pausable=pausable))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("pausable", [0.0, 0.6, 1.0])
def test_with_wanted_power_bound_lp_milp_and_plan_stand_in_the_same_order(seed: int, pausable: float) -> None:
    # Few jobs, and an end by a gap: wanted power leaves many plans that cost nearly the same.
    plain = random_instance(jobs=12, zones=3, hours=24, load=0.5, future=0.3, seed=seed, pausable=pausable)
    check_order(with_wanted(plain, seed), gap=0.001)


def check_order(problem: Problem, gap: float = 1e-6) -> None:
    """Compare with HiGHS, whose MILP ends at this gap: its own dual bound is what no integral plan undercuts."""
    plan = answer(problem)
    lp, best = solve_exactly(problem, integral=False), solve_exactly(problem, gap=gap)
    assert lp is not None
    assert best is not None
    slack = 1e-6 * best.cost
    assert plan.lower_bound <= lp.cost + slack
    assert lp.cost <= best.bound + slack
    assert best.bound <= best.cost + slack
    assert best.bound <= plan.objective + slack
    if gap <= 1e-6:
        assert best.cost <= plan.objective + slack


@pytest.mark.parametrize(("jobs", "pausable"), [(300, 0.0), (80, 0.6)])
def test_on_many_jobs_bound_lp_milp_and_plan_stand_in_this_order(jobs: int, pausable: float) -> None:
    # It ends by a gap, never by a clock.
    check_order(
        random_instance(jobs=jobs, zones=3, hours=36, load=0.4, future=0.3, seed=5, pausable=pausable), gap=0.005
    )


def test_on_300_jobs_with_pauses_the_bound_is_close_to_the_lp() -> None:
    problem = random_instance(jobs=300, zones=3, hours=36, load=0.4, future=0.3, seed=5, pausable=0.6)
    plan = answer(problem)
    lp = solve_exactly(problem, integral=False)
    assert lp is not None
    assert 0.97 * lp.cost < plan.lower_bound <= lp.cost * (1 + 1e-6)
    assert plan.gap < 0.15


def test_on_150_jobs_the_bound_with_wanted_power_is_close_to_the_lp() -> None:
    problem = with_wanted(
        random_instance(jobs=150, zones=3, hours=36, load=0.4, future=0.3, seed=5, pausable=0.6), seed=5
    )
    plan, lp = answer(problem), solve_exactly(problem, integral=False)
    assert lp is not None
    assert 0.97 * lp.cost < plan.lower_bound <= lp.cost * (1 + 1e-6)
    assert plan.gap < 0.15
