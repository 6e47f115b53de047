# SPDX-License-Identifier: Apache-2.0
"""The zones as a snapshot holds them: what their nodes draw idle, what their sensors say, what was learnt. Pure."""

from collections.abc import Mapping
from dataclasses import replace

from embellie.api.gridzone import GridZone, GridZoneSpec
from embellie.api.thermalzone import ThermalZone
from embellie.control.assembly.inputs import Inputs
from embellie.control.assembly.layout import Layout
from embellie.control.assembly.zone_settings import fault_of, hard_limit_c, no_nodes
from embellie.domain.power_orders import PowerOrder
from embellie.domain.snapshot import GridZoneState, ThermalZoneState
from embellie.thermal.job_power import LearntPower

DEFAULT_GRID = GridZoneSpec(node_selector={"embellie.io/no-zone": "true"})
"""What counts for nodes that are in no GridZone."""


def idle_w(node: str, spec: GridZoneSpec, learnt: LearntPower) -> float:
    """Return what a node draws without work: as learnt, else as its GridZone says [W]."""
    known = learnt.idle_watts(node)
    return float(spec.node_idle_power_watts) if known is None else known


def grid_state(zone: GridZone, layout: Layout, inputs: Inputs) -> GridZoneState:
    """Return a GridZone as it is now."""
    spec, name = zone.spec, zone.metadata.name
    nodes = layout.nodes_of_grid_zone.get(name, ())
    idle_kw = sum(idle_w(node.name, spec, inputs.learnt) for node in nodes) / 1000.0
    return GridZoneState(
        name=name,
        contracted_power_kw=spec.contracted_power_kilowatts,
        base_power_kw=idle_kw * spec.power_usage_effectiveness_percent / 100.0,
        measured_power_kw=inputs.grid_power.get(name),
        forecast=inputs.forecasts.get(name),
        jurisdiction=spec.jurisdiction or "",
        orders=tuple(
            PowerOrder(begins=order.start_time, ends=order.end_time, power_kw=order.power_kilowatts)
            for order in spec.power_orders
        ),
    )


def thermal_state(
    zone: ThermalZone, layout: Layout, inputs: Inputs, specs: Mapping[str, GridZoneSpec]
) -> ThermalZoneState:
    """Return a ThermalZone as it is now; one of which nothing was learnt is judged by its spec alone."""
    spec, name = zone.spec, zone.metadata.name
    nodes = layout.nodes_of_thermal_zone.get(name, ())
    grid_of = {c.name: c.grid_zone for c in layout.cells}
    base_kw = 0.0
    grids: dict[str, None] = {}
    for node in nodes:
        grid = grid_of.get(layout.cell_of_node.get(node.name, ""))
        base_kw += idle_w(node.name, specs[grid] if grid else DEFAULT_GRID, inputs.learnt) / 1000.0
        if grid:
            grids[grid] = None
    ambient_zone = spec.grid_zone_name or next(iter(grids), None)
    learnt = inputs.heat.get(name)
    state = _told_state(zone, inputs) if learnt is None else learnt
    if not nodes:
        # Nobody knows what it cools: what its sensors and limits say is about no work that is known.
        state = replace(state, admission_open=False, closed_because=no_nodes("ThermalZone"))
    return replace(state, base_power_kw=base_kw, ambient_grid_zone=ambient_zone)


def _told_state(zone: ThermalZone, inputs: Inputs) -> ThermalZoneState:
    """Return a zone of which nothing was learnt: its spec and its sensors' readings."""
    spec, name, fault = zone.spec, zone.metadata.name, fault_of(zone.spec)
    return ThermalZoneState(
        name=name,
        inlet_limit_c=hard_limit_c(spec.limits),
        margin_c=float(spec.limits.margin_kelvin),
        rise_k_per_kw=spec.cooling.rise_millikelvin_per_kilowatt / 1000.0,
        supply=inputs.supplies.get(name),
        supply_worst_c=float(spec.cooling.supply_worst_celsius),
        supply_setpoint_c=float(spec.cooling.supply_setpoint_celsius),
        ambient_approach_k=float(spec.cooling.ambient_approach_kelvin),
        inlet=inputs.inlets.get(name),
        cooling_capacity_kw=spec.cooling.capacity_kilowatts,
        start_ramp_kw_per_min=spec.start_ramp_kilowatts_per_minute,
        base_power_kw=0.0,
        ambient_grid_zone=None,
        admission_open=not fault,
        closed_because=fault,
    )
