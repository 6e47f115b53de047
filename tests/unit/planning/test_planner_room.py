# SPDX-License-Identifier: Apache-2.0
"""What GPUs, contracted power, heat and other work leave of an hour, worked out by hand on small clusters."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from small_cluster import HOUR, NOW, cell, forecast, gang, grid_zone, only, snapshot, thermal_zone, workload

from embellie.domain.plan import Action
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Quality, Reading
from embellie.planning import plan


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
