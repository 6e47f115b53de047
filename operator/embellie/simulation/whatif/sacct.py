# SPDX-License-Identifier: Apache-2.0
"""Reads Slurm's accounting: `sacct --parsable2`, with a header line.

    sacct -a -X -S 2026-01-01 -E 2026-02-01 --parsable2 \
      -o JobIDRaw,Account,Partition,Submit,Start,End,ElapsedRaw,AllocTRES,State

Times are read as UTC: run it with TZ=UTC. Steps (`1234.batch`) are passed over; a job's length is what it ran.
"""

import re
from datetime import UTC, datetime
from pathlib import Path

from embellie.simulation.whatif.jobs_file import Collector, JobRow, JobTrace
from embellie.simulation.whatif.moments import parse_utc
from embellie.simulation.whatif.tables import read_text

_IDS = ("JobIDRaw", "JobID")
_GPUS = re.compile(r"gres/gpu(:[^=,:]+)?[=:](\d+)")
_EPOCH = re.compile(r"\d{9,10}")
_ELAPSED = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)(?:\.\d+)?")


def read_sacct(path: Path) -> JobTrace:
    """Read an export. Raises ValueError for a missing column; a bad row is named and left out."""
    return parse_sacct(read_text(path), path.name)


def parse_sacct(text: str, name: str) -> JobTrace:
    """Read an export from its text."""
    lines = text.splitlines()
    header = lines[0].split("|") if lines else []
    identity = next((column for column in _IDS if column in header), None)
    missing = [c for c in ("Submit", "AllocTRES") if c not in header]
    if identity is None or missing or not {"ElapsedRaw", "Elapsed"} & set(header):
        wanted = ", ".join([*([] if identity else ["JobIDRaw"]), *missing] or ["ElapsedRaw"])
        raise ValueError(
            f"{name} has no column {wanted}; make it with sacct -a -X --parsable2 "
            "-o JobIDRaw,Account,Partition,Submit,Start,End,ElapsedRaw,AllocTRES,State"
        )
    rows: list[tuple[int, datetime, JobRow]] = []
    refused: list[tuple[int, str]] = []
    for line, raw in enumerate(lines[1:], start=2):
        values = raw.split("|")
        fields = dict(zip(header, values, strict=False))
        if not raw.strip() or "." in fields.get(identity, ""):
            continue
        if len(values) != len(header):
            refused.append((line, f"{len(values)} fields, and the header has {len(header)}: a name with | in it?"))
            continue
        try:
            rows.append((line, *_job(fields, identity)))
        except ValueError as error:
            refused.append((line, str(error)))
    origin = min((moment for _, moment, _ in rows), default=None)
    origin = None if origin is None else origin.replace(minute=0, second=0, microsecond=0)
    collector = Collector()
    for line, why in refused:
        collector.refuse(line, why)
    submitted: dict[str, set[datetime]] = {}
    for line, moment, job in rows:
        seconds = (moment - origin).total_seconds() if origin is not None else 0.0
        # What was requeued is in sacct -D once for each time it ran, submitted anew.
        before = submitted.setdefault(job.id, set())
        again = f" (requeued {len(before)})" if before and moment not in before else ""
        before.add(moment)
        collector.add(
            JobRow(
                id=job.id + again,
                tenant=job.tenant,
                kind=job.kind,
                submit_s=seconds,
                duration_s=job.duration_s,
                gpus=job.gpus,
            ),
            line,
        )
    return collector.trace(origin)


def _job(fields: dict[str, str], identity: str) -> tuple[datetime, JobRow]:
    name = fields.get(identity, "").strip()
    if not name:
        raise ValueError(f"{identity} is empty")
    submit = _moment(fields.get("Submit", "").strip())
    elapsed = _elapsed(fields)
    if elapsed <= 0:
        raise ValueError("it never ran (elapsed time is zero)")
    found = _GPUS.findall(fields.get("AllocTRES", ""))
    # AllocTRES names the total and each kind, or one of the two only, as AccountingStorageTRES says.
    gpus = max(
        sum((int(n) for kind, n in found if not kind), start=0), sum((int(n) for kind, n in found if kind), start=0)
    )
    if gpus == 0:
        raise ValueError("it had no GPUs (AllocTRES names no gres/gpu)")
    job = JobRow(
        id=name,
        tenant=fields.get("Account", "") or fields.get("User", ""),
        kind=fields.get("Partition", ""),
        submit_s=0.0,
        duration_s=float(elapsed),
        gpus=float(gpus),
    )
    return submit, job


def _moment(text: str) -> datetime:
    try:
        # SLURM_TIME_FORMAT=%s prints seconds since 1970.
        return datetime.fromtimestamp(int(text), UTC) if _EPOCH.fullmatch(text) else parse_utc(text)
    except ValueError:
        raise ValueError("Submit is not a time") from None


def _elapsed(fields: dict[str, str]) -> int:
    raw = fields.get("ElapsedRaw", "")
    if raw.isascii() and raw.isdigit() and len(raw) < 12:
        return int(raw)
    found = _ELAPSED.fullmatch(fields.get("Elapsed", ""))
    if found is None:
        raise ValueError("ElapsedRaw is not a number of seconds")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds
