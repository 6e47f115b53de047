# SPDX-License-Identifier: Apache-2.0
"""Where a replay loses against its bound: `python tests/bench/bench_split.py [--zone US-PJM] [--days 14] ...`.

Replays jobs of itp2021 from 5 March 2021 on with less and less hidden from the planner, and prints what each has of the
saving that the clairvoyant bound allows. Needs EMBELLIE_DATA, the folder of replay data. Window and grids are for
choosing; nothing is reported on them.
"""

import argparse
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from bench_replay import itp_capacity

from embellie.cli.grid_history import read_grid
from embellie.domain.forecast import FloatArray
from embellie.planning.solving.inputs import make_jobs, make_zones
from embellie.planning.solving.problem import Problem
from embellie.planning.solving.solver import Effort, solve
from embellie.simulation.whatif.ahead import Ahead
from embellie.simulation.whatif.axis import IntArray
from embellie.simulation.whatif.carbon_file import make_axis
from embellie.simulation.whatif.case import Case, Schedule, Site
from embellie.simulation.whatif.engine import Engine
from embellie.simulation.whatif.jobs_file import read_jobs
from embellie.simulation.whatif.lengths import TrueLengths
from embellie.simulation.whatif.ours import WAIT_PRICE
from embellie.simulation.whatif.outcome import judge, window
from embellie.simulation.whatif.outlook import Perfect
from embellie.simulation.whatif.planned import WARM, Items, Planned
from embellie.simulation.whatif.slack import Slack
from embellie.simulation.whatif.study import Power, Setup, bound_carbon_kg, make_setup, run_fifo

DATA = Path(os.environ.get("EMBELLIE_DATA", ""))
BEGIN = datetime(2021, 3, 5, tzinfo=UTC)
_PAST = timedelta(days=14)


class AllKnown(Planned):
    """Knows every arrival of its horizon, and so keeps nothing for unknown ones."""

    def _latest_h(self, jobs: IntArray, now: int, engine: Engine) -> FloatArray:
        del now, engine
        return np.full(jobs.size, np.inf)

    def coming(self, now: int) -> Items:
        work, per = self._case.work, self._per
        first, last = np.searchsorted(work.arrival, [now + 1, now + (self._ahead.slots - 1) * per])
        jobs = np.arange(first, last)
        rest, left = work.length[jobs] / per, work.wait[jobs] // per
        release = -(-(work.arrival[jobs] - now) // per)
        slots = np.maximum(1.0, np.round(rest))
        share = rest / slots
        return Items(
            gpus=work.gpus[jobs] * share,
            power_kw=self._net_kw[jobs] * share,
            slots=slots,
            release=release,
            latest=release + left,
            deadline=(release + slots + left).astype(np.int64),
            pausable=work.pausable[jobs],
        )


def set_up(zone: str, days: int, utilisation: float) -> Setup:
    """Return the case, on as many GPUs as make its work such a utilisation."""
    trace = read_jobs(DATA / "jobs/itp2021.csv.gz")
    history = read_grid(DATA / f"grid/{zone}.csv.gz", "ci_lifecycle_g_per_kwh")
    if trace.anchor is None or history.start is None:
        raise SystemExit("the trace and the grid's history must have a calendar")
    first_s, last_s = ((t - trace.anchor).total_seconds() for t in (BEGIN, BEGIN + timedelta(days=days)))
    jobs = tuple(job for job in trace.jobs if first_s <= job.submit_s < last_s)
    row = (trace.anchor - history.start) // history.step
    hour = timedelta(hours=1)
    past = make_axis(history, step=hour, first_row=row - _PAST // history.step, hours=_PAST / hour)
    return make_setup(
        jobs,
        make_axis(history, step=hour, first_row=row),
        Site(capacity_gpus=itp_capacity(utilisation, first_s, last_s), idle_kw_per_gpu=0.4, pue=1.2),
        slack=Slack(),
        power=Power(),
        pausable=1.0,
        anchor=trace.anchor,
        past=past.values,
    )


def offline(case: Case, fifo: Schedule, budget_s: float) -> float:
    """Return what one plan for all work saves against first come first served, everything known, whole slots [kg]."""
    work, axis, site = case.work, case.axis, case.site
    per, begin = axis.ticks_per_slot, int(case.work.arrival.min()) // case.axis.ticks_per_slot
    slots = np.maximum(1, np.round(work.length / per)).astype(np.int64)
    share = work.length / per / slots
    release = -(-work.arrival // per) - begin
    deadline = np.maximum((work.arrival + work.length + work.wait) // per - begin, release + slots)
    count = int(deadline.max())
    net_kw = (work.power_kw - work.gpus * site.idle_kw_per_gpu) * site.pue
    costs = axis.values[begin : begin + count]
    problem = Problem(
        edges_h=np.arange(count + 1, dtype=np.float64) * axis.slot_h,
        zones=make_zones(cost_per_kwh=costs[None], gpus=np.full((1, count), site.capacity_gpus)),
        jobs=make_jobs(
            gpus=work.gpus * share,
            power_kw=net_kw * share,
            duration_h=slots * axis.slot_h,
            unplaced_cost=4.0 * net_kw * share * slots * costs.max() + 1.0,
            n_zones=1,
            n_slots=count,
            release=release,
            latest_start=deadline - slots,
            deadline=deadline,
            pausable=work.pausable,
        ),
    )
    effort = Effort(iterations=400, rounds=40, restarts=1000, near_enough=1e-5)
    found = solve(problem, budget_s=budget_s, clock=time.process_time, effort=effort)
    if found.unplaced:
        print(f"{found.unplaced} jobs without a place")
    ran = float((axis.grams(fifo.start, fifo.end) * net_kw[fifo.job]).sum())
    return (ran - found.objective) / 1000.0


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zone", default="US-PJM")
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--utilisation", type=float, default=0.75)
    parser.add_argument("--steps", default="8,32", help="price steps of an hour's plan, with commas between")
    parser.add_argument("--seconds", type=float, default=25.0, help="processor time of the plan made once")
    told = parser.parse_args()
    if not DATA.name:
        print("left out: all rows; they need EMBELLIE_DATA, the folder of replay data")
        return
    setup = set_up(told.zone, told.days, told.utilisation)
    case, fifo = setup.case, run_fifo(setup.case)
    span = window(case, fifo)
    base = judge(fifo, case, span).carbon_kg
    most = base - bound_carbon_kg(case, (fifo,), base, span)
    print(f"{told.zone}, {case.work.count} jobs, {told.utilisation:.0%}: at most {most / base:.2%} can be saved")
    print(f"{'a plan made once, everything known':<48} {offline(case, fifo, told.seconds) / most:6.1%} of that")
    for name, rule in (("all arrivals known", AllKnown), ("arrivals not known", Planned)):
        for steps in map(int, told.steps.split(",")):
            warm = replace(WARM, first_iterations=steps)
            ahead = Ahead(case.axis, Perfect(case.axis), horizon_h=96.0, past=setup.past)
            began = time.process_time()
            lengths = TrueLengths(case.work.length)
            schedule = Engine(case, rule(case, ahead, lengths, wait_price=WAIT_PRICE, warm=warm)).run()
            both = window(case, schedule, fifo)
            ours, theirs = judge(schedule, case, both), judge(fifo, case, both)
            told_so = f"planned every hour, {steps} price steps, {name}"
            print(
                f"{told_so:<48} {(theirs.carbon_kg - ours.carbon_kg) / most:6.1%} of that, past bound "
                f"{ours.past_bound} ({theirs.past_bound}), {time.process_time() - began:.0f} s of CPU",
                flush=True,
            )


if __name__ == "__main__":
    main()
