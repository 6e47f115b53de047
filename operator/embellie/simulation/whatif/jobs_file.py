# SPDX-License-Identifier: Apache-2.0
"""Reads a job trace. A bad row is named with its line and left out; the rest goes on, and all of them are counted."""

import math
import sys
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO

from embellie.simulation.whatif.moments import parse_utc
from embellie.simulation.whatif.tables import opened, stream_of, with_point

REQUIRED = ("job_id", "submit_time_s", "duration_s", "gpus")
_MOST_SECONDS = 1e11
_MOST_GPUS = 1e6
_SINCE_1970_S = 3e8
"""What is submitted ten years and more after the moment 0 has that moment in 1970."""
_AGREES_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One job of a trace."""

    id: str
    tenant: str
    kind: str
    submit_s: float
    duration_s: float
    gpus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """A row that was left out."""

    line: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTrace:
    """A trace, sorted by submission."""

    jobs: tuple[JobRow, ...]
    anchor: datetime | None
    """The moment of submit time 0; None where the trace has no calendar."""
    rows: int
    left_out: tuple[BadRow, ...]
    out_of_order: int
    """Rows that came later in the file than in time; they were sorted in."""
    notes: tuple[str, ...] = ()
    """What a reader must know of it, one sentence each."""

    def reasons(self) -> dict[str, int]:
        """Return how many rows were left out for what."""
        return dict(Counter(row.why for row in self.left_out).most_common())


def read_jobs(path: Path, unit: str = "gpus") -> JobTrace:
    """Read a trace: CSV, plain or gzip, with at least job_id, submit_time_s, duration_s and gpus.

    Raises ValueError for a missing column or a file that is no CSV.

    Args:
        path: The file.
        unit: The column that says how many units a job takes: `gpus`, or `cpu` for traces without GPUs.
    """
    with opened(path) as lines:
        return parse_jobs(lines, path.name, unit)


def parse_jobs(lines: TextIO, name: str, unit: str = "gpus") -> JobTrace:
    """Read a trace from its lines, which are not kept; see `read_jobs`."""
    header, rows = stream_of(lines, name)
    missing = [c for c in (*REQUIRED[:-1], unit) if c not in header.names]
    if missing:
        raise ValueError(f"{name} has no column {', '.join(missing)}; a job trace needs {', '.join(REQUIRED)}")
    collector = Collector()
    anchor: datetime | None = None
    apart = 0
    for row in rows:
        try:
            if row.fault:
                raise ValueError(row.fault)
            job = _job(row.cells, unit, header.decimal_comma)
        except ValueError as error:
            collector.refuse(row.line, str(error))
            continue
        if collector.add(job, row.line) and (told := _anchor(row.cells, job.submit_s)) is not None:
            anchor = anchor or told
            apart += abs((told - anchor).total_seconds()) > _AGREES_S
    return _by_the_hour(collector.trace(anchor, notes=_of_moments(apart)))


def _of_moments(apart: int) -> tuple[str, ...]:
    said = "jobs have a submit_time_utc that does not go with submit_time_s and the first job's: the seconds count"
    return (f"{apart} {said}",) * (apart > 0)


def _by_the_hour(trace: JobTrace) -> JobTrace:
    """Return the trace from its first hour on where its seconds are those since 1970."""
    if not trace.jobs or trace.jobs[0].submit_s < _SINCE_1970_S:
        return trace
    start_s = trace.jobs[0].submit_s // 3600.0 * 3600.0
    return replace(
        trace,
        jobs=tuple(replace(job, submit_s=job.submit_s - start_s) for job in trace.jobs),
        anchor=(trace.anchor or datetime.fromtimestamp(0, UTC)) + timedelta(seconds=start_s),
    )


class Collector:
    """Gathers jobs and what was wrong with the others."""

    def __init__(self) -> None:
        self._jobs: list[JobRow] = []
        self._ids: set[str] = set()
        self._bad: list[BadRow] = []
        self._out_of_order = 0
        self._latest = -math.inf
        self._rows = 0

    def refuse(self, line: int, why: str) -> None:
        """Leave a row out."""
        self._rows += 1
        self._bad.append(BadRow(line=line, why=why))

    def add(self, job: JobRow, line: int, listed_s: float | None = None) -> bool:
        """Take a job in unless its id came before; return whether it was taken.

        Args:
            job: What the row tells.
            line: The row's line.
            listed_s: The time by which files list it, where that is another than the one it counts from.
        """
        if job.id in self._ids:
            self.refuse(line, "job_id came before in the file")
            return False
        self._rows += 1
        self._ids.add(job.id)
        listed_s = job.submit_s if listed_s is None else listed_s
        self._out_of_order += listed_s < self._latest
        self._latest = max(self._latest, listed_s)
        self._jobs.append(job)
        return True

    def trace(self, anchor: datetime | None, notes: tuple[str, ...] = ()) -> JobTrace:
        """Return what was gathered."""
        self._jobs.sort(key=lambda job: job.submit_s)
        return JobTrace(
            jobs=tuple(self._jobs),
            anchor=anchor,
            rows=self._rows,
            left_out=tuple(self._bad),
            out_of_order=self._out_of_order,
            notes=notes,
        )


def _job(row: dict[str, str | None], unit: str, decimal_comma: bool) -> JobRow:
    name = (row.get("job_id") or "").strip()
    if not name:
        raise ValueError("job_id is empty")
    return JobRow(
        id=name,
        # Once each: there are few of them, and a million jobs.
        tenant=sys.intern((row.get("tenant") or "").strip()),
        kind=sys.intern((row.get("kind") or "").strip()),
        submit_s=_number(row, "submit_time_s", decimal_comma, low=0.0, high=_MOST_SECONDS),
        duration_s=_number(row, "duration_s", decimal_comma, low=0.0, high=_MOST_SECONDS, above=True),
        gpus=_number(row, unit, decimal_comma, low=0.0, high=_MOST_GPUS, above=True),
    )


def _number(
    row: dict[str, str | None], column: str, decimal_comma: bool, *, low: float, high: float, above: bool = False
) -> float:
    text = (row.get(column) or "").strip()
    if not text:
        raise ValueError(f"{column} is empty")
    try:
        value = float(with_point(text, decimal_comma))
    except ValueError:
        raise ValueError(f"{column} is not a number") from None
    if not math.isfinite(value) or value > high:
        raise ValueError(f"{column} is not a number that a job can have")
    if value < low or (above and value == low):
        raise ValueError(f"{column} is {'zero' if value == 0 else 'negative'}")
    return value


def _anchor(row: dict[str, str | None], submit_s: float) -> datetime | None:
    text = (row.get("submit_time_utc") or "").strip()
    try:
        return parse_utc(text) - timedelta(seconds=submit_s)
    except (ValueError, OverflowError):
        return None
