# SPDX-License-Identifier: Apache-2.0
"""Terms: what a workload asked for, and what becomes of what cannot be read."""

from datetime import UTC, datetime, timedelta

import pytest

from embellie.api.energypolicy import EnergyPolicySpec
from embellie.control.work.terms import read_terms, residency_allows
from embellie.domain import names
from embellie.domain.reasons import Reason

CREATED = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = EnergyPolicySpec(max_delay_seconds=86400, bonus_max_delay_seconds=604800, assumed_duration_seconds=36000)


def terms(flex: str = "patient", **annotations: str):
    return read_terms(flex, {getattr(names, k.upper()): v for k, v in annotations.items()}, CREATED, POLICY)


def test_without_annotations_the_policy_bounds_the_wait():
    assert terms().latest_start == CREATED + timedelta(days=1)
    assert terms("bonus").latest_start == CREATED + timedelta(days=7)
    assert terms().duration.p90 == timedelta(hours=10)
    assert terms().start_now is None


def test_max_delay_shortens_the_policys_and_never_lengthens_it():
    assert terms(max_delay="2h").latest_start == CREATED + timedelta(hours=2)
    assert terms(max_delay="30d").latest_start == CREATED + timedelta(days=1)


def test_deadline_less_the_duration_bounds_the_start():
    read = terms(deadline="2026-03-02T00:00:00Z", duration="9h30m")
    assert read.latest_start == datetime(2026, 3, 1, 14, 30, tzinfo=UTC)


def test_kueues_time_limit_serves_as_duration():
    assert terms(kueue_max_exec_seconds="7200").duration.p90 == timedelta(hours=2)
    assert terms(kueue_max_exec_seconds="-1").duration.p90 == timedelta(hours=10)


@pytest.mark.parametrize("deadline", ["2026-03-01T18:00:00", "tomorrow", "", "2026-13-01T00:00:00Z", "1e9"])
def test_a_deadline_without_a_zone_or_sense_starts_the_work_at_once_and_says_how_to_mend_it(deadline: str):
    read = terms(deadline=deadline)
    assert read.start_now is Reason.INVALID_ANNOTATION
    assert read.latest_start == CREATED, "it may be past already, so that only a fresh reading over a limit holds it"
    assert names.DEADLINE in read.problems[0]
    assert "2026-03-01T18:00:00Z" in read.problems[0]


@pytest.mark.parametrize("deadline", ["2026-02-01T00:00:00Z", "2026-03-01T20:00:00Z"])
def test_a_deadline_in_the_past_or_before_the_job_could_end_starts_it_at_once(deadline: str):
    read = terms(deadline=deadline, duration="9h")
    assert read.start_now is Reason.DEADLINE_UNREACHABLE
    assert read.latest_start == CREATED
    assert names.DURATION in read.message


@pytest.mark.parametrize("duration", ["0s", "-3h", "7 bananas", "", "9", "NaN", "9h30", "400d", "1e3h"])
def test_a_senseless_duration_is_reported_and_the_policys_assumption_counts(duration: str):
    read = terms(duration=duration)
    assert read.duration.p90 == timedelta(hours=10)
    assert read.start_now is None
    assert names.DURATION in read.problems[0]
    assert "9h30m" in read.problems[0]


@pytest.mark.parametrize("watts", ["0.7kW", "", "nan", "9", "1e9"])
def test_senseless_watts_are_reported_and_hold_nothing_up(watts: str):
    read = terms(watts_per_gpu=watts)
    assert read.start_now is None
    (problem,) = read.problems
    assert names.WATTS_PER_GPU in problem
    assert "such as 650" in problem


def test_a_checkpoint_that_cannot_be_used_is_reported():
    read = terms(watts_per_gpu="650", checkpoint="takes=90m")
    assert read.start_now is None
    (problem,) = read.problems
    assert names.CHECKPOINT in problem
    assert "1h" in problem


@pytest.mark.parametrize("residency", ["Germany", "US-CA;FR", "FR, Deutschland", "USA", " , "])
def test_a_residency_that_is_no_code_is_reported_and_starts_nothing(residency: str):
    found = terms(residency=residency)
    (problem,) = found.problems
    assert "embellie.io/residency" in problem
    assert "ISO 3166 code such as FR or US-CA" in problem
    assert found.start_now is None


@pytest.mark.parametrize("residency", ["FR", "us-ca, fr", "US-CA,", ""])
def test_a_residency_of_codes_has_nothing_to_be_mended(residency: str):
    assert terms(residency=residency).problems == ()


def test_a_max_delay_that_cannot_be_read_starts_the_work_at_once_and_says_how_to_mend_it():
    read = terms(max_delay="soon", deadline="tomorrow")
    assert read.start_now is Reason.INVALID_ANNOTATION
    assert read.latest_start == CREATED
    first, second = read.problems
    assert names.MAX_DELAY in first
    assert "9h30m" in first
    assert names.DEADLINE in second


@pytest.mark.parametrize(
    ("residency", "jurisdiction", "allowed"),
    [
        ("FR", "FR", True),
        ("fr", "FR", True),
        ("US", "US-CA", True),
        ("US-CA", "US", False),
        ("FR", "", False),
        ("DE, FR", "FR", True),
        ("F", "FR", False),
        ("", "FR", False),
    ],
)
def test_a_country_covers_its_parts_and_never_the_other_way_round(residency: str, jurisdiction: str, allowed: bool):
    assert residency_allows(residency, jurisdiction) is allowed
