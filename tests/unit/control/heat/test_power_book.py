# SPDX-License-Identifier: Apache-2.0
"""What nodes and jobs draw, learnt from what exporters say, and how it reaches the snapshot."""

from datetime import timedelta

import numpy as np
import pytest
from told_power import told

from embellie.control.heat.power import IDLE_SAMPLES, PowerBook
from embellie.thermal.job_power import MEMORY, WORST_SAMPLES, JobPower
from embellie.thermal.power import WORST_CASE_FACTOR
from embellie_testbed.views import NOW, assembled, bare_pod, job, running_pod, thermal_zone, view


def test_a_node_without_a_meter_is_reckoned_by_the_law_of_those_with_one():
    book, random = PowerBook(), np.random.default_rng(0)
    for _ in range(120):
        found = []
        for node in ("a", "b"):
            gpu = random.uniform(500, 5000)
            found += [told("gpu_power", gpu, node, device="g"), told("node_power", 2000 + 1.05 * gpu, node)]
        book.take(found)
    assert book.law is not None
    book.take([told("gpu_power", 1000.0, "c", device="g")])
    assert book.zone_kw(["c"]) == pytest.approx(3.05, rel=0.02)
    assert book.zone_kw(["c", "unknown"]) is None
    assert book.zone_kw([]) is None


def test_jobs_and_idle_nodes_are_learnt_from_what_exporters_say():
    book = PowerBook()
    for _ in range(35):
        book.take(
            [
                told("gpu_power", 500.0, "a", "train-1-x7k2p", "g"),
                told("node_power", 5000.0, "a"),
                told("gpu_power", 70.0, "b", device="h"),
                told("node_power", 2100.0, "b"),
            ]
        )
    found = book.class_power("research", "train-7")
    assert found is not None
    assert found.mean_w == pytest.approx(500.0)
    assert found.worst_w() is None, "half an hour of one run proves no worst case"
    assert book.class_power("research", "other") is None
    assert book.idle_watts("b") == pytest.approx(2100.0)
    assert book.idle_watts("a") is None


def test_what_runs_under_a_cap_teaches_nothing_of_what_it_would_draw_without():
    book = PowerBook()
    book.capped = frozenset({"a"})
    for k in range(40):
        pods = [("a", 420.0, "train-1-x7k2p"), ("b", 650.0, "train-2-x7k2p")][: 1 + (k > 3)]
        book.take([told("gpu_power", w, n, p, "g") for n, w, p in pods])
    found = book.class_power("research", "train-7")
    assert found is not None
    assert found.mean_w == pytest.approx(650.0)


def test_a_worst_case_is_learnt_from_what_ran_with_its_margin_and_peaks_are_kept_in_mind():
    power = JobPower()
    for k in range(WORST_SAMPLES):
        power.observe("lab/train", {"train-1": 400.0 if k % 10 else 520.0})
    learnt = power.of("lab/train")
    assert learnt is not None
    assert learnt.worst_w("train-1") == pytest.approx(
        WORST_CASE_FACTOR * max(learnt.peak_w, learnt.mean_w + 3.0 * learnt.sd_w)
    )
    assert learnt.worst_w("train-1") > WORST_CASE_FACTOR * 500.0
    assert learnt.worst_w("train-2") is None, "one run says nothing of the next"
    for run in ("train-2", "train-3"):
        power.observe("lab/train", {run: 400.0})
    assert power.of("lab/train").worst_w("train-9") is not None
    for _ in range(int(6 * MEMORY)):
        power.observe("lab/train", {"train-4": 300.0})
    assert power.of("lab/train").worst_w() == pytest.approx(WORST_CASE_FACTOR * 300.0, rel=0.1), "peaks are forgotten"


def test_a_gang_whose_pods_all_tell_for_minutes_has_shown_no_more_than_one_run_in_these_minutes():
    book = PowerBook()
    pods = [f"train-{k}-x7k2p" for k in range(64)]
    for _ in range(WORST_SAMPLES - 1):
        book.take([told("gpu_power", 110.0 + k, "west-0", pod) for k, pod in enumerate(pods)])
        power = book.class_power("research", "train")
        assert power is None or power.worst_w(pods[0]) is None
    book.take([told("gpu_power", 110.0, "west-0", pod) for pod in pods])
    power = book.class_power("research", "train")
    assert power is not None
    assert power.worst_w(pods[0]) >= WORST_CASE_FACTOR * (110.0 + 63) * 0.9, "the hottest of its pods counts"
    assert power.worst_w("train-99-x7k2p") is None, "that one gang says nothing of the next"


def learnt_book() -> PowerBook:
    book = PowerBook()
    for k in range(WORST_SAMPLES):
        pod = f"train-{k % 3}-x7k2p"
        book.take([
            told("gpu_power", 400.0, "west-0", pod), told("node_power", 5000.0, "west-0"),
            told("gpu_power", 60.0, "west-1", device="g1"), told("node_power", 1500.0, "west-1"),
        ])  # fmt: skip
    return book


def test_what_runs_counts_at_what_its_class_was_seen_to_draw_and_never_above_its_rating():
    pod = running_pod("train-1-x7k2p", "west-0", gpus=8, started=NOW - timedelta(hours=3))
    before = assembled(view=view(pods=[pod])).snapshot.running[0]
    after = assembled(view=view(pods=[pod]), learnt=learnt_book()).snapshot.running[0]
    assert after.power_kw < before.power_kw
    assert after.worst_power_kw < before.worst_power_kw
    assert after.worst_power_kw >= after.power_kw
    hotter = PowerBook()
    for _ in range(WORST_SAMPLES):
        hotter.take([told("gpu_power", 1500.0, "west-0", "train-1-x7k2p")])
    assert assembled(view=view(pods=[pod]), learnt=hotter).snapshot.running[0].worst_power_kw == before.worst_power_kw


def test_a_pod_that_was_submitted_again_under_its_old_name_is_not_the_one_that_was_metered():
    book = PowerBook()
    for _ in range(WORST_SAMPLES):
        book.take([told("gpu_power", 400.0, "west-0", "train")])

    def worst_kw(ran: timedelta, learnt: PowerBook) -> float:
        pod = running_pod("train", "west-0", gpus=8, started=NOW - ran)
        return assembled(view=view(pods=[pod]), learnt=learnt).snapshot.running[0].worst_power_kw

    rated_kw = worst_kw(timedelta(hours=3), PowerBook())
    assert worst_kw(timedelta(hours=3), book) < rated_kw
    assert worst_kw(timedelta(minutes=1), book) == rated_kw
    on_its_way = bare_pod("train", gpus=8, held=False, cell="west")
    made = assembled(view=view(on_its_way), learnt=book, bounds={on_its_way.key.uid: NOW})
    assert [gang.worst_power_kw for gang in made.snapshot.running] == [rated_kw]


def test_what_is_planned_counts_at_its_class_once_enough_runs_of_it_were_seen():
    declared = assembled(job("train-9")).snapshot.workloads[0]
    learnt = assembled(job("train-9"), learnt=learnt_book()).snapshot.workloads[0]
    assert learnt.power_kw < declared.power_kw
    assert learnt.worst_power_kw < declared.worst_power_kw
    other = assembled(job("evaluate"), learnt=learnt_book()).snapshot.workloads[0]
    assert other.worst_power_kw == declared.worst_power_kw


def test_what_idle_nodes_draw_is_learnt_and_reaches_both_zones():
    zone = thermal_zone("west-r1", cooling={"capacityKilowatts": 50})
    before, after = (
        assembled(job(), thermal_zones=(zone,), **more).snapshot for more in ({}, {"learnt": learnt_book()})
    )
    stated_w = 1000.0 * before.thermal_zones[0].base_power_kw / 4
    told_w = 1000.0 * (before.thermal_zones[0].base_power_kw - after.thermal_zones[0].base_power_kw)
    assert told_w == pytest.approx(stated_w - 1500.0)
    west = [next(z for z in s.grid_zones if z.name == "west").base_power_kw for s in (before, after)]
    assert west[1] < west[0]


def test_where_no_exporter_names_pods_no_node_is_taken_for_idle():
    book = PowerBook()
    for _ in range(2 * IDLE_SAMPLES):
        book.take([told("gpu_power", 700.0, "a"), told("node_power", 6000.0, "a")])
    assert book.idle_watts("a") is None
