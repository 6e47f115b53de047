# SPDX-License-Identifier: Apache-2.0
"""Which node belongs to which zone, and the cells that follow from it. Pure.

A node belongs to at most one GridZone and one ThermalZone. When several select it, the oldest zone has it (then the
name first in the alphabet), and every zone concerned is told, so that no kilowatt is counted twice.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from embellie.api.gridzone import GridZone
from embellie.api.thermalzone import ThermalZone
from embellie.cluster.records import NodeRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class CellNodes:
    """The nodes of one cell, and the labels that confine a workload to it."""

    name: str
    grid_zone: str
    thermal_zone: str | None
    nodes: tuple[NodeRecord, ...]
    placement_labels: Mapping[str, str]
    leaks: tuple[str, ...] = ()
    """Nodes of other cells that the labels match too: a workload confined to them may land there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the zones divide the nodes."""

    cells: tuple[CellNodes, ...]
    cell_of_node: Mapping[str, str]
    nodes_of_grid_zone: Mapping[str, tuple[NodeRecord, ...]]
    nodes_of_thermal_zone: Mapping[str, tuple[NodeRecord, ...]]
    shared_grid_nodes: Mapping[str, tuple[str, ...]]
    """GridZone name -> nodes that another GridZone selects too."""
    shared_thermal_nodes: Mapping[str, tuple[str, ...]]
    overheated: Mapping[str, str] = field(default_factory=dict)
    """Nodes that carry our taint -> the thermal zone that it names."""


def _selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return bool(selector) and all(labels.get(k) == v for k, v in selector.items())


def _by_age(zones: Sequence[GridZone | ThermalZone]) -> list[tuple[str, Mapping[str, str]]]:
    ordered = sorted(zones, key=lambda z: (str(z.metadata.creation_timestamp or ""), z.metadata.name))
    return [(z.metadata.name, z.spec.node_selector) for z in ordered]


def _claims(zones: list[tuple[str, Mapping[str, str]]], nodes: Sequence[NodeRecord]) -> dict[str, list[str]]:
    """Return the zones that select each node; the first of them has it."""
    found = {node.name: [name for name, selector in zones if _selects(selector, node.labels)] for node in nodes}
    return {node: claims for node, claims in found.items() if claims}


def _shared(claims_of_node: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    shared: dict[str, list[str]] = defaultdict(list)
    for node, claims in claims_of_node.items():
        for name in claims if len(claims) > 1 else ():
            shared[name].append(node)
    return {k: tuple(v) for k, v in shared.items()}


def _leaks(
    grid_claims: Mapping[str, Sequence[str]], thermal_claims: Mapping[str, Sequence[str]]
) -> dict[tuple[str, str | None], list[str]]:
    """Return the nodes that each pair of zones selects by its labels while another pair has them.

    A cell's labels are those of its zones together, and without a thermal zone those of its grid zone alone.
    """
    found: dict[tuple[str, str | None], list[str]] = defaultdict(list)
    for node, grids in grid_claims.items():
        thermals: tuple[str | None, ...] = (*thermal_claims.get(node, ()), None)
        for pair in ((grid, thermal) for grid in grids for thermal in thermals):
            if pair != (grids[0], thermals[0]):
                found[pair].append(node)
    return found


def lay_out(
    grid_zones: Sequence[GridZone], thermal_zones: Sequence[ThermalZone], nodes: Sequence[NodeRecord]
) -> Layout:
    """Divide the nodes into cells; nodes outside every GridZone belong to none."""
    ordered = sorted(nodes, key=lambda n: n.name)
    grid_claims, thermal_claims = _claims(_by_age(grid_zones), ordered), _claims(_by_age(thermal_zones), ordered)
    leaks = _leaks(grid_claims, thermal_claims)
    selectors = {z.metadata.name: z.spec.node_selector for z in grid_zones}
    thermal_selectors = {z.metadata.name: z.spec.node_selector for z in thermal_zones}

    members: dict[tuple[str, str | None], list[NodeRecord]] = defaultdict(list)
    by_grid: dict[str, list[NodeRecord]] = defaultdict(list)
    by_thermal: dict[str, list[NodeRecord]] = defaultdict(list)
    cell_of_node: dict[str, str] = {}
    for node in ordered:
        grid = next(iter(grid_claims.get(node.name, ())), None)
        thermal = next(iter(thermal_claims.get(node.name, ())), None)
        if thermal is not None:
            by_thermal[thermal].append(node)
        if grid is None:
            continue
        by_grid[grid].append(node)
        members[grid, thermal].append(node)
        cell_of_node[node.name] = cell_name(grid, thermal)
    cells = tuple(
        CellNodes(
            name=cell_name(grid, thermal),
            grid_zone=grid,
            thermal_zone=thermal,
            nodes=tuple(found),
            placement_labels={**selectors[grid], **(thermal_selectors[thermal] if thermal else {})},
            leaks=tuple(leaks.get((grid, thermal), ())),
        )
        for (grid, thermal), found in sorted(members.items(), key=lambda m: (m[0][0], m[0][1] or ""))
    )
    return Layout(
        cells=cells,
        cell_of_node=cell_of_node,
        nodes_of_grid_zone={k: tuple(v) for k, v in by_grid.items()},
        nodes_of_thermal_zone={k: tuple(v) for k, v in by_thermal.items()},
        shared_grid_nodes=_shared(grid_claims),
        shared_thermal_nodes=_shared(thermal_claims),
        overheated={node.name: node.overheated for node in ordered if node.overheated},
    )


def cell_name(grid_zone: str, thermal_zone: str | None) -> str:
    """Name the cell of a grid zone and a thermal zone."""
    return f"{grid_zone}.{thermal_zone}" if thermal_zone else grid_zone
