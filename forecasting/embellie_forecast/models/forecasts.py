# SPDX-License-Identifier: Apache-2.0
"""What an issue gives: quantiles of every target, and generation by source."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from embellie_forecast.factors import FloatArray
from embellie_forecast.models.targets import QUANTILE_LEVELS, Target


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TargetForecast:
    """One quantity's forecast, in its unit (g/kWh, or a share 0..1)."""

    levels: tuple[float, ...]
    quantiles: FloatArray
    """Shape (levels, 96), never crossing."""
    mean: FloatArray
    skill_percent: int | None
    """How much smaller the recent errors are than those of persistence [%]."""

    @property
    def median(self) -> FloatArray:
        """Return the middle quantile, shape (96,)."""
        return np.asarray(self.quantiles[self.levels.index(0.5)], dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ZoneForecast:
    """All that is forecast for a zone at one issue, hour by hour from `start` on."""

    zone: str
    start: datetime
    model_id: str
    targets: Mapping[Target, TargetForecast]
    generation_mw: Mapping[str, FloatArray]
    """Source -> mean generation, shape (96,); empty where the zone's generation is not known."""


def mean_of(quantiles: FloatArray) -> FloatArray:
    """Return the mean of the distribution that the quantiles describe: the area under its quantile function."""
    levels = np.array(QUANTILE_LEVELS)
    edges = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2.0, [1.0]])
    return np.asarray(np.diff(edges) @ quantiles, dtype=np.float64)
