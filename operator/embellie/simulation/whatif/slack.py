# SPDX-License-Identifier: Apache-2.0
"""How long a job may wait: by its length, a fixed slack, or a calendar rule."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from embellie.domain.durations import parse_duration
from embellie.domain.forecast import FloatArray

SHORT_JOB_S = 2 * 3600.0
"""GAIA's two queues: work under two hours, and the rest."""
LAG_RULES = ("none", "next-workday", "semi-weekly")
_WAIT = re.compile(r"(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)")
_WORK_BEGINS, _WORK_ENDS = 9, 17
_SATURDAY = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Slack:
    """The bound on waiting; exactly one of its parts is set."""

    short_h: float = 24.0
    """For jobs under two hours."""
    long_h: float = 24.0
    lag_rule: str = "none"
    """A rule of "Let's Wait Awhile" (Middleware 2021) instead of hours."""

    def seconds(self, submit_s: FloatArray, duration_s: FloatArray, anchor: datetime | None) -> FloatArray:
        """Return how long each job may wait in all [s].

        Raises ValueError where a calendar rule has no calendar.
        """
        if self.lag_rule == "none":
            return np.where(duration_s < SHORT_JOB_S, self.short_h, self.long_h) * 3600.0
        if anchor is None:
            raise ValueError(
                f"--lag-rule {self.lag_rule} needs the calendar: give --anchor, the moment of submit time 0"
            )
        rule = next_workday if self.lag_rule == "next-workday" else semi_weekly
        ends = [anchor + timedelta(seconds=float(s)) for s in submit_s + duration_s]
        return np.array([(rule(end) - end).total_seconds() for end in ends])


def parse_wait(text: str) -> Slack:
    """Read `6x24`: jobs under two hours wait at most 6 h, others 24 h."""
    found = _WAIT.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"{text!r} must be two numbers of hours, such as 6x24: for jobs under two hours, and for others"
        )
    return Slack(short_h=float(found[1]), long_h=float(found[2]))


def parse_slack(text: str) -> Slack:
    """Read one slack for all, such as `24h`; `0h` is none."""
    hours = 0.0 if re.fullmatch(r"0[dhms]?", text.strip()) else parse_duration(text).total_seconds() / 3600.0
    return Slack(short_h=hours, long_h=hours)


def next_workday(end: datetime) -> datetime:
    """Return when somebody looks at a run that ends: at once in working hours, else the next morning at nine.

    As published, a run that ends on Friday evening is looked at on Saturday morning.
    """
    nine = end.replace(hour=_WORK_BEGINS, minute=0, second=0, microsecond=0)
    if end.weekday() == _SATURDAY:
        return nine + timedelta(days=2)
    if end.weekday() > _SATURDAY or end.hour > _WORK_ENDS or (end.hour == _WORK_ENDS and end > nine.replace(hour=17)):
        return nine + timedelta(days=1)
    return max(end, nine)


def semi_weekly(end: datetime) -> datetime:
    """Return the next Monday or Thursday at nine."""
    nine = end.replace(hour=_WORK_BEGINS, minute=0, second=0, microsecond=0)
    for days in range(8):
        day = nine + timedelta(days=days)
        if day.weekday() in (0, 3) and day >= end:
            return day
    raise AssertionError("a week has a Monday")
