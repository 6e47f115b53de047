# SPDX-License-Identifier: Apache-2.0
"""The solver on problems whose answer is known: bounds that hold, rows that bind, parts, prices and bad numbers."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from small_problems import LIGHT, answer, instance, small, still

from embellie.planning.solving.audit import violations
from embellie.planning.solving.bound import lower_bound
from embellie.planning.solving.fifo import first_come
from embellie.planning.solving.improve import Improver
from embellie.planning.solving.inputs import make_jobs, make_zones, no_prices, shifted, validated
from embellie.planning.solving.instances import random_instance
from embellie.planning.solving.options import Compiled
from embellie.planning.solving.pauses import cheapest_parts, parts_of
from embellie.planning.solving.place import Placer
from embellie.planning.solving.problem import Binding, Mode, Place, Prices, Problem, Stage
from embellie.planning.solving.room import Room
from embellie.planning.solving.solver import Effort, solve


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3])
def test_the_bound_holds_for_any_prices(scale: float) -> None:
    problem = instance(60, 3)
    rng = np.random.default_rng(1)
    zero = no_prices(problem)
    prices = replace(zero, gpu=rng.random(zero.gpu.shape) * 20 * scale, heat=rng.random(zero.heat.shape) * 40 * scale)
    assert lower_bound(problem, prices) <= answer(problem).objective


def test_slots_that_are_too_small_for_a_gang_alone_raise_the_bound() -> None:
    problem = instance(60, 3)
    prices = no_prices(problem)
    open_to_all, known = (lower_bound(problem, prices, overbooked=overbooked) for overbooked in (True, False))
    assert known >= open_to_all
    # A gang whose zone is large enough for it in no hour of its window finds no place.
    rows = np.flatnonzero(~problem.jobs.pausable)[:1]
    one = replace(problem, jobs=problem.jobs.take(rows))
    gpus = np.full_like(one.zones.gpus, one.jobs.gpus[0] - 1.0)
    gpus[:, -1] = one.jobs.gpus[0]
    late = replace(one, zones=replace(one.zones, gpus=gpus))
    assert late.jobs.latest_start[0] < late.n_slots - 1
    assert lower_bound(late, prices) == pytest.approx(late.jobs.unplaced_cost[0])
    assert lower_bound(late, prices, overbooked=True) < 0.9 * late.jobs.unplaced_cost[0]


def test_restarts_never_make_a_plan_worse_and_end_where_it_is_proved_good() -> None:
    for seed in range(3):
        problem = instance(40, seed, load=0.7)
        once, often = answer(problem), answer(problem, effort=replace(LIGHT, restarts=4))
        assert often.objective <= once.objective
        assert often.lower_bound == once.lower_bound
        assert violations(problem, often) == 0
        again = answer(problem, effort=replace(LIGHT, restarts=4))
        assert np.array_equal(again.zone, often.zone)
        assert np.array_equal(again.start, often.start)


def test_plans_that_are_made_anew_begin_with_the_work_that_found_no_place() -> None:
    gpus = np.array([1.0, 3.0, 8.0, 7.0])
    problem = small(gpus=gpus, power_kw=gpus / 2.0, duration_h=[4.0, 2.0, 2.0, 4.0], latest_start=[6, 1, 4, 5])
    assert (answer(problem).zone < 0).sum() == 1
    assert (answer(problem, effort=replace(LIGHT, restarts=1)).zone >= 0).all()


def test_of_work_that_cannot_all_have_a_place_what_its_gpu_hours_are_worth_least_for_gets_none() -> None:
    # The long run alone is worth more than each of the short ones, and less than all of them.
    problem = Problem(
        edges_h=np.arange(5.0),
        zones=make_zones(cost_per_kwh=[[1.0] * 4], gpus=[[1.0] * 4]),
        jobs=make_jobs(
            gpus=[1.0] * 5,
            power_kw=[0.5, 1.0, 1.0, 1.0, 1.0],
            duration_h=[4.0, 1.0, 1.0, 1.0, 1.0],
            unplaced_cost=[6.0, 3.0, 3.0, 3.0, 3.0],
            n_zones=1,
            n_slots=4,
            latest_start=[0, 3, 3, 3, 3],
            pausable=[False, True, True, True, True],
        ),
    )
    assert answer(problem).zone.tolist() == [-1, 0, 0, 0, 0]


def test_work_that_may_pause_makes_room_for_cheaper_work_where_it_can_run_in_other_hours() -> None:
    problem = Problem(
        edges_h=np.arange(5.0),
        zones=make_zones(cost_per_kwh=[[1.0, 1.0, 5.0, 5.0]], gpus=[[2.0] * 4]),
        jobs=make_jobs(
            gpus=[2.0, 1.0],
            power_kw=[2.0, 1.0],
            duration_h=[2.0, 1.0],
            unplaced_cost=[200.0, 50.0],
            n_zones=1,
            n_slots=4,
            latest_start=[2, 0],
            pausable=[True, False],
        ),
    )
    placer = Placer(Compiled(problem))
    room, first = Room(placer.c), np.array([0, 1])
    in_the_cleanest_hours = Place(option=0, zone=0, where=first, limit_where=first, cost=4.0)
    placer.take(room, in_the_cleanest_hours)
    improver = Improver(placer, room, [in_the_cleanest_hours, None], no_prices(problem), np.arange(2))
    improver.run(1, lambda: False)
    long, short = improver.places
    assert long is not None
    assert short is not None
    assert list(long.where) == [1, 2]
    assert short.where == slice(0, 1)
    assert improver.cost == 13.0


def test_no_jobs_and_no_capacity_are_answered() -> None:
    empty = answer(small(gpus=[]))
    assert (empty.objective, empty.lower_bound, empty.gap, empty.unplaced) == (0.0, 0.0, 0.0, 0)
    closed = make_zones(cost_per_kwh=np.full((1, 12), 400.0), gpus=np.zeros((1, 12)))
    plan = answer(small(zones=closed))
    assert plan.unplaced == 1
    assert plan.binding[0] == Binding.UNPLACED
    assert plan.gap < 1e-6
    nowhere = Problem(
        edges_h=np.arange(13.0),
        zones=make_zones(cost_per_kwh=np.zeros((0, 12)), gpus=np.zeros((0, 12))),
        jobs=make_jobs(gpus=[1.0], power_kw=1.0, duration_h=1.0, unplaced_cost=5.0, n_zones=0, n_slots=12),
    )
    assert answer(nowhere).objective == 5.0


def test_a_job_larger_than_any_zone_and_a_bound_before_the_release_are_unplaced() -> None:
    plan = answer(small(gpus=[8.0, 9.0, 8.0], release=[0, 0, 5], latest_start=[11, 11, 4]))
    assert plan.zone.tolist() == [0, -1, -1]


@pytest.mark.parametrize("value", [-300.0, 0.0, 1e9])
def test_negative_constant_and_extreme_prices_are_planned(value: float) -> None:
    rate = np.full((1, 12), value)
    plan = answer(small(zones=make_zones(cost_per_kwh=rate, gpus=np.full((1, 12), 8.0)), unplaced_cost=1e12))
    assert plan.start[0] == 0
    assert plan.objective == pytest.approx(8.0 * value)
    assert plan.lower_bound <= plan.objective


def test_work_goes_to_negative_prices() -> None:
    rate = np.full((1, 12), 50.0)
    rate[0, 9:11] = -500.0
    for pausable in (False, True):
        plan = answer(small(zones=make_zones(cost_per_kwh=rate, gpus=np.full((1, 12), 8.0)), pausable=pausable))
        assert plan.start[0] == 9
        assert plan.objective == pytest.approx(-4000.0)
        assert plan.lower_bound == pytest.approx(-4000.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("power_kw", math.nan), ("duration_h", 0.0), ("gpus", [-1.0]), ("limit_h", 1.0), ("pause_h", math.inf)],
)
def test_numbers_that_no_plan_may_rest_on_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"jobs.{field}"):
        validated(small(**{field: value}))


def test_nan_prices_and_bad_axes_are_refused_by_name() -> None:
    rate = np.full((1, 12), 400.0)
    rate[0, 3] = math.nan
    with pytest.raises(ValueError, match=r"zones.cost_per_kwh\[0, 3\]"):
        validated(small(zones=make_zones(cost_per_kwh=rate, gpus=np.ones((1, 12)))))
    with pytest.raises(ValueError, match="edges_h"):
        validated(replace(small(), edges_h=np.array([0.0, 2.0, 1.0])))
    with pytest.raises(ValueError, match="at least 0"):
        lower_bound(small(), replace(no_prices(small()), gpu=np.full((1, 12), -1.0)))


def test_the_binding_row_is_named() -> None:
    def bound_by(**rows: object) -> Binding:
        rate = np.full((1, 12), 400.0)
        rate[0, 6:8], rate[0, :3] = 100.0, 500.0
        zones = make_zones(cost_per_kwh=rate, gpus=np.full((1, 12), 16.0), **rows)  # type: ignore[arg-type]
        plan = answer(small(zones=zones, gpus=[8.0] * 3, release=1))
        return Binding(max(plan.binding))

    assert bound_by() is Binding.GPUS
    assert bound_by(heat_kw=np.full((1, 12), 4.0)) is Binding.HEAT
    assert bound_by(power_kw=np.full((1, 12), 4.0)) is Binding.POWER
    assert answer(small()).binding.tolist() == [Binding.CHEAPER]
    assert answer(small(latest_start=0)).binding.tolist() == [Binding.NONE]


def test_a_capped_mode_is_used_where_it_pays_and_meets_the_deadline() -> None:
    modes = (Mode(), Mode(power=0.6, speed=0.9))
    problem = replace(small(deadline=4, latest_start=1), modes=modes, modes_allowed=np.array([[True, True]]))
    plan = answer(problem)
    assert plan.mode.tolist() == [1]
    assert plan.objective == pytest.approx(4.0 * 0.6 / 0.9 * 2 * 400)
    tight = replace(small(deadline=2, latest_start=0), modes=modes, modes_allowed=np.array([[True, True]]))
    assert answer(tight).mode.tolist() == [0]
    assert violations(problem, plan) == 0


def test_a_dear_pause_is_not_taken_and_a_minimum_run_is_kept() -> None:
    rate = np.array([[400.0, 100.0, 300.0, 100.0, 400.0, 400.0]])
    told = {"zones": make_zones(cost_per_kwh=rate, gpus=np.full((1, 6), 8.0)), "pausable": True, "n_slots": 6}
    assert answer(small(**told)).part_start.tolist() == [1, 3]
    dear = answer(small(pause_h=5.0, **told))
    assert dear.part_job.size == 1
    assert dear.objective == pytest.approx(4.0 * 400.0)
    assert dear.lower_bound <= dear.objective
    assert answer(small(min_run_h=2.0, **told)).part_job.size == 1


@pytest.mark.parametrize("pause_h", [0.0, 0.5])
def test_work_that_fits_into_its_first_slot_never_pays_for_less_than_nothing_of_the_last(pause_h: float) -> None:
    """The cheapest slot is short and comes last: with the dearer one before it, it is not needed at all."""
    zones = make_zones(cost_per_kwh=np.array([[200.0, 100.0]]), gpus=np.full((1, 2), 8.0))
    plan = answer(
        replace(
            small(zones=zones, pausable=True, n_slots=2, duration_h=0.5, limit_h=0.5, pause_h=pause_h),
            edges_h=np.array([0.0, 1.0, 1.25]),
        )
    )
    assert plan.part_end.tolist() == [1]
    assert plan.objective == pytest.approx(4.0 * 0.5 * 200.0)
    assert plan.lower_bound <= plan.objective


def test_parts_are_runs_of_slots_and_where_all_slots_are_closed_there_are_none() -> None:
    assert parts_of(np.array([0, 1, 4])) == [(0, 2), (4, 5)]
    closed = np.zeros((1, 4), dtype=bool)
    assert cheapest_parts(np.ones((1, 4)), closed, np.ones((1, 4)), np.ones(4), 2.0, 0.0) is None


def test_of_slots_of_different_lengths_those_are_chosen_whose_hours_are_cheapest() -> None:
    hours, rate = np.array([1.0, 4.0, 4.0, 4.0]), np.array([2.0, 1.0, 7.0, 1.0])
    found = cheapest_parts((rate * hours)[None], np.ones((1, 4), dtype=bool), np.zeros((1, 4)), hours, 7.0, 0.0)
    assert found is not None
    assert (found[0], found[2].tolist()) == (pytest.approx(7.0), [1, 3])


def test_coarse_slots_pay_for_their_own_hours_only() -> None:
    edges = np.array([0.0, 0.5, 1.0, 2.0, 4.0, 8.0])
    rate = np.array([[400.0, 400.0, 400.0, 100.0, 200.0]])
    jobs = make_jobs(gpus=[4.0], power_kw=2.0, duration_h=3.0, unplaced_cost=1e6, n_zones=1, n_slots=5)
    problem = Problem(edges_h=edges, zones=make_zones(cost_per_kwh=rate, gpus=np.full((1, 5), 4.0)), jobs=jobs)
    for pausable in (False, True):
        plan = answer(replace(problem, jobs=replace(jobs, pausable=np.array([pausable]))))
        assert plan.start[0] == 3
        assert plan.objective == pytest.approx(2.0 * (2 * 100 + 200))
        assert plan.lower_bound <= plan.objective


def test_zones_on_one_contract_share_its_power() -> None:
    zones = make_zones(cost_per_kwh=np.full((2, 4), 100.0), gpus=np.full((2, 4), 8.0))
    zones = replace(zones, power_group=np.array([0, 0]), power_kw=np.full((1, 4), 6.0))
    jobs = make_jobs(gpus=[8.0] * 2, power_kw=4.0, duration_h=2.0, unplaced_cost=1e6, n_zones=2, n_slots=4)
    plan = answer(Problem(edges_h=np.arange(5.0), zones=zones, jobs=jobs))
    assert sorted(plan.start.tolist()) == [0, 2]
    assert violations(Problem(edges_h=np.arange(5.0), zones=zones, jobs=jobs), plan) == 0


def test_delay_has_a_price_and_so_has_churn() -> None:
    assert answer(small()).start.tolist() == [6]
    assert answer(small(delay_cost_per_h=1000.0)).start.tolist() == [0]
    flat = make_zones(cost_per_kwh=np.full((1, 12), 400.0), gpus=np.full((1, 12), 8.0))
    kept = answer(small(zones=flat, previous_zone=0, previous_start=5, churn_cost=10.0))
    assert kept.start.tolist() == [5]


def test_without_any_time_first_come_first_served_answers() -> None:
    ticks = itertools.count()
    problem = instance(200, 1)
    plan = solve(problem, budget_s=1e-9, clock=lambda: float(next(ticks)))
    assert plan.stage is Stage.FIFO
    assert violations(problem, plan) == 0
    assert plan.lower_bound <= plan.objective


@pytest.mark.parametrize("budget_s", [0.05, 0.2, 0.5, 1.0, 4.0])
def test_on_a_full_cluster_no_more_are_without_a_place_than_first_come_first_served_leaves_however_short_the_time(
    budget_s: float,
) -> None:
    problem = random_instance(jobs=300, zones=1, hours=24, load=1.5, future=0.9, seed=717)
    ticks = itertools.count()
    plan = solve(problem, budget_s=budget_s, clock=lambda: next(ticks) * 0.001, effort=Effort(restarts=4))
    assert plan.unplaced <= sum(place is None for place in first_come(Placer(Compiled(problem)))[1])
    assert violations(problem, plan) == 0
    assert plan.seconds <= 1.1 * budget_s


def test_the_same_problem_gives_the_same_plan_and_warm_prices_change_little() -> None:
    problem = instance(150, 2)
    one, two = answer(problem), answer(problem)
    assert np.array_equal(one.start, two.start)
    assert one.objective == two.objective
    warm = answer(problem, warm=one.prices, effort=Effort(iterations=5, rounds=2))
    assert warm.objective <= 1.05 * one.objective
    assert answer(problem, warm=no_prices(small())).objective == one.objective


def test_prices_move_with_the_hour() -> None:
    none = np.zeros((0, 4))
    prices = Prices(gpu=np.arange(4.0)[None], power=none, heat=none, wanted=none)
    moved = shifted(prices, np.arange(5.0), np.arange(5.0), 1.0)
    assert moved.gpu.tolist() == [[1.0, 2.0, 3.0, 0.0]]


def test_work_that_is_only_expected_makes_hours_dear_and_gets_no_place() -> None:
    problem = instance(80, 2)
    sought = np.arange(80) < 40
    quick = Effort(first_iterations=30, improve=False, prove=False)
    all_of_it, part = (
        solve(problem, budget_s=math.inf, clock=still, effort=quick, sought=rows) for rows in (None, sought)
    )
    assert (part.zone[~sought] == -1).all()
    assert (part.zone[sought] >= 0).any()
    assert np.array_equal(part.prices.gpu, all_of_it.prices.gpu)
    assert np.array_equal(part.prices.heat, all_of_it.prices.heat)


@pytest.mark.parametrize("more", [{"improve": False}, {"prove": False}])
def test_a_plan_for_some_jobs_only_is_neither_improved_nor_proved(more: dict[str, bool]) -> None:
    with pytest.raises(ValueError, match="sought"):
        solve(instance(5, 0), budget_s=1.0, clock=still, effort=Effort(**more), sought=np.ones(5, dtype=bool))
