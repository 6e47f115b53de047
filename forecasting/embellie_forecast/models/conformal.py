# SPDX-License-Identifier: Apache-2.0
"""Quantiles from the forecaster's own recent errors, per lead.

Split-conformal prediction on a rolling window (Angelopoulos and Bates 2021, section 1; Barber et al. 2023). How far the
80 % range was missed lately then stretches or shrinks all quantiles of that day ahead (adaptive conformal inference,
Gibbs and Candes 2021, on the width instead of the level, so that it can never become infinite).
"""

import numpy as np

from embellie_forecast.factors import FloatArray
from embellie_forecast.models.blend import known_issues
from embellie_forecast.models.inputs import IntArray
from embellie_forecast.models.targets import QUANTILE_LEVELS, Settings

NEIGHBOUR_HOURS = 2
"""Errors of leads this close count as errors of the same lead, at its size."""
MIN_ISSUES = 10
INNER = (QUANTILE_LEVELS.index(0.1), QUANTILE_LEVELS.index(0.9))
NOMINAL_MISS = 0.2
STRETCH_LIMITS = (0.6, 1.8)
WIDEST = 1.0
"""Half-width on the modelled scale while there is no error to learn from yet."""
_LEVELS = np.array(QUANTILE_LEVELS)


def calibrate(
    issue_hours: IntArray, forecast: FloatArray, outcome: FloatArray, latency_hours: int, settings: Settings
) -> FloatArray:
    """Return the quantiles of every issue from the errors that were known at it; shape (issues, levels, hours).

    Args:
        issue_hours: Ascending.
        forecast: Shape (issues, 96), or fewer whole days, on the modelled scale.
        outcome: The same shape; NaN where unknown. Looked at only once published.
        latency_hours: How late readings arrive.
        settings: Window and rate.
    """
    out = np.empty((issue_hours.size, _LEVELS.size, forecast.shape[1]))
    for day in range(forecast.shape[1] // 24):
        part = slice(24 * day, 24 * day + 24)
        pooled = _pooled(outcome[:, part] - forecast[:, part])
        stretch, judged, learnt = 1.0, 0, np.zeros(issue_hours.size, dtype=bool)
        for k, hour in enumerate(issue_hours):
            known = known_issues(int(hour), day, issue_hours, latency_hours)
            while judged < k and known[judged]:
                low, high = out[judged, INNER[0], part], out[judged, INNER[1], part]
                truth = outcome[judged, part]
                # What was said before there was an error to learn from tells nothing of what is learnt.
                seen = np.isfinite(truth) & learnt[judged]
                if seen.any():
                    miss = float(((truth < low) | (truth > high))[seen].mean())
                    stretch *= float(np.exp(settings.adapt_rate * (miss - NOMINAL_MISS)))
                    stretch = float(np.clip(stretch, *STRETCH_LIMITS))
                judged += 1
            rows = known & (issue_hours >= hour - 24 * settings.calibration_days)
            n_known = int(rows.sum())
            learnt[k] = n_known >= MIN_ISSUES
            middle = _quantiles(_of_one_size(pooled[:, rows]).reshape(-1, 24), n_known)
            out[k, :, part] = forecast[k, part] + stretch * middle
    return out


def _pooled(errors: FloatArray) -> FloatArray:
    """Return the errors of each hour and of its neighbours; shape (neighbours, issues, 24)."""
    copies = []
    for shift in range(-NEIGHBOUR_HOURS, NEIGHBOUR_HOURS + 1):
        moved = np.full(errors.shape, np.nan)
        if shift < 0:
            moved[:, :shift] = errors[:, -shift:]
        elif shift > 0:
            moved[:, shift:] = errors[:, :-shift]
        else:
            moved[:] = errors
        copies.append(moved)
    return np.stack(copies)


def _of_one_size(errors: FloatArray) -> FloatArray:
    """Return what `_pooled` gave with the neighbours' errors drawn to the size of the hour's own: hour 1 errs less."""
    known = np.isfinite(errors)
    squares = np.where(known, errors, 0.0) ** 2
    size = np.sqrt(squares.sum(axis=1) / np.maximum(known.sum(axis=1), 1))
    return np.asarray(errors * (size[NEIGHBOUR_HOURS] / np.maximum(size, 1e-9))[:, None], dtype=np.float64)


def _quantiles(errors: FloatArray, n_issues: int) -> FloatArray:
    """Return finite-sample quantiles of each column; shape (levels, columns)."""
    if n_issues < MIN_ISSUES:
        return np.tile(WIDEST * (2.0 * _LEVELS - 1.0)[:, None], (1, errors.shape[1]))
    # The finite-sample correction counts issues: the pooled hours of one day err together.
    outward = np.where(_LEVELS < 0.5, _LEVELS - (1 - _LEVELS) / n_issues, _LEVELS + _LEVELS / n_issues)
    levels = np.clip(np.where(_LEVELS == 0.5, 0.5, outward), 0.0, 1.0)
    ordered = np.sort(errors, axis=0)
    count = np.isfinite(errors).sum(axis=0)
    if not count.all():
        ordered = np.where(count > 0, ordered, 0.0)
    position = levels[:, None] * np.maximum(count - 1, 0)[None]
    below = np.floor(position).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(count - 1, 0))
    columns = np.arange(errors.shape[1])
    low, high = ordered[below, columns], ordered[above, columns]
    return np.asarray(low + (position - below) * (high - low), dtype=np.float64)
