# SPDX-License-Identifier: Apache-2.0
"""The model behind the rung Calendar: hour, weekday, season, and the weather where it is known.

It needs no feed. Its errors are measured a year ahead, because that is how it is used: nothing tells it today's level.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from sklearn.linear_model import Ridge

from embellie_forecast.factors import FloatArray
from embellie_forecast.history import ZoneHistory, hour_of, instant_of
from embellie_forecast.models.forecasts import TargetForecast, ZoneForecast, mean_of
from embellie_forecast.models.inputs import COMFORT_C, SUN, TEMP, WIND, IntArray, prepare, window
from embellie_forecast.models.targets import HORIZON_HOURS, QUANTILE_LEVELS, Target
from embellie_forecast.models.zone import ALL_TARGETS

MIN_HOURS = 400 * 24
HOLD_OUT_HOURS = 365 * 24
HALF_LIFE_HOURS = 365 * 24
PENALTY = 30.0
MAX_AGE_HOURS = 2 * 365 * 24
"""A model of the calendar is not believed further than this past its training data; climatology takes over."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalendarFit:
    """One target's linear model and the spread of its year-ahead errors by UTC hour."""

    blind: FloatArray
    """Intercept and coefficients without weather."""
    seeing: FloatArray | None
    """The same with weather; None where the zone has none."""
    spread: FloatArray
    """Shape (levels, 24), on the modelled scale."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalendarModel:
    """The calendar's models of a zone."""

    zone: str
    until_hour: int
    fits: Mapping[Target, CalendarFit]

    @property
    def model_id(self) -> str:
        """Say which model this is."""
        return f"calendar2-{self.zone}-until-{instant_of(self.until_hour):%Y%m%dT%HZ}"


def _calendar(hours: IntArray) -> FloatArray:
    """Return the calendar's columns: a daily profile that turns with the season, and one for each weekday."""
    angle = 2.0 * np.pi * ((hours / 24.0) % 365.2425) / 365.2425
    season = np.stack([np.ones(hours.size), np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)], axis=1)
    clock = np.eye(24)[hours % 24]
    weekday = np.eye(7)[(hours // 24 + 3) % 7]
    part = np.eye(4)[(hours % 24) // 6]
    return np.concatenate(
        [
            (clock[:, :, None] * season[:, None, :]).reshape(hours.size, -1),
            (weekday[:, :, None] * part[:, None, :]).reshape(hours.size, -1),
        ],
        axis=1,
    )


def _weather(weather: FloatArray, first_hour: int, hours: IntArray, end_hour: int) -> FloatArray:
    """Return the weather's columns; NaN where unknown at or after `end_hour`."""
    index, end = hours - first_hour, np.full(hours.size, end_hour - first_hour)
    wind, temp = (window(weather[:, k], index, 1, end)[:, 0] for k in (WIND, TEMP))
    sun = np.nanmean(
        np.concatenate(
            [window(weather[:, SUN], index + k, 1, end) for k in (0, 1, 2)] + [np.zeros((hours.size, 1))], axis=1
        ),
        axis=1,
    )
    warm = np.maximum(temp - COMFORT_C, 0.0)
    return np.stack([wind, wind**2 / 10.0, temp, warm, sun / 100.0], axis=1)


def _solve(matrix: FloatArray, values: FloatArray, weight: FloatArray) -> FloatArray:
    model = Ridge(alpha=PENALTY).fit(matrix, values, sample_weight=weight)
    return np.concatenate([[float(model.intercept_)], np.asarray(model.coef_, dtype=np.float64)])


def train_calendar(history: ZoneHistory, *, until: datetime) -> CalendarModel | None:
    """Train on what lies before `until`; None where no target has 400 days."""
    cutoff = hour_of(until)
    known = history.known_until(cutoff, cutoff)
    fits = {}
    newest = 0
    for target in ALL_TARGETS:
        scaled = prepare(known, target).scaled
        rows = np.flatnonzero(np.isfinite(scaled))
        if rows.size < MIN_HOURS:
            continue
        hours = rows + known.first_hour
        newest = max(newest, int(hours[-1]) + 1)
        calendar, values = _calendar(hours), scaled[rows]
        weight = 0.5 ** ((cutoff - hours) / HALF_LIFE_HOURS)
        late = hours > hours[-1] - HOLD_OUT_HOURS
        early = _solve(calendar[~late], values[~late], weight[~late])
        # Errors without weather: the wider case, so that the range stays honest where there is none.
        error = values[late] - early[0] - calendar[late] @ early[1:]
        clock = hours[late] % 24
        spread = np.stack([np.quantile(error[clock == hour], QUANTILE_LEVELS) for hour in range(24)], axis=1)
        weather = _weather(known.weather, known.first_hour, hours, cutoff)
        seen = np.isfinite(weather).all(axis=1)
        seeing = None
        if seen.sum() >= MIN_HOURS // 2:
            seeing = _solve(np.concatenate([calendar, weather], axis=1)[seen], values[seen], weight[seen])
        fits[target] = CalendarFit(blind=_solve(calendar, values, weight), seeing=seeing, spread=spread)
    return CalendarModel(zone=history.zone, until_hour=newest, fits=fits) if fits else None


def issue_calendar(model: CalendarModel, history: ZoneHistory | None, *, at: datetime) -> ZoneForecast:
    """Forecast from the calendar, and from the forecast weather that `history` has for the hours ahead."""
    start = hour_of(at)
    hours = np.arange(start, start + HORIZON_HOURS, dtype=np.int64)
    calendar = _calendar(hours)
    weather = np.full((HORIZON_HOURS, 5), np.nan)
    if history is not None:
        weather = _weather(history.weather, history.first_hour, hours, start + HORIZON_HOURS)
    seen = np.isfinite(weather).all(axis=1)
    targets = {}
    for target, fit in model.fits.items():
        point = fit.blind[0] + calendar @ fit.blind[1:]
        if fit.seeing is not None and seen.any():
            full = np.concatenate([calendar, np.where(seen[:, None], weather, 0.0)], axis=1)
            point = np.where(seen, fit.seeing[0] + full @ fit.seeing[1:], point)
        quantiles = np.sort(target.from_scale(point + fit.spread[:, hours % 24]), axis=0)
        targets[target] = TargetForecast(
            levels=QUANTILE_LEVELS, quantiles=quantiles, mean=mean_of(quantiles), skill_percent=None
        )
    return ZoneForecast(
        zone=model.zone, start=instant_of(start), model_id=model.model_id, targets=targets, generation_mw={}
    )
