# SPDX-License-Identifier: Apache-2.0
"""Quarters and halves of an hour: how a quantity usually moves within its hours, learnt from a source that tells them.

Two things are learnt: how far a slot follows the slope between the neighbouring hours, and what is usual at that hour
of day. A shape is used only if it beat the flat hour on days that it was not learnt from. Pure.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd

from embellie_forecast.factors import FloatArray
from embellie_forecast.models.inputs import IntArray
from embellie_forecast.models.targets import Target

HOUR = timedelta(hours=1)
STEPS = (timedelta(minutes=15), timedelta(minutes=30))
MIN_KNOWN_SHARE = 0.8
"""A step is a source's own if at least so many of its slots are told: some feeds fill every second quarter only."""
MIN_DAYS = 21
HELD_OUT_DAYS = 7
MIN_GAIN = 0.05
"""The shape must take at least this share off the flat hour's error on the days held out."""
PRIOR_DAYS = 5.0
"""Days of evidence that the flat hour counts for in the usual shape."""
WITHIN = 0.8
"""The range that is widened is an 80 % range."""
ROUNDS = 3
LOGARITHMIC = frozenset({Target.LIFECYCLE, Target.DIRECT})
SMALLEST = 1e-3
"""The least intensity that has a logarithm here [g/kWh]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WithinHour:
    """How one quantity moves within an hour, on its modelled scale."""

    target: Target
    parts: int
    """Slots in an hour."""
    slope: float
    """Share of the straight line between the neighbouring hours that the slots follow."""
    usual: FloatArray
    """Shape (24, parts): what is left, by UTC hour of day."""
    spread: float
    """Half of the 80 % range of what is left after that."""
    gain: float
    """How much smaller the error was than the flat hour's, on the days held out (0..1)."""

    def deviations(self, scaled: FloatArray, first_hour: int) -> FloatArray:
        """Return what to add to hours (on the modelled scale, shape (hours,)) in their slots; shape (hours, parts)."""
        found = self.slope * slopes(scaled)[:, None] * ramp(self.parts)
        return np.asarray(found + self.usual[(first_hour + np.arange(scaled.size)) % 24], dtype=np.float64)

    def spread_out(self, hourly: FloatArray, first_hour: int) -> FloatArray:
        """Return slots whose mean over each hour is the hour's value; unit as `hourly`, shape (hours * parts,)."""
        scaled = on_scale(self.target, hourly)
        slots = self.target.from_scale(scaled[:, None] + self.deviations(scaled, first_hour))
        mean = slots.mean(axis=1)
        if self.target in LOGARITHMIC:
            slots *= (hourly / mean)[:, None]
        else:
            # At the ends of what is possible an hour's mean gives way.
            slots += (hourly - mean)[:, None]
            slots = np.clip(slots, 0.0, 1.0 if self.target is Target.RENEWABLE_SHARE else None)
        return np.asarray(slots.ravel(), dtype=np.float64)


def on_scale(target: Target, values: FloatArray) -> FloatArray:
    """Return values on the modelled scale; a forecast of nothing is taken for next to nothing."""
    return target.to_scale(np.maximum(values, SMALLEST) if target in LOGARITHMIC else values)


def ramp(parts: int) -> FloatArray:
    """Return where the middles of an hour's slots lie, from -1/2 to 1/2."""
    return np.asarray((np.arange(parts) + 0.5) / parts - 0.5, dtype=np.float64)


def slopes(scaled: FloatArray) -> FloatArray:
    """Return the change per hour around each hour: between its neighbours, at the ends to the one that there is."""
    if scaled.size < 2:
        return np.zeros(scaled.size)
    return np.asarray(np.gradient(scaled), dtype=np.float64)


def own_step(values: "pd.Series[float]") -> timedelta | None:
    """Return the finest step below an hour in which a series really is told; None where it is hourly."""
    if values.empty:
        return None
    index = pd.DatetimeIndex(values.index)
    known = pd.DatetimeIndex(values.dropna().index)
    hours = (index[-1].floor("h") - index[0].floor("h")).total_seconds() / 3600.0 + 1.0
    for step in STEPS:
        told = known.floor(pd.Timedelta(step)).nunique()
        if told >= MIN_KNOWN_SHARE * hours * (HOUR / step):
            return step
    return None


def learn_within_hour(values: "pd.Series[float]", target: Target, step: timedelta) -> WithinHour | None:
    """Learn from a source's own slots; None where they are too few, or where no shape beats the flat hour.

    Args:
        values: In the target's unit, index in UTC at `step` or finer, gaps allowed.
        target: What it is.
        step: Length of the slots that are wanted.
    """
    table = _hours(values, step)
    index = pd.DatetimeIndex(table.index)
    if table.empty or index[-1] - index[0] < pd.Timedelta(days=MIN_DAYS):
        return None
    slots = table.to_numpy(dtype=np.float64)
    mean = slots.mean(axis=1)
    scaled = target.to_scale(mean)
    moved = target.to_scale(slots) - scaled[:, None]
    hours = np.asarray(index.hour, dtype=np.int64)
    late = np.asarray(index >= index[-1] - pd.Timedelta(days=HELD_OUT_DAYS))
    # The slope of an hour whose neighbour is missing would be that of another hour.
    near = np.diff(np.asarray(index.as_unit("s").asi8)) == 3600
    whole = np.concatenate([[False], near]) & np.concatenate([near, [False]])
    slope = slopes(scaled)
    use = whole & np.isfinite(moved).all(axis=1) & np.isfinite(slope)
    if (use & ~late).sum() < 24 * (MIN_DAYS - HELD_OUT_DAYS) // 2 or (use & late).sum() < 24:
        return None
    early = _fit(target, moved[use & ~late], slope[use & ~late], hours[use & ~late])
    left = moved - early.slope * slope[:, None] * ramp(early.parts) - early.usual[hours]
    flat_error, error = (float(np.abs(each[use & late]).mean()) for each in (moved, left))
    gain = 1.0 - error / flat_error if flat_error > 0.0 else 0.0
    if gain < MIN_GAIN:
        return None
    fitted = _fit(target, moved[use], slope[use], hours[use])
    spread = float(np.quantile(np.abs(left[use & late]), WITHIN))
    return WithinHour(
        target=target, parts=fitted.parts, slope=fitted.slope, usual=fitted.usual, spread=spread, gain=gain
    )


def _hours(values: "pd.Series[float]", step: timedelta) -> pd.DataFrame:
    """Return hours (rows) by slots (columns); hours that lack a slot are left out."""
    known = values.dropna()
    index = pd.DatetimeIndex(known.index)
    slot = ((index - index.floor("h")) // pd.Timedelta(step)).astype(int)
    cells = pd.DataFrame({"hour": index.floor("h"), "slot": slot, "value": known.to_numpy(dtype=np.float64)})
    table = cells.pivot_table(index="hour", columns="slot", values="value")
    return table.reindex(columns=range(round(HOUR / step))).dropna()


def _fit(target: Target, moved: FloatArray, slope: FloatArray, hours: IntArray) -> WithinHour:
    parts = moved.shape[1]
    line = slope[:, None] * ramp(parts)
    power = float((line**2).sum())
    usual, share = np.zeros((24, parts)), 0.0
    days = np.bincount(hours, minlength=24)[:, None] + PRIOR_DAYS
    for _ in range(ROUNDS):
        share = float(((moved - usual[hours]) * line).sum()) / power if power > 0.0 else 0.0
        total = np.zeros((24, parts))
        np.add.at(total, hours, moved - share * line)
        usual = total / days
    return WithinHour(target=target, parts=parts, slope=share, usual=usual, spread=0.0, gain=0.0)
