# SPDX-License-Identifier: Apache-2.0
"""Job traces: the carried week of real training jobs, and how to fit a trace to a cluster.

The carried file is described in `data/README.md`.
"""

import csv
import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

_COLUMNS = ("job_id", "tenant", "submit_time_s", "duration_s", "gpus")
_CARRIED = "itp2021_week.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceJob:
    """One job of a trace. `submit_s` counts from the beginning of the trace."""

    id: str
    tenant: str
    submit_s: float
    duration_s: float
    gpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """Jobs taken from a trace, and the utilisation that they really give."""

    jobs: tuple[TraceJob, ...]
    utilisation: float
    """GPU-hours that fall into the window if every job starts at once, over the cluster's GPU-hours."""


def load_trace(path: Path | None = None) -> tuple[TraceJob, ...]:
    """Read a trace (CSV with job_id, tenant, submit_time_s, duration_s, gpus), or the carried one.

    Raises ValueError, naming the line, for a missing column or a value that no job has.
    """
    text = (
        path.read_text(encoding="utf-8")
        if path is not None
        else (resources.files("embellie.simulation") / "data" / _CARRIED).read_text(encoding="utf-8")
    )
    reader = csv.DictReader(io.StringIO(text))
    missing = set(_COLUMNS) - set(reader.fieldnames or ())
    if missing:
        raise ValueError(f"the trace has no column {', '.join(sorted(missing))}")
    jobs = [_job(row, line) for line, row in enumerate(reader, start=2)]
    return tuple(sorted(jobs, key=lambda job: (job.submit_s, job.id)))


def _job(row: dict[str, str], line: int) -> TraceJob:
    try:
        job = TraceJob(
            id=row["job_id"],
            tenant=row["tenant"],
            submit_s=float(row["submit_time_s"]),
            duration_s=float(row["duration_s"]),
            gpus=int(row["gpus"]),
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"line {line} of the trace is not a job: {error}") from error
    if not (job.id and 0.0 <= job.submit_s < 1e12 and 0.0 < job.duration_s < 1e9 and 0 < job.gpus < 100_000):
        raise ValueError(f"line {line} of the trace: times and GPUs must be positive and finite")
    return job


def sample_trace(
    jobs: Iterable[TraceJob],
    *,
    gpus: int,
    utilisation: float,
    start_s: float = 0.0,
    window_s: float = 2 * 86400.0,
    max_gpus: int | None = None,
    max_duration_s: float | None = None,
    seed: str = "embellie",
) -> Sampled:
    """Take jobs of a window, one by one in an order that a hash fixes, until they load a cluster as wanted.

    The same arguments always give the same jobs. Jobs that are larger or longer than asked for are left out, not cut.
    The result's times count from the window's start.

    Args:
        jobs: The trace.
        gpus: GPUs of the cluster.
        utilisation: Wanted load: GPU-hours inside the window over the cluster's, 0..1.
        start_s: Where the window begins in the trace [s].
        window_s: Its length [s].
        max_gpus: Largest gang; None takes all up to the cluster's size.
        max_duration_s: Longest run [s]; None takes all.
        seed: Another seed gives another sample.
    """
    if not 0.0 < utilisation <= 1.0 or gpus <= 0 or window_s <= 0.0:
        raise ValueError("utilisation must lie in 0..1, and GPUs and the window must be positive")
    largest = min(gpus, max_gpus) if max_gpus is not None else gpus
    inside = [
        job
        for job in jobs
        if start_s <= job.submit_s < start_s + window_s
        and job.gpus <= largest
        and (max_duration_s is None or job.duration_s <= max_duration_s)
    ]
    inside.sort(key=lambda job: hashlib.sha256(f"{seed}/{job.id}".encode()).digest())
    capacity = gpus * window_s
    taken: list[TraceJob] = []
    load = 0.0
    for job in inside:
        part = job.gpus * min(job.duration_s, start_s + window_s - job.submit_s)
        if load + part > utilisation * capacity:
            # One job that is too large is passed over; smaller ones still fit beside what is there.
            continue
        load += part
        taken.append(
            TraceJob(
                id=job.id,
                tenant=job.tenant,
                submit_s=job.submit_s - start_s,
                duration_s=job.duration_s,
                gpus=job.gpus,
            )
        )
    taken.sort(key=lambda job: (job.submit_s, job.id))
    return Sampled(jobs=tuple(taken), utilisation=load / capacity)


def shape(gpus: int, gpus_per_node: int = 8) -> tuple[int, int]:
    """Return (pods, GPUs per pod) of a gang: one pod where a node holds it, else whole nodes.

    >>> shape(4), shape(16), shape(12)
    ((1, 4), (2, 8), (2, 6))
    """
    if gpus <= gpus_per_node:
        return 1, gpus
    per_pod = next(size for size in range(gpus_per_node, 0, -1) if gpus % size == 0)
    return gpus // per_pod, per_pod
