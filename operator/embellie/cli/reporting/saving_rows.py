# SPDX-License-Identifier: Apache-2.0
"""What a report says of savings and of the delay that they cost."""

from collections.abc import Sequence
from typing import Any

from embellie.accounting.ranges import Range
from embellie.accounting.savings import Savings
from embellie.cli.reporting.books import Books
from embellie.cli.reporting.period import ReportError
from embellie.cli.reporting.replayed import Cost, Delay, Saved, replay_books
from embellie.domain.reasons import SignalKind

NO_TEAM = "(no team)"


def saved_of(books: Books, draws: int) -> tuple[Saved | None, str]:
    """Return the replayed savings, or None and why there are none."""
    try:
        return replay_books(books, SignalKind.AVERAGE_LIFECYCLE, draws=draws), ""
    except ReportError as error:
        return None, str(error)


def range_row(found: Range, scale: float = 1.0) -> dict[str, float]:
    """Return a number with its interval, in another unit."""
    return {"value": found.value * scale, "low": found.low * scale, "high": found.high * scale}


def saving_row(saved: Saved) -> dict[str, Any]:
    """Return the cluster's saving and what stands beside it."""
    found = saved.savings
    return {
        "signalKind": str(found.kind),
        "verdict": found.verdict,
        "savedKg": range_row(found.saved_g, 1e-3),
        "savedPercent": range_row(found.saved_g, 100.0 / found.counterfactual_g if found.counterfactual_g else 0.0),
        "savedKwh": range_row(found.saved_kwh),
        "counterfactualKg": found.counterfactual_g / 1000.0,
        "measuredKg": found.measured_g / 1000.0,
        "naiveKg": saved.naive_g / 1000.0,
        "whyTheyDiffer": saved.sentence,
        "shiftedKwh": range_row(found.shifted_kwh),
        "peakChangeKw": {zone: range_row(change) for zone, change in found.peak_change_kw.items()},
        "cost": None if saved.cost is None else _saved_cost(saved.cost),
        **({} if saved.by_grid is None else {"withoutOnSite": _by_grid(saved.by_grid)}),
        "owedKwh": found.owed_kwh,
        "owedKg": {zone: part.owed_g / 1000.0 for zone, part in found.by_zone.items()},
        "broughtKwh": found.brought_kwh,
        "broughtKg": {zone: part.brought_g / 1000.0 for zone, part in found.by_zone.items()},
        "gpuHoursDelayed": saved.replayed.gpu_hours_delayed,
        "gpuHoursLost": saved.replayed.gpu_hours_lost,
        "leftOut": saved.replayed.left_out,
    }


def _by_grid(found: Savings) -> dict[str, Any]:
    """Return the saving as if there were no plants on the sites."""
    return {
        "verdict": found.verdict,
        "savedKg": range_row(found.saved_g, 1e-3),
        "counterfactualKg": found.counterfactual_g / 1000.0,
        "measuredKg": found.measured_g / 1000.0,
    }


def _saved_cost(cost: Cost) -> dict[str, Any]:
    told = {"currency": cost.currency, "measured": cost.measured, "counterfactual": cost.counterfactual}
    return told | {"saved": range_row(cost.saved)}


def zone_saving_row(saved: Saved, zone: str) -> dict[str, Any] | None:
    """Return a zone's part of it; None for a zone that was not replayed."""
    found = saved.savings.by_zone.get(zone)
    if found is None:
        return None
    return {
        "savedKg": range_row(found.saved_g, 1e-3),
        "savedKwh": range_row(found.saved_kwh),
        "naiveKg": saved.naive_by_zone.get(zone, 0.0) / 1000.0,
        "gpuHoursLost": saved.replayed.lost_by_zone.get(zone, 0.0),
        "shiftedKwh": found.shifted_kwh,
        "peakChangeKw": range_row(saved.savings.peak_change_kw[zone]),
    }


def fill_delays(rows: list[dict[str, Any]], cluster: dict[str, Any], saved: Saved, by: str) -> None:
    """Fill in how much later work started than first come first served."""
    cluster["delay"] = _delay(saved.delays)
    whose = {
        "zone": [one.zone for one in saved.delays],
        "namespace": [one.namespace for one in saved.delays],
        "team": [one.team or NO_TEAM for one in saved.delays],
    }.get(by)
    for row in rows if whose is not None else ():
        mine = [one for one, name in zip(saved.delays, whose or (), strict=True) if name == row["name"]]
        row["delay"] = _delay(mine)


def _delay(found: Sequence[Delay]) -> dict[str, float] | None:
    if not found:
        return None
    late = [max(0.0, one.hours) for one in found]
    return {
        "workloads": len(found),
        "meanHours": sum(late) / len(late),
        "worstHours": max(late),
        "gpuHours": sum(max(0.0, one.hours) * one.gpus for one in found),
    }
