# SPDX-License-Identifier: Apache-2.0
"""A zone that warms faster than a start could be taken back takes nothing new, whatever its model says."""

from collections.abc import Iterable
from datetime import timedelta

import numpy as np

from embellie.domain.limits import HeatBound, HeatRoom, heat_room_now
from embellie.domain.snapshot import Quality, Reading
from embellie.thermal.controller import HeatController
from embellie.thermal.readings import Unit
from embellie.thermal.sensing import ZoneReadings
from embellie.thermal.settings import CoolingSettings, LimitSettings, Role, SensorSettings, ZoneSettings
from embellie.thermal.weather import AmbientForecast
from embellie_testbed.views import NOW

LOOP = ZoneSettings(
    name="loop",
    limits=LimitSettings(inlet_hard_c=45.0, margin_k=2.0, coolant_return_hard_c=56.0),
    cooling=CoolingSettings(capacity_kw=900.0, rise_k_per_kw=0.01, ambient_approach_k=5.0),
    sensors=tuple(
        SensorSettings(name=role.value, role=role, unit=Unit.CELSIUS)
        for role in (Role.SUPPLY, Role.COOLANT_SUPPLY, Role.COOLANT_RETURN)
    ),
)
FLAT = np.array([20.0])
OUTDOOR = {"loop": AmbientForecast(start=NOW, step=timedelta(hours=1), p50_c=FLAT, p90_c=FLAT)}


def rooms(returns_c: Iterable[float | None]) -> list[HeatRoom]:
    """Return what the loop takes at each look, half a minute apart, while all but its return stands still."""
    controller, found = HeatController([LOOP]), []
    for k, returned in enumerate(returns_c):
        by_role = {
            role: Reading(value=value, age_s=20.0, quality=Quality.FRESH if value is not None else Quality.MISSING)
            for role, value in ((Role.SUPPLY, 36.0), (Role.COOLANT_SUPPLY, 37.5), (Role.COOLANT_RETURN, returned))
        }
        controller.observe(NOW + timedelta(seconds=30 * k), {"loop": ZoneReadings(by_role=by_role)}, {"loop": 600.0})
        (state,) = controller.states(OUTDOOR)
        found.append(heat_room_now(state))
    return found


def test_a_loop_that_lost_a_pump_takes_nothing_long_before_its_return_is_near_the_limit() -> None:
    returns_c = [45.0] * 10 + [46.0, 47.0, 47.5, 48.0, 49.0, 50.0]
    found = rooms(returns_c)
    assert [room.bound for room in found[:10]] == [HeatBound.STEADY_STATE] * 10
    closed = [returned for returned, room in zip(returns_c, found, strict=True) if room.bound is HeatBound.BARRIER]
    assert min(closed) <= 47.5
    assert all(room.limit_kw == 0.0 for room in found if room.bound is HeatBound.BARRIER)
    assert found[-1].bound is HeatBound.BARRIER


def test_it_takes_work_again_once_the_rise_is_over() -> None:
    found = rooms([45.0, 46.0, 47.0, 48.0, 49.0, 50.0] + [50.5, 50.0] * 10)
    assert HeatBound.BARRIER in {room.bound for room in found}
    assert found[-1].bound is HeatBound.STEADY_STATE


def test_noise_one_coarse_step_and_the_slow_rise_of_a_morning_are_no_such_rise() -> None:
    noise = np.random.default_rng(1).normal(0.0, 0.15, 240)
    steady = rooms((np.round(2.0 * (45.0 + noise)) / 2.0).tolist())
    step = rooms([45.0] * 20 + [46.0] * 20)
    slow = rooms((45.0 + np.arange(120) * 0.05).tolist())
    assert {room.bound for room in (*steady, *step, *slow)} == {HeatBound.STEADY_STATE}


def test_a_return_that_nobody_sees_is_no_rise_but_counts_at_its_worst() -> None:
    last = rooms([45.0, 46.0, 47.0, 48.0, 49.0, None])[-1]
    assert last.bound is not HeatBound.BARRIER
    assert not last.trusted
