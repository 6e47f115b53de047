# SPDX-License-Identifier: Apache-2.0
"""Where GPUs are scarce the policy `embellie` is the planner of the operator, and it keeps bounds before it saves."""

import numpy as np
import pytest

from embellie.simulation.whatif.axis import Axis
from embellie.simulation.whatif.case import Site
from embellie.simulation.whatif.jobs_file import JobRow
from embellie.simulation.whatif.outlook import Perfect
from embellie.simulation.whatif.slack import Slack
from embellie.simulation.whatif.study import How, Power, Result, Setup, make_setup, replay

HOUR_S = 3600.0
WAVE = 300.0 + 100.0 * np.cos(np.arange(240) / 24.0 * 2.0 * np.pi) + np.random.default_rng(5).normal(0.0, 9.0, 240)


def setup(jobs: list[JobRow], capacity: float | None, pausable: float, slack_h: float = 24.0) -> Setup:
    return make_setup(
        sorted(jobs, key=lambda job: job.submit_s),
        Axis(values=WAVE, tick_s=1.0, ticks_per_slot=3600),
        Site(capacity_gpus=capacity),
        slack=Slack(short_h=slack_h, long_h=slack_h),
        power=Power(watts_per_gpu=1000.0),
        pausable=pausable,
        anchor=None,
        past=np.zeros(0),
    )


def job(name: str, submit_h: float, hours: float, gpus: float = 1.0) -> JobRow:
    return JobRow(id=name, tenant="", kind="", submit_s=submit_h * HOUR_S, duration_s=hours * HOUR_S, gpus=gpus)


def run(case: Setup, wait_price: float = 0.0) -> Result:
    return replay(How(policy="embellie", wait_price=wait_price), case, Perfect(case.case.axis))


@pytest.mark.parametrize("pausable", [0.0, 1.0])
def test_with_gpus_for_all_the_planner_gives_what_is_best_for_each_job_alone(pausable: float) -> None:
    rng = np.random.default_rng(1)
    jobs = [job(f"j{i}", float(rng.integers(0, 72)), float(rng.integers(1, 9)), 2.0) for i in range(40)]
    alone, planned = (run(setup(jobs, capacity, pausable)) for capacity in (None, 1e6))
    assert planned.schedule.job.tolist() == alone.schedule.job.tolist()
    assert planned.schedule.start.tolist() == alone.schedule.start.tolist()
    assert planned.schedule.end.tolist() == alone.schedule.end.tolist()


@pytest.mark.parametrize("pausable", [0.5, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_no_job_is_past_its_bound_where_first_come_first_served_would_have_kept_it(pausable: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    jobs = [
        job(f"j{i}", float(rng.uniform(0, 72)), float(rng.exponential(2.5) + 0.1), float(rng.choice([1, 1, 2, 4])))
        for i in range(120)
    ]
    result = run(setup(jobs, 16.0, pausable, slack_h=12.0), wait_price=0.02)
    assert result.fifo_outcome.past_bound == 0
    assert result.outcome.past_bound == 0
    assert result.normalised_carbon < 1.0


def test_what_has_waited_as_long_as_it_may_starts_at_once_though_others_that_may_pause_run() -> None:
    # The long job fills the cluster from the start; the short one comes in mid-slot and may wait for half an hour.
    jobs = [job("long", 0.0, 30.0, 4.0), job("short", 1.25, 0.5, 4.0)]
    result = run(setup(jobs, 4.0, 1.0, slack_h=24.0), wait_price=0.0)
    assert result.outcome.past_bound == 0
    assert result.outcome.finished == 2


def test_work_that_only_just_fits_before_its_bounds_is_not_held_until_it_no_longer_does() -> None:
    # Each takes the whole cluster for two hours; the clean hours are at the end of the slack, for one or two of them.
    jobs = [job(f"j{i}", 0.0, 2.0, 4.0) for i in range(10)]
    result = run(setup(jobs, 4.0, 0.0, slack_h=20.0))
    assert result.outcome.past_bound == 0


@pytest.mark.parametrize("seed", [0, 2])
def test_room_in_a_clean_hour_is_not_left_empty_because_later_hours_are_as_clean_at_their_prices(seed: int) -> None:
    # Where all hours that will be full cost the same with their prices, each job may as well run later.
    rng = np.random.default_rng(seed)
    jobs = [
        job(f"j{i}", float(rng.uniform(0, 120)), float(rng.exponential(5.0) + 0.1), float(rng.choice([1, 1, 2, 4])))
        for i in range(80)
    ]
    result = run(setup(jobs, 10.0, 1.0))
    assert result.share_of_bound > 0.75
    assert result.outcome.past_bound == 0
