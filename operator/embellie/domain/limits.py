# SPDX-License-Identifier: Apache-2.0
"""The two limits that the planner looks ahead to and the shield checks again: the bound on waiting, and heat.

Heat is the steady-state rule that needs no dynamics and survives lost telemetry: all work at its worst case must keep
the inlet under its limit, less the margin, and under the cooling's capacity (Tang, Gupta and Varsamopoulos, IEEE TPDS
2008, in its row-wise form). A learnt model that is trusted says how much a kilowatt warms the inlet; until then the
zone's spec does.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from embellie.domain.durations import OVERRUN
from embellie.domain.snapshot import Quality, Reading, RunningGang, ThermalZoneState

ALWAYS = datetime.max.replace(tzinfo=UTC)
SLACK_KW = 1e-6
"""What limits are judged to: less is rounding."""


class HeatBound(StrEnum):
    """Which of a thermal zone's limits binds."""

    NONE = "None"
    CAPACITY = "CoolingCapacity"
    STEADY_STATE = "InletSteadyState"
    READING = "InletReading"
    RETURN = "CoolantReturn"
    CEILING = "HeatRejectionCeiling"
    BARRIER = "InletRising"
    LADDER = "AdmissionClosed"
    PROVEN = "OverheatedBefore"
    STORED = "HeatStoredForTheHotHours"


WORDS = {
    HeatBound.CAPACITY: "its cooling carries no more with one unit failed",
    HeatBound.STEADY_STATE: "more would take it over its limit less the margin",
    HeatBound.READING: "its temperature stands inside the margin below its limit",
    HeatBound.RETURN: "what comes back from its machines stands inside the margin below its limit",
    HeatBound.CEILING: "a ceiling on heat allows no more",
    HeatBound.BARRIER: "more would warm it faster than can be answered",
    HeatBound.PROVEN: "it overheated a while ago and takes back little more than it was seen to carry since",
    HeatBound.STORED: "the heat would still be in the loop when it gets too hot for its cooling",
}
"""Why a zone takes no more heat, for people; what is not here needs no words."""


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


def overrun_end(gang: RunningGang, now: datetime) -> datetime:
    """Return when running work is over that takes half as long again as expected, or as it has run by now."""
    factor = max(OVERRUN, gang.overrun)
    return gang.started_at + factor * (max(gang.expected_end_p90, now) - gang.started_at)


def counted_until(gang: RunningGang, now: datetime) -> datetime:
    """Return until when the heat of running work counts in the hours that an outlook tells of.

    A service, or work whose length is a guess, counts for always. Not everybody keeps to what was said, so a run counts
    for as long as nearly all work like it took, measured by what was said of it, and one that is overdue already for
    half as long again as it has run.
    """
    if not gang.length_stated:
        return ALWAYS
    if now >= gang.expected_end_p90:
        return overrun_end(gang, now)
    return gang.started_at + gang.overrun * (gang.expected_end_p90 - gang.started_at)


def fresh_value(reading: Reading | None) -> float | None:
    """Return a reading's value where it may be acted upon, else None."""
    return reading.value if reading is not None and reading.quality is Quality.FRESH else None


def safety_margin_k(zone: ThermalZoneState) -> float:
    """Return what is kept free below the limit [K]: what predictions may be wrong by, never below the configured."""
    if zone.model is None or not (zone.model.trusted or zone.model.drifted):
        return zone.margin_c
    return max(zone.margin_c, zone.model.margin_k)


def steady_state_limit_kw(zone: ThermalZoneState, supply_c: float) -> tuple[float, HeatBound]:
    """Return the most heat that a zone may make at a supply temperature [kW], and which limit says so."""
    room_k = zone.inlet_limit_c - safety_margin_k(zone) - supply_c - zone.arriving_k
    rise = zone.rise_k_per_kw
    if zone.model is not None:
        # A zone that is warmer than its model says stays so until it shows otherwise; a cooler one earns nothing.
        room_k -= max(0.0, zone.model.bias_k) if zone.model.trusted or zone.model.drifted else 0.0
        if zone.model.trusted:
            room_k -= zone.model.offset_k
            rise = zone.model.gain_k_per_kw
        elif zone.model.drifted:
            rise = max(rise, zone.model.gain_k_per_kw)
    limit, bound = float("inf"), HeatBound.NONE
    if room_k < 0:
        limit, bound = 0.0, HeatBound.STEADY_STATE
    elif rise > 0:
        limit, bound = room_k / rise, HeatBound.STEADY_STATE
    if zone.cooling_capacity_kw is not None and zone.cooling_capacity_kw < limit:
        limit, bound = zone.cooling_capacity_kw, HeatBound.CAPACITY
    return limit, bound


def supply_now_c(zone: ThermalZoneState) -> tuple[float, bool]:
    """Return what the supply counts as now [degC], and whether every sensor that the zone names can be trusted.

    An untrusted inlet also makes the supply count as its worst: the fresh supply alone no longer shows whether the
    air that arrives is the air that was sent.
    """
    named = (zone.supply, zone.inlet, zone.coolant_return, *(reading for _, reading, _ in zone.returns))
    trusted = all(reading is None or fresh_value(reading) is not None for reading in named)
    supply = fresh_value(zone.supply)
    if trusted and supply is not None:
        return supply, True
    return max(zone.supply_worst_c, zone.supply_setpoint_c), trusted


def heat_room_now(zone: ThermalZoneState) -> HeatRoom:
    """Return how much heat a zone may make now, from fresh readings or else from the worst case."""
    supply_c, trusted = supply_now_c(zone)
    limit, bound = steady_state_limit_kw(zone, supply_c)
    for kw, what in (
        (zone.ceiling_kw, HeatBound.CEILING),
        (zone.barrier_kw, HeatBound.BARRIER),
        (max((heats[zone.name] for heats in zone.proven_kw), default=None), HeatBound.PROVEN),
    ):
        if kw is not None and kw < limit:
            limit, bound = kw, what
    inlet = fresh_value(zone.inlet)
    if inlet is not None and inlet > zone.inlet_limit_c - zone.margin_c:
        # Whatever the model says: inside the margin, the measured inlet closes admission.
        limit, bound = 0.0, HeatBound.READING
    for _, reading, returned_limit_c in zone.returns:
        returned = fresh_value(reading)
        if returned is not None and returned > returned_limit_c - zone.margin_c:
            limit, bound = 0.0, HeatBound.RETURN
    if not zone.admission_open:
        limit, bound = 0.0, HeatBound.LADDER
    return HeatRoom(limit_kw=limit, bound=bound, trusted=trusted)


def over_hard_inlet(zone: ThermalZoneState) -> bool:
    """Return whether a fresh reading stands at or over its hard limit: the inlet's, or that of what it returns."""
    inlet = fresh_value(zone.inlet)
    return (inlet is not None and inlet >= zone.inlet_limit_c) or hot_return(zone) is not None


def hot_return(zone: ThermalZoneState) -> tuple[str, float, float] | None:
    """Return what comes back at or over its hard limit: in a word, how warm, and the limit [degC]; None: nothing."""
    for what, reading, limit_c in zone.returns:
        value = fresh_value(reading)
        if value is not None and value >= limit_c:
            return what, value, limit_c
    return None
