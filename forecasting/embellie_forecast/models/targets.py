# SPDX-License-Identifier: Apache-2.0
"""What is forecast, in which units, and the settings that were chosen on validation data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from embellie_forecast.factors import FloatArray
from embellie_forecast.history import ZoneHistory

HORIZON_HOURS = 96
QUANTILE_LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
MAX_CARBON_G_PER_KWH = 2_000.0


class Target(StrEnum):
    """A quantity that is forecast. Average and marginal intensity are never mixed: these are averages."""

    LIFECYCLE = "lifecycle"
    DIRECT = "direct"
    RENEWABLE_SHARE = "renewable_share"

    @property
    def is_carbon(self) -> bool:
        """Tell whether the unit is g/kWh (else 0..1)."""
        return self is not Target.RENEWABLE_SHARE

    def series(self, history: ZoneHistory, *, benchmark: bool = False) -> FloatArray:
        """Return the hourly truth of a history; with `benchmark` the series that a paper published, where there is."""
        if self is Target.LIFECYCLE:
            if benchmark and history.benchmark_g_per_kwh is not None:
                return history.benchmark_g_per_kwh
            return history.lifecycle_g_per_kwh
        return history.direct_g_per_kwh if self is Target.DIRECT else history.renewable_share

    def to_scale(self, values: FloatArray) -> FloatArray:
        """Return the values on the scale that is modelled: logarithm of an intensity, a share as it is."""
        if not self.is_carbon:
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(values > 0.0, np.log(values), np.nan)

    def from_scale(self, scaled: FloatArray) -> FloatArray:
        """Return the values in their unit, within what is physically possible."""
        if not self.is_carbon:
            return np.clip(scaled, 0.0, 1.0)
        return np.exp(np.minimum(scaled, np.log(MAX_CARBON_G_PER_KWH)))


class WeatherUse(StrEnum):
    """How much forecast weather a model may look at."""

    NONE = "none"
    DAY1 = "day1"
    """The first 24 hours: what the archives hold honestly."""
    OPTIMISTIC = "optimistic"
    """All 96 hours from day-ahead forecasts, as EnsembleCI does: better than any real forecast of days 2 to 4."""

    @property
    def hours(self) -> int:
        """How many hours from the issue on are looked at."""
        return {WeatherUse.NONE: 0, WeatherUse.DAY1: 24, WeatherUse.OPTIMISTIC: HORIZON_HOURS}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One kernel ridge regression: width of its Gaussian kernel, and its penalty."""

    gamma: float
    alpha: float


def _scales() -> Mapping[str, float]:
    return {
        "recent": 1.0,
        "recent_day": 0.7,
        "week_mean": 0.25,
        "level": 0.25,
        "weekday": 1.0,
        "season": 0.7,
        "mix": 0.7,
        "load": 0.5,
        "wind_share": 0.7,
        "wx_wind": 1.5,
        "wx_temp": 2.4,
        "wx_heat": 0.5,
        "wx_sun": 0.35,
        "wx_rain": 0.3,
        "official_solar": 0.7,
        "official_wind": 0.7,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that a model depends on besides the data. Chosen on January to June 2021 of ten grids, then frozen."""

    kernels: tuple[Kernel, ...] = (
        Kernel(gamma=0.005, alpha=0.03),
        Kernel(gamma=0.005, alpha=0.1),
        Kernel(gamma=0.04, alpha=0.15),
    )
    scales: Mapping[str, float] = field(default_factory=_scales)
    """Weight of each group of inputs in the distance between two days."""
    max_training_days: int = 730
    refit_days: int = 7
    warm_up_days: int = 90
    """Past issues that the blend and the quantiles learn from before the first forecast counts."""
    blend_days: int = 120
    blend_shrink: float = 40.0
    """How many days of evidence the prior weights of the blend are worth."""
    calibration_days: int = 60
    adapt_rate: float = 0.05
    """How fast the width of the quantiles follows the coverage of the last issues."""
