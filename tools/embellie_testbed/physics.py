# SPDX-License-Identifier: Apache-2.0
"""How much simulated nodes draw and how warm their rows become; pure.

The model is deliberately not the operator's: each row has parameters of its own, which the operator has to live with.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

NODE_IDLE_W = 3200.0
"""A node with all its GPUs idle, the GPUs included [W]."""
GPU_IDLE_W = 140.0
GPU_RUNNING_W = 400.0
"""What a GPU of a running pod draws when the pod says nothing about it [W]."""
HOST_SHARE = 0.03
"""Fans and conversion: what the host adds for each watt of its GPUs above idle."""
POWER_USAGE_EFFECTIVENESS = 1.2

_DIE_KELVIN_PER_WATT = 0.065


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of racks with a cooling loop of its own."""

    name: str
    setpoint_c: float = 20.0
    approach_k: float = 8.0
    """The supply cannot be colder than the outside plus this [K]."""
    rise_k_per_kw: float = 0.1
    """Steady inlet temperature above the supply, per kilowatt of the row."""
    lag_s: float = 300.0
    """Time constant of the inlet."""


def row_named(name: str) -> Row:
    """Return a row with parameters of its own, the same each time: some rows cool worse than others."""
    draw = hashlib.sha256(name.encode()).digest()
    return Row(
        name=name,
        approach_k=7.0 + 2.0 * draw[0] / 255,
        rise_k_per_kw=0.08 + 0.05 * draw[1] / 255,
    )


def node_power_w(busy_gpu_w: Sequence[float]) -> float:
    """Return a node's power for the GPUs that are in use, each with what it draws [W]."""
    above_idle = sum(max(0.0, watts - GPU_IDLE_W) for watts in busy_gpu_w)
    return NODE_IDLE_W + above_idle * (1.0 + HOST_SHARE)


def supply_c(row: Row, ambient_c: float) -> float:
    """Return the temperature of the air or water that the cooling delivers [degC]."""
    return max(row.setpoint_c, ambient_c + row.approach_k)


def steady_inlet_c(row: Row, supply_temperature_c: float, row_power_kw: float) -> float:
    """Return the inlet temperature that the row comes to in the end [degC]."""
    return supply_temperature_c + row.rise_k_per_kw * row_power_kw


def next_inlet_c(row: Row, inlet_c: float, steady_c: float, elapsed_s: float) -> float:
    """Return the inlet temperature after `elapsed_s` on the way to the steady one: a first-order lag [degC]."""
    if elapsed_s <= 0.0:
        return inlet_c
    return steady_c + (inlet_c - steady_c) * math.exp(-elapsed_s / row.lag_s)


def gpu_temperature_c(inlet_c: float, gpu_w: float) -> float:
    """Return a die's temperature; it settles in seconds, so it follows its power at once [degC]."""
    return inlet_c + _DIE_KELVIN_PER_WATT * gpu_w
