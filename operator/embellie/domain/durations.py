# SPDX-License-Identifier: Apache-2.0
"""Durations as people write them on a workload: `9h30m`, `45m`, `2d`, `90s`."""

import math
import re
from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_WHOLE = re.compile(r"(?:\d{1,6}[dhms])+")
_PART = re.compile(r"(\d{1,6})([dhms])")

MAX_DURATION = timedelta(days=366)

MIN_HISTORY = 20
"""Fewer finished runs than this say too little about the next one."""
SHARE_STEP = 0.05
"""The part of stated durations that is used is known in such steps: one more finished run shall not change it."""
OVERRUN = 1.5
"""Times its stated length for which a run's heat is counted, as long as too little is known of work like it."""
_NEARLY_ALL = 0.95
_LONG_S = 3600.0
"""The heat of runs that were to be shorter does not reach into the hours ahead [s]."""


def overrun_of(runs: Iterable[tuple[float, float]]) -> float:
    """Return times their stated length that nearly all runs are over in, at least 1; `OVERRUN` with too few of them.

    Args:
        runs: Of finished runs what was stated and what they took [s].

    >>> overrun_of([(3600.0, 2000.0)] * 38 + [(3600.0, 3900.0), (3600.0, 9000.0)])
    1.1
    """
    used = sorted(took_s / stated_s for stated_s, took_s in runs if stated_s >= _LONG_S)
    if len(used) < MIN_HISTORY:
        return OVERRUN
    return max(1.0, math.ceil(round(used[int(_NEARLY_ALL * len(used))] / SHARE_STEP, 6)) * SHARE_STEP)


@lru_cache(maxsize=4096)
def parse_duration(text: str) -> timedelta:
    """Read a positive duration such as `9h30m`.

    Raises ValueError, with a sentence that says how to mend it, for anything else, zero and more than 366 days.

    >>> parse_duration("9h30m")
    datetime.timedelta(seconds=34200)
    """
    written = text.strip()
    if not _WHOLE.fullmatch(written):
        raise ValueError(f"{text[:40]!r} is not a duration; write it with d, h, m and s, such as 9h30m")
    seconds = sum(int(n) * _UNITS[u] for n, u in _PART.findall(written))
    if not seconds:
        raise ValueError(f"{text[:40]!r} is no time at all; a duration must be longer than zero, such as 9h30m")
    if seconds > MAX_DURATION.total_seconds():
        raise ValueError(f"{text[:40]!r} is more than 366 days; write a shorter duration, such as 9h30m")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """Write a duration with at most two units, as a person would say it.

    >>> format_duration(timedelta(hours=9, minutes=30))
    '9h30m'
    >>> format_duration(timedelta(seconds=-5))
    '0s'
    """
    seconds = max(0, int(duration.total_seconds()))
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, secs = divmod(rest, 60)
    if days:
        return f"{days}d{hours}h" if hours else f"{days}d"
    if hours:
        return f"{hours}h{minutes:02d}m" if minutes else f"{hours}h"
    if minutes:
        return f"{minutes}m{secs:02d}s" if secs and minutes < 10 else f"{minutes}m"
    return f"{secs}s"
