# SPDX-License-Identifier: Apache-2.0
"""A whole machine room: servers, hall, loop, and what the meters at its border count.

Several rooms of equal layout (one seed or scenario each) advance together, so that many drills cost little more than
one. The zones of a room are its rows (`row-a`, `row-b`, ...) and, where it has liquid-cooled nodes, `loop`.
"""

from collections.abc import Callable, Sequence
from string import ascii_lowercase

import numpy as np

from embellie.simulation.plant.exchange import Array
from embellie.simulation.plant.hall import Hall
from embellie.simulation.plant.loop import Loop
from embellie.simulation.plant.spec import PlantSpec

SUBSTEP_S = 10.0
_NOISE_TAU_S = 120.0
_CONVERSION = 1.04
"""Losses of rectifiers and switchgear."""
_PREHEAT_K = 6.0
"""Air has passed other parts before it reaches the last GPUs."""
_SLOWED = 0.5
"""What a node draws of its power above idle once the hardware has slowed it down."""


def zone_names(spec: PlantSpec) -> tuple[str, ...]:
    """Return the names of a room's zones: its rows, then the loop."""
    rows = tuple(f"row-{ascii_lowercase[k]}" for k in range(spec.hall.rows))
    return (*rows, "loop") if spec.loop.nodes else rows


class Rooms:
    """Rooms of equal layout, shape (rooms,) throughout; power comes in per node, temperatures and meters go out."""

    def __init__(self, specs: Sequence[PlantSpec], noise: Callable[[], Array] | None = None) -> None:
        """Build rooms; `noise` draws standard normal numbers of shape (rooms, racks + 1), None keeps power still."""
        layouts = {(s.hall.rows, s.hall.racks_per_row, s.hall.nodes_per_rack, s.loop.nodes, s.node.gpus) for s in specs}
        if len(layouts) != 1:
            raise ValueError("rooms that advance together must have the same layout")
        self.specs = tuple(specs)
        self.hall, self.loop = Hall(specs), Loop(specs)
        self.zones = zone_names(specs[0])
        self._draw = noise
        count, racks = len(specs), specs[0].racks
        self.has_loop = specs[0].loop.nodes > 0
        self._per_rack = specs[0].hall.nodes_per_rack
        self._hall_nodes = specs[0].hall_nodes
        self._idle_kw = np.array([s.node.idle_kw for s in specs])
        self._leakage = np.array([s.node.leakage_per_k for s in specs])[:, None]
        self._noise_sd = np.array([s.node.power_noise for s in specs])[:, None]
        self._slowdown = np.array([s.node.slowdown_c for s in specs])
        self._die_air = np.array([s.node.die_k_per_w_air for s in specs])[:, None]
        self._die_liquid = np.array([s.node.die_k_per_w_liquid for s in specs])
        self._noise = np.zeros((count, racks + 1))
        self.slowed = np.zeros((count, racks + 1), dtype=bool)
        """Racks, and last the loop, whose hardware slows itself down now."""
        self.die_c = np.zeros((count, racks + 1))
        self.facility_kw = np.zeros(count)
        self.rejected_kw = np.zeros(count)
        self.it_kw = np.zeros(count)
        self.time_s = 0.0

    def settle(self, added_kw: Array, gpu_w: Array, outdoor_c: Array, wet_bulb_c: Array, hours: float = 8.0) -> None:
        """Run at constant power until everything has come to rest."""
        draw, self._draw = self._draw, None
        for _ in range(int(hours * 120)):
            self.advance(added_kw, gpu_w, outdoor_c, wet_bulb_c, 30.0, substep_s=30.0)
            self.hall.slab_c = self.hall.slab_c + 0.05 * (self.hall.hot_c - self.hall.slab_c)
        self._draw = draw

    def advance(
        self,
        added_kw: Array,
        gpu_w: Array,
        outdoor_c: Array,
        wet_bulb_c: Array,
        span_s: float,
        *,
        substep_s: float = SUBSTEP_S,
    ) -> None:
        """Let time pass at constant work.

        Args:
            added_kw: What jobs add to each node's idle power, shape (rooms, nodes) with the hall's nodes first.
            gpu_w: The hottest GPU's power in each rack and, last, in the loop [W], shape (rooms, racks + 1).
            outdoor_c: Dry bulb [degC].
            wet_bulb_c: Wet bulb [degC].
            span_s: How much time passes [s].
            substep_s: Step of the integration [s].
        """
        steps = max(1, round(span_s / substep_s))
        dt_s = span_s / steps
        count = len(self.specs)
        hall_added = added_kw[:, : self._hall_nodes].reshape(count, -1, self._per_rack).sum(axis=2)
        loop_added = added_kw[:, self._hall_nodes :].sum(axis=1)
        self._draw_noise(span_s)
        for _ in range(steps):
            slow = np.where(self.slowed, _SLOWED, 1.0)
            leak = 1.0 + self._leakage * np.maximum(0.0, self.hall.inlet_c - 25.0)
            rack_kw = (
                self._per_rack * self._idle_kw[:, None] + hall_added * (1.0 + self._noise[:, :-1]) * leak * slow[:, :-1]
            )
            self.hall.advance(rack_kw, outdoor_c, wet_bulb_c, dt_s)
            loop_kw = self.loop.nodes * self._idle_kw + loop_added * (1.0 + self._noise[:, -1]) * slow[:, -1]
            if self.has_loop:
                self.loop.advance(loop_kw, outdoor_c, wet_bulb_c, dt_s)
            self._heat_dies(gpu_w)
        self.it_kw = self.hall.heat_kw.sum(axis=1) + (loop_kw if self.has_loop else 0.0)
        self.rejected_kw = self.hall.rejected_kw + self.loop.rejected_kw
        self.facility_kw = self.it_kw * _CONVERSION + self.hall.cooling_kw + self.loop.cooling_kw
        self.time_s += span_s

    def _draw_noise(self, span_s: float) -> None:
        if self._draw is None:
            return
        keep = np.exp(-span_s / _NOISE_TAU_S)
        self._noise = keep * self._noise + np.sqrt(1.0 - keep**2) * self._noise_sd * self._draw()

    def _heat_dies(self, gpu_w: Array) -> None:
        """Dies settle in seconds; the hardware slows them at their threshold and lets go 3 K below it."""
        fans = 1.35 - 0.35 * self.hall.fan_speed / 0.8
        # Where it matters a die is judged at full work: slowed ones come back as soon as they would stay cool.
        air = self.hall.inlet_c + _PREHEAT_K + self._die_air * gpu_w[:, :-1] * fans
        rise = np.maximum(0.0, self.loop.return_c - self.loop.supply_c)
        wet = self.loop.supply_c + rise + self._die_liquid * gpu_w[:, -1]
        self.die_c = np.concatenate([air, wet[:, None]], axis=1)
        threshold = self._slowdown[:, None]
        self.slowed = (self.die_c >= threshold) | (self.slowed & (self.die_c >= threshold - 3.0))

    def zone_heat_kw(self) -> Array:
        """Return each zone's IT power [kW], shape (rooms, zones)."""
        rows = self.hall.row_heat_kw()
        return np.concatenate([rows, self.loop.heat_kw[:, None]], axis=1) if self.has_loop else rows

    def zone_inlet_c(self) -> Array:
        """Return each zone's hottest inlet: of its racks, or the coolant's supply [degC], shape (rooms, zones)."""
        rows = self.hall.row_inlet_c()
        return np.concatenate([rows, self.loop.supply_c[:, None]], axis=1) if self.has_loop else rows

    def zone_slowed(self) -> np.ndarray:
        """Return in which zones the hardware slows itself down now, shape (rooms, zones)."""
        rows = self.slowed[:, :-1].reshape(len(self.specs), self.hall.rows, -1).any(axis=2)
        return np.asarray(np.concatenate([rows, self.slowed[:, -1:]], axis=1) if self.has_loop else rows)
