# SPDX-License-Identifier: Apache-2.0
"""The planner's certificate against a checker of its own, and bad input."""

import itertools
import json
import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from embellie.cli.main import cli
from embellie.planning.audit import violations
from embellie.planning.bound import lower_bound
from embellie.planning.certificate import certificate_to_dict, instance_from_dict, instance_to_dict
from embellie.planning.improve import Improver
from embellie.planning.inputs import make_jobs, make_zones, no_prices, shifted, validated
from embellie.planning.instances import random_instance
from embellie.planning.options import Compiled
from embellie.planning.pauses import cheapest_parts, parts_of
from embellie.planning.place import Place, Placer
from embellie.planning.problem import Binding, Mode, Prices, Problem, Solution, Stage
from embellie.planning.room import Room
from embellie.planning.solver import Effort, solve

LIGHT = Effort(iterations=60, rounds=4)


def still() -> float:
    return 0.0


def answer(problem: Problem, effort: Effort = LIGHT, warm: Prices | None = None) -> Solution:
    return solve(problem, budget_s=math.inf, clock=still, effort=effort, warm=warm)


def instance(jobs: int, seed: int, hours: int = 48, load: float = 0.5, pausable: float = 0.6) -> Problem:
    return random_instance(jobs=jobs, zones=3, hours=hours, load=load, future=0.3, seed=seed, pausable=pausable)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3])
def test_the_bound_holds_for_any_prices(scale: float) -> None:
    problem = instance(60, 3)
    rng = np.random.default_rng(1)
    zero = no_prices(problem)
    prices = replace(zero, gpu=rng.random(zero.gpu.shape) * 20 * scale, heat=rng.random(zero.heat.shape) * 40 * scale)
    assert lower_bound(problem, prices) <= answer(problem).objective


def check_certificate(data: dict[str, dict[str, dict[str, list[float]]]]) -> tuple[float, float]:
    """Recompute (objective, bound) by plain loops, sharing nothing with the planner but the file."""
    plan, prices = data["plan"], data["prices"]
    jobs, zones = data["instance"]["jobs"], data["instance"]["zones"]
    slots = len(data["instance"]["edges_h"]) - 1
    n_zones, count = len(zones["gpus"]), len(jobs["gpus"])
    rate = np.array(zones["cost_per_kwh"])
    price_gpu, price_heat = np.array(prices["gpu"]), np.array(prices["heat"])
    gpus, heat = np.zeros((n_zones, slots)), np.zeros((n_zones, slots))
    owed, value = np.zeros((n_zones, slots)), np.zeros((n_zones, slots))
    price_floor = np.zeros((n_zones, slots))
    for z, group in enumerate(zones["floor_group"]):
        assert group in (-1, z)
        if group == z:
            owed[z], value[z] = zones["floor_kw"][z], zones["floor_cost_per_kwh"][z]
            price_floor[z] = prices["floor"][z]
    worth_of_floors = (price_floor * owed).sum()
    objective, worked = [], np.zeros(count)
    for j, first, last in zip(plan["part_job"], plan["part_start"], plan["part_end"], strict=True):
        z = plan["zone"][j]
        assert jobs["zones"][j][z]
        assert first >= jobs["release"][j]
        assert last <= jobs["deadline"][j]
        worked[j] += last - first
        gpus[z, first:last] += jobs["gpus"][j]
        heat[z, first:last] += jobs["limit_kw"][j]
        owed[z, first:last] -= jobs["power_kw"][j]
        objective.append(jobs["power_kw"][j] * rate[z, first:last].sum())
    assert (gpus <= np.array(zones["gpus"]) + 1e-6).all()
    assert (heat <= np.array(zones["heat_kw"]) + 1e-6).all()
    terms = []
    for j in range(count):
        length = round(jobs["duration_h"][j])
        assert worked[j] == (length if plan["zone"][j] >= 0 else 0)
        if plan["zone"][j] < 0:
            objective.append(jobs["unplaced_cost"][j])
        best = jobs["unplaced_cost"][j]
        for z in range(n_zones):
            if not jobs["zones"][j][z]:
                continue
            slot_price = jobs["power_kw"][j] * rate[z] + jobs["gpus"][j] * price_gpu[z]
            slot_price = slot_price + jobs["limit_kw"][j] * price_heat[z] - jobs["power_kw"][j] * price_floor[z]
            too_small = jobs["gpus"][j] > np.array(zones["gpus"][z]) + 1e-6
            too_small |= jobs["limit_kw"][j] > np.array(zones["heat_kw"][z]) + 1e-6
            slot_price = np.where(too_small, np.inf, slot_price)
            if jobs["pausable"][j]:
                window = slot_price[jobs["release"][j] : jobs["deadline"][j]]
                best = min(best, np.sort(window)[:length].sum())
            else:
                starts = range(jobs["release"][j], jobs["latest_start"][j] + 1)
                best = min(best, *(slot_price[s : s + length].sum() for s in starts))
        terms.append(best)
    worth = (price_gpu * np.array(zones["gpus"])).sum() + (price_heat * np.array(zones["heat_kw"])).sum()
    assert price_gpu.min() >= 0
    assert price_heat.min() >= 0
    assert price_floor.min() >= 0
    assert (price_floor <= value).all()
    objective.append((value * np.maximum(owed, 0.0)).sum())
    return math.fsum(objective), math.fsum(terms) - worth + worth_of_floors


def test_an_independent_checker_confirms_a_certificate_with_heat_floors() -> None:
    plain = instance(60, 2, hours=36)
    floors = {
        "floor_group": np.array([0, -1, 2]),
        "floor_kw": np.linspace(0.0, 0.6, 3 * 36).reshape(3, 36) * plain.zones.gpus,
        "floor_cost_per_kwh": np.array([90.0, 0.0, 350.0]),
    }
    problem = replace(plain, zones=replace(plain.zones, **floors))
    plan = answer(problem)
    objective, bound = check_certificate(json.loads(json.dumps(certificate_to_dict(problem, plan))))
    assert objective == pytest.approx(plan.objective, rel=1e-9)
    assert bound == pytest.approx(plan.lower_bound, rel=1e-6)
    assert plan.prices.floor.max() > 0.0
    assert plan.shortfall_cost > 0.0


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


def test_an_independent_checker_confirms_the_certificate(tmp_path: Path) -> None:
    out, certificate = tmp_path / "out.json", tmp_path / "certificate.json"
    told = ["plan", "bench", "--jobs", "250", "--zones", "3", "--hours", "72", "--load", "0.5", "--future", "0.2"]
    told += ["--seed", "4", "--budget", "1", "--certificate", str(certificate), "--json", str(out)]
    result = CliRunner().invoke(cli, told)
    assert result.exit_code == 0, result.output
    numbers = json.loads(out.read_text())
    objective, bound = check_certificate(json.loads(certificate.read_text()))
    assert objective == pytest.approx(numbers["objective"], rel=1e-9)
    assert bound == pytest.approx(numbers["lower_bound"], rel=1e-6)
    assert numbers["gap"] == pytest.approx((objective - bound) / bound, rel=1e-4)
    assert numbers["violations"] == 0
    assert numbers["unplaced"] <= numbers["fifo_unplaced"]
    assert {"greedy_seconds", "greedy_gap", "seconds", "peak_rss_mib"} <= numbers.keys()
    again = CliRunner().invoke(cli, ["plan", "bench", "--instance", str(certificate), "--budget", "1"])
    assert json.loads(again.output)["jobs"] == 250


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


def test_an_instance_that_cannot_be_read_says_which_field(tmp_path: Path) -> None:
    path = tmp_path / "instance.json"
    data = instance_to_dict(instance(3, 0))
    del data["jobs"]["gpus"]
    path.write_text(json.dumps(data))
    result = CliRunner().invoke(cli, ["plan", "bench", "--instance", str(path)])
    assert result.exit_code == 1
    assert "no field gpus" in result.output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no JSON", "cannot be read as JSON"),
        ("[1, 2]", "must be an instance or a certificate"),
        ('{"instance": 3}', "the instance's format is None"),
        ('{"format": "embellie-plan/1", "zones": {"gpus": 3}}', "no field"),
    ],
)
def test_a_file_that_is_no_instance_says_what_one_is(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "instance.json"
    path.write_text(text)
    result = CliRunner().invoke(cli, ["plan", "bench", "--instance", str(path)])
    assert result.exit_code == 1
    assert says in result.output


@pytest.mark.parametrize("value", [3, -1.5, "x", None, [], [[]], [None], {}, [float("nan")], [10**400]], ids=repr)
def test_a_field_of_an_instance_that_is_something_else_is_refused_or_read(value: object) -> None:
    whole = instance_to_dict(instance(3, 0))
    for part in (whole, whole["zones"], whole["jobs"]):
        for name in part:
            kept, part[name] = part[name], value
            # What is no ValueError fails the test.
            with suppress(ValueError):
                instance_from_dict(whole)
            part[name] = kept


def test_instances_survive_the_file() -> None:
    problem = instance(5, 0)
    problem = replace(problem, zones=replace(problem.zones, heat_kw=np.full_like(problem.zones.heat_kw, np.inf)))
    again = instance_from_dict(json.loads(json.dumps(instance_to_dict(problem))))
    assert np.array_equal(again.zones.heat_kw, problem.zones.heat_kw)
    assert np.array_equal(again.jobs.zones, problem.jobs.zones)
    plan = answer(problem)
    assert answer(again).objective == plan.objective
    assert certificate_to_dict(problem, plan)["plan"]["zone"] == plan.zone.tolist()


def small(**told: object) -> Problem:
    """Return one zone of 8 GPUs over 12 slots, clean from slot 6 to 8."""
    rate = np.full((1, 12), 400.0)
    rate[0, 6:8] = 100.0
    zones = told.pop("zones", make_zones(cost_per_kwh=rate, gpus=np.full((1, 12), 8.0)))
    basics = {"gpus": [8.0], "power_kw": 4.0, "duration_h": 2.0, "unplaced_cost": 1e5, "n_zones": 1, "n_slots": 12}
    jobs = make_jobs(**{**basics, **told})  # type: ignore[arg-type]
    slots = np.arange(zones.cost_per_kwh.shape[1] + 1.0)  # type: ignore[attr-defined]
    return Problem(edges_h=slots, zones=zones, jobs=jobs)  # type: ignore[arg-type]


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


def test_parts_and_their_candidates() -> None:
    assert parts_of(np.array([0, 1, 4])) == [(0, 2), (4, 5)]
    closed = np.zeros((1, 4), dtype=bool)
    assert cheapest_parts(np.ones((1, 4)), closed, np.ones((1, 4)), np.ones(4), 2.0, 0.0) is None


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
    prices = Prices(gpu=np.arange(4.0)[None], power=none, heat=none, floor=none)
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
