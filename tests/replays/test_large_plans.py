# SPDX-License-Identifier: Apache-2.0
"""Plans too large for the unit tests: 100,000 jobs must not kill the planner."""

import math

from embellie.planning.solving.audit import violations
from embellie.planning.solving.instances import random_instance
from embellie.planning.solving.problem import Stage
from embellie.planning.solving.solver import Effort, solve


def test_100_000_jobs_get_a_valid_plan_with_its_bound() -> None:
    problem = random_instance(jobs=100_000, zones=3, hours=96, load=0.4, future=0.3, seed=0)
    plan = solve(
        problem, budget_s=math.inf, clock=lambda: 0.0, effort=Effort(first_iterations=2, iterations=2, improve=False)
    )
    assert plan.stage is Stage.GREEDY
    assert violations(problem, plan) == 0
    assert 0 < plan.lower_bound <= plan.objective
    assert plan.unplaced < 0.2 * problem.jobs.count
