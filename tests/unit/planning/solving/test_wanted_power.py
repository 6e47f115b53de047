# SPDX-License-Identifier: Apache-2.0
"""Power is wanted for what it spares: the solver weighs that, and the certificate carries it."""

import math
from dataclasses import replace

import numpy as np
import pytest

from embellie.planning.solving.audit import violations
from embellie.planning.solving.bound import lower_bound
from embellie.planning.solving.certificate import certificate_to_dict, instance_from_dict, instance_to_dict
from embellie.planning.solving.inputs import fitting, make_jobs, make_zones, no_prices, validated
from embellie.planning.solving.instances import random_instance
from embellie.planning.solving.problem import Binding, Problem, Solution
from embellie.planning.solving.solver import Effort, solve

SLOTS = 24
NIGHT = slice(16, 24)


def problem(
    *,
    jobs: int = 1,
    wanted_kw: float = 8.0,
    worth: float = 200.0,
    power_kw: float = 4.0,
    pausable: bool = False,
    **others: object,
) -> Problem:
    """Return equal jobs of four hours: the day is a little cleaner, the last eight hours need heat."""
    rate = np.full((1, SLOTS), 100.0)
    rate[0, NIGHT] = 150.0
    wanted = np.zeros((1, SLOTS))
    wanted[0, NIGHT] = wanted_kw
    return Problem(
        edges_h=np.arange(SLOTS + 1.0),
        zones=make_zones(
            cost_per_kwh=rate, gpus=np.full((1, SLOTS), 64.0), wanted_kw=wanted, wanted_cost_per_kwh=worth
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
def test_no_more_work_goes_there_than_is_wanted(pausable: bool) -> None:
    plan = answer(problem(jobs=8, pausable=pausable))
    assert heat_kwh(plan) == 64.0
    assert plan.shortfall_cost == 0.0
    assert plan.gap < 0.01


def test_of_a_gang_that_makes_more_heat_than_is_owed_only_what_is_owed_counts() -> None:
    # 2 of its 4 kW are owed: worth 100 a kWh of 4 kW, less than the 200 that the night costs it more.
    assert heat_kwh(answer(problem(wanted_kw=2.0, worth=100.0))) == 0.0
    assert heat_kwh(answer(problem(wanted_kw=2.0, worth=101.0))) == 16.0


def test_bounds_and_capacities_come_before_what_is_wanted() -> None:
    assert heat_kwh(answer(problem(latest_start=np.array([8])))) == 0.0
    full = problem()
    gpus = np.full((1, SLOTS), 64.0)
    gpus[0, NIGHT] = 4.0
    plan = answer(replace(full, zones=replace(full.zones, gpus=gpus)))
    assert heat_kwh(plan) == 0.0
    assert plan.shortfall_cost == 8.0 * 8.0 * 200.0


def test_zones_that_serve_one_network_give_it_its_heat_together() -> None:
    one = problem(jobs=4, wanted_kw=4.0)
    zones = make_zones(cost_per_kwh=np.repeat(one.zones.cost_per_kwh, 2, axis=0), gpus=np.full((2, SLOTS), 64.0))
    shared = replace(
        zones,
        wanted_share=np.ones((1, 2)),
        wanted_kw=one.zones.wanted_kw,
        wanted_cost_per_kwh=one.zones.wanted_cost_per_kwh,
    )
    jobs = make_jobs(gpus=[8.0] * 4, power_kw=4.0, duration_h=4.0, unplaced_cost=1e6, n_zones=2, n_slots=SLOTS)
    plan = answer(Problem(edges_h=one.edges_h, zones=shared, jobs=jobs))
    assert heat_kwh(plan) == 32.0
    assert plan.shortfall_cost == 0.0


def test_the_binding_row_says_that_heat_is_why_it_runs_when_it_does() -> None:
    assert answer(problem()).binding.tolist() == [Binding.WANTED]
    assert answer(problem(worth=0.0)).binding.tolist() == [Binding.NONE]


@pytest.mark.parametrize("pausable", [0.0, 1.0])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_bound_holds_at_any_price_of_wanted_power_up_to_what_its_shortfall_costs(
    share: float, pausable: float
) -> None:
    plain = random_instance(jobs=40, zones=3, hours=36, load=0.5, future=0.3, seed=7, pausable=pausable)
    rng = np.random.default_rng(3)
    asked = replace(
        plain,
        zones=replace(
            plain.zones,
            wanted_share=np.array([[1.0, 0.0, 0.0], [0.8, 1.2, 0.0], [0.0, 0.0, 1.0]]),
            wanted_kw=rng.uniform(0, 0.5, (3, 36)) * plain.zones.gpus,
            wanted_cost_per_kwh=np.array([[50.0], [200.0], [400.0]]) * rng.uniform(0.0, 1.0, (3, 36)),
        ),
    )
    plan, zero = answer(asked), no_prices(asked)
    most = asked.zones.wanted_cost_per_kwh
    prices = replace(zero, wanted=share * most * rng.random((3, 36)))
    assert lower_bound(asked, prices) <= plan.objective
    assert lower_bound(asked, zero) <= plan.lower_bound
    with pytest.raises(ValueError, match="prices of wanted power"):
        lower_bound(asked, replace(zero, wanted=most * 1.01))
    with pytest.raises(ValueError, match="prices of wanted power"):
        lower_bound(asked, replace(zero, wanted=-most))


def test_a_slot_in_which_a_run_ends_gets_its_part_of_the_heat() -> None:
    asked = problem()
    half = replace(asked, jobs=replace(asked.jobs, duration_h=np.array([3.5]), limit_h=np.array([3.5])))
    plan = answer(half)
    assert plan.shortfall_cost == pytest.approx(200.0 * (8.0 * 8.0 - 4.0 * 3.5))
    assert plan.gap < 0.01


WANTED = ("wanted_share", "wanted_kw", "wanted_cost_per_kwh")


def test_the_certificate_carries_what_is_wanted_and_older_files_have_none() -> None:
    asked = problem()
    data = certificate_to_dict(asked, answer(asked))
    again = instance_from_dict(data["instance"])
    for name in WANTED:
        assert np.array_equal(getattr(again.zones, name), getattr(asked.zones, name))
    assert np.array(data["prices"]["wanted"]).max() > 0.0
    old = instance_to_dict(asked)
    for name in WANTED:
        del old["zones"][name]
    assert instance_from_dict(old).zones.wanted_kw.shape == (0, SLOTS)


def test_the_heat_floors_of_older_files_are_read_as_wanted_power() -> None:
    two = make_zones(cost_per_kwh=np.full((3, SLOTS), 100.0), gpus=8.0, wanted_kw=7.0, wanted_cost_per_kwh=90.0)
    asked = replace(problem(), zones=two, jobs=make_jobs(**JOB, n_zones=3, n_slots=SLOTS))  # type: ignore[arg-type]
    old = instance_to_dict(asked)
    for name in WANTED:
        del old["zones"][name]
    old["zones"] |= {
        "floor_group": [0, -1, 1],
        "floor_kw": [[5.0] * SLOTS, [6.0] * SLOTS],
        "floor_cost_per_kwh": [90.0, 30.0],
    }
    read = instance_from_dict(old).zones
    assert read.wanted_share.tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert read.wanted_kw[:, 0].tolist() == [5.0, 6.0]
    assert np.array_equal(read.wanted_cost_per_kwh, np.repeat([[90.0], [30.0]], SLOTS, axis=1))
    for group in ([0, -1, 2], [0, -2, 1], [0, 1]):
        old["zones"]["floor_group"] = group
        with pytest.raises(ValueError, match="floor_group must name a row of floor_kw"):
            instance_from_dict(old)


def test_a_zone_serves_several_rows_at_once_each_by_its_share() -> None:
    # Eight hours are wanted twice: by a network for its heat, and by the site, whose PUE is 1.25, for its sun at noon.
    asked = problem(jobs=2, wanted_kw=4.0, worth=100.0)
    noon = np.zeros((1, SLOTS))
    noon[0, 18:22] = 10.0
    zones = replace(
        asked.zones,
        wanted_share=np.array([[1.0], [1.25]]),
        wanted_kw=np.concatenate([asked.zones.wanted_kw, noon]),
        wanted_cost_per_kwh=np.concatenate([asked.zones.wanted_cost_per_kwh, np.full((1, SLOTS), 120.0)]),
    )
    plan = answer(replace(asked, zones=zones))
    assert plan.start.tolist() == [18, 18]
    # Heat: 16 of 32 kWh are met. Sun: two gangs of 4 kW draw 10 kW of facility power, all there is.
    assert plan.shortfall_cost == pytest.approx(100.0 * 16.0)
    assert plan.gap < 0.01


def test_a_kilowatt_hour_may_be_worth_more_in_one_slot_than_in_another() -> None:
    worth = np.full((1, SLOTS), 60.0)
    worth[0, 18:22] = 90.0
    asked = problem(worth=worth, wanted_kw=4.0)  # type: ignore[arg-type]
    plan = answer(asked)
    assert plan.start.tolist() == [18]
    assert plan.binding.tolist() == [Binding.WANTED]
    assert plan.shortfall_cost == pytest.approx(60.0 * 16.0)


JOB = {"gpus": [8.0], "power_kw": 4.0, "duration_h": 4.0, "unplaced_cost": 1e6}


def test_wanted_power_that_is_no_number_is_refused_by_name() -> None:
    asked = problem()
    for change, words in (
        ({"wanted_kw": np.full((1, SLOTS), math.nan)}, r"zones.wanted_kw\[0, 0\]"),
        ({"wanted_kw": np.full((1, SLOTS), -1.0)}, r"zones.wanted_kw\[0, 0\]"),
        ({"wanted_kw": np.full((1, SLOTS), math.inf)}, r"zones.wanted_kw\[0, 0\]"),
        ({"wanted_cost_per_kwh": np.full((1, SLOTS), -1.0)}, r"zones.wanted_cost_per_kwh\[0, 0\]"),
        ({"wanted_cost_per_kwh": np.array([1.0])}, "zones.wanted_cost_per_kwh"),
        ({"wanted_share": np.full((1, 1), -1.0)}, r"zones.wanted_share\[0, 0\]"),
        ({"wanted_share": np.ones((2, 1))}, "zones.wanted_share"),
    ):
        with pytest.raises(ValueError, match=words):
            validated(replace(asked, zones=replace(asked.zones, **change)))


def test_prices_of_another_day_never_exceed_what_a_shortfall_costs_today() -> None:
    asked = problem(worth=50.0)
    warm = fitting(replace(no_prices(asked), wanted=np.full((1, SLOTS), 900.0)), asked)
    assert warm is not None
    assert warm.wanted.max() == 50.0
