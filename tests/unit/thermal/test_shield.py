# SPDX-License-Identifier: Apache-2.0
"""The shield on single zones: what holds before the bound, and what alone may hold after it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pytest
from snapshots import grid_zone_at, thermal_zone_state, workload_at

from embellie.domain.heat import HeatOutlook
from embellie.domain.plan import Action, Decision, Plan
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import (
    Cell,
    GridZoneState,
    Quality,
    Reading,
    RunningGang,
    Snapshot,
    ThermalZoneState,
    Workload,
)
from embellie.planning import plan
from embellie.thermal import Rises, shield
from embellie.thermal.shield import ramp_debt_kw

NOW = datetime(2026, 7, 1, 13, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)


def reading(value: float | None, quality: Quality = Quality.FRESH) -> Reading:
    return Reading(value=value, age_s=5.0, quality=quality)


workload = partial(workload_at, NOW, created_at=NOW - HOUR, minimum_saving_percent=0.0)


def hall(**changes: object) -> ThermalZoneState:
    base = thermal_zone_state(
        rise_k_per_kw=0.1, supply=reading(20.0), supply_worst_c=27.0, inlet=reading(22.0), base_power_kw=20.0
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def west(**changes: object) -> GridZoneState:
    base = GridZoneState(
        name="west", contracted_power_kw=None, base_power_kw=20.0, measured_power_kw=None, forecast=None
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def snapshot(*workloads: Workload, **changes: object) -> Snapshot:
    base = Snapshot(
        now=NOW,
        turn_s=60.0,
        workloads=workloads,
        cells=(
            Cell(name="west", grid_zone="west", thermal_zone="hall", gpus_total=80, node_free_gpus=(8,) * 10, pue=1.0),
        ),
        grid_zones=(west(),),
        thermal_zones=(hall(),),
        running=(),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def released(w: Workload, cell: str | None = "west", reason: Reason = Reason.BEST_NOW) -> Decision:
    return Decision(
        key=w.key,
        action=Action.RELEASE,
        reason=reason,
        message="Starts.",
        cell=cell,
        start=NOW,
        likely_start_p90=NOW,
        latest_start=w.latest_start,
        now=None,
        best=None,
    )


def shielded(snap: Snapshot, cell: str | None = "west") -> list[Decision]:
    given = Plan(decisions=tuple(released(w, cell) for w in snap.workloads), objective_g=0.0)
    return list(shield(given, snap).decisions)


def test_a_release_within_all_limits_passes_unchanged() -> None:
    snap = snapshot(workload())
    given = Plan(decisions=(released(snap.workloads[0]),), objective_g=0.0)
    assert shield(given, snap) is given


def test_worst_case_heat_over_the_steady_state_limit_holds() -> None:
    # (32 - 3 - 20) / 0.1 = 90 kW; 87 kW of base leave 3 kW.
    (decision,) = shielded(snapshot(workload(), thermal_zones=(hall(base_power_kw=87.0),)))
    assert (decision.action, decision.reason, decision.over_limit) == (Action.HOLD, Reason.HEAT_LIMIT, False)
    assert decision.start == NOW + timedelta(seconds=60)
    assert decision.likely_start_p90 == decision.latest_start


@pytest.mark.parametrize(
    ("overheats", "neighbours", "action"),
    [
        (True, ("hall",), Action.HOLD),
        (True, (), Action.RELEASE),
        (False, ("hall",), Action.RELEASE),
    ],
)
def test_a_zone_that_overheats_takes_no_heat_from_neighbours_that_it_was_not_seen_to_feel_before(
    overheats: bool, neighbours: tuple[str, ...], action: Action
) -> None:
    # Closed by a permit or an order, and not by its temperature, it says nothing about others.
    near = hall(name="near", admission_open=False, overheats=overheats, neighbours=neighbours)
    (decision,) = shielded(snapshot(workload(), thermal_zones=(hall(), near)))
    assert decision.action is action
    if action is Action.HOLD:
        assert decision.reason is Reason.HEAT_LIMIT
        assert "its heat would reach near, which has no room for it" in decision.message


def test_running_work_counts_at_its_worst_case() -> None:
    running = RunningGang(
        cell="west",
        gpus=8,
        power_kw=1.0,
        worst_power_kw=68.0,
        expected_end_p50=NOW + HOUR,
        expected_end_p90=NOW + HOUR,
        started_at=NOW - HOUR,
    )
    assert shielded(snapshot(workload(), running=(running,)))[0].reason is Reason.HEAT_LIMIT


@pytest.mark.parametrize(
    ("began_h", "ends_h", "stated", "run_h", "action"),
    [
        (-1, 1, True, 6, Action.RELEASE),  # over by the hot hours, half as long again included
        (-1, 1, False, 6, Action.HOLD),  # a guess: it may be a service
        (-1, 3, True, 6, Action.HOLD),  # over by then, but not half as long again
        (-9, -2, True, 6, Action.HOLD),  # long overdue: nobody knows for how long
        (-1, 9, True, 6, Action.HOLD),
        (-1, 9, True, 4, Action.RELEASE),  # it ends before them
    ],
)
def test_the_hot_hours_of_a_run_are_judged_with_what_still_runs_then(
    began_h: int, ends_h: int, run_h: int, action: Action, *, stated: bool
) -> None:
    removable = np.array([90.0] * 4 + [60.0] * 20)
    ahead = HeatOutlook(start=NOW, step=HOUR, removable_kw=removable, pue=np.ones(24), bound=("CoolingCapacity",) * 24)
    running = RunningGang(
        cell="west", gpus=8, power_kw=1.0, worst_power_kw=38.0, started_at=NOW + began_h * HOUR,
        expected_end_p50=NOW + ends_h * HOUR, expected_end_p90=NOW + ends_h * HOUR, length_stated=stated,
    )  # fmt: skip
    w = workload(duration_p50_s=600.0, duration_p90_s=3600.0 * run_h, worst_power_kw=5.0)
    (decision,) = shielded(snapshot(w, running=(running,), thermal_zones=(hall(outlook=ahead),)))
    assert decision.action is action
    if action is Action.HOLD:
        assert "63 kW of 60 kW of heat at the hottest hour of the run: its cooling carries no more" in decision.message


@pytest.mark.parametrize(
    ("overrun", "action"),
    [
        (1.0, Action.RELEASE),  # work like it keeps to what is said
        (1.25, Action.RELEASE),
        (1.5, Action.HOLD),
        (2.0, Action.HOLD),
    ],
)
def test_heat_counts_in_the_hot_hours_for_as_long_as_work_like_it_took(overrun: float, action: Action) -> None:
    removable = np.array([90.0] * 4 + [60.0] * 20)
    ahead = HeatOutlook(start=NOW, step=HOUR, removable_kw=removable, pue=np.ones(24))
    running = RunningGang(
        cell="west", gpus=8, power_kw=1.0, worst_power_kw=38.0, started_at=NOW - HOUR, expected_end_p50=NOW + HOUR,
        expected_end_p90=NOW + 3 * HOUR, length_stated=True, overrun=overrun,
    )  # fmt: skip
    w = workload(duration_p50_s=600.0, duration_p90_s=6 * 3600.0, worst_power_kw=5.0)
    (decision,) = shielded(snapshot(w, running=(running,), thermal_zones=(hall(outlook=ahead),)))
    assert decision.action is action


@pytest.mark.parametrize(
    ("ends_h", "stated", "cell"),
    [
        (1, True, "west"),  # over by the hot hours, half as long again included
        (3, True, "east"),  # over by then, but not half as long again
        (1, False, "east"),  # a guess: it may be a service
    ],
)
def test_the_plan_prefers_no_zone_that_the_shield_would_refuse_for_its_hot_hours(
    ends_h: int, cell: str, *, stated: bool
) -> None:
    removable = np.array([90.0] * 4 + [60.0] * 8 + [90.0] * 36)
    ahead = HeatOutlook(start=NOW, step=HOUR, removable_kw=removable, pue=np.ones(48))
    running = RunningGang(
        cell="west", gpus=8, power_kw=1.0, worst_power_kw=38.0, started_at=NOW - HOUR,
        expected_end_p50=NOW + ends_h * HOUR, expected_end_p90=NOW + ends_h * HOUR, length_stated=stated,
    )  # fmt: skip
    (free,) = snapshot().cells
    snap = snapshot(
        workload(
            duration_p50_s=6 * 3600.0, duration_p90_s=6 * 3600.0, latest_start=NOW + 3 * HOUR,
            allowed_cells=frozenset({"west", "east"}),
        ),
        cells=(free, replace(free, name="east", grid_zone="east", thermal_zone="yard")),
        grid_zones=(grid_zone_at(NOW, [100.0] * 48), grid_zone_at(NOW, [101.0] * 48, "east")),
        thermal_zones=(hall(outlook=ahead), hall(name="yard")),
        running=(running,),
    )  # fmt: skip
    (decision,) = shield(plan(snap), snap).decisions
    assert (decision.action, decision.cell) == (Action.RELEASE, cell)


def test_what_is_started_in_a_turn_counts_in_the_hours_ahead_of_the_next() -> None:
    removable = np.array([90.0] * 4 + [36.0] * 20)
    ahead = HeatOutlook(start=NOW, step=HOUR, removable_kw=removable, pue=np.ones(24))
    zone, running = hall(outlook=ahead), RunningGang(
        cell="west", gpus=8, power_kw=1.0, worst_power_kw=38.0, started_at=NOW - HOUR,
        expected_end_p50=NOW + HOUR, expected_end_p90=NOW + HOUR, length_stated=True,
    )  # fmt: skip
    rises = Rises(snapshot(running=(running,), thermal_zones=(zone,)))
    assert rises.refusal("west", 10.0, 6 * 3600.0) is None
    assert rises.refusal("west", 10.0, 6 * 3600.0) is not None
    assert rises.refusal("west", 10.0, 3 * 3600.0) is None


def test_a_cooling_capacity_holds_too() -> None:
    assert (
        shielded(snapshot(workload(), thermal_zones=(hall(cooling_capacity_kw=24.0),)))[0].reason is Reason.HEAT_LIMIT
    )


def test_an_inlet_inside_its_margin_closes_admission() -> None:
    assert shielded(snapshot(workload(), thermal_zones=(hall(inlet=reading(29.5)),)))[0].reason is Reason.HEAT_LIMIT


@pytest.mark.parametrize("quality", [Quality.STALE, Quality.ABSURD, Quality.MISSING, Quality.FROZEN])
@pytest.mark.parametrize("sensor", ["supply", "inlet"])
def test_an_untrusted_sensor_counts_as_the_worst_case_before_the_bound(quality: Quality, sensor: str) -> None:
    zone = hall(**{sensor: reading(99.0, quality)})
    assert shielded(snapshot(workload(), thermal_zones=(zone,)))[0].reason is Reason.SENSOR_UNTRUSTED


@pytest.mark.parametrize("quality", [Quality.STALE, Quality.ABSURD, Quality.MISSING, Quality.FROZEN])
def test_an_untrusted_sensor_never_holds_past_the_bound(quality: Quality) -> None:
    zone = hall(supply=reading(99.0, quality), inlet=reading(99.0, quality), base_power_kw=500.0)
    meter = west(contracted_power_kw=1.0, measured_power_kw=reading(99.0, quality))
    (decision,) = shielded(snapshot(workload(latest_start=NOW), thermal_zones=(zone,), grid_zones=(meter,)))
    assert decision.action is Action.RELEASE


def test_a_computed_worst_case_alone_never_holds_past_the_bound() -> None:
    snap = snapshot(
        workload(latest_start=NOW - HOUR),
        thermal_zones=(hall(base_power_kw=500.0, inlet=reading(31.9), start_ramp_kw_per_min=0.001),),
        grid_zones=(west(contracted_power_kw=1.0),),
    )
    assert shielded(snap)[0].action is Action.RELEASE


def test_a_fresh_inlet_at_the_hard_limit_holds_past_the_bound_loudly() -> None:
    (decision,) = shielded(snapshot(workload(latest_start=NOW - HOUR), thermal_zones=(hall(inlet=reading(32.0)),)))
    assert (decision.action, decision.reason, decision.over_limit) == (Action.HOLD, Reason.LIMIT_READING, True)
    assert "32.0 °C" in decision.message
    assert decision.start == NOW + 3 * HOUR


@pytest.mark.parametrize(("of", "word"), [("air_return", "the air returns"), ("coolant_return", "the coolant returns")])
def test_what_comes_back_too_warm_holds_like_the_inlet_and_inside_its_margin_nothing_starts(of: str, word: str) -> None:
    for celsius, bound, reason in (
        (45.0, NOW - HOUR, Reason.LIMIT_READING),
        (44.9, NOW - HOUR, None),
        (43.0, NOW + HOUR, Reason.HEAT_LIMIT),
        (41.0, NOW + HOUR, None),
    ):
        zone = replace(hall(), **{of: reading(celsius), f"{of}_limit_c": 45.0})
        (decision,) = shielded(snapshot(workload(latest_start=bound), thermal_zones=(zone,)))
        assert (decision.action is Action.HOLD) is (reason is not None)
        if reason is Reason.LIMIT_READING:
            assert f"{word} from hall at 45.0 °C of 45.0 °C" in decision.message


def test_a_fresh_meter_at_the_contract_holds_past_the_bound() -> None:
    grid = west(contracted_power_kw=100.0, measured_power_kw=reading(100.0))
    (decision,) = shielded(snapshot(workload(latest_start=NOW - HOUR), grid_zones=(grid,)))
    assert (decision.reason, decision.over_limit) == (Reason.LIMIT_READING, True)


def test_no_reading_holds_longer_than_the_longest_limit_hold() -> None:
    snap = snapshot(workload(latest_start=NOW - 4 * HOUR), thermal_zones=(hall(inlet=reading(40.0)),))
    assert shielded(snap)[0].action is Action.RELEASE


def test_past_its_bound_it_moves_to_an_allowed_cell_that_stands_under_its_limits() -> None:
    cells = (
        Cell(name="west", grid_zone="west", thermal_zone="hall", gpus_total=8, node_free_gpus=(8,)),
        Cell(name="abroad", grid_zone="abroad", thermal_zone=None, gpus_total=8, node_free_gpus=(8,)),
        Cell(name="east", grid_zone="east", thermal_zone=None, gpus_total=8, node_free_gpus=(8,)),
    )
    zones = (hall(inlet=reading(33.0)),)
    both = frozenset({"west", "east"})
    grids = (west(), west(name="east"), west(name="abroad"))
    work = workload(latest_start=NOW, allowed_cells=both)
    (decision,) = shielded(snapshot(work, cells=cells, thermal_zones=zones, grid_zones=grids))
    assert (decision.action, decision.cell) == (Action.RELEASE, "east")
    stay = workload(latest_start=NOW)
    assert (
        shielded(snapshot(stay, cells=cells, thermal_zones=zones, grid_zones=grids))[0].reason is Reason.LIMIT_READING
    )


def test_at_its_bound_it_goes_where_there_is_room_at_worst_and_stays_where_there_is_none_anywhere() -> None:
    cells = tuple(
        Cell(name=n, grid_zone=n, thermal_zone=f"{n}-hall", gpus_total=8, node_free_gpus=(8,)) for n in ("west", "east")
    )
    full, roomy = (hall(name=f"{n}-hall", cooling_capacity_kw=kw) for n, kw in (("west", 21.0), ("east", 500.0)))
    grids = (west(), west(name="east"))
    work = workload(latest_start=NOW, allowed_cells=frozenset({"west", "east"}))
    (moved,) = shielded(snapshot(work, cells=cells, thermal_zones=(full, roomy), grid_zones=grids))
    assert (moved.action, moved.cell) == (Action.RELEASE, "east")
    assert "moved to east, because in west at worst west-hall would carry" in moved.message
    as_full = replace(roomy, cooling_capacity_kw=21.0)
    (forced,) = shielded(snapshot(work, cells=cells, thermal_zones=(full, as_full), grid_zones=grids))
    assert (forced.action, forced.cell) == (Action.RELEASE, "west")


def test_contracted_power_counts_overhead_and_the_meter() -> None:
    grid = west(contracted_power_kw=26.0)
    assert shielded(snapshot(workload(), grid_zones=(grid,)))[0].action is Action.RELEASE
    metered = west(contracted_power_kw=26.0, measured_power_kw=reading(24.0))
    assert shielded(snapshot(workload(), grid_zones=(metered,)))[0].reason is Reason.CONTRACTED_POWER
    lossy = snapshot(workload(), grid_zones=(grid,))
    lossy = replace(lossy, cells=(replace(lossy.cells[0], pue=1.3),))
    assert shielded(lossy)[0].reason is Reason.CONTRACTED_POWER


def test_those_at_their_bound_come_first_and_take_the_room() -> None:
    first, bound = workload("a", created_at=NOW - 9 * HOUR), workload("b", latest_start=NOW)
    grid = west(contracted_power_kw=26.0)
    held, started = shielded(snapshot(first, bound, grid_zones=(grid,)))
    assert (held.reason, started.action) == (Reason.CONTRACTED_POWER, Action.RELEASE)


def test_starts_are_spread_along_the_ramp() -> None:
    work = [workload(f"w{i}", created_at=NOW - (9 - i) * HOUR) for i in range(4)]
    decisions = shielded(snapshot(*work, thermal_zones=(hall(start_ramp_kw_per_min=10.0),)))
    assert [d.action for d in decisions] == [Action.RELEASE, Action.RELEASE, Action.HOLD, Action.HOLD]
    assert decisions[2].reason is Reason.START_RAMP


def test_a_gang_larger_than_the_allowance_starts_alone_and_the_next_waits_for_the_ramp() -> None:
    ramp = (hall(start_ramp_kw_per_min=1.0),)
    big, small = workload("a", worst_power_kw=20.0, created_at=NOW - 2 * HOUR), workload("b", worst_power_kw=0.5)
    decisions = shielded(snapshot(big, small, thermal_zones=ramp))
    assert [d.action for d in decisions] == [Action.RELEASE, Action.HOLD]

    def after(minutes: int) -> Action:
        running = RunningGang(
            cell="west",
            gpus=8,
            power_kw=20.0,
            worst_power_kw=20.0,
            expected_end_p50=NOW + HOUR,
            expected_end_p90=NOW + HOUR,
            started_at=NOW - timedelta(minutes=minutes),
        )
        return shielded(snapshot(small, thermal_zones=ramp, running=(running,)))[0].action

    assert after(10) is Action.HOLD
    assert after(20) is Action.RELEASE


def test_the_ramps_debt_is_worked_off_at_its_rate() -> None:
    starts = [(NOW - timedelta(minutes=10), 5.0), (NOW - timedelta(minutes=2), 6.0)]
    assert ramp_debt_kw(starts, NOW, 1.0) == pytest.approx(4.0)
    assert ramp_debt_kw(starts[::-1], NOW, 1.0) == pytest.approx(4.0)
    assert ramp_debt_kw([], NOW, 1.0) == 0.0
    assert ramp_debt_kw([(NOW + HOUR, 3.0)], NOW, 1.0) == pytest.approx(3.0)


def test_what_no_policy_holds_any_more_and_what_has_no_cell_is_let_go() -> None:
    snap = snapshot(workload(), thermal_zones=(hall(base_power_kw=500.0),))
    assert shielded(snap, cell=None)[0].action is Action.RELEASE
    free = Plan(decisions=(released(snap.workloads[0], reason=Reason.NO_POLICY),), objective_g=0.0)
    assert shield(free, snap) is free


def test_shadow_releases_take_nothing_from_real_ones() -> None:
    shadow, real = workload("a", enforced=False, created_at=NOW - 9 * HOUR), workload("b")
    decisions = shielded(snapshot(shadow, real, grid_zones=(west(contracted_power_kw=26.0),)))
    assert [d.action for d in decisions] == [Action.HOLD, Action.RELEASE]
