# SPDX-License-Identifier: Apache-2.0
"""Which stretch of time a report is about."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


class ReportError(Exception):
    """There is no such report; the message says why and how to mend the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A stretch of time in UTC, and the zone in which its days are told."""

    start: datetime
    end: datetime
    zone: ZoneInfo

    @property
    def hours(self) -> float:
        """Its length: a local day has 23 or 25 hours when the clocks change."""
        return (self.end - self.start).total_seconds() / 3600.0

    def day_of(self, moment: datetime) -> str:
        """Return the local day of an instant."""
        return moment.astimezone(self.zone).date().isoformat()

    def seconds_of(self, day: str) -> float:
        """Return how much of a local day lies in the period [s]."""
        first = date.fromisoformat(day)
        midnights = (datetime.combine(one, time(0), tzinfo=self.zone) for one in (first, first + timedelta(days=1)))
        begin, end = (midnight.astimezone(UTC) for midnight in midnights)
        return (min(end, self.end) - max(begin, self.start)).total_seconds()


def parse_period(first: str, last: str, zone_name: str, now: datetime) -> Period:
    """Read --from, --to and --tz; raises ReportError.

    A date stands for its midnight in the zone: `--from 2026-03-01 --to 2026-04-01` is March.
    """
    try:
        zone = ZoneInfo(zone_name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ReportError(f"--tz {zone_name!r} is no time zone; write one as in UTC or Europe/Paris") from error
    now = now.replace(second=0, microsecond=0)
    start, end = _moment(first, "--from", zone), _moment(last, "--to", zone)
    if end <= start:
        raise ReportError(f"--to {last} must lie after --from {first}; --to itself is not part of the report")
    if start >= now:
        raise ReportError(
            f"--from {first} lies in the future (it is {now:%Y-%m-%d %H:%M} UTC); nothing was measured yet"
        )
    # What is still to come is no hole in the accounts: the report ends now.
    return Period(start=start, end=min(end, now), zone=zone)


def _moment(text: str, option: str, zone: ZoneInfo) -> datetime:
    try:
        if len(text) == len("2026-01-01"):
            # The time zone finds the midnight of that day, whatever the clocks did in its night.
            return datetime.combine(date.fromisoformat(text), time(0), tzinfo=zone).astimezone(UTC)
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ReportError(f"{option} {text!r} is no date; write 2026-03-01 or 2026-03-01T06:00:00Z") from error
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=zone).astimezone(UTC)
