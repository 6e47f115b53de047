# SPDX-License-Identifier: Apache-2.0
"""What a turn tells about its zones: forecasts, power, heat, sensors. Pure."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from embellie.control.assembly.assemble import Assembly
from embellie.control.deciding.seen import expected_facility_kw
from embellie.control.telling.thermal_status import zone_headroom
from embellie.domain.forecast import FloatArray, Forecast
from embellie.domain.limits import fresh_value, heat_room_now, safety_margin_k
from embellie.domain.reasons import Reason, Rung
from embellie.domain.snapshot import GridZoneState, Snapshot, ThermalZoneState
from embellie.telemetry.metrics import Metric, Value, grid, heat
from embellie.telemetry.metrics.grid import LEAD_HOURS, SHOWN_LEVELS
from embellie.thermal.headroom import ZoneState
from embellie.thermal.promises import Collision
from embellie.thermal.zone_now import ZoneReport

NO_RUNG = "None"
_RUNGS = (*Rung, NO_RUNG)
HOUR = timedelta(hours=1)


def zone_values(assembly: Assembly, problems: Mapping[str, str]) -> Iterator[Value]:
    """Yield the values of all zones; `problems` are the sensors that are not trusted."""
    snapshot = assembly.snapshot
    asks_for_forecast = {z.metadata.name for z in assembly.grid_zones if z.spec.grid_region or z.spec.sources}
    reckoned_kw = expected_facility_kw(assembly)
    for zone in snapshot.grid_zones:
        yield from _power_values(zone, snapshot, reckoned_kw[zone.name])
        if zone.name in asks_for_forecast:
            rung = zone.forecast.rung if zone.forecast is not None else NO_RUNG
            yield from (Value(grid.FORECAST_RUNG, float(r == rung), (zone.name, r)) for r in _RUNGS)
        if zone.forecast is not None:
            yield from _forecast_values(zone.name, zone.forecast, snapshot.now)
    for thermal in snapshot.thermal_zones:
        yield from _heat_values(thermal, assembly)
    yield from _sensor_values(assembly, problems)


def worst_case_kw(zone: GridZoneState, snapshot: Snapshot) -> float:
    """Facility power of a grid zone with all that runs in it at its worst case [kW]."""
    pue_of = {c.name: c.pue for c in snapshot.cells if c.grid_zone == zone.name}
    return zone.base_power_kw + sum(g.worst_power_kw * pue_of[g.cell] for g in snapshot.running if g.cell in pue_of)


def _power_values(zone: GridZoneState, snapshot: Snapshot, reckoned_kw: float) -> Iterator[Value]:
    name = zone.name
    yield Value(grid.ZONE_WORST, 1000.0 * worst_case_kw(zone, snapshot), (name,))
    yield Value(grid.ZONE_POWER, 1000.0 * reckoned_kw, (name, "reckoned"))
    measured = fresh_value(zone.measured_power_kw)
    if measured is not None:
        yield Value(grid.ZONE_POWER, 1000.0 * measured, (name, "measured"))
    limit_kw = zone.limit_kw(snapshot.now)
    if math.isfinite(limit_kw):
        yield Value(grid.ZONE_CONTRACT, 1000.0 * limit_kw, (name,))


def _forecast_values(zone: str, forecast: Forecast, now: datetime) -> Iterator[Value]:
    kind = forecast.signal_kind
    slot = forecast.slot_of(now)
    yield Value(grid.CARBON_INTENSITY, float(forecast.carbon_intensity_mean_g_per_kwh[slot]), (zone, kind))
    if forecast.renewable_share is not None:
        yield Value(grid.RENEWABLE_SHARE, float(forecast.renewable_share[forecast.median, slot]), (zone,))
        yield from _ahead(grid.RENEWABLE_FORECAST, (zone,), forecast, now, forecast.renewable_share)
    yield Value(grid.FORECAST_AGE, max(0.0, (now - forecast.issued_at).total_seconds()), (zone,))
    yield Value(grid.FORECAST_HORIZON, max(0.0, (forecast.end - now).total_seconds()), (zone,))
    if forecast.skill_percent is not None:
        yield Value(grid.FORECAST_SKILL, forecast.skill_percent / 100.0, (zone,))
    yield from _ahead(grid.CARBON_FORECAST, (zone, kind), forecast, now, forecast.carbon_intensity_g_per_kwh)
    if forecast.ambient_temperature_c is not None:
        yield from _ahead(heat.AMBIENT, (zone,), forecast, now, forecast.ambient_temperature_c)


def _ahead(
    metric: Metric, labels: tuple[str, ...], forecast: Forecast, now: datetime, values: FloatArray
) -> Iterator[Value]:
    """Yield a forecast's quantiles at the lead times that are shown, as far as it reaches."""
    for hours in LEAD_HOURS:
        slot = (now + hours * HOUR - forecast.start) // forecast.step
        if not 0 <= slot < forecast.n_slots:
            continue
        for row, level in enumerate(forecast.quantile_levels):
            if level in SHOWN_LEVELS:
                yield Value(metric, float(values[row, slot]), (*labels, str(hours), f"{level:g}"))


def _heat_values(zone: ThermalZoneState, assembly: Assembly) -> Iterator[Value]:
    name = zone.name
    room = zone_headroom(name, assembly)
    if math.isfinite(zone.inlet_limit_c):
        yield Value(heat.INLET_LIMIT, zone.inlet_limit_c, (name,))
    if zone.coolant_return_limit_c is not None:
        yield Value(heat.RETURN_LIMIT, zone.coolant_return_limit_c, (name,))
    yield Value(heat.MARGIN, safety_margin_k(zone), (name,))
    yield Value(heat.WORST_LOAD, 1000.0 * room.load_worst_kw, (name,))
    yield from (Value(heat.ZONE_STATE, float(room.state is state), (name, state)) for state in ZoneState)
    sensors = ((heat.INLET, zone.inlet), (heat.SUPPLY, zone.supply), (heat.COOLANT_RETURN, zone.coolant_return))
    for metric, reading in sensors:
        value = fresh_value(reading)
        if value is not None:
            yield Value(metric, value, (name,))
    for metric, kw in ((heat.HEADROOM, room.headroom_kw), (heat.HEAT_LIMIT, heat_room_now(zone).limit_kw)):
        if math.isfinite(kw):
            yield Value(metric, 1000.0 * kw, (name,))
    outlook = zone.outlook
    if outlook is not None:
        yield Value(heat.PUE, float(outlook.pue[0]), (name,))
        for hours in LEAD_HOURS:
            slot = (assembly.snapshot.now + hours * HOUR - outlook.start) // outlook.step
            if 0 <= slot < outlook.removable_kw.size and math.isfinite(outlook.removable_kw[slot]):
                yield Value(heat.REMOVABLE, 1000.0 * float(outlook.removable_kw[slot]), (name, str(hours)))


def report_values(reports: Mapping[str, ZoneReport]) -> Iterator[Value]:
    """Yield what the heat controller found out about thermal zones."""
    for name, report in reports.items():
        yield Value(heat.LEVEL, float(report.level), (name,))
        yield Value(heat.MODEL_TRUSTED, float(report.model.trusted), (name,))
        yield Value(heat.HEAT_CONFLICTS, len(report.conflicts), (name,))
        if report.peak_c is not None:
            yield Value(heat.PEAK, report.peak_c, (name,))


def promise_values(snapshot: Snapshot, collisions: Sequence[Collision]) -> Iterator[Value]:
    """Yield for each zone how many of its promised starts it cannot carry, as foreseen."""
    found = Counter((c.reason, c.zone) for c in collisions)
    for kind, reason, zones in (
        ("GridZone", Reason.CONTRACTED_POWER, snapshot.grid_zones),
        ("ThermalZone", Reason.HEAT_LIMIT, snapshot.thermal_zones),
    ):
        yield from (Value(grid.PROMISES_OVER, found[reason, zone.name], (kind, zone.name)) for zone in zones)


def _sensor_values(assembly: Assembly, problems: Mapping[str, str]) -> Iterator[Value]:
    for zone in assembly.grid_zones:
        if zone.spec.power_sensor is not None:
            name = zone.metadata.name
            trusted = f"gridzone/{name}/power" not in problems
            yield Value(heat.SENSOR_TRUSTED, float(trusted), ("GridZone", name, "power"))
    for thermal in assembly.thermal_zones:
        for sensor in thermal.spec.sensors or ():
            name = thermal.metadata.name
            trusted = f"thermalzone/{name}/{sensor.name}" not in problems
            yield Value(heat.SENSOR_TRUSTED, float(trusted), ("ThermalZone", name, sensor.name))
