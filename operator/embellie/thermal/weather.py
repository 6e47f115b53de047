# SPDX-License-Identifier: Apache-2.0
"""Outdoor air and what it lets a zone's cooling reach: the site's own adder, the reachable supply, PUE.

The supply follows its setpoint while the cooling can hold it, and the outdoor air plus an approach when it cannot:

    T_supply = max(setpoint, T_outdoor + a0 + a1 * Q),   a1 >= 0,

which is free cooling with a dry cooler of fixed size (Q = eps * C_min * (T_hot - T_outdoor)). Both ends are learnt: the
approach from samples in which the supply stands clear of its setpoint, the setpoint from the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.thermal.recursive import RecursiveFit
from embellie.thermal.settings import ZoneSettings

_CLEAR_K = 0.7
"""A supply that stands further than this over its setpoint is not held there."""
_ADDER_S = 86400.0
_MAX_ADDER_K = 6.0
_SETPOINT_S = 6.0 * 3600.0
_MIN_SAMPLES = 240.0
"""Meters are read once a minute."""
_BEYOND_K = 2.0
"""So far beyond the outdoor temperatures that were seen a learnt PUE is still believed [K]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AmbientForecast:
    """Outdoor dry-bulb temperature ahead; arrays of shape (n_slots,) [degC]."""

    start: datetime
    step: timedelta
    p50_c: FloatArray
    p90_c: FloatArray

    def at(self, moment: datetime) -> tuple[float, float]:
        """Return P50 and P90 at a moment; the nearest slot's outside the forecast."""
        slot = int(np.clip((moment - self.start) // self.step, 0, self.p50_c.size - 1))
        return float(self.p50_c[slot]), float(self.p90_c[slot])


def wet_bulb_c(dry_bulb_c: FloatArray, humidity_percent: FloatArray) -> FloatArray:
    """Return the wet-bulb temperature [degC] (Stull 2011, J. Appl. Meteorol. Climatol. 50, 2267; near sea level).

    >>> round(float(wet_bulb_c(np.array(20.0), np.array(50.0))), 1)
    13.7
    """
    t, rh = dry_bulb_c, np.clip(humidity_percent, 5.0, 99.0)
    found: FloatArray = (
        t * np.arctan(0.151977 * np.sqrt(rh + 8.313659))
        + np.arctan(t + rh)
        - np.arctan(rh - 1.676331)
        + 0.00391838 * rh**1.5 * np.arctan(0.023101 * rh)
        - 4.686035
    )
    return found


class SiteWeather:
    """How far each site is warmer than its forecast says, learnt from its own outdoor sensor; arrays (sites,)."""

    def __init__(self, sites: int) -> None:
        self._adder = np.zeros(sites)
        self._weight = np.zeros(sites)
        self._at_s: float | None = None

    @property
    def adder_k(self) -> FloatArray:
        """What to add to the forecast [K]; grows from 0 as the sensor is heard."""
        share = self._weight / (self._weight + 3600.0)
        found: FloatArray = np.clip(share * self._adder, -_MAX_ADDER_K, _MAX_ADDER_K)
        return found

    def observe(self, now_s: float, measured_c: FloatArray, forecast_c: FloatArray) -> None:
        """Take what the sensors say and what was forecast for now [degC]; NaN where either is not known."""
        dt = 0.0 if self._at_s is None else max(0.0, now_s - self._at_s)
        self._at_s = now_s
        away = measured_c - forecast_c
        seen = np.isfinite(away) & (np.abs(away) < 15.0)
        share = np.where(seen, dt / (np.minimum(self._weight, _ADDER_S) + dt + 1e-9), 0.0)
        self._adder = self._adder + share * (np.nan_to_num(away) - self._adder)
        self._weight = self._weight + np.where(seen, dt, 0.0)


class SupplyModels:
    """What supply each zone's cooling reaches; arrays of shape (zones,)."""

    def __init__(self, settings: Sequence[ZoneSettings]) -> None:
        n = len(settings)
        self._said_setpoint = np.array([z.cooling.supply_setpoint_c for z in settings])
        self._setpoint = self._said_setpoint.copy()
        self._load_kw = np.array([max(1.0, z.cooling.capacity_kw or 10.0) for z in settings])
        prior = np.zeros((n, 2))
        prior[:, 0] = [z.cooling.ambient_approach_k for z in settings]
        weight = np.tile([20.0, 40.0], (n, 1))
        lower = np.tile([-60.0, 0.0], (n, 1))
        self._fit = RecursiveFit((n,), prior, weight, lower, forgetting=0.9998)
        self._theta: FloatArray | None = None
        self._at_s: float | None = None

    def observe(self, now_s: float, supply_c: FloatArray, outdoor_c: FloatArray, heat_kw: FloatArray) -> None:
        """Take fresh supplies, outdoor temperatures [degC] and heat [kW]; NaN where one is not known."""
        dt = 0.0 if self._at_s is None else max(0.0, now_s - self._at_s)
        self._at_s = now_s
        known = np.isfinite(supply_c) & np.isfinite(heat_kw)
        held = known & (np.abs(supply_c - self._said_setpoint) <= 3.0 * _CLEAR_K)
        share = np.where(held, 1.0 - np.exp(-dt / _SETPOINT_S), 0.0)
        self._setpoint = self._setpoint + share * (np.nan_to_num(supply_c) - self._setpoint)
        # What stands near the setpoint that was stated is held at one that is a little higher, whatever the weather.
        above = supply_c > np.maximum(self._setpoint, self._said_setpoint) + _CLEAR_K
        clear = known & ~held & np.isfinite(outdoor_c) & above
        x = np.stack([np.ones_like(heat_kw), np.nan_to_num(heat_kw) / self._load_kw], axis=-1)
        if clear.any():
            self._fit.update(x, np.nan_to_num(supply_c - outdoor_c), clear.astype(np.float64))
            self._theta = None

    def parameters(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return setpoint [degC], a0 [K] and a1 [K/kW]; each shape (zones,)."""
        if self._theta is None:
            self._theta = self._fit.solve()
        theta = self._theta
        return np.maximum(self._setpoint, self._said_setpoint), theta[:, 0], theta[:, 1] / self._load_kw

    def expected_c(self, outdoor_c: FloatArray, heat_kw: FloatArray) -> FloatArray:
        """Return the supply at an outdoor temperature and heat; the setpoint where the outdoors is not known."""
        setpoint, a0, a1 = self.parameters()
        reach = outdoor_c + a0 + a1 * heat_kw
        found: FloatArray = np.where(np.isfinite(reach), np.maximum(setpoint, reach), setpoint)
        return found


class PueModel:
    """PUE of one site from its meters: facility power less IT power is fixed, per kW, and per kW and warm degree.

    So PUE falls as the load rises (Lei and Masanet's decomposition); the marginal share is what decisions need.
    """

    def __init__(self, free_cooling_below_c: float = 15.0) -> None:
        self._from_c = free_cooling_below_c
        self._fit = RecursiveFit((1,), np.zeros(3), np.full(3, 1e-3), np.zeros(3), forgetting=0.9999)
        self._seen_c = (np.inf, -np.inf)

    @property
    def trusted(self) -> bool:
        """Whether enough was seen to say more than the spec does."""
        return bool(self._fit.weight[0] >= _MIN_SAMPLES)

    def observe(self, facility_kw: float, it_kw: float, outdoor_c: float) -> None:
        """Take one set of fresh meters; what cannot be (facility below IT, no load) is passed over."""
        if not np.isfinite([facility_kw, it_kw, outdoor_c]).all() or it_kw <= 0.0 or facility_kw < it_kw:
            return
        self._seen_c = (min(self._seen_c[0], outdoor_c), max(self._seen_c[1], outdoor_c))
        self._fit.update(self._x(np.array([it_kw]), np.array([outdoor_c])), np.array([facility_kw - it_kw]), np.ones(1))

    def at(self, it_kw: FloatArray, outdoor_c: FloatArray) -> FloatArray:
        """Return the PUE (>= 1) at IT loads [kW] and outdoor temperatures, same shape."""
        overhead = self._x(it_kw, outdoor_c) @ self._fit.solve()[0]
        found: FloatArray = 1.0 + overhead / np.maximum(it_kw, 1e-9)
        return found

    def ahead(self, it_kw: float, outdoor_c: FloatArray, said: FloatArray) -> FloatArray:
        """Return the PUE at one IT load [kW] over outdoor temperatures ahead, shape of `outdoor_c`.

        Hotter or colder than it was ever seen, and where the temperature is not known, what the site said (`said`, same
        shape) counts where it is higher.
        """
        if not self.trusted or it_kw <= 0.0:
            return said
        learnt = self.at(np.full(outdoor_c.shape, it_kw), np.nan_to_num(outdoor_c, nan=self._seen_c[1]))
        low, high = self._seen_c
        known = (outdoor_c >= low - _BEYOND_K) & (outdoor_c <= high + _BEYOND_K)
        found: FloatArray = np.where(known, learnt, np.maximum(learnt, said))
        return found

    def _x(self, it_kw: FloatArray, outdoor_c: FloatArray) -> FloatArray:
        return np.stack([np.ones_like(it_kw), it_kw, it_kw * np.maximum(0.0, outdoor_c - self._from_c) / 10.0], axis=-1)
