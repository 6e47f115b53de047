# SPDX-License-Identifier: Apache-2.0
"""Generation by source: the same kernel regression, on every source's share and on the total.

The intensity itself is forecast directly: summing the sources' forecasts was slightly worse on every validation grid.
"""

from dataclasses import dataclass

import numpy as np

from embellie_forecast.factors import FloatArray
from embellie_forecast.models.inputs import BACK_HOURS, IntArray, Series, mean_before, vectors, window
from embellie_forecast.models.kernels import KernelModel, fit
from embellie_forecast.models.targets import HORIZON_HOURS, Settings
from embellie_forecast.models.walk import Conditions, training_hours

RECENT_HOURS = 168
MAX_GROWTH = 1.0
"""The total is not forecast further than this from its weekly mean, in logarithms."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MixModel:
    """The regressions for one hour of day."""

    sources: tuple[str, ...]
    kernel: KernelModel


def _parts(
    series: Series, sources: tuple[str, ...], hours: IntArray, latency_hours: int
) -> list[tuple[FloatArray, FloatArray]]:
    """Return (values, level) of the total's logarithm and of every share."""
    end = hours - latency_hours - series.first_hour
    values = [series.log_total, *(series.mix[name] for name in sources)]
    return [(each, mean_before(each, end, RECENT_HOURS, 24)) for each in values]


def fit_mix(
    series: Series, cutoff_hour: int, phase: int, conditions: Conditions, settings: Settings
) -> MixModel | None:
    """Fit on what was known at the cutoff; None where generation is not known."""
    sources = tuple(name for name, share in series.mix.items() if np.isfinite(share).any())
    hours = training_hours(series, cutoff_hour, phase, conditions, settings)
    if not sources or hours.size == 0:
        return None
    first = hours - BACK_HOURS - series.first_hour
    limit = np.full(hours.size, series.scaled.size)
    outcome = np.concatenate(
        [
            window(values, first, BACK_HOURS + HORIZON_HOURS, limit) - level[:, None]
            for values, level in _parts(series, sources, hours, conditions.latency_hours)
        ],
        axis=1,
    )
    groups = vectors(series, hours, conditions.weather, conditions.latency_hours)
    return MixModel(sources=sources, kernel=fit(groups, outcome, settings))


def predict_mix(model: MixModel, series: Series, at_hour: int, conditions: Conditions) -> dict[str, FloatArray]:
    """Return the mean generation by source [MW], 96 hours each; empty where there is no recent reading."""
    now = np.array([at_hour], dtype=np.int64)
    if any(name not in series.mix for name in model.sources):
        return {}
    levels = [level[0] for _, level in _parts(series, model.sources, now, conditions.latency_hours)]
    if not np.isfinite(levels).all():
        return {}
    groups = vectors(series, now, conditions.weather, conditions.latency_hours)
    groups |= {
        name: np.full((1, mean.size), np.nan) for name, mean in model.kernel.scaling.mean.items() if name not in groups
    }
    change = model.kernel.predict(groups).reshape(len(levels), -1)[:, BACK_HOURS:]
    total = np.exp(levels[0] + np.clip(change[0], -MAX_GROWTH, MAX_GROWTH))
    shares = np.maximum(np.array(levels[1:])[:, None] + change[1:], 0.0)
    shares = shares / np.maximum(shares.sum(axis=0), 1e-9)
    return {name: total * shares[k] for k, name in enumerate(model.sources)}
