# SPDX-License-Identifier: Apache-2.0
"""The demo's scenario: what is drawn from the trace, and that one seed always draws the same."""

from collections import Counter
from datetime import timedelta
from functools import cache

import pytest

from embellie.simulation import load_trace
from embellie_testbed.demo.scenario import (
    ARRIVALS,
    BEGIN,
    BONUS_MAX_DELAY,
    GPUS,
    LONGEST,
    MAX_DELAYS,
    TARGET_UTILISATION,
    Flex,
    Scenario,
    build,
)


@cache
def scenario(seed: int = 1) -> Scenario:
    return build(load_trace(), seed=seed)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_jobs_load_the_cluster_as_wanted(seed: int) -> None:
    drawn = scenario(seed)
    end = drawn.begin + drawn.arrivals
    inside = sum(job.gpus * min(job.duration, end - job.submit).total_seconds() for job in drawn.jobs)
    assert inside / (GPUS * ARRIVALS.total_seconds()) == pytest.approx(TARGET_UTILISATION, abs=0.01)
    assert drawn.utilisation == pytest.approx(TARGET_UTILISATION, abs=0.01)


def test_one_seed_draws_the_same_jobs_each_time_and_another_seed_others() -> None:
    assert build(load_trace(), seed=1) == scenario(1)
    assert {j.name for j in scenario(1).jobs} != {j.name for j in scenario(2).jobs}


def test_every_job_comes_within_the_two_days_and_fits_the_cluster() -> None:
    jobs = scenario().jobs
    assert all(timedelta(0) <= job.submit - BEGIN < ARRIVALS for job in jobs)
    assert all(timedelta(0) < job.duration <= LONGEST for job in jobs)
    assert all(job.pods * job.gpus_per_pod == job.gpus and job.gpus_per_pod <= 8 for job in jobs)
    assert [job.submit for job in jobs] == sorted(job.submit for job in jobs)
    assert len({job.name for job in jobs}) == len(jobs)


def test_the_mixture_of_patience_is_the_documented_one() -> None:
    jobs = scenario().jobs
    shares = {flex: count / len(jobs) for flex, count in Counter(job.flex for job in jobs).items()}
    wanted = {Flex.PATIENT: 0.7, Flex.BONUS: 0.1, Flex.RIGID: 0.05, Flex.UNLABELLED: 0.15}
    assert shares == pytest.approx(wanted, abs=0.04)
    assert {job.max_delay for job in jobs if job.flex is Flex.PATIENT} == set(MAX_DELAYS)
    assert {job.max_delay for job in jobs if job.flex is Flex.BONUS} == {BONUS_MAX_DELAY}
    assert {job.max_delay for job in jobs if job.flex in (Flex.RIGID, Flex.UNLABELLED)} == {None}


def test_stated_durations_lie_above_the_real_ones_in_nine_cases_of_ten() -> None:
    labelled = [job for job in scenario().jobs if job.labelled]
    stated = [job for job in labelled if job.stated_duration is not None]
    enough = [job for job in stated if job.stated_duration is not None and job.stated_duration >= job.duration]
    assert len(stated) / len(labelled) == pytest.approx(0.7, abs=0.06)
    assert len(enough) / len(stated) == pytest.approx(0.92, abs=0.05)
