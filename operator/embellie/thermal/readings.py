# SPDX-License-Identifier: Apache-2.0
"""How far a sensor's samples may be trusted: fresh, stale, frozen, absurd or missing."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from embellie.domain.snapshot import Quality, Reading


class Unit(StrEnum):
    """Units that a sensor may speak; readings are kept in degC, kW and percent."""

    CELSIUS = "Celsius"
    FAHRENHEIT = "Fahrenheit"
    KELVIN = "Kelvin"
    WATT = "Watt"
    KILOWATT = "Kilowatt"
    PERCENT = "Percent"
    RATIO = "Ratio"


_CONVERT: dict[Unit, Callable[[float], float]] = {
    Unit.CELSIUS: lambda v: v,
    Unit.FAHRENHEIT: lambda v: (v - 32.0) / 1.8,
    Unit.KELVIN: lambda v: v - 273.15,
    Unit.WATT: lambda v: v / 1000.0,
    Unit.KILOWATT: lambda v: v,
    Unit.PERCENT: lambda v: v,
    Unit.RATIO: lambda v: 100.0 * v,
}


def in_kept_unit(value: float, unit: Unit) -> float:
    """Return a value in the unit that readings are kept in: degC, kW or percent.

    >>> in_kept_unit(212.0, Unit.FAHRENHEIT)
    100.0
    """
    return _CONVERT[unit](value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One sample as it was scraped: Unix time [s] and the value in the sensor's own unit."""

    at_s: float
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a reading may be at all, in its kept unit; the ends are still believed."""

    low: float
    high: float


TEMPERATURE_BOUNDS = Bounds(low=-20.0, high=80.0)
"""Supply and inlet air or water [degC]; outside it the sensor, the unit or the query is wrong."""
POWER_BOUNDS = Bounds(low=0.0, high=1e6)
"""Facility power [kW]."""
SHARE_BOUNDS = Bounds(low=0.0, high=100.0)
"""Relative humidity [%]."""
JUMP_NEIGHBOURS = 3
"""A value that jumped is compared with so many before it."""

FROZEN_AFTER_S = 900.0
"""A value that has not moved by so much as a digit for this long, while power did, is a dead sensor's."""
FROZEN_SAMPLES = 5
_FUTURE_S = 60.0
"""Clocks may differ by this much; a sample from further ahead is absurd [s]."""


def judge(
    samples: Sequence[Sample],
    now_s: float,
    *,
    max_age_s: float,
    unit: Unit = Unit.CELSIUS,
    bounds: Bounds = TEMPERATURE_BOUNDS,
    power_moved: bool = False,
    max_step: float = math.inf,
) -> Reading:
    """Judge one sensor by its recent samples, in any order; the newest is the reading.

    Args:
        samples: The recent samples; none means the sensor is missing.
        now_s: The present, as Unix time in the samples' clock [s].
        max_age_s: From this age on a sample is stale [s].
        unit: What the sensor speaks; the reading is in degC or kW.
        bounds: Values that the sensor can have, in degC or kW.
        power_moved: Whether the power under this sensor moved over these samples; only then can it be called frozen.
        max_step: Furthest that the kept value can move from one sample to the next; one that moved further and stands
            alone is called jumping, until a second one confirms it.
    """
    if not samples:
        return Reading(value=None, age_s=math.inf, quality=Quality.MISSING)
    newest = max(samples, key=lambda s: s.at_s if math.isfinite(s.at_s) else -math.inf)
    age_s = now_s - newest.at_s
    value = _CONVERT[unit](newest.value)
    if not math.isfinite(value) or not math.isfinite(age_s):
        return Reading(
            value=None, age_s=math.inf if not math.isfinite(age_s) else max(0.0, age_s), quality=Quality.ABSURD
        )
    if not bounds.low <= value <= bounds.high or age_s < -_FUTURE_S:
        return Reading(value=value, age_s=max(0.0, age_s), quality=Quality.ABSURD)
    age_s = max(0.0, age_s)
    if age_s > max_age_s:
        return Reading(value=value, age_s=age_s, quality=Quality.STALE)
    if max_step < math.inf and jumped(samples, max_step, unit):
        return Reading(value=value, age_s=age_s, quality=Quality.JUMPING)
    if power_moved and is_frozen(samples):
        return Reading(value=value, age_s=age_s, quality=Quality.FROZEN)
    return Reading(value=value, age_s=age_s, quality=Quality.FRESH)


def is_frozen(samples: Sequence[Sample]) -> bool:
    """Return whether enough samples over long enough all say exactly the same."""
    if len(samples) < FROZEN_SAMPLES:
        return False
    times = [s.at_s for s in samples]
    return max(times) - min(times) >= FROZEN_AFTER_S and len({s.value for s in samples}) == 1


def jumped(samples: Sequence[Sample], max_step: float, unit: Unit = Unit.CELSIUS) -> bool:
    """Return whether the newest value is out of reach of the ones before it, or several of them leapt to and fro.

    One step that stays is believed from its second sample on: real rooms do change, sensors that jump come back.
    """
    ordered = sorted(samples, key=lambda s: s.at_s)[-2 * JUMP_NEIGHBOURS :]
    values = [_CONVERT[unit](s.value) for s in ordered]
    if len(values) < 3:
        return False
    steps = [abs(b - a) > max_step for a, b in itertools.pairwise(values)]
    return steps[-1] or sum(steps) >= 2


def moved(power_kw: Sequence[float], floor_kw: float = 1.0, relative: float = 0.05) -> bool:
    """Return whether power swung enough over a window that a thermometer beside it must have noticed."""
    finite = [p for p in power_kw if math.isfinite(p)]
    if not finite:
        return False
    return max(finite) - min(finite) > max(floor_kw, relative * max(abs(p) for p in finite))


_WORST_FIRST = (Quality.MISSING, Quality.ABSURD, Quality.JUMPING, Quality.FROZEN, Quality.STALE)


def hottest(readings: Sequence[Reading], alarm_at: float = math.inf) -> Reading | None:
    """Return one reading for several sensors of one role.

    A fresh one at or over `alarm_at` (the hard limit) speaks for all, whatever the others do. Else one untrusted sensor
    makes the whole role untrusted, since the hot spot may be just there. Else the hottest counts.
    """
    top = fresh_maximum(readings)
    if top is not None and top.value is not None and top.value >= alarm_at:
        return top
    for quality in _WORST_FIRST:
        for reading in readings:
            if reading.quality is quality:
                return reading
    return top


def fresh_maximum(readings: Sequence[Reading]) -> Reading | None:
    """Return the hottest of the fresh readings; None without one."""
    fresh = [r for r in readings if r.quality is Quality.FRESH and r.value is not None]
    return max(fresh, key=lambda r: r.value if r.value is not None else -math.inf, default=None)
