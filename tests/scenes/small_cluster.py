# SPDX-License-Identifier: Apache-2.0
"""A cluster of one cell with sixteen GPUs, dirty hours around four clean ones, and the one decision about it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from snapshots import forecast_at, gang_at, grid_zone_at, thermal_zone_state, workload_at

from embellie.domain.plan import Decision
from embellie.domain.snapshot import Cell, Quality, Reading, Snapshot, ThermalZoneState, Workload
from embellie.planning import plan

NOW = datetime(2026, 7, 1, 13, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)

forecast = partial(forecast_at, NOW)
workload = partial(workload_at, NOW)
grid_zone = partial(grid_zone_at, NOW)
gang = partial(gang_at, NOW)


def cell(name: str = "west", nodes: tuple[int, ...] = (8, 8), **changes: object) -> Cell:
    base = Cell(name=name, grid_zone=name, thermal_zone=None, gpus_total=8 * len(nodes), node_free_gpus=nodes, pue=1.0)
    return replace(base, **changes)  # type: ignore[arg-type]


def thermal_zone(**changes: object) -> ThermalZoneState:
    base = thermal_zone_state(
        rise_k_per_kw=0.5,
        supply=Reading(value=20.0, age_s=1.0, quality=Quality.FRESH),
        supply_worst_c=27.0,
        base_power_kw=10.0,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def snapshot(*workloads: Workload, **changes: object) -> Snapshot:
    base = Snapshot(
        now=NOW,
        turn_s=15.0,
        workloads=workloads,
        cells=(cell(),),
        grid_zones=(grid_zone([400.0] * 6 + [100.0] * 4 + [400.0] * 38),),
        thermal_zones=(),
        running=(),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def only(snap: Snapshot) -> Decision:
    (decision,) = plan(snap).decisions
    return decision
