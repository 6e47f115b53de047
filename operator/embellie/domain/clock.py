# SPDX-License-Identifier: Apache-2.0
"""Where time comes from.

Nothing that decides reads the wall clock. A `Clock` is passed in, so that the demo, the simulator and the tests run
the real code at any speed. An accelerated clock also translates the API server's timestamps (wall time) into its own.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time that decisions are made in, always timezone-aware UTC."""

    def now(self) -> datetime:
        """Return the current time of this clock."""
        ...

    def from_wall(self, wall: datetime) -> datetime:
        """Translate a wall-clock instant (an API server's timestamp) to this clock's time."""
        ...

    def to_wall(self, moment: datetime) -> datetime:
        """Translate an instant of this clock to the wall clock."""
        ...

    def wall_seconds(self, duration: timedelta) -> float:
        """Return how many real seconds `duration` of this clock takes [s]."""
        ...


class SystemClock:
    """The machine's own clock, set right by how far it is behind those whose times it is compared with."""

    def __init__(self, behind: Callable[[], timedelta] = timedelta) -> None:
        self._behind = behind

    def now(self) -> datetime:
        """Return the wall-clock time."""
        return datetime.now(UTC) + self._behind()

    def from_wall(self, wall: datetime) -> datetime:
        """Return `wall` unchanged."""
        return wall

    def to_wall(self, moment: datetime) -> datetime:
        """Return `moment` unchanged."""
        return moment

    def wall_seconds(self, duration: timedelta) -> float:
        """Return the seconds of `duration` [s]."""
        return duration.total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratedClock:
    """A clock that stood at `origin` when the wall clock stood at `wall_origin`, and runs `factor` times as fast."""

    origin: datetime
    wall_origin: datetime
    factor: float

    def __post_init__(self) -> None:
        """Refuse a factor at which time would stand still or run backwards."""
        if not self.factor > 0:
            raise ValueError(f"factor must be greater than 0, got {self.factor}")

    def now(self) -> datetime:
        """Return the replayed time."""
        return self.from_wall(datetime.fromtimestamp(time.time(), UTC))

    def from_wall(self, wall: datetime) -> datetime:
        """Translate a wall-clock instant to replayed time."""
        return self.origin + (wall - self.wall_origin) * self.factor

    def to_wall(self, moment: datetime) -> datetime:
        """Translate a replayed instant to the wall clock."""
        return self.wall_origin + (moment - self.origin) / self.factor

    def wall_seconds(self, duration: timedelta) -> float:
        """Return how many real seconds `duration` of replayed time takes [s]."""
        return duration.total_seconds() / self.factor


def parse_clock(text: str, behind: Callable[[], timedelta] = timedelta) -> Clock:
    """Read a clock from `system` or `replay:ORIGIN,WALL_ORIGIN,FACTOR` (RFC 3339 instants, a number).

    `behind` tells how far the system's is behind.

    >>> parse_clock("replay:2022-09-05T00:00:00Z,2026-01-01T00:00:00Z,600").wall_seconds(timedelta(hours=1))
    6.0
    """
    if text == "system":
        return SystemClock(behind)
    kind, _, rest = text.partition(":")
    parts = rest.split(",")
    if kind != "replay" or len(parts) != 3:
        raise ValueError(f"clock must be 'system' or 'replay:ORIGIN,WALL_ORIGIN,FACTOR', got {text!r}")
    return AcceleratedClock(
        origin=datetime.fromisoformat(parts[0]).astimezone(UTC),
        wall_origin=datetime.fromisoformat(parts[1]).astimezone(UTC),
        factor=float(parts[2]),
    )
