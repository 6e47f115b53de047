# SPDX-License-Identifier: Apache-2.0
"""What a heat network takes from each zone, learnt from its meter: a permit for heat to the outside leaves it out.

The warmer the loop and the colder the weather, the more the network takes, up to what it asks for:

    Q_taken = min(d0 + d1 * P + d2 * (20 degC - T_outdoor), most seen),   d1, d2 >= 0,

so a permit of K kW to the outside allows the heat P at which P - Q_taken(P) = K: all that the network does not take
counts as given off outside. Two standard deviations are kept off, nothing counts beyond what was seen, and a network
that stops taking counts as gone at once.
"""

from collections.abc import Sequence

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.thermal.recursive import RecursiveFit
from embellie.thermal.settings import ZoneSettings

_MIN_SAMPLES = 40.0
_SIGMAS = 2.0
_STEEPEST = 0.8
"""Of each further kilowatt the network takes at most so much (0..1)."""
_GONE = 0.5
"""A network that takes less than this share of what is expected has stopped."""
_MOST_S = 2.0 * 86400.0
_MILD_C, _HOT_C = 20.0, 50.0
"""At this temperature outside d0 holds; one that nobody knows counts as hot [degC]."""


class HeatTaken:
    """The networks of all zones; arrays of shape (zones,), NaN where nothing is known."""

    def __init__(self, settings: Sequence[ZoneSettings]) -> None:
        n = len(settings)
        self._scale = np.array([max(1.0, z.cooling.capacity_kw or z.base_power_kw or 10.0) for z in settings])
        prior = np.stack([np.zeros(n), 0.3 * self._scale, np.zeros(n)], axis=1)
        weight, lower = np.tile([0.01, 20.0, 20.0], (n, 1)), np.tile([-1e6, 0.0, 0.0], (n, 1))
        self._fit = RecursiveFit((n,), prior, weight, lower, 0.9995)
        self._theta = self._fit.solve()
        self._variance = np.zeros(n)
        self._most = np.zeros(n)
        self._gone = np.zeros(n, dtype=bool)
        self._seen = np.zeros(n, dtype=bool)
        self._at_s: float | None = None

    def observe(self, now_s: float, taken_kw: FloatArray, heat_kw: FloatArray, outdoor_c: FloatArray) -> None:
        """Take what the meters show [kW] at an outdoor temperature [degC]; NaN: a meter or a sensor tells nothing.

        A silent meter counts as nothing taken.
        """
        dt = 0.0 if self._at_s is None else max(0.0, now_s - self._at_s)
        self._at_s = now_s
        seen = np.isfinite(taken_kw) & np.isfinite(heat_kw)
        x = np.stack([np.ones_like(heat_kw), np.nan_to_num(heat_kw) / self._scale, _cold(outdoor_c)], axis=-1)
        expected = np.clip(np.einsum("ij,ij->i", self._theta, x), 0.0, self._most)
        gone = (self._fit.weight >= _MIN_SAMPLES) & (np.nan_to_num(taken_kw) < _GONE * expected)
        # A network that stopped is no slower one: its hours teach nothing.
        self._fit.update(x, np.nan_to_num(taken_kw), (seen & ~gone).astype(np.float64))
        self._theta = self._fit.solve()
        self._variance = self._fit.variance(self._theta)
        self._most = np.maximum(self._most * np.exp(-dt / _MOST_S), np.nan_to_num(taken_kw))
        self._gone, self._seen = np.where(seen, gone, self._gone), seen

    def allowed_kw(self, zone: int, permit_kw: FloatArray, outdoor_c: FloatArray, *, blind: bool = False) -> FloatArray:
        """Return the heat that a zone may make under a permit for heat to the outside [kW], shape of `permit_kw`.

        Args:
            zone: Its index.
            permit_kw: What may leave to the outside.
            outdoor_c: The outdoor temperature then [degC], same shape; NaN where nobody knows.
            blind: Whether a network whose meter tells nothing just now counts as it was last seen. What runs is not
                stopped because a meter is silent; nothing new is started on it.
        """
        if self._fit.weight[zone] < _MIN_SAMPLES or self._gone[zone] or not (blind or self._seen[zone]):
            return permit_kw
        d1 = min(float(self._theta[zone, 1]) / float(self._scale[zone]), _STEEPEST)
        still = self._theta[zone, 0] + self._theta[zone, 2] * _cold(outdoor_c)
        rising = (permit_kw + still - _SIGMAS * float(np.sqrt(self._variance[zone]))) / (1.0 - d1)
        capped = permit_kw + float(self._most[zone])
        found: FloatArray = np.maximum(permit_kw, np.minimum(rising, capped))
        return found


def _cold(outdoor_c: FloatArray) -> FloatArray:
    """Return how much colder it is outside than a mild day [10 K]."""
    found: FloatArray = (_MILD_C - np.nan_to_num(outdoor_c, nan=_HOT_C)) / 10.0
    return found
