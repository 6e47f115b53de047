# SPDX-License-Identifier: Apache-2.0
"""Turns old records into daily accounts, without breaking the chain.

A run of consecutive old records is removed; a `daily` record at the head stands for it. It carries the numbers of the
run, the hash before its first record and the hash of its last one, so that the chain can be walked over the hole, and
for each day the sums of what the run held. An account says what it *adds* to the totals (a revision adds its
difference), so plain sums are right wherever the cut falls. Segments and daily records are never removed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from embellie.domain.sums import add_tables
from embellie.ledger.records import ChangedRecordError, Draft, Entry, Kind
from embellie.ledger.store import Ledger, LedgerReader
from embellie.ledger.verify import unchanged

COMPACTED = (Kind.DECISION, Kind.RUN, Kind.ACCOUNT, Kind.GAP)
MAX_RUN = 50_000
"""Records that one daily record stands for, at most: its transaction stays short."""
DROPPED = ("workloads",)
"""Parts of an account that a daily account does not keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """What was done."""

    removed: int
    spans: int


@dataclass(slots=True)
class _Run:
    first: Entry
    last: Entry
    count: int = 0
    days: dict[str, "_Day"] = field(default_factory=lambda: defaultdict(_Day))


@dataclass(slots=True)
class _Day:
    """What the records of one day came to."""

    zones: dict[str, dict[str, Any]] = field(default_factory=dict)
    decisions: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    lost: int = 0
    methods: set[str] = field(default_factory=set)


def compact(ledger: Ledger, before: datetime, now: datetime) -> Compaction:
    """Replace records that were made before an instant by daily accounts, each run of them in one transaction.

    Raises ChangedRecordError where one of them is not as it was written: a sum would hide that for ever.
    """
    removed = spans = 0
    while (run := _first_run(ledger, before)) is not None:
        draft = Draft(kind=Kind.DAILY, at=now, body=_daily(run))
        ledger.append([draft], replacing=(run.first.seq, run.last.seq))
        removed += run.count
        spans += 1
    if removed:
        ledger.give_back_space()
    return Compaction(removed=removed, spans=spans)


def _first_run(ledger: Ledger, before: datetime) -> _Run | None:
    with LedgerReader(ledger.path) as reader:
        return next(_runs(unchanged(reader.entries(kinds=COMPACTED, until=before))), None)


def _runs(entries: Iterable[Entry]) -> Iterator[_Run]:
    """Yield runs of consecutive numbers among old records, from the beginning of the ledger on."""
    run: _Run | None = None
    for entry in entries:
        if run is not None and (entry.seq != run.last.seq + 1 or run.count >= MAX_RUN):
            yield run
            run = None
        if run is not None and entry.previous != run.last.hash:
            raise ChangedRecordError(f"record {entry.seq} does not follow record {run.last.seq}: one was changed")
        run = run or _Run(entry, entry)
        run.last = entry
        run.count += 1
        _add(run, entry)
    if run is not None:
        yield run


def _add(run: _Run, entry: Entry) -> None:
    body = entry.content
    day = run.days[str(body.get("start") or entry.at)[:10]]
    if entry.kind == Kind.ACCOUNT:
        if body.get("method"):
            day.methods.add(str(body["method"]))
        zone = str(body.get("zone", ""))
        adds = {name: part for name, part in body.get("adds", {}).items() if name not in DROPPED}
        before = day.zones.get(zone, {"adds": {}, "peakKw": 0.0})
        day.zones[zone] = {
            "adds": add_tables(before["adds"], adds),
            "peakKw": max(before["peakKw"], float(body.get("peakKw") or 0.0)),
        }
    elif entry.kind == Kind.DECISION:
        day.decisions[f"{body.get('state', '')}/{body.get('reason', '')}"] += 1
    elif entry.kind == Kind.RUN:
        day.runs += 1
    else:
        day.lost += int(body.get("lost", 0))


def _daily(run: _Run) -> dict[str, Any]:
    return {
        "replaces": {
            "first": run.first.seq,
            "last": run.last.seq,
            "before": run.first.previous,
            "end": run.last.hash,
            "segment": run.last.segment,
        },
        "days": {
            name: {
                "zones": day.zones,
                "decisions": dict(day.decisions),
                "runs": day.runs,
                "lost": day.lost,
                "methods": sorted(day.methods),
            }
            for name, day in sorted(run.days.items())
        },
    }
