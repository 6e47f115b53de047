# SPDX-License-Identifier: Apache-2.0
"""Work that no sample ever showed has the energy of the GPUs that nobody is seen to hold; it is a guess."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from gpu_counters import IDLE_W, S0, T0, counter, gang, used

from embellie.accounting.attribution import gpu_use
from embellie.accounting.interval import account_interval
from embellie.accounting.known import Gang, GpuMeter, Machine, Samples, ZoneInterval
from embellie.accounting.meters import power_steps

SILENT = (-60.0, 0.0, 2400.0, 2460.0)
"""Nobody scraped for forty minutes."""


def on_node(meters: Sequence[GpuMeter], gangs: Sequence[Gang], *edges: float) -> dict[str, list[float]]:
    found = gpu_use(
        meters, gangs, idle_w={"n": IDLE_W}, edges_s={"n": np.array([S0 + e for e in edges])}, longest_s=600.0
    )
    return {uid: (one.kwh * 3.6e6).round(3).tolist() for (uid, _), one in found.items()}


def test_work_that_came_and_went_in_a_silence_has_what_the_counter_says_of_it_and_only_while_it_was_there() -> None:
    meter = counter(SILENT, [(600, 1500, 600)], [""] * 4)
    work = gang("a", 600, 1500)
    assert used(meter, [work], 0, 900, 1800)["a"] == (
        pytest.approx([300 * 600, 600 * 600]),
        pytest.approx([300, 600]),
    )


def test_several_that_no_sample_shows_share_what_their_gpus_drew_by_gpu_time() -> None:
    """Which of the GPUs was whose, nobody knows; what both drew together is known."""
    meters = [counter(SILENT, [(600, 1500, 700)], [""] * 4), counter(SILENT, [(600, 1050, 400)], [""] * 4)]
    found = on_node(meters, [gang("a", 600, 1500), gang("b", 600, 1050)], 0, 2400)
    above = 900 * 600 + 450 * 300
    assert found["a"][0] == pytest.approx(900 * IDLE_W + above * 2 / 3)
    assert found["b"][0] == pytest.approx(450 * IDLE_W + above * 1 / 3)


def test_who_had_the_gpu_before_is_not_billed_for_work_that_no_sample_shows() -> None:
    meter = counter(SILENT, [(-600, 300, 500), (600, 1500, 700)], ["a", "a", "", ""])
    found = used(meter, [gang("a", -600, 300), gang("b", 600, 1500)], -60, 2400)
    assert found["a"][0] == pytest.approx([360 * 500])
    assert found["b"][0] == pytest.approx([900 * 700])


def test_a_pod_between_two_scrapes_has_its_energy_too() -> None:
    meter = counter([0, 60, 120], [(10, 40, 650)], ["", "", ""])
    assert used(meter, [gang("a", 10, 40)], 0, 120)["a"][0] == pytest.approx([30 * 650])


def test_work_cannot_have_had_more_gpus_than_stood_free() -> None:
    meter = counter([0, 60, 120], [(0, 120, 300)], ["", "", ""])
    assert sum(one[0] for one in on_node([meter], [gang("a", 0, 120, gpus=8)], 0, 120).values()) <= 120 * 300 + 1e-6


def test_what_is_divided_among_work_that_no_sample_shows_counts_as_estimated() -> None:
    at = [60.0 * k for k in range(16)]
    meters = tuple(counter(at, [(0, 900, 500)], [""] * 16) for _ in range(2))
    known = ZoneInterval(
        zone="west", start=T0, end=T0.replace(minute=15), gpus=meters, gangs=(gang("a", 0, 900, gpus=2),),
        machines=(Machine(name="n", gpus=2, idle_w=800.0, gpu_idle_w=IDLE_W, host_share=0.0),),
    )  # fmt: skip
    adds = account_interval(known)["adds"]
    row = adds["workloads"]["a"]
    assert row["dynamicKwh"] == pytest.approx(2 * 400 * 900 / 3.6e6), "not the 700 W that are assumed of it"
    assert row["estimatedKwh"] == pytest.approx(row["dynamicKwh"] + row["idleKwh"])
    assert adds["seconds"]["gpuCovered"] == 0.0, "no telemetry says whose GPU it was"
    node = Samples(at_s=tuple(S0 + at_s for at_s in at), values=(1600.0,) * len(at))
    metered = account_interval(replace(known, machines=(replace(known.machines[0], power=node),)))["adds"]
    guess = metered["workloads"]["a"]
    assert guess["estimatedKwh"] == pytest.approx(guess["dynamicKwh"]), (
        "whose GPUs drew it, the node's meter cannot say"
    )
    assert guess["dynamicKwh"] > 0.0
    labelled = tuple(replace(meter, holders=tuple({"a": 1.0} for _ in at)) for meter in meters)
    again = account_interval(replace(known, gpus=labelled))["adds"]
    assert again["workloads"]["a"]["dynamicKwh"] == pytest.approx(row["dynamicKwh"])
    assert again["seconds"]["gpuCovered"] == pytest.approx(2 * 900)


def test_an_end_that_was_noticed_after_the_sample_that_shows_it_lies_before_that_sample() -> None:
    """It lies in the seconds by which ends are noticed late, and not in the middle of a minute without samples."""
    at, watts = [0, 60, 120, 240, 300], [1000.0, 1000.0, 1000.0, 200.0, 200.0]
    found = power_steps(at, watts, max_w=5000, changes_s=[246]).between(np.array([0.0, 300.0]))
    # Noticed at 246, so that it ended between 231 and 240.
    assert found.kwh[0] * 3.6e6 == pytest.approx(235.5 * 1000 + 64.5 * 200)
    began = power_steps(at, [200.0, 200.0, 200.0, 200.0, 1000.0], max_w=5000, changes_s=[246]).between(
        np.array([0.0, 300.0])
    )
    assert began.kwh[0] * 3.6e6 == pytest.approx(246 * 200 + 54 * 1000), "a beginning is known to the second"
