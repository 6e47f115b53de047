# SPDX-License-Identifier: Apache-2.0
"""Emissions of a power curve. The kind of signal is a type of its own, and two kinds are never added.

Average intensities say what a kilowatt-hour of the grid's mix emitted: they are for inventories. Marginal intensities
say what one more kilowatt-hour would have: they are for consequences. A sum of the two means nothing, so that adding
them is an error of types, found by mypy before it is found at run time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Self, TypeVar

import numpy as np

from embellie.accounting.curves import StepCurve
from embellie.domain.forecast import FloatArray
from embellie.domain.reasons import SignalKind


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Signal:
    """A grid's carbon intensity as it was; value k covers [start + k*step, start + (k+1)*step) [g/kWh]."""

    start: datetime
    step: timedelta
    values: FloatArray
    kind: SignalKind

    @property
    def end(self) -> datetime:
        """The end of the last value."""
        return self.start + self.step * int(self.values.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Emissions:
    """Energy and what it emitted, by one kind of signal: always one of the three types below."""

    kind: ClassVar[SignalKind]

    grams: float
    energy_kwh: float

    @property
    def mean_g_per_kwh(self) -> float:
        """Carbon intensity of the energy drawn [g/kWh]."""
        return self.grams / self.energy_kwh if self.energy_kwh else 0.0

    def __add__(self, other: Self) -> Self:
        """Return the sum of two emissions of one kind; raises TypeError for two kinds."""
        if type(other) is not type(self):
            raise TypeError(
                f"{type(self).__name__} and {type(other).__name__} cannot be added: they answer two questions"
            )
        return type(self)(grams=self.grams + other.grams, energy_kwh=self.energy_kwh + other.energy_kwh)

    def __sub__(self, other: Self) -> Self:
        """Return the difference of two emissions of one kind; raises TypeError for two kinds."""
        return self + type(other)(grams=-other.grams, energy_kwh=-other.energy_kwh)


class AverageLifecycle(Emissions):
    """By the average life-cycle intensity of the grid (location-based; building and fuelling the plants included)."""

    __slots__ = ()
    kind = SignalKind.AVERAGE_LIFECYCLE


class AverageDirect(Emissions):
    """By the average direct intensity of the grid (location-based; what came out of the stacks)."""

    __slots__ = ()
    kind = SignalKind.AVERAGE_DIRECT


class Marginal(Emissions):
    """By the marginal intensity of the grid."""

    __slots__ = ()
    kind = SignalKind.MARGINAL


_TYPES: dict[SignalKind, type[Emissions]] = {cls.kind: cls for cls in (AverageLifecycle, AverageDirect, Marginal)}
_E = TypeVar("_E", bound=Emissions)


def of_kind(kind: SignalKind, *, grams: float, energy_kwh: float) -> Emissions:
    """Return emissions of the type that belongs to a kind of signal."""
    return _TYPES[kind](grams=grams, energy_kwh=energy_kwh)


def emissions(curve: StepCurve, signal: Signal) -> Emissions:
    """Return what a curve emitted, partial steps exact.

    Raises ValueError where the signal has a gap under the curve: a missing hour is never counted as a clean one.
    """
    if signal.start > curve.start or signal.end < curve.end:
        raise ValueError(
            f"the signal covers {signal.start.isoformat()}..{signal.end.isoformat()}, "
            f"not all of {curve.start.isoformat()}..{curve.end.isoformat()}"
        )
    step_s = signal.step.total_seconds()
    first = int((curve.start - signal.start) // signal.step)
    last = first + int(np.ceil(((curve.end - signal.start).total_seconds() - first * step_s) / step_s - 1e-12))
    used = signal.values[first:last]
    if not np.all(np.isfinite(used)):
        raise ValueError("the signal has a gap under the curve")
    offset_s = (signal.start - curve.start).total_seconds()
    energy = curve.energy_between(offset_s + np.arange(first, last + 1, dtype=np.float64) * step_s)
    return of_kind(signal.kind, grams=float(np.dot(energy, used)), energy_kwh=float(energy.sum()))


def total(parts: Sequence[_E]) -> _E:
    """Return the sum over zones; two kinds of signal cannot be added."""
    if not parts:
        raise TypeError("emissions by no signal cannot be added")
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole
