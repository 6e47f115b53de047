# SPDX-License-Identifier: Apache-2.0
"""Walking forward: what the models would have said at each issue, had they run then.

All issues of a walk lie at the same hour of day; each block of days has a model of its own, fitted on issues whose last
hour of outcome had been published before the block began.
"""

import time
from dataclasses import dataclass, replace

import numpy as np

from embellie_forecast.factors import FloatArray
from embellie_forecast.models.inputs import (
    BACK_HOURS,
    IntArray,
    Series,
    known_day,
    level_at,
    outcomes,
    sees_ahead,
    vectors,
    window,
)
from embellie_forecast.models.kernels import KernelModel, TooLittleDataError, fit
from embellie_forecast.models.targets import HORIZON_HOURS, Settings, WeatherUse

DAYS = HORIZON_HOURS // 24
SEEN_DAYS = 60
ROOM = 0.5
"""No hour of day is forecast further outside what it has shown in SEEN_DAYS than this part of that range."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditions:
    """What may be known at an issue, and when models are fitted."""

    weather: WeatherUse
    latency_hours: int = 0
    refit: bool = True
    """False: one model, fitted on what was known at `frozen_hour`."""
    train_from_hour: int | None = None
    """Nothing before this hour is trained on."""
    frozen_hour: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Walk:
    """Forecasts on the modelled scale, one row per issue; NaN where nothing could be said."""

    issue_hours: IntArray
    kernel: FloatArray
    """Shape (issues, 96): the fitted models; the naive forecasts' mean where too little data was there to fit."""
    before: FloatArray
    """Shape (issues, BACK_HOURS): what the fitted models say of the hours before each issue."""
    persistence: FloatArray
    """The last known 24 hours, repeated."""
    weekly: FloatArray
    """The same hours a week ago."""
    week_mean: FloatArray
    """The mean of the last seven days at that hour of day."""
    outcome: FloatArray
    fits: int
    fit_seconds: float = 0.0
    """All fits together."""
    unmodelled: frozenset[int] = frozenset()
    """Issue hours before which there was too little to fit on."""


def naive(series: Series, issue_hours: IntArray, latency_hours: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return persistence, the same hours a week ago, and the mean of the last seven days; each (issues, 96)."""
    days = np.stack([known_day(series, issue_hours, latency_hours, back) for back in range(7)])
    known = np.isfinite(days)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known.any(axis=0), np.where(known, days, 0.0).sum(axis=0) / known.sum(axis=0), np.nan)
    weekly = np.concatenate([days[6 - day] for day in range(DAYS)], axis=1)
    return np.tile(days[0], (1, DAYS)), weekly, np.tile(mean, (1, DAYS))


def held_in(walked: Walk, series: Series, latency_hours: int) -> Walk:
    """Return the walk with its forecasts within reach of what each hour of day has shown lately.

    Where an hour never varies, as the renewable share of a solar grid at night, it is forecast to stay as it is.
    """
    first = walked.issue_hours - 24 * SEEN_DAYS - series.first_hour
    end = walked.issue_hours - latency_hours - series.first_hour
    seen = window(series.scaled, first, 24 * SEEN_DAYS, end).reshape(-1, SEEN_DAYS, 24)
    low, high = (np.tile(extreme.reduce(seen, axis=1), (1, DAYS)) for extreme in (np.fmin, np.fmax))
    room = ROOM * (high - low)
    # An hour that has told nothing sets no limit.
    return replace(walked, kernel=np.fmax(np.fmin(walked.kernel, high + room), low - room))


def training_hours(
    series: Series, cutoff_hour: int, phase: int, conditions: Conditions, settings: Settings
) -> IntArray:
    """Return the issues at hour of day `phase` whose outcome is complete before `cutoff_hour`."""
    first = max(series.first_hour + 24, cutoff_hour - 24 * settings.max_training_days, conditions.train_from_hour or 0)
    first += (phase - first) % 24
    return np.arange(first, cutoff_hour - HORIZON_HOURS + 1, 24, dtype=np.int64)


def fit_at(series: Series, cutoff_hour: int, phase: int, conditions: Conditions, settings: Settings) -> KernelModel:
    """Fit for one hour of day on what was known at `cutoff_hour`.

    Raises:
        TooLittleDataError: There are too few days.
    """
    hours = training_hours(series, cutoff_hour, phase, conditions, settings)
    if hours.size == 0:
        raise TooLittleDataError("there is no day with a known outcome to train on")
    groups = vectors(series, hours, conditions.weather, conditions.latency_hours)
    level = level_at(series, hours, conditions.latency_hours)
    return fit(groups, outcomes(series, hours, BACK_HOURS) - level[:, None], settings)


def walk(series: Series, issue_hours: IntArray, conditions: Conditions, settings: Settings) -> Walk:
    """Forecast every issue of `issue_hours` (ascending, one hour of day) with models of their time."""
    latency = conditions.latency_hours
    phase = int(issue_hours[0] % 24)
    cutoffs = (issue_hours - issue_hours[0]) // (24 * settings.refit_days)
    # All inputs at once: they depend only on the issue, and neighbouring blocks share most of their training rows.
    all_hours = np.arange(
        int(training_hours(series, int(issue_hours[0]), phase, conditions, settings).min(initial=issue_hours[0])),
        int(issue_hours[-1]) + 1,
        24,
        dtype=np.int64,
    )
    groups = vectors(series, all_hours, conditions.weather, latency)
    level = level_at(series, all_hours, latency)[:, None]
    outcome = outcomes(series, all_hours, BACK_HOURS)
    where = np.searchsorted(all_hours, issue_hours)
    persistence, weekly, week_mean = naive(series, issue_hours, latency)
    said = np.concatenate([np.full((issue_hours.size, BACK_HOURS), np.nan), (persistence + week_mean) / 2.0], axis=1)
    unmodelled: set[int] = set()
    fits, seconds, model = 0, 0.0, None
    for block in np.unique(cutoffs):
        rows = np.flatnonzero(cutoffs == block)
        cutoff = int(issue_hours[rows[0]]) - latency
        if conditions.frozen_hour is not None and not conditions.refit:
            cutoff = min(cutoff, conditions.frozen_hour)
        if conditions.refit or model is None:
            hours = training_hours(series, cutoff, phase, conditions, settings)
            train = np.flatnonzero(np.isin(all_hours, hours))
            began = time.perf_counter()
            try:
                model = fit({k: v[train] for k, v in groups.items()}, outcome[train] - level[train], settings)
            except TooLittleDataError:
                model = None
            else:
                fits += 1
                seconds += time.perf_counter() - began
        if model is None:
            unmodelled.update(issue_hours[rows].tolist())
        else:
            at = where[rows]
            said[rows] = level[at] + model.predict({k: v[at] for k, v in groups.items()})
    blind = ~sees_ahead(series, issue_hours)
    if conditions.weather is not WeatherUse.NONE and blind.any():
        without = walk(series, issue_hours[blind], replace(conditions, weather=WeatherUse.NONE), settings)
        said[blind] = np.concatenate([without.before, without.kernel], axis=1)
        fits, seconds = fits + without.fits, seconds + without.fit_seconds
    return Walk(
        issue_hours=issue_hours,
        kernel=said[:, BACK_HOURS:],
        before=said[:, :BACK_HOURS],
        persistence=persistence,
        weekly=weekly,
        week_mean=week_mean,
        outcome=outcome[where, BACK_HOURS:],
        fits=fits,
        fit_seconds=seconds,
        unmodelled=frozenset(unmodelled),
    )
