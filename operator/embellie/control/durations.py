# SPDX-License-Identifier: Apache-2.0
"""How long work takes: what its user stated, else what like work took, else what its policy assumes. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from embellie.cluster.records import WorkloadRecord
from embellie.domain import names
from embellie.domain.durations import MAX_DURATION, parse_duration

MIN_HISTORY = 20
"""Fewer finished Jobs than this say too little about the next one."""
OVERDUE_FACTOR = 1.25
"""Work that has outlived its P90 is expected to go on for a quarter of what it has run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """A duration with its spread."""

    p50: timedelta
    p90: timedelta
    stated: bool = False
    """Written down by the user; everything else is a guess that may change."""


def stated_duration(annotations: Mapping[str, str]) -> Duration | None:
    """Return what the user stated, or Kueue's time limit; None without either. Raises ValueError for nonsense."""
    text = annotations.get(names.DURATION)
    if text is not None:
        stated = parse_duration(text)
        return Duration(p50=stated, p90=stated, stated=True)
    hint = annotations.get(names.KUEUE_MAX_EXEC_SECONDS, "")
    # Nine digits are enough for a year, and int() refuses very long numbers.
    if hint.isascii() and hint.isdigit() and len(hint) <= 9 and 0 < int(hint) <= MAX_DURATION.total_seconds():
        limit = timedelta(seconds=int(hint))
        return Duration(p50=limit, p90=limit, stated=True)
    return None


class History:
    """Quantiles of how long the Jobs that have finished ran, by namespace. Rebuilt from what is in the cluster."""

    def __init__(self, workloads: Iterable[WorkloadRecord], from_wall: Callable[[datetime], datetime]) -> None:
        found: dict[str, list[timedelta]] = defaultdict(list)
        for record in workloads:
            if record.completed_at is not None and record.started_at is not None:
                ran = from_wall(record.completed_at) - from_wall(record.started_at)
                if ran > timedelta(0):
                    found[record.key.namespace].append(ran)
        self._durations = {ns: _quantiles(ran) for ns, ran in found.items() if len(ran) >= MIN_HISTORY}

    def of(self, namespace: str) -> Duration | None:
        """Return what the namespace's Jobs took; None with too few of them."""
        return self._durations.get(namespace)


def _quantiles(ran: list[timedelta]) -> Duration:
    ordered = sorted(ran)
    return Duration(p50=ordered[len(ordered) // 2], p90=ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))])


def assumed(seconds: float) -> Duration:
    """Return a policy's assumption: it stands for the P90; half of it for the median."""
    p90 = timedelta(seconds=seconds)
    return Duration(p50=p90 / 2, p90=p90)


def expected_ends(started_at: datetime, duration: Duration, now: datetime) -> tuple[datetime, datetime]:
    """Return when running work is expected to end, P50 and P90, given that it has not ended yet."""
    p50, p90 = started_at + duration.p50, started_at + duration.p90
    overdue = started_at + (now - started_at) * OVERDUE_FACTOR
    if now >= p90:
        return overdue, overdue
    return (p50 if now < p50 else p90), p90
