# SPDX-License-Identifier: Apache-2.0
"""The planner on small clusters whose right answer can be worked out by hand."""

from datetime import UTC, datetime, timedelta

import pytest
from small_cluster import HOUR, NOW, cell, forecast, grid_zone, only, snapshot, workload

from embellie.domain.plan import Action
from embellie.domain.reasons import Reason, Rung, SignalKind
from embellie.planning import plan


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


def test_far_slots_are_coarse_and_work_still_keeps_its_bound() -> None:
    values = [400.0] * 300 + [100.0] * 30 + [400.0] * 200
    decision = only(snapshot(workload(latest_start=NOW + 400 * HOUR), grid_zones=(grid_zone(values),)))
    assert decision.action is Action.HOLD
    assert decision.best is not None
    assert decision.best.expected_g == pytest.approx(4.0 * 2 * 100)
