# SPDX-License-Identifier: Apache-2.0
"""How times and amounts are written for people. Pure."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo

from embellie.domain.durations import format_duration
from embellie.domain.times import parse_time

_INSTANT = re.compile(r"(?<!')\b(\d{4}-\d\d-\d\d \d\d:\d\d) UTC\b")
"""An instant in a decision's sentence; what a user wrote is quoted there."""


def clock_time(moment: datetime, now: datetime, zone: tzinfo | None = None) -> str:
    """Write an instant in `zone` (None: the machine's own), as short as it stays clear, always with its zone.

    >>> from datetime import UTC
    >>> clock_time(datetime(2026, 7, 2, 2, tzinfo=UTC), datetime(2026, 7, 1, 12, tzinfo=UTC), UTC)
    'Thu 02:00 UTC'
    """
    here, today = moment.astimezone(zone), now.astimezone(zone)
    if here.date() == today.date():
        return f"{here:%H:%M} {here.tzname()}"
    if abs(here - today) < timedelta(days=6):
        return f"{here:%a %H:%M} {here.tzname()}"
    return f"{here:%Y-%m-%d %H:%M} {here.tzname()}"


def with_clock_times(sentence: str, now: datetime, zone: tzinfo | None = None) -> str:
    """Write the instants in a decision's sentence as `clock_time` does.

    >>> from datetime import UTC
    >>> with_clock_times("Starts 2026-07-02 02:00 UTC.", datetime(2026, 7, 1, 12, tzinfo=UTC), UTC)
    'Starts Thu 02:00 UTC.'
    """

    def written(found: re.Match[str]) -> str:
        moment = parse_time(f"{found.group(1)}Z")
        return clock_time(moment, now, zone) if moment else found.group()

    return _INSTANT.sub(written, sentence)


def in_time(moment: datetime, now: datetime) -> str:
    """Write how far away an instant is.

    >>> from datetime import UTC
    >>> in_time(datetime(2026, 7, 1, 15, 30, tzinfo=UTC), datetime(2026, 7, 1, 12, tzinfo=UTC))
    'in 3h30m'
    """
    if moment >= now:
        return f"in {format_duration(moment - now)}"
    return f"{format_duration(now - moment)} ago"


def grams(value: float) -> str:
    """Write a mass of CO2e in the unit that reads well.

    >>> grams(850), grams(4123), grams(2_300_000)
    ('850 g', '4.12 kg', '2.3 t')
    """
    amount, unit = (value, "g") if value < 1000 else (value / 1e3, "kg") if value < 1e6 else (value / 1e6, "t")
    return f"{amount:.0f} {unit}" if amount >= 100 or unit == "g" else f"{amount:.3g} {unit}"


def in_columns(lines: Sequence[Sequence[str]], *, numbers: bool = False, gap: int = 3) -> list[str]:
    """Align the cells of lines: to the left, or from the second column on to the right where they are numbers.

    >>> in_columns([("zone", "kWh"), ("west", "12,000.5")], numbers=True)
    ['zone        kWh', 'west   12,000.5']
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if numbers and k else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return (" " * gap).join(padded).rstrip()

    return [line(cells) for cells in lines]


def one_line(text: str, longest: int = 300) -> str:
    """Return text on one line, cut where it would run on, without what would move a terminal's cursor."""
    joined = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return joined if len(joined) <= longest else f"{joined[: longest - 1].rstrip()}…"
