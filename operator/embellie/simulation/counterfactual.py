# SPDX-License-Identifier: Apache-2.0
"""The counterfactual: the arrivals that were, first come first served, by the project's own simulator.

What is known of a job is when it came, when it ran, on how many GPUs, where, and what it drew. How long it would have
run at another time, what it would have drawn there, and how dirty the grid really was are not known: each replay draws
them anew, and the spread of the replays is the interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from embellie.accounting import Run, ZonePower
from embellie.accounting.draws import Draws, Uncertainty, Window, energy_after, slot_energy
from embellie.domain.forecast import FloatArray
from embellie.domain.snapshot import Flex
from embellie.simulation.model import SimJob, SimSite
from embellie.simulation.replay import simulate
from embellie.simulation.trace import shape

DRAWS = 30
"""Replays for one interval."""
SHORTEST_SHARE = 0.2
"""Work that still runs is taken to run at most five times as long as it has, and on the mean twice as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One gang as it was observed. Times are the operator's clock."""

    run: Run
    """`end` is the observed end, or for work that still runs the end that is expected."""
    cell: str = ""
    gpus_per_pod: int = 0
    """0: whole nodes where it needs more than one."""
    allowed_cells: frozenset[str] | None = None
    so_far_s: float | None = None
    """How long it had run when nobody could see further, 0 for work that still waited [s]; None: its end was seen."""

    @property
    def shape(self) -> tuple[int, int]:
        """Pods of the gang, and GPUs of each."""
        if self.gpus_per_pod > 0:
            return max(1, self.run.gpus // self.gpus_per_pod), self.gpus_per_pod
        return shape(self.run.gpus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What the replays gave."""

    draws: Draws
    central: tuple[Run, ...]
    """The replay with durations and powers as observed."""
    left_out: int
    """Gangs that the site as described cannot seat."""
    gpu_hours_delayed: float
    """GPU-hours of the window in which work waited that would have run by then."""
    gpu_hours_lost: float
    """GPU-hours that the counterfactual has done by the end of the window and the schedule has not."""
    lost_by_zone: Mapping[str, float]
    """The same by zone; work that moved to another zone is lost here and won there."""


def replay_counterfactual(
    observed: Sequence[Observed],
    site: SimSite,
    window: Window,
    *,
    uncertainty: Uncertainty = Uncertainty(),
    draws: int = DRAWS,
    seed: int = 1,
) -> Replayed:
    """Replay arrivals first come first served.

    Args:
        observed: All work that used GPUs, held or not, from some days before the window on.
        site: The cluster: cells, nodes, PUE. Its signals are not looked at.
        window: The hours that are accounted.
        uncertainty: What is not known.
        draws: How many replays.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    zones = site.zone_powers()
    fits = simulate([_job(one) for one in observed], site)
    # Work that fits nowhere on the site as it is now (nodes were taken away since) is left as it was in both.
    left_out = frozenset(fits.never_started)
    seated = [one for one in observed if one.run.job not in left_out]
    jobs, ours = [_job(one) for one in seated], [one.run for one in seated]
    central = fits.runs
    unseen = {k: one.so_far_s for k, one in enumerate(seated) if one.so_far_s is not None}
    pairs = [_draw(jobs, ours, unseen, site, uncertainty, rng) for _ in range(draws)]
    return Replayed(
        draws=Draws(
            window=window,
            zones=tuple(zone.name for zone in zones),
            ours=np.stack([slot_energy(was, zones, window) for was, _ in pairs]),
            fifo=np.stack([slot_energy(fifo, zones, window) for _, fifo in pairs]),
            owed=np.stack([_more_after(was, fifo, zones, window.end) for was, fifo in pairs]),
            brought=np.stack(
                [_more_after(_came(was, window), _came(fifo, window), zones, window.start) for was, fifo in pairs]
            ),
        ),
        central=central,
        gpu_hours_delayed=_delayed(ours, central, window),
        left_out=len(left_out),
        gpu_hours_lost=_gpu_hours(central, window) - _gpu_hours(ours, window),
        lost_by_zone={
            zone.name: _gpu_hours([r for r in central if r.zone == zone.name], window)
            - _gpu_hours([r for r in ours if r.zone == zone.name], window)
            for zone in zones
        },
    )


def _draw(
    jobs: Sequence[SimJob],
    ours: Sequence[Run],
    unseen: Mapping[int, float],
    site: SimSite,
    uncertainty: Uncertainty,
    rng: np.random.Generator,
) -> tuple[list[Run], tuple[Run, ...]]:
    """Return the schedule that was and one replay.

    A job that draws more does so in both, but for the time of day; one whose end nobody saw goes on as long in both.
    """
    common = np.exp(uncertainty.common_power * rng.standard_normal())
    lengths = np.exp(uncertainty.duration * rng.standard_normal(len(jobs)))
    powers = common * np.exp(uncertainty.job_power * rng.standard_normal(len(jobs)))
    elsewhere = powers * np.exp(uncertainty.power_elsewhere * rng.standard_normal(len(jobs)))
    durations = np.array([job.duration_s for job in jobs])
    was = [replace(run, power_kw=run.power_kw * float(power)) for run, power in zip(ours, powers, strict=True)]
    for k, so_far_s in unseen.items():
        durations[k] = _unseen_s(so_far_s, durations[k], uncertainty, rng)
        was[k] = replace(was[k], end=was[k].start + timedelta(seconds=float(durations[k])))
    drawn = [
        replace(job, duration_s=float(duration * length), power_kw=job.power_kw * float(power))
        for job, duration, length, power in zip(jobs, durations, lengths, elsewhere, strict=True)
    ]
    return was, simulate(drawn, site).runs


def _more_after(was: Sequence[Run], fifo: Sequence[Run], zones: Sequence[ZonePower], moment: datetime) -> FloatArray:
    """Return what a schedule still draws after an instant, beyond what another does, by zone [kWh]."""
    return energy_after(was, zones, moment) - energy_after(fifo, zones, moment)


def _came(runs: Sequence[Run], window: Window) -> list[Run]:
    """Return the runs of work that had come when a window began."""
    return [run for run in runs if run.submitted_at < window.start]


def _unseen_s(so_far_s: float, expected_s: float, uncertainty: Uncertainty, rng: np.random.Generator) -> float:
    """Draw how long work runs whose end nobody has seen [s].

    What runs has lasted for a share of its whole length that nobody knows: all shares from a fifth on are as likely, so
    that on the mean it goes on as long again as it has (Lindy's rule). Of what still waits, the length is only told.
    """
    if so_far_s > 0.0:
        return so_far_s / float(rng.uniform(SHORTEST_SHARE, 1.0))
    return expected_s * float(np.exp(uncertainty.told_duration * rng.standard_normal()))


def _job(one: Observed) -> SimJob:
    run = one.run
    pods, gpus_per_pod = one.shape
    return SimJob(
        id=run.job,
        submit=run.submitted_at,
        duration_s=(run.end - run.start).total_seconds(),
        pods=pods,
        gpus_per_pod=gpus_per_pod,
        power_kw=run.power_kw,
        latest_start=run.latest_start or run.submitted_at,
        flex=Flex.RIGID,
        allowed_cells=one.allowed_cells,
    )


def _delayed(ours: Sequence[Run], theirs: Sequence[Run], window: Window) -> float:
    """Only what lies in the window: the delays of weeks add up to that of the month."""
    would = {run.job: run.start for run in theirs}

    def late_s(run: Run) -> float:
        first, last = max(would[run.job], window.start), min(run.start, window.end)
        return max(0.0, (last - first).total_seconds())

    return sum(late_s(run) * run.gpus for run in ours if run.job in would) / 3600.0


def _gpu_hours(runs: Sequence[Run], window: Window) -> float:
    def inside(run: Run) -> float:
        return max(0.0, (min(run.end, window.end) - max(run.start, window.start)).total_seconds())

    return sum(inside(run) * run.gpus for run in runs) / 3600.0
