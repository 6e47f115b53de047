# SPDX-License-Identifier: Apache-2.0
"""When a heartbeat counts as silent."""

from datetime import UTC, datetime, timedelta
from typing import Any

from embellie.watchdog.lease import Heartbeat, micro_time

WALL = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def lease(renewed: datetime) -> dict[str, Any]:
    return {"metadata": {"uid": "u"}, "spec": {"renewTime": micro_time(renewed)}}


def test_a_heartbeat_that_does_not_change_for_the_limit_is_stale() -> None:
    heart = Heartbeat(120.0, longest_gap_seconds=6.0)
    for second in range(0, 120, 2):
        heart.observe(lease(WALL), float(second), WALL)
        assert not heart.stale
    heart.observe(lease(WALL), 120.0, WALL)
    assert heart.stale
    heart.observe(lease(WALL + timedelta(seconds=1)), 122.0, WALL)
    assert not heart.stale


def test_time_without_an_api_server_is_not_silence_of_the_operator() -> None:
    heart = Heartbeat(120.0, longest_gap_seconds=6.0)
    heart.observe(lease(WALL), 0.0, WALL)
    heart.observe(lease(WALL), 1000.0, WALL)
    assert heart.silent_seconds == 6.0


def test_a_lease_that_was_old_at_our_start_is_watched_for_a_quarter_of_the_limit_and_no_longer() -> None:
    heart = Heartbeat(120.0, longest_gap_seconds=6.0)
    heart.observe(lease(WALL - timedelta(hours=1)), 0.0, WALL)
    assert not heart.stale
    for second in range(2, 32, 2):
        heart.observe(lease(WALL - timedelta(hours=1)), float(second), WALL)
    assert heart.stale


def test_a_clock_that_is_ahead_does_not_help_or_harm() -> None:
    heart = Heartbeat(120.0, longest_gap_seconds=6.0)
    heart.observe(lease(WALL + timedelta(hours=5)), 0.0, WALL)
    assert heart.silent_seconds == 0.0


def test_a_missing_lease_counts_from_when_we_first_looked_and_one_that_appears_is_life() -> None:
    heart = Heartbeat(4.0, longest_gap_seconds=6.0)
    heart.observe(None, 0.0, WALL)
    heart.observe(None, 5.0, WALL)
    assert heart.stale
    heart.observe(lease(WALL), 6.0, WALL)
    assert not heart.stale
    heart.observe(None, 11.0, WALL)
    assert heart.stale


def test_a_lease_with_an_unreadable_time_is_no_head_start() -> None:
    heart = Heartbeat(4.0, longest_gap_seconds=6.0)
    heart.observe({"metadata": {}, "spec": {"renewTime": "7 bananas"}}, 0.0, WALL)
    assert heart.silent_seconds == 0.0
