# SPDX-License-Identifier: Apache-2.0
"""The oracle that has the operator's own means: what fits for its whole run, and what a pause makes fit."""

from typing import Any

import numpy as np
import pytest

from embellie.simulation.drill.jobs import DrillJob
from embellie.simulation.drill.oracle import STEP_S, added_kw
from embellie.simulation.drill.own_means import useful_by_own_means_gpu_s
from embellie.simulation.drill.scenarios import course
from embellie.simulation.drill.site import zone_sizes
from embellie.simulation.plant import PlantSpec
from embellie.simulation.plant.exchange import Array

SPEC = PlantSpec()
HOUR = round(3600.0 / STEP_S)
"""Steps of an hour."""


class HotHours:
    """The loop carries one gang beside its idle nodes, but for some hours; the rows carry nothing."""

    def __init__(self, begin_h: float = 0.0, end_h: float = 0.0) -> None:
        self.begin_s, self.end_s = 3600.0 * begin_h, 3600.0 * end_h
        self.idle_kw = np.array(list(zone_sizes(SPEC).values())) * SPEC.node.idle_kw

    def zone_kw(self, now_s: float) -> Array:
        hot = self.begin_s <= now_s < self.end_s
        return self.idle_kw + np.array([0.0, 0.0, 0.0 if hot else added_kw(SPEC, job())])

    def site_kw(self, _: float) -> float:
        return 1e6


def job(name: str = "j", **changes: Any) -> DrillJob:
    base: dict[str, Any] = {
        "id": name, "submit_s": 0.0, "work_s": 5 * 3600.0, "pods": 2, "gpus_per_pod": 8, "watts": 640.0,
        "stated_s": 7200.0, "latest_start_s": 7200.0, "priority": 1, "pausable": True, "checkpoint_s": 120.0,
        "checkpoint_every_s": 300.0,
    }  # fmt: skip
    return DrillJob(**(base | changes))


def gpus_at_work(jobs: list[DrillJob], limits: HotHours) -> Array:
    """Return the mean number of GPUs at work in each step of 26 hours."""
    return useful_by_own_means_gpu_s(SPEC, course("heatwave", 0), jobs, limits) / STEP_S  # type: ignore[arg-type]


def test_what_fits_for_its_whole_run_starts_at_once_and_the_next_follows_when_it_is_through():
    found = gpus_at_work([job("b"), job("a")], HotHours())
    assert found[: 5 * HOUR].tolist() == [16.0] * 5 * HOUR
    assert found.sum() * STEP_S == pytest.approx(2 * 16 * 5 * 3600.0)
    # The first holds its GPUs a little longer than it works: its pods started first.
    assert found[5 * HOUR] == 0.0


def test_what_may_not_be_paused_waits_until_its_whole_true_run_fits_whatever_was_said_of_it():
    found = gpus_at_work([job(pausable=False)], HotHours(4.0, 6.0))
    assert not found[: 6 * HOUR].any()
    assert found.sum() * STEP_S == pytest.approx(16 * 5 * 3600.0)
    assert gpus_at_work([job(pausable=False, work_s=3.9 * 3600.0)], HotHours(4.0, 6.0))[0] == 16.0


def test_a_pause_costs_checkpoint_grace_and_a_second_start():
    found = gpus_at_work([job()], HotHours(4.0, 6.0))
    worked = np.flatnonzero(found)
    # 120 s of checkpoint and 120 s of grace: the last step before it gets hot; then it goes on as soon as it is not.
    assert found[4 * HOUR - 2] == pytest.approx(16 * (1.0 - SPEC.control.start_delay_s / STEP_S))
    assert not found[4 * HOUR - 1 : 6 * HOUR].any()
    assert worked[0] == 0
    assert found[6 * HOUR] == 16.0
    assert found.sum() * STEP_S == pytest.approx(16 * 5 * 3600.0)


def test_nothing_starts_to_be_paused_for_longer_than_a_pause_may_last_or_after_a_quarter_of_an_hour():
    assert gpus_at_work([job()], HotHours(4.0, 7.8))[0] == 16.0
    assert gpus_at_work([job()], HotHours(4.0, 8.1))[0] == 0.0
    assert gpus_at_work([job()], HotHours(0.25, 2.0))[0] == 0.0


def test_what_is_to_go_on_later_keeps_its_place_from_what_comes_meanwhile():
    long, late = job("a"), job("b", submit_s=5 * 3600.0, pausable=False)
    found = gpus_at_work([long, late], HotHours(4.0, 6.0))
    alone = gpus_at_work([long], HotHours(4.0, 6.0))
    assert found[: 7 * HOUR].tolist() == alone[: 7 * HOUR].tolist()
    assert found.max() == 16.0
    assert found.sum() * STEP_S == pytest.approx(2 * 16 * 5 * 3600.0)
