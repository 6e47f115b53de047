# SPDX-License-Identifier: Apache-2.0
"""Plans too large for the unit tests: the proof against HiGHS on 300 jobs, and 100,000 jobs that must not kill it."""

import math

import numpy as np
from scipy.optimize import LinearConstraint, milp
from scipy.sparse import coo_matrix

from embellie.planning.audit import violations
from embellie.planning.instances import random_instance
from embellie.planning.problem import Problem, Stage
from embellie.planning.solver import Effort, solve


def runs_as_columns(problem: Problem) -> tuple[list[float], LinearConstraint]:
    """Return costs and rows: a column for each run of each job in each zone, and for each job without a place."""
    jobs, zones, slots = problem.jobs, problem.zones, problem.n_slots
    cost: list[float] = []
    entries: list[tuple[int, int, float]] = []
    rows = 2 * problem.n_zones * slots
    for job in range(jobs.count):
        length = round(jobs.duration_h[job])
        entries.append((rows + job, len(cost), 1.0))
        cost.append(float(jobs.unplaced_cost[job]))
        for zone in np.flatnonzero(jobs.zones[job]):
            for start in range(jobs.release[job], jobs.latest_start[job] + 1):
                entries.append((rows + job, len(cost), 1.0))
                for slot in range(start, start + length):
                    entries.append((zone * slots + slot, len(cost), jobs.gpus[job]))
                    entries.append(((problem.n_zones + zone) * slots + slot, len(cost), jobs.limit_kw[job]))
                cost.append(float(jobs.power_kw[job] * zones.cost_per_kwh[zone, start : start + length].sum()))
    row, column, value = zip(*entries, strict=True)
    low = np.concatenate([np.full(rows, -np.inf), np.ones(jobs.count)])
    high = np.concatenate([zones.gpus.reshape(-1), zones.heat_kw.reshape(-1), np.ones(jobs.count)])
    return cost, LinearConstraint(coo_matrix((value, (row, column)), shape=(low.size, len(cost))).tocsr(), low, high)


def test_on_300_jobs_bound_lp_milp_and_plan_stand_in_this_order() -> None:
    problem = random_instance(jobs=300, zones=3, hours=36, load=0.4, future=0.3, seed=5, pausable=0.0)
    plan = solve(problem, budget_s=math.inf, clock=lambda: 0.0, effort=Effort(iterations=60, rounds=4))
    cost, rows = runs_as_columns(problem)
    lp = milp(cost, constraints=rows, bounds=(0, 1))
    # It ends by a gap, never by a clock; its own dual bound is what no integral plan undercuts.
    best = milp(cost, constraints=rows, bounds=(0, 1), integrality=np.ones(len(cost)), options={"mip_rel_gap": 0.005})
    assert (lp.status, best.status) == (0, 0)
    slack = 1e-6 * best.fun
    assert plan.lower_bound <= lp.fun + slack
    assert lp.fun <= best.mip_dual_bound + slack
    assert best.mip_dual_bound <= best.fun + slack
    assert best.mip_dual_bound <= plan.objective + slack
    assert plan.lower_bound <= best.fun + slack


def test_100_000_jobs_get_a_valid_plan_with_its_bound() -> None:
    problem = random_instance(jobs=100_000, zones=3, hours=96, load=0.4, future=0.3, seed=0)
    plan = solve(
        problem, budget_s=math.inf, clock=lambda: 0.0, effort=Effort(first_iterations=2, iterations=2, improve=False)
    )
    assert plan.stage is Stage.GREEDY
    assert violations(problem, plan) == 0
    assert 0 < plan.lower_bound <= plan.objective
    assert plan.unplaced < 0.2 * problem.jobs.count
