# SPDX-License-Identifier: Apache-2.0
"""What the engineer tells the operator: a ThermalZone for each zone, from a commissioning of the room as designed.

With load banks at the design temperature, one CRAC unit and one pump out: how much each zone carries under its limits
less the margin, how much a kilowatt warms it, how fast. For hotter days the maker's derating table becomes rows of the
heat-rejection ceiling. Nothing here knows how the room that is drilled differs from its design.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from embellie.simulation.drill.survey import OUTDOOR_C, Survey, one_failed, survey
from embellie.simulation.plant import PlantSpec
from embellie.thermal.readings import Unit
from embellie.thermal.settings import (
    CoolingSettings,
    DeliverySettings,
    LimitSettings,
    PueSettings,
    Role,
    Row,
    SensorSettings,
    ZoneSettings,
)

NODE_WORST_FAN_SPEED = 0.8
_SUPPLY_SPARE_K = 3.0
_AIR_TAU_S, _LIQUID_TAU_S = 420.0, 300.0
MAX_AGE_S = 120.0
_HOT_C = 46.0
_DERATING_STEP_K = 1.0
"""How fine a maker's derating table is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """Factors by which what is told is wrong (1.0: right)."""

    rise: float = 1.0
    tau: float = 1.0
    approach: float = 1.0


@lru_cache(maxsize=64)
def commissioned(spec: PlantSpec) -> tuple[Survey, Survey]:
    """Return the room as designed: with one unit failed, and with all units running."""
    return survey(spec, one_failed(spec)), survey(spec)


def worst_pue(spec: PlantSpec) -> float:
    """Return facility power over IT power at full load on the hottest of days."""
    _, whole = commissioned(spec)
    return float(whole.pue[OUTDOOR_C <= _HOT_C, -3:].max())


def node_base_kw(spec: PlantSpec, *, liquid: bool) -> float:
    """Return what a node is taken to draw before work is added, fans well up [kW]."""
    return spec.node.idle_kw + (0.0 if liquid else spec.node.fan_full_kw * NODE_WORST_FAN_SPEED**3)


def zone_settings(
    spec: PlantSpec,
    prefix: str,
    grid_zone: str,
    *,
    wrong: Wrong,
    ceiling: tuple[Row, ...] = (),
) -> tuple[ZoneSettings, ...]:
    """Return the zones of a room, in the plant's order, with names that begin with `prefix`."""
    worst, whole = commissioned(spec)
    capacity = worst.capacity_kw(spec, margins=True)
    design = spec.design_outdoor_c
    rows = [zone for zone in worst.zones if zone != "loop"]
    pue = tuple((float(t), float(p)) for t, p in zip(OUTDOOR_C, whole.pue[:, 8], strict=True))
    found = []
    for k, zone in enumerate(worst.zones):
        liquid = zone == "loop"
        told = float(np.interp(design, OUTDOOR_C, capacity[:, k]))
        rise, supply_c = _rise(spec, worst, k, told)
        setpoint = spec.loop.water_setpoint_c if liquid else spec.hall.supply_setpoint_c
        # A loop follows the outside at any load; chillers may hold their setpoint for as long as they carry the load.
        carried = np.abs(worst.heat_kw[:, :, k] - capacity[:, k][:, None]).argmin(axis=1)
        approach = _approach_k(worst, np.zeros_like(carried) if liquid else carried, k, setpoint)
        derating = _derating(capacity[:, k], design, told)
        found.append(
            ZoneSettings(
                name=prefix + zone,
                limits=_limits(spec, liquid=liquid),
                cooling=CoolingSettings(
                    capacity_kw=told,
                    supply_setpoint_c=setpoint,
                    supply_worst_c=max(setpoint, supply_c) + _SUPPLY_SPARE_K,
                    ambient_approach_k=approach + (wrong.approach - 1.0) * 10.0,
                    rise_k_per_kw=rise * wrong.rise,
                    tau_s=(_LIQUID_TAU_S if liquid else _AIR_TAU_S) * wrong.tau,
                ),
                sensors=_sensors(zone, liquid=liquid),
                ceiling=(*derating, *(ceiling if liquid else ())),
                delivery=_delivery(spec) if liquid and spec.network.floor_kw > 0 else None,
                pue=PueSettings(points=pue),
                start_ramp_kw_per_min=spec.limits.start_ramp_kw_per_min,
                neighbours=() if liquid else tuple(prefix + other for other in rows if other != zone),
                ambient_grid_zone=grid_zone,
                base_power_kw=_nodes(spec, liquid=liquid) * node_base_kw(spec, liquid=liquid),
            )
        )
    return tuple(found)


def _nodes(spec: PlantSpec, *, liquid: bool) -> int:
    return spec.loop.nodes if liquid else spec.hall.racks_per_row * spec.hall.nodes_per_rack


def _rise(spec: PlantSpec, worst: Survey, k: int, told_kw: float) -> tuple[float, float]:
    """Return the rise over the supply per kilowatt, and the supply, at the told capacity and design temperature."""
    t = int(np.argmin(np.abs(OUTDOOR_C - spec.design_outdoor_c)))
    load = int(np.argmin(np.abs(worst.heat_kw[t, :, k] - told_kw)))
    supply = float(worst.supply_c[t, load, k])
    hot = float(worst.inlet_c[t, load, k])
    return max(0.0, hot - supply) / max(1.0, float(worst.heat_kw[t, load, k])), supply


def _approach_k(worst: Survey, loads: np.ndarray, k: int, setpoint_c: float) -> float:
    """Return by how much the supply stands over the outside on days too hot for its setpoint, at most [K].

    Args:
        worst: The room with one unit failed.
        loads: At which of its loads the supply was read, by outdoor temperature.
        k: The zone.
        setpoint_c: What the supply is held at.
    """
    supply_c = worst.supply_c[np.arange(OUTDOOR_C.size), loads, k]
    hot = supply_c > setpoint_c + 0.5
    return float((supply_c - OUTDOOR_C)[hot].max()) if hot.any() else setpoint_c - float(OUTDOOR_C[-1])


def _derating(capacity_kw: np.ndarray, design_c: float, told_kw: float) -> tuple[Row, ...]:
    """Write the capacity on days hotter than the design as rows, each with what its hot end carries."""
    hottest_c = float(OUTDOOR_C[-1])
    edges = [*np.arange(design_c, hottest_c, _DERATING_STEP_K).tolist(), hottest_c]
    rows = []
    for low, high in pairwise(edges):
        kw = float(np.interp(high, OUTDOOR_C, capacity_kw))
        if kw < told_kw:
            rows.append(Row(kw=kw, outdoor_from_c=low, outdoor_to_c=high))
    rows.append(Row(kw=float(capacity_kw[-1]), outdoor_from_c=edges[-1]))
    return tuple(rows)


def _limits(spec: PlantSpec, *, liquid: bool) -> LimitSettings:
    limits = spec.limits
    if liquid:
        return LimitSettings(
            inlet_hard_c=limits.coolant_supply_hard_c,
            margin_k=limits.coolant_margin_k,
            coolant_supply_hard_c=limits.coolant_supply_hard_c,
            coolant_return_hard_c=limits.coolant_return_hard_c,
        )
    return LimitSettings(
        inlet_hard_c=limits.inlet_hard_c, inlet_soft_c=limits.inlet_soft_c, margin_k=limits.inlet_margin_k
    )


def _delivery(spec: PlantSpec) -> DeliverySettings:
    return DeliverySettings(
        floor=(Row(kw=spec.network.floor_kw),),
        capture_share=spec.loop.liquid_share,
    )


def _sensors(zone: str, *, liquid: bool) -> tuple[SensorSettings, ...]:
    """Name the sensors of a zone as the plant calls its signals."""
    own = (
        [
            (Role.SUPPLY, "loop/water", Unit.CELSIUS),
            (Role.COOLANT_SUPPLY, "loop/supply", Unit.CELSIUS),
            (Role.COOLANT_RETURN, "loop/return", Unit.CELSIUS),
            (Role.HEAT_DELIVERED, "network/power", Unit.KILOWATT),
        ]
        if liquid
        else [(Role.INLET, f"{zone}/inlet", Unit.CELSIUS), (Role.SUPPLY, "hall/supply", Unit.CELSIUS)]
    )
    own.append((Role.OUTDOOR_DRY_BULB, "outdoor", Unit.CELSIUS))
    return tuple(SensorSettings(name=name, role=role, unit=unit, max_age_s=MAX_AGE_S) for role, name, unit in own)
