# SPDX-License-Identifier: Apache-2.0
"""Power in a zone may not rise faster than its ramp: the plan spreads starts over slots, and says so."""

import math
from dataclasses import replace

import numpy as np
import pytest

from embellie.planning.solving.audit import violations
from embellie.planning.solving.certificate import instance_from_dict, instance_to_dict
from embellie.planning.solving.inputs import make_jobs, make_zones
from embellie.planning.solving.problem import Binding, Problem, Solution
from embellie.planning.solving.solver import Effort, solve


def problem(ramp_kw: float, *, jobs: int = 3, power_kw: float = 4.0, pausable: bool = False) -> Problem:
    """Return equal jobs of two hours over 8 slots, the first two of which are clean, with room for all at once."""
    rate = np.full((1, 8), 400.0)
    rate[0, :2] = 100.0
    return Problem(
        edges_h=np.arange(9.0),
        zones=make_zones(cost_per_kwh=rate, gpus=np.full((1, 8), 64.0), ramp_kw=np.full((1, 8), ramp_kw)),
        jobs=make_jobs(
            gpus=[8.0] * jobs,
            power_kw=power_kw,
            duration_h=2.0,
            unplaced_cost=1e6,
            n_zones=1,
            n_slots=8,
            pausable=pausable,
        ),
    )


def answer(asked: Problem) -> Solution:
    plan = solve(asked, budget_s=math.inf, clock=lambda: 0.0, effort=Effort(iterations=10, rounds=2))
    assert violations(asked, plan) == 0
    assert plan.lower_bound <= plan.objective
    return plan


@pytest.mark.parametrize("pausable", [False, True])
def test_no_more_power_starts_in_a_slot_than_the_ramp_allows(pausable: bool) -> None:
    assert answer(problem(math.inf, pausable=pausable)).start.tolist() == [0, 0, 0]
    assert sorted(answer(problem(8.0, pausable=pausable)).start.tolist())[:2] == [0, 0]
    assert len(set(answer(problem(4.0, pausable=pausable)).start.tolist())) == 3


def test_a_gang_larger_than_the_ramp_of_a_slot_starts_alone() -> None:
    assert sorted(answer(problem(3.0, jobs=2)).start.tolist()) != [0, 0]
    assert answer(problem(3.0, jobs=1)).start.tolist() == [0]


def test_zones_that_share_cooling_share_its_ramp() -> None:
    two = problem(4.0, jobs=2)
    zones = make_zones(cost_per_kwh=np.full((2, 8), 100.0), gpus=np.full((2, 8), 8.0))
    shared = replace(zones, ramp_group=np.array([0, 0]), ramp_kw=np.full((1, 8), 4.0))
    jobs = make_jobs(gpus=[8.0] * 2, power_kw=4.0, duration_h=2.0, unplaced_cost=1e6, n_zones=2, n_slots=8)
    assert len(set(answer(replace(two, zones=shared, jobs=jobs)).start.tolist())) == 2


def test_the_ramp_is_named_as_what_binds_and_survives_the_file() -> None:
    asked = problem(4.0)
    assert Binding.RAMP in answer(asked).binding.tolist()
    again = instance_from_dict(instance_to_dict(asked))
    assert again.zones.ramp_kw.tolist() == asked.zones.ramp_kw.tolist()
    old = instance_to_dict(asked)
    del old["zones"]["ramp_kw"], old["zones"]["ramp_group"]
    assert instance_from_dict(old).zones.ramp_group.tolist() == [-1]


def test_the_audit_sees_a_ramp_that_is_broken() -> None:
    asked = problem(4.0)
    assert violations(asked, answer_without_ramp(asked)) > 0


def answer_without_ramp(asked: Problem) -> Solution:
    free = replace(asked, zones=replace(asked.zones, ramp_kw=np.full((1, 8), math.inf)))
    return answer(free)
