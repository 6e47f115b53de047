# SPDX-License-Identifier: Apache-2.0
"""The sensors that zones name: asked each turn, judged with their recent history."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from embellie.api.gridzone import GridZone
from embellie.api.thermalzone import ThermalZone
from embellie.domain.snapshot import Quality, Reading
from embellie.telemetry.prometheus import MetricsSource, Query, Sample
from embellie.thermal.readings import POWER_BOUNDS, TEMPERATURE_BOUNDS, Unit, hottest, judge, moved
from embellie.thermal.readings import Sample as SensorSample

HISTORY = 90
"""Samples kept per sensor: at a turn of 15 s over twenty minutes, long enough to see that one is frozen."""

SPACING_S = 12.0
"""Samples that come faster replace each other [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What the sensors said, by zone name, and in words what is wrong with those that cannot be trusted."""

    grid_power_kw: Mapping[str, Reading]
    inlets: Mapping[str, Reading]
    supplies: Mapping[str, Reading]
    problems: Mapping[str, str]
    """`gridzone/NAME/power` or `thermalzone/NAME/SENSOR` -> why it is not trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sensor:
    query: Query
    unit: Unit
    zone: str
    role: str


@dataclass(slots=True)
class _Memory:
    samples: deque[SensorSample]
    power_kw: deque[float]


class SensorDesk:
    """Keeps each sensor's recent samples, because a frozen sensor shows only over time."""

    def __init__(self, source: MetricsSource) -> None:
        self._source = source
        self._memory: dict[str, _Memory] = {}

    def read(
        self,
        grid_zones: Sequence[GridZone],
        thermal_zones: Sequence[ThermalZone],
        power_of_zone: Callable[[str], float],
    ) -> Readings:
        """Ask every sensor once and judge the answers; `power_of_zone` gives a thermal zone's present power [kW]."""
        sensors = [*_grid_sensors(grid_zones), *_thermal_sensors(thermal_zones)]
        samples = self._source.read([s.query for s in sensors])
        self._memory = {
            s.query.key: self._memory.get(s.query.key) or _Memory(deque(maxlen=HISTORY), deque(maxlen=HISTORY))
            for s in sensors
        }
        power: dict[str, Reading] = {}
        roles: dict[tuple[str, str], list[Reading]] = {}
        problems: dict[str, str] = {}
        for sensor in sensors:
            sample = samples[sensor.query.key]
            reading = self._judge(sensor, sample, 0.0 if sensor.role == "Power" else power_of_zone(sensor.zone))
            if reading.quality is not Quality.FRESH:
                problems[sensor.query.key] = sample.problem or _in_words(reading)
            if sensor.role == "Power":
                power[sensor.zone] = reading
            else:
                roles.setdefault((sensor.role, sensor.zone), []).append(reading)
        limits = {("Inlet", z.metadata.name): float(z.spec.limits.inlet_hard_celsius) for z in thermal_zones}
        worst = {
            key: found
            for key, readings in roles.items()
            if (found := hottest(readings, limits.get(key, math.inf))) is not None
        }
        return Readings(
            grid_power_kw=power,
            inlets={zone: reading for (role, zone), reading in worst.items() if role == "Inlet"},
            supplies={zone: reading for (role, zone), reading in worst.items() if role == "Supply"},
            problems=problems,
        )

    def _judge(self, sensor: _Sensor, sample: Sample, power_kw: float) -> Reading:
        memory = self._memory[sensor.query.key]
        if sample.value is not None:
            if len(memory.samples) > 1 and sample.at_s - memory.samples[-2].at_s < SPACING_S:
                # Turns may follow each other fast; the history has to reach back far enough all the same.
                memory.samples.pop()
                memory.power_kw.pop()
            memory.samples.append(SensorSample(at_s=sample.at_s, value=sample.value))
            memory.power_kw.append(power_kw)
        return judge(
            tuple(memory.samples),
            now_s=sample.at_s,
            max_age_s=sensor.query.max_age_s,
            unit=sensor.unit,
            bounds=POWER_BOUNDS if sensor.role == "Power" else TEMPERATURE_BOUNDS,
            # A supply is controlled to stand still; only what the power warms must move with it.
            power_moved=sensor.role == "Inlet" and moved(tuple(memory.power_kw)),
        )


def _in_words(reading: Reading) -> str:
    return {
        Quality.STALE: f"the last good value is {reading.age_s:.0f} s old",
        Quality.FROZEN: "the value does not move while the power does",
        Quality.ABSURD: f"the value {reading.value} is outside what such a sensor can measure",
        Quality.MISSING: "there is no value",
        Quality.FRESH: "",
    }[reading.quality]


def _grid_sensors(zones: Iterable[GridZone]) -> Iterable[_Sensor]:
    for zone in zones:
        sensor, name = zone.spec.power_sensor, zone.metadata.name
        if sensor is not None:
            query = Query(key=f"gridzone/{name}/power", promql=sensor.query, max_age_s=sensor.max_age_seconds)
            yield _Sensor(query=query, unit=Unit(sensor.unit), zone=name, role="Power")


def _thermal_sensors(zones: Iterable[ThermalZone]) -> Iterable[_Sensor]:
    for zone in zones:
        for sensor in zone.spec.sensors or ():
            name = zone.metadata.name
            query = Query(
                key=f"thermalzone/{name}/{sensor.name}", promql=sensor.query, max_age_s=sensor.max_age_seconds
            )
            yield _Sensor(query=query, unit=Unit(sensor.unit), zone=name, role=str(sensor.role))
