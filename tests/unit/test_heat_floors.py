# SPDX-License-Identifier: Apache-2.0
"""A heat floor is worth what the network burns without it: the solver weighs that, and the certificate carries it."""

import math
from dataclasses import replace

import numpy as np
import pytest

from embellie.planning.audit import violations
from embellie.planning.bound import lower_bound
from embellie.planning.certificate import certificate_to_dict, instance_from_dict, instance_to_dict
from embellie.planning.inputs import fitting, make_jobs, make_zones, no_prices, validated
from embellie.planning.instances import random_instance
from embellie.planning.problem import Binding, Problem, Solution
from embellie.planning.solver import Effort, solve

SLOTS = 24
NIGHT = slice(16, 24)


def problem(
    *,
    jobs: int = 1,
    floor_kw: float = 8.0,
    worth: float = 200.0,
    power_kw: float = 4.0,
    pausable: bool = False,
    **others: object,
) -> Problem:
    """Return equal jobs of four hours: the day is a little cleaner, the last eight hours need heat."""
    rate = np.full((1, SLOTS), 100.0)
    rate[0, NIGHT] = 150.0
    floor = np.zeros((1, SLOTS))
    floor[0, NIGHT] = floor_kw
    return Problem(
        edges_h=np.arange(SLOTS + 1.0),
        zones=make_zones(
            cost_per_kwh=rate, gpus=np.full((1, SLOTS), 64.0), floor_kw=floor, floor_cost_per_kwh=np.full(1, worth)
        ),
        jobs=make_jobs(
            gpus=[8.0] * jobs,
            power_kw=power_kw,
            duration_h=4.0,
            unplaced_cost=1e6,
            n_zones=1,
            n_slots=SLOTS,
            pausable=pausable,
            **others,  # type: ignore[arg-type]
        ),
    )


def answer(asked: Problem) -> Solution:
    plan = solve(asked, budget_s=math.inf, clock=lambda: 0.0, effort=Effort(iterations=60, rounds=4))
    assert violations(asked, plan) == 0
    assert plan.lower_bound <= plan.objective * (1 + 1e-9)
    return plan


def heat_kwh(plan: Solution) -> float:
    """Return what the night gets, of gangs of 4 kW."""
    night = range(NIGHT.start, NIGHT.stop)
    return 4.0 * sum(
        sum(slot in night for slot in range(first, last))
        for first, last in zip(plan.part_start, plan.part_end, strict=True)
    )


@pytest.mark.parametrize("pausable", [False, True])
def test_a_job_goes_into_the_hours_that_need_heat_where_that_is_worth_more_than_cleaner_ones(pausable: bool) -> None:
    assert heat_kwh(answer(problem(pausable=pausable))) == 16.0
    # What the network burns instead is cleaner than what the night's grid costs more.
    assert heat_kwh(answer(problem(pausable=pausable, worth=40.0))) == 0.0
    assert heat_kwh(answer(problem(pausable=pausable, worth=0.0))) == 0.0


@pytest.mark.parametrize("pausable", [False, True])
def test_no_more_work_goes_there_than_the_floor_needs(pausable: bool) -> None:
    plan = answer(problem(jobs=8, pausable=pausable))
    assert heat_kwh(plan) == 64.0
    assert plan.shortfall_cost == 0.0
    assert plan.gap < 0.01


def test_of_a_gang_that_makes_more_heat_than_is_owed_only_what_is_owed_counts() -> None:
    # 2 of its 4 kW are owed: worth 100 a kWh of 4 kW, less than the 200 that the night costs it more.
    assert heat_kwh(answer(problem(floor_kw=2.0, worth=100.0))) == 0.0
    assert heat_kwh(answer(problem(floor_kw=2.0, worth=101.0))) == 16.0


def test_bounds_and_capacities_come_before_the_floor() -> None:
    assert heat_kwh(answer(problem(latest_start=np.array([8])))) == 0.0
    full = problem()
    gpus = np.full((1, SLOTS), 64.0)
    gpus[0, NIGHT] = 4.0
    plan = answer(replace(full, zones=replace(full.zones, gpus=gpus)))
    assert heat_kwh(plan) == 0.0
    assert plan.shortfall_cost == 8.0 * 8.0 * 200.0


def test_zones_that_serve_one_network_fill_its_floor_together() -> None:
    one = problem(jobs=4, floor_kw=4.0)
    zones = make_zones(cost_per_kwh=np.repeat(one.zones.cost_per_kwh, 2, axis=0), gpus=np.full((2, SLOTS), 64.0))
    shared = replace(
        zones,
        floor_group=np.array([0, 0]),
        floor_kw=one.zones.floor_kw,
        floor_cost_per_kwh=one.zones.floor_cost_per_kwh,
    )
    jobs = make_jobs(gpus=[8.0] * 4, power_kw=4.0, duration_h=4.0, unplaced_cost=1e6, n_zones=2, n_slots=SLOTS)
    plan = answer(Problem(edges_h=one.edges_h, zones=shared, jobs=jobs))
    assert heat_kwh(plan) == 32.0
    assert plan.shortfall_cost == 0.0


def test_the_binding_row_says_that_heat_is_why_it_runs_when_it_does() -> None:
    assert answer(problem()).binding.tolist() == [Binding.FLOOR]
    assert answer(problem(worth=0.0)).binding.tolist() == [Binding.NONE]


@pytest.mark.parametrize("pausable", [0.0, 1.0])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_bound_holds_at_any_price_of_a_floor_up_to_what_its_shortfall_costs(share: float, pausable: float) -> None:
    plain = random_instance(jobs=40, zones=3, hours=36, load=0.5, future=0.3, seed=7, pausable=pausable)
    rng = np.random.default_rng(3)
    asked = replace(
        plain,
        zones=replace(
            plain.zones,
            floor_group=np.arange(3),
            floor_kw=rng.uniform(0, 0.5, (3, 36)) * plain.zones.gpus,
            floor_cost_per_kwh=np.array([50.0, 200.0, 400.0]),
        ),
    )
    plan, zero = answer(asked), no_prices(asked)
    most = asked.zones.floor_cost_per_kwh[:, None] * np.ones((3, 36))
    prices = replace(zero, floor=share * most * rng.random((3, 36)))
    assert lower_bound(asked, prices) <= plan.objective
    assert lower_bound(asked, zero) <= plan.lower_bound
    with pytest.raises(ValueError, match="prices of floors"):
        lower_bound(asked, replace(zero, floor=most * 1.01))
    with pytest.raises(ValueError, match="prices of floors"):
        lower_bound(asked, replace(zero, floor=-most))


def test_a_slot_in_which_a_run_ends_gets_its_part_of_the_heat() -> None:
    asked = problem()
    half = replace(asked, jobs=replace(asked.jobs, duration_h=np.array([3.5]), limit_h=np.array([3.5])))
    plan = answer(half)
    assert plan.shortfall_cost == pytest.approx(200.0 * (8.0 * 8.0 - 4.0 * 3.5))
    assert plan.gap < 0.01


def test_the_certificate_carries_the_floors_and_older_files_have_none() -> None:
    asked = problem()
    data = certificate_to_dict(asked, answer(asked))
    again = instance_from_dict(data["instance"])
    for name in ("floor_group", "floor_kw", "floor_cost_per_kwh"):
        assert np.array_equal(getattr(again.zones, name), getattr(asked.zones, name))
    assert np.array(data["prices"]["floor"]).max() > 0.0
    old = instance_to_dict(asked)
    for name in ("floor_group", "floor_kw", "floor_cost_per_kwh"):
        del old["zones"][name]
    assert instance_from_dict(old).zones.floor_group.tolist() == [-1]


def test_floors_that_are_no_numbers_are_refused_by_name() -> None:
    asked = problem()
    for change, words in (
        ({"floor_kw": np.full((1, SLOTS), math.nan)}, r"zones.floor_kw\[0, 0\]"),
        ({"floor_kw": np.full((1, SLOTS), -1.0)}, r"zones.floor_kw\[0, 0\]"),
        ({"floor_kw": np.full((1, SLOTS), math.inf)}, r"zones.floor_kw\[0, 0\]"),
        ({"floor_cost_per_kwh": np.array([-1.0])}, r"zones.floor_cost_per_kwh\[0\]"),
        ({"floor_group": np.array([1])}, "zones.floor_group"),
    ):
        with pytest.raises(ValueError, match=words):
            validated(replace(asked, zones=replace(asked.zones, **change)))


def test_prices_of_another_day_never_exceed_what_a_shortfall_costs_today() -> None:
    asked = problem(worth=50.0)
    warm = fitting(replace(no_prices(asked), floor=np.full((1, SLOTS), 900.0)), asked)
    assert warm is not None
    assert warm.floor.max() == 50.0
