# SPDX-License-Identifier: Apache-2.0
"""Two schedules by zone and slot, drawn many times, because not all of what makes their power is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

import numpy as np

from embellie.accounting.curves import Run, ZonePower, power_curve
from embellie.accounting.emissions import Signal
from embellie.domain.forecast import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """What is not known, as standard deviations of factors: stated judgements (docs/method.md)."""

    duration: float = 0.025
    """Of one job's duration, had it run at another time."""
    job_power: float = 0.05
    """Of one job's power as it was seen: in both schedules alike."""
    power_elsewhere: float = 0.02
    """Of what one job would have drawn at another time, beside what it drew."""
    common_power: float = 0.03
    """Of all power together (meters, overhead)."""
    intensity: float = 0.05
    """Of one day's carbon intensity of a zone."""
    on_site: float = 0.03
    """Of what the plants of a zone delivered, by their meters."""
    told_duration: float = 0.3
    """Of the duration of work that has not begun, which is only told: of its logarithm."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """Slots of equal length; the first begins at `start`."""

    start: datetime
    step: timedelta
    slots: int

    @property
    def end(self) -> datetime:
        """The end of the last slot."""
        return self.start + self.step * self.slots

    @property
    def edges_s(self) -> FloatArray:
        """Edges of the slots, counted from `start` [s]."""
        return np.arange(self.slots + 1, dtype=np.float64) * self.step.total_seconds()

    def days(self, zone: tzinfo = UTC) -> list[tuple[str, slice]]:
        """Return the days of a time zone that the window touches, with the slots whose middle lies in each."""
        found: list[tuple[str, slice]] = []
        days = [(self.start + self.step * (k + 0.5)).astimezone(zone).date() for k in range(self.slots)]
        first = 0
        for k in range(1, self.slots + 1):
            if k == self.slots or days[k] != days[k - 1]:
                found.append((days[k - 1].isoformat(), slice(first, k)))
                first = k
        return found


def slot_energy(runs: Sequence[Run], zones: Sequence[ZonePower], window: Window) -> FloatArray:
    """Return the facility energy of runs by zone and slot, shape (zones, slots) [kWh]."""
    return np.stack(
        [power_curve(runs, zone, window.start, window.end).energy_between(window.edges_s) for zone in zones]
    )


def energy_after(runs: Sequence[Run], zones: Sequence[ZonePower], moment: datetime) -> FloatArray:
    """Return what runs still draw after an instant, by zone, overhead included, idle nodes not [kWh]."""
    pue = {zone.name: zone.pue for zone in zones}
    left = dict.fromkeys(pue, 0.0)
    for run in runs:
        hours = (run.end - max(run.start, moment)).total_seconds() / 3600.0
        if hours > 0.0 and run.zone in left:
            left[run.zone] += run.power_kw * hours * pue[run.zone]
    return np.array([left[zone.name] for zone in zones])


def intensities(signals: Mapping[str, Signal], zones: Sequence[ZonePower], window: Window) -> FloatArray:
    """Return the zones' carbon intensity by slot, shape (zones, slots) [g/kWh]; NaN where it is not known.

    Raises TypeError where the zones are measured by two kinds of signal.
    """
    kinds = {signals[zone.name].kind for zone in zones}
    if len(kinds) > 1:
        raise TypeError(f"zones measured by {sorted(kinds)} cannot be added up")
    rows = []
    for zone in zones:
        signal = signals[zone.name]
        middle = [window.start + window.step * k + window.step / 2 for k in range(window.slots)]
        index = np.array([(moment - signal.start) // signal.step for moment in middle])
        inside = (index >= 0) & (index < signal.values.shape[0])
        values = np.full(window.slots, np.nan)
        values[inside] = signal.values[index[inside]]
        rows.append(values)
    return np.stack(rows)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draws:
    """Replays of both schedules with the same draws of power. Arrays are facility energy [kWh]."""

    window: Window
    zones: tuple[str, ...]
    ours: FloatArray
    """The schedule that was, by the model: shape (draws, zones, slots)."""
    fifo: FloatArray
    """First come first served: shape (draws, zones, slots)."""
    owed: FloatArray
    """What the schedule that was still draws after the window, beyond what the other does: shape (draws, zones)."""
    brought: FloatArray | None = None
    """What it still had to draw when the window began, beyond what the other had: (draws, zones). None: nothing."""
