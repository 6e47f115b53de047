# SPDX-License-Identifier: Apache-2.0
"""Whatever happens after an issue, its forecast does not change: the future is shifted, scrambled and taken away."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embellie_forecast.factors import FloatArray
from embellie_forecast.history import LEAD_DAYS, ZoneHistory, hour_of
from embellie_forecast.history_files import load_carried
from embellie_forecast.models.inputs import level_at, prepare, vectors
from embellie_forecast.models.series import issue_at
from embellie_forecast.models.targets import Kernel, Settings, Target, WeatherUse
from embellie_forecast.models.walk import Conditions, naive

MIDNIGHT = hour_of(datetime(2021, 6, 1, tzinfo=UTC))
CARRIED = load_carried("US-CISO").since(MIDNIGHT - 110 * 24).known_until(MIDNIGHT + 40 * 24, MIDNIGHT + 40 * 24)
WHOLE = replace(
    CARRIED,
    weather_ahead=np.stack([CARRIED.weather + day for day in LEAD_DAYS], axis=1),
    marginal_g_per_kwh=CARRIED.direct_g_per_kwh * 1.7,
)
FAST = Settings(kernels=(Kernel(gamma=0.005, alpha=0.1),), max_training_days=50, warm_up_days=16, refit_days=7)
WAYS = ("shifted", "scrambled", "gone", "absurd")


def with_other_future(history: ZoneHistory, issue: int, latency: int, weather_hours: int, way: str) -> ZoneHistory:
    """The same past, another future: readings from one hour on, weather and official forecasts from another."""
    assert history.weather_ahead is not None
    assert history.marginal_g_per_kwh is not None
    readings_end, forecasts_end = issue - latency, issue + weather_hours

    def other(values: FloatArray, hour: int) -> FloatArray:
        out, at = values.copy(), max(0, hour - history.first_hour)
        tail = values[at:]
        out[at:] = {
            "shifted": lambda: np.roll(tail, 7, axis=0) * 1.3,
            "scrambled": lambda: np.random.default_rng(1).permutation(tail),
            "gone": lambda: np.full(tail.shape, np.nan),
            "absurd": lambda: np.full(tail.shape, 1e9),
        }[way]()
        return out

    return replace(
        history,
        lifecycle_g_per_kwh=other(history.lifecycle_g_per_kwh, readings_end),
        direct_g_per_kwh=other(history.direct_g_per_kwh, readings_end),
        renewable_share=other(history.renewable_share, readings_end),
        generation_mw={name: other(values, readings_end) for name, values in history.generation_mw.items()},
        weather=other(history.weather, forecasts_end),
        official_mw=other(history.official_mw, forecasts_end),
        marginal_g_per_kwh=other(history.marginal_g_per_kwh, readings_end),
        weather_ahead=np.stack(
            # Made `day` days before its hour, so the last that is known at the issue is that of the day's last hour.
            [other(history.weather_ahead[:, k], issue + 24 * day) for k, day in enumerate(LEAD_DAYS)],
            axis=1,
        ),
    )


def day_ahead_hours(weather: WeatherUse) -> int:
    """How far the day-ahead forecasts of weather, solar and wind may be looked at."""
    return 24 if weather is WeatherUse.LEADS else weather.hours


@settings(max_examples=25, deadline=None)
@given(
    issue=st.integers(MIDNIGHT - 40 * 24, MIDNIGHT + 20 * 24),
    latency=st.integers(0, 30),
    weather=st.sampled_from(list(WeatherUse)),
    target=st.sampled_from(list(Target)),
    way=st.sampled_from(WAYS),
)
def test_inputs_do_not_change_with_the_future(
    issue: int, latency: int, weather: WeatherUse, target: Target, way: str
) -> None:
    changed = with_other_future(WHOLE, issue, latency, day_ahead_hours(weather), way)
    hours = np.array([issue], dtype=np.int64)
    one, two = prepare(WHOLE, target), prepare(changed, target)
    np.testing.assert_array_equal(level_at(one, hours, latency), level_at(two, hours, latency))
    for before, after in zip(naive(one, hours, latency), naive(two, hours, latency), strict=True):
        np.testing.assert_array_equal(before, after)
    inputs, others = vectors(one, hours, weather, latency), vectors(two, hours, weather, latency)
    for name in inputs:
        if name in others or np.isfinite(inputs[name]).any():
            np.testing.assert_array_equal(inputs[name], others[name], err_msg=name)


@pytest.mark.parametrize(("latency", "weather"), [(0, WeatherUse.LEADS), (6, WeatherUse.DAY1)])
@pytest.mark.parametrize("way", WAYS)
def test_forecast_and_quantiles_do_not_change_with_the_future(way: str, latency: int, weather: WeatherUse) -> None:
    hours = MIDNIGHT + 24 * np.arange(10, dtype=np.int64)
    conditions = Conditions(weather=weather, latency_hours=latency)
    row = 6
    changed = with_other_future(WHOLE, int(hours[row]), latency, 24, way)
    one, two = (issue_at(prepare(h, Target.LIFECYCLE), hours, conditions, FAST) for h in (WHOLE, changed))
    np.testing.assert_array_equal(one.point[: row + 1], two.point[: row + 1])
    np.testing.assert_array_equal(one.quantiles[: row + 1], two.quantiles[: row + 1])
    assert not np.array_equal(one.point[row + 2 :], two.point[row + 2 :])
