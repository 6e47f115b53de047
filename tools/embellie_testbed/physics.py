# SPDX-License-Identifier: Apache-2.0
"""The simulated rows of the testbed: each is a small hall of the plant with fans, recirculation and cooling of its own.

The physics are `embellie.simulation.plant`, which shares nothing with the operator's heat models. Rows cool their
water with outside air and evaporation, as far down as the outside temperature lets them.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from embellie.simulation.plant import PlantSpec, Rooms, parse_plant

GPU_RUNNING_W = 400.0
"""What a GPU of a running pod draws when the pod says nothing about it [W]."""
_SUBSTEP_S = 15.0
_LONGEST_S = 6 * 3600.0
"""After this long at the same work a row is at rest; it need not be followed for longer."""
_WET_BULB_BELOW_K = 8.0
"""The tables of the testbed know no moisture: the wet bulb stands this far below the dry bulb, a dry afternoon."""

_ROW: Mapping[str, Mapping[str, Any]] = {
    "node": {"idle_kw": 3.1, "fan_full_kw": 0.8, "power_noise": 0.0},
    "hall": {
        "rows": 1,
        "nodes_per_rack": 1,
        "rack_airflow_kw_per_k": 0.72,
        "recirculation_share": 0.13,
        "crac_units": 3,
        "chiller_kw": 0.0,
        "evaporative_share": 0.75,
        "chilled_water_setpoint_c": 16.0,
    },
    "loop": {"nodes": 0},
}
_PER_NODE: Mapping[str, float] = {
    "crac_airflow_kw_per_k": 0.325,
    "crac_coil_kw_per_k": 1.125,
    "economiser_kw_per_k": 2.75,
    "air_heat_capacity_kj_per_k": 110.0,
    "structure_heat_capacity_kj_per_k": 2500.0,
    "structure_kw_per_k": 0.06,
    "chilled_water_heat_capacity_kj_per_k": 375.0,
}
"""Cooling and masses grow with the row."""


def row_spec(name: str, nodes: int, changes: Mapping[str, float]) -> PlantSpec:
    """Return a row's plant: the usual one, contained a little better or worse by its name, with changes of its hall."""
    draw = hashlib.sha256(name.encode()).digest()
    hall = {
        **_ROW["hall"],
        **{key: value * nodes for key, value in _PER_NODE.items()},
        "racks_per_row": nodes,
        "recirculation_share": 0.12 + 0.05 * draw[0] / 255,
        **changes,
    }
    return parse_plant({"node": _ROW["node"], "hall": hall, "loop": _ROW["loop"]}, f"row {name}")


class RowPlant:
    """One row of nodes, advanced in time; powers in watts, temperatures in degC."""

    def __init__(self, name: str, nodes: int, changes: Mapping[str, float], ambient_c: float) -> None:
        self.spec = row_spec(name, nodes, changes)
        self._rooms = Rooms([self.spec])
        self._idle = np.zeros((1, nodes))
        self._run(self._rooms.settle, self._idle, self._gpus([[] for _ in range(nodes)]), ambient_c, 3.0)

    @property
    def gpu_idle_w(self) -> float:
        """What a GPU without work draws."""
        return self.spec.node.gpu_idle_w

    def advance(self, busy_w: Sequence[Sequence[float]], ambient_c: float, elapsed_s: float) -> None:
        """Let time pass with what the GPUs in use of each node draw; a moment too, so that fans follow the power."""
        node = self.spec.node
        added = [sum(max(0.0, w - node.gpu_idle_w) for w in gpus) * (1.0 + node.host_share) / 1000.0 for gpus in busy_w]
        elapsed = min(max(elapsed_s, 1e-3), _LONGEST_S)
        self._run(self._rooms.advance, np.array([added]), self._gpus(busy_w), ambient_c, elapsed, substep_s=_SUBSTEP_S)

    def node_w(self) -> list[float]:
        """Return what each node draws, fans included."""
        return [1000.0 * float(kw) for kw in self._rooms.hall.heat_kw[0]]

    def inlet_c(self) -> list[float]:
        """Return the air that each node breathes."""
        return [float(c) for c in self._rooms.hall.inlet_c[0]]

    def supply_c(self) -> float:
        """Return the air that the cooling delivers."""
        return float(self._rooms.hall.supply_c[0])

    def return_c(self) -> float:
        """Return the air that comes back to the cooling."""
        return float(self._rooms.hall.hot_c[0])

    def facility_w(self) -> float:
        """Return what the row draws at the meter, cooling and losses included."""
        return 1000.0 * float(self._rooms.facility_kw[0])

    def gpu_c(self, node: int, watts: float) -> float:
        """Return a die's temperature."""
        return float(self._rooms.hall.inlet_c[0, node]) + self.spec.node.die_k_per_w_air * watts

    def _gpus(self, busy_w: Sequence[Sequence[float]]) -> np.ndarray:
        hottest = [max(gpus, default=self.spec.node.gpu_idle_w) for gpus in busy_w]
        return np.array([[*hottest, self.spec.node.gpu_idle_w]])

    @staticmethod
    def _run(step: Any, added: np.ndarray, gpus: np.ndarray, ambient_c: float, *rest: float, **named: float) -> None:
        outdoor = np.array([ambient_c])
        step(added, gpus, outdoor, outdoor - _WET_BULB_BELOW_K, *rest, **named)
