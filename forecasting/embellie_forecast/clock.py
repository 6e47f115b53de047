# SPDX-License-Identifier: Apache-2.0
"""The forecaster's clock: the machine's own, or a replay that runs faster.

The syntax of `--clock` is the operator's, so that both processes of one demo share one flag.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastClock:
    """A clock that stood at `origin` when the wall clock stood at `wall_origin`, and runs `factor` times as fast."""

    origin: datetime
    wall_origin: datetime
    factor: float
    replay: bool

    def now(self) -> datetime:
        """Return the current time of this clock, UTC."""
        return self.origin + (datetime.fromtimestamp(time.time(), UTC) - self.wall_origin) * self.factor


def parse_clock(text: str) -> ForecastClock:
    """Read a clock from `system` or `replay:ORIGIN,WALL_ORIGIN,FACTOR` (RFC 3339 instants, a number).

    >>> parse_clock("replay:2022-09-05T00:00:00Z,2026-01-01T00:00:00Z,600").factor
    600.0
    """
    if text == "system":
        epoch = datetime.fromtimestamp(0, UTC)
        return ForecastClock(origin=epoch, wall_origin=epoch, factor=1.0, replay=False)
    kind, _, rest = text.partition(":")
    parts = rest.split(",")
    if kind != "replay" or len(parts) != 3:
        raise ValueError(f"clock must be 'system' or 'replay:ORIGIN,WALL_ORIGIN,FACTOR', got {text!r}")
    factor = float(parts[2])
    if not 0 < factor < 1e6:
        raise ValueError(f"the clock's factor must lie between 0 and 1000000, got {parts[2]!r}")
    return ForecastClock(
        origin=parse_instant(parts[0]), wall_origin=parse_instant(parts[1]), factor=factor, replay=True
    )


def parse_instant(text: str) -> datetime:
    """Read an RFC 3339 instant; one without a zone is refused, because it could mean any hour.

    >>> parse_instant("2022-09-05T02:00:00+02:00").isoformat()
    '2022-09-05T00:00:00+00:00'
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"the instant {text!r} has no zone: write it with a Z or an offset")
    return moment.astimezone(UTC)
