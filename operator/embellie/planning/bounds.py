# SPDX-License-Identifier: Apache-2.0
"""How long a workload may wait at most: computed once, moved only earlier."""

from datetime import datetime, timedelta

from embellie.domain.reasons import Reason


def latest_start(
    created_at: datetime, max_delay: timedelta, deadline: datetime | None, duration_p90: timedelta
) -> tuple[datetime, Reason | None]:
    """Return the latest start: min(creation + `max_delay`, `deadline` - P90 of the duration).

    A deadline that was already out of reach when the workload was created leaves no time to wait: the bound is the
    creation itself, with the reason `DeadlineUnreachable`.
    """
    bound = created_at + max(timedelta(0), max_delay)
    if deadline is None:
        return bound, None
    by_deadline = deadline - max(timedelta(0), duration_p90)
    if by_deadline < created_at:
        return created_at, Reason.DEADLINE_UNREACHABLE
    return min(bound, by_deadline), None


def tighten(existing: datetime | None, proposed: datetime) -> datetime:
    """Return the bound to keep: the earlier of the two, whatever the order in which they came."""
    return proposed if existing is None else min(existing, proposed)
