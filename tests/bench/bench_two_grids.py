# SPDX-License-Identifier: Apache-2.0
"""What the operator's planner saves on two grids, of what could be saved: `bench_two_grids.py [--seeds 1 2 3]`.

The demo's arrivals on the demo's cluster, in the project's simulator: whoever plans knows the true intensities of 48
hours, durations as their users stated them, and no arrival before it comes. Beside it stand first come, first served,
and one plan for all work that ever comes, everything known, with its proved bound. That one takes the GPUs of a zone
as one pool without limits of power and heat, so that nobody can reach it. All emissions are above those of idle nodes.
"""

import argparse
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median

import numpy as np

from embellie.accounting import Run
from embellie.domain.forecast import FloatArray
from embellie.domain.snapshot import Flex
from embellie.planning.inputs import make_jobs, make_zones
from embellie.planning.problem import Problem, Solution
from embellie.planning.solver import solve
from embellie.simulation import SimJob, load_trace, simulate
from embellie_testbed.demo.counterfactual import sim_job, sim_site
from embellie_testbed.demo.grid import GridTruth, load_truth
from embellie_testbed.demo.scenario import BEGIN, GPUS, ZONES, build

HOURS = 168
SLOT_H = 0.25
PLANNED_H = 92
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one schedule comes to."""

    carbon_kg: float
    mean_delay_h: float
    late: int
    """Jobs that began after their latest start."""


def with_used_share(jobs: list[SimJob]) -> list[SimJob]:
    """Tell each job what part of stated durations such jobs use, as the operator learns it."""
    shares = [j.duration_s / j.expected_duration_s for j in jobs if j.expected_duration_s is not None]
    share = min(1.0, median(shares))
    return [j if j.expected_duration_s is None else replace(j, used_share=share) for j in jobs]


def judged(runs: Iterable[Run], truths: Mapping[str, GridTruth]) -> Outcome:
    """Add up what runs emitted above idle, and how they waited."""
    pue = {site.name: site.pue for site in ZONES}
    summed = {name: np.concatenate([[0.0], np.cumsum(t.carbon_g_per_kwh)]) for name, t in truths.items()}
    grams, delays_h, late = [], [], 0
    for run in runs:
        truth, sums = truths[run.zone], summed[run.zone]
        edges = [(at - truth.start) / HOUR for at in (run.start, run.end)]
        begun, ended = np.interp(edges, np.arange(sums.size), sums)
        grams.append(run.power_kw * pue[run.zone] * float(ended - begun))
        delays_h.append((run.start - run.submitted_at) / HOUR)
        late += run.latest_start is not None and run.start > run.latest_start + timedelta(seconds=1)
    return Outcome(carbon_kg=math.fsum(grams) / 1000.0, mean_delay_h=float(np.mean(delays_h)), late=late)


def all_known(jobs: list[SimJob], truths: Mapping[str, GridTruth], budget_s: float) -> Solution:
    """Plan everything once, everything known; objective and bound are grams above idle."""
    edges_h = np.arange(int(PLANNED_H / SLOT_H) + 1) * SLOT_H

    def slot(moment: datetime) -> int:
        return int((moment - BEGIN) / HOUR / SLOT_H)

    release = np.array([slot(job.submit) for job in jobs])
    latest = np.array([slot(job.submit if job.flex is Flex.RIGID else job.latest_start) for job in jobs])
    length_h = np.array([job.duration_s / 3600.0 for job in jobs])
    power_kw = np.array([job.power_kw for job in jobs])
    at = [BEGIN + timedelta(hours=float(edge)) for edge in edges_h[:-1]]
    rates: FloatArray = np.array(
        [[truths[z.name].carbon_g_per_kwh[truths[z.name].index(moment)] * z.pue for moment in at] for z in ZONES]
    )
    problem = Problem(
        edges_h=edges_h,
        zones=make_zones(cost_per_kwh=rates, gpus=np.full(rates.shape, GPUS / len(ZONES))),
        jobs=make_jobs(
            gpus=[job.gpus for job in jobs],
            power_kw=power_kw,
            duration_h=length_h,
            unplaced_cost=power_kw * length_h * 4.0 * float(rates.max()),
            n_zones=len(ZONES),
            n_slots=edges_h.size - 1,
            release=release,
            latest_start=np.maximum(latest, release),
        ),
    )
    return solve(problem, budget_s=budget_s, clock=time.process_time)


def main() -> None:
    """Print one row for each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--turn-seconds", type=float, default=900.0)
    options = parser.parse_args()
    truths = {site.name: load_truth(site, begin=BEGIN, hours=HOURS) for site in ZONES}
    site = sim_site(truths)
    print("kg CO2e above idle      first come   planner  all known     bound   kept   late (first come)   mean delay")
    kept = []
    for seed in options.seeds:
        jobs = [sim_job(job) for job in build(load_trace(), seed=seed).jobs]
        fifo = judged(simulate(jobs, site, "fifo").runs, truths)
        ours = judged(simulate(with_used_share(jobs), site, "embellie", turn_s=options.turn_seconds).runs, truths)
        best = all_known(jobs, truths, budget_s=40.0)
        kept.append((fifo.carbon_kg - ours.carbon_kg) / (fifo.carbon_kg - best.objective / 1000.0))
        carbon = f"{fifo.carbon_kg:12.0f}{ours.carbon_kg:10.0f}{best.objective / 1000:11.0f}"
        bound = f"{best.lower_bound / 1000:10.0f}{100 * kept[-1]:5.0f} %"
        print(f"seed {seed:<17}{carbon}{bound}{ours.late:7} ({fifo.late}){ours.mean_delay_h:19.1f} h", flush=True)
    print(f"mean share of the saving of one plan with everything known: {100 * sum(kept) / len(kept):.0f} %")


if __name__ == "__main__":
    main()
