# SPDX-License-Identifier: Apache-2.0
"""The jobs of a drill: when they came, how long they ran and on how many GPUs is from the carried trace.

The trace says nothing of power, patience, checkpoints or priority; those are drawn from the drill's seed.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from embellie.simulation.trace import TraceJob, load_trace, sample_trace, shape

WEEK_S = 7 * 86400.0
SMALLEST_GANG, LARGEST_GANG = 4, 256
"""Smaller jobs would add a few per cent of the load, and none of its jumps."""
BACKLOG_S = 6 * 3600.0
_LONGEST_S = 3 * 86400.0
KNEE_SHARE = 0.6
"""Below this share of the rated power a cap costs more energy than it saves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillJob:
    """One gang. Times are in seconds since the drill began."""

    id: str
    submit_s: float
    work_s: float
    """Run time at full power."""
    pods: int
    gpus_per_pod: int
    watts: float
    """What each GPU really draws."""
    stated_s: float
    """The duration that its user stated."""
    latest_start_s: float
    priority: int
    pausable: bool
    checkpoint_s: float
    """How long a checkpoint takes."""
    checkpoint_every_s: float

    @property
    def gpus(self) -> int:
        """GPUs of the whole gang."""
        return self.pods * self.gpus_per_pod


def draw_jobs(seed: int, *, gpus: int, span_s: float, utilisation: float, rated_w: float) -> list[DrillJob]:
    """Return jobs that load a room for a span; weeks of the trace follow each other for as long as is needed."""
    rng = np.random.default_rng([seed, 17])
    trace = [job for job in load_trace() if job.gpus >= SMALLEST_GANG]
    found: list[DrillJob] = []
    begin, part = 0.0, 0
    while begin < span_s:
        window = min(WEEK_S - 5 * 86400.0, span_s - begin) if span_s <= 2 * 86400.0 else min(WEEK_S, span_s - begin)
        got = 0.0
        # The carried week loads a few hundred GPUs: days of it are laid over each other until the room is loaded.
        for layer, day in enumerate([*rng.permutation(5), *rng.permutation(5)] if window < WEEK_S else [0] * 10):
            if utilisation - got < 0.01:
                break
            sampled = sample_trace(
                trace,
                gpus=gpus,
                utilisation=utilisation - got,
                start_s=float(day) * 86400.0,
                window_s=window,
                max_gpus=LARGEST_GANG,
                max_duration_s=_LONGEST_S,
                seed=f"drill-{seed}-{part}-{layer}",
            )
            got += sampled.utilisation
            shift = float(rng.uniform(-3.0, 3.0)) * 3600.0 if layer else 0.0
            found += [
                _dress(job, begin, (job.submit_s + shift) % window, f"{part}-{layer}-{job.id}", rng, rated_w)
                for job in sampled.jobs
            ]
        begin, part = begin + window, part + 1
    return [_early(job, rng) for job in found]


def _early(job: DrillJob, rng: np.random.Generator) -> DrillJob:
    """Let what came in the first hours be there at the beginning: a room does not start empty."""
    if job.submit_s > BACKLOG_S:
        return job
    submit = float(rng.uniform(0.0, 900.0))
    return replace(job, submit_s=submit, latest_start_s=job.latest_start_s - job.submit_s + submit)


def gang_of(gpus: int, submit_s: float, rng: np.random.Generator, rated_w: float, gpus_per_node: int) -> DrillJob:
    """Return one large gang that may wait two hours."""
    pods, per_pod = shape(gpus, gpus_per_node)
    job = TraceJob(id=f"gang-{gpus}", tenant="", submit_s=submit_s, duration_s=6 * 3600.0, gpus=gpus)
    return DrillJob(
        id=job.id, submit_s=submit_s, work_s=job.duration_s, pods=pods, gpus_per_pod=per_pod,
        watts=float(rng.uniform(0.85, 0.98)) * rated_w, stated_s=7 * 3600.0, latest_start_s=submit_s + 2 * 3600.0,
        priority=2, pausable=True, checkpoint_s=120.0, checkpoint_every_s=1800.0,
    )  # fmt: skip


def _dress(
    job: TraceJob, begin_s: float, submit_s: float, name: str, rng: np.random.Generator, rated_w: float
) -> DrillJob:
    pods, per_pod = shape(job.gpus, 8)
    quarter = 900.0
    stated = quarter * math.ceil(job.duration_s * float(rng.lognormal(math.log(1.45), 0.29)) / quarter)
    return DrillJob(
        id=name,
        submit_s=begin_s + submit_s,
        work_s=job.duration_s,
        pods=pods,
        gpus_per_pod=per_pod,
        # Training draws between a little more than half and all of what the board may (data of A100, H100 and B200).
        watts=rated_w * float(np.clip(rng.normal(0.88, 0.08), 0.5, 1.0)),
        stated_s=stated,
        latest_start_s=begin_s + submit_s + 3600.0 * float(rng.choice((2.0, 4.0, 8.0))),
        priority=int(rng.integers(0, 3)),
        pausable=bool(rng.random() < 0.6),
        checkpoint_s=float(rng.choice((60.0, 120.0, 240.0))),
        checkpoint_every_s=float(rng.choice((900.0, 1800.0, 3600.0))),
    )


def throughput(cap_w: float, watts: float) -> float:
    """Return the speed under a cap, 0..1: flat near the top, steep below the knee (training on V100 and A40, Zeus)."""
    if cap_w >= watts:
        return 1.0
    share = max(0.0, (cap_w / watts - 0.25) / 0.75)
    return float(share**0.45)
