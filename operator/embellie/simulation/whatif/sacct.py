# SPDX-License-Identifier: Apache-2.0
"""Reads Slurm's accounting: `sacct --parsable2`, with a header line.

    sacct -a -X -S 2026-01-01 -E 2026-02-01 --parsable2 \
      -o JobIDRaw,Account,Partition,Submit,Eligible,Start,End,ElapsedRaw,AllocTRES,State

Times are read as UTC: run it with TZ=UTC. Steps (`1234.batch`) are passed over; a job's length is what it ran.
"""

import re
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TextIO

from embellie.simulation.whatif.jobs_file import Collector, JobRow, JobTrace
from embellie.simulation.whatif.moments import parse_utc
from embellie.simulation.whatif.tables import opened

_IDS = ("JobIDRaw", "JobID")
_GPUS = re.compile(r"gres/gpu(:[^=,:]+)?[=:](\d{1,6})(?![^,])")
_SLICE = re.compile(r"gres/gpu:[^=,]*(?<![a-z0-9])\d+g\.\d+gb")
_CPUS = re.compile(r"(?:^|,)cpu=(\d{1,6})(?![^,])")
_SHORTEST_TIME = len("20260101T00")
_YEAR_2000_S = 946_684_800.0
_HOUR_S = 3600
_EPOCH = re.compile(r"\d{9,10}")
_ELAPSED = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)(?:\.\d+)?")


class _Run(NamedTuple):
    """One time that a job ran."""

    line: int
    id: str
    tenant: str
    kind: str
    submit_s: float
    """Since 1970."""
    ready_s: float
    """When it could have run: after what it depends on, and not before the time that its user asked for."""
    elapsed_s: int
    units: int
    on_local_time: bool
    """It ended an hour more or less after its start than it ran: a clock was set meanwhile."""


def read_sacct(path: Path, unit: str = "gpus") -> JobTrace:
    """Read an export. Raises ValueError for a missing column; a bad row is named and left out.

    Args:
        path: The file.
        unit: What a job takes: `gpus`, or `cpu`.
    """
    # Names are in the code page of who gave them, or cut off amid a letter; what is counted is ASCII.
    with opened(path, errors="replace") as lines:
        return parse_sacct(lines, path.name, unit)


def parse_sacct(lines: TextIO, name: str, unit: str = "gpus") -> JobTrace:
    """Read an export from its lines, which are not kept; see `read_sacct`."""
    header = lines.readline().rstrip("\n").split("|")
    identity = next((column for column in _IDS if column in header), None)
    missing = [c for c in ("Submit", "AllocTRES") if c not in header]
    if identity is None or missing or not {"ElapsedRaw", "Elapsed"} & set(header):
        wanted = ", ".join([*([] if identity else ["JobIDRaw"]), *missing] or ["ElapsedRaw"])
        raise ValueError(
            f"{name} has no column {wanted}; make it with sacct -a -X --parsable2 "
            "-o JobIDRaw,Account,Partition,Submit,Eligible,Start,End,ElapsedRaw,AllocTRES,State"
        )
    collector = Collector()
    runs: list[_Run] = []
    for line, raw in enumerate(lines, start=2):
        values = raw.rstrip("\n").split("|")
        fields = dict(zip(header, values, strict=False))
        if not raw.strip() or "." in fields.get(identity, ""):
            continue
        if len(values) != len(header):
            collector.refuse(line, f"{len(values)} fields, and the header has {len(header)}: a name with | in it?")
            continue
        try:
            runs.append(_run(line, fields, identity, unit))
        except ValueError as error:
            collector.refuse(line, str(error))
    return _trace(runs, collector, _notes(runs))


def _notes(runs: list[_Run]) -> tuple[str, ...]:
    local = sum(run.on_local_time for run in runs)
    later = sum(run.ready_s > run.submit_s for run in runs)
    hour = "jobs ended an hour more or less after their start than they ran: are these local times? Print with TZ=UTC"
    ready = "jobs could not run when they were submitted (a dependency, a time to begin): they count from Eligible on"
    return (f"{local} {hour}",) * (local > 0) + (f"{later} {ready}",) * (later > 0)


def _trace(runs: list[_Run], collector: Collector, notes: tuple[str, ...]) -> JobTrace:
    """Return the trace of runs in the order of their lines; they are taken off the list meanwhile."""
    if not runs:
        return collector.trace(None)
    origin_s = min(run.submit_s for run in runs) // 3600.0 * 3600.0
    longest, before = _longest(runs), Counter[str]()
    runs.reverse()
    while runs:
        run = runs.pop()
        kept = longest.get((run.id, run.submit_s))
        if kept is not None and kept.line != run.line:
            came = kept.line < run.line
            collector.refuse(run.line, "job_id came before in the file" if came else "it comes again, and ran longer")
            continue
        # What was requeued is in sacct -D once for each time it ran, submitted anew.
        again = f" (requeued {before[run.id]})" if before[run.id] else ""
        if kept is not None:
            before[run.id] += 1
        job = JobRow(
            id=run.id + again,
            tenant=run.tenant,
            kind=run.kind,
            submit_s=run.ready_s - origin_s,
            duration_s=float(run.elapsed_s),
            gpus=float(run.units),
        )
        collector.add(job, run.line, listed_s=run.submit_s)
    return collector.trace(datetime.fromtimestamp(origin_s, UTC), notes)


def _longest(runs: list[_Run]) -> dict[tuple[str, float], _Run]:
    """Return the longest run for each submission of the jobs that are told more than once.

    Of two exports the earlier tells what still ran with what it had run so far.
    """
    told = Counter(run.id for run in runs)
    longest: dict[tuple[str, float], _Run] = {}
    for run in runs:
        if told[run.id] > 1:
            other = longest.setdefault((run.id, run.submit_s), run)
            if run.elapsed_s > other.elapsed_s:
                longest[run.id, run.submit_s] = run
    return longest


def _run(line: int, fields: dict[str, str], identity: str, unit: str) -> _Run:
    name = fields.get(identity, "").strip()
    if not name:
        raise ValueError(f"{identity} is empty")
    # Each cluster of an export counts its jobs from 1.
    name = f"{fields['Cluster']}/{name}" if fields.get("Cluster") else name
    submit_s = _moment_s(fields.get("Submit", "").strip())
    elapsed_s = _elapsed(fields)
    if elapsed_s <= 0:
        raise ValueError("it never ran (elapsed time is zero)")
    return _Run(
        line=line,
        id=name,
        # Once each: there are few of them, and a million jobs.
        tenant=sys.intern(fields.get("Account", "") or fields.get("User", "")),
        kind=sys.intern(fields.get("Partition", "")),
        submit_s=submit_s,
        ready_s=_ready_s(fields, submit_s),
        elapsed_s=elapsed_s,
        units=_cpus(fields["AllocTRES"]) if unit == "cpu" else _gpus(fields["AllocTRES"]),
        on_local_time=_is_an_hour_off(fields.get("Start", ""), fields.get("End", ""), elapsed_s),
    )


def _ready_s(fields: dict[str, str], submit_s: float) -> float:
    """Return when the job could have run. Most jobs could at once."""
    told = fields.get("Eligible", "")
    if told in ("", "Unknown", fields["Submit"]):
        return submit_s
    try:
        ready_s = _moment_s(told.strip())
    except ValueError:
        return submit_s
    try:
        start_s = _moment_s(fields.get("Start", "").strip())
    except ValueError:
        start_s = ready_s
    # Nothing starts before it may: such a row tells of another of its runs.
    return ready_s if submit_s < ready_s <= start_s else submit_s


def _is_an_hour_off(start: str, end: str, elapsed_s: int) -> bool:
    try:
        took_s = (parse_utc(end) - parse_utc(start)).total_seconds()
    except ValueError:
        return False
    return abs(took_s - elapsed_s) == _HOUR_S


def _gpus(tres: str) -> int:
    if _SLICE.search(tres):
        raise ValueError("it had slices of GPUs (MIG): give it in --jobs with its share of a GPU")
    found = _GPUS.findall(tres)
    # AllocTRES names the total and each kind, or one of the two only, as AccountingStorageTRES says.
    gpus = max(
        sum((int(n) for kind, n in found if not kind), start=0), sum((int(n) for kind, n in found if kind), start=0)
    )
    if gpus == 0:
        raise ValueError("it had no GPUs (AllocTRES names no gres/gpu with a number)")
    return gpus


def _cpus(tres: str) -> int:
    found = _CPUS.search(tres)
    if found is None or int(found[1]) == 0:
        raise ValueError("it had no CPUs (AllocTRES names no cpu with a number)")
    return int(found[1])


def _moment_s(text: str) -> float:
    try:
        # SLURM_TIME_FORMAT=%s prints seconds since 1970.
        seconds = float(text) if _EPOCH.fullmatch(text) else parse_utc(text).timestamp()
    except ValueError:
        raise ValueError("Submit is not a time") from None
    if len(text) < _SHORTEST_TIME and not _EPOCH.fullmatch(text):
        raise ValueError("Submit has no time of day")
    if seconds < _YEAR_2000_S:
        raise ValueError("Submit is not a time that a job can have")
    return seconds


def _elapsed(fields: dict[str, str]) -> int:
    raw = fields.get("ElapsedRaw", "")
    if raw.isascii() and raw.isdigit() and len(raw) < 12:
        return int(raw)
    found = _ELAPSED.fullmatch(fields.get("Elapsed", ""))
    if found is None:
        raise ValueError("ElapsedRaw is not a number of seconds")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds
