# SPDX-License-Identifier: Apache-2.0
"""What the operator's planner saves on two grids, of what could be saved: `bench_two_grids.py [--seeds 1 2 3]`.

The demo's arrivals on the demo's cluster, in the project's simulator: whoever plans knows the true intensities of 48
hours, durations as their users stated them, and no arrival before it comes. Beside it stand first come, first served,
and one plan for all work that ever comes, everything known, with its proved bound. In that one, work that is not ours
to place stays where the scheduler put it. It takes the GPUs of a zone as one pool without nodes and without limits of
power and heat, so that nobody can reach it. All emissions are above those of idle nodes.

A few gangs of hundreds of GPU-hours decide much of a seed: compare planners over ten seeds or more.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from statistics import median

import numpy as np
from planned.model import PlannedJob, PlannedSite, PlannedZone
from planned.replay import simulate_planned

from embellie.accounting import Account, Run, ZonePower, account
from embellie.domain.forecast import FloatArray
from embellie.domain.snapshot import Flex, ThermalZoneState
from embellie.planning.solving.inputs import make_jobs, make_zones
from embellie.planning.solving.problem import Problem, Solution
from embellie.planning.solving.solver import solve
from embellie.simulation import load_trace, simulate
from embellie_testbed.demo.counterfactual import signal, sim_job, sim_site
from embellie_testbed.demo.grid import GridTruth, load_truth
from embellie_testbed.demo.history import added_kw
from embellie_testbed.demo.scenario import BEGIN, GPUS, ROWS, ZONES, DemoJob, Row, build

HOURS = 168
SLOT_H = 0.25
PLANNED_H = 92
HOUR = timedelta(hours=1)
WORST_CASE = 1.1
"""What a GPU draws at most, of what it is rated for."""


def planned_site(truths: Mapping[str, GridTruth]) -> PlannedSite:
    """Return the demo's cluster with its contracts and its rooms."""
    site = sim_site(truths)
    zones = [
        PlannedZone(
            name=zone.name,
            signal=zone.signal,
            contracted_power_kw=float(told.contracted_kw),
            ambient_c=truths[zone.name].ambient_c,
        )
        for zone, told in zip(site.grid_zones, ZONES, strict=True)
    ]
    return PlannedSite(
        cells=site.cells, grid_zones=tuple(zones), thermal_zones=tuple(_thermal_state(row) for row in ROWS)
    )


def _thermal_state(row: Row) -> ThermalZoneState:
    return ThermalZoneState(
        name=row.name,
        inlet_limit_c=float(row.inlet_limit_c),
        margin_c=float(row.margin_k),
        rise_k_per_kw=row.rise_mk_per_kw / 1000,
        supply=None,
        supply_worst_c=float(row.supply_worst_c),
        supply_setpoint_c=float(row.setpoint_c),
        ambient_approach_k=float(row.approach_k),
        inlet=None,
        cooling_capacity_kw=None,
        start_ramp_kw_per_min=None,
        base_power_kw=0.0,
        ambient_grid_zone=row.zone,
    )


def planned_job(job: DemoJob) -> PlannedJob:
    """Return a job of the demo with what its user says of it."""
    came = sim_job(job)
    return PlannedJob(
        **{f.name: getattr(came, f.name) for f in fields(came)},
        worst_power_kw=added_kw(job.gpus, WORST_CASE * ZONES[0].gpu_rated_watts, ZONES[0]),
        tenant="training",
        expected_duration_s=None if job.stated_duration is None else job.stated_duration.total_seconds(),
    )


def with_used_share(jobs: list[PlannedJob]) -> list[PlannedJob]:
    """Tell each job what part of stated durations such jobs use, as the operator learns it."""
    shares = [j.duration_s / j.expected_duration_s for j in jobs if j.expected_duration_s is not None]
    share = min(1.0, median(shares))
    return [j if j.expected_duration_s is None else replace(j, used_share=share) for j in jobs]


def judged(runs: Sequence[Run], truths: Mapping[str, GridTruth]) -> Account:
    """Account runs on nodes that draw nothing while they idle: what is above idle."""
    zones = [ZonePower(name=site.name, idle_kw=0.0, pue=site.pue) for site in ZONES]
    signals = {name: signal(truth) for name, truth in truths.items()}
    return account(runs, zones, signals, BEGIN, max(run.end for run in runs), tolerance_s=1.0)


def all_known(
    jobs: list[PlannedJob], truths: Mapping[str, GridTruth], put_in: Mapping[str, str], budget_s: float
) -> Solution:
    """Plan everything once, everything known; objective and bound are grams above idle.

    `put_in` says which zone the scheduler chose for work that never waits.
    """
    edges_h = np.arange(int(PLANNED_H / SLOT_H) + 1, dtype=np.float64) * SLOT_H

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
    allowed = [[job.flex is not Flex.RIGID or z.name == put_in[job.id] for z in ZONES] for job in jobs]
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
            zones=np.array(allowed),
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
    site = planned_site(truths)
    print("kg CO2e above idle      first come   planner  all known     bound   kept   late (first come)   mean delay")
    kept = []
    for seed in options.seeds:
        jobs = [planned_job(job) for job in build(load_trace(), seed=seed).jobs]
        fifo = judged(simulate(jobs, site).runs, truths)
        ran = simulate_planned(with_used_share(jobs), site, turn_s=options.turn_seconds).runs
        ours = judged(ran, truths)
        best = all_known(jobs, truths, {run.job: run.zone for run in ran}, budget_s=40.0)
        fifo_kg, ours_kg, best_kg = (g / 1000 for g in (fifo.emissions.grams, ours.emissions.grams, best.objective))
        kept.append((fifo_kg - ours_kg) / (fifo_kg - best_kg))
        carbon = f"{fifo_kg:12.0f}{ours_kg:10.0f}{best_kg:11.0f}{best.lower_bound / 1000:10.0f}"
        late = f"{ours.delays.past_bound:7} ({fifo.delays.past_bound})"
        print(f"seed {seed:<17}{carbon}{100 * kept[-1]:5.0f} %{late}{ours.delays.mean_s / 3600:19.1f} h", flush=True)
    print(f"mean share of the saving of one plan with everything known: {100 * sum(kept) / len(kept):.0f} %")


if __name__ == "__main__":
    main()
