# SPDX-License-Identifier: Apache-2.0
"""Caps go up like starts: only into room that a zone has at worst, together, and never through a limit."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from snapshots import thermal_zone_state

from embellie.domain.heat import HeatOutlook
from embellie.domain.snapshot import Cell, GridZoneState, Quality, Reading, RunningGang, Snapshot
from embellie.thermal.power import WORST_CASE_FACTOR
from embellie.thermal.raising import let_up
from embellie.thermal.relief import CAP_LEASE_S, CapOrder, HeatLoad

NOW = datetime(2026, 7, 1, 13, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
FULL_KW = 100 * WORST_CASE_FACTOR * 0.7
"""What 100 GPUs of 700 W draw at worst."""


def load(key: str = "a", cap_w: float | None = 420.0) -> HeatLoad:
    return HeatLoad(
        key=key, zone="hall", nodes=(f"{key}-0",), gpus=100, power_kw=40.0, started_at=NOW - HOUR, rated_w=700.0,
        knee_w=420.0, cap_w=cap_w, capable=True,
    )  # fmt: skip


def order(watts: float, key: str = "a") -> CapOrder:
    return CapOrder(key=key, nodes=(f"{key}-0",), watts_per_gpu=watts, expires=NOW + HOUR, reason="31 °C")


def gang(key: str = "a", hours: float = 5.0) -> RunningGang:
    end = NOW + hours * HOUR
    return RunningGang(
        cell="west", gpus=100, power_kw=40.0, worst_power_kw=FULL_KW, expected_end_p50=end, expected_end_p90=end,
        started_at=NOW - HOUR, uid=key,
    )  # fmt: skip


def room(capacity_kw: float, *gangs: RunningGang, **changes: object) -> Snapshot:
    fresh = Reading(value=20.0, age_s=5.0, quality=Quality.FRESH)
    zone = thermal_zone_state(
        rise_k_per_kw=0.0, cooling_capacity_kw=capacity_kw, base_power_kw=0.0, supply=fresh, inlet=fresh
    )
    return Snapshot(
        now=NOW,
        turn_s=60.0,
        workloads=(),
        cells=(Cell(name="west", grid_zone="west", thermal_zone="hall", gpus_total=400, node_free_gpus=()),),
        grid_zones=(
            GridZoneState(
                name="west", contracted_power_kw=None, base_power_kw=0.0, measured_power_kw=None, forecast=None
            ),
        ),
        thermal_zones=(replace(zone, **changes),),  # type: ignore[arg-type]  # any field
        running=gangs or (gang(),),
    )


def test_a_cap_goes_up_as_far_as_is_asked_where_its_zone_carries_that_at_worst_though_nothing_new_comes_in() -> None:
    asked = [order(490.0)]
    assert let_up(asked, [load()], room(1.1 * 49.0, admission_open=False)) == tuple(asked)
    assert let_up([], [load()], room(FULL_KW)) == ()


def test_where_it_does_not_the_cap_goes_up_one_step_or_stays_and_says_why() -> None:
    (step,) = let_up([], [load()], room(1.1 * 46.0))
    assert step.watts_per_gpu == pytest.approx(455.0)
    (kept,) = let_up([order(490.0)], [load()], room(1.1 * 42.0))
    assert (kept.watts_per_gpu, kept.nodes) == (420.0, ("a-0",))
    assert "would carry" in kept.reason
    assert kept.expires == NOW + timedelta(seconds=CAP_LEASE_S)


def test_a_raised_cap_has_to_fit_the_hottest_of_the_next_hours_and_not_a_day_in_which_it_can_go_down_again() -> None:
    hot = HeatOutlook(start=NOW, step=HOUR, removable_kw=np.array([500.0] * 6 + [1.0] * 18), pue=np.ones(24))
    assert let_up([], [load()], room(500.0, gang(hours=12.0), outlook=hot)) == ()
    near = replace(hot, removable_kw=np.array([500.0] * 3 + [1.0] * 21))
    assert let_up([], [load()], room(500.0, gang(hours=12.0), outlook=near))[0].watts_per_gpu == 420.0
    assert let_up([], [load()], room(500.0, gang(hours=2.0), outlook=near)) == ()
    hasty = replace(room(500.0, gang(hours=12.0), outlook=near), max_limit_hold_s=60.0)
    assert let_up([], [load()], hasty)[0].watts_per_gpu == 420.0, "how long a limit may hold says nothing of heat"


def test_caps_that_go_up_in_one_turn_count_for_each_other_and_for_those_that_stay() -> None:
    pair = [load("a"), load("b")]
    kept = let_up([], pair, room(FULL_KW + 1.1 * 46.0, gang("a"), gang("b")))
    assert [(one.key, one.watts_per_gpu) for one in kept] == [("b", pytest.approx(455.0))]


def test_what_is_lowered_or_was_never_capped_is_nobodys_rise() -> None:
    lower, new = order(420.0, "a"), order(560.0, "b")
    found = let_up([lower, new], [load("a", 490.0), load("b", None)], room(0.0, gang("a"), gang("b")))
    assert found == (lower, new)
