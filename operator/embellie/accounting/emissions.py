# SPDX-License-Identifier: Apache-2.0
"""Emissions of a power curve. The kind of signal goes with every number, and two kinds are never added."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

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
    """Energy and what it emitted, by one kind of signal."""

    grams: float
    energy_kwh: float
    kind: SignalKind

    @property
    def mean_g_per_kwh(self) -> float:
        """Carbon intensity of the energy drawn [g/kWh]."""
        return self.grams / self.energy_kwh if self.energy_kwh else 0.0


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
    return Emissions(grams=float(np.dot(energy, used)), energy_kwh=float(energy.sum()), kind=signal.kind)


def total(parts: Sequence[Emissions]) -> Emissions:
    """Return the sum over zones; two kinds of signal cannot be added."""
    kinds = {part.kind for part in parts}
    if len(kinds) != 1:
        raise TypeError(f"emissions by {sorted(kinds) or 'no signal'} cannot be added")
    return Emissions(
        grams=float(np.sum([part.grams for part in parts])),
        energy_kwh=float(np.sum([part.energy_kwh for part in parts])),
        kind=kinds.pop(),
    )
