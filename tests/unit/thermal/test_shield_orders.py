# SPDX-License-Identifier: Apache-2.0
"""The shield on orders to draw less: no start runs into one that it would break."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from snapshots import grid_zone_at, workload_at

from embellie.domain.plan import Action, Decision, Plan
from embellie.domain.power_orders import PowerOrder
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Cell, GridZoneState, Quality, Reading, RunningGang, Snapshot, Workload
from embellie.thermal import Rises, shield

NOW = datetime(2026, 7, 1, 13, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)

workload = partial(workload_at, NOW)
west = partial(grid_zone_at, NOW, None, base_power_kw=20.0)


def reading(value: float, quality: Quality = Quality.FRESH) -> Reading:
    return Reading(value=value, age_s=5.0, quality=quality)


def snapshot(*workloads: Workload, grid: GridZoneState, running: tuple[RunningGang, ...] = ()) -> Snapshot:
    cell = Cell(name="west", grid_zone="west", thermal_zone=None, gpus_total=80, node_free_gpus=(8,) * 10, pue=1.0)
    return Snapshot(
        now=NOW, turn_s=60.0, workloads=workloads, cells=(cell,), grid_zones=(grid,), thermal_zones=(), running=running
    )


def shielded(snap: Snapshot) -> list[Decision]:
    given = tuple(
        Decision(
            key=w.key, action=Action.RELEASE, reason=Reason.BEST_NOW, message="Starts.", cell="west", start=NOW,
            likely_start_p90=NOW, latest_start=w.latest_start, now=None, best=None,
        )
        for w in snap.workloads
    )  # fmt: skip
    return list(shield(Plan(decisions=given, objective_g=0.0), snap).decisions)


def order(begins_h: float, ends_h: float, kw: float) -> PowerOrder:
    return PowerOrder(begins=NOW + begins_h * HOUR, ends=NOW + ends_h * HOUR, power_kw=kw)


def run(hours: float, worst_kw: float, **changes: object) -> RunningGang:
    """Work whose user said when it is over."""
    base = RunningGang(
        cell="west", gpus=8, power_kw=worst_kw, worst_power_kw=worst_kw, started_at=NOW - HOUR, overrun=1.0,
        expected_end_p50=NOW + hours * HOUR, expected_end_p90=NOW + hours * HOUR, length_stated=True,
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("told", "action"),
    [
        (order(1.0, 3.0, 24.9), Action.HOLD),
        (order(1.0, 3.0, 25.0), Action.RELEASE),
        # It runs for two hours, and what is past or announced for later does not meet it.
        (order(2.0, 3.0, 1.0), Action.RELEASE),
        (order(-2.0, 0.0, 1.0), Action.RELEASE),
        (order(-1.0, 1.0, 24.9), Action.HOLD),
    ],
)
@pytest.mark.parametrize("contract_kw", [None, 100.0])
def test_no_start_runs_into_an_order_that_it_would_break(told: PowerOrder, action: Action, contract_kw: float | None):
    grid = west(orders=(told,), contracted_power_kw=contract_kw)
    (decision,) = shielded(snapshot(workload(), grid=grid))
    assert decision.action is action
    if action is Action.HOLD:
        assert decision.reason is Reason.CONTRACTED_POWER
        assert f"{told.ends:%H:%M} UTC" in decision.message


@pytest.mark.parametrize(
    ("running", "action"),
    [
        (run(0.5, 50.0), Action.RELEASE),
        (run(1.5, 50.0), Action.HOLD),
        # A guess, a run that is longer than it said like others of its kind, and one that is overdue.
        (run(0.5, 50.0, length_stated=False), Action.HOLD),
        (run(0.5, 50.0, overrun=2.0), Action.HOLD),
        (run(-0.1, 50.0, started_at=NOW - 5 * HOUR), Action.HOLD),
        (run(5.0, 50.0, cell="elsewhere"), Action.RELEASE),
    ],
)
def test_what_will_be_over_when_an_order_begins_takes_nothing_of_it(running: RunningGang, action: Action):
    grid = west(orders=(order(1.0, 3.0, 30.0),))
    assert shielded(snapshot(workload(), grid=grid, running=(running,)))[0].action is action


def test_what_starts_in_the_same_turn_counts_under_an_order():
    grid = west(orders=(order(1.0, 3.0, 34.0),))
    work = [workload(f"w{i}", created_at=NOW - (9 - i) * HOUR) for i in range(3)]
    decisions = shielded(snapshot(*work, grid=grid))
    assert [d.action for d in decisions] == [Action.RELEASE, Action.RELEASE, Action.HOLD]


def test_past_its_bound_only_a_fresh_meter_over_an_order_that_holds_keeps_it():
    due = workload(latest_start=NOW - HOUR)
    announced = west(orders=(order(0.5, 3.0, 1.0),), measured_power_kw=reading(22.0))
    assert shielded(snapshot(due, grid=announced))[0].action is Action.RELEASE
    unread = west(orders=(order(-0.5, 3.0, 1.0),), measured_power_kw=reading(22.0, Quality.STALE))
    assert shielded(snapshot(due, grid=unread))[0].action is Action.RELEASE
    read = west(orders=(order(-0.5, 3.0, 1.0),), measured_power_kw=reading(22.0))
    (held,) = shielded(snapshot(due, grid=read))
    assert (held.reason, held.over_limit) == (Reason.LIMIT_READING, True)
    assert f"of 1 kW that an order leaves it until {NOW + 3 * HOUR:%Y-%m-%d %H:%M} UTC" in held.message


def test_a_resume_is_judged_by_an_order_that_begins_before_it_would_be_worth_it():
    rises = Rises(snapshot(grid=west(orders=(order(0.5, 3.0, 24.0),))))
    assert rises.refusal("west", 5.0, run_s=1000.0) is None
    assert "an order leaves it from" in (rises.refusal("west", 1.0, run_s=3600.0) or "")
