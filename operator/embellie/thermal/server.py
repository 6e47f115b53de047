# SPDX-License-Identifier: Apache-2.0
"""A server known by its slow averages only: power from utilisation and temperature from power, learnt row by row.

P = idle + sum of rising straight pieces in utilisation (hourly means; utilisation is no power signal at seconds)
T = t0 + r * P, with errors that remember the row before
"""

import itertools

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.thermal.recursive import RecursiveFit

KNOTS = (0.0, 0.1, 0.35, 0.7, 1.0)
_FORGETTING_POWER = 0.9995
_FORGETTING_TEMPERATURE = 0.998
_MEMORY = 0.98
_SOLVE_ALWAYS, _SOLVE_EVERY = 200, 12
"""Parameters that rest on hundreds of rows are the same after one more."""


class ServerModel:
    """One server. Rows come in order of time, and each is predicted before it is learnt."""

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
        return min(max(self._together / self._alone, 0.0), 0.98) if self._alone > 0 else 0.0

    def follow(self, rows: FloatArray, contiguous: np.ndarray) -> FloatArray:
        """Learn rows and return what each was expected to show before that: power [W] and temperature [degC], (n, 2).

        Args:
            rows: Mean utilisation (0..1), power [W] and temperature [degC] of each, shape (n, 3). The utilisation tells
                the power, and the power the temperature.
            contiguous: Which of them follow the row before without a gap, shape (n,).
        """
        found = [np.zeros((0, 2))]
        first = 0
        while first < len(rows):
            last = first + (1 if self._rows < _SOLVE_ALWAYS else _SOLVE_EVERY - self._rows % _SOLVE_EVERY)
            found.append(self._follow(rows[first:last], contiguous[first:last].tolist()))
            first = last
        return np.concatenate(found)

    def _follow(self, rows: FloatArray, contiguous: list[bool]) -> FloatArray:
        """Do the same for rows that are predicted by the same parameters."""
        utilisation, power_w, temperature_c = rows.T
        x_power, x = pieces(utilisation), np.stack([np.ones(len(rows)), power_w], axis=1)
        settled_c = x @ self._theta_temperature
        carried_k = []
        for error_k, follows in zip((temperature_c - settled_c).tolist(), contiguous, strict=True):
            before = self._before if follows else None
            carried_k.append(0.0 if before is None else self.memory * before)
            if before is not None:
                self._together = _MEMORY * self._together + error_k * before
                self._alone = _MEMORY * self._alone + before**2
            self._before = error_k
        found = np.stack([x_power @ self._theta_power, settled_c + carried_k], axis=1)
        self._power.update_in_turn(x_power[None], power_w[None])
        self._temperature.update_in_turn(x[None], temperature_c[None])
        self._rows += len(rows)
        if self._rows < _SOLVE_ALWAYS or self._rows % _SOLVE_EVERY == 0:
            self._theta_power = self._power.solve()[0]
            self._theta_temperature = self._temperature.solve()[0]
        return found

    def power_parameters(self) -> FloatArray:
        """Return idle power and the slope of each piece [W]."""
        return np.asarray(self._theta_power.copy(), dtype=np.float64)

    def temperature_parameters(self) -> FloatArray:
        """Return t0 [degC] and r [K/W]."""
        return np.asarray(self._theta_temperature.copy(), dtype=np.float64)


def pieces(utilisation: FloatArray) -> FloatArray:
    """Return 1 and the part of each utilisation that lies in each piece, shape (n, pieces + 1).

    Non-negative weights make a rising curve of it.
    """
    inside = [np.clip(utilisation - low, 0.0, high - low) for low, high in itertools.pairwise(KNOTS)]
    return np.stack([np.ones_like(utilisation), *inside], axis=1)
