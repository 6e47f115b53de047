# SPDX-License-Identifier: Apache-2.0
"""How long work takes: what its user stated, else what like work took, else what its policy assumes. Pure.

Users state limits, not expectations. So what they state bounds a run, and the part of it that their earlier runs used
tells when a run is expected to end.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median

from embellie.cluster.records import WorkloadRecord
from embellie.domain import names
from embellie.domain.durations import MAX_DURATION, MIN_HISTORY, OVERRUN, SHARE_STEP, overrun_of, parse_duration

OVERDUE_FACTOR = 1.25
"""Work that has outlived its P90 is expected to go on for a quarter of what it has run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """A duration with its spread."""

    p50: timedelta
    p90: timedelta
    stated: bool = False
    """Written down by the user; everything else is a guess that may change."""
    overrun: float = OVERRUN
    """Times its stated length that nearly all work like it takes at most."""


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


def readable_duration(annotations: Mapping[str, str]) -> Duration | None:
    """Return what the user stated; None also where it is nonsense."""
    try:
        return stated_duration(annotations)
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What the finished Jobs of a namespace tell about its next one."""

    took: Duration | None = None
    """How long they ran; None with too few of them."""
    used_share: float = 1.0
    """The part of its stated duration that half of them used at most, 0..1; 1 with too few of them."""
    overrun: float = OVERRUN
    """The same for nearly all of them, 1 or more; see `overrun_of`."""

    def expects(self, stated: Duration | None) -> Duration | None:
        """Return how long work is expected to take, stated or not; None where nothing is known of it.

        What was stated stays the P90; the P50 is the part of it that earlier work used.

        >>> hours = timedelta(hours=1)
        >>> Past(used_share=0.5).expects(Duration(p50=8 * hours, p90=8 * hours, stated=True)).p50 / hours
        4.0
        """
        if stated is None:
            return self.took
        return replace(stated, p50=stated.p90 * self.used_share, overrun=self.overrun)


class History:
    """How long the Jobs that have finished ran, by namespace. Rebuilt from what is in the cluster."""

    def __init__(self, workloads: Iterable[WorkloadRecord], from_wall: Callable[[datetime], datetime]) -> None:
        found: dict[str, list[timedelta]] = defaultdict(list)
        limits: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for record in workloads:
            if record.completed_at is None or record.started_at is None or names.PAUSED_AT in record.annotations:
                continue  # of a Job that was paused the API server keeps its last start only
            ran = from_wall(record.completed_at) - from_wall(record.started_at)
            if ran <= timedelta(0):
                continue
            found[record.key.namespace].append(ran)
            stated = readable_duration(record.annotations)
            if stated is not None:
                limits[record.key.namespace].append((stated.p90.total_seconds(), ran.total_seconds()))
        self._past = {
            namespace: Past(
                took=_quantiles(ran) if len(ran) >= MIN_HISTORY else None,
                used_share=_used_share(limits[namespace]),
                overrun=overrun_of(limits[namespace]),
            )
            for namespace, ran in found.items()
        }

    def of(self, namespace: str) -> Past:
        """Return what is known of a namespace."""
        return self._past.get(namespace, _NOTHING)


_NOTHING = Past()


def _used_share(runs: list[tuple[float, float]]) -> float:
    """Return the median in steps, from what was stated and what runs took [s]."""
    if len(runs) < MIN_HISTORY:
        return 1.0
    share = median(took_s / stated_s for stated_s, took_s in runs)
    return min(max(round(share / SHARE_STEP), 1) * SHARE_STEP, 1.0)


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
