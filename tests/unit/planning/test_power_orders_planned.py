# SPDX-License-Identifier: Apache-2.0
"""An announced order to draw less: work runs before it or after it, and what waits for it is told until when."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from small_cluster import HOUR, NOW, cell, gang, grid_zone, only, snapshot, workload

from embellie.domain.plan import Action, Decision
from embellie.domain.power_orders import PowerOrder
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Quality, Reading, RunningGang
from embellie.planning import plan
from embellie.thermal import shield

AT = NOW.replace(minute=0)
FLAT = [400.0] * 48


def order(begins: datetime, ends: datetime, kw: float = 12.0) -> PowerOrder:
    return PowerOrder(begins=begins, ends=ends, power_kw=kw)


def decided(*orders: PowerOrder, contract: float | None = 100.0, running: tuple[RunningGang, ...] = (), **changes):
    # 10 kW idle and 5 kW of work: an order for 12 kW leaves it no room.
    zone = grid_zone(changes.pop("intensity", FLAT), contracted_power_kw=contract, orders=orders)
    return only(snapshot(workload(**changes), grid_zones=(zone,), running=running))


TONIGHT = order(AT + 2 * HOUR, AT + 4 * HOUR)


@pytest.mark.parametrize("contract", [100.0, None])
def test_a_run_that_would_meet_an_order_waits_until_it_ends_and_not_until_its_latest_start(contract: float | None):
    decision = decided(TONIGHT, contract=contract)
    assert (decision.action, decision.reason) == (Action.HOLD, Reason.CONTRACTED_POWER)
    assert decision.start == TONIGHT.ends < decision.latest_start
    assert "over what an order leaves it until 2026-07-01 17:00 UTC, when the order ends" in decision.message
    assert "contracted" not in decision.message


def test_an_order_that_ends_inside_a_slot_is_told_with_its_own_end():
    decision = decided(order(AT + 2 * HOUR, AT + 3.5 * HOUR))
    assert decision.start == AT + 4 * HOUR
    assert "until 2026-07-01 16:30 UTC, when the order ends" in decision.message


def test_a_run_that_is_over_before_the_order_starts_now():
    assert decided(TONIGHT, duration_p50_s=1800.0, duration_p90_s=1800.0).action is Action.RELEASE


def test_a_run_that_an_order_leaves_room_for_runs_through_it():
    assert decided(order(AT + 2 * HOUR, AT + 4 * HOUR, kw=15.0)).action is Action.RELEASE


def test_an_order_that_holds_already_is_waited_out():
    decision = decided(order(AT - HOUR, AT + HOUR))
    assert (decision.reason, decision.start) == (Reason.CONTRACTED_POWER, AT + HOUR)


@pytest.mark.parametrize("ends", [NOW, NOW - timedelta(seconds=1), AT + timedelta(minutes=5), AT - HOUR])
@pytest.mark.parametrize("contract", [100.0, 14.0, None])
def test_an_order_that_is_past_changes_nothing(ends: datetime, contract: float | None):
    intensity = [400.0] * 6 + [100.0] * 4 + [400.0] * 38
    told = {"contract": contract, "running": (gang(),), "intensity": intensity}
    assert repr(decided(order(AT - 9 * HOUR, ends), **told)) == repr(decided(**told))


def test_an_order_that_ended_earlier_in_this_hour_holds_nothing_up():
    assert decided(order(AT - 9 * HOUR, NOW)).action is Action.RELEASE


def test_of_two_orders_with_room_between_them_the_gap_is_used():
    later = order(AT + 6 * HOUR, AT + 9 * HOUR)
    assert decided(TONIGHT, later).start == AT + 4 * HOUR
    tight = order(AT + 5 * HOUR, AT + 9 * HOUR)
    assert decided(TONIGHT, tight).start == AT + 9 * HOUR


def test_a_meter_that_shows_more_than_our_sum_counts_under_an_order():
    meter = Reading(value=13.0, age_s=1.0, quality=Quality.FRESH)
    roomy = order(AT + 2 * HOUR, AT + 4 * HOUR, kw=16.0)
    zone = grid_zone(FLAT, orders=(roomy,))
    assert only(snapshot(workload(), grid_zones=(zone,))).action is Action.RELEASE
    metered = replace(zone, measured_power_kw=meter)
    assert only(snapshot(workload(), grid_zones=(metered,))).start == roomy.ends


@pytest.mark.parametrize(("stated", "action"), [(True, Action.RELEASE), (False, Action.HOLD)])
def test_running_work_is_over_by_the_order_only_where_its_user_said_how_long_it_runs(stated: bool, action: Action):
    running = gang(
        started_at=NOW - HOUR, expected_end_p50=NOW + HOUR / 4, expected_end_p90=NOW + HOUR / 4, length_stated=stated,
        overrun=1.0,
    )  # fmt: skip
    found = decided(order(AT + 2 * HOUR, AT + 4 * HOUR, kw=16.0), running=(running,))
    assert found.action is action


def at_bound(decision: Decision) -> bool:
    return decision.reason is Reason.BOUND_REACHED


def test_a_latest_start_inside_an_order_is_kept():
    zone = grid_zone(FLAT, orders=(order(AT - HOUR, AT + 9 * HOUR),))
    snap = snapshot(workload(latest_start=NOW), grid_zones=(zone,))
    (decision,) = shield(plan(snap), snap).decisions
    assert decision.action is Action.RELEASE
    assert at_bound(decision)


def test_an_order_for_one_zone_leaves_the_other_open():
    zones = (grid_zone(FLAT, orders=(TONIGHT,)), grid_zone(FLAT, "east"))
    work = workload(allowed_cells=frozenset({"west", "east"}))
    decision = only(snapshot(work, cells=(cell(), cell("east")), grid_zones=zones))
    assert (decision.action, decision.cell) == (Action.RELEASE, "east")
