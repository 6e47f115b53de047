# SPDX-License-Identifier: Apache-2.0
"""What the operator's own ledger says of the demo: the same figures as `embellie report`, by the same code."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from embellie.cli.reporting.books import read_books
from embellie.cli.reporting.figures import make_report
from embellie.cli.reporting.period import Period, ReportError
from embellie.ledger import Kind, LedgerError, LedgerReader, verify
from embellie.simulation.counterfactual import DRAWS


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerAccount:
    """The report of the demo, and whether the ledger that it is made from is whole."""

    report: dict[str, Any] | None
    """A document as `embellie report --by zone --format json` writes it; None where there is nothing to report."""
    trouble: str
    """Why there is none."""
    records: int
    sound: bool

    @property
    def cluster(self) -> dict[str, Any]:
        """The cluster's row; empty without a report."""
        return {} if self.report is None else dict(self.report["cluster"])


def read_ledger(path: Path, begin: datetime) -> LedgerAccount:
    """Report what a ledger holds from an instant on, to the end of its last account."""
    try:
        with LedgerReader(path) as reader:
            checked = verify(
                reader.entries(), reader.entries(kinds=[Kind.DAILY]), head=(reader.head.seq, reader.head.hash)
            )
            ends = (datetime.fromisoformat(entry.content["end"]) for entry in reader.entries(kinds=[Kind.ACCOUNT]))
            period = Period(start=begin, end=max(ends, default=begin), zone=ZoneInfo("UTC"))
            books = read_books(reader.entries(), period, {})
            head = str(reader.head)
    except LedgerError as error:
        return LedgerAccount(report=None, trouble=str(error), records=0, sound=False)
    try:
        return LedgerAccount(
            report=make_report(books, "zone", draws=DRAWS, head=head),
            trouble="",
            records=checked.records,
            sound=checked.sound,
        )
    except ReportError as error:
        return LedgerAccount(report=None, trouble=str(error), records=checked.records, sound=checked.sound)


def as_json(account: LedgerAccount) -> dict[str, Any]:
    """Return the ledger's figures, and the saving with its interval beside the sum over jobs."""
    row = account.cluster
    told: dict[str, Any] = {"records": account.records, "sound": account.sound}
    if account.report is None:
        return {"ledger": {**told, "trouble": account.trouble}, "carbon_saved": None}
    energy = row["energyKwh"]
    told |= {
        "hours": account.report["period"]["hours"],
        "facility_kwh": energy and round(energy["total"], 1),
        "unexplained_percent": _rounded(row["unexplainedPercent"]),
        "carbon_kg": {kind: _rounded(kg) for kind, kg in row["emissionsKg"].items()},
        "coverage_percent": {name: _rounded(percent) for name, percent in row["coveragePercent"].items()},
        "estimated_percent": {name: _rounded(percent) for name, percent in row["estimatedPercent"].items()},
        "refused": row["refused"],
    }
    return {"ledger": told, "carbon_saved": _saving(row["saving"], account.report["method"]["savings"])}


def _saving(saving: dict[str, Any] | None, method: str) -> dict[str, Any] | None:
    if saving is None:
        return None
    kg, percent = saving["savedKg"], saving["savedPercent"]
    return {
        "method": method,
        "verdict": saving["verdict"],
        "kg": round(kg["value"], 2),
        "kg_90_percent": [round(kg["low"], 2), round(kg["high"], 2)],
        "percent_90_percent": [round(percent["low"], 2), round(percent["high"], 2)],
        "per_job_sum_kg": round(saving["naiveKg"], 2),
        "why_they_differ": saving["whyTheyDiffer"],
        "gpu_hours_delayed": round(saving["gpuHoursDelayed"], 1),
        "shifted_kwh": round(saving["shiftedKwh"]["value"], 1),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
