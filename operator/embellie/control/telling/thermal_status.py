# SPDX-License-Identifier: Apache-2.0
"""What ThermalZones say about themselves. Pure: from a turn's assembly to statuses."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from embellie.api.thermalzone import ThermalZone, ThermalZoneStatus
from embellie.control.assembly.assemble import Assembly
from embellie.control.assembly.zone_settings import fault_of, hard_limit_c
from embellie.control.telling.condition_book import ConditionBook, say_exclusive, say_promises, say_ready
from embellie.domain.limits import HeatBound, fresh_value
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Reading, ThermalZoneState
from embellie.thermal.headroom import Headroom, ZoneState, headroom, worst_load_kw
from embellie.thermal.load_ahead import LoadAhead
from embellie.thermal.promises import Collision
from embellie.thermal.rungs import Level
from embellie.thermal.sensing import ZoneReadings
from embellie.thermal.settings import Role
from embellie.thermal.zone_now import ZoneReport

AHEAD = timedelta(days=1)
_TEMPERATURES = frozenset(Role) - {Role.HUMIDITY, Role.LOOP_POWER, Role.HEAT_DELIVERED}
_AGE_STEP_S = 30.0
"""Ages are told in such steps, so that a status does not change with every turn [s]."""


def thermal_zone_status(
    zone: ThermalZone,
    assembly: Assembly,
    problems: Mapping[str, str],
    wall_now: datetime,
    report: ZoneReport | None = None,
    readings: ZoneReadings | None = None,
    collisions: Sequence[Collision] = (),
) -> ThermalZoneStatus:
    """Describe a thermal zone.

    Args:
        zone: The object.
        assembly: What the turn knew.
        problems: The sensors' problems (key `thermalzone/NAME/SENSOR`).
        wall_now: For the conditions' times.
        report: What the heat controller found out; None without one.
        readings: All roles' readings.
        collisions: Promised starts that some zone cannot carry, as foreseen.
    """
    name = zone.metadata.name
    nodes = assembly.layout.nodes_of_thermal_zone.get(name, ())
    state = next(s for s in assembly.snapshot.thermal_zones if s.name == name)
    room = zone_headroom(name, assembly)
    conditions = ConditionBook(zone.status.conditions if zone.status else (), zone.metadata.generation, wall_now)
    say_exclusive(conditions, assembly.layout.shared_thermal_nodes.get(name, ()), "ThermalZone")
    _say_sensors(conditions, zone, problems)
    if room.state is ZoneState.OVER_LIMIT:
        conditions.set("WithinLimit", False, "OverHardLimit", "A fresh reading stands at or over its hard limit.")
    else:
        conditions.set("WithinLimit", True, "BelowLimit", "No fresh reading stands over the hard limit.")
    _say_spec(conditions, zone)
    _say_report(conditions, state, report, has_nodes=bool(nodes))
    say_promises(conditions, [c for c in collisions if c.reason is Reason.HEAT_LIMIT and c.zone == name])
    say_ready(conditions, len(nodes), "ThermalZone")
    ahead_kw = _ahead_kw(state, room, assembly)
    return ThermalZoneStatus.model_validate(
        {
            "conditions": conditions.found,
            "observed_generation": zone.metadata.generation,
            "nodes": len(nodes),
            "state": str(room.state),
            "inlet_celsius": _ceiling(state.inlet),
            "supply_celsius": _ceiling(state.supply),
            "limit_celsius": hard_limit_c(zone.spec.limits),
            "temperatures": _temperatures(readings),
            "predicted_peak_celsius": None if report is None or report.peak_c is None else math.ceil(report.peak_c),
            "predicted_peak_time": None if report is None else report.peak_at,
            "headroom_kilowatts": None
            if math.isinf(room.headroom_kw)
            else max(-1_000_000, math.floor(room.headroom_kw)),
            "headroom_ahead_kilowatts": None if ahead_kw is None else max(-1_000_000, math.floor(ahead_kw)),
            "model": _model(report),
            "binding_limit": None if math.isinf(room.headroom_kw) else str(room.bound),
        }
    )


def _say_sensors(conditions: ConditionBook, zone: ThermalZone, problems: Mapping[str, str]) -> None:
    prefix = f"thermalzone/{zone.metadata.name}/"
    own = {key.rsplit("/", 1)[1]: why for key, why in problems.items() if key.startswith(prefix)}
    if not zone.spec.sensors:
        conditions.set(
            "SensorsTrusted", None, "NoSensors", "spec.sensors is empty: the worst case of spec.cooling holds."
        )
    elif own:
        words = "; ".join(f"{sensor}: {why}" for sensor, why in sorted(own.items()))
        conditions.set("SensorsTrusted", False, "Untrusted", f"The worst case counts until they read again: {words}.")
    else:
        conditions.set("SensorsTrusted", True, "Fresh", "All sensors read this turn.")


def _say_spec(conditions: ConditionBook, zone: ThermalZone) -> None:
    fault = fault_of(zone.spec)
    if fault:
        conditions.set(
            "SpecConsistent", False, "Contradiction", f"Nothing new starts before its latest start: {fault}."
        )
    else:
        conditions.set("SpecConsistent", True, "Consistent", "The parts of the spec agree.")


def _say_report(
    conditions: ConditionBook, state: ThermalZoneState, report: ZoneReport | None, *, has_nodes: bool
) -> None:
    quiet = report is None or report.level is Level.NORMAL
    if not state.admission_open and (quiet or not has_nodes):
        conditions.set("AdmissionOpen", False, "Closed", f"New work waits: {state.closed_because}.")
    elif report is None or report.level is Level.NORMAL:
        conditions.set("AdmissionOpen", True, "Normal", "Nothing is done against heat.")
    else:
        step = report.level.name.capitalize()
        what = "New work comes in as far as it fits" if report.admits else "New work waits"
        conditions.set("AdmissionOpen", report.admits, step, f"{what}: {report.because}.")
    if report is not None and report.conflicts:
        conditions.set("ConstraintsAgree", False, "Conflict", "; ".join(str(c) for c in report.conflicts) + ".")
    else:
        conditions.set("ConstraintsAgree", True, "Agree", "Ceiling, order and floor can all be met.")


def _temperatures(readings: ZoneReadings | None) -> list[dict[str, object]]:
    if readings is None:
        return []
    return [
        {
            "role": str(role),
            "value_celsius": None if reading.value is None else math.ceil(reading.value),
            "age_seconds": None if math.isinf(reading.age_s) else _AGE_STEP_S * math.ceil(reading.age_s / _AGE_STEP_S),
            "trust": str(reading.quality),
        }
        for role, reading in sorted(readings.by_role.items())
        if role in _TEMPERATURES
    ]


def _model(report: ZoneReport | None) -> dict[str, object] | None:
    if report is None:
        return None
    model = report.model
    confidence = "Trusted" if model.trusted else "Drifted" if model.drifted else "Learning"
    return {
        "confidence": confidence,
        "rise_millikelvin_per_kilowatt": 1000.0 * model.own_k_per_kw,
        "rise_uncertainty_millikelvin_per_kilowatt": 1000.0 * model.own_sd_k_per_kw,
        "time_constant_seconds": model.tau_s,
        "margin_millikelvin": 1000.0 * model.margin_k,
    }


def _ahead_kw(state: ThermalZoneState, room: Headroom, assembly: Assembly) -> float | None:
    """Return how much may start now and run through the hottest hour of the next day [kW]; None without an outlook."""
    if state.outlook is None:
        return None
    spare = LoadAhead.of(state, state.outlook, assembly.snapshot).least_spare(AHEAD.total_seconds())
    if math.isinf(spare.limit_kw) or spare.bound == HeatBound.NONE:
        return None
    return min(room.headroom_kw, spare.kw)


def zone_headroom(name: str, assembly: Assembly) -> Headroom:
    """Return how much more worst-case power a thermal zone can take now."""
    state = next(z for z in assembly.snapshot.thermal_zones if z.name == name)
    return headroom(state, worst_load_kw(state, assembly.snapshot.cells, assembly.snapshot.running))


def _ceiling(reading: Reading | None) -> int | None:
    value = fresh_value(reading)
    return None if value is None else math.ceil(value)
