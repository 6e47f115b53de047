# SPDX-License-Identifier: Apache-2.0
"""From weather to power: PVWatts through pvlib for solar, a generic power curve for wind. No I/O, no clock."""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from embellie_forecast.factors import FloatArray

SUBSTEP = pd.Timedelta(minutes=15)
"""The sun moves: an hour's radiation is spread over its quarters in proportion to a clear sky."""
MODULE_LOSS_PER_K = -0.0035
"""Power lost per kelvin of cell temperature, usual crystalline silicon [1/K]."""
DC_PER_AC = 1.15
"""Panels are usually built this much larger than the inverter."""
SHEAR_EXPONENT = 1.0 / 7.0
"""Wind grows with height to this power over open land (the one-seventh law)."""
WIND_LOSSES = 0.10
"""Wakes, outages and electrical losses of a usual wind farm."""
CURVE_MS = (0.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 25.0, 25.5, 100.0)
CURVE_SHARE = (0.0, 0.0, 0.02, 0.07, 0.14, 0.24, 0.37, 0.53, 0.70, 0.85, 0.95, 1.0, 1.0, 0.0, 0.0)
"""The shape that pitch-regulated turbines share: nothing below 3 m/s, full from 13 to 25 m/s, then off."""
CURVE_SPREAD_MS = 1.2
"""An hour is not one wind: speeds around the mean are averaged over, with this deviation [m/s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SolarPlant:
    """Panels on a fixed mount.

    `peak_kw` is the most that the inverter delivers; azimuth is 180 for south; angles in degrees.
    """

    latitude: float
    longitude: float
    peak_kw: float
    tilt_deg: float = 20.0
    azimuth_deg: float = 180.0
    alike_days: ClassVar[int] = 30
    """Errors grow and shrink with the height of the sun: older ones say little."""

    def power_kw(self, weather: pd.DataFrame) -> "pd.Series[float]":
        """Return the mean power of each hour [kW]; NaN where radiation or temperature is unknown.

        Args:
            weather: Hourly, UTC, hour-beginning: wxfc_dswrf_wm2 (mean over the hour), wxfc_temp_c and, where known,
                wxfc_wind_speed_ms.
        """
        if weather.empty:
            return pd.Series(dtype=np.float64, index=weather.index)
        # pvlib is not on pandas 4 yet, and says so at every call.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            return self._modelled_kw(weather)

    def _modelled_kw(self, weather: pd.DataFrame) -> "pd.Series[float]":
        from pvlib import irradiance
        from pvlib.location import Location
        from pvlib.modelchain import ModelChain
        from pvlib.pvsystem import Array, FixedMount, PVSystem
        from pvlib.temperature import TEMPERATURE_MODEL_PARAMETERS

        quarters, ghi, zenith = self._radiation(weather)
        split = irradiance.erbs(ghi, zenith, quarters)
        hours = quarters.floor("h")
        wind = (
            weather["wxfc_wind_speed_ms"] if "wxfc_wind_speed_ms" in weather.columns else pd.Series(2.0, weather.index)
        )
        inside = pd.DataFrame(
            {
                "ghi": ghi,
                "dni": split["dni"],
                "dhi": split["dhi"],
                "temp_air": weather["wxfc_temp_c"].reindex(hours).to_numpy(),
                "wind_speed": wind.fillna(2.0).reindex(hours).to_numpy(),
            },
            index=quarters,
        )
        known = inside.notna().all(axis=1)
        system = PVSystem(
            arrays=[
                Array(
                    FixedMount(surface_tilt=self.tilt_deg, surface_azimuth=self.azimuth_deg),
                    module_parameters={"pdc0": 1000.0 * self.peak_kw * DC_PER_AC, "gamma_pdc": MODULE_LOSS_PER_K},
                    temperature_model_parameters=TEMPERATURE_MODEL_PARAMETERS["sapm"]["open_rack_glass_glass"],
                )
            ],
            inverter_parameters={"pdc0": 1000.0 * self.peak_kw / 0.96, "eta_inv_nom": 0.96},
        )
        chain = ModelChain.with_pvwatts(system, Location(self.latitude, self.longitude))
        chain.run_model(inside.fillna(0.0))
        power = pd.Series(np.asarray(chain.results.ac, dtype=np.float64) / 1000.0, index=quarters).where(known)
        power = power.fillna(0.0).where(known).clip(0.0, self.peak_kw)
        return power.groupby(hours).mean().where(known.groupby(hours).all()).reindex(weather.index)

    def _radiation(self, weather: pd.DataFrame) -> "tuple[pd.DatetimeIndex, pd.Series[float], pd.Series[float]]":
        """Return quarter hours with their global radiation [W/m2] and the sun's zenith at their middle [deg]."""
        from pvlib import clearsky
        from pvlib.location import Location

        steps = [weather.index + k * SUBSTEP for k in range(4)]
        quarters = pd.DatetimeIndex(steps[0].append(steps[1:])).sort_values()
        sun = Location(self.latitude, self.longitude).get_solarposition(quarters + SUBSTEP / 2)
        zenith = pd.Series(sun["apparent_zenith"].to_numpy(), index=quarters)
        clear = pd.Series(clearsky.haurwitz(zenith)["ghi"].to_numpy(), index=quarters)
        hours = quarters.floor("h")
        mean = clear.groupby(hours).transform("mean").to_numpy()
        hourly = weather["wxfc_dswrf_wm2"].reindex(hours).to_numpy(dtype=np.float64)
        # With the sun below the horizon all hour long there is nothing to spread.
        shape = np.divide(clear.to_numpy(), mean, out=np.zeros(len(quarters)), where=mean > 0.0)
        ghi = pd.Series(np.where(np.isfinite(hourly), np.clip(hourly, 0.0, 1500.0) * shape, np.nan), index=quarters)
        return quarters, ghi.clip(upper=1500.0), zenith

    def clear_sky(self, index: pd.DatetimeIndex, clearness: float) -> pd.DataFrame:
        """Return made-up weather for hours of which nothing is known: a share of the clear sky's radiation, 15 degC."""
        from pvlib import clearsky
        from pvlib.location import Location

        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            sun = Location(self.latitude, self.longitude).get_solarposition(index + pd.Timedelta(minutes=30))
            ghi = clearsky.haurwitz(sun["apparent_zenith"])["ghi"].to_numpy() * clearness
        return pd.DataFrame({"wxfc_dswrf_wm2": ghi, "wxfc_temp_c": 15.0}, index=index)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindPlant:
    """Turbines at one site; `peak_kw` is the most that they deliver together."""

    peak_kw: float
    hub_height_m: float = 100.0
    alike_days: ClassVar[int] = 60
    """Weather fronts are few: a month holds too few of them to learn from."""

    def power_kw(self, weather: pd.DataFrame) -> "pd.Series[float]":
        """Return the mean power of each hour [kW]; NaN where the wind is unknown.

        Args:
            weather: Hourly, UTC, hour-beginning: wxfc_wind_speed_100m_ms, or wxfc_wind_speed_ms (at 10 m).
        """
        low = _column(weather, "wxfc_wind_speed_ms") * (self.hub_height_m / 10.0) ** SHEAR_EXPONENT
        high = _column(weather, "wxfc_wind_speed_100m_ms") * (self.hub_height_m / 100.0) ** SHEAR_EXPONENT
        speed = np.where(np.isfinite(high), high, low)
        # Gauss-Hermite: the mean of the curve over the hour's winds.
        nodes, weights = np.polynomial.hermite_e.hermegauss(7)
        around = np.clip(speed[:, None] + CURVE_SPREAD_MS * nodes[None, :], 0.0, 100.0)
        share = (np.interp(around, CURVE_MS, CURVE_SHARE) * weights).sum(axis=1) / weights.sum()
        power = np.where(np.isfinite(speed), share * (1.0 - WIND_LOSSES) * self.peak_kw, np.nan)
        return pd.Series(power, index=weather.index)


def _column(weather: pd.DataFrame, name: str) -> FloatArray:
    if name not in weather.columns:
        return np.full(len(weather), np.nan)
    return weather[name].to_numpy(dtype=np.float64)


Plant = SolarPlant | WindPlant
