# SPDX-License-Identifier: Apache-2.0
"""Inputs of the model: one row per issue, in named groups, made only of what was known at the issue.

Two limits per issue: grid readings end `latency` hours before it, forecast weather and official forecasts end
`weather hours` after it. Every value is fetched through `window`, which returns NaN at and after its limit, so that an
input cannot look ahead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from embellie_forecast.factors import FloatArray
from embellie_forecast.history import LEAD_DAYS, ZoneHistory
from embellie_forecast.models.targets import HORIZON_HOURS, Target, WeatherUse

IntArray: TypeAlias = npt.NDArray[np.int64]
Groups: TypeAlias = Mapping[str, FloatArray]

RECENT_HOURS = 48
BACK_HOURS = 8
"""A model also says so many hours before its issue, most of which are known: what it misses of them carries on."""
LEVEL_WINDOWS = ((24, 12), (72, 12), (168, 24), (672, 24), (8766, 24))
"""The level is the mean of the first window [h] with enough known hours."""
WIND, TEMP, DEWPOINT, SUN, RAIN = range(5)
COMFORT_C = 18.0
"""Above it cooling begins to drive the load."""
WEATHER_STEP_HOURS = 3
MIN_SEEN_HOURS = 18
"""With the weather of fewer hours of the day ahead, a model that looks at weather is worse than one that does not."""
AHEAD = "_ahead"
"""Ends the name of a group of weather of days 2 to 4."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """A history prepared for one target: hourly arrays from `first_hour` on."""

    first_hour: int
    target: Target
    scaled: FloatArray
    """The target on its modelled scale."""
    mix: Mapping[str, FloatArray]
    """Source -> share of generation."""
    log_total: FloatArray
    weather: FloatArray
    official_mw: FloatArray
    weather_ahead: FloatArray | None = None

    @property
    def end_hour(self) -> int:
        """The hour after the last row."""
        return self.first_hour + int(self.scaled.size)


def prepare(history: ZoneHistory, target: Target, truth: FloatArray | None = None) -> Series:
    """Prepare a history for a target; `truth` replaces the target's own series."""
    total = history.total_mw
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.where(total > 0.0, total, np.nan)
        log_total = np.log(total)
        mix = {name: values / total for name, values in history.generation_mw.items()}
    return Series(
        first_hour=history.first_hour,
        target=target,
        scaled=target.to_scale(target.series(history) if truth is None else truth),
        mix=mix,
        log_total=log_total,
        weather=history.weather,
        official_mw=history.official_mw,
        weather_ahead=history.weather_ahead,
    )


def window(values: FloatArray, first: IntArray, hours: int, end: IntArray) -> FloatArray:
    """Return values[first : first + hours] per row, NaN outside the data and at or after `end`; shape (rows, hours)."""
    index = first[:, None] + np.arange(hours)
    if values.shape[0] == 0:
        return np.full(index.shape, np.nan)
    inside = (index >= 0) & (index < values.shape[0]) & (index < end[:, None])
    return np.where(inside, values[np.clip(index, 0, values.shape[0] - 1)], np.nan)


def mean_before(values: FloatArray, end: IntArray, hours: int, min_hours: int = 1) -> FloatArray:
    """Return the mean of the `hours` rows before `end`; NaN where fewer than `min_hours` are known."""
    return _row_mean(window(values, end - hours, hours, end), min_hours)


def _row_mean(rows: FloatArray, min_known: int = 1, axis: int = 1) -> FloatArray:
    known = np.isfinite(rows)
    count = known.sum(axis=axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count >= min_known, np.where(known, rows, 0.0).sum(axis=axis) / count, np.nan)


def level_at(series: Series, issue_hours: IntArray, latency_hours: int) -> FloatArray:
    """Return the recent level that forecasts are relative to; NaN where nothing is known for a year."""
    end = issue_hours - latency_hours - series.first_hour
    level = np.full(issue_hours.size, np.nan)
    for hours, min_hours in LEVEL_WINDOWS:
        missing = ~np.isfinite(level)
        if not missing.any():
            break
        level[missing] = mean_before(series.scaled, end[missing], hours, min_hours)
    return level


def outcomes(series: Series, issue_hours: IntArray, back_hours: int = 0) -> FloatArray:
    """Return what came true from `back_hours` before each issue on, shape (issues, back_hours + 96); NaN: unknown."""
    first = issue_hours - back_hours - series.first_hour
    return window(series.scaled, first, back_hours + HORIZON_HOURS, np.full(first.size, series.scaled.size))


def known_day(series: Series, issue_hours: IntArray, latency_hours: int, days_back: int = 0) -> FloatArray:
    """Return, per hour of the first day ahead, the newest known value at that hour of day; shape (issues, 24).

    Holes are filled from the day before, up to a week back; `days_back` skips so many whole days first.
    """
    end = issue_hours - latency_hours - series.first_hour
    first = issue_hours - series.first_hour - 24 * (1 + days_back)
    newest = window(series.scaled, first, 24, end)
    for k in range(1, 8):
        if np.isfinite(newest).all():
            break
        newest = np.where(np.isfinite(newest), newest, window(series.scaled, first - 24 * k, 24, end))
    return newest


def vectors(series: Series, issue_hours: IntArray, weather: WeatherUse, latency_hours: int) -> dict[str, FloatArray]:
    """Return the groups of inputs, each of shape (issues, columns)."""
    now = issue_hours - series.first_hour
    end = now - latency_hours
    level = level_at(series, issue_hours, latency_hours)[:, None]
    recent = window(series.scaled, end - RECENT_HOURS, RECENT_HOURS, end) - level
    week = np.stack([window(series.scaled, end - 24 * k, 24, end) for k in range(1, 8)])
    angle = 2.0 * np.pi * ((issue_hours / 24.0) % 365.2425) / 365.2425
    groups = {
        "recent": recent,
        "recent_day": recent[:, -24:],
        "week_mean": _row_mean(week, axis=0) - level,
        "level": np.stack(
            [
                level[:, 0] - mean_before(series.scaled, end - 24, 24, 12),
                level[:, 0] - mean_before(series.scaled, end, 168, 48),
                level[:, 0] - mean_before(series.scaled, end, 672, 168),
            ],
            axis=1,
        ),
        "weekday": np.eye(7)[(issue_hours // 24 + 3) % 7],
        "season": np.stack([np.sin(angle), np.cos(angle)], axis=1),
    }
    groups |= _generation(series, end)
    groups |= _weather(series, now, 24 if weather is WeatherUse.LEADS else weather.hours)
    if weather is WeatherUse.LEADS:
        groups |= _weather_by_lead(series, now)
    groups |= _official(series, now, end, min(weather.hours, 24))
    return groups


def _generation(series: Series, end: IntArray) -> dict[str, FloatArray]:
    columns = [
        mean_before(share, end, hours) for share in series.mix.values() if np.isfinite(share).any() for hours in (24, 6)
    ]
    if not columns:
        return {}
    load = window(series.log_total, end - 24, 24, end) - mean_before(series.log_total, end, 168)[:, None]
    groups = {"mix": np.stack(columns, axis=1), "load": load}
    if "wind" in series.mix:
        groups["wind_share"] = window(series.mix["wind"], end - 24, 24, end)
    return groups


def _weather(series: Series, now: IntArray, hours: int) -> dict[str, FloatArray]:
    if hours == 0 or not np.isfinite(series.weather).any():
        return {}
    limit = now + hours
    # Yesterday's forecast too: the change against it is what moves the grid away from its recent level.
    return {
        name: _coarse(window(values, now - 24, 24 + hours, limit), WEATHER_STEP_HOURS)
        for name, values in _fields(series.weather).items()
    }


def sees_ahead(series: Series, issue_hours: IntArray) -> npt.NDArray[np.bool_]:
    """Tell the issues that know enough of the next day's weather; before there was any, of the official forecast."""
    first = issue_hours - series.first_hour

    def enough(known: npt.NDArray[np.bool_], hours: int, least: int) -> npt.NDArray[np.bool_]:
        told = window(np.asarray(known, dtype=np.float64), first + 24 - hours, hours, first + 24)
        return np.asarray(np.nansum(told, axis=1) >= least)

    weather, official = (
        np.asarray(np.isfinite(v).any(axis=1), dtype=bool) for v in (series.weather, series.official_mw)
    )
    never_any = ~enough(np.logical_or.accumulate(weather), 1, 1)
    return enough(weather, 24, MIN_SEEN_HOURS) | (never_any & enough(official, 24, MIN_SEEN_HOURS))


def _fields(weather: FloatArray) -> dict[str, FloatArray]:
    """Return the weather's quantities by name, each of shape (hours,)."""
    return {
        "wx_wind": weather[:, WIND],
        "wx_temp": weather[:, TEMP],
        "wx_heat": np.maximum(weather[:, TEMP] - COMFORT_C, 0.0),
        "wx_sun": weather[:, SUN],
        "wx_rain": weather[:, RAIN],
    }


def _weather_by_lead(series: Series, now: IntArray) -> dict[str, FloatArray]:
    """Return the weather of days 2 to 4, each day as it was forecast that many days before it.

    The forecast for hour v of day d ahead was made 24 d hours before v, so never after the issue.
    """
    if series.weather_ahead is None or not np.isfinite(series.weather_ahead).any():
        return {}
    parts: dict[str, list[FloatArray]] = {}
    for k, day in enumerate(LEAD_DAYS):
        first = now + 24 * (day - 1)
        for name, values in _fields(series.weather_ahead[:, k]).items():
            parts.setdefault(name + AHEAD, []).append(
                _coarse(window(values, first, 24, first + 24), WEATHER_STEP_HOURS)
            )
    return {name: np.concatenate(columns, axis=1) for name, columns in parts.items()}


def _official(series: Series, now: IntArray, end: IntArray, hours: int) -> dict[str, FloatArray]:
    groups = {}
    usual_load = np.exp(mean_before(series.log_total, end, 168))[:, None]
    for k, name in enumerate(("official_solar", "official_wind")):
        values = series.official_mw[:, k]
        if hours and np.isfinite(values).any():
            groups[name] = _coarse(window(values, now - 24, 24 + hours, now + hours) / usual_load, 2)
    return groups


def _coarse(rows: FloatArray, step: int) -> FloatArray:
    """Return means over `step` columns; a group of columns is known where any of them is."""
    return _row_mean(rows.reshape(rows.shape[0], -1, step), axis=2)
