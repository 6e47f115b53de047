# SPDX-License-Identifier: Apache-2.0
"""The time axis of a replay: whole ticks for jobs, slots for the carbon intensity.

A slot is what the intensity and the decisions are told by (an hour, half an hour); a tick is what the times of jobs are
rounded down to (a second; five seconds as in GAIA, ASPLOS 2024). Sums over ticks are exact integrals over slots.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from embellie.domain.forecast import FloatArray

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Axis:
    """Carbon intensity as it was, from the replay's first instant on."""

    values: FloatArray
    """Carbon intensity by slot, shape (slots,) [g/kWh]."""
    tick_s: float
    ticks_per_slot: int
    start: datetime | None = None
    """The first slot's beginning; None where the history has no calendar."""
    known_slots: int = -1
    """Slots that were measured; what follows repeats the last day. -1: all of them."""
    _cumulative: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse what no replay may rest on, and prepare the integral."""
        if self.values.size == 0 or not np.all(np.isfinite(self.values)):
            raise ValueError("a replay needs carbon intensity for at least one slot, without gaps")
        if self.known_slots < 0:
            object.__setattr__(self, "known_slots", int(self.values.size))
        sums = np.concatenate(([0.0], np.cumsum(self.values))) * self.ticks_per_slot
        object.__setattr__(self, "_cumulative", sums)

    @property
    def n_slots(self) -> int:
        """How many slots there are."""
        return int(self.values.size)

    @property
    def end(self) -> int:
        """The tick after the last slot."""
        return self.n_slots * self.ticks_per_slot

    @property
    def slot_h(self) -> float:
        """Length of a slot [h]."""
        return self.ticks_per_slot * self.tick_s / 3600.0

    @property
    def tick_h(self) -> float:
        """Length of a tick [h]."""
        return self.tick_s / 3600.0

    def grams(self, start: npt.ArrayLike, end: npt.ArrayLike) -> FloatArray:
        """Return what 1 kW emits between ticks, element by element [g]; past the last slot its value stands."""
        result: FloatArray = (self._integral(end) - self._integral(start)) * self.tick_h
        return result

    def _integral(self, tick: npt.ArrayLike) -> FloatArray:
        ticks = np.asarray(tick, dtype=np.int64)
        slot = np.clip(ticks // self.ticks_per_slot, 0, self.n_slots - 1)
        part: FloatArray = self._cumulative[slot] + (ticks - slot * self.ticks_per_slot) * self.values[slot]
        return part

    def moment(self, tick: int) -> datetime | None:
        """Return a tick on the calendar."""
        return None if self.start is None else self.start + timedelta(seconds=tick * self.tick_s)

    def ticks(self, hours: float) -> int:
        """Return whole ticks of a time in hours."""
        return int(hours * 3600.0 / self.tick_s + 1e-9)


def extended(axis: Axis, slots: int) -> Axis:
    """Return the axis with at least so many slots: beyond its history the last day repeats."""
    if slots <= axis.n_slots:
        return axis
    day = min(axis.n_slots, max(1, round(24.0 / axis.slot_h)))
    extra = np.resize(axis.values[-day:], slots - axis.n_slots)
    return Axis(
        values=np.concatenate((axis.values, extra)),
        tick_s=axis.tick_s,
        ticks_per_slot=axis.ticks_per_slot,
        start=axis.start,
        known_slots=axis.known_slots,
    )
