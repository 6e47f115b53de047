# SPDX-License-Identifier: Apache-2.0
"""Nodes that belong to no GridZone, in a report: counted and named, without emissions: nobody knows their grid."""

from collections.abc import Mapping
from typing import Any

from embellie.accounting.known import NO_ZONE
from embellie.cli.reporting.books import Books
from embellie.cli.reporting.coverage import NEEDED
from embellie.domain.reasons import SignalKind

NO_GRID = "these nodes belong to no GridZone, so nobody knows their grid; make a GridZone's nodeSelector match them"
_NAMED = 8


def stray_refusals(sums: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Refuse the cluster's emissions and cost where too much of its energy has no grid."""
    share = _share(sums)
    if share <= 1.0 - NEEDED:
        return {}
    why = (
        f"{100 * share:.1f} % of the energy is drawn by nodes that belong to no GridZone, and nobody knows their grid; "
        f"at most {100 * (1.0 - NEEDED):.0f} % may be"
    )
    kinds = [str(kind) for kind in (SignalKind.AVERAGE_LIFECYCLE, SignalKind.AVERAGE_DIRECT)]
    # Nor does anybody know what that energy costs.
    priced = ["cost"] if any(part.get("cost") for part in sums.values()) else []
    return dict.fromkeys([*kinds, *priced], why)


def stray_notes(books: Books, sums: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say which nodes they are, and what they drew."""
    if NO_ZONE not in sums:
        return []
    names = list(books.strays)
    more = f" and {books.stray_count - _NAMED} more" if books.stray_count > _NAMED else ""
    told = f" ({', '.join(sorted(names)[:_NAMED])}{more})" if names else ""
    kwh = sums[NO_ZONE]["kwh"]["facility"]
    text = (
        f"Nodes{told} belong to no GridZone: their {kwh:,.1f} kWh ({100 * _share(sums):.1f} %) are part of the energy, "
        "and have neither emissions nor a part in savings. Make a GridZone's nodeSelector match them."
    )
    return [text]


def _share(sums: Mapping[str, Mapping[str, Any]]) -> float:
    whole = sum(part["kwh"]["facility"] for part in sums.values())
    return float(sums[NO_ZONE]["kwh"]["facility"] / whole) if NO_ZONE in sums and whole > 0.0 else 0.0
