# SPDX-License-Identifier: Apache-2.0
"""What is left of a site's own sun and wind on the plan's axis, as wanted power.

A zone's facility draw uses its own power first, and the grid supplies the rest. So what the plants are forecast to
deliver, less what nodes draw without work, what runs already and what a meter shows beside, is left for held work; each
kWh of it that is used spares what the grid's intensity is above the plants' own. Hours without a forecast have none,
and so has a plant of a kind whose own intensity is not known.
"""

import math

import numpy as np

from embellie.domain.forecast import FloatArray, Forecast
from embellie.domain.limits import fresh_value
from embellie.domain.onsite import G_PER_KWH
from embellie.domain.snapshot import GridZoneState, Snapshot
from embellie.planning.axis.timegrid import CostModel, TimeGrid, resampled_inside
from embellie.planning.axis.wants import Want, ends_in, running_share


def on_site_left(snapshot: Snapshot, grid: TimeGrid, n_slots: int, costs: CostModel) -> list[Want]:
    """Return what is left of each zone's own power.

    It is told in kW of IT power of the zone's first cell; a cell with another PUE draws in proportion. A kWh is worth
    what it spares the cell that it spares least, so that no run emits less than its own power would make it.
    """
    found = []
    for zone in sorted(snapshot.grid_zones, key=lambda z: z.name):
        mine = [row for row, cell in enumerate(snapshot.cells) if cell.grid_zone == zone.name]
        forecast = zone.forecast
        if forecast is None or not forecast.on_site or not mine or not costs.known[mine[0]]:
            continue
        lead, pue = mine[0], costs.pue[mine[0]]
        power, own_g = _delivered(forecast, grid, n_slots)
        kw = (power - _used_kw(snapshot, zone, grid, n_slots)) / pue
        share = np.zeros(len(snapshot.cells))
        share[mine] = [snapshot.cells[row].pue / snapshot.cells[lead].pue for row in mine]
        spared = [np.maximum(costs.layers[:, row] - own_g * costs.pue[row], 0.0) / share[row] for row in mine]
        worth = np.min(spared, axis=0)
        if not ((kw > 0.0) & (worth > 0.0)).any():
            continue
        names = {snapshot.cells[row].name: share[row] for row in mine}
        # What all work together could not use is no part of any plan's cost.
        most = math.fsum(
            w.power_kw * max((names[cell] for cell in w.allowed_cells if cell in names), default=0.0)
            for w in snapshot.workloads
        )
        found.append(
            Want(name=f"on-site/{zone.name}", on_site=True, kw=np.minimum(kw, most), g_per_kwh=worth, share=share)
        )
    return found


def _delivered(forecast: Forecast, grid: TimeGrid, n_slots: int) -> tuple[FloatArray, FloatArray]:
    """Return what all plants deliver by case, shape (3, T) [kW], and what a kWh of it counts as, shape (T,) [g].

    The median counts as expected; most power makes the lowest emissions.
    """
    power, grams = np.zeros((3, n_slots)), np.zeros(n_slots)
    own_g = G_PER_KWH.get(forecast.signal_kind, {})
    for plant in forecast.on_site:
        if plant.kind not in own_g:
            continue
        for case, level in enumerate((forecast.median, -1, 0)):
            power[case] += (told := resampled_inside(plant.power_kw[level], forecast, grid, n_slots))
            if case == 0:
                grams += told * own_g[plant.kind]
    return power, np.divide(grams, power[0], out=np.zeros(n_slots), where=power[0] > 0.0)


def _used_kw(snapshot: Snapshot, zone: GridZoneState, grid: TimeGrid, n_slots: int) -> FloatArray:
    """Return the facility power that uses the zone's own first, by slot [kW]."""
    pue_of = {cell.name: cell.pue for cell in snapshot.cells if cell.grid_zone == zone.name}
    used, reckoned = np.full(n_slots, zone.base_power_kw), zone.base_power_kw
    for gang in snapshot.running:
        if gang.cell in pue_of:
            kw = gang.power_kw * pue_of[gang.cell]
            used += kw * running_share(grid, n_slots, ends_in(grid, gang.expected_end_p50))
            reckoned += kw
    measured = fresh_value(zone.measured_power_kw)
    # Load that is nobody's gang is seen by the meter only, and is taken to stay.
    return used if measured is None else used + max(0.0, measured - reckoned)
