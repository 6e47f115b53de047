# SPDX-License-Identifier: Apache-2.0
"""What heat networks are owed on the plan's axis, as wanted power.

A network's floor, less what its nodes draw without work and what runs already, is still short. Hours that the outlook
does not tell of owe nothing.
"""

import math

import numpy as np

from embellie.domain.snapshot import Snapshot
from embellie.planning.axis.timegrid import TimeGrid
from embellie.planning.axis.wants import Want, ends_in, running_share


def heat_owed(snapshot: Snapshot, grid: TimeGrid, n_slots: int) -> list[Want]:
    """Return what each network still wants of the cells that serve it [kW of IT power]."""
    cells, found = snapshot.cells, []
    for zone in sorted(snapshot.thermal_zones, key=lambda z: z.name):
        outlook = zone.outlook
        mine = {cell.name for cell in cells if cell.thermal_zone == zone.name}
        if outlook is None or outlook.floor_kw is None or outlook.floor_g_per_kwh <= 0.0 or not mine:
            continue
        middle_s = (grid.origin - outlook.start).total_seconds() + (np.arange(n_slots) + 0.5) * grid.step_s
        slot = np.floor(middle_s / outlook.step.total_seconds()).astype(np.int64)
        known = (slot >= 0) & (slot < outlook.floor_kw.size)
        need = np.zeros(n_slots)
        need[known] = outlook.floor_kw[slot[known]] - zone.base_power_kw
        for gang in snapshot.running:
            if gang.cell in mine:
                need -= gang.power_kw * running_share(grid, n_slots, ends_in(grid, gang.expected_end_p50))
        # What all work together could not give is no part of any plan's cost.
        most = math.fsum(w.power_kw for w in snapshot.workloads if not mine.isdisjoint(w.allowed_cells))
        found.append(
            Want(
                name=f"heat/{zone.name}",
                on_site=False,
                kw=np.tile(np.minimum(need, most), (3, 1)),
                g_per_kwh=np.full((3, n_slots), outlook.floor_g_per_kwh),
                share=np.array([float(cell.name in mine) for cell in cells]),
            )
        )
    return found
