# SPDX-License-Identifier: Apache-2.0
"""A liquid loop: cold plates, pumps that move in steps, CDU exchanger, facility water, heat network, dry coolers.

Arrays have the shape (rooms,).
"""

from collections.abc import Sequence

import numpy as np

from embellie.simulation.plant.exchange import Array, column, counterflow, film, relax
from embellie.simulation.plant.spec import PlantSpec

_LEVELS = 10.0
_DESIGN_RISE_K = 8.0
"""The pumps are turned towards this rise over the cold plates."""


class Loop:
    """The loops of several rooms, advanced together."""

    def __init__(self, specs: Sequence[PlantSpec]) -> None:
        loops, networks = [s.loop for s in specs], [s.network for s in specs]
        self.nodes = specs[0].loop.nodes
        self._share = column(x.liquid_share for x in loops)
        self._flow = column(x.coolant_flow_kw_per_k for x in loops)
        self._supply_kj = column(x.supply_heat_capacity_kj_per_k for x in loops)
        self._return_kj = column(x.return_heat_capacity_kj_per_k for x in loops)
        self._ua = column(x.exchanger_kw_per_k for x in loops)
        self._water_flow = column(x.water_flow_kw_per_k for x in loops)
        self._water_kj = column(x.water_heat_capacity_kj_per_k for x in loops)
        self._setpoint = column(x.supply_setpoint_c for x in loops)
        self._water_setpoint = column(x.water_setpoint_c for x in loops)
        self._cooler_ua = column(x.dry_cooler_kw_per_k for x in loops)
        self._cooler_air = column(x.dry_cooler_air_kw_per_k for x in loops)
        self._adiabatic = column(x.adiabatic_share for x in loops)
        self._step_s = column(x.flow_step_s for x in loops)
        self._net_ua = column(x.exchanger_kw_per_k for x in networks)
        self._net_c = column(x.temperature_c for x in networks)
        self._net_minimum = column(x.minimum_c for x in networks)
        self._net_demand = column(x.demand_kw for x in networks)
        self._net_per_k = column(x.demand_per_k for x in networks)
        count = len(specs)
        self.flow_share = np.ones(count)
        """What the pumps can deliver; a fault lowers it."""
        self.network_on = np.ones(count)
        self.speed = np.full(count, 0.6)
        self.supply_c = self._setpoint.copy()
        self.return_c = self._setpoint + 5.0
        self.water_hot_c = self._water_setpoint + 5.0
        self.water_cold_c = self._water_setpoint.copy()
        self.delivered_kw = np.zeros(count)
        self.rejected_kw = np.zeros(count)
        self.cooling_kw = np.zeros(count)
        self.heat_kw = np.zeros(count)
        self._since_step = np.zeros(count)

    def demand_kw(self, outdoor_c: Array) -> Array:
        """Return what the network would take [kW]; the colder it is, the more."""
        return self._net_demand * np.clip(1.0 - self._net_per_k * outdoor_c, 0.0, 1.3) * self.network_on

    def advance(self, it_kw: Array, outdoor_c: Array, wet_bulb_c: Array, dt_s: float) -> None:
        """Let `dt_s` pass with the loop's IT power [kW]."""
        self.heat_kw = it_kw
        heat = it_kw * self._share
        self._turn_pumps(heat, dt_s)
        share = np.maximum(self.speed * self.flow_share, 0.02)
        flow = self._flow * share
        water = self._water_flow

        self.return_c = relax(self.return_c, self.supply_c + heat / flow, dt_s, self._return_kj / flow)
        per_kelvin = counterflow(film(self._ua, share, np.ones_like(share)), flow, water)
        most = per_kelvin * np.maximum(0.0, self.return_c - self.water_cold_c)
        wanted = flow * (self.return_c - self._setpoint) + self._supply_kj * (self.supply_c - self._setpoint) / max(
            60.0, dt_s
        )
        carried = np.clip(wanted, 0.0, most)
        self.supply_c = relax(self.supply_c, self.return_c - carried / flow, dt_s, self._supply_kj / flow)

        self.water_hot_c = relax(self.water_hot_c, self.water_cold_c + carried / water, dt_s, self._water_kj / water)
        net_per_k = counterflow(self._net_ua, water, np.maximum(self._net_ua, 1e-6) * 1.5)
        self.delivered_kw = np.where(
            self.water_hot_c >= self._net_minimum,
            np.minimum(self.demand_kw(outdoor_c), net_per_k * np.maximum(0.0, self.water_hot_c - self._net_c)),
            0.0,
        )
        after = self.water_hot_c - self.delivered_kw / water
        air_c = np.where(outdoor_c > 30.0, outdoor_c - self._adiabatic * (outdoor_c - wet_bulb_c), outdoor_c)
        most = counterflow(self._cooler_ua, water, self._cooler_air) * np.maximum(0.0, after - air_c)
        wanted = water * (after - self._water_setpoint) + self._water_kj * (
            self.water_cold_c - self._water_setpoint
        ) / max(180.0, dt_s)
        rejected = np.clip(wanted, 0.0, most)
        self.water_cold_c = relax(self.water_cold_c, after - rejected / water, dt_s, self._water_kj / water)
        self.rejected_kw = rejected
        fans = np.clip(rejected / np.maximum(most, 1e-6), 0.0, 1.0)
        self.cooling_kw = 0.03 * self._cooler_air * fans**2 + 0.02 * flow * share**2 + 0.03 * (it_kw - heat)

    def _turn_pumps(self, heat_kw: Array, dt_s: float) -> None:
        """Move the pumps one step up or down; they hunt when the heat jumps, as real ones do."""
        self._since_step += dt_s
        due = self._since_step >= self._step_s
        if not due.any():
            return
        wanted = np.clip(np.ceil(_LEVELS * heat_kw / _DESIGN_RISE_K / self._flow) / _LEVELS, 0.4, 1.0)
        moved = self.speed + np.clip(wanted - self.speed, -1.0 / _LEVELS, 2.0 / _LEVELS)
        self.speed = np.where(due, moved, self.speed)
        self._since_step = np.where(due, 0.0, self._since_step)
