# SPDX-License-Identifier: Apache-2.0
"""From a ThermalZone's spec to the settings that the heat code works with, and what is wrong with the spec. Pure."""

from collections.abc import Iterable, Mapping

import numpy as np

from embellie.api.thermalduties import HeatDelivery, HeatRow, Ladder
from embellie.api.thermalspec import Cooling, EquipmentClass, Limits, Sensor
from embellie.api.thermalzone import ThermalZone, ThermalZoneSpec
from embellie.thermal.readings import Unit
from embellie.thermal.settings import (
    CoolingSettings,
    DeliverySettings,
    LadderSettings,
    LimitSettings,
    Measure,
    PueSettings,
    Role,
    Row,
    SensorSettings,
    Side,
    ZoneSettings,
    highest_kw,
    lowest_kw,
)

DEFAULT_HARD_C = 32.0
CLASSES: Mapping[EquipmentClass, tuple[float, float]] = {
    EquipmentClass.A1: (27.0, 32.0),
    EquipmentClass.A2: (27.0, 35.0),
    EquipmentClass.A3: (27.0, 40.0),
    EquipmentClass.A4: (27.0, 45.0),
    EquipmentClass.H1: (22.0, 25.0),
    EquipmentClass.W17: (15.0, 17.0),
    EquipmentClass.W27: (25.0, 27.0),
    EquipmentClass.W32: (30.0, 32.0),
    EquipmentClass.W40: (38.0, 40.0),
    EquipmentClass.W45: (43.0, 45.0),
    EquipmentClass.S30: (28.0, 30.0),
    EquipmentClass.S40: (38.0, 40.0),
    EquipmentClass.S45: (43.0, 45.0),
    EquipmentClass.S50: (48.0, 50.0),
}
"""(soft, hard) inlet limits [degC]: upper ends of the recommended and allowable ranges after ASHRAE TC 9.9 (2021) for
air; for liquids the class's maximum, and two kelvin below it. Plain numbers to start from: every one can be overridden,
and the equipment's own papers win."""


def hard_limit_c(limits: Limits) -> float:
    """Return the hard inlet limit that holds: the written one, else the class's, else 32 [degC]."""
    if limits.inlet_hard_celsius is not None:
        return float(limits.inlet_hard_celsius)
    return CLASSES[limits.equipment_class][1] if limits.equipment_class is not None else DEFAULT_HARD_C


def soft_limit_c(limits: Limits) -> float | None:
    """Return where the ladder begins: the written limit, else half-way between a class's two limits [degC].

    None without either, and where a written hard limit takes the place of the class's.
    """
    if limits.inlet_soft_celsius is not None:
        return float(limits.inlet_soft_celsius)
    if limits.equipment_class is None or limits.inlet_hard_celsius is not None:
        return None
    # The ladder acts where equipment leaves what it is recommended for by half of what it is allowed beyond.
    soft, hard = CLASSES[limits.equipment_class]
    return (soft + hard) / 2.0


def settings_of(
    zone: ThermalZone,
    *,
    base_power_kw: float = 0.0,
    topology: int = 0,
    ambient_grid_zone: str | None = None,
    default_pue: float = 1.2,
) -> ZoneSettings:
    """Return a zone's settings; `fault` says in a sentence what in the spec cannot be.

    Args:
        zone: The object.
        base_power_kw: What its nodes draw without work [kW].
        topology: Changes with its nodes.
        ambient_grid_zone: GridZone whose weather counts where the spec names none.
        default_pue: Where the spec tells none.
    """
    spec = zone.spec
    return ZoneSettings(
        name=zone.metadata.name,
        limits=_limits(spec.limits),
        cooling=_cooling(spec.cooling),
        sensors=tuple(_sensor(sensor) for sensor in spec.sensors or ()),
        ceiling=(*_rows(spec.rejection_ceilings, to_outside=True), *_deratings(spec.cooling)),
        delivery=None if spec.heat_delivery is None else _delivery(spec.heat_delivery),
        ladder=_ladder(spec.ladder),
        pue=_pue(spec, default_pue),
        start_ramp_kw_per_min=_or_none(spec.start_ramp_kilowatts_per_minute),
        neighbours=tuple(spec.neighbour_zone_names),
        ambient_grid_zone=spec.grid_zone_name or ambient_grid_zone,
        base_power_kw=base_power_kw,
        topology=topology,
        fault=fault_of(spec),
    )


def _limits(limits: Limits) -> LimitSettings:
    return LimitSettings(
        inlet_hard_c=hard_limit_c(limits),
        inlet_soft_c=soft_limit_c(limits),
        margin_k=float(limits.margin_kelvin),
        return_hard_c=_or_none(limits.return_hard_celsius),
        coolant_return_hard_c=_or_none(limits.coolant_return_hard_celsius),
    )


def _cooling(cooling: Cooling) -> CoolingSettings:
    return CoolingSettings(
        capacity_kw=_or_none(cooling.capacity_kilowatts),
        supply_setpoint_c=float(cooling.supply_setpoint_celsius),
        supply_worst_c=float(cooling.supply_worst_celsius),
        ambient_approach_k=float(cooling.ambient_approach_kelvin),
        rise_k_per_kw=cooling.rise_millikelvin_per_kilowatt / 1000.0,
        tau_s=float(cooling.time_constant_seconds),
    )


def _deratings(cooling: Cooling) -> tuple[Row, ...]:
    return tuple(
        Row(kw=float(r.capacity_kilowatts), outdoor_from_c=float(r.outdoor_from_celsius)) for r in cooling.deratings
    )


def _sensor(sensor: Sensor) -> SensorSettings:
    return SensorSettings(
        name=sensor.name,
        role=Role(sensor.role),
        unit=Unit(sensor.unit),
        max_age_s=float(sensor.max_age_seconds),
        scale=sensor.scale_permille / 1000.0,
    )


def _delivery(delivery: HeatDelivery) -> DeliverySettings:
    return DeliverySettings(
        floor=_rows(delivery.floors),
        capture_share=delivery.capture_percent / 100.0,
        replaced_g_per_kwh=float(delivery.replaced_grams_per_kilowatt_hour),
    )


def _ladder(ladder: Ladder) -> LadderSettings:
    return LadderSettings(
        measures=tuple(Measure) if ladder.measures is None else tuple(Measure(m) for m in ladder.measures),
        enter_margin_k=float(ladder.enter_margin_kelvin),
        leave_margin_k=float(ladder.leave_margin_kelvin),
        min_dwell_s=float(ladder.minimum_dwell_seconds),
        pause_burst=ladder.pause_burst,
        pauses_per_hour=float(ladder.pauses_per_hour),
        prefer=tuple(Side(c) for c in ladder.prefer) if ladder.prefer else tuple(Side),
    )


def _pue(spec: ThermalZoneSpec, default: float) -> PueSettings:
    points = sorted((float(p.outdoor_celsius), p.ratio_percent / 100.0) for p in spec.power_usage_effectiveness)
    return PueSettings(points=tuple(points) or ((20.0, default),))


def _or_none(value: int | None) -> float | None:
    return None if value is None else float(value)


def _rows(rows: Iterable[HeatRow], *, to_outside: bool = False) -> tuple[Row, ...]:
    return tuple(
        Row(
            kw=float(r.heat_kilowatts),
            from_hour=float(r.from_hour),
            to_hour=float(r.to_hour),
            outdoor_from_c=float(r.outdoor_from_celsius),
            outdoor_to_c=float(r.outdoor_to_celsius),
            river_from_c=float(r.river_from_celsius),
            river_to_c=float(r.river_to_celsius),
            to_outside=to_outside,
        )
        for r in rows or ()
    )


def fault_of(spec: ThermalZoneSpec) -> str:
    """Return what in the spec contradicts itself, naming the field and the mend; empty where nothing does."""
    hard, soft = hard_limit_c(spec.limits), soft_limit_c(spec.limits)
    if soft is not None and soft >= hard:
        return (
            f"spec.limits.inletSoftCelsius ({soft:g}) must be less than the hard limit ({hard:g}): lower it, or raise "
            "inletHardCelsius"
        )
    if hard - spec.limits.margin_kelvin <= spec.cooling.supply_setpoint_celsius:
        return (
            f"the hard limit ({hard:g}) less spec.limits.marginKelvin ({spec.limits.margin_kelvin}) must be greater "
            f"than spec.cooling.supplySetpointCelsius ({spec.cooling.supply_setpoint_celsius}), or nothing could ever "
            "start: raise the limit, reduce the margin or lower the setpoint"
        )
    begins = hard - spec.ladder.enter_margin_kelvin if soft is None else soft
    if begins - spec.ladder.leave_margin_kelvin <= spec.cooling.supply_setpoint_celsius:
        mark = (
            f"the hard limit ({hard:g}) less spec.ladder.enterMarginKelvin ({spec.ladder.enter_margin_kelvin}) and"
            if soft is None
            else f"spec.limits.inletSoftCelsius ({soft:g}) less"
        )
        return (
            f"{mark} spec.ladder.leaveMarginKelvin ({spec.ladder.leave_margin_kelvin}) must be greater than "
            f"spec.cooling.supplySetpointCelsius ({spec.cooling.supply_setpoint_celsius}), or a zone that was hot once "
            "would stay closed for ever: raise the limit, reduce the margin or lower the setpoint"
        )
    if spec.cooling.capacity_kilowatts is not None and spec.cooling.capacity_kilowatts <= 0:
        return "spec.cooling.capacityKilowatts must be greater than 0: write what the cooling carries, or leave it out"
    return _floor_over_ceiling(spec)


def _floor_over_ceiling(spec: ThermalZoneSpec) -> str:
    """Look at every hour and at the outdoor temperatures at which rows begin or end."""
    if spec.heat_delivery is None or not spec.rejection_ceilings:
        return ""
    floors, ceilings = _rows(spec.heat_delivery.floors), _rows(spec.rejection_ceilings)
    edges = {20.0} | {edge for row in (*floors, *ceilings) for edge in (row.outdoor_from_c, row.outdoor_to_c - 1.0)}
    hours = np.arange(0.0, 24.0)
    share = spec.heat_delivery.capture_percent / 100.0
    for outdoor in sorted(edges):
        at = np.full(hours.shape, outdoor)
        floor, ceiling = highest_kw(floors, hours, at) / share, lowest_kw(ceilings, hours, at)
        over = np.flatnonzero(floor > ceiling)
        if over.size:
            hour = int(over[0])
            return (
                f"spec.heatDelivery.floors asks for {floor[hour]:.0f} kW of power at {hour}:00 UTC, but "
                f"spec.rejectionCeilings allows {ceiling[hour]:.0f} kW then: lower the floor or raise the ceiling"
            )
    return ""


def no_nodes(kind: str) -> str:
    """Say that a zone has no nodes, and how to mend it."""
    return (
        f"spec.nodeSelector matches no node with GPUs that is not in an older {kind}: compare it with kubectl get "
        "nodes --show-labels"
    )
