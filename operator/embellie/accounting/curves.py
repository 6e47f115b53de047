# SPDX-License-Identifier: Apache-2.0
"""Power over time from what ran: exact step curves, idle power counted, facility overhead included.

Energy belongs to the cluster's curve, never to a job alone: on a full cluster a delayed job only lets another one run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from embellie.domain.forecast import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One gang's run. `power_kw` is what it adds to its idle nodes [kW of IT power]."""

    job: str
    zone: str
    """The grid zone, or the thermal zone where a heat curve is made."""
    submitted_at: datetime
    start: datetime
    end: datetime
    gpus: int
    power_kw: float
    latest_start: datetime | None = None
    """Its bound; None for work that was never ours to hold."""

    def __post_init__(self) -> None:
        """Refuse a run that ends before it starts."""
        if self.end < self.start:
            raise ValueError(f"run of {self.job} ends before it starts")


@dataclass(frozen=True, slots=True, kw_only=True)
class ZonePower:
    """What a zone draws without work, and what the facility adds."""

    name: str
    idle_kw: float
    """Idle draw of all its nodes [kW of IT power], GPUs included."""
    pue: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepCurve:
    """Power that is constant between edges. `edges_s` counts from `start`, one more of them than of `kw`."""

    start: datetime
    edges_s: FloatArray
    kw: FloatArray

    @property
    def end(self) -> datetime:
        """Where the curve ends."""
        return self.start + timedelta(seconds=float(self.edges_s[-1]))

    @property
    def peak_kw(self) -> float:
        """The highest power that stands for any time at all [kW]."""
        lasting = np.diff(self.edges_s) > 0
        return float(self.kw[lasting].max()) if lasting.any() else 0.0

    @property
    def energy_kwh(self) -> float:
        """Energy under the curve [kWh]."""
        return float(np.dot(self.kw, np.diff(self.edges_s)) / 3600.0)

    def energy_between(self, edges_s: FloatArray) -> FloatArray:
        """Return the energy between consecutive instants, counted from `start` [kWh]."""
        cumulative = np.concatenate(([0.0], np.cumsum(self.kw * np.diff(self.edges_s)))) / 3600.0
        parts: FloatArray = np.diff(np.interp(edges_s, self.edges_s, cumulative))
        return parts

    def seconds_above(self, limit_kw: float) -> float:
        """Return for how long the power is over a limit [s]."""
        return float(np.diff(self.edges_s)[self.kw > limit_kw].sum())


def power_curve(runs: Sequence[Run], zone: ZonePower, start: datetime, end: datetime) -> StepCurve:
    """Return a zone's facility power over [start, end): idle nodes plus what its runs add, times the overhead."""
    span_s = (end - start).total_seconds()
    if span_s <= 0:
        raise ValueError("a power curve needs an end after its start")
    mine = [run for run in runs if run.zone == zone.name and run.end > start and run.start < end]
    begins = np.array([max(0.0, (run.start - start).total_seconds()) for run in mine])
    ends = np.array([min(span_s, (run.end - start).total_seconds()) for run in mine])
    added = np.array([run.power_kw for run in mine])
    edges = np.unique(np.concatenate(([0.0, span_s], begins, ends)))
    change = np.zeros(edges.size)
    np.add.at(change, np.searchsorted(edges, begins), added)
    np.add.at(change, np.searchsorted(edges, ends), -added)
    kw = (zone.idle_kw + np.cumsum(change)[:-1]) * zone.pue
    return StepCurve(start=start, edges_s=edges, kw=kw)


def add_curves(curves: Sequence[StepCurve]) -> StepCurve:
    """Return the sum of curves over one and the same window."""
    if not curves:
        raise ValueError("there is no curve to add")
    if len({(curve.start, float(curve.edges_s[-1])) for curve in curves}) > 1:
        raise ValueError("curves over different windows cannot be added")
    edges = np.unique(np.concatenate([curve.edges_s for curve in curves]))
    total = np.zeros(edges.size - 1)
    for curve in curves:
        total += curve.kw[np.searchsorted(curve.edges_s, edges[:-1], side="right") - 1]
    return StepCurve(start=curves[0].start, edges_s=edges, kw=total)


def common_window(*schedules: Sequence[Run], start: datetime) -> tuple[datetime, datetime]:
    """Return the window in which schedules may be compared: from `start` until the last of all of them has ended.

    A window that ends earlier would credit the schedule that has more left to do.
    """
    end = max((run.end for runs in schedules for run in runs), default=start)
    return start, max(end, start + timedelta(seconds=1))
