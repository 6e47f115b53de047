# SPDX-License-Identifier: Apache-2.0
"""How long work takes: stated, else as its like did, else as the policy assumes."""

from datetime import UTC, datetime, timedelta

import pytest

from embellie.cluster.records import UNCONSTRAINED, WorkloadRecord
from embellie.control.work.durations import Duration, History, assumed, expected_ends, stated_duration
from embellie.domain import names
from embellie.domain.durations import MIN_HISTORY, OVERRUN
from embellie.domain.snapshot import WorkloadKey, WorkloadKind

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def finished(number: int, hours: float, namespace: str = "research", **said: str) -> WorkloadRecord:
    """`said` are annotations by the names that `names` gives them."""
    return WorkloadRecord(
        key=WorkloadKey(namespace=namespace, name=f"j{number}", kind=WorkloadKind.JOB, uid=f"u{number}"),
        created_at=NOW, flex="", held=False, waiting=False, finished=True, pods=1, gpus_per_pod=1,
        annotations={getattr(names, name): text for name, text in said.items()},
        labels={}, constraints=UNCONSTRAINED, started_at=NOW, completed_at=NOW + hours * HOUR,
    )  # fmt: skip


def test_history_gives_the_median_and_the_ninth_tenth_of_the_namespaces_own_jobs():
    jobs = [finished(i, hours=i + 1) for i in range(MIN_HISTORY)]
    history = History([*jobs, finished(99, 1000, "other")], lambda wall: wall)
    assert history.of("research").took == Duration(p50=11 * HOUR, p90=19 * HOUR)
    assert history.of("other").took is None


def test_too_few_jobs_and_jobs_that_ended_before_they_began_are_no_history():
    jobs = [finished(i, hours=-1) for i in range(50)] + [finished(100 + i, 1) for i in range(MIN_HISTORY - 1)]
    assert History(jobs, lambda wall: wall).of("research").took is None


def test_a_statement_is_expected_to_be_used_as_far_as_half_of_the_namespaces_own_jobs_used_theirs():
    jobs = [finished(i, hours=3.1, DURATION="6h") for i in range(MIN_HISTORY)]
    history = History([*jobs, *(finished(50 + i, 60, DURATION="7 bananas") for i in range(30))], lambda wall: wall)
    stated = Duration(p50=10 * HOUR, p90=10 * HOUR, stated=True)
    assert history.of("research").expects(stated) == Duration(p50=5 * HOUR, p90=10 * HOUR, stated=True, overrun=1.0)
    assert history.of("other").expects(stated) == stated


@pytest.mark.parametrize(
    ("count", "hours", "said", "expected_h"),
    [
        pytest.param(MIN_HISTORY - 1, 3.0, {}, 10.0, id="too few"),
        pytest.param(MIN_HISTORY, 9.0, {}, 10.0, id="they ran longer than they said: no later than stated"),
        pytest.param(MIN_HISTORY, 0.001, {}, 0.5, id="they ended at once: never nothing"),
        pytest.param(
            MIN_HISTORY, 3.0, {"PAUSED_AT": "2026-03-01T01:00:00Z"}, 10.0, id="paused: its start is a later one"
        ),
    ],
)
def test_what_was_used_of_statements_is_taken_with_care(count, hours, said, expected_h):
    history = History([finished(i, hours, DURATION="6h", **said) for i in range(count)], lambda wall: wall)
    stated = Duration(p50=10 * HOUR, p90=10 * HOUR, stated=True)
    assert history.of("research").expects(stated).p50 == expected_h * HOUR


@pytest.mark.parametrize(
    ("hours", "said", "overrun"),
    [
        pytest.param([3.0] * 38 + [6.5, 9.0], "6h", 1.1, id="nearly all"),
        pytest.param([3.0] * 40, "6h", 1.0, id="never less than was said"),
        pytest.param([15.0] * 40, "6h", 2.5, id="they run much longer"),
        pytest.param([3.0] * (MIN_HISTORY - 1), "6h", OVERRUN, id="too few"),
        pytest.param([0.1] * 40, "30m", OVERRUN, id="too short to matter hours ahead"),
    ],
)
def test_heat_is_counted_for_as_long_as_nearly_all_of_the_namespaces_own_jobs_took_of_what_they_said(
    hours: list[float], said: str, overrun: float
):
    history = History([finished(i, h, DURATION=said) for i, h in enumerate(hours)], lambda wall: wall)
    stated = Duration(p50=10 * HOUR, p90=10 * HOUR, stated=True)
    found = history.of("research").expects(stated)
    assert found is not None
    assert found.overrun == pytest.approx(overrun)


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
