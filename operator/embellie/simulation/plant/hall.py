# SPDX-License-Identifier: Apache-2.0
"""Air-cooled rows in one hall: server fans, recirculation, CRAC units, chilled water.

Not the operator's model: every rack has an inlet of its own that mixes cold and hot air, the mix depends on whether the
CRAC units deliver as much air as the server fans draw, and coils, chilled water and building have temperatures of
their own. Arrays have the shape (rooms,) or (rooms, racks).
"""

from collections.abc import Sequence

import numpy as np

from embellie.simulation.plant.exchange import Array, column, counterflow, relax
from embellie.simulation.plant.spec import PlantSpec

_FAN_FLOOR = 0.35
_LEVELS = 10.0
"""Steps of the CRAC fans' speed."""


class Hall:
    """The halls of several rooms of equal layout, advanced together."""

    def __init__(self, specs: Sequence[PlantSpec]) -> None:
        first = specs[0]
        halls = [s.hall for s in specs]
        self.rows, self.racks = first.hall.rows, first.racks
        self.nodes_per_rack = first.hall.nodes_per_rack
        self._rack_air = column(h.rack_airflow_kw_per_k for h in halls)[:, None]
        position = np.linspace(-0.5, 0.5, first.hall.racks_per_row) ** 2 * 4.0
        row = np.repeat(np.arange(self.rows) / max(1, self.rows - 1), first.hall.racks_per_row)
        spread = column(h.row_spread for h in halls)[:, None]
        # The ends of a row and the last row are contained worse.
        self._recirculation = column(h.recirculation_share for h in halls)[:, None] * (
            (1.0 + spread * row[None, :]) * (0.8 + 0.4 * np.tile(position, self.rows)[None, :])
        )
        self._gain = column(h.recirculation_gain for h in halls)[:, None] * (0.85 + 0.3 * row[None, :])
        self._tau_inlet = column(h.inlet_time_constant_s for h in halls)[:, None]
        self._tau_server = column(h.server_time_constant_s for h in halls)[:, None]
        self._air_kj = column(h.air_heat_capacity_kj_per_k for h in halls)
        self._slab_kj = column(h.structure_heat_capacity_kj_per_k for h in halls)
        self._slab_kw_per_k = column(h.structure_kw_per_k for h in halls)
        self._unit_air = column(h.crac_airflow_kw_per_k for h in halls)
        self._unit_ua = column(h.crac_coil_kw_per_k for h in halls)
        self._tau_crac = column(h.crac_time_constant_s for h in halls)
        self._setpoint = column(h.supply_setpoint_c for h in halls)
        self._water_setpoint = column(h.chilled_water_setpoint_c for h in halls)
        self._water_kj = column(h.chilled_water_heat_capacity_kj_per_k for h in halls)
        self._chiller_kw = column(h.chiller_kw for h in halls)
        self._derate = column(h.chiller_derate_per_k for h in halls)
        self._cop = column(h.chiller_cop for h in halls)
        self._economiser = column(h.economiser_kw_per_k for h in halls)
        self._evaporative = column(h.evaporative_share for h in halls)
        self._step_s = column(h.flow_step_s for h in halls)
        self._fan_kw = column(s.node.fan_full_kw for s in specs)[:, None] * self.nodes_per_rack
        self._full_kw = (
            column(s.node.idle_kw + s.node.gpus * (s.node.gpu_rated_w - s.node.gpu_idle_w) / 1000.0 for s in specs)[
                :, None
            ]
            * self.nodes_per_rack
        )
        count = len(specs)
        self.units = column(h.crac_units for h in halls)
        """CRAC units that run; a fault lowers it."""
        self.unit_share = np.ones(count)
        """What each running unit delivers of its nameplate."""
        self.speed = np.full(count, 0.6)
        self.inlet_c = np.repeat(self._setpoint[:, None] + 1.0, self.racks, axis=1)
        self.exhaust_c = self.inlet_c + 6.0
        self.hot_c = self._setpoint + 7.0
        self.slab_c = self._setpoint + 3.0
        self.supply_c = self._setpoint.copy()
        self.water_c = self._water_setpoint.copy()
        self.fan_speed = np.full((count, self.racks), 0.5)
        self.rejected_kw = np.zeros(count)
        self.cooling_kw = np.zeros(count)
        """Electric power of chillers and fans."""
        self.heat_kw = np.zeros((count, self.racks))
        self._since_step = np.zeros(count)

    def advance(self, it_kw: Array, outdoor_c: Array, wet_bulb_c: Array, dt_s: float) -> None:
        """Let `dt_s` pass with the racks' power without fans [kW], shape (rooms, racks)."""
        speed = 0.35 + 0.45 * it_kw / self._full_kw + 0.03 * (self.inlet_c - 24.0)
        self.fan_speed = np.clip(speed, _FAN_FLOOR, 1.0)
        self.heat_kw = it_kw + self._fan_kw * self.fan_speed**3
        drawn = self._rack_air * self.fan_speed
        drawn_all = drawn.sum(axis=1)
        self._turn_fans(drawn_all, dt_s)
        delivered = np.maximum(self.units * self._unit_air * self.unit_share * self.speed, 1e-6)
        missing = np.maximum(0.0, 1.0 - delivered / drawn_all)

        # No more cold air goes through the racks than is delivered.
        share = np.minimum(np.maximum(self._recirculation + self._gain * missing[:, None], missing[:, None]), 0.95)
        local = 0.6 * self.exhaust_c + 0.4 * self.hot_c[:, None]
        mixed = (1.0 - share) * self.supply_c[:, None] + share * local
        self.inlet_c = relax(self.inlet_c, mixed, dt_s, self._tau_inlet)
        self.exhaust_c = relax(self.exhaust_c, self.inlet_c + self.heat_kw / drawn, dt_s, self._tau_server)

        net_out = drawn * (1.0 - share)
        bypass = np.maximum(0.0, delivered - net_out.sum(axis=1))
        # What recirculates stays in its rack's loop; the rest of the exhaust reaches the hot side.
        conductance = net_out.sum(axis=1) + bypass + self._slab_kw_per_k
        inflow = (net_out * self.exhaust_c).sum(axis=1) + bypass * self.supply_c + self._slab_kw_per_k * self.slab_c
        self.hot_c = relax(self.hot_c, inflow / conductance, dt_s, self._air_kj / conductance)
        self.slab_c += dt_s * self._slab_kw_per_k * (self.hot_c - self.slab_c) / self._slab_kj

        ua = self.units * self._unit_ua * np.maximum(self.unit_share * self.speed, 0.05) ** 0.6
        per_kelvin = counterflow(ua, delivered, delivered * 1.4)
        coldest = self.hot_c - per_kelvin * np.maximum(0.0, self.hot_c - self.water_c) / delivered
        self.supply_c = relax(self.supply_c, np.maximum(self._setpoint, coldest), dt_s, self._tau_crac)
        coil_kw = delivered * np.maximum(0.0, self.hot_c - self.supply_c)
        self._chill(coil_kw, outdoor_c, wet_bulb_c, dt_s)
        self.cooling_kw += 0.5 * self.units * (self.unit_share * self.speed) ** 3 * self._unit_air

    def _turn_fans(self, drawn_all: Array, dt_s: float) -> None:
        """Move the CRAC fans: one step at a time towards a little more than the servers draw."""
        self._since_step += dt_s
        due = self._since_step >= self._step_s
        if not due.any():
            return
        full = np.maximum(self.units * self._unit_air * self.unit_share, 1e-6)
        wanted = np.clip(np.ceil(_LEVELS * 1.05 * drawn_all / full) / _LEVELS, 0.4, 1.0)
        moved = self.speed + np.clip(wanted - self.speed, -1.0 / _LEVELS, 2.0 / _LEVELS)
        self.speed = np.where(due, moved, self.speed)
        self._since_step = np.where(due, 0.0, self._since_step)

    def _chill(self, coil_kw: Array, outdoor_c: Array, wet_bulb_c: Array, dt_s: float) -> None:
        """Take the coils' heat out of the chilled water, first by free cooling, then by the chillers."""
        wanted = np.maximum(0.0, coil_kw + self._water_kj * (self.water_c - self._water_setpoint) / max(120.0, dt_s))
        reach_c = outdoor_c - self._evaporative * (outdoor_c - wet_bulb_c)
        free = np.minimum(wanted, self._economiser * np.maximum(0.0, self.water_c - reach_c))
        derate = np.clip(1.0 - self._derate * (outdoor_c - 35.0), 0.2, 1.15)
        chilled = np.minimum(wanted - free, self._chiller_kw * derate)
        self.water_c = self.water_c + dt_s * (coil_kw - free - chilled) / self._water_kj
        lift = np.clip(1.0 + 0.02 * (outdoor_c - 25.0), 0.6, 1.6)
        compressor = chilled / self._cop * lift
        self.rejected_kw = free + chilled + compressor
        self.cooling_kw = compressor + 0.02 * self.rejected_kw

    def row_inlet_c(self) -> Array:
        """Return each row's hottest inlet, shape (rooms, rows)."""
        return np.asarray(self.inlet_c.reshape(len(self.inlet_c), self.rows, -1).max(axis=2))

    def row_heat_kw(self) -> Array:
        """Return each row's heat, fans included, shape (rooms, rows)."""
        return np.asarray(self.heat_kw.reshape(len(self.heat_kw), self.rows, -1).sum(axis=2))
