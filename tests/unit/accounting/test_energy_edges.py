# SPDX-License-Identifier: Apache-2.0
"""Whose energy it is where work comes and goes: between two samples, at the edges of intervals, on a shared node."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from gpu_counters import IDLE_W, S0, T0, counter, gang, used

from embellie.accounting.attribution import gpu_use
from embellie.accounting.interval import account_interval
from embellie.accounting.known import Gang, GpuMeter, Machine, Samples, ZoneInterval
from embellie.accounting.meters import counter_steps, power_steps


def test_work_that_began_with_an_interval_whose_first_scrape_is_missing_leaves_nothing_in_the_one_before() -> None:
    """The step from -60 to 60 s lies across the edge; what it has above idle is drawn after it."""
    meter = counter([-120, -60, 60, 120, 180], [(0, 180, 600)], ["", "", "a", "a", "a"])
    energy, covered_s = used(meter, [gang("a", 0, 180)], -180, 0, 180)["a"]
    assert energy == pytest.approx([0.0, 180 * 600])
    assert covered_s == pytest.approx([0.0, 180.0])


def test_two_that_follow_each_other_between_two_scrapes_have_each_what_it_draws() -> None:
    spans = [(-600, 30, 700), (30, 600, 300)]
    meter = counter([-60, 0, 60, 120], spans, ["a", "a", "b", "b"])
    found = used(meter, [gang("a", -600, 30), gang("b", 30, 600)], -60, 120)
    assert found["a"] == (pytest.approx([90 * 700]), pytest.approx([90]))
    assert found["b"] == (pytest.approx([90 * 300]), pytest.approx([90]))


def test_a_gap_between_two_that_follow_each_other_draws_idle_power() -> None:
    spans = [(-600, 10, 700), (40, 600, 300)]
    meter = counter([-60, 0, 60, 120], spans, ["a", "a", "b", "b"])
    found = used(meter, [gang("a", -600, 10), gang("b", 40, 600)], 0, 60)
    assert found["a"][0] == pytest.approx([10 * 700])
    assert found["b"][0] == pytest.approx([20 * 300])


def test_a_run_between_two_scrapes_that_nobody_saw_alone_has_all_above_idle() -> None:
    meter = counter([-60, 0, 60, 120], [(20, 100, 600)], ["", "", "a", ""])
    energy, covered_s = used(meter, [gang("a", 20, 100)], -60, 120)["a"]
    assert energy == pytest.approx([80 * 600])
    assert covered_s == pytest.approx([80])


def test_an_end_that_was_noticed_late_takes_nothing_from_who_came_after() -> None:
    spans = [(-600, 30, 500), (30, 600, 500)]
    meter = counter([-60, 0, 60, 120], spans, ["a", "a", "b", "b"])
    found = used(meter, [gang("a", -600, 45), gang("b", 30, 600)], 0, 60)
    assert found["a"][0] == pytest.approx([30 * 500])
    assert found["b"][0] == pytest.approx([30 * 500])


def test_a_label_that_is_older_than_the_pod_s_end_is_put_right() -> None:
    spans = [(-600, 30, 500), (30, 600, 500)]
    meter = counter([0, 60, 120, 180], spans, ["a", "a", "b", "b"])
    found = used(meter, [gang("a", -600, 30), gang("b", 30, 600)], 0, 180)
    assert found["a"][1] == pytest.approx([30])
    assert found["b"][1] == pytest.approx([150]), "none of its time is left to an assumption"
    assert found["a"][0][0] + found["b"][0][0] == pytest.approx(180 * 500)


def test_a_label_that_comes_late_is_put_right_back_to_when_the_pod_came() -> None:
    meter = counter([0, 60, 120, 180], [(30, 600, 500)], ["", "", "a", "a"])
    energy, covered_s = used(meter, [gang("a", 30, 600)], 0, 180)["a"]
    assert covered_s == pytest.approx([150])
    assert energy == pytest.approx([150 * 500])


def test_a_label_that_contradicts_the_cluster_for_long_is_believed() -> None:
    meter = counter([0, 60, 120, 180, 240, 300], [(0, 300, 500)], ["a"] * 6)
    assert used(meter, [gang("a", -600, 10)], 0, 300)["a"][0] == pytest.approx([300 * 500])
    late = counter([0, 60, 120, 180, 240, 300], [(0, 300, 500)], ["", "", "", "", "a", "a"])
    assert used(late, [gang("a", 0, 600)], 0, 300)["a"][1] == pytest.approx([120])


def test_a_gang_that_the_cluster_does_not_know_has_half_of_the_steps_at_its_ends() -> None:
    meter = counter([0, 60, 120, 180], [(0, 180, 500)], ["", "a", "a", ""])
    assert used(meter, [], 0, 180)["a"][1] == pytest.approx([120])


def test_a_label_that_comes_late_on_a_card_that_another_holds_is_left_as_it_is() -> None:
    samples = counter([0, 60, 120, 180], [(0, 180, 500)], ["a"] * 4)
    both = [{"a": 1.0}, {"a": 1.0}, {"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 1.0}]
    found = used(replace(samples, holders=both), [gang("a", -600, 600), gang("b", 30, 600)], 0, 180)
    assert found["b"][1] == pytest.approx([60]), "half of the card, from the sample before the one that shows it"


def test_a_guess_across_a_reset_says_nothing_of_whose_the_next_step_is() -> None:
    spans = [(-600, 30, 700), (30, 600, 300)]
    meter = counter([-60, 0, 60, 120], spans, ["a", "a", "b", "b"])
    values = [meter.samples.values[0], *(v - meter.samples.values[1] for v in meter.samples.values[1:])]
    meter = replace(meter, samples=replace(meter.samples, values=tuple(values)))
    found = used(meter, [gang("a", -600, 30), gang("b", 30, 600)], 0, 60)
    assert found["a"][0] == pytest.approx([30 * 700])
    assert found["b"][0] == pytest.approx([30 * 300])


def test_a_step_with_less_than_idle_power_is_divided_without_going_below_nothing() -> None:
    meter = counter([-60, 0, 60, 120], [(-60, 120, 20)], ["", "", "a", "a"])
    energy, _ = used(meter, [gang("a", 50, 600)], 0, 50, 60)["a"]
    assert min(energy) >= 0.0
    assert sum(energy) <= 60 * 20


def test_a_gpu_s_power_stands_still_until_its_holder_comes_as_a_node_s_does() -> None:
    samples = Samples(at_s=tuple(S0 + at for at in (0, 60, 120, 180)), values=(100.0, 100.0, 700.0, 700.0))
    meter = GpuMeter(node="n", samples=samples, counter=False, holders=({}, {}, {"a": 1.0}, {"a": 1.0}))
    assert used(meter, [gang("a", 110, 600)], 0, 180)["a"][0] == pytest.approx([70 * 700])


def test_a_sample_that_is_no_number_takes_no_other_s_label() -> None:
    meter = counter([0, 60, 120, 180, 240], [(0, 240, 500)], ["a", "a", "", "b", "b"])
    values = (*meter.samples.values[:2], float("nan"), *meter.samples.values[3:])
    meter = replace(meter, samples=replace(meter.samples, values=values))
    found = used(meter, [gang("a", -600, 120), gang("b", 120, 600)], 0, 240)
    assert found["a"][1] == pytest.approx([120])
    assert found["b"][1] == pytest.approx([120])


def test_a_gpu_of_another_zone_s_node_takes_nothing_from_those_after_it() -> None:
    meter = counter([0, 60], [(0, 60, 500)], ["a", "a"])
    both, edges_s = [replace(meter, node="elsewhere"), meter], {"n": np.array([S0, S0 + 60])}
    found = gpu_use(both, [gang("a", 0, 60)], idle_w={}, edges_s=edges_s, longest_s=600.0)
    assert set(found) == {("a", "n")}


def test_a_guess_across_a_reset_is_the_mean_of_before_and_after() -> None:
    found = counter_steps([0, 60, 120, 180], [0, 60_000, 1000, 31_000], max_w=2000).between(np.array([60.0, 120.0]))
    assert found.kwh[0] * 3.6e6 == pytest.approx(60 * (1000 + 500) / 2)
    day = 90_000.0
    silent = counter_steps([0, 60, 60 + day, 120 + day], [0, 60_000, 1000, 31_000], max_w=2000)
    assert silent.between(np.array([60.0, 60 + day])).covered_s[0] == 0.0, "nobody guesses across more than a day"


def test_a_power_meter_stands_still_until_work_comes() -> None:
    edges = np.array([0.0, 60.0, 120.0])
    straight = power_steps([0, 60, 120], [100, 100, 700], max_w=1000).between(edges)
    assert (straight.kwh * 3.6e6).tolist() == pytest.approx([6000, 24_000])
    stepped = power_steps([0, 60, 120], [100, 100, 700], max_w=1000, changes_s=[70]).between(edges)
    assert (stepped.kwh * 3.6e6).tolist() == pytest.approx([6000, 10 * 100 + 50 * 700])
    at_the_end = power_steps([0, 60, 120], [100, 100, 700], max_w=1000, changes_s=[120]).between(edges)
    assert (at_the_end.kwh * 3.6e6).tolist() == pytest.approx([6000, 6000])
    two = power_steps([0, 60, 120], [100, 100, 700], max_w=1000, changes_s=[70, 100, 90]).between(edges)
    assert (two.kwh * 3.6e6)[1] == pytest.approx(10 * 100 + 30 * 400 + 20 * 700)
    silent = power_steps([0, 60, 1200], [100, 100, 700], max_w=1000, changes_s=[70]).between(np.array([0.0, 1200.0]))
    assert silent.covered_s[0] == pytest.approx(60)


def zone(start_s: float, end_s: float, gangs: Sequence[Gang], gpus: Sequence[GpuMeter], power: Samples) -> ZoneInterval:
    machine = Machine(name="n", gpus=2, idle_w=1000.0, gpu_idle_w=IDLE_W, host_share=0.0, power=power)
    return ZoneInterval(
        zone="west",
        start=T0 + timedelta(seconds=start_s),
        end=T0 + timedelta(seconds=end_s),
        machines=(machine,),
        gpus=tuple(gpus),
        gangs=tuple(gangs),
    )


MINUTES = [60.0 * k for k in range(-4, 20)]


def shown(uid: str, start_s: float, end_s: float, watts: float) -> GpuMeter:
    labels = [uid if start_s < at <= end_s else "" for at in MINUTES]
    return counter(MINUTES, [(start_s, end_s, watts)], labels)


def test_what_a_node_draws_beyond_its_gpus_belongs_to_who_was_there_then() -> None:
    """For five minutes `b` joins `a`, and fans draw 600 W more: over the whole quarter `a` would pay for them twice."""
    gangs = [gang("a", 0, 900), gang("b", 300, 600)]
    watts = [1000.0 + (500.0 if 0 <= at < 900 else 0.0) + (1100.0 if 300 <= at < 600 else 0.0) for at in MINUTES]
    power = Samples(at_s=tuple(S0 + at for at in MINUTES), values=tuple(watts))
    gpus = [shown("a", 0, 900, 600), shown("b", 300, 600, 600)]
    rows = account_interval(zone(0, 900, gangs, gpus, power))["adds"]["workloads"]
    assert rows["b"]["dynamicKwh"] * 3.6e6 == pytest.approx(300 * (500 + 300), rel=1e-6)
    assert rows["a"]["dynamicKwh"] * 3.6e6 == pytest.approx(900 * 500 + 300 * 300, rel=1e-6)


def test_two_intervals_give_work_across_their_edge_what_one_would() -> None:
    gangs = [gang("a", 100, 430), gang("b", 430, 800)]
    labels = ["a" if 100 < at <= 430 else "b" if 430 < at <= 800 else "" for at in MINUTES]
    meter = counter(MINUTES, [(100, 430, 600), (430, 800, 250)], labels)
    nothing = Samples()
    whole = account_interval(zone(0, 900, gangs, [meter], nothing))["adds"]["workloads"]
    for edge in (420.0, 430.0, 450.0, 455.0):
        parts = [account_interval(zone(a, b, gangs, [meter], nothing))["adds"] for a, b in ((0, edge), (edge, 900))]
        for uid in ("a", "b"):
            found = sum(part["workloads"].get(uid, {}).get("dynamicKwh", 0.0) for part in parts)
            assert found == pytest.approx(whole[uid]["dynamicKwh"], rel=1e-6), (edge, uid)


def test_processors_of_all_pods_of_a_gang_count_and_however_long_it_has_run() -> None:
    at = tuple(S0 + m for m in MINUTES)

    def drew(watts: float) -> Samples:
        return Samples(at_s=at, values=tuple(watts * (t - S0 + 600) for t in at))

    old = replace(gang("a", -360_000, float("inf")), cpu={"n": (drew(30.0), drew(70.0))})
    new = replace(gang("b", 0, float("inf")), cpu={"n": (drew(100.0),), "elsewhere": (drew(900.0),)})
    gpus = [
        counter(MINUTES, [(-240, 1200, 400)], ["a"] * len(MINUTES)),
        counter(MINUTES, [(0, 1200, 400)], ["" if m <= 0 else "b" for m in MINUTES]),
    ]
    power = Samples(at_s=at, values=tuple(1800.0 for _ in at))
    rows = account_interval(zone(0, 900, [old, new], gpus, power))["adds"]["workloads"]
    assert rows["a"]["dynamicKwh"] == pytest.approx(rows["b"]["dynamicKwh"])
    assert rows["a"]["dynamicKwh"] * 3.6e6 == pytest.approx(900 * 400)


def test_a_meter_that_was_silent_in_one_stretch_is_taken_at_its_mean_power_there() -> None:
    """Silent from 660 s on, in the stretch of `b`: at the mean power of all that was heard."""
    gangs = [gang("a", 0, 600), gang("b", 600, 900)]
    heard = [m for m in MINUTES if m <= 660]
    power = Samples(at_s=tuple(S0 + m for m in heard), values=tuple(1500.0 if m < 600 else 1300.0 for m in heard))
    adds = account_interval(zone(0, 900, gangs, (), power))["adds"]
    mean_w = (600 * 1500 + 60 * 1300) / 660
    total = (adds["kwh"]["jobs"] + adds["kwh"]["idle"]) * 3.6e6
    assert total == pytest.approx(600 * 1500 + 60 * 1300 + 240 * mean_w)
    assert adds["workloads"]["a"]["dynamicKwh"] * 3.6e6 == pytest.approx(600 * 500)


def test_processors_count_once_however_many_stretches_an_interval_has() -> None:
    at = tuple(S0 + m for m in MINUTES)
    busy = Samples(at_s=at, values=tuple(100.0 * (t - S0 + 600) for t in at))
    a = replace(gang("a", 0, float("inf")), cpu={"n": (busy,)})
    b = gang("b", 450, float("inf"))
    gpus = [
        counter(MINUTES, [(0, 1200, 400)], ["" if m <= 0 else "a" for m in MINUTES]),
        counter(MINUTES, [(450, 1200, 400)], ["" if m <= 450 else "b" for m in MINUTES]),
    ]
    power = Samples(at_s=at, values=tuple(1400.0 if m < 450 else 1700.0 for m in MINUTES))
    rows = account_interval(zone(0, 900, [a, b], gpus, power))["adds"]["workloads"]
    # From 450 s on the node draws 700 W above idle: 300 + 100 of a's part, 300 of b's.
    assert rows["a"]["dynamicKwh"] * 3.6e6 == pytest.approx(450 * 400 + 450 * 400)
    assert rows["b"]["dynamicKwh"] * 3.6e6 == pytest.approx(450 * 300)


def test_more_gpus_reserved_than_a_node_has_share_its_idle_draw_and_no_more() -> None:
    body = account_interval(zone(0, 900, [gang("a", 0, 900, 2), gang("b", 0, 900, 2)], (), Samples()))
    rows = body["adds"]["workloads"]
    assert sum(row["idleKwh"] for row in rows.values()) * 3.6e6 == pytest.approx(900 * 1000)


def test_an_account_names_only_work_that_was_there() -> None:
    gangs = [gang("gone", -3600, -60), gang("a", 0, 900), gang("next", 900, 1800)]
    body = account_interval(zone(0, 900, gangs, (), Samples()))
    assert set(body["names"]) == {"a"} == set(body["adds"]["workloads"])


def test_a_gpu_s_counter_that_stands_still_is_no_proof_that_nothing_was_drawn() -> None:
    at = range(-240, 1141, 60)
    held = counter(at, [(-240, 1140, 600.0)], ["a"] * len(at))
    still = replace(held, samples=Samples(at_s=held.samples.at_s, values=(5e6,) * len(at)))
    assert used(held, [gang("a", -3600, 7200)], 0, 900) == {"a": ([540_000.0], [900.0])}
    assert used(still, [gang("a", -3600, 7200)], 0, 900) == {}
