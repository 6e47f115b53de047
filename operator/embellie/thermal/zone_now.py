# SPDX-License-Identifier: Apache-2.0
"""One zone at one moment: for the shield (`snapshot_state`), for people (`report`) and for the ladder (`heat_of`).

Pure: everything that is known comes in with `ZoneNow`.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.domain.heat import ZoneHeatModel
from embellie.domain.limits import fresh_value
from embellie.domain.snapshot import Quality, Reading, ThermalZoneState
from embellie.thermal.conflicts import Conflict, reconcile
from embellie.thermal.duties import Duty
from embellie.thermal.ladder import ZoneResponse
from embellie.thermal.outlook import ReachedSupply, ZoneAhead, barrier_kw
from embellie.thermal.rungs import Level, ZoneHeat
from embellie.thermal.sensing import ZoneReadings
from embellie.thermal.settings import Role, ZoneSettings
from embellie.thermal.weather import AmbientForecast

BLIND_S = 120.0
"""Time in which nothing can be answered: scrape, turn and cap or the beginning of a pause [s]."""
PEAK_AHEAD = timedelta(hours=24)
_MISSING = Reading(value=None, age_s=math.inf, quality=Quality.MISSING)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneReport:
    """What there is to say about a zone beside its state in the snapshot."""

    model: ZoneHeatModel
    level: Level
    because: str
    peak_c: float | None
    """Highest temperature expected within a day at the present load, margin not included [degC]."""
    peak_at: datetime | None
    ceiling_kw: float | None
    floor_kw: float | None
    conflicts: tuple[Conflict, ...]
    admits: bool = True
    """Whether new work may come in as far as it fits."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ZoneNow:
    """What is known of one zone now."""

    settings: ZoneSettings
    model: ZoneHeatModel
    readings: ZoneReadings | None
    heat_kw: float | None
    """IT heat, measured or expected [kW]; None where nobody knows."""
    arriving_k: float
    """What the neighbours' heat adds at their worst case [K]."""
    warming: bool = False
    """Whether a limited temperature nears its limit faster than a start could be taken back."""

    def reading(self, role: Role) -> Reading | None:
        """Return a role's reading; None where the zone names no such sensor."""
        if not self.settings.has(role):
            return None
        return self.readings.by_role.get(role, _MISSING) if self.readings is not None else _MISSING

    def value(self, role: Role) -> float | None:
        """Return a role's value where it may be acted upon."""
        return None if self.readings is None else self.readings.value(role)

    @property
    def own_k_per_kw(self) -> float:
        """What a kilowatt of its own most likely warms the zone by [K/kW]."""
        return self.model.own_k_per_kw if self.model.trusted else self.settings.cooling.rise_k_per_kw


def snapshot_state(
    now: ZoneNow, reached: ReachedSupply, ahead: ZoneAhead | None, answer: ZoneResponse | None
) -> ThermalZoneState:
    """Return what the snapshot holds about a zone.

    Args:
        now: The zone.
        reached: What its cooling reaches.
        ahead: The hours ahead; None without a forecast of the weather.
        answer: Where the ladder stands.
    """
    zone = now.settings
    inlet, supply = now.reading(zone.limited_role), now.reading(Role.SUPPLY)
    value, supply_c = fresh_value(inlet), fresh_value(supply)
    barrier = None
    if value is not None:
        reference = supply_c if supply_c is not None else reached.setpoint_c
        barrier = barrier_kw(zone, now.model, value, reference, now.arriving_k, BLIND_S)
    return ThermalZoneState(
        name=zone.name,
        inlet_limit_c=zone.limits.inlet_hard_c,
        margin_c=zone.limits.margin_k,
        rise_k_per_kw=zone.cooling.rise_k_per_kw,
        supply=supply,
        supply_worst_c=zone.cooling.supply_worst_c,
        supply_setpoint_c=reached.setpoint_c,
        ambient_approach_k=reached.a0_k,
        inlet=inlet,
        cooling_capacity_kw=zone.cooling.capacity_kw,
        start_ramp_kw_per_min=zone.start_ramp_kw_per_min,
        base_power_kw=zone.base_power_kw,
        ambient_grid_zone=zone.ambient_grid_zone,
        outlook=None if ahead is None else ahead.outlook,
        model=now.model,
        coolant_return=now.reading(Role.COOLANT_RETURN),
        coolant_return_limit_c=zone.limits.coolant_return_hard_c,
        air_return=now.reading(Role.RETURN),
        air_return_limit_c=zone.limits.return_hard_c,
        arriving_k=now.arriving_k,
        ceiling_kw=None if ahead is None else ahead.ceiling_kw,
        barrier_kw=0.0 if now.warming else barrier,
        proven_kw=() if answer is None else answer.proven_kw,
        admission_open=not zone.fault and (answer is None or answer.admits),
        closed_because=_because(zone, answer),
        overheats=answer is not None and answer.overheats,
        neighbours=zone.neighbours,
    )


def report(
    now: ZoneNow,
    reached: ReachedSupply,
    ahead: ZoneAhead | None,
    order_kw: FloatArray | None,
    answer: ZoneResponse | None,
    weather: AmbientForecast | None,
    adder_k: float,
) -> ZoneReport:
    """Return what there is to say about a zone; see `snapshot_state`.

    Args:
        now: The zone.
        reached: What its cooling reaches.
        ahead: The hours ahead.
        order_kw: What contracted power leaves it at each of `duties.AHEAD_S`: an order to cut, where it makes more.
        answer: Where the ladder stands.
        weather: The outdoor forecast.
        adder_k: How much warmer the site is than its forecast [K].
    """
    peak_c, peak_at = None, None
    if weather is not None and now.heat_kw is not None:
        model = now.model
        slots = max(1, min(weather.p90_c.size, int(PEAK_AHEAD / weather.step)))
        reach = weather.p90_c[:slots] + adder_k + reached.a0_k + reached.a1_k_per_kw * now.heat_kw
        offset = model.offset_k + model.bias_k if model.trusted else max(0.0, model.bias_k)
        ahead_c = np.maximum(reached.setpoint_c, reach) + offset + now.own_k_per_kw * now.heat_kw + now.arriving_k
        slot = int(np.argmax(ahead_c))
        peak_c, read_c = float(ahead_c[slot]), now.value(now.settings.limited_role)
        if read_c is not None and read_c > peak_c:
            peak_c, slot = read_c, 0
        # Of the slot that has begun its end, which is not past.
        peak_at = weather.start + max(1, slot) * weather.step
    return ZoneReport(
        model=now.model,
        level=Level.NORMAL if answer is None else answer.level,
        because=_because(now.settings, answer),
        peak_c=peak_c,
        peak_at=peak_at,
        ceiling_kw=None if ahead is None else ahead.ceiling_kw,
        floor_kw=None if ahead is None else ahead.floor_kw,
        conflicts=_conflicts(now, ahead, order_kw),
        admits=answer is None or answer.admits,
    )


def _conflicts(now: ZoneNow, ahead: ZoneAhead | None, order_kw: FloatArray | None) -> tuple[Conflict, ...]:
    left_kw = np.inf if order_kw is None else float(order_kw[0])
    cut = left_kw if now.heat_kw is not None and left_kw < now.heat_kw else None
    ceiling, floor = (None, None) if ahead is None else (ahead.ceiling_kw, ahead.floor_kw or None)
    return reconcile(ceiling, cut, floor, now.settings.ladder.prefer).conflicts


def heat_of(now: ZoneNow, duty: Duty | None = None) -> ZoneHeat | None:
    """Return what the ladder looks at: the limited temperature that stands closest to its hard limit.

    None where no temperature is measured and neither a permit nor an order limits the zone.
    """
    zone = now.settings
    limited = [(reading, hard) for role, hard in zone.limited if (reading := now.reading(role)) is not None]
    if not limited:
        if duty is None:
            return None
        limited = [(_MISSING, zone.limits.inlet_hard_c)]
    fresh = [(r, hard) for r, hard in limited if r.quality is Quality.FRESH and r.value is not None]
    reading, hard = min(fresh or limited, key=lambda pair: pair[1] - (pair[0].value or -math.inf))
    soft = zone.limits.inlet_soft_c if hard == zone.limits.inlet_hard_c else None
    enter = soft if soft is not None else hard - zone.ladder.enter_margin_k
    leave = enter - zone.ladder.leave_margin_k
    gain = now.own_k_per_kw
    target = None
    heat = zone.base_power_kw if now.heat_kw is None else now.heat_kw
    if gain > 0 and reading.value is not None:
        # From where it stands: the heat at which it settles halfway between its marks, were nothing else to change.
        # At its leave mark would cost more work, and no limit is nearer for it.
        # A hot return is reckoned with the supply's gain too: at one flow a kilowatt warms the return by that and by
        # its own rise over the supply, so more is shed than it needs, never less, and no second model is to be learnt.
        settled = _settled_c(now, gain, heat, reading.value)
        target = max(0.0, heat - (settled - (enter + leave) / 2.0) / gain)
    return ZoneHeat(
        name=zone.name,
        temperature=reading,
        hard_c=hard,
        enter_c=enter,
        leave_c=leave,
        pause_c=hard - zone.ladder.enter_margin_k,
        target_kw=target,
        heat_kw=heat,
        duty=duty,
        supply_c=now.value(Role.SUPPLY),
        neighbours=zone.neighbours,
    )


def _settled_c(now: ZoneNow, gain: float, heat_kw: float, value_c: float) -> float:
    """Return where the zone settles if its heat stays as it is [degC]; at least where it stands."""
    supply = now.value(Role.SUPPLY)
    if supply is None:
        return value_c
    offset = (now.model.offset_k + now.model.bias_k) if now.model.trusted else now.model.bias_k
    return max(value_c, supply + offset + gain * heat_kw + now.arriving_k)


def _because(zone: ZoneSettings, answer: ZoneResponse | None) -> str:
    return zone.fault or ("" if answer is None else answer.reason)
