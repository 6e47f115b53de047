# SPDX-License-Identifier: Apache-2.0
"""The latest start: computed once, and only ever earlier."""

from datetime import UTC, datetime, timedelta

from embellie.domain.reasons import Reason
from embellie.planning.bounds import latest_start, tighten

CREATED = datetime(2026, 7, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_without_a_deadline_the_policys_delay_bounds_the_wait() -> None:
    assert latest_start(CREATED, 24 * HOUR, None, 5 * HOUR) == (CREATED + 24 * HOUR, None)


def test_a_deadline_leaves_room_for_the_p90_of_the_duration() -> None:
    assert latest_start(CREATED, 24 * HOUR, CREATED + 10 * HOUR, 4 * HOUR) == (CREATED + 6 * HOUR, None)


def test_a_far_deadline_does_not_lengthen_the_wait() -> None:
    assert latest_start(CREATED, 24 * HOUR, CREATED + 100 * HOUR, 4 * HOUR) == (CREATED + 24 * HOUR, None)


def test_a_deadline_in_the_past_starts_now() -> None:
    assert latest_start(CREATED, 24 * HOUR, CREATED - HOUR, HOUR) == (CREATED, Reason.DEADLINE_UNREACHABLE)


def test_a_deadline_before_the_job_could_end_starts_now() -> None:
    assert latest_start(CREATED, 24 * HOUR, CREATED + HOUR, 2 * HOUR) == (CREATED, Reason.DEADLINE_UNREACHABLE)


def test_a_deadline_that_just_fits_is_no_failure() -> None:
    assert latest_start(CREATED, 24 * HOUR, CREATED + 2 * HOUR, 2 * HOUR) == (CREATED, None)


def test_a_negative_delay_is_no_delay() -> None:
    assert latest_start(CREATED, -HOUR, None, HOUR) == (CREATED, None)


def test_a_bound_moves_only_earlier() -> None:
    assert tighten(CREATED, CREATED + HOUR) == CREATED
    assert tighten(CREATED, CREATED - HOUR) == CREATED - HOUR
    assert tighten(None, CREATED) == CREATED
