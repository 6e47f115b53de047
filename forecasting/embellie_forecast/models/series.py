# SPDX-License-Identifier: Apache-2.0
"""Forecasts as they would have been issued, one after another, each from what was known at its time."""

from dataclasses import dataclass

import numpy as np

from embellie_forecast.factors import FloatArray
from embellie_forecast.history import ZoneHistory
from embellie_forecast.models.blend import blend, blended
from embellie_forecast.models.carry import carried
from embellie_forecast.models.conformal import calibrate
from embellie_forecast.models.inputs import IntArray, Series, prepare
from embellie_forecast.models.official import corrected
from embellie_forecast.models.targets import HORIZON_HOURS, QUANTILE_LEVELS, Settings, Target
from embellie_forecast.models.walk import Conditions, Walk, held_in, walk
from embellie_forecast.models.zone import usable_weather

_REFIT_DAYS = 28
"""Between the fits of a long series."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IssuedSeries:
    """Forecasts by issue, in the target's unit (g/kWh, or a share 0..1)."""

    target: Target
    issue_hours: IntArray
    """Hours since 1970, ascending; the first slot of a forecast begins there."""
    point: FloatArray
    """Shape (issues, 96)."""
    quantiles: FloatArray
    """Shape (issues, levels, 96)."""
    levels: tuple[float, ...]
    truth: FloatArray
    """Shape (issues, 96); NaN where unknown."""
    persistence: FloatArray
    weekly: FloatArray
    persistence_quantiles: FloatArray
    fits: int
    fit_seconds: float = 0.0
    unmodelled: int = 0
    """Issues before which there was too little to fit on: persistence and the week's mean alone."""


def issue_points(history: ZoneHistory, target: Target, hours: IntArray) -> FloatArray:
    """Return forecasts as they would have been issued, without their quantiles, in the target's unit (g/kWh, or 0..1).

    Each is made only of what was known at its issue; models are fitted anew every four weeks, with a day of forecast
    weather or more where the history has it.

    Args:
        history: The zone's whole history; what lies after an issue is not looked at for it.
        target: What to forecast.
        hours: The issues, hours since 1970, ascending.

    Returns:
        Shape (hours, 96); the first slot of a forecast begins at its issue.
    """
    series, settings = prepare(history, target), Settings(refit_days=_REFIT_DAYS)
    conditions = Conditions(weather=usable_weather(history))
    points = np.empty((hours.size, HORIZON_HOURS))
    for phase in np.unique(hours % 24).tolist():
        rows = np.flatnonzero(hours % 24 == phase)
        walked = _walked(series, hours[rows], conditions, settings)
        # The issues of the warm-up come first, and only the weights look at them.
        for row in range(-rows.size, 0):
            points[rows[row]] = blended(walked, row, conditions.latency_hours, settings)
    return target.from_scale(points)


def issue_at(series: Series, hours: IntArray, conditions: Conditions, settings: Settings) -> IssuedSeries:
    """Issue at `hours`, which share an hour of day, after a warm-up that the blend and the quantiles learn from."""
    walked = _walked(series, hours, conditions, settings)
    point = blend(walked, conditions.latency_hours, settings)
    keep = np.isin(walked.issue_hours, hours)
    return IssuedSeries(
        target=series.target,
        issue_hours=walked.issue_hours[keep],
        point=series.target.from_scale(point[keep]),
        quantiles=series.target.from_scale(_bands(walked, point, conditions, settings)[keep]),
        levels=QUANTILE_LEVELS,
        truth=series.target.from_scale(walked.outcome[keep]),
        persistence=series.target.from_scale(walked.persistence[keep]),
        weekly=series.target.from_scale(walked.weekly[keep]),
        persistence_quantiles=series.target.from_scale(_bands(walked, walked.persistence, conditions, settings)[keep]),
        fits=walked.fits,
        unmodelled=len(walked.unmodelled.intersection(hours.tolist())),
        fit_seconds=walked.fit_seconds,
    )


def _walked(series: Series, hours: IntArray, conditions: Conditions, settings: Settings) -> Walk:
    walked = walk(series, warmed_up(series, hours, settings), conditions, settings)
    # The corrections are fitted anew at each issue.
    if conditions.refit:
        walked = corrected(walked, series, conditions.weather, conditions.latency_hours)
        walked = carried(walked, series, conditions.latency_hours)
    return held_in(walked, series, conditions.latency_hours)


def warmed_up(series: Series, hours: IntArray, settings: Settings) -> IntArray:
    """Return the hours of all issues: daily ones before the first of `hours`, as far as there are data, then those."""
    first = int(hours[0])
    earliest = max(first - 24 * settings.warm_up_days, series.first_hour + 24 * 8)
    before = np.arange(first - 24 * max(0, (first - earliest) // 24), first, 24, dtype=np.int64)
    return np.concatenate([before, hours])


def _bands(walked: Walk, point: FloatArray, conditions: Conditions, settings: Settings) -> FloatArray:
    return calibrate(walked.issue_hours, point, walked.outcome, conditions.latency_hours, settings)
