# SPDX-License-Identifier: Apache-2.0
"""What a room can really carry: the plant run to rest over a grid of loads and outdoor temperatures.

The oracle reads from it what it may run. The engineer who commissions the room does the same with load banks, once,
on the room as it was designed (`commission.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from embellie.simulation.plant import PlantSpec, Rooms
from embellie.simulation.plant.exchange import Array

OUTDOOR_C = np.array([0.0, 20.0, 30.0, 34.0, 36.0, 38.0, 39.0, 40.0, 41.0, 42.0, 43.0, 44.0, 46.0, 50.0])
LOADS = np.linspace(0.0, 1.15, 16)
"""Share of what jobs add at rated power."""
_SETTLE_HOURS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wear:
    """What of the cooling works."""

    crac_lost: int = 0
    crac_share: float = 1.0
    flow_share: float = 1.0
    network: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Survey:
    """A room at rest. Every array has the shape (outdoor temperatures, loads) or that with the zones last."""

    zones: tuple[str, ...]
    heat_kw: Array
    inlet_c: Array
    return_c: Array
    supply_c: Array
    """What the cooling delivers: air, or facility water to the loop, per zone."""
    pue: Array
    rejected_kw: Array
    delivered_kw: Array
    slowed: np.ndarray

    def capacity_kw(self, spec: PlantSpec, *, margins: bool) -> Array:
        """Return the most heat of each zone that keeps it under its hard limits, shape (outdoor, zones) [kW]."""
        over = ~self.fits(spec, margins=margins)
        first = np.where(over.any(axis=1), over.argmax(axis=1), over.shape[1])
        most = np.take_along_axis(self.heat_kw, np.maximum(first - 1, 0)[:, None, :], axis=1)[:, 0, :]
        return np.asarray(np.where(first == 0, 0.0, most))

    def fits(self, spec: PlantSpec, *, margins: bool) -> np.ndarray:
        """Return where each zone stands under its hard limits, shape (outdoor, loads, zones)."""
        limits = spec.limits
        air_k, water_k = (limits.inlet_margin_k, limits.coolant_margin_k) if margins else (0.0, 0.0)
        ok = np.empty(self.inlet_c.shape, dtype=bool)
        for k, zone in enumerate(self.zones):
            if zone == "loop":
                ok[:, :, k] = (self.inlet_c[:, :, k] <= limits.coolant_supply_hard_c - water_k) & (
                    self.return_c[:, :, k] <= limits.coolant_return_hard_c - water_k
                )
            else:
                ok[:, :, k] = self.inlet_c[:, :, k] <= limits.inlet_hard_c - air_k
        return np.asarray(ok & ~self.slowed)


def one_failed(spec: PlantSpec) -> Wear:
    """Return the reserve that starts are judged with: one CRAC unit and one pump out, the heat network closed."""
    return Wear(crac_lost=min(1, spec.hall.crac_units - 1), flow_share=spec.loop.pump_alone_share, network=False)


@lru_cache(maxsize=512)
def survey(spec: PlantSpec, wear: Wear = Wear()) -> Survey:
    """Run a room to rest over the grid."""
    outdoor, load = (a.ravel() for a in np.meshgrid(OUTDOOR_C, LOADS, indexing="ij"))
    rooms = Rooms([spec] * outdoor.size)
    apply_wear(rooms, slice(None), wear)
    node = spec.node
    watts = node.gpu_idle_w + load * (node.gpu_rated_w - node.gpu_idle_w)
    added = node.gpus * (watts - node.gpu_idle_w) * (1.0 + node.host_share) / 1000.0
    nodes = spec.hall_nodes + spec.loop.nodes
    rooms.settle(
        np.repeat(added[:, None], nodes, axis=1),
        np.repeat(watts[:, None], spec.racks + 1, axis=1),
        outdoor,
        outdoor - 12.0,
        hours=_SETTLE_HOURS,
    )
    grid = (OUTDOOR_C.size, LOADS.size)
    rows = rooms.hall.rows
    hall_supply = np.repeat(rooms.hall.supply_c[:, None], rows, axis=1)
    hall_return = np.repeat(rooms.hall.hot_c[:, None], rows, axis=1)
    if rooms.has_loop:
        hall_supply = np.concatenate([hall_supply, rooms.loop.water_cold_c[:, None]], axis=1)
        hall_return = np.concatenate([hall_return, rooms.loop.return_c[:, None]], axis=1)
    return Survey(
        zones=rooms.zones,
        heat_kw=rooms.zone_heat_kw().reshape(*grid, -1),
        inlet_c=rooms.zone_inlet_c().reshape(*grid, -1),
        return_c=hall_return.reshape(*grid, -1),
        supply_c=hall_supply.reshape(*grid, -1),
        pue=(rooms.facility_kw / rooms.it_kw).reshape(grid),
        rejected_kw=rooms.loop.rejected_kw.reshape(grid),
        delivered_kw=rooms.loop.delivered_kw.reshape(grid),
        slowed=rooms.zone_slowed().reshape(*grid, -1),
    )


def apply_wear(rooms: Rooms, which: slice | int | Sequence[int], wear: Wear) -> None:
    """Set what of the cooling works in some of the rooms."""
    units = np.array([s.hall.crac_units for s in rooms.specs], dtype=np.float64)
    rooms.hall.units[which] = np.maximum(0.0, units - wear.crac_lost)[which]
    rooms.hall.unit_share[which] = wear.crac_share
    rooms.loop.flow_share[which] = wear.flow_share
    rooms.loop.network_on[which] = float(wear.network)
