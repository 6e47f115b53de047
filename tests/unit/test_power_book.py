# SPDX-License-Identifier: Apache-2.0
"""What nodes and jobs draw, learnt from what exporters say."""

import numpy as np
import pytest

from embellie.control.power import PowerBook
from embellie.telemetry.exporters import Measurement


def measured(quantity: str, value: float, node: str, **more) -> Measurement:
    return Measurement(quantity=quantity, unit="watts", value=value, node=node, **more)


def test_a_node_without_a_meter_is_reckoned_by_the_law_of_those_with_one():
    book, random = PowerBook(), np.random.default_rng(0)
    for _ in range(120):
        found = []
        for node in ("a", "b"):
            gpu = random.uniform(500, 5000)
            found += [measured("gpu_power", gpu, node, device="g"), measured("node_power", 2000 + 1.05 * gpu, node)]
        book.take(found)
    assert book.law is not None
    book.take([measured("gpu_power", 1000.0, "c", device="g")])
    assert book.zone_kw(["c"]) == pytest.approx(3.05, rel=0.02)
    assert book.zone_kw(["c", "unknown"]) is None
    assert book.zone_kw([]) is None


def test_jobs_and_idle_nodes_are_learnt_from_what_exporters_say():
    book = PowerBook()
    for _ in range(35):
        book.take(
            [
                measured("gpu_power", 500.0, "a", device="g", namespace="lab", pod="train-1-x7k2p"),
                measured("node_power", 5000.0, "a"),
                measured("gpu_power", 70.0, "b", device="h"),
                measured("node_power", 2100.0, "b"),
            ]
        )
    found = book.class_power("lab", "train-7")
    assert found is not None
    assert found.mean_w == pytest.approx(500.0)
    assert found.worst_w() is None, "half an hour of one run proves no worst case"
    assert book.class_power("lab", "other") is None
    assert book.idle_watts("b") == pytest.approx(2100.0)
    assert book.idle_watts("a") is None


def test_what_runs_under_a_cap_teaches_nothing_of_what_it_would_draw_without():
    book = PowerBook()
    book.capped = frozenset({"a"})
    for k in range(40):
        pods = [("a", 420.0, "train-1-x7k2p"), ("b", 650.0, "train-2-x7k2p")][: 1 + (k > 3)]
        book.take([measured("gpu_power", w, n, device="g", namespace="lab", pod=p) for n, w, p in pods])
    found = book.class_power("lab", "train-7")
    assert found is not None
    assert found.mean_w == pytest.approx(650.0)
