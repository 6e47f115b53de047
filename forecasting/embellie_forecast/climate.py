# SPDX-License-Identifier: Apache-2.0
"""What is usual at this time of year: climatology of carbon intensity and renewable share, and the air temperature."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from embellie_forecast.exchange import FORECAST_LEVELS
from embellie_forecast.factors import FloatArray
from embellie_forecast.history import WEATHER_COLUMNS, ZoneHistory

IntArray: TypeAlias = npt.NDArray[np.int64]
CLIMATOLOGY_YEARS = 2
HOURS_PER_YEAR = 8766
TEMPERATURE = WEATHER_COLUMNS.index("wxfc_temp_c")
MIN_CELL_HOURS = 20
DAY_AHEAD_SPREAD_K = 2.5
"""Half the 10-90 % range of a day-ahead 2 m temperature against a thermometer at a site [K]; GFS errs by about 2 K
(root mean square) there. The carried archive has no observations to measure it on."""
SPREAD_GROWTH_PER_DAY = 0.13
"""How much wider the range is for each further day ahead (assumed; global models lose about that much skill)."""
ANOMALY_DECAY_PER_DAY = 0.6
"""Share of a temperature anomaly that is left a day later: weather systems pass within days."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Climatology:
    """Quantiles and mean by month and UTC hour."""

    carbon: FloatArray
    """Shape (3, 12, 24) [g/kWh]."""
    carbon_mean: FloatArray
    """Shape (12, 24) [g/kWh]."""
    share: FloatArray | None
    """Shape (3, 12, 24)."""


def month_of(hours: IntArray) -> IntArray:
    """Return the UTC month (0..11) of hours since 1970."""
    return np.asarray(hours.astype("datetime64[h]").astype("datetime64[M]").astype(np.int64) % 12, dtype=np.int64)


def climatology(history: ZoneHistory, carbon_g_per_kwh: FloatArray, cutoff_hour: int) -> Climatology | None:
    """Return the climatology of the last two years before the cutoff; None where a cell would rest on too little.

    Args:
        history: The grid's past.
        carbon_g_per_kwh: One of its intensities, shape (hours,).
        cutoff_hour: Nothing from this hour on is used (hours since 1970).
    """
    stop = min(history.n_hours, cutoff_hour - history.first_hour)
    known_share = np.isfinite(history.renewable_share)
    both = np.isfinite(carbon_g_per_kwh) & (known_share | ~known_share.any())
    known = np.flatnonzero(both[: max(0, stop)])
    if known.size == 0:
        return None
    rows = known[known > known[-1] - CLIMATOLOGY_YEARS * HOURS_PER_YEAR]
    hours = rows + history.first_hour
    month, hour = month_of(hours), hours % 24
    carbon = np.full((len(FORECAST_LEVELS), 12, 24), np.nan)
    share, mean = carbon.copy(), np.full((12, 24), np.nan)
    levels = list(FORECAST_LEVELS)
    for m in range(12):
        for h in range(24):
            cell = rows[(month == m) & (hour == h)]
            if cell.size < MIN_CELL_HOURS:
                return None
            values = carbon_g_per_kwh[cell]
            carbon[:, m, h] = np.quantile(values, levels)
            mean[m, h] = values.mean()
            if known_share.any():
                share[:, m, h] = np.quantile(history.renewable_share[cell], levels)
    return Climatology(carbon=carbon, carbon_mean=mean, share=share if known_share.any() else None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TemperatureClimate:
    """The usual air temperature and how far days stray from it, by month and UTC hour."""

    mean_c: FloatArray
    """Shape (12, 24) [°C]."""
    low_k: FloatArray
    """The 10 % quantile of the anomaly, shape (12,) [K]."""
    high_k: FloatArray
    """The 90 % quantile of the anomaly, shape (12,) [K]."""


def temperature_climate(history: ZoneHistory, cutoff_hour: int) -> TemperatureClimate | None:
    """Return the temperature climate before the cutoff, from day-ahead weather; None where it rests on too little."""
    stop = max(0, min(history.weather.shape[0], cutoff_hour - history.first_hour))
    values = history.weather[:stop, TEMPERATURE]
    known = np.flatnonzero(np.isfinite(values))
    hours = known + history.first_hour
    month, hour = month_of(hours), hours % 24
    count = np.zeros((12, 24))
    np.add.at(count, (month, hour), 1.0)
    if known.size == 0 or count.min() < MIN_CELL_HOURS:
        return None
    total = np.zeros((12, 24))
    np.add.at(total, (month, hour), values[known])
    mean = total / count
    anomaly = values[known] - mean[month, hour]
    low, high = np.empty(12), np.empty(12)
    for m in range(12):
        low[m], high[m] = np.quantile(anomaly[month == m], (FORECAST_LEVELS[0], FORECAST_LEVELS[-1]))
    return TemperatureClimate(mean_c=mean, low_k=low, high_k=high)


def ambient_temperature_c(
    history: ZoneHistory, climate: TemperatureClimate | None, first_hour: int, slots: int
) -> FloatArray | None:
    """Return the 10, 50 and 90 % quantiles of the grid area's air temperature [degC], shape (3, slots).

    Forecast weather where there is any; behind it the climate plus what is left of the last known anomaly. None where
    there is neither for some hour.
    """
    hours = np.arange(first_hour, first_hour + slots, dtype=np.int64)
    index = hours - history.first_hour
    inside = (index >= 0) & (index < history.weather.shape[0])
    known = np.full(slots, np.nan)
    known[inside] = history.weather[index[inside], TEMPERATURE]
    have = np.isfinite(known)
    near = DAY_AHEAD_SPREAD_K * (1.0 + SPREAD_GROWTH_PER_DAY * (np.arange(slots) // 24))
    if climate is None:
        return np.stack([known - near, known, known + near]) if have.all() else None
    month, hour = month_of(hours), hours % 24
    usual = climate.mean_c[month, hour]
    anomaly, age_days = _last_anomaly(history, climate, hours)
    left = ANOMALY_DECAY_PER_DAY**age_days
    middle = np.where(have, known, usual + anomaly * left)
    stray = np.sqrt(1.0 - left**2)
    low = np.where(have, near, np.hypot(climate.low_k[month] * stray, DAY_AHEAD_SPREAD_K))
    high = np.where(have, near, np.hypot(climate.high_k[month] * stray, DAY_AHEAD_SPREAD_K))
    return np.stack([middle - low, middle, middle + high])


def _last_anomaly(history: ZoneHistory, climate: TemperatureClimate, hours: IntArray) -> tuple[float, FloatArray]:
    """Return the mean anomaly of the last 24 known hours [K], and how long before each hour they ended [days]."""
    known = np.flatnonzero(np.isfinite(history.weather[:, TEMPERATURE]))[-24:]
    if known.size == 0:
        return 0.0, np.full(hours.size, np.inf)
    stamp = known + history.first_hour
    anomaly = history.weather[known, TEMPERATURE] - climate.mean_c[month_of(stamp), stamp % 24]
    return float(anomaly.mean()), np.maximum(0.0, (hours - stamp[-1]) / 24.0)
