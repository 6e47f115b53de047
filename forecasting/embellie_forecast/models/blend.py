# SPDX-License-Identifier: Apache-2.0
"""Blending with persistence by recent skill, so that a grid that has just changed is not forecast from its past.

Per hour ahead, convex weights of the fitted model, persistence and the mean of the last week, chosen on the issues
whose outcome is known, and drawn towards prior weights that trust the model. Where persistence has lately done better
day after day, it takes that day ahead over.
"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from embellie_forecast.factors import FloatArray
from embellie_forecast.models.inputs import IntArray
from embellie_forecast.models.targets import HORIZON_HOURS, Settings
from embellie_forecast.models.walk import DAYS, Walk

PRIOR = np.array([0.94, 0.03, 0.03])
ONLY_PERSISTENCE = np.array([0.0, 1.0, 0.0])
MIN_ISSUES = 14
MAX_ERROR = 1.5
"""Errors beyond this on the modelled scale count as this much: one broken day must not decide the weights."""
FADING = 0.5 ** (1.0 / 30.0)
"""What an issue tells of who does better counts so much less than what the next one tells: half of it after a month."""
MOST_EVIDENCE = 5.0
"""No more is remembered either way, in issues in which one of the two made no error: so it can turn within weeks."""
ODDS, RATE = 8.0, 2.0
"""Logarithm of the odds that persistence should not take over before there is evidence, and what evidence adds."""


def known_issues(now_issue: int, day: int, issue_hours: IntArray, latency_hours: int) -> npt.NDArray[np.bool_]:
    """Tell which issues' forecasts of a day ahead (0..3) could be compared with the truth at `now_issue`."""
    return np.asarray(issue_hours + 24 * (day + 1) <= now_issue - latency_hours)


def weights_for(walk: Walk, at_hour: int, latency_hours: int, settings: Settings) -> FloatArray:
    """Return the weights of (model, persistence, week's mean) per hour ahead at an issue; shape (96, 3).

    Each hour of day has its own: what is never wrong by night tells nothing of noon.
    """
    out = np.tile(PRIOR, (HORIZON_HOURS, 1))
    recent = walk.issue_hours >= at_hour - 24 * settings.blend_days
    for day in range(DAYS):
        rows = known_issues(at_hour, day, walk.issue_hours, latency_hours) & recent
        if rows.sum() < MIN_ISSUES:
            continue
        part = slice(24 * day, 24 * day + 24)
        members = np.stack([m[rows, part] for m in (walk.kernel, walk.persistence, walk.week_mean)], axis=2)
        errors = np.clip(members - walk.outcome[rows, part, None], -MAX_ERROR, MAX_ERROR)
        # An issue at an hour of day without past issues of its own borrows those of another.
        errors = np.roll(errors, int(walk.issue_hours[rows][-1] - at_hour) % 24, axis=1)
        for hour in range(24):
            known = errors[np.isfinite(errors[:, hour]).all(axis=1), hour]
            if len(known) >= MIN_ISSUES:
                out[24 * day + hour] = _convex(known, settings.blend_shrink)
        taken = taken_over(errors)
        out[part] = (1.0 - taken) * out[part] + taken * ONLY_PERSISTENCE
    return out


def taken_over(errors: FloatArray) -> float:
    """Return how much of a day ahead persistence takes over, by who erred less lately.

    Exponential weights of two forecasters (Cesa-Bianchi and Lugosi 2006, "Prediction, learning, and games", section
    2.2), on how much larger one's error was than the other's, which fades and is bounded.

    Args:
        errors: Of (model, persistence, ...) on the modelled scale, shape (issues, 24, members), the newest issue last.
    """
    size = np.abs(errors[:, :, :2])
    model, naive = np.where(np.isfinite(size).all(axis=2, keepdims=True), size, 0.0).sum(axis=1).T
    evidence = 0.0
    for better in ((naive - model) / (naive + model + 1e-9)).tolist():
        evidence = min(max(FADING * evidence + better, -MOST_EVIDENCE), MOST_EVIDENCE)
    return float(1.0 / (1.0 + np.exp(ODDS + RATE * evidence)))


def _convex(errors: FloatArray, shrink_days: float) -> FloatArray:
    """Return the weights (sum 1, none negative) that minimise squared error plus distance from the prior."""
    size = np.sqrt(np.mean((errors @ PRIOR) ** 2)) + 1e-9
    total = 1e8
    # The weights sum to one, so the error of the blend is the blend of the errors.
    matrix = errors.T @ errors / size**2 + shrink_days * np.eye(PRIOR.size) + total
    found = nnls(matrix, shrink_days * PRIOR + total)[0]
    return np.asarray(found / found.sum(), dtype=np.float64)


def ridge(inputs: FloatArray, outcome: FloatArray, penalty: float) -> FloatArray:
    """Return the coefficients of a ridge regression without intercept (Hoerl and Kennard 1970); shape (inputs,).

    scikit-learn's checks cost more than so small a sum, which every past issue of a forecast asks for.
    """
    square = inputs.T @ inputs + penalty * np.eye(inputs.shape[1])
    return np.asarray(np.linalg.solve(square, inputs.T @ outcome), dtype=np.float64)


def blend(walk: Walk, latency_hours: int, settings: Settings) -> FloatArray:
    """Return the blended forecast of every issue; shape (issues, 96)."""
    return np.stack([blended(walk, row, latency_hours, settings) for row in range(walk.issue_hours.size)])


def blended(walk: Walk, row: int, latency_hours: int, settings: Settings) -> FloatArray:
    """Return one issue's blend; a forecast that is missing hands its weight to the others."""
    weights = weights_for(walk, int(walk.issue_hours[row]), latency_hours, settings)
    members = np.stack([walk.kernel[row], walk.persistence[row], walk.week_mean[row]])
    known = weights.T * np.isfinite(members)
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = np.where(np.isfinite(members), members, 0.0) * known / known.sum(axis=0)
    return np.asarray(parts.sum(axis=0), dtype=np.float64)
