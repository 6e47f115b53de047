# SPDX-License-Identifier: Apache-2.0
"""The sensors that zones name: asked each turn, judged with their recent history."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from embellie.api.gridzone import GridZone
from embellie.api.thermalzone import ThermalZone
from embellie.control.assembly.zone_settings import settings_of
from embellie.domain.snapshot import Quality, Reading
from embellie.telemetry.prometheus import MetricsSource, Query, Sample
from embellie.thermal.readings import Unit
from embellie.thermal.sensing import SensorBank, ZoneReadings, in_words, zone_readings
from embellie.thermal.settings import Role, SensorSettings, ZoneSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What the sensors said, by zone name, and in words what is wrong with those that cannot be trusted."""

    grid_power_kw: Mapping[str, Reading]
    inlets: Mapping[str, Reading]
    supplies: Mapping[str, Reading]
    problems: Mapping[str, str]
    """`gridzone/NAME/power` or `thermalzone/NAME/SENSOR` -> why it is not trusted."""
    zones: Mapping[str, ZoneReadings] = field(default_factory=dict)
    """All roles of the thermal zones that name sensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    query: Query
    sensor: SensorSettings
    zone: str
    grid: bool


class SensorDesk:
    """Asks all sensors each turn; keeps each one's recent samples, because a frozen sensor shows only over time."""

    def __init__(self, source: MetricsSource) -> None:
        self._source = source
        self._bank = SensorBank()

    def read(
        self,
        grid_zones: Sequence[GridZone],
        thermal_zones: Sequence[ThermalZone],
        power_kw: Mapping[str, float],
        facility_kw: Mapping[str, float],
    ) -> Readings:
        """Ask every sensor once and judge the answers.

        Args:
            grid_zones: Whose power meters are asked.
            thermal_zones: Whose sensors are asked.
            power_kw: What each thermal zone should draw now [kW]: what never moves calls no sensor frozen.
            facility_kw: The same of each grid zone.
        """
        settings = {z.metadata.name: settings_of(z) for z in thermal_zones}
        asked = [*_grid_sensors(grid_zones), *_thermal_sensors(thermal_zones, settings)]
        samples = self._source.read([a.query for a in asked])
        self._bank.keep([a.query.key for a in asked])
        power: dict[str, Reading] = {}
        by_zone: dict[str, dict[str, Reading]] = {}
        words: dict[str, dict[str, str]] = {}
        problems: dict[str, str] = {}
        for one in asked:
            sample = samples[one.query.key]
            reading = self._judge(one, sample, (facility_kw if one.grid else power_kw).get(one.zone, 0.0))
            if reading.quality is not Quality.FRESH:
                problems[one.query.key] = sample.problem or in_words(reading)
            if one.grid:
                power[one.zone] = reading
            else:
                by_zone.setdefault(one.zone, {})[one.sensor.name] = reading
                if sample.problem:
                    words.setdefault(one.zone, {})[one.sensor.name] = sample.problem
        zones = {name: zone_readings(settings[name], found, words.get(name)) for name, found in by_zone.items()}
        return Readings(
            grid_power_kw=power,
            inlets=_of_role(zones, lambda name: settings[name].limited_role),
            supplies=_of_role(zones, lambda _: Role.SUPPLY),
            problems=problems,
            zones=zones,
        )

    def _judge(self, one: _Asked, sample: Sample, power_kw: float) -> Reading:
        return self._bank.judge(one.query.key, one.sensor, sample.at_s, sample.value, sample.at_s, power_kw)


def _of_role(zones: Mapping[str, ZoneReadings], role_of: Callable[[str], Role]) -> dict[str, Reading]:
    return {name: z.by_role[role] for name, z in zones.items() if (role := role_of(name)) in z.by_role}


def _grid_sensors(zones: Iterable[GridZone]) -> Iterable[_Asked]:
    for zone in zones:
        sensor, name = zone.spec.power_sensor, zone.metadata.name
        if sensor is not None:
            query = Query(key=f"gridzone/{name}/power", promql=sensor.query, max_age_s=sensor.max_age_seconds)
            settings = SensorSettings(
                name="power", role=Role.LOOP_POWER, unit=Unit(sensor.unit), max_age_s=sensor.max_age_seconds
            )
            yield _Asked(query=query, sensor=settings, zone=name, grid=True)


def _thermal_sensors(zones: Iterable[ThermalZone], settings: Mapping[str, ZoneSettings]) -> Iterable[_Asked]:
    for zone in zones:
        name = zone.metadata.name
        for written, sensor in zip(zone.spec.sensors or (), settings[name].sensors, strict=True):
            key = f"thermalzone/{name}/{sensor.name}"
            query = Query(key=key, promql=written.query, max_age_s=sensor.max_age_s)
            yield _Asked(query=query, sensor=sensor, zone=name, grid=False)
