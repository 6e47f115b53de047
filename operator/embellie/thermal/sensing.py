# SPDX-License-Identifier: Apache-2.0
"""A zone's sensors over time: each value is judged by its own history, each role by its worst sensor."""

import itertools
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from embellie.domain.limits import fresh_value
from embellie.domain.snapshot import Quality, Reading
from embellie.thermal.readings import (
    JUMP_NEIGHBOURS,
    POWER_BOUNDS,
    SHARE_BOUNDS,
    TEMPERATURE_BOUNDS,
    Bounds,
    Sample,
    hottest,
    judge,
    moved,
)
from embellie.thermal.settings import MOVED_ROLES, Role, SensorSettings, ZoneSettings

HISTORY = 90
"""Samples kept per sensor: at a turn of 15 s over twenty minutes, long enough to see that one is frozen."""

SPACING_S = 12.0
"""Samples that come faster replace each other [s]."""

BOUNDS: Mapping[Role, Bounds] = {
    # An inlet in degrees Fahrenheit read as Celsius is hotter than any inlet that servers survive.
    Role.INLET: Bounds(low=-20.0, high=60.0),
    Role.SUPPLY: Bounds(low=-20.0, high=60.0),
    Role.OUTDOOR_DRY_BULB: Bounds(low=-60.0, high=60.0),
    Role.OUTDOOR_WET_BULB: Bounds(low=-60.0, high=45.0),
    Role.RIVER: Bounds(low=-2.0, high=45.0),
    Role.HUMIDITY: SHARE_BOUNDS,
    Role.LOOP_POWER: POWER_BOUNDS,
    Role.HEAT_DELIVERED: POWER_BOUNDS,
}
"""What each role can be at all; temperatures in the room have bounds of their own."""

MAX_STEP_K: Mapping[Role, float] = {Role.INLET: 10.0, Role.SUPPLY: 15.0, Role.COOLANT_SUPPLY: 15.0}
"""A temperature that moves further between two samples and comes back with the next one jumped [K]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneReadings:
    """What a zone's sensors say, one reading for each role that it names."""

    by_role: Mapping[Role, Reading] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    """Sensor name -> why it is not believed."""

    def value(self, role: Role) -> float | None:
        """Return a role's value where it may be acted upon."""
        return fresh_value(self.by_role.get(role))


@dataclass(slots=True)
class _Memory:
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=HISTORY))
    power_kw: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))
    alike: int = 0
    """So many of the newest samples say exactly the same."""


class SensorBank:
    """The recent samples of many sensors, by a key that names each."""

    def __init__(self) -> None:
        self._memory: dict[str, _Memory] = {}

    def keep(self, keys: Sequence[str]) -> None:
        """Forget the sensors that nobody names any more."""
        self._memory = {key: self._memory.get(key) or _Memory() for key in keys}

    def judge(
        self, key: str, sensor: SensorSettings, at_s: float, value: float | None, now_s: float, power_kw: float
    ) -> Reading:
        """Take a sample (None: nothing came) and return what the sensor is worth.

        Args:
            key: Names the sensor among all zones'.
            sensor: Its settings.
            at_s: When the value was measured, in the clock of `now_s` [s].
            value: In the sensor's own unit, unscaled.
            now_s: The present [s].
            power_kw: Heat that the zone makes now; tells a frozen sensor from a quiet room [kW].
        """
        memory = self._memory.setdefault(key, _Memory())
        if value is not None and (not memory.samples or at_s >= memory.samples[-1].at_s):
            if len(memory.samples) > 1 and at_s - memory.samples[-2].at_s < SPACING_S:
                # Turns may follow each other fast; the history has to reach back far enough all the same.
                memory.samples.pop()
                memory.power_kw.pop()
            kept = value * sensor.scale
            same = bool(memory.samples) and memory.samples[-1].value == kept
            memory.alike = memory.alike + 1 if same else 1
            memory.samples.append(Sample(at_s=at_s, value=kept))
            memory.power_kw.append(power_kw)
        # A supply is controlled to stand still; only what the power moves must move with it.
        suspect = sensor.role in MOVED_ROLES and memory.alike >= len(memory.samples)
        if sensor.role is Role.HEAT_DELIVERED and memory.samples and memory.samples[-1].value == 0.0:
            suspect = False  # a network that takes nothing shows just that, for as long as it likes
        power_moved = suspect and moved(tuple(memory.power_kw))
        # The newest few tell all the rest; most sensors are judged many times a minute.
        newest = itertools.islice(reversed(memory.samples), 2 * JUMP_NEIGHBOURS)
        return judge(
            tuple(memory.samples if power_moved else newest),
            now_s=now_s,
            max_age_s=sensor.max_age_s,
            unit=sensor.unit,
            bounds=BOUNDS.get(sensor.role, TEMPERATURE_BOUNDS),
            power_moved=power_moved,
            max_step=MAX_STEP_K.get(sensor.role, math.inf),
        )


def zone_readings(
    settings: ZoneSettings, readings: Mapping[str, Reading], problems: Mapping[str, str] | None = None
) -> ZoneReadings:
    """Return one reading for each role of a zone from its sensors' readings, by sensor name.

    Args:
        settings: The zone.
        readings: What each sensor is worth.
        problems: In words why a sensor gave nothing, where the source said so.
    """
    roles: dict[Role, list[Reading]] = {}
    found: dict[str, str] = {}
    for sensor in settings.sensors:
        reading = readings.get(sensor.name) or Reading(value=None, age_s=math.inf, quality=Quality.MISSING)
        roles.setdefault(sensor.role, []).append(reading)
        if reading.quality is not Quality.FRESH:
            found[sensor.name] = (problems or {}).get(sensor.name) or in_words(reading)
    by_role = {}
    for role, several in roles.items():
        limit = settings.limits.hard_c(role)
        worst = hottest(several, math.inf if limit is None else limit)
        if worst is not None:
            by_role[role] = worst
    return ZoneReadings(by_role=by_role, problems=found)


def in_words(reading: Reading) -> str:
    """Say why a reading is not believed."""
    value = "" if reading.value is None else f"{reading.value:.6g}"
    return {
        Quality.STALE: f"the last good value is {reading.age_s:.0f} s old",
        Quality.FROZEN: "the value does not move while the power does",
        Quality.ABSURD: f"the value {value} is outside what such a sensor can measure; compare its query with its unit",
        Quality.JUMPING: f"the value {value} is further from the ones before than such a sensor can move",
        Quality.MISSING: "there is no value",
        Quality.FRESH: "",
    }[reading.quality]
