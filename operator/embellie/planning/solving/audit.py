# SPDX-License-Identifier: Apache-2.0
"""Counts what a plan does wrong, from the plan alone: the shield of the planner's own bookkeeping."""

import numpy as np

from embellie.planning.solving.problem import Problem, Solution

OVERDRAW = 1e-3
"""By so much a plan may be over a row: rounding, and no more [GPUs or kW]."""


def violations(problem: Problem, solution: Solution) -> int:
    """Return how many rows are over their capacity, and how many jobs are outside their window, zones or length."""
    jobs, zones, edges = problem.jobs, problem.zones, problem.edges_h
    hours = np.diff(edges)
    gpu, limit = np.zeros_like(zones.gpus), np.zeros_like(zones.gpus)
    started = np.zeros_like(zones.ramp_kw)
    wrong = 0
    done = np.zeros(jobs.count)
    speed = np.array([m.speed for m in problem.modes])[solution.mode]
    power = np.array([m.power for m in problem.modes])[solution.mode]
    for job, first, last in zip(solution.part_job, solution.part_start, solution.part_end, strict=True):
        z, kw = solution.zone[job], jobs.limit_kw[job] * power[job]
        gpu[z, first:last] += jobs.gpus[job]
        done[job] += hours[first:last].sum()
        ramp = zones.ramp_group[z]
        if ramp >= 0:
            # A gang that is larger than a slot's ramp counts as all of it.
            started[ramp, first] += min(kw, max(0.0, zones.ramp_kw[ramp, first]))
        if jobs.pausable[job]:
            limit[z, first:last] += kw
            wrong += int(first < jobs.release[job] or last > jobs.deadline[job])
        else:
            end = np.searchsorted(edges, edges[first] + jobs.limit_h[job] / speed[job] - 1e-9)
            limit[z, first : min(int(end), hours.size)] += kw
            wrong += int(not jobs.release[job] <= first <= jobs.latest_start[job])
    placed = solution.zone >= 0
    wrong += int((~jobs.zones[np.flatnonzero(placed), solution.zone[placed]]).sum())
    room = np.where(solution.start >= 0, edges[-1] - edges[np.maximum(solution.start, 0)], 0.0)
    short = placed & (done < np.minimum(jobs.duration_h / speed, room) - 1e-6)
    wrong += int((started > np.maximum(zones.ramp_kw, 0.0) + OVERDRAW).sum())
    wrong += int(short.sum()) + int((gpu > np.maximum(zones.gpus, 0.0) + OVERDRAW).sum())
    for group, rows, factor in (
        (zones.power_group, zones.power_kw, zones.power_factor),
        (zones.heat_group, zones.heat_kw, np.ones(problem.n_zones)),
    ):
        used = np.zeros_like(rows)
        for z in range(problem.n_zones):
            if group[z] >= 0:
                used[group[z]] += factor[z] * limit[z]
        wrong += int((used > np.maximum(rows, 0.0) + OVERDRAW).sum())
    return wrong
