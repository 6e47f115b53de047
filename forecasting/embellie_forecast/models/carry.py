# SPDX-License-Identifier: Apache-2.0
"""How what the model misses of the newest reading carries into the next hours.

The regressions also say the hours before an issue. What they miss of the newest known one they have not taken in, and
it fades over the hours after. How much of it carries, and how it fades, is learnt from the last issues, and drawn to
nothing where it does not help.
"""

from dataclasses import replace

import numpy as np

from embellie_forecast.factors import FloatArray
from embellie_forecast.models.blend import MIN_ISSUES, known_issues, ridge
from embellie_forecast.models.inputs import BACK_HOURS, Series, window
from embellie_forecast.models.walk import Walk

REACH_HOURS = 12
FADE_HOURS = (2.0, 8.0)
"""The miss fades like a weighted sum of two exponentials with these time constants."""
MEMORY_DAYS = 90
PENALTY_DAYS = 60.0
"""The ridge's penalty counts like so many days of hours that say that nothing carries."""
LIMIT = 6.0
"""Misses beyond so many times the usual (median) one count as that much: one mad reading must not rule."""


def carried(walked: Walk, series: Series, latency_hours: int) -> Walk:
    """Return the walk with the first hours of each issue moved by what the model misses of the newest reading."""
    newest, hours_ago = _newest_miss(walked, series, latency_hours)
    fading = np.exp(-(hours_ago[:, None, None] - 1 + np.arange(REACH_HOURS)[None, :, None]) / np.array(FADE_HOURS))
    near = walked.kernel[:, :REACH_HOURS].copy()
    missed = walked.outcome[:, :REACH_HOURS] - near
    for row, at in enumerate(walked.issue_hours.tolist()):
        past = known_issues(at, 0, walked.issue_hours, latency_hours) & np.isfinite(newest)
        past &= walked.issue_hours >= at - 24 * MEMORY_DAYS
        if past.sum() < MIN_ISSUES or not np.isfinite(newest[row]):
            continue
        limit = LIMIT * float(np.median(np.abs(newest[past])))
        held = np.clip(newest, -limit, limit)[:, None, None] * fading
        came = missed[past].ravel()
        use = np.isfinite(came)
        limit = LIMIT * float(np.median(np.abs(came[use])))
        seen = held[past].reshape(-1, len(FADE_HOURS))[use]
        spread = seen.std(axis=0) + 1e-9
        weights = ridge(seen / spread, np.clip(came[use], -limit, limit), REACH_HOURS * PENALTY_DAYS)
        near[row] += held[row] / spread @ weights
    return replace(walked, kernel=np.concatenate([near, walked.kernel[:, REACH_HOURS:]], axis=1))


def _newest_miss(walked: Walk, series: Series, latency_hours: int) -> tuple[FloatArray, FloatArray]:
    """Return, per issue, what the model misses of the newest known hour (NaN: none is known), and how old it is [h]."""
    first = walked.issue_hours - BACK_HOURS - series.first_hour
    misses = window(series.scaled, first, BACK_HOURS, first + BACK_HOURS - latency_hours) - walked.before
    hours_ago = 1 + np.isfinite(misses)[:, ::-1].argmax(axis=1)
    newest = misses[np.arange(len(misses)), BACK_HOURS - hours_ago]
    return newest, hours_ago.astype(np.float64)
