# SPDX-License-Identifier: Apache-2.0
"""Problems that are small enough to be planned in a test, and their plans."""

import math

import numpy as np

from embellie.planning.solving.inputs import make_jobs, make_zones
from embellie.planning.solving.instances import random_instance
from embellie.planning.solving.problem import Prices, Problem, Solution
from embellie.planning.solving.solver import Effort, solve

LIGHT = Effort(iterations=60, rounds=4)


def still() -> float:
    return 0.0


def answer(problem: Problem, effort: Effort = LIGHT, warm: Prices | None = None) -> Solution:
    return solve(problem, budget_s=math.inf, clock=still, effort=effort, warm=warm)


def instance(jobs: int, seed: int, hours: int = 48, load: float = 0.5, pausable: float = 0.6) -> Problem:
    return random_instance(jobs=jobs, zones=3, hours=hours, load=load, future=0.3, seed=seed, pausable=pausable)


def small(**told: object) -> Problem:
    """Return one zone of 8 GPUs over 12 slots, clean from slot 6 to 8."""
    rate = np.full((1, 12), 400.0)
    rate[0, 6:8] = 100.0
    zones = told.pop("zones", make_zones(cost_per_kwh=rate, gpus=np.full((1, 12), 8.0)))
    basics = {"gpus": [8.0], "power_kw": 4.0, "duration_h": 2.0, "unplaced_cost": 1e5, "n_zones": 1, "n_slots": 12}
    jobs = make_jobs(**{**basics, **told})  # type: ignore[arg-type]
    slots = np.arange(zones.cost_per_kwh.shape[1] + 1.0)  # type: ignore[attr-defined]
    return Problem(edges_h=slots, zones=zones, jobs=jobs)  # type: ignore[arg-type]
