# SPDX-License-Identifier: Apache-2.0
"""What a report says of the plants on a site: what they delivered and spared, and what the grid alone would come to.

Where no account knows a plant with a meter, nothing here says anything.
"""

from collections.abc import Mapping
from typing import Any

from embellie.cli.reporting.books import Books
from embellie.domain.reasons import SignalKind

KINDS = (SignalKind.AVERAGE_LIFECYCLE, SignalKind.AVERAGE_DIRECT)
"""Both ways of counting an inventory. Marginal emissions answer another question and have no column here."""
CSV_COLUMNS = (
    "on_site_delivered_kwh",
    "on_site_used_kwh",
    "on_site_coverage_percent",
    "emissions_lifecycle_without_on_site_kg",
    "emissions_direct_without_on_site_kg",
)
SOLD = (
    "Where what the plants deliver beyond the site's own use is sold, using more of it on the site lowers the site's "
    "inventory and not the world's emissions."
)


def on_site_part(
    part: Mapping[str, Any], emitted_kg: Mapping[str, float | None], refused: Mapping[str, str]
) -> dict[str, Any]:
    """Return the member `onSite` of a row; nothing where its sums hold none, or its energy is refused.

    Args:
        part: Sums of a cluster, a zone, a namespace or a team.
        emitted_kg: Its emissions by kind of signal, None where refused [kg].
        refused: Figures that are refused.
    """
    if "energy" in refused or ("onSite" not in part and "sparedGrams" not in part):
        return {}
    spared = part.get("sparedGrams", {})
    without = {kind: None if kg is None else kg + spared.get(kind, 0.0) / 1000.0 for kind, kg in emitted_kg.items()}
    told: dict[str, Any] = {"emissionsKgWithout": without}
    if "onSite" in part:
        sums = part["onSite"]
        seconds, covered_s = (sum(row[key] for row in sums.values()) for key in ("seconds", "coveredSeconds"))
        told |= {
            "deliveredKwh": {kind: row["deliveredKwh"] for kind, row in sums.items()},
            "usedKwh": {kind: row["usedKwh"] for kind, row in sums.items()},
            "coveragePercent": 100.0 * covered_s / seconds,
        }
    return {"onSite": told}


def on_site_notes(books: Books, whole: Mapping[str, Any]) -> list[str]:
    """Say which plants' meters proved nothing for how long, and what the figures do not say."""
    if "onSite" not in whole:
        return []
    notes = [
        f"What plant {plant} of zone {zone} delivered counts as nothing for {seconds / 3600.0:,.1f} hours: {why}."
        for (zone, plant, why), seconds in sorted(books.unmeasured.items())
    ]
    cost = ["The cost is that of all energy, as if all of it had been bought."] if whole.get("cost") else []
    return [*notes, SOLD, *cost]


def on_site_lines(report: Mapping[str, Any]) -> list[str]:
    """Say in sentences what the plants of each zone, or of all, delivered, and what the grid alone comes to."""
    rows = report["rows"] if report["by"] == "zone" else [report["cluster"]]
    return [_line(row["name"], row["onSite"]) for row in rows if "onSite" in row]


def _line(name: str, told: Mapping[str, Any]) -> str:
    delivered, used = (sum(told[key].values()) for key in ("deliveredKwh", "usedKwh"))
    kinds = " and ".join(kind.lower() for kind in sorted(told["usedKwh"]))
    without = " and ".join(
        f"{kg:,.1f} kg {word}"
        for word, kind in zip(("life-cycle", "direct"), KINDS, strict=True)
        if (kg := told["emissionsKgWithout"][kind]) is not None
    )
    return (
        f"On-site {kinds} of {name}: {delivered:,.1f} kWh delivered, {used:,.1f} kWh of them used"
        + (f"; without it: {without}" if without else "")
        + f". Its meters cover {told['coveragePercent']:.1f} % of the hours."
    )


def on_site_cells(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Return a row's cells of `CSV_COLUMNS`."""
    told = row.get("onSite", {})
    without = told.get("emissionsKgWithout", row["emissionsKg"])
    sums = [sum(told[key].values()) if key in told else None for key in ("deliveredKwh", "usedKwh")]
    values = (*sums, told.get("coveragePercent"), *(without[kind] for kind in KINDS))
    return dict(zip(CSV_COLUMNS, values, strict=True))
