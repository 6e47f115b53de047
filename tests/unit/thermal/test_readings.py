# SPDX-License-Identifier: Apache-2.0
"""Trust in sensors, power constants and headroom."""

import math
from datetime import UTC, datetime

import pytest

from embellie.domain.limits import HeatBound
from embellie.domain.snapshot import Cell, Quality, Reading, RunningGang, ThermalZoneState
from embellie.thermal.headroom import ZoneState, headroom, worst_load_kw
from embellie.thermal.power import added_power_kw, worst_added_power_kw
from embellie.thermal.readings import POWER_BOUNDS, Sample, Unit, fresh_maximum, hottest, judge, moved


def samples(*values: float, end_s: float = 1000.0, step_s: float = 15.0) -> list[Sample]:
    return [Sample(at_s=end_s - step_s * (len(values) - 1 - i), value=v) for i, v in enumerate(values)]


def test_a_recent_plausible_value_is_fresh() -> None:
    assert judge(samples(21.0, 22.0), 1010.0, max_age_s=120) == Reading(value=22.0, age_s=10.0, quality=Quality.FRESH)


def test_the_newest_sample_counts_whatever_the_order() -> None:
    assert judge(samples(21.0, 22.0)[::-1], 1010.0, max_age_s=120).value == 22.0


def test_no_sample_is_missing() -> None:
    assert judge([], 0.0, max_age_s=120) == Reading(value=None, age_s=math.inf, quality=Quality.MISSING)


def test_an_old_sample_is_stale() -> None:
    assert judge(samples(22.0), 1121.0, max_age_s=120).quality is Quality.STALE
    assert judge(samples(22.0), 1120.0, max_age_s=120).quality is Quality.FRESH


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -20.1, 80.1, 1e12])
def test_a_value_that_cannot_be_is_absurd(value: float) -> None:
    assert judge(samples(value), 1001.0, max_age_s=120).quality is Quality.ABSURD


def test_a_sample_from_the_future_is_absurd() -> None:
    assert judge(samples(22.0), 900.0, max_age_s=120).quality is Quality.ABSURD
    assert judge(samples(22.0), 990.0, max_age_s=120).quality is Quality.FRESH


@pytest.mark.parametrize(
    ("unit", "value", "kept"), [(Unit.FAHRENHEIT, 71.6, 22.0), (Unit.KELVIN, 295.15, 22.0), (Unit.CELSIUS, 22.0, 22.0)]
)
def test_units_are_converted(unit: Unit, value: float, kept: float) -> None:
    reading = judge(samples(value), 1001.0, max_age_s=120, unit=unit)
    assert reading.value == pytest.approx(kept)
    assert reading.quality is Quality.FRESH


def test_kelvin_read_as_celsius_is_absurd() -> None:
    assert judge(samples(295.0), 1001.0, max_age_s=120).quality is Quality.ABSURD


def test_watts_become_kilowatts() -> None:
    reading = judge(samples(5e5), 1001.0, max_age_s=120, unit=Unit.WATT, bounds=POWER_BOUNDS)
    assert (reading.value, reading.quality) == (500.0, Quality.FRESH)


def test_a_value_that_stands_still_while_power_moves_is_frozen() -> None:
    still = samples(*[22.0] * 10, step_s=120.0)
    assert judge(still, 1001.0, max_age_s=120, power_moved=True).quality is Quality.FROZEN
    assert judge(still, 1001.0, max_age_s=120, power_moved=False).quality is Quality.FRESH
    assert judge(samples(*[22.0] * 10), 1001.0, max_age_s=120, power_moved=True).quality is Quality.FRESH


def test_power_has_moved_only_by_more_than_noise() -> None:
    assert moved([100.0, 120.0])
    assert not moved([100.0, 103.0])
    assert not moved([])
    assert not moved([math.nan, 5.0])


def test_one_untrusted_sensor_makes_its_role_untrusted_unless_a_fresh_one_alarms() -> None:
    cool, hot = (Reading(value=v, age_s=1.0, quality=Quality.FRESH) for v in (20.0, 25.0))
    stale = Reading(value=90.0, age_s=900.0, quality=Quality.STALE)
    assert hottest([cool, hot]) == hot
    assert hottest([cool, stale, hot]) == stale
    assert fresh_maximum([cool, stale, hot]) == hot
    assert hottest([cool, stale, hot], alarm_at=25.0) == hot
    assert hottest([cool, stale, hot], alarm_at=25.1) == stale
    assert hottest([]) is None
    assert fresh_maximum([stale]) is None


def test_the_worst_case_is_a_tenth_over_the_rating_or_the_cap() -> None:
    assert added_power_kw(8, 640, 140, 0) == pytest.approx(4.0)
    assert added_power_kw(8, 100, 140, 0) == 0.0
    assert worst_added_power_kw(8, 700, 140, 3) == pytest.approx(8 * 630 * 1.03 / 1000)


def zone(**changes: object) -> ThermalZoneState:
    values: dict[str, object] = {
        "name": "hall",
        "inlet_limit_c": 32.0,
        "margin_c": 3.0,
        "rise_k_per_kw": 0.1,
        "supply": Reading(value=20.0, age_s=1.0, quality=Quality.FRESH),
        "supply_worst_c": 27.0,
        "supply_setpoint_c": 20.0,
        "ambient_approach_k": 8.0,
        "inlet": None,
        "cooling_capacity_kw": None,
        "start_ramp_kw_per_min": None,
        "base_power_kw": 20.0,
        "ambient_grid_zone": None,
    }
    return ThermalZoneState(**{**values, **changes})  # type: ignore[arg-type]


def test_headroom_says_how_much_and_which_limit_binds() -> None:
    room = headroom(zone(), 50.0)
    assert (room.headroom_kw, room.bound, room.state) == (pytest.approx(40.0), HeatBound.STEADY_STATE, ZoneState.NORMAL)
    capped = headroom(zone(cooling_capacity_kw=45.0), 50.0)
    assert (capped.headroom_kw, capped.bound, capped.state) == (-5.0, HeatBound.CAPACITY, ZoneState.LIMITED)
    blind = headroom(zone(supply=Reading(value=None, age_s=math.inf, quality=Quality.MISSING)), 5.0)
    assert (blind.headroom_kw, blind.state, blind.trusted) == (pytest.approx(15.0), ZoneState.UNKNOWN, False)
    over = headroom(zone(inlet=Reading(value=33.0, age_s=1.0, quality=Quality.FRESH)), 5.0)
    assert (over.state, over.bound) == (ZoneState.OVER_LIMIT, HeatBound.READING)
    assert headroom(zone(rise_k_per_kw=0.0), 5.0).headroom_kw == math.inf


def test_a_zones_worst_load_counts_only_its_own_gangs() -> None:
    cells = [
        Cell(name=n, grid_zone="g", thermal_zone=t, gpus_total=8, node_free_gpus=(8,))
        for n, t in (("a", "hall"), ("b", None))
    ]
    at = datetime(2026, 7, 1, tzinfo=UTC)
    gangs = [
        RunningGang(
            cell=c, gpus=8, power_kw=3.0, worst_power_kw=5.0, expected_end_p50=at, expected_end_p90=at, started_at=at
        )
        for c in ("a", "b", "gone")
    ]
    assert worst_load_kw(zone(), cells, gangs) == 25.0
