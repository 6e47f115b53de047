# SPDX-License-Identifier: Apache-2.0
"""Whatever the meters say, energy is neither doubled nor invented, and accounts close."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embellie.accounting.allocation import GangUse, NodeEnergy, allocate
from embellie.accounting.attribution import GPU_MAX_W, gpu_use
from embellie.accounting.known import Gang, GpuMeter, Samples, Stay
from embellie.accounting.meters import counter_steps, power_steps


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 5000), st.floats(-10, 1e6)), min_size=0, max_size=40),
    st.lists(st.floats(0, 5000), min_size=2, max_size=10),
)
def test_no_samples_can_double_or_invent_energy(samples: list[tuple[float, float]], cuts: list[float]) -> None:
    steps = counter_steps([at for at, _ in samples], [v for _, v in samples], max_w=1000)
    parts = steps.between(np.sort(np.array(cuts)))
    whole = steps.between(np.array([min(cuts), max(cuts)]))
    assert parts.kwh.sum() == pytest.approx(whole.kwh[0], abs=1e-9)
    assert (parts.kwh >= -1e-12).all()
    assert whole.covered_s[0] <= max(cuts) - min(cuts) + 1e-6


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 8 * 3600), st.floats(0, 6), st.floats(0, 1)), max_size=6),
    st.floats(0, 20) | st.none(),
)
def test_allocation_always_closes(uses: list[tuple[float, float, float]], kwh: float | None) -> None:
    gangs = tuple(GangUse(gang=str(k), gpu_seconds=s, gpu_kwh=g, cpu_kwh=c) for k, (s, g, c) in enumerate(uses))
    node = NodeEnergy(
        name="n", seconds=3600.0, gpus=8, idle_w=3200.0, gpu_idle_w=140.0, kwh=kwh, uses=gangs
    )  # fmt: skip
    found = allocate([node], overhead_kwh=1.0, meter_kwh=12.0)
    parts = found.jobs_it_kwh + found.idle.it_kwh + found.overhead_kwh + found.unexplained_kwh
    assert parts == pytest.approx(12.0)
    if kwh is not None:
        assert found.it_kwh == pytest.approx(kwh, abs=1e-9)
    assert all(share.dynamic_kwh >= 0 and share.idle_kwh >= -1e-9 for share in found.gangs.values())


LABELS = st.lists(st.sampled_from(["", "a", "b", "ab"]), min_size=2, max_size=14)
TIMES = st.floats(-300, 1200)


@settings(deadline=None)
@given(
    LABELS,
    st.lists(st.floats(0, 60_000), min_size=14, max_size=14),
    st.integers(0, 13),
    st.lists(st.tuples(st.sampled_from("ab"), TIMES, TIMES), max_size=5),
    st.booleans(),
)
def test_whoever_holds_a_gpu_together_they_never_have_more_than_it_drew(
    labels: list[str], rises: list[float], reset: int, stays: list[tuple[str, float, float]], counts: bool
) -> None:
    at = [60.0 * k for k in range(len(labels))]
    values = np.cumsum(rises)[: len(labels)] if counts else np.array(rises)[: len(labels)] / 60.0
    if counts and reset < len(labels):
        values[reset:] -= values[reset]
    gangs = [
        Gang(uid=uid, namespace="ml", name=uid, watts_per_gpu=600.0, stays=tuple(
            Stay(node="n", gpus=1, start_s=min(a, b), end_s=max(a, b)) for who, a, b in stays if who == uid
        ))
        for uid in "ab"
    ]  # fmt: skip
    samples = Samples(at_s=tuple(at), values=tuple(values.tolist()))
    meter = GpuMeter(
        node="n", samples=samples, counter=counts, holders=tuple(dict.fromkeys(label, 1.0) for label in labels)
    )
    cuts = np.array([0.0, 130.0, 150.0, 400.0, 900.0])
    found = gpu_use([meter], gangs, idle_w={"n": 100.0}, edges_s={"n": cuts}, longest_s=600.0)
    edges = np.array([0.0, at[-1]])
    if counts:
        whole = counter_steps(at, values, max_w=GPU_MAX_W).between(edges)
    else:
        # Between two samples, work that comes or goes may have drawn what the higher of them says all the time.
        highest = np.maximum(values[1:], values[:-1])
        whole = power_steps(at, np.append(highest, highest[-1]), max_w=1e9, changes_s=at[1:]).between(edges)
    had = sum(one.kwh.sum() for one in found.values())
    assert had <= whole.kwh[0] + 1e-9
    assert all((one.kwh >= -1e-12).all() and (one.covered_s >= -1e-9).all() for one in found.values())
    assert sum(one.covered_s.sum() for one in found.values()) <= whole.covered_s[0] + 1e-6
