# SPDX-License-Identifier: Apache-2.0
"""Blending with persistence by recent skill, so that a grid that has just changed is not forecast from its past.

Per day ahead, convex weights of the fitted model, persistence and the mean of the last week, chosen on the issues whose
outcome is known, and drawn towards prior weights that trust the model.
"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from embellie_forecast.factors import FloatArray
from embellie_forecast.models.inputs import IntArray
from embellie_forecast.models.targets import HORIZON_HOURS, Settings
from embellie_forecast.models.walk import DAYS, Walk

PRIOR = np.array([0.94, 0.03, 0.03])
MIN_ISSUES = 14
MAX_ERROR = 1.5
"""Errors beyond this on the modelled scale count as this much: one broken day must not decide the weights."""


def known_issues(now_issue: int, day: int, issue_hours: IntArray, latency_hours: int) -> npt.NDArray[np.bool_]:
    """Tell which issues' forecasts of a day ahead (0..3) could be compared with the truth at `now_issue`."""
    return np.asarray(issue_hours + 24 * (day + 1) <= now_issue - latency_hours)


def weights_for(walk: Walk, at_hour: int, latency_hours: int, settings: Settings) -> FloatArray:
    """Return the weights of (model, persistence, week's mean) per day ahead at an issue; shape (4, 3)."""
    out = np.tile(PRIOR, (DAYS, 1))
    recent = walk.issue_hours >= at_hour - 24 * settings.blend_days
    for day in range(DAYS):
        rows = known_issues(at_hour, day, walk.issue_hours, latency_hours) & recent
        if rows.sum() < MIN_ISSUES:
            continue
        part = slice(24 * day, 24 * day + 24)
        members = np.stack([m[rows, part].ravel() for m in (walk.kernel, walk.persistence, walk.week_mean)], axis=1)
        errors = np.clip(members - walk.outcome[rows, part].reshape(-1, 1), -MAX_ERROR, MAX_ERROR)
        errors = errors[np.isfinite(errors).all(axis=1)]
        if len(errors) >= 24 * MIN_ISSUES:
            out[day] = _convex(errors, settings.blend_shrink)
    return out


def _convex(errors: FloatArray, shrink_days: float) -> FloatArray:
    """Return the weights (sum 1, none negative) that minimise squared error plus distance from the prior."""
    size = np.sqrt(np.mean((errors @ PRIOR) ** 2)) + 1e-9
    pull = np.sqrt(shrink_days * 24.0)
    total = 1e4
    # The weights sum to one, so the error of the blend is the blend of the errors.
    matrix = np.vstack([errors / size, np.eye(PRIOR.size) * pull, np.full((1, PRIOR.size), total)])
    wanted = np.concatenate([np.zeros(len(errors)), PRIOR * pull, [total]])
    found = nnls(matrix.T @ matrix, matrix.T @ wanted)[0]
    return np.asarray(found / found.sum(), dtype=np.float64)


def blend(walk: Walk, latency_hours: int, settings: Settings) -> FloatArray:
    """Return the blended forecast of every issue; shape (issues, 96)."""
    out = np.empty((walk.issue_hours.size, HORIZON_HOURS))
    for k, hour in enumerate(walk.issue_hours):
        out[k] = blended(walk, k, weights_for(walk, int(hour), latency_hours, settings))
    return out


def blended(walk: Walk, row: int, weights: FloatArray) -> FloatArray:
    """Return one issue's blend; a forecast that is missing hands its weight to the others."""
    members = np.stack([walk.kernel[row], walk.persistence[row], walk.week_mean[row]])
    by_hour = np.repeat(weights.T, 24, axis=1) * np.isfinite(members)
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = np.where(np.isfinite(members), members, 0.0) * by_hour / by_hour.sum(axis=0)
    return np.asarray(parts.sum(axis=0), dtype=np.float64)
