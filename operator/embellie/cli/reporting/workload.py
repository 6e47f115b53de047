# SPDX-License-Identifier: Apache-2.0
"""The accounts of one workload, out of a ledger's records, and its footprint."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from embellie.accounting.footprint import Footprint
from embellie.cli.reporting.coverage import NEEDED, UNSEEN
from embellie.cli.reporting.period import ReportError
from embellie.domain.reasons import SignalKind
from embellie.domain.sums import add_tables
from embellie.ledger import Entry, Kind

Stretch = tuple[datetime, datetime]


@dataclass(slots=True)
class WorkloadAccount:
    """What a ledger holds of one workload."""

    name: str
    intervals: dict[tuple[str, Stretch], dict[str, Any]] = field(default_factory=dict)
    """(zone, interval) -> what it added, revisions included."""
    run: Mapping[str, Any] | None = None
    """Its run as last recorded."""
    running: bool = False
    methods: set[str] = field(default_factory=set)
    """By which its accounts were made."""

    @property
    def until(self) -> datetime:
        """The end of the last interval that names it."""
        return max(end for _, (_, end) in self.intervals)

    def footprint(self, accounted: Iterable[Stretch]) -> Footprint:
        """Return the footprint; raises ReportError where its inputs cover less than 95 %.

        Args:
            accounted: All intervals of the ledger.
        """
        row: dict[str, Any] = {}
        for part in self.intervals.values():
            row = add_tables(row, part)
        kwh = _kwh(row)
        covered = self._covered(accounted)
        if covered < NEEDED:
            raise ReportError(
                f"accounts cover {100 * covered:.1f} % of the hours in which {self.name} ran; {100 * NEEDED:.0f} % are "
                f"needed. They hold {kwh:.1f} kWh"
            )
        kind, grams, priced = self._priced(kwh)
        spared_g = sum(part.get("sparedGrams", {}).get(kind, 0.0) for part in self.intervals.values())
        if priced < NEEDED * kwh or not kind:
            raise ReportError(
                f"the carbon intensity is known for {100 * priced / kwh if kwh else 0.0:.1f} % of the energy of "
                f"{self.name}; {100 * NEEDED:.0f} % are needed. Its energy was {kwh:.1f} kWh"
            )
        return Footprint(
            name=self.name,
            dynamic_kwh=row["dynamicKwh"],
            idle_kwh=row["idleKwh"],
            overhead_kwh=row["overheadKwh"],
            estimated_kwh=row["estimatedKwh"],
            # Of the hours whose intensity is known; the few others count by their mean.
            g_per_kwh=grams / priced if priced else 0.0,
            spared_g_per_kwh=spared_g / priced if priced else 0.0,
            embodied_g=row["embodiedG"],
            gpu_hours=row["gpuSeconds"] / 3600.0,
            signal_kind=kind,
            hours=self._hours(),
            accounts_method=" and ".join(sorted(self.methods)),
        )

    def _hours(self) -> float:
        """Return how long it ran, as far as it was accounted; without a record of its run, at least so long."""
        first = min(start for _, (start, _) in self.intervals)
        if self.run is None:
            lengths = {stretch: stretch[1] - stretch[0] for _, stretch in self.intervals}
            return max(0.0, (sum(lengths.values(), timedelta(0)) - 2 * max(lengths.values())).total_seconds() / 3600.0)
        end = self.until if self.run.get("running") else datetime.fromisoformat(self.run["end"])
        return max(0.0, (end - max(first, datetime.fromisoformat(self.run["start"]))).total_seconds() / 3600.0)

    def _priced(self, kwh: float) -> tuple[str, float, float]:
        """Return the kind of signal, its grams, and the energy for which it is known: life-cycle if that is enough."""
        best = ("", 0.0, 0.0)
        for kind in (SignalKind.AVERAGE_LIFECYCLE, SignalKind.AVERAGE_DIRECT):
            known = [part for part in self.intervals.values() if kind in part.get("grams", {})]
            priced = sum(_kwh(part) for part in known)
            if not best[0] or (best[2] < NEEDED * kwh and priced > best[2]):
                best = (str(kind), sum(part["grams"][kind] for part in known), priced)
        return best if best[2] or not kwh else ("", 0.0, 0.0)

    def _covered(self, accounted: Iterable[Stretch]) -> float:
        """Return which share of its run lies in intervals that were accounted for anybody."""
        if self.run is None:
            return 1.0
        start = datetime.fromisoformat(self.run["start"])
        end = self.until if self.run.get("running") else datetime.fromisoformat(self.run["end"])
        length_s = (end - start).total_seconds()
        inside_s = sum(max(0.0, (min(end, b) - max(start, a)).total_seconds()) for a, b in accounted)
        return inside_s / length_s if length_s > 0.0 else 1.0


def accounts_of(entries: Iterable[Entry], wanted: str) -> tuple[dict[str, WorkloadAccount], set[Stretch]]:
    """Gather the accounts of every workload of a name (namespace/kind/name), by uid, and all accounted intervals."""
    found: dict[str, WorkloadAccount] = {}
    accounted: set[Stretch] = set()
    for entry in entries:
        body = entry.content
        if entry.kind == Kind.RUN:
            if f"{body['namespace']}/{str(body['kind']).lower()}/{body['name']}" == wanted:
                found.setdefault(str(body["uid"]), WorkloadAccount(wanted)).run = body
            continue
        stretch = datetime.fromisoformat(body["start"]), datetime.fromisoformat(body["end"])
        accounted.add(stretch)
        for uid, name in body.get("names", {}).items():
            if name == wanted:
                found.setdefault(uid, WorkloadAccount(wanted))
        rows = body["adds"].get("workloads", {})
        for uid in found.keys() & rows.keys():
            intervals, key = found[uid].intervals, (str(body["zone"]), stretch)
            intervals[key] = add_tables(intervals.get(key, {}), rows[uid])
            found[uid].methods.add(str(body["method"]))
    found = {uid: account for uid, account in found.items() if account.intervals}
    for account in found.values():
        newest = max(end for _, end in accounted)
        account.running = bool(account.run and account.run.get("running")) and newest - account.until <= UNSEEN
    return found, accounted


def _kwh(row: Mapping[str, Any]) -> float:
    return float(row.get("dynamicKwh", 0.0) + row.get("idleKwh", 0.0) + row.get("overheadKwh", 0.0))
