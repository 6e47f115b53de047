# SPDX-License-Identifier: Apache-2.0
"""The figures of a report, and what is refused."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from embellie.accounting.known import NO_ZONE
from embellie.accounting.savings import METHOD as SAVINGS_METHOD
from embellie.cli.reporting.books import Books
from embellie.cli.reporting.coverage import NEEDED
from embellie.cli.reporting.on_site import KINDS, on_site_notes, on_site_part
from embellie.cli.reporting.period import ReportError
from embellie.cli.reporting.replayed import Saved
from embellie.cli.reporting.saving_rows import (
    NO_TEAM,
    fill_delays,
    range_row,
    saved_of,
    saving_row,
    zone_saving_row,
)
from embellie.cli.reporting.strays import NO_GRID, stray_notes, stray_refusals
from embellie.domain.sums import add_tables

SCHEMA = "embellie.io/report/v1"
TABLES = {"namespace": "namespaces", "team": "teams"}
OF_MACHINES = ("nodeSeconds", "nodesMetered", "gpuCovered", "gpuReserved", "gpuAll")
"""Times of nodes and GPUs, not of zones."""


def make_report(books: Books, by: str, *, draws: int, head: str) -> dict[str, Any]:
    """Return the report as a document; raises ReportError where there is nothing to report.

    Args:
        books: The period's records, added up.
        by: What a row is: cluster, zone, namespace or team.
        draws: Replays for the intervals.
        head: The ledger's last record, as `ledger verify --head` takes it: which ledger the report was made of.
    """
    if not books.intervals and not books.daily:
        raise ReportError(_nothing(books))
    sums = _zone_sums(books)
    expected_s = _expected_s(books, sums)
    whole, whole_s = _cluster(sums, expected_s)
    refused = _refusals(whole, whole_s) | stray_refusals(sums)
    saved, why_not = saved_of(books, draws) if "energy" not in refused else (None, refused["energy"])
    _cost(whole, whole_s, refused)
    if why_not:
        refused["saving"] = why_not
    cluster = _row("cluster", whole, whole_s, refused)
    rows = [cluster]
    if by == "zone":
        rows = [_zone_row(zone, part, expected_s[zone]) for zone, part in sums.items()]
    elif by in TABLES:
        rows = [_share_row(name or NO_TEAM, part, refused) for name, part in sorted(whole.get(TABLES[by], {}).items())]
    if saved is not None and "saving" not in refused:
        cluster["saving"] = saving_row(saved)
        fill_delays(rows, cluster, saved, by)
        if by == "zone":
            for row in rows:
                row["saving"] = zone_saving_row(saved, row["name"])
    return {
        "schema": SCHEMA,
        "period": {
            "from": books.period.start.isoformat(),
            "to": books.period.end.isoformat(),
            "timeZone": str(books.period.zone),
            "hours": books.period.hours,
        },
        "by": by,
        "method": {
            "accounts": " and ".join(sorted(books.methods)) or "(not recorded)",
            "savings": saved.savings.method if saved is not None else SAVINGS_METHOD,
        },
        "cluster": cluster,
        "rows": rows,
        "days": _days(books, saved),
        "revisions": _revisions(books),
        "ledger": {"head": head, "lostRecords": books.lost, "overrides": len(books.overridden)},
        "notes": [*stray_notes(books, sums), *_notes(books, whole, whole_s, saved, by, refused)],
    }


def _zone_sums(books: Books) -> dict[str, dict[str, Any]]:
    sums: dict[str, dict[str, Any]] = {}
    for interval in books.intervals.values():
        sums[interval.zone] = add_tables(sums.get(interval.zone, {}), _without_workloads(interval.adds))
    for (zone, _), told in books.daily.items():
        sums[zone] = add_tables(sums.get(zone, {}), told["adds"])
    return dict(sorted(sums.items()))


def _without_workloads(adds: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in adds.items() if name != "workloads"}


def _sum(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for part in parts:
        whole = add_tables(whole, part)
    return whole


def _expected_s(books: Books, sums: Mapping[str, Any]) -> dict[str, float]:
    """How long each zone should have been accounted for: a zone may come or go only at the edge of all accounts."""
    length = (books.period.end - books.period.start).total_seconds()
    found = dict.fromkeys(sums, length)
    if NO_ZONE in sums:
        # Nodes without a zone are expected at no time: they are accounted for as long as there are any.
        found[NO_ZONE] = sums[NO_ZONE]["seconds"]["length"]
    return found


def _cluster(sums: Mapping[str, Any], expected_s: Mapping[str, float]) -> tuple[dict[str, Any], float]:
    """Return the cluster's sums, and how long its zones together should have been accounted for [s].

    Nodes without a zone count with their energy; how many hours are covered and priced is a matter of the zones.
    """
    whole = _sum(sums.values())
    zones = {name: part for name, part in sums.items() if name != NO_ZONE}
    if not zones:
        return whole, sum(expected_s.values())
    hours = _sum(part["seconds"] for part in zones.values())
    whole["seconds"] = {**hours, **{name: whole["seconds"].get(name, 0.0) for name in OF_MACHINES}}
    return whole, sum(expected_s[name] for name in zones)


def _zone_row(zone: str, part: Mapping[str, Any], expected_s: float) -> dict[str, Any]:
    refused = _refusals(part, expected_s)
    if zone == NO_ZONE:
        refused |= {kind: NO_GRID for kind in refused if kind in KINDS}
    return _row(zone, part, expected_s, refused)


def _refusals(part: Mapping[str, Any], expected_s: float) -> dict[str, str]:
    """Say what is refused, and what is missing."""
    seconds = part.get("seconds", {})
    refused = {}
    covered = seconds.get("length", 0.0) / expected_s if expected_s else 0.0
    missing_h = max(0.0, expected_s - seconds.get("length", 0.0)) / 3600.0
    if covered < NEEDED:
        refused["energy"] = (
            f"accounts cover {100 * covered:.1f} % of the hours ({missing_h:.1f} zone-hours are missing); "
            f"{100 * NEEDED:.0f} % are needed"
        )
        refused["embodied"] = refused["energy"]
    for kind in KINDS:
        priced = seconds.get(f"priced{kind}", 0.0) / expected_s if expected_s else 0.0
        if priced < NEEDED:
            refused[str(kind)] = (
                f"the {kind.words} carbon intensity is known for {100 * priced:.1f} % of the hours; "
                f"{100 * NEEDED:.0f} % are needed"
            )
    return refused


def _cost(part: Mapping[str, Any], expected_s: float, refused: dict[str, str]) -> dict[str, Any] | None:
    """Return what a cluster's or zone's electricity cost; None without prices, and with too few of them (refused)."""
    costs = part.get("cost", {})
    if not costs or "cost" in refused:
        return None
    if len(costs) > 1:
        refused["cost"] = f"prices are in {' and '.join(sorted(costs))}, which cannot be added: ask with --by zone"
        return None
    ((currency, amount),) = costs.items()
    known = part["seconds"].get(f"costed{currency}", 0.0) / expected_s if expected_s else 0.0
    if known < NEEDED:
        refused["cost"] = (
            f"the price of electricity is known for {100 * known:.1f} % of the hours; {100 * NEEDED:.0f} % are needed"
        )
        return None
    return {"currency": currency, "total": amount}


def _row(name: str, part: Mapping[str, Any], expected_s: float, refused: dict[str, str]) -> dict[str, Any]:
    kwh, seconds = part["kwh"], part["seconds"]
    ok = "energy" not in refused
    it_kwh = kwh["jobs"] + kwh["idle"]
    energy = {key: kwh[key] for key in ("jobs", "idle", "overhead", "unexplained")} | {"total": kwh["facility"]}
    return {
        **_amounts(name, energy, part, refused),
        "cost": _cost(part, expected_s, refused) if ok else None,
        "gpuHours": {"reserved": seconds["gpuReserved"] / 3600.0, "all": seconds["gpuAll"] / 3600.0},
        "coveragePercent": {
            "accounts": _percent(seconds["length"], expected_s),
            "meter": _percent(seconds["metered"], expected_s),
            "nodes": _percent(seconds["nodesMetered"], seconds["nodeSeconds"]),
            "gpus": _percent(seconds["gpuCovered"], seconds["gpuReserved"]),
            **{str(kind): _percent(seconds.get(f"priced{kind}", 0.0), expected_s) for kind in KINDS},
        },
        "estimatedPercent": {
            "energy": _percent(kwh["estimated"], it_kwh),
            **{
                str(kind): _percent(seconds.get(f"estimated{kind}", 0.0), seconds.get(f"priced{kind}", 0.0))
                for kind in KINDS
            },
        },
        "unexplainedPercent": _percent(kwh["unexplained"], kwh["metered"]),
        "saving": None,
        "delay": None,
        "refused": dict(refused),
    }


def _amounts(
    name: str, energy_kwh: Mapping[str, float], part: Mapping[str, Any], refused: Mapping[str, str]
) -> dict[str, Any]:
    """What all rows begin with: energy and emissions, None where refused."""
    ok = "energy" not in refused
    emitted_kg = {
        str(kind): part["grams"].get(str(kind), 0.0) / 1000.0 if str(kind) not in refused and ok else None
        for kind in KINDS
    }
    return {
        "name": name,
        "energyKwh": dict(energy_kwh) if ok else None,
        "emissionsKg": emitted_kg,
        "embodiedKg": part["embodiedG"] / 1000.0 if ok else None,
        **on_site_part(part, emitted_kg, refused),
    }


def _share_row(name: str, part: Mapping[str, Any], refused: Mapping[str, str]) -> dict[str, Any]:
    """A namespace or team: its share by the allocation's rule. Savings belong to the cluster and are not divided."""
    energy = {"dynamic": part["dynamicKwh"], "idle": part["idleKwh"], "overhead": part["overheadKwh"]}
    costs = part.get("cost", {}) if "energy" not in refused and "cost" not in refused else {}
    return {
        **_amounts(name, energy | {"total": sum(energy.values())}, part, refused),
        "cost": next(({"currency": currency, "total": amount} for currency, amount in costs.items()), None),
        "gpuHours": {"reserved": part["gpuSeconds"] / 3600.0},
        "estimatedPercent": {"energy": _percent(part["estimatedKwh"], part["dynamicKwh"] + part["idleKwh"])},
        "saving": None,
        "delay": None,
        "refused": {k: v for k, v in refused.items() if k != "saving"},
    }


def _percent(part: float, whole: float) -> float | None:
    return 100.0 * part / whole if whole > 0.0 else None


def _days(books: Books, saved: Saved | None) -> list[dict[str, Any]]:
    """Return energy, emissions and savings by local day, for the charts; None for a day that is not covered."""
    parts = [(one.zone, books.period.day_of(one.start), one.adds) for one in books.intervals.values()]
    parts += [(zone, name, told["adds"]) for (zone, name), told in books.daily.items()]
    zones = {zone for zone, _, _ in parts} - {NO_ZONE}
    days: dict[str, dict[str, Any]] = {}
    length_s: dict[str, float] = {}
    for zone, name, adds in parts:
        days[name] = add_tables(days.get(name, {}), {k: adds[k] for k in ("kwh", "grams", "seconds")})
        length_s[name] = length_s.get(name, 0.0) + (adds["seconds"]["length"] if zone in zones else 0.0)
    needed_s = {name: NEEDED * len(zones) * books.period.seconds_of(name) for name in days}
    by_day: dict[str, list[Any]] = {}
    for one in saved.savings.by_day if saved is not None else ():
        by_day.setdefault(one.day, []).append(one)
    return [
        {
            "day": name,
            "energyKwh": {key: part["kwh"][key] for key in ("jobs", "idle", "overhead", "unexplained", "facility")}
            if length_s[name] >= needed_s[name]
            else None,
            "emissionsKg": {
                kind: grams / 1000.0
                for kind, grams in part.get("grams", {}).items()
                if part["seconds"].get(f"priced{kind}", 0.0) >= needed_s[name]
            },
            "zoneHours": length_s[name] / 3600.0,
            "saving": [{"zone": one.zone, "savedKg": range_row(one.saved_g, 1e-3)} for one in by_day.get(name, ())],
        }
        for name, part in sorted(days.items())
    ]


def _revisions(books: Books) -> dict[str, dict[str, float]]:
    """Return what late grid data changed, and what had no intensity before it came, by kind of signal [kg]."""
    found: dict[str, dict[str, float]] = {}
    for interval in books.intervals.values():
        for kind, now in interval.adds["grams"].items():
            entry = found.setdefault(kind, {"firstKg": 0.0, "nowKg": 0.0, "laterKg": 0.0})
            if kind in interval.first_grams:
                entry["firstKg"] += interval.first_grams[kind] / 1000.0
                entry["nowKg"] += now / 1000.0
            else:
                entry["laterKg"] += now / 1000.0
    return found


def _nothing(books: Books) -> str:
    if not books.seen:
        return "the ledger holds no accounts yet; the first comes when the operator has led for one interval"
    first, last = min(a for a, _ in books.seen.values()), max(b for _, b in books.seen.values())
    asked = f"from {books.period.start:%Y-%m-%d %H:%M} to {books.period.end:%Y-%m-%d %H:%M} UTC"
    has = f"from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
    return f"the ledger holds no accounts {asked}; it has some {has}"


def _short_of(whole: Mapping[str, Any], expected_s: float) -> bool:
    """Tell whether hours are missing, of accounts or of an intensity that is not refused."""
    seconds = whole["seconds"]
    priced = [seconds.get(f"priced{kind}", 0.0) for kind in KINDS]
    known = [seconds["length"], *(found for found in priced if found >= NEEDED * expected_s)]
    return bool(min(known) < 0.9995 * expected_s)


def _share_kwh(part: Mapping[str, Any]) -> float:
    return float(part["dynamicKwh"] + part["idleKwh"] + part["overheadKwh"])


def _zone_notes(books: Books) -> list[str]:
    """Name zones whose accounts begin or end within the period: one that was renamed looks so."""
    notes = []
    period = books.period
    begin, end = min(a for a, _ in books.seen.values()), max(b for _, b in books.seen.values())
    for zone, (first, last) in sorted(books.seen.items()):
        # A zone that comes or goes with all others was not renamed: the ledger begins or ends there.
        born = first > max(begin, period.start) + timedelta(hours=1)
        gone = last < min(end, period.end) - timedelta(hours=1)
        if zone != NO_ZONE and (born or gone) and first < period.end and last > period.start and len(books.seen) > 1:
            when = f"from {first:%Y-%m-%d %H:%M}" if born else f"until {last:%Y-%m-%d %H:%M}"
            notes.append(
                f"Zone {zone} has accounts only {when} UTC. If it was renamed, join its names with --rename OLD=NEW."
            )
    return notes


def _notes(
    books: Books,
    whole: Mapping[str, Any],
    expected_s: float,
    saved: Saved | None,
    by: str,
    refused: Mapping[str, str],
) -> list[str]:
    notes = _zone_notes(books)
    if whole["kwh"]["estimated"] > 0.5 * (whole["kwh"]["jobs"] + whole["kwh"]["idle"]):
        notes.append("More than half of the energy is estimated: no node or GPU telemetry covered it.")
    if not whole.get("cost"):
        notes.append(
            "No cost is given: no account knows a price of electricity. Write prices to prices/ZONE.csv in the folder "
            "that operator and forecaster share (docs/reports.md)."
        )
    hours = whole["seconds"]["length"] / 3600.0
    if _short_of(whole, expected_s):
        notes.append(
            f"Figures are sums over the {hours:,.1f} zone-hours that have accounts, and emissions over those whose "
            "intensity is known; what is missing is not made up."
        )
    if books.lost:
        notes.append(f"{books.lost} records could not be written in this period; the ledger says so itself.")
    notes += on_site_notes(books, whole)
    if saved is not None and saved.hours_filled:
        notes.append(f"The intensity of {saved.hours_filled} zone-hours was filled in from their neighbours.")
    if by in TABLES:
        left = whole["kwh"]["facility"] - sum(_share_kwh(part) for part in whole.get(TABLES[by], {}).values())
        notes.append(
            f"{left:,.1f} kWh are in no row: GPUs that nobody reserved, their cooling, and what no part explains."
        )
    notes.append("Savings belong to the cluster: they are not divided among namespaces or teams.")
    if saved is not None and "saving" not in refused:
        notes.append(
            "A saving is told by average intensities. It says nothing of what the grid would have emitted otherwise "
            "(marginal effects), nor of certificates (market-based emissions)."
        )
    return notes
