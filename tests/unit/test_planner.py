# SPDX-License-Identifier: Apache-2.0
"""The planner on small clusters whose right answer can be worked out by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pytest
from snapshots import forecast_at, grid_zone_at, thermal_zone_state, workload_at

from embellie.domain.plan import Action, Decision
from embellie.domain.reasons import Reason, Rung, SignalKind
from embellie.domain.snapshot import (
    Cell,
    Quality,
    Reading,
    RunningGang,
    Snapshot,
    ThermalZoneState,
    Workload,
)
from embellie.planning import plan

NOW = datetime(2026, 7, 1, 13, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)


forecast = partial(forecast_at, NOW)
workload = partial(workload_at, NOW)
grid_zone = partial(grid_zone_at, NOW)


def cell(name: str = "west", nodes: tuple[int, ...] = (8, 8), **changes: object) -> Cell:
    base = Cell(name=name, grid_zone=name, thermal_zone=None, gpus_total=8 * len(nodes), node_free_gpus=nodes, pue=1.0)
    return replace(base, **changes)  # type: ignore[arg-type]


def thermal_zone(**changes: object) -> ThermalZoneState:
    base = thermal_zone_state(
        rise_k_per_kw=0.5,
        supply=Reading(value=20.0, age_s=1.0, quality=Quality.FRESH),
        supply_worst_c=27.0,
        base_power_kw=10.0,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def gang(**changes: object) -> RunningGang:
    base = RunningGang(
        cell="west",
        gpus=8,
        power_kw=4.0,
        worst_power_kw=5.0,
        expected_end_p50=NOW + 2 * HOUR,
        expected_end_p90=NOW + 3 * HOUR,
        started_at=NOW - HOUR,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def snapshot(*workloads: Workload, **changes: object) -> Snapshot:
    base = Snapshot(
        now=NOW,
        turn_s=15.0,
        workloads=workloads,
        cells=(cell(),),
        grid_zones=(grid_zone([400.0] * 6 + [100.0] * 4 + [400.0] * 38),),
        thermal_zones=(),
        running=(),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def only(snap: Snapshot) -> Decision:
    (decision,) = plan(snap).decisions
    return decision


def test_a_workload_waits_for_the_cleanest_window_before_its_bound() -> None:
    decision = only(snapshot(workload()))
    assert (decision.action, decision.reason) == (Action.HOLD, Reason.CLEANER_WINDOW)
    assert decision.start == datetime(2026, 7, 1, 19, 0, tzinfo=UTC)
    assert decision.cell == "west"
    assert decision.now is not None
    assert decision.best is not None
    assert decision.now.expected_g == pytest.approx(4.0 * 2 * 400)
    assert decision.best.expected_g == pytest.approx(4.0 * 2 * 100)
    assert decision.best.low_g < decision.best.expected_g < decision.best.high_g
    assert decision.start <= decision.likely_start_p90 <= decision.latest_start


def test_the_message_gives_both_emissions_the_window_and_the_bound() -> None:
    text = only(snapshot(workload())).message
    for part in ("3.2 kg", "800 g", "75 % less", "2026-07-01 19:00 UTC", "2026-07-02 01:20 UTC"):
        assert part in text
    assert text.count(". ") == 0


def test_a_window_after_the_bound_is_out_of_reach() -> None:
    decision = only(snapshot(workload(latest_start=NOW + 3 * HOUR)))
    assert (decision.action, decision.reason) == (Action.RELEASE, Reason.BEST_NOW)
    assert decision.start == NOW


def test_the_partial_first_slot_and_a_fractional_duration_are_exact() -> None:
    values = [600.0, 300.0, 100.0] + [500.0] * 45
    decision = only(snapshot(workload(duration_p50_s=5400.0, latest_start=NOW), grid_zones=(grid_zone(values),)))
    # 13:20-14:00 at 600, 14:00-14:50 at 300.
    assert decision.now is not None
    assert decision.now.expected_g == pytest.approx(4.0 * (600 * 40 / 60 + 300 * 50 / 60))
    held = only(snapshot(workload(duration_p50_s=5400.0), grid_zones=(grid_zone(values),)))
    assert held.best is not None
    assert held.best.expected_g == pytest.approx(4.0 * (300 * 60 / 60 + 100 * 30 / 60))


def test_facility_overhead_counts_in_emissions() -> None:
    decision = only(snapshot(workload(), cells=(cell(pue=1.5),)))
    assert decision.now is not None
    assert decision.now.expected_g == pytest.approx(1.5 * 4.0 * 2 * 400)


def test_a_saving_below_the_policys_minimum_is_not_worth_a_wait() -> None:
    values = [400.0] * 6 + [390.0] * 4 + [400.0] * 38
    zones = (grid_zone(values),)
    decision = only(snapshot(workload(minimum_saving_percent=5.0), grid_zones=zones))
    assert (decision.action, decision.reason) == (Action.RELEASE, Reason.MINIMUM_SAVING)
    assert only(snapshot(workload(minimum_saving_percent=2.0), grid_zones=zones)).action is Action.HOLD


@pytest.mark.parametrize("ahead_s", [0.0, 14.0, 29.0])
def test_a_bound_inside_the_next_turn_releases_whatever_is_full(ahead_s: float) -> None:
    full = cell(nodes=(0, 0))
    decision = only(snapshot(workload(latest_start=NOW + timedelta(seconds=ahead_s)), cells=(full,)))
    assert (decision.action, decision.reason, decision.cell) == (Action.RELEASE, Reason.BOUND_REACHED, "west")


def test_only_a_bound_that_has_passed_is_said_to_have_come() -> None:
    near = only(snapshot(workload(latest_start=NOW + timedelta(seconds=20)), turn_s=15.0))
    passed = only(snapshot(workload(latest_start=NOW - HOUR)))
    assert near.message.endswith("is too near to wait any longer.")
    assert passed.message.endswith("has come.")


def test_a_bound_in_the_past_releases() -> None:
    assert only(snapshot(workload(latest_start=NOW - 48 * HOUR))).reason is Reason.BOUND_REACHED


def test_at_its_bound_it_goes_where_it_fits() -> None:
    snap = snapshot(
        workload(latest_start=NOW, allowed_cells=frozenset({"west", "east"})),
        cells=(cell(nodes=(0,)), cell("east")),
        grid_zones=(grid_zone([100.0] * 48), grid_zone([900.0] * 48, "east")),
    )
    assert only(snap).cell == "east"


@pytest.mark.parametrize("rung", [None, Rung.NEUTRAL])
def test_without_a_forecast_there_is_nothing_to_wait_for(rung: Rung | None) -> None:
    told = None if rung is None else forecast([400.0] * 6 + [100.0] * 42, rung=rung)
    decision = only(snapshot(workload(), grid_zones=(grid_zone(None, forecast=told),)))
    assert (decision.action, decision.reason) == (Action.RELEASE, Reason.FORECAST_UNAVAILABLE)
    assert decision.now is None
    assert decision.best is None


def test_a_forecast_that_has_run_out_counts_as_none() -> None:
    old = forecast([400.0, 100.0, 100.0], start=NOW.replace(minute=0) - 48 * HOUR)
    assert only(snapshot(workload(), grid_zones=(grid_zone(None, forecast=old),))).reason is Reason.FORECAST_UNAVAILABLE


def test_without_a_forecast_a_full_cluster_still_means_waiting_for_gpus() -> None:
    decision = only(snapshot(workload(), grid_zones=(grid_zone(None),), cells=(cell(nodes=(4, 4)),)))
    assert (decision.action, decision.reason) == (Action.HOLD, Reason.WAITING_FOR_GPUS)


def test_hours_past_the_horizon_never_count_as_a_saving() -> None:
    # The last day is clean, but a run of 48 h leaves the horizon from any start: its tail is worth nothing.
    values = [500.0] * 24 + [10.0] * 24
    decision = only(
        snapshot(workload(duration_p50_s=48 * 3600.0, latest_start=NOW + 24 * HOUR), grid_zones=(grid_zone(values),))
    )
    assert (decision.action, decision.reason) == (Action.RELEASE, Reason.BEST_NOW)
    assert decision.now is not None
    tail_h = 48 - (48 - 1 / 3)
    assert decision.now.expected_g == pytest.approx(4.0 * (500 * (23 + 2 / 3) + 10 * 24 + 10 * tail_h))


def test_a_reason_to_start_now_wins_over_a_cleaner_window() -> None:
    decision = only(snapshot(workload(start_now=Reason.INVALID_ANNOTATION.value, start_now_message="cannot read it")))
    assert (decision.action, decision.reason, decision.message) == (
        Action.RELEASE,
        Reason.INVALID_ANNOTATION,
        "cannot read it",
    )
    assert decision.cell == "west"


def test_without_an_allowed_cell_it_starts_without_a_zone() -> None:
    decision = only(snapshot(workload(allowed_cells=frozenset())))
    assert (decision.action, decision.reason, decision.cell) == (Action.RELEASE, Reason.NO_ZONE, None)


def test_at_its_bound_and_without_an_allowed_cell_it_still_starts() -> None:
    decision = only(snapshot(workload(allowed_cells=frozenset({"gone"}), latest_start=NOW)))
    assert (decision.action, decision.cell) == (Action.RELEASE, None)


def test_the_cleaner_zone_is_chosen_but_never_one_that_is_not_allowed() -> None:
    zones = (grid_zone([400.0] * 48), grid_zone([200.0] * 48, "east"), grid_zone([1.0] * 48, "abroad"))
    cells = (cell(), cell("east"), cell("abroad"))
    inside = frozenset({"west", "east"})
    assert only(snapshot(workload(allowed_cells=inside), cells=cells, grid_zones=zones)).cell == "east"


def test_two_kinds_of_signal_are_never_compared() -> None:
    marginal = grid_zone(None, "east", forecast=forecast([50.0] * 48, "east", signal_kind=SignalKind.MARGINAL))
    snap = snapshot(
        workload(allowed_cells=frozenset({"west", "east"})),
        cells=(cell(), cell("east")),
        grid_zones=(grid_zone([400.0] * 48), marginal),
    )
    assert only(snap).cell == "west"


def test_gangs_are_whole_and_need_nodes_with_enough_gpus() -> None:
    # 8 GPUs are free, but no node has 8.
    decision = only(snapshot(workload(), cells=(cell(nodes=(4, 4)),), grid_zones=(grid_zone([400.0] * 48),)))
    assert (decision.action, decision.reason) == (Action.HOLD, Reason.WAITING_FOR_GPUS)
    spread = workload(pods=2, gpus_per_pod=4)
    assert (
        only(snapshot(spread, cells=(cell(nodes=(4, 4)),), grid_zones=(grid_zone([400.0] * 48),))).action
        is Action.RELEASE
    )


def test_it_waits_until_running_work_is_expected_to_end() -> None:
    snap = snapshot(
        workload(), cells=(cell(nodes=(0,), gpus_total=8),), grid_zones=(grid_zone([400.0] * 48),), running=(gang(),)
    )
    decision = only(snap)
    assert decision.reason is Reason.WAITING_FOR_GPUS
    assert decision.start == datetime(2026, 7, 1, 16, 0, tzinfo=UTC)


def test_first_come_first_served_on_ties() -> None:
    late, early = workload("a"), workload("b", created_at=NOW - HOUR)
    plans = plan(snapshot(late, early, cells=(cell(nodes=(8,)),), grid_zones=(grid_zone([400.0] * 48),)))
    assert [d.action for d in plans.decisions] == [Action.HOLD, Action.RELEASE]


def test_the_best_window_is_taken_once_and_the_next_one_gets_the_rest() -> None:
    first, second = workload("a", created_at=NOW - HOUR), workload("b")
    plans = plan(snapshot(first, second, cells=(cell(nodes=(8,)),)))
    starts = [d.start.hour for d in plans.decisions]
    assert starts == [19, 21]


def test_contracted_power_holds_at_worst_case_power() -> None:
    zones = (grid_zone([400.0] * 48, contracted_power_kw=14.0),)
    decision = only(snapshot(workload(), grid_zones=zones))
    assert (decision.action, decision.reason) == (Action.HOLD, Reason.CONTRACTED_POWER)
    assert only(snapshot(workload(worst_power_kw=4.0), grid_zones=zones)).action is Action.RELEASE


def test_a_meter_that_shows_more_than_our_own_sum_is_believed() -> None:
    meter = Reading(value=29.0, age_s=1.0, quality=Quality.FRESH)
    zones = (grid_zone([400.0] * 48, contracted_power_kw=30.0, measured_power_kw=meter),)
    assert only(snapshot(workload(), grid_zones=zones)).reason is Reason.CONTRACTED_POWER


def test_a_hot_afternoon_during_the_run_is_planned_around() -> None:
    ambient = np.tile(np.array([10.0] * 3 + [25.0] * 3 + [10.0] * 42), (3, 1))
    told = grid_zone(None, forecast=forecast([400.0] * 48, ambient_temperature_c=ambient))
    hall = thermal_zone(ambient_grid_zone="west", rise_k_per_kw=0.2)
    snap = snapshot(
        workload(duration_p50_s=4 * 3600.0, duration_p90_s=4 * 3600.0),
        cells=(cell(thermal_zone="hall"),),
        grid_zones=(told,),
        thermal_zones=(hall,),
    )
    decision = only(snap)
    assert (decision.action, decision.reason) == (Action.HOLD, Reason.HEAT_LIMIT)
    assert decision.start == datetime(2026, 7, 1, 19, 0, tzinfo=UTC)


def test_an_untrusted_supply_counts_as_its_worst() -> None:
    stale = Reading(value=20.0, age_s=900.0, quality=Quality.STALE)
    zones = (grid_zone([400.0] * 48),)
    cells = (cell(thermal_zone="hall"),)
    held = only(snapshot(workload(), cells=cells, grid_zones=zones, thermal_zones=(thermal_zone(supply=stale),)))
    assert (held.action, held.reason) == (Action.HOLD, Reason.SENSOR_UNTRUSTED)
    fresh = only(snapshot(workload(), cells=cells, grid_zones=zones, thermal_zones=(thermal_zone(),)))
    assert fresh.action is Action.RELEASE


def test_the_oldest_beyond_the_policys_ceiling_are_released() -> None:
    work = [workload(f"w{i}", created_at=NOW - i * HOUR) for i in range(4)]
    plans = plan(snapshot(*work, max_held_gpus={"default": 20.0}, cells=(cell(nodes=(8,) * 8),)))
    assert [d.action for d in plans.decisions] == [Action.HOLD, Action.HOLD, Action.RELEASE, Action.RELEASE]
    assert plans.decisions[3].reason is Reason.HELD_FRACTION


def test_shadow_workloads_take_no_room_from_held_ones() -> None:
    shadow = workload("s", enforced=False, created_at=NOW - 5 * HOUR)
    plans = plan(snapshot(shadow, workload(), cells=(cell(nodes=(8,)),), grid_zones=(grid_zone([400.0] * 48),)))
    assert [d.action for d in plans.decisions] == [Action.HOLD, Action.RELEASE]


def test_the_order_of_the_input_changes_nothing() -> None:
    work = [
        workload(f"w{i}", created_at=NOW - (i % 3) * HOUR, duration_p50_s=1800.0 * (1 + i % 5), gpus_per_pod=1 + i % 8)
        for i in range(40)
    ]
    cells = (cell(nodes=(8, 8, 4)), cell("east", nodes=(8, 2)))
    zones = (grid_zone([400.0] * 6 + [100.0] * 42), grid_zone([300.0] * 48, "east"))
    work = [replace(w, allowed_cells=frozenset({"west", "east"})) for w in work]
    expected = {d.key: d for d in plan(snapshot(*work, cells=cells, grid_zones=zones)).decisions}
    work = work[1::2] + work[::2][::-1]
    shuffled = plan(snapshot(*work, cells=cells[::-1], grid_zones=zones[::-1]))
    assert {d.key: d for d in shuffled.decisions} == expected
    assert [d.key for d in shuffled.decisions] == [w.key for w in work]


def test_an_empty_cluster_gives_an_empty_plan() -> None:
    assert plan(snapshot()).decisions == ()
    assert only(snapshot(workload(), cells=(), grid_zones=())).reason is Reason.NO_ZONE


def test_a_workload_without_gpus_is_planned_like_any_other() -> None:
    decision = only(snapshot(workload(gpus_per_pod=0), cells=(cell(nodes=()),)))
    assert decision.reason is Reason.CLEANER_WINDOW


def test_a_forecast_in_quarters_of_an_hour_is_planned_in_quarters() -> None:
    values = [400.0] * 4 + [50.0] * 4 + [400.0] * 100
    told = forecast(values, step=timedelta(minutes=15))
    decision = only(snapshot(workload(duration_p50_s=3600.0), grid_zones=(grid_zone(None, forecast=told),)))
    assert decision.start == datetime(2026, 7, 1, 14, 0, tzinfo=UTC)


def test_a_cleaner_window_that_is_full_is_not_called_cleaner() -> None:
    # All GPUs are taken until long after the clean hours.
    busy = gang(expected_end_p50=NOW + 11 * HOUR, expected_end_p90=NOW + 11 * HOUR)
    snap = snapshot(workload(), cells=(cell(nodes=(0,), gpus_total=8),), running=(busy,))
    decision = only(snap)
    assert decision.reason is Reason.WAITING_FOR_GPUS
    assert decision.start == datetime(2026, 7, 2, 1, 0, tzinfo=UTC)


def test_heat_and_power_that_are_both_infeasible_are_both_named() -> None:
    zones = (grid_zone([400.0] * 48, contracted_power_kw=12.0),)
    hall = thermal_zone(cooling_capacity_kw=11.0)
    decision = only(snapshot(workload(), cells=(cell(thermal_zone="hall"),), grid_zones=zones, thermal_zones=(hall,)))
    assert decision.action is Action.HOLD
    assert decision.start == decision.latest_start
    for part in ("contracted power", "thermal zone over its limit"):
        assert part in decision.message


def test_work_planned_together_emits_no_more_than_first_come_first_served() -> None:
    # The early one may use both zones; if it took the clean hour of west, the other would have none.
    early = workload("a", created_at=NOW - HOUR, allowed_cells=frozenset({"west", "east"}), duration_p50_s=3600.0)
    late = workload("b", duration_p50_s=3600.0)
    early, late = replace(early, duration_p90_s=3600.0), replace(late, duration_p90_s=3600.0)
    zones = (grid_zone([400.0] * 6 + [100.0] + [400.0] * 41), grid_zone([400.0] * 6 + [120.0] + [400.0] * 41, "east"))
    plans = plan(snapshot(early, late, cells=(cell(nodes=(8,)), cell("east", nodes=(8,))), grid_zones=zones))
    assert [d.cell for d in plans.decisions] == ["east", "west"]
    assert plans.objective_g == pytest.approx(4.0 * (100 + 120))
    assert plans.lower_bound_g is not None
    assert plans.lower_bound_g <= plans.objective_g + 1e-6
    assert plans.lower_bound_g > 0.9 * plans.objective_g


def test_the_last_plans_prices_change_nothing_in_an_equal_turn_and_one_arrival_changes_little() -> None:
    work = [
        replace(
            workload(f"w{i:02d}", gpus_per_pod=1 + i % 4),
            created_at=NOW - i * timedelta(minutes=7),
            latest_start=NOW + 24 * HOUR,
        )
        for i in range(40)
    ]
    cells = (cell(nodes=(8, 8, 8)),)
    first = plan(snapshot(*work, cells=cells))
    assert first.prices is not None
    again = plan(snapshot(*work, cells=cells), first.prices)
    starts = {d.key: (d.cell, d.start) for d in first.decisions}
    assert sum(starts[d.key] != (d.cell, d.start) for d in again.decisions) <= 4
    more = plan(snapshot(*work, workload("new", created_at=NOW), cells=cells), again.prices)
    before = {d.key: (d.cell, d.start) for d in again.decisions}
    moved = sum(before[d.key] != (d.cell, d.start) for d in more.decisions if d.key in before)
    assert moved <= 8


def test_far_slots_are_coarse_and_work_still_keeps_its_bound() -> None:
    values = [400.0] * 300 + [100.0] * 30 + [400.0] * 200
    decision = only(snapshot(workload(latest_start=NOW + 400 * HOUR), grid_zones=(grid_zone(values),)))
    assert decision.action is Action.HOLD
    assert decision.best is not None
    assert decision.best.expected_g == pytest.approx(4.0 * 2 * 100)
