# SPDX-License-Identifier: Apache-2.0
"""Whether small MILPs improve plans: `python tests/bench/bench_milp.py [--seeds 0,1,2] [--neighbourhoods 20]`.

First whole instances: the plan of a turn's effort against HiGHS. Then large neighbourhoods in a plan of 1,000 jobs:
some jobs give back their places, and HiGHS places them anew. Process time of both, on one core.
"""

import argparse
import math
import time

import numpy as np
from exact import solve_exactly

from embellie.planning.joint import effort_for
from embellie.planning.solving.instances import random_instance
from embellie.planning.solving.problem import Problem, Solution
from embellie.planning.solving.solver import Effort, solve

_NEIGHBOURS, _MOST_S = 60, 10.0


def planned(problem: Problem, effort: Effort) -> tuple[Solution, float]:
    """Return a plan and its process time."""
    began = time.process_time()
    found = solve(problem, budget_s=math.inf, clock=lambda: 0.0, effort=effort)
    return found, time.process_time() - began


def whole(jobs: int, seeds: list[int]) -> None:
    """Print how far plans of a turn are from the best there is."""
    over, ours, theirs, proved = [], 0.0, 0.0, 0
    for seed in seeds:
        problem = random_instance(jobs=jobs, zones=3, hours=48, load=0.5, future=0.3, seed=seed)
        effort = effort_for(jobs, warm=False)
        plan, seconds = planned(problem, effort)
        began = time.process_time()
        best = solve_exactly(problem, gap=1e-3, most_s=_MOST_S)
        theirs += time.process_time() - began
        ours += seconds
        if best is not None:
            over.append(plan.objective / min(best.cost, plan.objective) - 1.0)
            proved += best.cost - best.bound <= 1.1e-3 * best.cost
    print(
        f"{jobs:>5} jobs: the plan costs {100 * np.mean(over):.2f} % more in the mean, {100 * np.max(over):.2f} % at "
        f"most, than what HiGHS finds in {_MOST_S:g} s (optimal in {proved} of {len(seeds)}); "
        f"{ours / len(seeds):.2f} s of ours, {theirs / len(seeds):.2f} s of its",
        flush=True,
    )


def neighbourhoods(count: int, seed: int) -> None:
    """Print what neighbourhoods around the dearest hours gain in a plan of 1,000 jobs, beside more passes."""
    problem = random_instance(jobs=1000, zones=4, hours=168, load=0.55, future=0.0, seed=seed)
    plan, seconds = planned(problem, Effort(iterations=60, rounds=3))
    more, more_s = planned(problem, Effort(iterations=60, rounds=12))
    jobs, zones = problem.jobs, problem.zones
    rng = np.random.default_rng(seed)
    slots: dict[int, tuple[int, np.ndarray]] = {}
    for job, first, last in zip(plan.part_job.tolist(), plan.part_start, plan.part_end, strict=True):
        zone, old = slots.get(job, (int(plan.zone[job]), np.zeros(0, dtype=np.int64)))
        slots[job] = (zone, np.concatenate([old, np.arange(first, last)]))
    cost = plan.cost.copy()
    began = time.process_time()
    for _ in range(count):
        # Jobs in the same dear hours of a zone: they have places to exchange.
        dear = plan.prices.gpu + plan.prices.heat
        weight = dear.reshape(-1) + 1e-9
        zone, slot = divmod(int(rng.choice(weight.size, p=weight / weight.sum())), problem.n_slots)
        near = [j for j, (z, s) in slots.items() if z == zone and np.abs(s - slot).min() <= 6]
        rows = np.array(sorted(rng.permutation(near)[:_NEIGHBOURS].tolist()), dtype=np.int64)
        if rows.size == 0:
            continue
        free = np.stack([zones.gpus, zones.heat_kw]).copy()
        for job, (z, s) in slots.items():
            if job not in set(rows.tolist()):
                free[0, z, s] -= jobs.gpus[job]
                free[1, z, s] -= jobs.limit_kw[job]
        found = solve_exactly(problem, jobs=rows, free=free, gap=1e-3, most_s=_MOST_S)
        if found is not None and found.cost < cost[rows].sum() - 1e-9:
            for job in rows.tolist():
                slots.pop(job, None)
                cost[job] = jobs.unplaced_cost[job]
            for job, (z, s) in found.slots.items():
                slots[job] = (z, s)
                cost[job] = jobs.power_kw[job] * zones.cost_per_kwh[z, s].sum()
    spent = time.process_time() - began
    print(
        f" 1000 jobs: {seconds:.1f} s of passes leave a gap of {100 * plan.gap:.2f} %; {more_s - seconds:.1f} s more "
        f"of them bring it to {100 * more.gap:.2f} %; {count} neighbourhoods of {_NEIGHBOURS} jobs instead, in "
        f"{spent:.1f} s, to {100 * (cost.sum() / plan.lower_bound - 1.0):.2f} %",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2,3,4,5", help="seeds, with commas between")
    parser.add_argument("--neighbourhoods", type=int, default=20)
    told = parser.parse_args()
    seeds = [int(s) for s in told.seeds.split(",")]
    for jobs in (12, 25, 50, 100):
        whole(jobs, seeds)
    neighbourhoods(told.neighbourhoods, seeds[0])


if __name__ == "__main__":
    main()
