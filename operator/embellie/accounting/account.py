# SPDX-License-Identifier: Apache-2.0
"""The account of a cluster over a window, and its comparison with a counterfactual."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from embellie.accounting.curves import Run, ZonePower, add_curves, power_curve
from embellie.accounting.emissions import Emissions, Signal, emissions, total


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """How long work waited between its submission and its start [s]."""

    mean_s: float
    worst_s: float
    past_bound: int
    """Runs that started after their `latest_start`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A cluster over a window: all power, idle nodes and facility overhead included."""

    start: datetime
    end: datetime
    emissions: Emissions
    by_zone: Mapping[str, Emissions]
    peak_kw: float
    peak_by_zone_kw: Mapping[str, float]
    delays: Delays
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Ours against a counterfactual over the same window; negative savings stay negative."""

    saved_grams: float
    saved_percent: float
    peak_change_kw: float


def delays(runs: Sequence[Run], tolerance_s: float = 0.0) -> Delays:
    """Return how long runs waited; a start up to `tolerance_s` after its bound counts as in time."""
    waits = np.array([(run.start - run.submitted_at).total_seconds() for run in runs])
    late = sum(
        1
        for run in runs
        if run.latest_start is not None and (run.start - run.latest_start).total_seconds() > tolerance_s
    )
    if waits.size == 0:
        return Delays(mean_s=0.0, worst_s=0.0, past_bound=0)
    return Delays(
        mean_s=float(waits.mean()),
        worst_s=float(waits.max()),
        past_bound=late,
    )


def account(
    runs: Sequence[Run],
    zones: Sequence[ZonePower],
    signals: Mapping[str, Signal],
    start: datetime,
    end: datetime,
    tolerance_s: float = 0.0,
) -> Account:
    """Return the account of a cluster over [start, end).

    Args:
        runs: What ran; a run in a zone that is not listed is an error, since its power would be lost.
        zones: All grid zones of the cluster, whether or not anything ran there.
        signals: Each zone's carbon intensity as it was, all of one kind.
        start: Beginning of the window.
        end: End of the window.
        tolerance_s: How late a start may be without counting as past its bound [s].
    """
    unknown = {run.zone for run in runs} - {zone.name for zone in zones}
    if unknown:
        raise ValueError(f"runs in zones without power data: {sorted(unknown)}")
    curves = {zone.name: power_curve(runs, zone, start, end) for zone in zones}
    parts = {name: emissions(curve, signals[name]) for name, curve in curves.items()}
    return Account(
        start=start,
        end=end,
        emissions=total(list(parts.values())),
        by_zone=parts,
        peak_kw=add_curves(list(curves.values())).peak_kw,
        peak_by_zone_kw={name: curve.peak_kw for name, curve in curves.items()},
        delays=delays(runs, tolerance_s),
        runs=len(runs),
    )


def compare(ours: Account, counterfactual: Account) -> Comparison:
    """Return what was saved against a counterfactual, over one and the same window and signal."""
    if (ours.start, ours.end) != (counterfactual.start, counterfactual.end):
        raise ValueError("accounts over different windows cannot be compared")
    if ours.emissions.kind is not counterfactual.emissions.kind:
        raise TypeError("accounts by two kinds of signal cannot be compared")
    saved = counterfactual.emissions.grams - ours.emissions.grams
    base = counterfactual.emissions.grams
    return Comparison(
        saved_grams=saved,
        saved_percent=100.0 * saved / base if base else 0.0,
        peak_change_kw=ours.peak_kw - counterfactual.peak_kw,
    )
