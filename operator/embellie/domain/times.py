# SPDX-License-Identifier: Apache-2.0
"""Instants as the API server reads and writes them."""

from datetime import UTC, datetime


def parse_time(text: object) -> datetime | None:
    """Read an RFC 3339 instant into UTC; None for anything else, and for one without a time zone."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def format_time(moment: datetime) -> str:
    """Write an instant as RFC 3339 in UTC, to the second.

    >>> format_time(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    '2026-01-02T03:04:05Z'
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_time(moment: datetime) -> str:
    """Write an instant as a Kubernetes MicroTime.

    >>> micro_time(datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC))
    '2026-01-02T03:04:05.000006Z'
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
