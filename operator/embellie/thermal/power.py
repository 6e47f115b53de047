# SPDX-License-Identifier: Apache-2.0
"""What a gang of GPUs adds to its nodes, and the worst case that limits are checked with.

GPU boards overshoot their limit for milliseconds to seconds; 1.1 times the rated power is what a cooling loop or a
breaker must be able to take for longer than that.
"""

WORST_CASE_FACTOR = 1.1


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
