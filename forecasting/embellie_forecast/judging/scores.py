# SPDX-License-Identifier: Apache-2.0
"""Scores of point and quantile forecasts; arrays of shape (issues, 96), quantiles (issues, levels, 96).

A day's score is the mean over its 24 hours, then the mean over issues; hours with unknown truth are left out.
"""

import numpy as np

from embellie_forecast.factors import FloatArray

TIE = 1e-9


def by_day(values: FloatArray, days: int) -> list[float | None]:
    """Return the mean over issues of each day's mean; None where nothing is known."""
    return [_mean_of_issues(values[:, 24 * day : 24 * day + 24]) for day in range(days)]


def _mean_of_issues(values: FloatArray) -> float | None:
    known = np.isfinite(values)
    rows = known.any(axis=1)
    if not rows.any():
        return None
    sums = np.where(known, values, 0.0).sum(axis=1)[rows]
    return float((sums / known.sum(axis=1)[rows]).mean())


def percentage_error(forecast: FloatArray, truth: FloatArray) -> FloatArray:
    """Return |forecast - truth| / truth [%]."""
    return np.asarray(100.0 * np.abs(forecast - truth) / truth, dtype=np.float64)


def interval_score(low: FloatArray, high: FloatArray, truth: FloatArray, miss: float = 0.2) -> FloatArray:
    """Return the interval score of a central range (Gneiting and Raftery 2007, eq. 43); smaller is better."""
    below, above = np.maximum(low - truth, 0.0), np.maximum(truth - high, 0.0)
    return np.asarray(high - low + 2.0 / miss * (below + above), dtype=np.float64)


def crps(quantiles: FloatArray, levels: tuple[float, ...], truth: FloatArray) -> float | None:
    """Return the continuous ranked probability score: twice the pinball loss integrated over the levels."""
    error = truth[:, None, :] - quantiles
    level = np.array(levels)[None, :, None]
    loss = np.maximum(level * error, (level - 1.0) * error)
    edges = np.concatenate([[0.0], (np.array(levels)[1:] + np.array(levels)[:-1]) / 2.0, [1.0]])
    return _mean_of_issues(2.0 * np.einsum("l,nlh->nh", np.diff(edges), loss))


def concordance(forecast: FloatArray, truth: FloatArray) -> float | None:
    """Return the share of pairs of hours of an issue that the forecast puts in the right order, mean over issues.

    Pairs with equal truth are left out; a tie in the forecast counts half.
    """
    upper = np.triu_indices(truth.shape[1], 1)
    found = []
    for predicted, actual in zip(forecast, truth, strict=True):
        change = actual[upper[0]] - actual[upper[1]]
        said = predicted[upper[0]] - predicted[upper[1]]
        use = np.isfinite(change) & np.isfinite(said) & (np.abs(change) > TIE)
        if use.any():
            right = np.where(np.abs(said[use]) <= TIE, 0.5, (said[use] > 0) == (change[use] > 0))
            found.append(float(right.mean()))
    return float(np.mean(found)) if found else None
