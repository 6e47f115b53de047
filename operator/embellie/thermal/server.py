# SPDX-License-Identifier: Apache-2.0
"""A server known by its slow averages only: power from utilisation and temperature from power, learnt row by row.

P = idle + sum of rising straight pieces in utilisation (hourly means; utilisation is no power signal at seconds)
T = t0 + r * P, with errors that remember the row before
"""

import itertools
from dataclasses import dataclass

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.thermal.recursive import RecursiveFit

KNOTS = (0.0, 0.1, 0.35, 0.7, 1.0)
_FORGETTING_POWER = 0.9995
_FORGETTING_TEMPERATURE = 0.998
_MEMORY = 0.98
_SOLVE_ALWAYS, _SOLVE_EVERY = 200, 12
"""Parameters that rest on hundreds of rows are the same after one more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a row is expected to show, before it is learnt."""

    power_w: float
    temperature_c: float


class ServerModel:
    """One server. Rows come in order of time; `expect` comes before `learn`."""

    def __init__(self, prior: "ServerModel | None" = None) -> None:
        power = np.array([50.0, *(np.diff(KNOTS) * 0 + 200.0)]) if prior is None else prior.power_parameters()
        temperature = np.array([30.0, 0.1]) if prior is None else prior.temperature_parameters()
        self._power = RecursiveFit(
            (1,), power, np.array([0.1] + [0.1] * (len(KNOTS) - 1)), np.zeros(len(KNOTS)), _FORGETTING_POWER
        )
        self._temperature = RecursiveFit(
            (1,), temperature, np.array([0.1, 100.0]), np.array([-50.0, 0.0]), _FORGETTING_TEMPERATURE
        )
        self._together = self._alone = 0.0
        self._before: float | None = None
        self._rows = 0
        self._theta_power = self._power.solve()[0]
        self._theta_temperature = self._temperature.solve()[0]

    @property
    def memory(self) -> float:
        """How much of one row's error is left in the next (0 <= memory < 1)."""
        return float(np.clip(self._together / self._alone, 0.0, 0.98)) if self._alone > 0 else 0.0

    def expect(self, utilisation: float, power_w: float) -> Expected:
        """Return what the row should show.

        Args:
            utilisation: Mean utilisation of the row (0..1); tells its power.
            power_w: Mean power of the row; tells its temperature [W].
        """
        carried = self.memory * self._before if self._before is not None else 0.0
        return Expected(
            power_w=float(pieces(utilisation) @ self._theta_power),
            temperature_c=float(np.array([1.0, power_w]) @ self._theta_temperature) + carried,
        )

    def learn(self, utilisation: float, power_w: float, temperature_c: float, *, contiguous: bool) -> None:
        """Take the row; `contiguous` says that it follows the last one without a gap."""
        self._power.update(pieces(utilisation)[None], np.array([power_w]), np.ones(1))
        x = np.array([1.0, power_w])
        error = temperature_c - float(x @ self._theta_temperature)
        if self._before is not None and contiguous:
            self._together = _MEMORY * self._together + error * self._before
            self._alone = _MEMORY * self._alone + self._before**2
        self._before = error
        self._temperature.update(x[None], np.array([temperature_c]), np.ones(1))
        self._rows += 1
        if self._rows < _SOLVE_ALWAYS or self._rows % _SOLVE_EVERY == 0:
            self._theta_power = self._power.solve()[0]
            self._theta_temperature = self._temperature.solve()[0]

    def interrupt(self) -> None:
        """Forget the last row's error: the next one does not follow it."""
        self._before = None

    def power_parameters(self) -> FloatArray:
        """Return idle power and the slope of each piece [W]."""
        return np.asarray(self._theta_power.copy(), dtype=np.float64)

    def temperature_parameters(self) -> FloatArray:
        """Return t0 [degC] and r [K/W]."""
        return np.asarray(self._theta_temperature.copy(), dtype=np.float64)


def pieces(utilisation: float) -> FloatArray:
    """Return 1 and the part of the utilisation that lies in each piece; non-negative weights make a rising curve."""
    inside = [min(max(utilisation - low, 0.0), high - low) for low, high in itertools.pairwise(KNOTS)]
    return np.array([1.0, *inside])
