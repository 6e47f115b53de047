# SPDX-License-Identifier: Apache-2.0
"""Inputs of the model: only what was known when the forecast was issued.

Two limits per issue: `last_known`, the last hour whose generation had been published, and `weather_end`, the end of
the newest 00Z weather run that had been published. Every value is fetched through `_known`, which returns NaN beyond
the limit, so that a feature cannot look ahead. Weather covers the rest of the run's own day only: for days 2-4 the
model has none (the carried archive holds only leads of 0-24 h; using them for later days would be a leak).
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pandas.tseries.holiday import USFederalHolidayCalendar

from embellie_forecast.dataset import History
from embellie_forecast.factors import FloatArray

IntArray: TypeAlias = npt.NDArray[np.int64]
Matrix: TypeAlias = npt.NDArray[np.float32]

HORIZON_HOURS = 96
CHUNK_ROWS = 16_384
LEVEL_MIN_HOURS = 12
"""The last-24-h level rests on at least so many known hours."""
STANDARD_OFFSET_HOURS = {"US-CISO": -8, "US-PJM": -5}
"""Local standard time, all year: the season carries daylight saving, the index never jumps."""
MIX = ("solar", "wind", "hydro", "natgas", "coal", "nuclear")
WIND, TEMP, DEWPOINT, SUN, RAIN = range(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """How late the inputs arrive."""

    generation_hours: int = 1
    """Hours between the end of an hour and its publication [h]."""
    weather_hours: int = 5
    """Hours between 00Z and the publication of the 00Z run [h]; the papers assume 0."""

    def generation_end(self, issue_hour: IntArray | int) -> Any:
        """Return the first hour whose generation is not yet known at the issue."""
        return issue_hour - self.generation_hours

    def weather_end(self, issue_hour: IntArray | int) -> Any:
        """Return the first hour that the newest published 00Z run does not cover."""
        return ((issue_hour - self.weather_hours) // 24 + 1) * 24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """Transformed series of a history, prepared once for many issues."""

    first_hour: int
    log_carbon: FloatArray
    logit_share: FloatArray
    mix: FloatArray
    log_total: FloatArray
    weather: FloatArray
    offset_hours: int
    holidays: frozenset[int]
    """Days since 1970 (local) that are US federal holidays."""


def prepare(history: History) -> Series:
    """Transform a history: logarithms and logits, where everything is roughly additive."""
    with np.errstate(invalid="ignore", divide="ignore"):
        log_carbon = np.log(np.where(history.carbon_g_per_kwh > 0.0, history.carbon_g_per_kwh, np.nan))
        log_total = np.log(history.total_mw)
    absent = np.full(history.n_hours, np.nan)
    return Series(
        first_hour=history.first_hour,
        log_carbon=log_carbon,
        logit_share=logit(history.renewable_share),
        mix=np.stack([history.source_share.get(name, absent) for name in MIX]),
        log_total=log_total,
        weather=history.weather,
        offset_hours=STANDARD_OFFSET_HOURS.get(history.region, 0),
        holidays=_holidays(history.region),
    )


def _holidays(region: str) -> frozenset[int]:
    if not region.startswith("US-"):
        return frozenset()
    days = USFederalHolidayCalendar().holidays(start="2015-01-01", end="2040-12-31")
    return frozenset(int(day.timestamp() // 86400) for day in days)


def logit(share: FloatArray) -> FloatArray:
    """Return the log odds of a share, which is kept a little off 0 and 1."""
    inside = np.clip(share, 1e-4, 1.0 - 1e-4)
    return np.asarray(np.log(inside / (1.0 - inside)), dtype=np.float64)


def expit(odds: FloatArray) -> FloatArray:
    """Return the share of log odds."""
    return np.asarray(1.0 / (1.0 + np.exp(-odds)), dtype=np.float64)


def _known(values: FloatArray, index: IntArray, end: IntArray) -> FloatArray:
    """Return values[index], NaN where the index lies outside or at or after `end`, the first unknown row."""
    if values.shape[0] == 0:
        return np.full(index.shape, np.nan)
    inside = (index >= 0) & (index < values.shape[0]) & (index < end)
    return np.where(inside, values[np.clip(index, 0, values.shape[0] - 1)], np.nan)


def _window_mean(values: FloatArray, end: IntArray, hours: int, min_hours: int = 1) -> FloatArray:
    """Return the mean of the `hours` rows before `end`; NaN where fewer than `min_hours` are known."""
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    high = np.clip(end, 0, values.shape[0])
    low = np.clip(end - hours, 0, values.shape[0])
    count = counts[high] - counts[low]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count >= min_hours, (sums[high] - sums[low]) / count, np.nan)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Levels:
    """The last-24-h levels that forecasts are relative to, one per issue."""

    log_carbon: FloatArray
    logit_share: FloatArray


def levels(series: Series, issue_hours: IntArray, delays: Delays) -> Levels:
    """Return the levels of the last 24 known hours at each issue; NaN where too little is known."""
    end = delays.generation_end(issue_hours) - series.first_hour
    return Levels(
        log_carbon=_window_mean(series.log_carbon, end, 24, LEVEL_MIN_HOURS),
        logit_share=_window_mean(series.logit_share, end, 24, LEVEL_MIN_HOURS),
    )


def calendar_columns(series: Series, hours: IntArray) -> dict[str, FloatArray]:
    """Return what the calendar alone says about hours since 1970."""
    local = hours + series.offset_hours
    day = local // 24
    year_angle = 2.0 * np.pi * (hours / 24.0 % 365.2425) / 365.2425
    holiday = np.isin(day, np.fromiter(series.holidays, dtype=np.int64, count=len(series.holidays)))
    return {
        "hour": (local % 24).astype(np.float64),
        "weekday": ((day + 3) % 7).astype(np.float64),
        "holiday": holiday.astype(np.float64),
        "season_sin": np.sin(year_angle),
        "season_cos": np.cos(year_angle),
    }


def _history_columns(
    name: str, values: FloatArray, level: FloatArray, target: IntArray, end: IntArray
) -> dict[str, FloatArray]:
    """Return lags of one series relative to its level: same hour on past days and weeks, and the latest hours."""
    # The most recent known row with the target's hour of day.
    behind = target - 24 * ((target - end) // 24 + 1)
    same = [_known(values, behind - 24 * k, end) for k in range(28)]
    stack = np.stack(same)
    weekly = target - 168 * ((target - end) // 168 + 1)
    columns = {
        f"{name}_day1": same[0] - level,
        f"{name}_day2": same[1] - level,
        f"{name}_mean7": _nanmean(stack[:7]) - level,
        f"{name}_mean28": _nanmean(stack) - level,
        f"{name}_week1": _known(values, weekly, end) - level,
        f"{name}_week2": _known(values, weekly - 168, end) - level,
        f"{name}_last": _known(values, end - 1, end) - level,
        f"{name}_last3": _window_mean(values, end, 3) - level,
        f"{name}_trend": level - _window_mean(values, end - 24, 24),
        f"{name}_vs_week": level - _window_mean(values, end, 168, 48),
        f"{name}_vs_month": level - _window_mean(values, end, 672, 168),
    }
    # What the latest hours were against the same hours a day before: the surprise that is still going on.
    columns[f"{name}_surprise"] = _window_mean(values, end, 3) - _window_mean(values, end - 24, 3)
    return columns


def _nanmean(stack: FloatArray) -> FloatArray:
    known = np.isfinite(stack)
    count = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, np.where(known, stack, 0.0).sum(axis=0) / count, np.nan)


def _mix_columns(series: Series, target: IntArray, end: IntArray) -> dict[str, FloatArray]:
    behind = target - 24 * ((target - end) // 24 + 1)
    columns = {f"mix_{name}_24h": _window_mean(series.mix[k], end, 24) for k, name in enumerate(MIX)}
    for k, name in enumerate(MIX[:3]):
        columns[f"mix_{name}_same_hour"] = _known(series.mix[k], behind, end)
    wind = series.mix[MIX.index("wind")]
    columns["mix_wind_last6"] = _window_mean(wind, end, 6)
    columns["mix_wind_7d"] = _window_mean(wind, end, 168)
    total = _window_mean(series.log_total, end, 24)
    columns["load_same_hour"] = _known(series.log_total, behind, end) - total
    columns["load_vs_week"] = total - _window_mean(series.log_total, end, 168)
    return columns


def weather_columns(series: Series, target: IntArray, end: IntArray) -> dict[str, FloatArray]:
    """Return the known weather at the target hour, around it, and against the days before."""
    columns: dict[str, FloatArray] = {}
    yesterday = target - 24 * (np.maximum(target - end, -1) // 24 + 1)
    yesterday = np.where(yesterday == target, target - 24, yesterday)
    for k, name in ((WIND, "wind"), (TEMP, "temp"), (DEWPOINT, "dewpoint"), (SUN, "sun"), (RAIN, "rain")):
        values = series.weather[:, k]
        now = _known(values, target, end)
        columns[f"wx_{name}"] = now
        columns[f"wx_{name}_before"] = _known(values, yesterday, end)
        columns[f"wx_{name}_24h"] = _window_mean(values, end, 24)
        if k in {WIND, TEMP, SUN}:
            columns[f"wx_{name}_change"] = now - columns[f"wx_{name}_before"]
            columns[f"wx_{name}_rest"] = _window_mean(values, np.minimum(target + 6, end), 12) * np.where(
                np.isfinite(now), 1.0, np.nan
            )
    # The sun column is a mean over the past step and lags the real sun: offer the neighbours.
    sun = series.weather[:, SUN]
    columns["wx_sun_next"] = _known(sun, target + 2, end)
    columns["wx_wind_next"] = _known(series.weather[:, WIND], target + 3, end)
    return columns


def build(series: Series, issue_hours: IntArray, leads: IntArray, delays: Delays) -> tuple[Matrix, list[str]]:
    """Return the feature matrix for pairs of issue hour and lead, and the names of its columns.

    Args:
        series: The prepared history.
        issue_hours: Hour since 1970 of the issue, one per row; the first slot (lead 0) begins there.
        leads: Lead of the target hour, one per row [h].
        delays: How late the inputs arrive.
    """
    names = list(_columns(series, issue_hours[:1], leads[:1], delays))
    matrix = np.empty((issue_hours.size, len(names)), dtype=np.float32)
    # In pieces: the intermediate columns are wide, and the forecaster is to stay small.
    for begin in range(0, issue_hours.size, CHUNK_ROWS):
        part = slice(begin, begin + CHUNK_ROWS)
        for k, values in enumerate(_columns(series, issue_hours[part], leads[part], delays).values()):
            matrix[part, k] = values
    return matrix, names


def _columns(series: Series, issue_hours: IntArray, leads: IntArray, delays: Delays) -> dict[str, FloatArray]:
    issues, where = np.unique(issue_hours, return_inverse=True)
    level = levels(series, issues, delays)
    end = delays.generation_end(issue_hours) - series.first_hour
    weather_end = delays.weather_end(issue_hours) - series.first_hour
    target_hour = issue_hours + leads
    target = target_hour - series.first_hour
    columns = {"lead": leads.astype(np.float64), **calendar_columns(series, target_hour)}
    carbon, share = level.log_carbon[where], level.logit_share[where]
    columns["carbon_level"] = carbon
    columns |= _history_columns("carbon", series.log_carbon, carbon, target, end)
    columns |= _history_columns("share", series.logit_share, share, target, end)
    columns |= _mix_columns(series, target, end)
    columns |= weather_columns(series, target, weather_end)
    return columns
