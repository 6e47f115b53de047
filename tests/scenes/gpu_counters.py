# SPDX-License-Identifier: Apache-2.0
"""GPUs of one node whose counters are read at given instants, and the gangs on it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from embellie.accounting.attribution import gpu_use
from embellie.accounting.known import Gang, GpuMeter, Samples, Stay

T0 = datetime(2026, 7, 1, tzinfo=UTC)
S0 = T0.timestamp()
IDLE_W = 100.0


def gang(uid: str, start_s: float, end_s: float, gpus: int = 1) -> Gang:
    stay = Stay(node="n", gpus=gpus, start_s=S0 + start_s, end_s=S0 + end_s)
    return Gang(uid=uid, namespace="ml", name=f"train-{uid}", stays=(stay,), watts_per_gpu=700.0)


def counter(at_s: Sequence[float], spans: Sequence[tuple[float, float, float]], holders: Sequence[str]) -> GpuMeter:
    """A GPU that draws idle power but for `spans` (from, to, watts), read at instants, each with its label."""

    def joules(at: float) -> float:
        drawn = sum(max(0.0, min(at, b) - a) * (w - IDLE_W) for a, b, w in spans)
        return IDLE_W * (at + 600.0) + drawn

    samples = Samples(at_s=tuple(S0 + at for at in at_s), values=tuple(joules(at) for at in at_s))
    return GpuMeter(
        node="n", samples=samples, counter=True, holders=tuple({name: 1.0} if name else {} for name in holders)
    )


def used(meter: GpuMeter, gangs: Sequence[Gang], *edges: float) -> Mapping[str, tuple[list[float], list[float]]]:
    """Return by gang its energy [J] and its covered time [s] between edges."""
    found = gpu_use(
        [meter], gangs, idle_w={"n": IDLE_W}, edges_s={"n": np.array([S0 + e for e in edges])}, longest_s=600.0
    )
    return {uid: ((one.kwh * 3.6e6).round(3).tolist(), one.covered_s.tolist()) for (uid, _), one in found.items()}
