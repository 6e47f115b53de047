# SPDX-License-Identifier: Apache-2.0
"""A report as a table for people, and as CSV for spreadsheets."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from embellie.cli.reporting.on_site import on_site_cells, on_site_lines
from embellie.cli.words import in_columns
from embellie.domain.reasons import SignalKind

HEADERS = (
    "name",
    "energy kWh",
    "life-cycle kg",
    "direct kg",
    "embodied kg",
    "cost",
    "GPU-h",
    "saved kg (90 % interval)",
    "GPU-h lost",
    "mean delay h",
    "covered",
)
FIGURES = {
    "AverageLifecycle": "life-cycle emissions",
    "AverageDirect": "direct emissions",
    "embodied": "embodied emissions",
}
"""What people call figures that a document names otherwise."""
ROWS_NAMED = 3
OWED_TOLD = 0.001
"""Work that is owed is told from this share of the counterfactual's emissions on."""
_LIFE, _DIRECT = "AverageLifecycle", "AverageDirect"


def as_table(report: Mapping[str, Any]) -> str:
    """Write a report in plain columns, with what is refused and why under it."""
    text = [f"{period_line(report['period'])}, by {report['by']}", ""]
    text += in_columns([HEADERS, *(row_cells(row) for row in report["rows"])], numbers=True)
    text += ["", *savings_lines(report["cluster"]), *map(printable, on_site_lines(report))]
    text += [f"{line}." for line in refusals(report)]
    text += revision_lines(report)
    text += trust_lines(report["cluster"])
    text += [f"Note: {note}" for note in report["notes"]]
    text.append(f"Methods: {report['method']['accounts']}, {report['method']['savings']} (docs/method.md).")
    text.append(head_line(report))
    return "\n".join(text) + "\n"


def head_line(report: Mapping[str, Any]) -> str:
    """Say of which ledger a report was made, and how to see that another is the same one."""
    head = report["ledger"]["head"]
    return f"Made of the ledger up to record {head}: `embellie ledger verify --head {head}` holds a copy against it."


def period_line(period: Mapping[str, Any]) -> str:
    """Say which time a report is about, to the minute, in the time zone of its days."""
    first, last = period_ends(period)
    return f"From {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}, {period['timeZone']} ({period['hours']:,.1f} hours)"


def period_ends(period: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """Return where a report begins and ends, in the time zone of its days."""
    zone = ZoneInfo(period["timeZone"])
    first, last = (datetime.fromisoformat(period[end]).astimezone(zone) for end in ("from", "to"))
    return first, last


def refusals(report: Mapping[str, Any]) -> list[str]:
    """Say what is refused, of which rows, and why; the saving is the cluster's, whatever a row is."""
    cluster = report["cluster"]
    found: dict[tuple[str, str], list[str]] = {}
    for row in report["rows"]:
        for figure, why in row["refused"].items():
            found.setdefault((figure, why), []).append(row["name"])
    for figure, why in cluster["refused"].items():
        if figure == "saving" and (figure, why) not in found:
            found[figure, why] = [cluster["name"]]
    return [f"Refused: {refused(figure)} of {_rows(names)}: {why}" for (figure, why), names in sorted(found.items())]


def refused(figure: str) -> str:
    """Return what people call a figure that may be refused."""
    return FIGURES.get(figure, figure)


def _rows(names: Sequence[str]) -> str:
    told = ", ".join(printable(name) for name in names[:ROWS_NAMED])
    return told if len(names) <= ROWS_NAMED else f"{told} and {len(names) - ROWS_NAMED:,} more rows"


def savings_lines(cluster: Mapping[str, Any]) -> list[str]:
    """Say the saving in sentences; nothing where it was refused."""
    saving = cluster["saving"]
    if saving is None:
        return []
    kg, percent = saving["savedKg"], saving["savedPercent"]
    lines = [_verdict(saving, kg, percent)]
    if without := saving.get("withoutOnSite"):
        by_grid = without["savedKg"]
        lines.append(f"By the grid's intensity alone it would be {by_grid['value']:,.1f} kg ({span(by_grid, 1)}).")
    lines.append(f"The sum over jobs would say {saving['naiveKg']:,.1f} kg. {saving['whyTheyDiffer']}")
    delayed, lost = saving["gpuHoursDelayed"], saving["gpuHoursLost"]
    lines.append(f"It cost {delayed:,.0f} GPU-hours of delay, and by the end {_worked(lost)}.")
    lines.append(
        f"{saving['shiftedKwh']['value']:,.0f} kWh ({span(saving['shiftedKwh'])}) moved to other hours or zones."
    )
    lines += _owed(saving)
    cost = saving["cost"]
    if cost is not None:
        less, unit = cost["saved"], cost["currency"]
        lines.append(
            f"Electricity cost {cost['measured']:,.2f} {unit}; first come, first served it would have cost "
            f"{cost['counterfactual']:,.2f} {unit}: a saving of {less['value']:,.2f} {unit} ({span(less, 2)})."
        )
    peaks = ", ".join(
        f"{zone} {change['value']:+,.1f} kW ({span(change, 1)})"
        for zone, change in sorted(saving["peakChangeKw"].items())
    )
    return [*lines, f"Highest hourly mean of the power, against first come, first served: {peaks}."]


def _worked(lost_gpu_h: float) -> str:
    less = f"{abs(lost_gpu_h):,.0f}"
    if less == "0":
        return "as much had been worked as first come, first served"
    return f"{less} GPU-hours {'less' if lost_gpu_h > 0.0 else 'more'} had been worked than first come, first served"


def span(found: Mapping[str, float], digits: int = 0) -> str:
    """Write the interval of a number."""
    return f"90 % interval {found['low']:,.{digits}f} to {found['high']:,.{digits}f}"


def _owed(saving: Mapping[str, Any]) -> list[str]:
    """Say what is still to be done, where it matters, and what is in no schedule."""
    lines, owed = [], sum(saving["owedKg"].values())
    if abs(owed) >= OWED_TOLD * saving["counterfactualKg"]:
        more, whose = (
            ("more", "taken off the saving, and not off") if owed > 0.0 else ("less", "part of the saving, not of")
        )
        lines.append(
            f"What was still to be done at the end will emit {abs(owed):,.1f} kg {more} than what first come, first "
            f"served would have left ({saving['owedKwh']:+,.0f} kWh over all zones): they are {whose} its days."
        )
    brought = sum(saving["broughtKg"].values())
    if abs(brought) >= OWED_TOLD * saving["counterfactualKg"]:
        more, whose = ("more", "given back to") if brought > 0.0 else ("less", "taken off")
        lines.append(
            f"What waited at the beginning was to emit {abs(brought):,.1f} kg {more} than what first come, first "
            f"served would have left ({saving['broughtKwh']:+,.0f} kWh over all zones), which counts in the period "
            f"before: they are {whose} the saving, and not its days."
        )
    if left_out := saving["leftOut"]:
        lines.append(f"{left_out} workloads fit on no node of the cluster as it is now: they are in neither schedule.")
    return lines


def _verdict(saving: Mapping[str, Any], kg: Mapping[str, float], percent: Mapping[str, float]) -> str:
    """Say whether anything was saved; a number whose sign nobody knows is never called a saving."""
    by = f"{SignalKind(saving['signalKind']).words} intensity"
    base = f"{saving['counterfactualKg']:,.0f} kg that the same work would have emitted first come, first served"
    if saving["verdict"] == "about zero":
        return (
            f"Saved about zero: the 90 % interval, {kg['low']:,.1f} to {kg['high']:,.1f} kg CO2e, holds zero, so that "
            f"nobody can tell a saving from a loss. Its mean is {kg['value']:,.1f} kg, {percent['value']:.2f} % of the "
            f"{base} ({by})."
        )
    if saving["verdict"] == "saved":
        return f"Saved {kg['value']:,.1f} kg CO2e ({span(kg, 1)} kg; {by}), {percent['value']:.2f} % of the {base}."
    more = f"{-kg['value']:,.1f} kg CO2e more ({span({'low': -kg['high'], 'high': -kg['low']}, 1)} kg; {by})"
    return f"Nothing was saved: it emitted {more}, {-percent['value']:.2f} % of the {base}."


def revision_lines(report: Mapping[str, Any]) -> list[str]:
    """Say what late grid data changed, and how much had no intensity at first."""
    lines = []
    for kind, told in sorted(report["revisions"].items()):
        if abs(told["nowKg"] - told["firstKg"]) > 1e-6:
            lines.append(
                f"Late grid data changed the {refused(kind)} of the hours that had an intensity at first from "
                f"{told['firstKg']:,.1f} to {told['nowKg']:,.1f} kg."
            )
        if told["laterKg"] > 1e-6:
            lines.append(
                f"{told['laterKg']:,.1f} kg of {refused(kind)} belong to hours whose intensity came only later."
            )
    return lines


def trust_lines(cluster: Mapping[str, Any]) -> list[str]:
    """Say how much was measured, and how much estimated."""
    covered, estimated = cluster["coveragePercent"], cluster["estimatedPercent"]
    meters = f"the zones' meters {number(covered['meter'])} %, the nodes' own meters {number(covered['nodes'])} %"
    return [
        f"Accounts cover {number(covered['accounts'])} % of the hours, {meters}.",
        f"GPU telemetry covers {number(covered['gpus'])} % of the reserved GPU time.",
        f"{number(estimated['energy'])} % of the machines' energy is estimated.",
        _unexplained(cluster["unexplainedPercent"]),
        f"The life-cycle intensity is estimated for {number(estimated[_LIFE])} % of the priced hours.",
    ]


def _unexplained(percent: float | None) -> str:
    if percent is None:
        return "No zone's meter told anything to hold the parts (work, idle, overhead) against."
    if percent < 0.0:
        return f"The parts (work, idle, overhead) come to {-percent:.2f} % more than the zones' meters say."
    return f"{number(percent, 2)} % of the metered energy is explained by no part."


def printable(name: str) -> str:
    """Return a name without line breaks or codes for terminals: a ledger may hold any."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)


def number(value: float | None, digits: int = 1) -> str:
    """Write a number, or a dash for a refused one."""
    return "-" if value is None else f"{value:,.{digits}f}"


def money(cost: Mapping[str, Any] | None) -> str:
    """Write an amount with its currency, or a dash where it is not known."""
    return "-" if cost is None else f"{cost['total']:,.2f} {cost['currency']}"


def row_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a row's cells, as `HEADERS` names them."""
    energy, saving, delay = row["energyKwh"], row["saving"], row["delay"]
    saved = lost = "-"
    if saving is not None:
        kg = saving["savedKg"]
        saved = f"{kg['value']:,.1f} ({kg['low']:,.1f} to {kg['high']:,.1f})"
        lost = number(saving["gpuHoursLost"])
    covered = row.get("coveragePercent", {}).get("accounts")
    return (
        printable(row["name"]),
        number(energy["total"] if energy else None),
        number(row["emissionsKg"][_LIFE]),
        number(row["emissionsKg"][_DIRECT]),
        number(row["embodiedKg"]),
        money(row["cost"]),
        number(row["gpuHours"]["reserved"]),
        saved,
        lost,
        number(delay["meanHours"] if delay else None, 2),
        "-" if covered is None else f"{covered:.0f} %",
    )


def as_csv(report: Mapping[str, Any]) -> str:
    """Write one line for each row; a refused figure is an empty cell, and the last column says why."""
    out = io.StringIO()
    # Where no plant counts, its columns are not there either.
    more = on_site_cells if "onSite" in report["cluster"] else lambda _: {}
    rows = [_csv_row(row, report["period"]) | more(row) for row in (report["cluster"], *report["rows"])]
    writer = csv.DictWriter(out, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows[1:])
    return out.getvalue()


def _csv_row(row: Mapping[str, Any], period: Mapping[str, Any]) -> dict[str, Any]:
    energy, saving, delay, cost = row["energyKwh"], row["saving"], row["delay"], row["cost"]
    kg = saving["savedKg"] if saving else {}
    return {
        # A name that a spreadsheet would take for a formula is written as text.
        "name": f"'{row['name']}" if row["name"][:1] in "=+-@" else row["name"],
        "from": period["from"],
        "to": period["to"],
        "energy_kwh": energy["total"] if energy else None,
        "emissions_lifecycle_kg": row["emissionsKg"][_LIFE],
        "emissions_direct_kg": row["emissionsKg"][_DIRECT],
        "embodied_kg": row["embodiedKg"],
        "cost": cost["total"] if cost else None,
        "currency": cost["currency"] if cost else None,
        "gpu_hours_reserved": row["gpuHours"]["reserved"],
        "saved_kg": kg.get("value"),
        "saved_low_kg": kg.get("low"),
        "saved_high_kg": kg.get("high"),
        "gpu_hours_lost": saving["gpuHoursLost"] if saving else None,
        "delay_mean_h": delay["meanHours"] if delay else None,
        "coverage_percent": row.get("coveragePercent", {}).get("accounts"),
        "estimated_energy_percent": row["estimatedPercent"]["energy"],
        "refused": "; ".join(f"{figure}: {why}" for figure, why in row["refused"].items()),
    }
