# SPDX-License-Identifier: Apache-2.0
"""How long work takes: stated, else as its like did, else as the policy assumes."""

from datetime import UTC, datetime, timedelta

import pytest

from embellie.cluster.records import UNCONSTRAINED, WorkloadRecord
from embellie.control.durations import MIN_HISTORY, Duration, History, assumed, expected_ends, stated_duration
from embellie.domain import names
from embellie.domain.snapshot import WorkloadKey, WorkloadKind

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def finished(number: int, hours: float, namespace: str = "research") -> WorkloadRecord:
    return WorkloadRecord(
        key=WorkloadKey(namespace=namespace, name=f"j{number}", kind=WorkloadKind.JOB, uid=f"u{number}"),
        created_at=NOW, flex="", held=False, waiting=False, finished=True, pods=1, gpus_per_pod=1, annotations={},
        labels={}, constraints=UNCONSTRAINED, started_at=NOW, completed_at=NOW + hours * HOUR,
    )  # fmt: skip


def test_history_gives_the_median_and_the_ninth_tenth_of_the_namespaces_own_jobs():
    jobs = [finished(i, hours=i + 1) for i in range(MIN_HISTORY)]
    history = History([*jobs, finished(99, 1000, "other")], lambda wall: wall)
    assert history.of("research") == Duration(p50=11 * HOUR, p90=19 * HOUR)
    assert history.of("other") is None


def test_too_few_jobs_and_jobs_that_ended_before_they_began_are_no_history():
    jobs = [finished(i, hours=-1) for i in range(50)] + [finished(100 + i, 1) for i in range(MIN_HISTORY - 1)]
    assert History(jobs, lambda wall: wall).of("research") is None


def test_a_statement_wins_and_nonsense_raises():
    assert stated_duration({names.DURATION: "3h"}) == Duration(p50=3 * HOUR, p90=3 * HOUR, stated=True)
    assert stated_duration({}) is None
    with pytest.raises(ValueError, match="9h30m"):
        stated_duration({names.DURATION: "7 bananas"})


def test_work_that_outlives_its_median_is_expected_at_its_p90_and_then_in_proportion_to_its_age():
    guess = assumed(8 * 3600)
    assert expected_ends(NOW - HOUR, guess, NOW) == (NOW + 3 * HOUR, NOW + 7 * HOUR)
    assert expected_ends(NOW - 5 * HOUR, guess, NOW) == (NOW + 3 * HOUR, NOW + 3 * HOUR)
    assert expected_ends(NOW - 20 * HOUR, guess, NOW) == (NOW + 5 * HOUR, NOW + 5 * HOUR)
