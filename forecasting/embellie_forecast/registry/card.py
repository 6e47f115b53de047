# SPDX-License-Identifier: Apache-2.0
"""A model's card: what it was trained on, what it looks at, and how well it did on days that it had not seen."""

import hashlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import sklearn

from embellie_forecast.history import ZoneHistory, instant_of
from embellie_forecast.models.blend import blend
from embellie_forecast.models.conformal import calibrate
from embellie_forecast.models.inputs import prepare
from embellie_forecast.models.targets import QUANTILE_LEVELS, Target
from embellie_forecast.models.zone import MODEL_VERSION, ZoneModel, as_walk

DAYS = 4


def history_hash(history: ZoneHistory) -> str:
    """Return the hash of the readings that a model was trained on."""
    digest = hashlib.sha256(str(history.first_hour).encode())
    for values in (history.lifecycle_g_per_kwh, history.direct_g_per_kwh, history.renewable_share, history.weather):
        digest.update(np.ascontiguousarray(np.nan_to_num(values, nan=-1.0)).tobytes())
    for known in (history.official_mw, history.marginal_g_per_kwh, history.weather_ahead):
        if known is not None:
            digest.update(np.ascontiguousarray(np.nan_to_num(known, nan=-1.0)).tobytes())
    for name in sorted(history.generation_mw):
        digest.update(name.encode() + np.nan_to_num(history.generation_mw[name], nan=-1.0).tobytes())
    return digest.hexdigest()


def card_of(model: ZoneModel) -> dict[str, Any]:
    """Return the card as plain data."""
    history = model.history
    return {
        "zone": model.zone,
        "model_id": model.model_id,
        "family": f"{MODEL_VERSION}: kernel ridge regressions, blended with persistence, conformal quantiles",
        "code_version": _version(),
        "scikit_learn": sklearn.__version__,
        "trained_on": {
            "first_hour": f"{instant_of(history.first_hour):%Y-%m-%dT%H:%MZ}",
            "until": f"{model.until:%Y-%m-%dT%H:%MZ}",
            "hours": history.n_hours,
            "hours_not_believed": sum(1 for problem in history.problems if problem),
            "sha256": history_hash(history),
            "sources": [dict(source) for source in model.data_sources],
        },
        "looks_at": sorted(model.fitted(model.targets[0], 0).scaling.mean),
        "weather": model.weather.value,
        "latency_hours": model.latency_hours,
        "targets": {target.value: _scores(model, target) for target in model.targets},
    }


def _version() -> str:
    try:
        return version("embellie")
    except PackageNotFoundError:
        return "not installed"


def _scores(model: ZoneModel, target: Target) -> dict[str, Any]:
    """Return scores of the issues at 00 UTC before `until`, made by models that had not seen them."""
    bank = model.banks[target]
    at = bank.issue_hours % 24 == 0
    walked = as_walk(model, prepare(model.history, target), bank.issue_hours[at], bank.kernel[at])
    point = blend(walked, model.latency_hours, model.settings)
    quantiles = calibrate(walked.issue_hours, point, walked.outcome, model.latency_hours, model.settings)
    # The first issues calibrate the others.
    half = walked.issue_hours.size // 3
    truth = target.from_scale(walked.outcome)[half:]
    low, high = (
        walked_q[half:]
        for walked_q in (quantiles[:, QUANTILE_LEVELS.index(0.1)], quantiles[:, QUANTILE_LEVELS.index(0.9)])
    )
    outcome = walked.outcome[half:]
    unit = "percent of the truth" if target.is_carbon else "points"
    error, base = (
        100.0 * np.abs(target.from_scale(values[half:]) - truth) / (truth if target.is_carbon else 1.0)
        for values in (point, walked.persistence)
    )
    inside = np.where(np.isfinite(outcome), (low <= outcome) & (outcome <= high), np.nan)
    return {
        "issues": int(truth.shape[0]),
        "error_unit": unit,
        "error_by_day": [_mean(error, day) for day in range(DAYS)],
        "persistence_error_by_day": [_mean(base, day) for day in range(DAYS)],
        "coverage80_percent_by_day": [_mean(100.0 * inside, day) for day in range(DAYS)],
    }


def _mean(values: Any, day: int) -> float | None:
    part = values[:, 24 * day : 24 * day + 24]
    known = np.isfinite(part)
    return round(float(part[known].mean()), 2) if known.any() else None
