# SPDX-License-Identifier: Apache-2.0
"""The two limits that the planner looks ahead to and the shield checks again: the bound on waiting, and heat.

Heat is the steady-state rule that needs no dynamics and survives lost telemetry: all work at its worst case must keep
the inlet under its limit, less the margin, and under the cooling's capacity (Tang, Gupta and Varsamopoulos, IEEE TPDS
2008, in its row-wise form).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from embellie.domain.snapshot import Quality, Reading, ThermalZoneState


class HeatBound(StrEnum):
    """Which of a thermal zone's limits binds."""

    NONE = "None"
    CAPACITY = "CoolingCapacity"
    STEADY_STATE = "InletSteadyState"
    READING = "InletReading"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatRoom:
    """How much heat a thermal zone may make in all, base load included [kW]; infinite without a limit."""

    limit_kw: float
    bound: HeatBound
    trusted: bool
    """False: a sensor that the zone names tells nothing, so the supply counts as its worst."""


def bound_reached(latest_start: datetime, now: datetime, turn_s: float) -> bool:
    """Return whether a bound falls so close that waiting one more turn could pass it (one turn to spare)."""
    return latest_start <= now + timedelta(seconds=2.0 * turn_s)


def fresh_value(reading: Reading | None) -> float | None:
    """Return a reading's value where it may be acted upon, else None."""
    return reading.value if reading is not None and reading.quality is Quality.FRESH else None


def steady_state_limit_kw(zone: ThermalZoneState, supply_c: float) -> tuple[float, HeatBound]:
    """Return the most heat that a zone may make at a supply temperature [kW], and which limit says so."""
    room_k = zone.inlet_limit_c - zone.margin_c - supply_c
    limit, bound = float("inf"), HeatBound.NONE
    if room_k < 0:
        limit, bound = 0.0, HeatBound.STEADY_STATE
    elif zone.rise_k_per_kw > 0:
        limit, bound = room_k / zone.rise_k_per_kw, HeatBound.STEADY_STATE
    if zone.cooling_capacity_kw is not None and zone.cooling_capacity_kw < limit:
        limit, bound = zone.cooling_capacity_kw, HeatBound.CAPACITY
    return limit, bound


def supply_now_c(zone: ThermalZoneState) -> tuple[float, bool]:
    """Return what the supply counts as now [degC], and whether every sensor that the zone names can be trusted.

    An untrusted inlet also makes the supply count as its worst: the fresh supply alone no longer shows whether the
    air that arrives is the air that was sent.
    """
    trusted = all(reading is None or fresh_value(reading) is not None for reading in (zone.supply, zone.inlet))
    supply = fresh_value(zone.supply)
    if trusted and supply is not None:
        return supply, True
    return max(zone.supply_worst_c, zone.supply_setpoint_c), trusted


def heat_room_now(zone: ThermalZoneState) -> HeatRoom:
    """Return how much heat a zone may make now, from fresh readings or else from the worst case."""
    supply_c, trusted = supply_now_c(zone)
    limit, bound = steady_state_limit_kw(zone, supply_c)
    inlet = fresh_value(zone.inlet)
    if inlet is not None and inlet > zone.inlet_limit_c - zone.margin_c:
        # Whatever the model says: inside the margin, the measured inlet closes admission.
        limit, bound = 0.0, HeatBound.READING
    return HeatRoom(limit_kw=limit, bound=bound, trusted=trusted)


def over_hard_inlet(zone: ThermalZoneState) -> bool:
    """Return whether a fresh inlet reading stands at or over the hard limit."""
    inlet = fresh_value(zone.inlet)
    return inlet is not None and inlet >= zone.inlet_limit_c
