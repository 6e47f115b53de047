# SPDX-License-Identifier: Apache-2.0
"""What a system operator's own day-ahead wind and solar tell that the kernel regressions have not taken in.

A ridge regression of their recent misses on how the official forecast changes against the day before. It needs weeks
where those need a year: official forecasts may begin late. What it adds is shrunk to nothing where they do not help.
"""

from dataclasses import replace

import numpy as np

from embellie_forecast.factors import FloatArray
from embellie_forecast.models.blend import MAX_ERROR, MIN_ISSUES, known_issues, ridge
from embellie_forecast.models.inputs import Series, known_day, mean_before, window
from embellie_forecast.models.kernels import CLIP_SD
from embellie_forecast.models.targets import WeatherUse
from embellie_forecast.models.walk import Walk

REACH_HOURS = 24
"""Official forecasts are made for the day ahead."""
MEMORY_DAYS = 60
PENALTY_DAYS = 3.0
"""The ridge's penalty counts like so many days of hours that say there is nothing to add."""


def corrected(walked: Walk, series: Series, weather: WeatherUse, latency_hours: int) -> Walk:
    """Return the walk with the first day of each issue corrected by what was known at it."""
    if weather is WeatherUse.NONE or not np.isfinite(series.official_mw).any():
        return walked
    inputs = _inputs(walked, series, latency_hours)
    first_day = walked.kernel[:, :REACH_HOURS].copy()
    missed = np.clip(walked.outcome[:, :REACH_HOURS] - first_day, -MAX_ERROR, MAX_ERROR)
    for row, at in enumerate(walked.issue_hours.tolist()):
        past = known_issues(at, 0, walked.issue_hours, latency_hours)
        past &= walked.issue_hours >= at - 24 * MEMORY_DAYS
        seen, came = inputs[past].reshape(-1, inputs.shape[2]), missed[past].ravel()
        # A source that has told nothing so far must not hide the other.
        told = np.flatnonzero(np.isfinite(seen).any(axis=0))
        seen, now = seen[:, told], inputs[row][:, told]
        use, here = np.isfinite(seen).all(axis=1) & np.isfinite(came), np.isfinite(now).all(axis=1)
        if told.size < 2 or use.sum() < REACH_HOURS * MIN_ISSUES or not here.any():
            continue
        spread = seen[use].std(axis=0) + 1e-9
        weights = ridge(np.clip(seen[use] / spread, -CLIP_SD, CLIP_SD), came[use], REACH_HOURS * PENALTY_DAYS)
        first_day[row, here] += np.clip(now[here] / spread, -CLIP_SD, CLIP_SD) @ weights
    return replace(walked, kernel=np.concatenate([first_day, walked.kernel[:, REACH_HOURS:]], axis=1))


def _inputs(walked: Walk, series: Series, latency_hours: int) -> FloatArray:
    """Return changes against the day before: the model's, and the official ones over the load; (issues, 24, n)."""
    now = walked.issue_hours - series.first_hour
    usual_load = np.exp(mean_before(series.log_total, now - latency_hours, 168))[:, None]
    columns = [walked.kernel[:, :REACH_HOURS] - known_day(series, walked.issue_hours, latency_hours)]
    for k in range(series.official_mw.shape[1]):
        ahead, before = (
            window(series.official_mw[:, k], first, REACH_HOURS, first + REACH_HOURS) / usual_load
            for first in (now, now - REACH_HOURS)
        )
        columns += [ahead - before, ahead - before.mean(axis=1, keepdims=True)]
    return np.stack(columns, axis=2)
