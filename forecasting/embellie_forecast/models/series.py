# SPDX-License-Identifier: Apache-2.0
"""Forecasts as they would have been issued, one after another, each from what was known at its time."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from embellie_forecast.factors import FloatArray
from embellie_forecast.history import ZoneHistory, hour_of
from embellie_forecast.models.blend import blend
from embellie_forecast.models.conformal import calibrate
from embellie_forecast.models.inputs import IntArray, Series, prepare
from embellie_forecast.models.targets import QUANTILE_LEVELS, Settings, Target, WeatherUse
from embellie_forecast.models.walk import Conditions, Walk, walk
from embellie_forecast.models.zone import usable_weather


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

    def at(self, hour: int) -> tuple[FloatArray, FloatArray]:
        """Return point (96,) and quantiles (levels, 96) of the issue at an hour since 1970.

        Raises:
            KeyError: Nothing was issued then.
        """
        row = int(np.searchsorted(self.issue_hours, hour))
        if row == self.issue_hours.size or self.issue_hours[row] != hour:
            raise KeyError(hour)
        return self.point[row], self.quantiles[row]


def issue_series(
    history: ZoneHistory,
    target: Target,
    *,
    first: datetime,
    last: datetime,
    every_hours: int = 1,
    weather: WeatherUse | None = None,
    latency_hours: int = 0,
    refit_days: int = 28,
) -> IssuedSeries:
    """Issue forecasts from `first` to `last`, each trained and calibrated only on what was known at it.

    Args:
        history: The zone's whole history; what lies after an issue is not looked at for it.
        target: What to forecast.
        first: The first issue; whole UTC hour.
        last: Nothing is issued after it.
        every_hours: Hours between issues; a divisor or a multiple of 24.
        weather: None: a day of forecast weather where the history has it.
        latency_hours: How late grid readings arrive.
        refit_days: Days between fits.
    """
    if every_hours < 1 or (24 % every_hours and every_hours % 24):
        raise ValueError(f"every_hours must divide 24 or be a multiple of it, got {every_hours}")
    series = prepare(history, target)
    hours = np.arange(hour_of(first), hour_of(last) + 1, every_hours, dtype=np.int64)
    if hours.size == 0:
        raise ValueError("there is no issue between first and last")
    if weather is None:
        weather = usable_weather(history)
    conditions = Conditions(weather=weather, latency_hours=latency_hours)
    settings = Settings(refit_days=refit_days)
    parts = [
        issue_at(series, hours[hours % 24 == phase], conditions, settings) for phase in np.unique(hours % 24).tolist()
    ]
    order = np.argsort(np.concatenate([part.issue_hours for part in parts]), kind="stable")

    def joined(name: str) -> FloatArray:
        return np.concatenate([getattr(part, name) for part in parts])[order]

    return IssuedSeries(
        target=target,
        issue_hours=np.concatenate([part.issue_hours for part in parts])[order],
        levels=QUANTILE_LEVELS,
        fits=sum(part.fits for part in parts),
        fit_seconds=sum(part.fit_seconds for part in parts),
        unmodelled=sum(part.unmodelled for part in parts),
        point=joined("point"),
        quantiles=joined("quantiles"),
        truth=joined("truth"),
        persistence=joined("persistence"),
        weekly=joined("weekly"),
        persistence_quantiles=joined("persistence_quantiles"),
    )


def issue_at(series: Series, hours: IntArray, conditions: Conditions, settings: Settings) -> IssuedSeries:
    """Issue at `hours`, which share an hour of day, after a warm-up that the blend and the quantiles learn from."""
    walked = walk(series, warmed_up(series, hours, settings), conditions, settings)
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


def warmed_up(series: Series, hours: IntArray, settings: Settings) -> IntArray:
    """Return the hours of all issues: daily ones before the first of `hours`, as far as there are data, then those."""
    first = int(hours[0])
    earliest = max(first - 24 * settings.warm_up_days, series.first_hour + 24 * 8)
    before = np.arange(first - 24 * max(0, (first - earliest) // 24), first, 24, dtype=np.int64)
    return np.concatenate([before, hours])


def _bands(walked: Walk, point: FloatArray, conditions: Conditions, settings: Settings) -> FloatArray:
    return calibrate(walked.issue_hours, point, walked.outcome, conditions.latency_hours, settings)
