# SPDX-License-Identifier: Apache-2.0
"""What is forecast, in which units, and the settings that were chosen on validation data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from embellie_forecast.exchange import MAX_CARBON_G_PER_KWH, MAX_MARGINAL_G_PER_KWH
from embellie_forecast.factors import FloatArray
from embellie_forecast.history import ZoneHistory

HORIZON_HOURS = 96
MARGINAL_UNIT_G_PER_KWH = 500.0
"""About a gas plant: on this scale errors are as large as those of a logarithm."""
QUANTILE_LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


class Target(StrEnum):
    """A quantity that is forecast, each from its own past only: average and marginal intensity are never mixed."""

    LIFECYCLE = "lifecycle"
    DIRECT = "direct"
    RENEWABLE_SHARE = "renewable_share"
    MARGINAL = "marginal"

    @property
    def is_carbon(self) -> bool:
        """Tell whether the unit is g/kWh (else 0..1)."""
        return self is not Target.RENEWABLE_SHARE

    def series(self, history: ZoneHistory) -> FloatArray:
        """Return what a history knows of it, hour by hour."""
        if self is Target.LIFECYCLE:
            return history.lifecycle_g_per_kwh
        if self is Target.MARGINAL:
            known = history.marginal_g_per_kwh
            return np.full(history.n_hours, np.nan) if known is None else known
        return history.direct_g_per_kwh if self is Target.DIRECT else history.renewable_share

    def to_scale(self, values: FloatArray) -> FloatArray:
        """Return the values on the scale that is modelled: logarithm of an average intensity, the others as they are.

        A marginal intensity is 0 in hours of surplus, which no logarithm can hold; its unit is 500 g/kWh there.
        """
        if self is Target.MARGINAL:
            return values / MARGINAL_UNIT_G_PER_KWH
        if not self.is_carbon:
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(values > 0.0, np.log(values), np.nan)

    def from_scale(self, scaled: FloatArray) -> FloatArray:
        """Return the values in their unit, within what is physically possible."""
        if self is Target.MARGINAL:
            return np.clip(scaled * MARGINAL_UNIT_G_PER_KWH, 0.0, MAX_MARGINAL_G_PER_KWH)
        if not self.is_carbon:
            return np.clip(scaled, 0.0, 1.0)
        return np.exp(np.minimum(scaled, np.log(MAX_CARBON_G_PER_KWH)))


class WeatherUse(StrEnum):
    """How much forecast weather a model may look at."""

    NONE = "none"
    DAY1 = "day1"
    """The first 24 hours: what the archives hold honestly."""
    LEADS = "leads"
    """All 96 hours, each day from a forecast that was made so many days before (previous runs of a weather model)."""
    OPTIMISTIC = "optimistic"
    """All 96 hours from day-ahead forecasts, as EnsembleCI does: better than any real forecast of days 2 to 4."""

    @property
    def hours(self) -> int:
        """How many hours from the issue on are looked at."""
        return {WeatherUse.NONE: 0, WeatherUse.DAY1: 24}.get(self, HORIZON_HOURS)


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
        "wx_wind_ahead": 0.75,
        "wx_temp_ahead": 1.2,
        "wx_heat_ahead": 0.25,
        "wx_sun_ahead": 0.18,
        "wx_rain_ahead": 0.15,
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
    blend_shrink: float = 80.0
    """How many days of evidence the prior weights of the blend are worth, in each hour of day."""
    calibration_days: int = 60
    adapt_rate: float = 0.05
    """How fast the width of the quantiles follows the coverage of the last issues."""
