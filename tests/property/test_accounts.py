# SPDX-License-Identifier: Apache-2.0
"""Whatever the meters say, energy is neither doubled nor invented, and accounts close."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embellie.accounting.allocation import GangUse, NodeEnergy, allocate
from embellie.accounting.meters import counter_steps


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
