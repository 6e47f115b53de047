# SPDX-License-Identifier: Apache-2.0
"""A history of the cluster in the shape that the accounting code reads, observed or simulated.

Both histories of the summary pass through here and through `embellie.accounting`, so that they cannot be measured
with two yardsticks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from embellie.accounting import Run
from embellie_testbed.demo.record import JobTrack
from embellie_testbed.demo.scenario import ROWS, DemoJob, Scenario, ZoneSite, sites

PlaceOf = Callable[[str], tuple[str, str]]
"""Node name -> (grid zone, row)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What ran. One job can be several `stays` (a gang whose pods stand on two rows), but waits only once."""

    stays: tuple[Run, ...]
    """By row: what power and heat are made of."""
    jobs: tuple[Run, ...]
    """By job: what waiting is measured on. The zone is that of the first pod."""
    extended: int = 0
    """Jobs that still ran when the demo ended, and were carried on for the duration that the trace knows."""
    cut: int = 0
    """Jobs that had not started when the demo ended, and count as if they had started then."""


def observed(
    tracks: Mapping[str, JobTrack],
    scenario: Scenario,
    *,
    clock_time: Callable[[float], datetime],
    place_of: PlaceOf,
    stopped: datetime,
) -> History:
    """Turn the record of what really happened into a history."""
    stays: list[Run] = []
    jobs: list[Run] = []
    extended = cut = 0
    for job in scenario.jobs:
        track = tracks[job.name]
        spans, unfinished = _spans(job, track, clock_time=clock_time)
        started = track.started
        start = stopped if started is None else clock_time(started)
        cut += started is None
        extended += unfinished and started is not None
        parts = [_stay(job, place_of(node), gpus, begin, end) for node, gpus, begin, end in spans]
        missing = job.gpus - sum(gpus for _, gpus, _, _ in spans)
        if missing > 0:
            # What never ran is not saved: it still has to run, in the row that is listed last.
            parts.append(_stay(job, (ROWS[-1].zone, ROWS[-1].name), missing, stopped, stopped + job.duration))
        stays += parts
        first = parts[0].zone if parts else ""
        end = max([start, *(run.end for run in parts)])
        jobs.append(_run(job, zone=first, start=start, end=end, gpus=job.gpus, power_kw=0.0))
    return History(stays=tuple(stays), jobs=tuple(jobs), extended=extended, cut=cut)


def added_kw(gpus: int, watts_per_gpu: float, site: ZoneSite) -> float:
    """Return what GPUs at work add to their idle nodes, the host's share included [kW of IT power]."""
    return gpus * max(0.0, watts_per_gpu - site.gpu_idle_watts) * (1 + site.host_overhead_percent / 100) / 1000


def latest_start(job: DemoJob) -> datetime | None:
    """Return the bound that a job's labels ask for; None for work that may not be held."""
    return None if job.max_delay is None else job.submit + job.max_delay


def _spans(
    job: DemoJob, track: JobTrack, *, clock_time: Callable[[float], datetime]
) -> tuple[list[tuple[str, int, datetime, datetime]], bool]:
    """Return (node, gpus, start, end) of each pod that ran, and whether any of them still runs.

    A pod counts for as long as the trace says from the moment it was seen to run. How fast the control plane notices
    its end is a matter of real milliseconds, and 900 times those is nothing that a training job would draw power for.
    """
    spans = []
    unfinished = False
    for pod in track.pods.values():
        if pod.running is None:
            continue
        begin = clock_time(pod.running)
        unfinished = unfinished or pod.finished is None
        spans.append((pod.node, pod.gpus, begin, begin + job.duration))
    return spans, unfinished


def _stay(job: DemoJob, place: tuple[str, str], gpus: int, start: datetime, end: datetime) -> Run:
    zone, row = place
    power = added_kw(gpus, job.watts_per_gpu, sites()[zone])
    return _run(job, zone=row, start=start, end=end, gpus=gpus, power_kw=power)


def _run(job: DemoJob, *, zone: str, start: datetime, end: datetime, gpus: int, power_kw: float) -> Run:
    # A watch may deliver a start within the same millisecond as the submission: never count a wait below zero.
    begin = max(job.submit, start)
    return Run(
        job=job.name,
        zone=zone,
        submitted_at=job.submit,
        start=begin,
        end=max(begin, end),
        gpus=gpus,
        power_kw=power_kw,
        latest_start=latest_start(job),
    )
