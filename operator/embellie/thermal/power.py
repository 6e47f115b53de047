# SPDX-License-Identifier: Apache-2.0
"""What GPUs and their nodes draw: published ratings and the worst case that limits are checked with.

GPU boards overshoot their limit for milliseconds to seconds; 1.1 times the rated power is what a cooling loop or a
breaker must be able to take for longer than that.
"""

from collections.abc import Mapping

WORST_CASE_FACTOR = 1.1

RATED_WATTS: Mapping[str, float] = {
    "V100-SXM2": 300.0,
    "A40": 300.0,
    "L40S": 350.0,
    "A100-PCIE": 300.0,
    "A100-SXM4": 400.0,
    "H100-PCIE": 350.0,
    "H100-SXM5": 700.0,
    "H100": 700.0,
    "H200": 700.0,
    "B200": 1000.0,
}
"""Vendors' board power [W], longest matching name first wins; an unknown product counts as its zone says."""


def rated_watts(product: str, default_w: float = 700.0) -> float:
    """Return the rated power of a GPU product name such as `NVIDIA-H100-80GB-HBM3` [W]."""
    name = product.upper().replace(" ", "-").replace("_", "-")
    best = max((known for known in RATED_WATTS if _matches(known, name)), key=len, default=None)
    return RATED_WATTS[best] if best is not None else default_w


def _matches(known: str, name: str) -> bool:
    parts = name.split("-")
    return all(part in parts for part in known.split("-"))


def added_power_kw(gpus: int, watts_per_gpu: float, idle_watts_per_gpu: float, host_overhead_percent: float) -> float:
    """Return what a gang adds to its idle nodes while it runs, the host's share included [kW of IT power]."""
    added = max(0.0, watts_per_gpu - idle_watts_per_gpu)
    return gpus * added * (1.0 + host_overhead_percent / 100.0) / 1000.0


def worst_added_power_kw(
    gpus: int,
    rated_watts_per_gpu: float,
    idle_watts_per_gpu: float,
    host_overhead_percent: float,
    learnt_worst_watts_per_gpu: float | None = None,
) -> float:
    """Return what a gang may add at worst: at 1.1 times the rated power [kW of IT power].

    What was learnt of the gang's class, its margin included, can only be less than that.
    """
    watts = WORST_CASE_FACTOR * rated_watts_per_gpu
    if learnt_worst_watts_per_gpu is not None:
        watts = min(watts, learnt_worst_watts_per_gpu)
    return added_power_kw(gpus, watts, idle_watts_per_gpu, host_overhead_percent)


def idle_power_kw(nodes: int, node_idle_watts: float) -> float:
    """Return what idle nodes draw [kW of IT power]."""
    return nodes * node_idle_watts / 1000.0
