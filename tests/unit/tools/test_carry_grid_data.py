# SPDX-License-Identifier: Apache-2.0
"""What a weather model tells, published as the source publishes it, comes back as the weather of each hour."""

import numpy as np
import pandas as pd

from carry_grid_data import RAIN, SUN, weather_at_its_hour

DAYS = 4
WIND = "wxfc_wind_speed_ms"


def run(day: pd.Timestamp, seed: int) -> pd.DataFrame:
    """Return what the run of a day's 00Z says, in steps of three hours: the 8 of that day and the 8 of the next."""
    rng = np.random.default_rng(seed)
    steps = pd.date_range(day, periods=16, freq="3h")
    return pd.DataFrame({WIND: rng.random(16), SUN: rng.random(16), RAIN: rng.random(16)}, index=steps)


def published(says: pd.DataFrame) -> pd.DataFrame:
    """Return a run as its day's 24 rows: the last step of the day, then hour-ending 1 to 23 of the next day."""
    told = says.copy()
    second = says.index.hour % 6 == 3
    told.loc[second, SUN] = (says[SUN] + says[SUN].shift(1))[second] / 2.0
    told.loc[second, RAIN] = (says[RAIN] + says[RAIN].shift(1))[second]
    missing = says.index.hour == 6
    told.loc[missing, [SUN, RAIN]] = told[[SUN, RAIN]].shift(1)[missing]
    day = says.index[0]
    rows = pd.date_range(day, periods=24, freq="h")
    ends = [day + pd.Timedelta(hours=24 + k) for k in range(24)]
    return pd.DataFrame([told[told.index < end].iloc[-1] for end in ends]).set_axis(rows, axis=0)


def test_each_hour_has_the_weather_that_the_run_of_the_day_before_told_of_it() -> None:
    days = pd.date_range("2021-06-18", periods=DAYS, freq="D", tz="UTC")
    runs = [run(day, seed) for seed, day in enumerate(days)]
    found = weather_at_its_hour(pd.concat([published(says) for says in runs]))
    for day, says in zip(days, runs, strict=True):
        next_day = found.loc[day + pd.Timedelta("1D") : day + pd.Timedelta("1D 23h")]
        told = says.iloc[8:].copy()
        told[RAIN] /= 3.0
        # The two steps of 6 to 12 UTC are known together only.
        for name in (SUN, RAIN):
            told.iloc[2:4, told.columns.get_loc(name)] = told[name].iloc[2:4].mean()
        if len(next_day) == 24:
            np.testing.assert_allclose(next_day, np.repeat(told.to_numpy(), 3, axis=0), atol=1e-12)
    assert (found.index == pd.date_range(found.index[0], periods=24 * DAYS, freq="h")).all()


def test_hours_without_weather_stay_without() -> None:
    source = pd.concat([published(run(day, 1)) for day in pd.date_range("2021-06-18", periods=3, freq="D", tz="UTC")])
    holed = source.copy()
    holed.iloc[30:36] = np.nan
    lost = weather_at_its_hour(holed).isna() & weather_at_its_hour(source).notna()
    hours = lost.index[lost.any(axis=1)]
    assert len(hours) >= 6
    assert hours.min() >= source.index[30] + pd.Timedelta(hours=20)
    assert hours.max() <= source.index[35] + pd.Timedelta(hours=26)
