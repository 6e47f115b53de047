# SPDX-License-Identifier: Apache-2.0
"""What the planner gets for each zone and slot: removable heat at P90 ambient, PUE, the heat network's floor."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.domain.heat import HeatOutlook, ZoneHeatModel
from embellie.domain.limits import HeatBound
from embellie.thermal.settings import Row, Side, ZoneSettings, highest_kw, lowest_kw
from embellie.thermal.weather import AmbientForecast

_BOUNDS = tuple(
    str(b) for b in (HeatBound.NONE, HeatBound.STEADY_STATE, HeatBound.CAPACITY, HeatBound.CEILING, HeatBound.STORED)
)
_STORES_S = 6.0 * 3600.0
"""A loop that is about to be too hot for its idle load still holds the heat of what ran so long before [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachedSupply:
    """How the supply follows the outdoors: max(setpoint, outdoor + a0 + a1 * heat)."""

    setpoint_c: float
    a0_k: float
    a1_k_per_kw: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneAhead:
    """One zone's outlook, and its ceiling and floor now."""

    outlook: HeatOutlook
    ceiling_kw: float | None
    floor_kw: float | None


def look_ahead(
    settings: ZoneSettings,
    model: ZoneHeatModel,
    supply: ReachedSupply,
    ambient: AmbientForecast,
    adder_k: float,
    arriving_k: float,
    pue: FloatArray | None = None,
    allowed: Callable[[FloatArray, FloatArray], FloatArray] | None = None,
) -> ZoneAhead:
    """Return a zone's outlook over the slots of its ambient forecast.

    Steady state, worst case: limit - margin >= T_supply + offset + arriving + gain * P for both branches of the supply,
    so P <= room_set / gain while the cooling holds its setpoint and P <= room_out / (gain + a1) while it does not.

    Args:
        settings: The zone.
        model: How it heats, as learnt.
        supply: What its cooling reaches.
        ambient: The outdoor forecast whose slots are used.
        adder_k: How much warmer the site is than its forecast [K].
        arriving_k: What the neighbours' heat adds at their worst case [K].
        pue: Learnt PUE for each slot; None: what the settings say.
        allowed: From permits for heat to the outside [kW] and temperatures there [degC] to the zone's heat under them
            [kW]; None: the same.
    """
    p90, p50 = ambient.p90_c + adder_k, ambient.p50_c + adder_k
    gain, offset, margin = _safe(settings, model)
    room = settings.limits.inlet_hard_c - margin - offset - arriving_k
    held, free = room - supply.setpoint_c, room - (p90 + supply.a0_k)
    removable: FloatArray = np.full(p90.shape, np.inf)
    if gain > 0.0:
        removable = np.minimum(held / gain, free / (gain + supply.a1_k_per_kw))
    else:
        removable = np.where(np.minimum(held, free) < 0.0, 0.0, removable)
    removable = np.maximum(removable, 0.0)
    bound = np.isfinite(removable).astype(np.int64)
    hour = _hours(ambient)
    capacity = settings.cooling.capacity_kw
    ceiling = ceiling_kw(settings, hour, p90, allowed)
    floor, replaced_g = None, 0.0
    if settings.delivery is not None:
        floor = highest_kw(settings.delivery.floor, hour, p50) / max(settings.delivery.capture_share, 1e-6)
        replaced_g = settings.delivery.replaced_g_per_kwh * settings.delivery.capture_share
    rows: list[tuple[HeatBound, FloatArray]] = [
        (HeatBound.CAPACITY, np.full(p90.shape, np.inf if capacity is None else capacity)),
        (HeatBound.CEILING, _most_kw(ceiling, floor, settings.ladder.prefer)),
    ]
    if settings.liquid:
        physical = np.minimum(removable, np.inf if capacity is None else capacity)
        physical = np.minimum(physical, lowest_kw(_inside(settings), hour, p90))
        rows.append((HeatBound.STORED, _stored_kw(physical, settings.base_power_kw, ambient.step)))
    for what, kw in rows:
        bound[kw < removable] = _BOUNDS.index(what)
        removable = np.minimum(removable, kw)
    outlook = HeatOutlook(
        start=ambient.start,
        step=ambient.step,
        removable_kw=removable,
        pue=np.maximum(1.0, settings.pue.at(p50) if pue is None else pue),
        floor_kw=floor,
        floor_g_per_kwh=replaced_g,
        bound=tuple([_BOUNDS[b] for b in bound.tolist()]),
    )
    return ZoneAhead(
        outlook=outlook,
        ceiling_kw=float(ceiling[0]) if np.isfinite(ceiling[0]) else None,
        floor_kw=None if floor is None else float(floor[0]),
    )


def _stored_kw(physical_kw: FloatArray, base_kw: float, step: timedelta) -> FloatArray:
    """Return what a loop may make ahead of hours in which it cannot even carry its idle load [kW].

    Nothing beyond that load: a loop that is cooler than the air outside gives nothing off, so that heat from now on
    only adds to what it holds when those hours come.
    """
    hot = physical_kw < base_kw
    found = np.full(physical_kw.shape, np.inf)
    if hot.any():
        for k in range(1, min(hot.size, math.ceil(_STORES_S / step.total_seconds()) + 1)):
            found[:-k][hot[k:]] = base_kw
    return found


def _safe(settings: ZoneSettings, model: ZoneHeatModel) -> tuple[float, float, float]:
    """Return gain [K/kW], offset and margin [K], from the model where it is trusted, else from the settings."""
    margin = settings.limits.margin_k
    if model.trusted:
        return model.gain_k_per_kw, model.offset_k + max(0.0, model.bias_k), max(margin, model.margin_k)
    if model.drifted:
        gain = max(settings.cooling.rise_k_per_kw, model.gain_k_per_kw)
        return gain, max(0.0, model.bias_k), max(margin, model.margin_k)
    return settings.cooling.rise_k_per_kw, 0.0, margin


def ceiling_kw(
    settings: ZoneSettings,
    hour: FloatArray,
    outdoor_c: FloatArray,
    allowed: Callable[[FloatArray, FloatArray], FloatArray] | None = None,
) -> FloatArray:
    """Return the heat that a zone's rows allow [kW], shape of `hour`; infinite where none applies."""
    inside = _inside(settings)
    found = lowest_kw(inside, hour, outdoor_c)
    if len(inside) == len(settings.ceiling):
        return found
    permit = lowest_kw(tuple(row for row in settings.ceiling if row.to_outside), hour, outdoor_c)
    return np.minimum(found, permit if allowed is None else allowed(permit, outdoor_c))


def _inside(settings: ZoneSettings) -> tuple[Row, ...]:
    """Return the rows that are about the cooling itself, not about what leaves to the outside."""
    return tuple(row for row in settings.ceiling if not row.to_outside)


def _most_kw(ceiling: FloatArray, floor: FloatArray | None, prefer: Sequence[Side]) -> FloatArray:
    """Return the upper end of `conflicts.reconcile`'s band for all slots at once [kW]."""
    ranked = [*prefer, *(side for side in Side if side not in prefer)]
    if floor is None or ranked.index(Side.CEILING) < ranked.index(Side.FLOOR):
        return ceiling
    most: FloatArray = np.maximum(ceiling, floor)
    return most


def _hours(ambient: AmbientForecast) -> FloatArray:
    first = ambient.start.hour + ambient.start.minute / 60.0
    steps = np.arange(ambient.p90_c.size, dtype=np.float64) * (ambient.step / timedelta(hours=1))
    return np.asarray((first + steps) % 24.0, dtype=np.float64)


def barrier_kw(
    settings: ZoneSettings,
    model: ZoneHeatModel,
    temperature_c: float,
    supply_c: float,
    arriving_k: float,
    horizon_s: float,
    share: float = 0.5,
) -> float | None:
    """Return the most heat with which the zone still nears its limit slowly enough [kW]; None without a gain.

    Discrete control barrier h = T_limit - T with h+ >= (1 - share) h over the horizon in which nothing else can act:
    (1 - a)(T_steady(P) - T) <= share (T_limit - T), solved for P.
    """  # fmt: skip
    gain, offset, margin = _safe(settings, model)
    if gain <= 0.0:
        return None
    moved = 1.0 - float(np.exp(-horizon_s / max(model.tau_s, 1e-3)))
    steady = temperature_c + share * (settings.limits.inlet_hard_c - margin / 2.0 - temperature_c) / moved
    return max(0.0, (steady - supply_c - offset - arriving_k) / gain)
