# SPDX-License-Identifier: Apache-2.0
"""Real weather for the plant: hourly temperatures of a region, as carried with the forecaster (NOAA GFS).

What is carried is itself a forecast of some hours ahead and a mean over a wide region. Here it is taken as what the
region's weather *was*; the forecast that the operator gets is made from it with an error that grows with the lead, and
a site is hotter than its region by an offset of its own.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib import resources

import numpy as np
import pandas as pd

from embellie.simulation.plant.exchange import Array

REGIONS = ("US-CISO", "US-PJM")
ERROR_K_AT_DAY = 1.6
"""Standard deviation of the forecast's error a day ahead [K]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weather:
    """Hourly dry and wet bulb of one site [degC], straight lines between the hours."""

    start: datetime
    dry_c: Array
    wet_c: Array

    def at(self, hours: float) -> tuple[float, float]:
        """Return dry and wet bulb so many hours after the start."""
        k = int(hours)
        part = hours - k
        k, after = min(k, self.dry_c.size - 1), min(k + 1, self.dry_c.size - 1)
        return (
            float(self.dry_c[k] * (1 - part) + self.dry_c[after] * part),
            float(self.wet_c[k] * (1 - part) + self.wet_c[after] * part),
        )

    def window(self, first_hour: int, hours: int) -> "Weather":
        """Return a part of it."""
        part = slice(first_hour, first_hour + hours)
        return Weather(start=self.start + timedelta(hours=first_hour), dry_c=self.dry_c[part], wet_c=self.wet_c[part])

    def hotter(self, offset_k: float) -> "Weather":
        """Return the same weather at a place that is hotter; the moisture stays."""
        return Weather(start=self.start, dry_c=self.dry_c + offset_k, wet_c=self.wet_c + 0.4 * offset_k)


@lru_cache(maxsize=4)
def regional(region: str) -> Weather:
    """Read a region's carried weather."""
    source = resources.files("embellie_forecast") / "data" / f"{region}.csv.gz"
    columns = ["timestamp_utc", "wxfc_temp_c", "wxfc_dewpoint_c"]
    with resources.as_file(source) as path:
        table = pd.read_csv(path, usecols=columns, parse_dates=["timestamp_utc"], index_col="timestamp_utc")
    table = table.interpolate(limit_direction="both")
    dry = table["wxfc_temp_c"].to_numpy(dtype=np.float64)
    dew = np.minimum(table["wxfc_dewpoint_c"].to_numpy(dtype=np.float64), dry)
    start = table.index[0].to_pydatetime().astimezone(UTC)
    # The steps of the source are three hours long; a day's course is smooth.
    smooth = np.convolve(np.pad(dry, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
    return Weather(start=start, dry_c=smooth, wet_c=wet_bulb_c(smooth, np.minimum(dew, smooth)))


def wet_bulb_c(dry_c: Array, dew_c: Array) -> Array:
    """Return the wet bulb from dry bulb and dew point [degC] (Stull, J. Appl. Meteor. Climatol. 2011).

    Relative humidity by Magnus.
    """
    rh = 100.0 * np.exp(17.625 * dew_c / (243.04 + dew_c) - 17.625 * dry_c / (243.04 + dry_c))
    rh = np.clip(rh, 5.0, 99.0)
    wet = (
        dry_c * np.arctan(0.151977 * np.sqrt(rh + 8.313659))
        + np.arctan(dry_c + rh)
        - np.arctan(rh - 1.676331)
        + 0.00391838 * rh**1.5 * np.arctan(0.023101 * rh)
        - 4.686035
    )
    return np.minimum(wet, dry_c)


def hottest_days(region: str, count: int) -> list[int]:
    """Return the first hours (00:00 UTC) of the days with the hottest afternoons, hottest first, apart by a week."""
    weather = regional(region)
    days = weather.dry_c[: weather.dry_c.size // 24 * 24].reshape(-1, 24).max(axis=1)
    chosen: list[int] = []
    for day in np.argsort(-days):
        if all(abs(int(day) - other) >= 7 for other in chosen) and 3 <= day < days.size - 40:
            chosen.append(int(day))
        if len(chosen) == count:
            break
    return [24 * day for day in chosen]


def forecast_error_k(rng: np.random.Generator, hours: int) -> Array:
    """Return what a forecast of so many hours is wrong by: a slow error that grows with the lead to a day [K]."""
    steps = rng.standard_normal(hours)
    slow = np.zeros(hours)
    for k in range(1, hours):
        slow[k] = 0.92 * slow[k - 1] + np.sqrt(1 - 0.92**2) * steps[k]
    return ERROR_K_AT_DAY * np.minimum(1.0, np.sqrt(np.arange(hours) / 24.0)) * slow
