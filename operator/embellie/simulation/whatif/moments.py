# SPDX-License-Identifier: Apache-2.0
"""Moments in the files and options of a replay."""

from datetime import UTC, datetime


def parse_utc(text: str) -> datetime:
    """Read an ISO 8601 moment; without a zone it is UTC. Raises ValueError for anything else."""
    moment = datetime.fromisoformat(text)
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} lies outside the calendar") from error
