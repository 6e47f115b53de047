# SPDX-License-Identifier: Apache-2.0
"""The model behind the rung Calendar: hour, weekday, holiday and season, and the weather where it is known.

It needs no feed. Its errors are measured a year ahead, because that is how it is used: nothing tells it today's level.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from embellie_forecast.calibration import QUANTILE_LEVELS, conformal_quantile
from embellie_forecast.dataset import History
from embellie_forecast.factors import FloatArray
from embellie_forecast.features import IntArray, Series, calendar_columns, prepare, weather_columns

HOLD_OUT_HOURS = 365 * 24
MIN_HOURS = 400 * 24
HALF_LIFE_HOURS = 365 * 24
MAX_AGE_HOURS = 2 * 365 * 24
"""A model of the calendar is not believed further than this past its training data; climatology takes over."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalendarModel:
    """Two regressors and the spread of their year-ahead errors by UTC hour."""

    cutoff_hour: int
    columns: IntArray
    carbon: Any
    share: Any
    carbon_spread: FloatArray
    """Shape (3, 24), in log carbon intensity."""
    share_spread: FloatArray
    """Shape (3, 24), in log odds."""
    mean_factor: FloatArray
    """Shape (24,)."""


def _matrix(series: Series, hours: IntArray, weather_end_hour: int) -> FloatArray:
    end = np.full(hours.size, weather_end_hour - series.first_hour, dtype=np.int64)
    columns = calendar_columns(series, hours)
    now = weather_columns(series, hours - series.first_hour, end)
    columns |= {name: now[name] for name in ("wx_wind", "wx_temp", "wx_sun", "wx_sun_next")}
    return np.stack(list(columns.values()), axis=1)


def _fit(series: Series, rows: IntArray, cutoff_hour: int, max_iter: int, seed: int) -> tuple[IntArray, Any, Any]:
    hours = rows + series.first_hour
    # Every other day without its weather, so that the model knows both situations.
    blind = (hours // 24) % 2 == 0
    matrix = np.where(blind[:, None], _matrix(series, hours, 0), _matrix(series, hours, cutoff_hour))
    weight = 0.5 ** ((cutoff_hour - hours) / HALF_LIFE_HOURS)
    columns = np.flatnonzero(np.isfinite(matrix).sum(axis=0) > 1)
    regressors = []
    for values in (series.log_carbon, series.logit_share):
        regressor = HistGradientBoostingRegressor(
            max_iter=max_iter, learning_rate=0.1, min_samples_leaf=100, early_stopping=False, random_state=seed
        )
        regressors.append(regressor.fit(matrix[:, columns], values[rows], sample_weight=weight))
    return columns, regressors[0], regressors[1]


def train_calendar(history: History, cutoff_hour: int, *, max_iter: int, seed: int) -> CalendarModel | None:
    """Train on what lies before the cutoff; None where that is less than 400 days."""
    series = prepare(history.known_until(cutoff_hour, cutoff_hour))
    rows = np.flatnonzero(np.isfinite(series.log_carbon) & np.isfinite(series.logit_share))
    if rows.size < MIN_HOURS:
        return None
    split = rows[-1] - HOLD_OUT_HOURS
    early, late = rows[rows <= split], rows[rows > split]
    if early.size < HOLD_OUT_HOURS // 12:
        return None
    columns, carbon, share = _fit(series, early, series.first_hour + int(split) + 1, max_iter, seed)
    # Errors without weather: the wider case, so that the range stays honest where there is none.
    blind = _matrix(series, late + series.first_hour, 0)[:, columns]
    carbon_error = series.log_carbon[late] - carbon.predict(blind)
    share_error = series.logit_share[late] - share.predict(blind)
    hour = (late + series.first_hour) % 24
    carbon_spread, share_spread = np.empty((3, 24)), np.empty((3, 24))
    mean_factor = np.empty(24)
    for h in range(24):
        cell = hour == h
        carbon_spread[:, h] = [conformal_quantile(carbon_error[cell], level) for level in QUANTILE_LEVELS]
        share_spread[:, h] = [conformal_quantile(share_error[cell], level) for level in QUANTILE_LEVELS]
        mean_factor[h] = np.exp(np.clip(carbon_error[cell], -2.0, 2.0)).mean()
    columns, carbon, share = _fit(series, rows, cutoff_hour, max_iter, seed)
    return CalendarModel(
        cutoff_hour=series.first_hour + int(rows[-1]) + 1,
        columns=columns,
        carbon=carbon,
        share=share,
        carbon_spread=carbon_spread,
        share_spread=share_spread,
        mean_factor=mean_factor,
    )


def predict_calendar(
    model: CalendarModel, series: Series, hours: IntArray, weather_end_hour: int
) -> tuple[FloatArray, FloatArray]:
    """Return the point forecasts: logarithm of carbon intensity, and log odds of renewable share."""
    matrix = _matrix(series, hours, weather_end_hour)[:, model.columns]
    return model.carbon.predict(matrix), model.share.predict(matrix)
