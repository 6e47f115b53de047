# SPDX-License-Identifier: Apache-2.0
"""What must be true of every plan of every instance, good or bad."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embellie.planning.solving.audit import violations
from embellie.planning.solving.inputs import make_jobs, make_zones
from embellie.planning.solving.problem import Problem, Solution, Zones
from embellie.planning.solving.solver import Effort, solve

LIGHT = Effort(iterations=12, rounds=2)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    slots, zones = draw(st.integers(1, 14)), draw(st.integers(1, 3))
    count = draw(st.integers(1, 12))
    edges = np.concatenate([[0.0], np.cumsum(rng.choice([0.25, 1.0, 1.0, 2.0], slots))])
    heat = draw(st.booleans())
    release = rng.integers(0, slots, count)
    pausable = rng.random(count) < 0.5
    others = draw(st.integers(0, 2))
    duration = rng.choice([0.5, 1.0, 2.0, 3.5, 6.0], count)
    return Problem(
        edges_h=edges,
        zones=with_wanted_power(
            make_zones(
                cost_per_kwh=rng.uniform(-50, 500, (zones, slots)),
                gpus=rng.integers(-2, 24, (zones, slots)).astype(float),
                heat_kw=rng.uniform(-1, 15, (zones, slots)) if heat else None,
                power_kw=rng.uniform(-1, 15, (zones, slots)) if draw(st.booleans()) else None,
                power_factor=rng.uniform(1, 1.5, zones),
                ramp_kw=rng.choice([-1.0, 0.0, 2.0, 5.0, np.inf], (zones, slots)) if draw(st.booleans()) else None,
            ),
            rng,
            draw(st.integers(0, 3)),
        ),
        jobs=make_jobs(
            gpus=rng.integers(0, 17, count),
            power_kw=rng.uniform(0.1, 6, count),
            duration_h=duration,
            limit_h=np.where(pausable, duration, duration * rng.uniform(1, 2, count)),
            unplaced_cost=rng.uniform(0, 1e4, count),
            n_zones=zones,
            n_slots=slots,
            release=release,
            latest_start=release + rng.integers(-1, 10, count),
            zones=rng.random((count, zones)) < 0.7,
            pausable=pausable,
            pause_h=rng.choice([0.0, 0.5], count),
            min_run_h=rng.choice([0.0, 2.0], count),
            delay_cost_per_h=rng.choice([0.0, 3.0], count),
            churn_cost=rng.choice([0.0, 5.0], count),
            tenant_rank=rng.choice([0.0, 0.5], count),
            weighing=rng.integers(0, 1 + others, count),
            previous_zone=rng.integers(-1, zones, count),
            previous_start=rng.integers(0, slots, count),
        ),
        weighings=rng.uniform(-50, 500, (others, zones, slots)) if others else None,
    )


def with_wanted_power(zones: Zones, rng: np.random.Generator, rows: int) -> Zones:
    """Let zones serve so many rows, several of them at once and by shares of their own."""
    count, slots = zones.gpus.shape
    return replace(
        zones,
        wanted_share=rng.choice([0.0, 1.0, 1.3], (rows, count)),
        wanted_kw=rng.choice([0.0, 1.0, 4.0, 20.0], (rows, slots)),
        wanted_cost_per_kwh=rng.choice([0.0, 50.0, 300.0, 2000.0], (rows, 1))
        * rng.choice([0.0, 0.5, 1.0], (rows, slots)),
    )


def answer(problem: Problem) -> Solution:
    return solve(problem, budget_s=math.inf, clock=lambda: 0.0, effort=LIGHT)


@given(problems())
@settings(max_examples=60, deadline=None)
def test_no_plan_breaks_a_capacity_a_window_or_a_border_and_none_undercuts_its_bound(problem: Problem) -> None:
    plan = answer(problem)
    assert violations(problem, plan) == 0
    assert plan.lower_bound <= plan.objective + 1e-6 * (1 + abs(plan.objective))
    assert plan.objective == math.fsum([*plan.cost, plan.shortfall_cost])
    assert plan.shortfall_cost == pytest.approx(shortfall(problem, plan), rel=1e-6, abs=1e-6)


def shortfall(problem: Problem, plan: Solution) -> float:
    """Recompute from the parts what wanted power that is short costs; only the last part ends inside a slot."""
    jobs, zones, hours = problem.jobs, problem.zones, np.diff(problem.edges_h)
    wanted = zones.wanted_kw.copy()
    left = jobs.duration_h.copy()
    for job, first, last in zip(plan.part_job, plan.part_start, plan.part_end, strict=True):
        for slot in range(first, last):
            used = min(left[job], hours[slot])
            left[job] -= used
            wanted[:, slot] -= zones.wanted_share[:, plan.zone[job]] * jobs.power_kw[job] * used / hours[slot]
    return float((np.maximum(wanted, 0.0) * hours * zones.wanted_cost_per_kwh).sum())


@given(problems())
@settings(max_examples=25, deadline=None)
def test_the_same_problem_gives_the_same_plan(problem: Problem) -> None:
    one, two = answer(problem), answer(problem)
    assert np.array_equal(one.zone, two.zone)
    assert np.array_equal(one.part_start, two.part_start)
    assert one.lower_bound == two.lower_bound


@given(problems())
@settings(max_examples=25, deadline=None)
def test_no_more_jobs_are_without_a_place_than_first_come_first_served_leaves(problem: Problem) -> None:
    from embellie.planning.solving.fifo import first_come
    from embellie.planning.solving.options import Compiled
    from embellie.planning.solving.place import Placer

    _, places = first_come(Placer(Compiled(problem)))
    assert answer(problem).unplaced <= sum(place is None for place in places)
