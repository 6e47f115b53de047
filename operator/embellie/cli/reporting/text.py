# SPDX-License-Identifier: Apache-2.0
"""A report as a table for people, and as CSV for spreadsheets."""

import csv
import io
from collections.abc import Mapping
from typing import Any

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
OWED_TOLD = 0.001
"""Work that is owed is told from this share of the counterfactual's emissions on."""
_LIFE, _DIRECT = "AverageLifecycle", "AverageDirect"


def as_table(report: Mapping[str, Any]) -> str:
    """Write a report in plain columns, with what is refused and why under it."""
    lines = [row_cells(row) for row in report["rows"]]
    widths = [max(len(line[k]) for line in [HEADERS, *lines]) for k in range(len(HEADERS))]

    def line(cells: tuple[str, ...]) -> str:
        first = cells[0].ljust(widths[0])
        return "   ".join([first, *(cell.rjust(w) for cell, w in zip(cells[1:], widths[1:], strict=True))]).rstrip()

    period = report["period"]
    text = [f"From {period['from']} to {period['to']} ({period['hours']:g} h), by {report['by']}", "", line(HEADERS)]
    text += [line(one) for one in lines]
    text += ["", *savings_lines(report["cluster"])]
    text += [f"{line}." for line in refusals(report)]
    text += revision_lines(report)
    text += trust_lines(report["cluster"])
    text += [f"Note: {note}" for note in report["notes"]]
    text.append(f"Methods: {report['method']['accounts']}, {report['method']['savings']} (docs/method.md).")
    return "\n".join(text) + "\n"


def refusals(report: Mapping[str, Any]) -> list[str]:
    """Say what is refused, row by row; the saving is the cluster's, whatever a row is."""
    found = {(row["name"], figure, why) for row in report["rows"] for figure, why in row["refused"].items()}
    cluster = report["cluster"]
    found |= {(cluster["name"], figure, why) for figure, why in cluster["refused"].items() if figure == "saving"}
    return [f"Refused: {figure} of {printable(name)}: {why}" for name, figure, why in sorted(found)]


def savings_lines(cluster: Mapping[str, Any]) -> list[str]:
    """Say the saving in sentences; nothing where it was refused."""
    saving = cluster["saving"]
    if saving is None:
        return []
    kg, percent = saving["savedKg"], saving["savedPercent"]
    verdict = {"saved": "Saved", "about zero": "Saved about zero:", "more than without": "Emitted more than without:"}
    base = f"{saving['counterfactualKg']:,.0f} kg that first come first served would have emitted"
    span = f"90 % interval {kg['low']:,.1f} to {kg['high']:,.1f}"
    mass = f"{kg['value']:,.1f} kg CO2e ({span}; {saving['signalKind']} intensity)"
    lines = [f"{verdict[saving['verdict']]} {mass}, {percent['value']:.2f} % of the {base}."]
    lines.append(f"The sum over jobs would say {saving['naiveKg']:,.1f} kg. {saving['whyTheyDiffer']}")
    delayed, lost = saving["gpuHoursDelayed"], saving["gpuHoursLost"]
    lines.append(f"It cost {delayed:,.0f} GPU-hours of delay, and {lost:,.0f} GPU-hours less were worked by the end.")
    lines.append(f"{saving['shiftedKwh']['value']:,.0f} kWh moved to other hours or zones.")
    owed = sum(saving["owedKg"].values())
    if abs(owed) >= OWED_TOLD * saving["counterfactualKg"]:
        lines.append(
            f"Work worth {saving['owedKwh']:,.0f} kWh was still to be done at the end; the {owed:,.1f} kg that it will "
            "emit are taken off the saving, and not off its days."
        )
    cost = saving["cost"]
    if cost is not None:
        less, unit = cost["saved"], cost["currency"]
        lines.append(
            f"Electricity cost {cost['measured']:,.2f} {unit}; first come first served it would have cost "
            f"{cost['counterfactual']:,.2f} {unit}: {less['value']:,.2f} {unit} less (90 % interval "
            f"{less['low']:,.2f} to {less['high']:,.2f})."
        )
    peaks = ", ".join(f"{zone} {change['value']:+,.1f} kW" for zone, change in sorted(saving["peakChangeKw"].items()))
    return [*lines, f"Peak power against first come first served: {peaks}."]


def revision_lines(report: Mapping[str, Any]) -> list[str]:
    """Say what late grid data changed, and how much had no intensity at first."""
    lines = []
    for kind, told in sorted(report["revisions"].items()):
        if abs(told["nowKg"] - told["firstKg"]) > 1e-6:
            lines.append(
                f"Late grid data changed the emissions ({kind}) of the hours that had an intensity at first from "
                f"{told['firstKg']:,.1f} to {told['nowKg']:,.1f} kg."
            )
        if told["laterKg"] > 1e-6:
            lines.append(f"{told['laterKg']:,.1f} kg ({kind}) belong to hours whose intensity came only later.")
    return lines


def trust_lines(cluster: Mapping[str, Any]) -> list[str]:
    """Say how much was measured, and how much estimated."""
    covered, estimated = cluster["coveragePercent"], cluster["estimatedPercent"]
    meters = f"the zones' meters {number(covered['meter'])} %, the nodes' own meters {number(covered['nodes'])} %"
    return [
        f"Accounts cover {number(covered['accounts'])} % of the hours, {meters}.",
        f"GPU telemetry covers {number(covered['gpus'])} % of the reserved GPU time.",
        f"{number(estimated['energy'])} % of the machines' energy is estimated.",
        f"{number(cluster['unexplainedPercent'], 2)} % of the metered energy is explained by no part.",
        f"The life-cycle intensity is estimated for {number(estimated[_LIFE])} % of the priced hours.",
    ]


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
    writer = csv.writer(out)
    writer.writerow(
        [
            "name",
            "from",
            "to",
            "energy_kwh",
            "emissions_lifecycle_kg",
            "emissions_direct_kg",
            "embodied_kg",
            "cost",
            "currency",
            "gpu_hours_reserved",
            "saved_kg",
            "saved_low_kg",
            "saved_high_kg",
            "gpu_hours_lost",
            "delay_mean_h",
            "coverage_percent",
            "estimated_energy_percent",
            "refused",
        ]
    )
    period = report["period"]
    for row in report["rows"]:
        energy, saving, delay = row["energyKwh"], row["saving"], row["delay"]
        kg = saving["savedKg"] if saving else {}
        writer.writerow(
            [
                # A name that a spreadsheet would take for a formula is written as text.
                f"'{row['name']}" if row["name"][:1] in "=+-@" else row["name"],
                period["from"],
                period["to"],
                energy["total"] if energy else None,
                row["emissionsKg"][_LIFE],
                row["emissionsKg"][_DIRECT],
                row["embodiedKg"],
                row["cost"]["total"] if row["cost"] else None,
                row["cost"]["currency"] if row["cost"] else None,
                row["gpuHours"]["reserved"],
                kg.get("value"),
                kg.get("low"),
                kg.get("high"),
                saving["gpuHoursLost"] if saving else None,
                delay["meanHours"] if delay else None,
                row.get("coveragePercent", {}).get("accounts"),
                row["estimatedPercent"]["energy"],
                "; ".join(f"{figure}: {why}" for figure, why in row["refused"].items()),
            ]
        )
    return out.getvalue()
