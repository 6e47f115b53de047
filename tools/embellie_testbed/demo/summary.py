# SPDX-License-Identifier: Apache-2.0
"""What the demo adds up to, at the level of the cluster, beside the same arrivals first come first served.

Both histories are accounted by `embellie.accounting` over one window: from the first hour of the demo until the last
job of either history has ended, idle nodes and the building's share included. A job runs for as long as the trace says
from its observed start, also when the demo ended before it did. Waiting is counted from submission to the start of the
last pod of a gang.

Beside them stands what the operator's own ledger says, from the meters: energy, emissions, and the saving with its
interval, as reports have them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from embellie.accounting import (
    Account,
    Comparison,
    Delays,
    account,
    common_window,
    compare,
    delays,
    heat_record,
    power_curve,
)
from embellie_testbed.demo import accounts, counterfactual
from embellie_testbed.demo.accounts import LedgerAccount
from embellie_testbed.demo.grid import GridTruth
from embellie_testbed.demo.history import History
from embellie_testbed.demo.scenario import ROWS, ZONES, Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was counted on the real control plane."""

    jobs_of_all: int
    """How many there were to submit."""
    jobs_submitted: int
    jobs_finished: int
    held: int
    late: tuple[tuple[str, float], ...]
    """Jobs that were held past their latest start, and by how much [s of the replayed clock]."""
    unlabelled_delayed: int
    """Unlabelled jobs on which, or on whose pods, anything of ours was ever seen."""
    rigid_held: int
    factor: float
    """How much faster than real time the clock ran."""
    grid_hours: float
    wall_s: float
    operator_peak_rss_mib: float | None

    @property
    def held_past_latest_start(self) -> int:
        """How many jobs were held past their latest start."""
        return len(self.late)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two histories, added up."""

    account: Account
    delays: Delays
    thermal_violations: int
    """How often a row rose above its limit."""
    thermal_hours: float
    hottest_c: float
    hours_over_contract: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Both sides and what was measured."""

    scenario: Scenario
    measured: Measured
    history: History
    embellie: Side
    fifo: Side
    comparison: Comparison
    ledger: LedgerAccount | None
    """What the operator's own ledger says; None where none was kept."""
    idle_grams: float
    """What the cluster would have emitted over the same hours with nothing to do: no schedule can change it [g]."""
    mean_intensity_g_per_kwh: Mapping[str, float]


def summarise(
    scenario: Scenario,
    truths: Mapping[str, GridTruth],
    history: History,
    measured: Measured,
    ledger: LedgerAccount | None = None,
) -> Summary:
    """Add both histories up over the same window."""
    fifo = counterfactual.simulated(scenario, truths)
    start, end = common_window(history.stays, history.jobs, fifo.stays, fifo.jobs, start=scenario.begin)
    ours, theirs = (_side(side, truths, start=start, end=end) for side in (history, fifo))
    idle = _side(History(stays=(), jobs=()), truths, start=start, end=end).account.emissions.grams
    means = {
        name: float(truth.carbon_g_per_kwh[truth.index(start) : truth.index(end)].mean())
        for name, truth in truths.items()
    }
    return Summary(
        scenario=scenario,
        measured=measured,
        history=history,
        embellie=ours,
        fifo=theirs,
        comparison=compare(ours.account, theirs.account),
        ledger=ledger,
        idle_grams=idle,
        mean_intensity_g_per_kwh=means,
    )


def _side(history: History, truths: Mapping[str, GridTruth], *, start: datetime, end: datetime) -> Side:
    zone_of = {row.name: row.zone for row in ROWS}
    by_zone = [replace(run, zone=zone_of[run.zone]) for run in history.stays]
    zones = [counterfactual.zone_power(site) for site in ZONES]
    signals = {name: counterfactual.signal(truth) for name, truth in truths.items()}
    heats = [
        heat_record(
            power_curve(history.stays, counterfactual.row_power(row), start, end),
            counterfactual.heat_site(row, truths[row.zone]),
        )
        for row in ROWS
    ]
    over_s = sum(
        power_curve(by_zone, counterfactual.zone_power(site), start, end).seconds_above(site.contracted_kw)
        for site in ZONES
    )
    return Side(
        account=account(by_zone, zones, signals, start, end),
        delays=delays(history.jobs),
        thermal_violations=sum(heat.violations for heat in heats),
        thermal_hours=sum(heat.violation_s for heat in heats) / 3600,
        hottest_c=max(heat.peak_inlet_c for heat in heats),
        hours_over_contract=over_s / 3600,
    )


def as_json(summary: Summary) -> dict[str, Any]:
    """Return the numbers for machines. A pair has one number for each history."""
    measured, ours, theirs = summary.measured, summary.embellie, summary.fifo
    rss = measured.operator_peak_rss_mib

    def pair(one: float, other: float, digits: int = 2) -> dict[str, float]:
        return {"embellie": round(one, digits), "fifo": round(other, digits)}

    return {
        "jobs_submitted": measured.jobs_submitted,
        "jobs_finished": measured.jobs_finished,
        "jobs_held": measured.held,
        "held_past_latest_start": measured.held_past_latest_start,
        "late": [{"job": name, "late_clock_seconds": round(seconds, 1)} for name, seconds in measured.late],
        "unlabelled_delayed": measured.unlabelled_delayed,
        "rigid_held": measured.rigid_held,
        "carbon_kg": pair(ours.account.emissions.grams / 1000, theirs.account.emissions.grams / 1000),
        "idle_carbon_kg": round(summary.idle_grams / 1000, 2),
        "carbon_signal": ours.account.emissions.kind.value,
        "carbon_saved_percent": round(summary.comparison.saved_percent, 2),
        **({} if summary.ledger is None else accounts.as_json(summary.ledger)),
        "energy_kwh": pair(ours.account.emissions.energy_kwh, theirs.account.emissions.energy_kwh),
        "peak_kw": round(ours.account.peak_kw, 1),
        "contracted_kw": sum(site.contracted_kw for site in ZONES),
        "fifo_peak_kw": round(theirs.account.peak_kw, 1),
        "zones": {
            site.name: {
                "peak_kw": pair(ours.account.peak_by_zone_kw[site.name], theirs.account.peak_by_zone_kw[site.name], 1),
                "contracted_kw": site.contracted_kw,
                "mean_g_per_kwh": round(summary.mean_intensity_g_per_kwh[site.name], 1),
            }
            for site in ZONES
        },
        "hours_over_contract": pair(ours.hours_over_contract, theirs.hours_over_contract),
        "thermal_violations": ours.thermal_violations,
        "fifo_thermal_violations": theirs.thermal_violations,
        "thermal_violation_hours": pair(ours.thermal_hours, theirs.thermal_hours),
        "hottest_inlet_c": pair(ours.hottest_c, theirs.hottest_c, 1),
        "mean_submission_lag_h": round(summary.scenario.mean_lag_s / 3600, 3),
        "mean_delay_h": pair(ours.delays.mean_s / 3600, theirs.delays.mean_s / 3600, 3),
        "worst_delay_h": pair(ours.delays.worst_s / 3600, theirs.delays.worst_s / 3600, 2),
        "jobs_extended": summary.history.extended,
        "jobs_cut": summary.history.cut,
        "utilisation": round(summary.scenario.utilisation, 4),
        "seed": summary.scenario.seed,
        "grid_hours_replayed": round(measured.grid_hours, 1),
        "accounted_hours": round((ours.account.end - ours.account.start).total_seconds() / 3600, 1),
        "wall_seconds": round(measured.wall_s, 1),
        "operator_peak_rss_mib": None if rss is None else round(rss, 1),
    }


def write_json(summary: Summary, path: Path) -> None:
    """Write the numbers to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(as_json(summary), indent=2) + "\n", encoding="utf-8")
