# SPDX-License-Identifier: Apache-2.0
"""Meters that were silent, processors that were measured, and what then counts as estimated."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from embellie.accounting.allocation import GangUse, NodeEnergy, allocate
from embellie.accounting.interval import account_interval
from embellie.accounting.known import Gang, GpuMeter, Machine, Samples, Stay, ZoneInterval
from embellie.accounting.meters import counter_steps, power_steps
from embellie.accounting.overhead import fit_overhead

T0 = datetime(2026, 7, 1, tzinfo=UTC)
S0 = T0.timestamp()
NOTHING = Samples()


def edges(*seconds: float) -> np.ndarray:
    return np.array(seconds, dtype=np.float64)


def node(kwh: float | None, *uses: GangUse) -> NodeEnergy:
    return NodeEnergy(name="n", seconds=3600.0, gpus=8, idle_w=3200.0, gpu_idle_w=140.0, kwh=kwh, uses=uses)


def every_minute(watts: float, minutes: int = 60) -> Samples:
    return Samples(at_s=tuple(S0 + 60 * k for k in range(minutes + 1)), values=(watts,) * (minutes + 1))


def hour(power: Samples = NOTHING, meter: Samples = NOTHING, **more: object) -> ZoneInterval:
    stay = Stay(node="n", gpus=8, start_s=S0, end_s=S0 + 3600)
    known = ZoneInterval(
        zone="west",
        start=T0,
        end=T0 + timedelta(hours=1),
        machines=(Machine(name="n", gpus=8, idle_w=3200.0, gpu_idle_w=140.0, host_share=0.03, power=power),),
        gpus=(),
        gangs=(Gang(uid="a", namespace="ml", name="train", stays=(stay,), watts_per_gpu=600.0),),
        meter=meter,
    )
    return replace(known, **more)  # type: ignore[arg-type]


def test_a_counter_that_was_silent_for_more_than_a_day_tells_nothing_of_when_it_counted() -> None:
    found = counter_steps([0, 90_000], [0, 9e6], max_w=1000).between(edges(0, 90_000))
    assert (found.kwh[0], found.covered_s[0]) == (0.0, 0.0)


def test_a_power_meter_that_was_silent_for_long_is_not_bridged() -> None:
    found = power_steps([0, 60, 1000, 1060], [100, 100, 900, 900], max_w=1000).between(edges(0, 1060))
    assert found.kwh[0] * 3.6e6 == pytest.approx(60 * 100 + 60 * 900)
    assert found.covered_s[0] == pytest.approx(120)


def test_a_meter_with_a_hole_is_scaled_and_one_that_saw_less_than_half_is_not_used() -> None:
    holed = Samples(
        at_s=(*(S0 + 60 * k for k in range(16)), *(S0 + 3600 - 60 * k for k in range(15, -1, -1))),
        values=(7200.0,) * 32,
    )
    adds = account_interval(hour(every_minute(6000.0), holed))["adds"]
    assert adds["kwh"]["metered"] == pytest.approx(7.2)
    assert adds["seconds"]["metered"] == pytest.approx(3600), "half an hour's silence of an hour is bridged"
    most = account_interval(hour(every_minute(6000.0), every_minute(7200.0, 40)))["adds"]
    assert most["kwh"]["metered"] == pytest.approx(7.2)
    assert most["seconds"]["metered"] == pytest.approx(2400)
    little = account_interval(hour(every_minute(6000.0), every_minute(7200.0, 20)))["adds"]
    assert little["kwh"]["metered"] == 0.0
    assert little["kwh"]["facility"] == pytest.approx(6.0 * 1.2)


def test_work_whose_gpus_nobody_measured_is_estimated_though_its_node_has_a_meter() -> None:
    adds = account_interval(hour(every_minute(6000.0)))["adds"]
    assert adds["kwh"]["jobs"] == pytest.approx(6.0)
    assert adds["workloads"]["a"]["estimatedKwh"] == pytest.approx(6.0 - 3.2)
    at = tuple(S0 + 60 * k for k in range(61))
    gpus = tuple(
        GpuMeter(
            node="n", samples=Samples(at_s=at, values=tuple(600.0 * (t - S0) for t in at)), counter=True,
            holders=({"a": 1.0},) * 61,
        )
        for _ in range(8)
    )  # fmt: skip
    measured = account_interval(hour(every_minute(6000.0), gpus=gpus))["adds"]
    assert measured["workloads"]["a"]["estimatedKwh"] == 0.0


def test_an_idle_node_without_a_meter_is_estimated() -> None:
    found = allocate([node(None)], overhead_kwh=0.0, meter_kwh=None)
    assert found.idle.estimated_kwh == pytest.approx(3.2)
    assert found.estimated_kwh == pytest.approx(found.it_kwh)


def test_processors_that_are_measured_take_their_part_of_the_dynamic_draw() -> None:
    uses = (
        GangUse(gang="a", gpu_seconds=4 * 3600.0, gpu_kwh=1.56),
        GangUse(gang="b", gpu_seconds=4 * 3600.0, gpu_kwh=1.56, cpu_kwh=1.0),
    )
    found = allocate([node(6.2, *uses)], overhead_kwh=0.0, meter_kwh=None).gangs
    assert found["a"].dynamic_kwh == pytest.approx(1.0)
    assert found["b"].dynamic_kwh == pytest.approx(2.0)


def test_a_counter_of_processors_reaches_the_account_of_its_gang() -> None:
    one = hour(every_minute(6200.0)).gangs[0]
    half = replace(one, stays=(replace(one.stays[0], gpus=4),))
    cpu = Samples(at_s=(S0, S0 + 3600), values=(0.0, 1.84 * 3.6e6))
    gangs = (half, replace(half, uid="b", cpu={"n": (cpu,)}))
    rows = account_interval(hour(every_minute(6200.0), gangs=gangs))["adds"]["workloads"]
    # Each drew 4 x 460 W above idle by assumption; b's processors drew as much again.
    assert rows["b"]["dynamicKwh"] == pytest.approx(2 * rows["a"]["dynamicKwh"])


def test_the_peak_of_an_interval_is_the_highest_that_its_meter_said() -> None:
    uneven = Samples(at_s=every_minute(0.0).at_s, values=tuple(7000.0 + 10 * k for k in range(61)))
    assert account_interval(hour(every_minute(6000.0), uneven))["peakKw"] == pytest.approx(7.59)


def test_embodied_carbon_goes_by_time() -> None:
    body, quarter = account_interval(hour()), account_interval(hour(end=T0 + timedelta(minutes=15)))
    assert quarter["adds"]["embodiedG"] == pytest.approx(body["adds"]["embodiedG"] / 4)


def test_on_a_shared_card_no_pod_is_taken_to_hold_it_alone() -> None:
    at = tuple(S0 + 60 * k for k in range(61))
    stay = Stay(node="n", gpus=8, start_s=S0, end_s=S0 + 3600)
    base = hour().gangs[0]
    gangs = (replace(base, stays=(stay,)), replace(base, uid="b", stays=(stay,)))
    gpus = tuple(
        GpuMeter(
            node="n", samples=Samples(at_s=at, values=tuple(500.0 * (t - S0) for t in at)), counter=True,
            holders=({"a": 1.0, "b": 1.0},) * 61,
        )
        for _ in range(8)
    )  # fmt: skip
    adds = account_interval(hour(every_minute(6200.0), gangs=gangs, gpus=gpus))["adds"]
    assert adds["workloads"]["a"]["gpuSeconds"] == pytest.approx(4 * 3600)
    assert adds["seconds"]["gpuReserved"] == pytest.approx(8 * 3600)


def test_between_two_samples_of_which_one_shows_it_a_gang_has_what_was_drawn_above_idle() -> None:
    """A pod that came half-way between two scrapes drew all that the step has above the GPU's idle draw."""
    at = (S0, S0 + 600, S0 + 3600)
    drawn = (300 * 140.0 + 300 * 600.0, 3000 * 600.0)
    gpu = GpuMeter(
        node="n", samples=Samples(at_s=at, values=(0.0, drawn[0], sum(drawn))), counter=True,
        holders=({}, {"a": 1.0}, {"a": 1.0}),
    )  # fmt: skip
    stay = Stay(node="n", gpus=1, start_s=S0 + 300, end_s=S0 + 3600)
    known = hour(gangs=(replace(hour().gangs[0], stays=(stay,)),), gpus=(gpu,))
    row = account_interval(known)["adds"]["workloads"]["a"]
    # No meter of the node: above idle come 3 % for the host.
    assert row["dynamicKwh"] == pytest.approx(3300 * (600.0 - 140.0) * 1.03 / 3.6e6)


def test_no_coefficient_of_the_overhead_is_below_zero() -> None:
    it = np.linspace(20.0, 60.0, 100)
    # A meter whose overhead falls with the load: no physics has a negative share.
    model = fit_overhead(it, it + 10.0 - 0.1 * it, None)
    assert model is not None
    assert min(model.fixed_kw, model.per_it, model.per_it_kelvin) >= 0.0
    assert model.kw(40.0) == pytest.approx(6.0, abs=0.5)
