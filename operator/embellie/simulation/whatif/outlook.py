# SPDX-License-Identifier: Apache-2.0
"""What was known of the carbon intensity at a time: the truth, the truth with noise, or issued forecasts."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.simulation.whatif.axis import Axis


class Outlook(Protocol):
    """A source of forecasts."""

    def ahead(self, slot: int, slots: int) -> FloatArray:
        """Return what was expected, at the beginning of a slot, of it and the next ones, shape (slots,)."""


class Perfect:
    """Knows what comes; beyond the history the last day repeats."""

    def __init__(self, axis: Axis) -> None:
        self._values = axis.values
        self._day = max(1, round(24.0 / axis.slot_h))

    def ahead(self, slot: int, slots: int) -> FloatArray:
        """Return the truth."""
        return _padded(self._values[slot : slot + slots], slots, self._day)


class Noisy(Perfect):
    """The truth with noise of a fraction of the mean, drawn once (Let's Wait Awhile, Middleware 2021)."""

    def __init__(self, axis: Axis, fraction: float, seed: int) -> None:
        super().__init__(axis)
        known = axis.values[: axis.known_slots]
        noise = np.random.default_rng(seed).normal(0.0, fraction * float(known.mean()), known.size)
        self._values = np.concatenate((known + noise, axis.values[axis.known_slots :]))


class Issued:
    """Forecasts as they were issued; between two issues the earlier one counts."""

    def __init__(self, axis: Axis, issues: Mapping[int, FloatArray]) -> None:
        """Take issues by the slot that they begin with."""
        if not issues:
            raise ValueError("there is no forecast for the replay's time")
        self._day = max(1, round(24.0 / axis.slot_h))
        self._starts = np.array(sorted(issues), dtype=np.int64)
        self._rows = [np.asarray(issues[int(s)], dtype=np.float64) for s in self._starts]

    def ahead(self, slot: int, slots: int) -> FloatArray:
        """Return the newest issue's values from this slot on."""
        row = max(0, int(np.searchsorted(self._starts, slot, side="right")) - 1)
        age = max(0, slot - int(self._starts[row]))
        values = self._rows[row]
        # A very old issue says only what a day is like.
        age = age if age < values.size else values.size - self._day + (age - values.size) % self._day
        return _padded(values[age : age + slots], slots, self._day)


def _padded(values: FloatArray, slots: int, day: int) -> FloatArray:
    if values.size == slots:
        return values
    if values.size == 0:
        raise ValueError("the replay runs past its carbon history")
    return np.concatenate((values, np.resize(values[-day:], slots - values.size)))
