# SPDX-License-Identifier: Apache-2.0
"""Whatever happens after an issue, its forecast does not change: the future is shifted, scrambled and taken away."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embellie_forecast.factors import FloatArray
from embellie_forecast.history import LEAD_DAYS, OFFICIAL_COLUMNS, WEATHER_COLUMNS, ZoneHistory, hour_of, instant_of
from embellie_forecast.history_files import load_carried, read_history
from embellie_forecast.models.inputs import level_at, prepare, vectors
from embellie_forecast.models.series import IssuedSeries, issue_at
from embellie_forecast.models.targets import Kernel, Settings, Target, WeatherUse
from embellie_forecast.models.walk import Conditions, naive

MIDNIGHT = hour_of(datetime(2021, 6, 1, tzinfo=UTC))
CARRIED = load_carried("US-CISO").since(MIDNIGHT - 110 * 24).known_until(MIDNIGHT + 40 * 24, MIDNIGHT + 40 * 24)
WHOLE = replace(
    CARRIED,
    weather_ahead=np.stack([CARRIED.weather + day for day in LEAD_DAYS], axis=1),
    marginal_g_per_kwh=CARRIED.direct_g_per_kwh * 1.7,
    official_mw=np.stack([CARRIED.generation_mw["solar"], CARRIED.generation_mw["wind"]], axis=1) * 1.1,
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


CONDITIONS = (
    (0, WeatherUse.LEADS, Target.LIFECYCLE),
    (6, WeatherUse.LEADS, Target.RENEWABLE_SHARE),
    (6, WeatherUse.DAY1, Target.LIFECYCLE),
    (6, WeatherUse.NONE, Target.DIRECT),
    (0, WeatherUse.OPTIMISTIC, Target.LIFECYCLE),
    (6, WeatherUse.OPTIMISTIC, Target.DIRECT),
    (0, WeatherUse.DAY1, Target.MARGINAL),
    (6, WeatherUse.OPTIMISTIC, Target.MARGINAL),
)
ISSUES = MIDNIGHT + 24 * np.arange(10, dtype=np.int64)
ROW = 6
"""The issue after which the future is another one."""


def issued_from(history: ZoneHistory, latency: int, weather: WeatherUse, target: Target) -> IssuedSeries:
    return issue_at(prepare(history, target), ISSUES, Conditions(weather=weather, latency_hours=latency), FAST)


def require_same_until_row(one: IssuedSeries, two: IssuedSeries) -> None:
    """The forecasts of issues up to ROW are equal to the bit, and later ones are not: the change was one."""
    for name in ("point", "quantiles", "persistence", "weekly", "persistence_quantiles"):
        before, after = getattr(one, name), getattr(two, name)
        np.testing.assert_array_equal(before[: ROW + 1], after[: ROW + 1], err_msg=name)
    assert np.isfinite(one.point).all()
    assert not np.array_equal(one.point[ROW + 2 :], two.point[ROW + 2 :])


@pytest.mark.parametrize(
    ("way", "latency", "weather", "target"),
    [(way, *how) for k, how in enumerate(CONDITIONS) for way in (WAYS[k % 4], WAYS[(k + 1) % 4])],
)
def test_forecast_and_quantiles_do_not_change_with_the_future(
    way: str, latency: int, weather: WeatherUse, target: Target
) -> None:
    changed = with_other_future(WHOLE, int(ISSUES[ROW]), latency, day_ahead_hours(weather), way)
    require_same_until_row(*(issued_from(history, latency, weather, target) for history in (WHOLE, changed)))


def as_file(history: ZoneHistory) -> pd.DataFrame:
    """Return the rows of a file that holds what the history holds, and a marginal intensity."""
    hours = history.first_hour + np.arange(history.n_hours)
    columns = {f"gen_{name}_mw": values for name, values in history.generation_mw.items()}
    columns |= dict(zip(WEATHER_COLUMNS, history.weather.T, strict=True))
    columns |= dict(zip(OFFICIAL_COLUMNS, history.official_mw.T, strict=True))
    assert history.marginal_g_per_kwh is not None
    columns["ci_marginal_g_per_kwh"] = history.marginal_g_per_kwh
    stamps = [f"{instant_of(int(hour)):%Y-%m-%dT%H:%M:%SZ}" for hour in hours]
    return pd.DataFrame(columns, index=pd.Index(stamps, name="timestamp_utc"))


FILE_WAYS = ("cut off", "blank", "absurd", "frozen", "negative", "a new source", "text")


def spoilt(rows: pd.DataFrame, readings_end: int, forecasts_end: int, way: str) -> pd.DataFrame:
    """The same file with other rows after what was known: as a later download of it might look."""
    known = {"gen_": readings_end, "ci_": readings_end, "wxfc_": forecasts_end, "dafc_": forecasts_end}
    out = rows.astype(object)
    for name in rows.columns:
        end = next(end for prefix, end in known.items() if name.startswith(prefix))
        out.iloc[end:, rows.columns.get_loc(name)] = {
            "cut off": None,
            "blank": None,
            "absurd": 1e9,
            "frozen": rows[name].iloc[end],
            "negative": -500.0,
            "a new source": 7.0,
            "text": "n/a",
        }[way]
    if way == "a new source":
        out.insert(0, "gen_geothermal_mw", [0.0 if k < readings_end else 9000.0 for k in range(len(rows))])
    return out.iloc[: max(readings_end, forecasts_end)] if way == "cut off" else out


@pytest.mark.parametrize(
    ("way", "latency", "weather", "target"),
    # A file holds day-ahead weather only.
    [(way, *CONDITIONS[2 + k % 6]) for j, way in enumerate(FILE_WAYS) for k in (j, j + 3)],
)
def test_a_file_that_goes_on_otherwise_gives_the_same_forecasts(
    tmp_path: Path, way: str, latency: int, weather: WeatherUse, target: Target
) -> None:
    rows = as_file(WHOLE)
    issue = int(ISSUES[ROW]) - WHOLE.first_hour
    changed = spoilt(rows, issue - latency, issue + weather.hours, way)
    if way == "a new source":
        rows.insert(0, "gen_geothermal_mw", 0.0)
    found = []
    for name, frame in (("one.csv", rows), ("two.csv", changed)):
        frame.to_csv(tmp_path / name)
        found.append(issued_from(read_history(tmp_path / name), latency, weather, target))
    require_same_until_row(*found)
