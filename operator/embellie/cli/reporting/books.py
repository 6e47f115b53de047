# SPDX-License-Identifier: Apache-2.0
"""The accounts of a period, added up out of a ledger's records in one pass."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from embellie.accounting.known import NO_ZONE
from embellie.cli.reporting.period import Period, ReportError
from embellie.domain.reasons import BOUND_STATES, State
from embellie.domain.sums import add_tables
from embellie.ledger import Entry, Kind

HOUR = timedelta(hours=1)
WARM_UP = timedelta(days=7)
"""Work that still ran so long before the period is replayed too: it holds GPUs when the period begins."""

LET_GO = (State.RELEASED, State.SHADOW)
"""Nothing of ours holds it: without a run it waits for GPUs."""


@dataclass(slots=True)
class Interval:
    """One zone's interval with all its revisions."""

    zone: str
    start: datetime
    end: datetime
    adds: dict[str, Any] = field(default_factory=dict)
    signals: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    tariff: Mapping[str, Any] | None = None
    first_grams: dict[str, float] = field(default_factory=dict)
    """What was booked at first, before late grid data."""
    peak_kw: float = 0.0
    told: bool = False
    recorded_as: str = ""
    """The zone's name in the ledger."""


@dataclass(slots=True)
class Books:
    """Everything that a report needs."""

    period: Period
    intervals: dict[tuple[str, datetime], Interval] = field(default_factory=dict)
    daily: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    """(zone, UTC day) -> sums of days whose records were compacted."""
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    held: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Workloads that still waited at the end, held or for GPUs, by uid: their last decision."""
    cells: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    seen: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)
    """Zone -> its first and its last account in the whole ledger."""
    recorded: set[str] = field(default_factory=set)
    """Names of zones in the whole ledger, renamed ones by their old name."""
    names: dict[str, str] = field(default_factory=dict)
    """uid -> namespace/kind/name."""
    teams: dict[str, str] = field(default_factory=dict)
    """uid -> its team, where it has one."""
    worked_until: dict[str, datetime] = field(default_factory=dict)
    """uid -> the end of the last interval in which it held GPUs, in the whole ledger."""
    strays: dict[str, None] = field(default_factory=dict)
    """Names of nodes with GPUs that belonged to no GridZone (the first of them in each record)."""
    stray_count: int = 0
    """The most of them at once."""
    unmeasured: dict[tuple[str, str, str], float] = field(default_factory=dict)
    """(zone, plant, why) -> for how long the plant's meter proved nothing [s]."""
    lost: int = 0
    """Records that could not be written, by the ledger's own word."""
    methods: set[str] = field(default_factory=set)
    """By which its accounts were made: an upgrade within a period leaves two."""
    overridden: set[str] = field(default_factory=set)
    """Workloads that somebody started by hand in the period, by uid."""

    @property
    def accounted_until(self) -> datetime:
        """The end of the last account in the whole ledger; of the period where there is none."""
        return max((last for _, last in self.seen.values()), default=self.period.end)


def read_books(entries: Iterable[Entry], period: Period, renamed: Mapping[str, str]) -> Books:
    """Add up; `renamed` maps a zone's old name to its new one.

    Raises ReportError where a zone to be renamed is not known, or is another zone than the one whose name it is given.
    """
    books = Books(period=period)
    for entry in entries:
        if entry.kind == Kind.ACCOUNT:
            _account(books, entry.content, renamed)
        elif entry.kind == Kind.RUN:
            _run(books, entry.content, renamed)
        elif entry.kind == Kind.DECISION:
            _decision(books, entry, renamed)
        elif entry.kind == Kind.DAILY:
            _daily(books, entry.content, renamed)
        elif entry.kind == Kind.GAP and period.start <= entry.moment < period.end:
            books.lost += int(entry.content.get("lost", 0))
    unknown = sorted(renamed.keys() - books.recorded)
    if unknown and books.recorded:
        known = ", ".join(sorted(books.recorded))
        raise ReportError(
            f"--rename {unknown[0]}={renamed[unknown[0]]}: no account is of a zone {unknown[0]}; known: {known}"
        )
    _join_late_revisions(books)
    return books


def _join_late_revisions(books: Books) -> None:
    """Add what was revised after its interval had been compacted to the sums of its day."""
    for key in [key for key, interval in books.intervals.items() if not interval.told]:
        interval = books.intervals.pop(key)
        day = books.daily.get((interval.zone, interval.start.date().isoformat()))
        if day is not None:
            day["adds"] = add_tables(day["adds"], {k: v for k, v in interval.adds.items() if k != "workloads"})


def _account(books: Books, body: Mapping[str, Any], renamed: Mapping[str, str]) -> None:
    zone = renamed.get(str(body["zone"]), str(body["zone"]))
    start, end = datetime.fromisoformat(body["start"]), datetime.fromisoformat(body["end"])
    _saw(books, zone, start, end)
    books.recorded.add(str(body["zone"]))
    for uid in body["adds"].get("workloads", {}):
        books.worked_until[uid] = max(end, books.worked_until.get(uid, end))
    if not (books.period.start <= start and end <= books.period.end):
        return
    books.methods.add(str(body["method"]))
    interval = books.intervals.setdefault((zone, start), Interval(zone, start, end))
    interval.adds = add_tables(interval.adds, body["adds"])
    interval.signals.update({told["kind"]: told for told in body.get("signals", ())})
    interval.tariff = body.get("tariff") or interval.tariff
    interval.peak_kw = max(interval.peak_kw, float(body.get("peakKw") or 0.0))
    books.names.update(body.get("names", {}))
    books.teams.update(body.get("teamOf", {}))
    if zone == NO_ZONE and (nodes := body.get("nodes")):
        books.strays.update(dict.fromkeys(nodes["names"]))
        books.stray_count = max(books.stray_count, int(nodes["count"]))
    for plant in body.get("plants", ()):
        if "missing" in plant:
            key = (zone, str(plant["name"]), str(plant["missing"]))
            missing_s = (end - start).total_seconds() - float(plant["coveredSeconds"])
            books.unmeasured[key] = books.unmeasured.get(key, 0.0) + missing_s
    if int(body["revision"]) == 0:
        if interval.told and interval.recorded_as != str(body["zone"]):
            raise ReportError(
                f"--rename: {interval.recorded_as} and {body['zone']} both have accounts of {start:%Y-%m-%d %H:%M} "
                "UTC: they are two zones, and not one under two names"
            )
        interval.told, interval.recorded_as = True, str(body["zone"])
        interval.first_grams = dict(body["adds"].get("grams", {}))
        if body.get("cells"):
            books.cells[zone] = [{**cell, "name": _cell(str(cell["name"]), renamed)} for cell in body["cells"]]


def _daily(books: Books, body: Mapping[str, Any], renamed: Mapping[str, str]) -> None:
    for day, told in body["days"].items():
        first = datetime.fromisoformat(day).replace(tzinfo=UTC)
        books_day = books.period.start <= first and first + timedelta(days=1) <= books.period.end
        for name, sums in told["zones"].items():
            zone = renamed.get(name, name)
            books.recorded.add(name)
            _saw(books, zone, first, first + timedelta(days=1))
            if books_day:
                before = books.daily.get((zone, day), {"adds": {}, "peakKw": 0.0})
                books.daily[zone, day] = {
                    "adds": add_tables(before["adds"], sums["adds"]),
                    "peakKw": max(before["peakKw"], float(sums.get("peakKw") or 0.0)),
                }
        if books_day:
            books.methods.update(str(name) for name in told.get("methods", ()))
            books.lost += int(told.get("lost", 0))


def _run(books: Books, body: dict[str, Any], renamed: Mapping[str, str]) -> None:
    body = {**body, "cell": _cell(str(body.get("cell", "")), renamed)}
    uid, submitted = str(body["uid"]), datetime.fromisoformat(body["submitted"])
    runs_on = body.get("running") or datetime.fromisoformat(body["end"]) > books.period.start - WARM_UP
    if submitted < books.period.end and runs_on:
        # The record of the end takes the place of the record of the start.
        books.runs[uid] = body
    else:
        books.runs.pop(uid, None)
    books.held.pop(uid, None)


def _cell(name: str, renamed: Mapping[str, str]) -> str:
    """Return a cell's name, which begins with that of its zone, as it is called now."""
    zone, dot, rest = name.partition(".")
    return f"{renamed.get(zone, zone)}{dot}{rest}"


def _decision(books: Books, entry: Entry, renamed: Mapping[str, str]) -> None:
    if entry.moment >= books.period.end:
        return
    body = entry.content
    if choice := body.get("choice"):
        body = {**body, "choice": {**choice, "cell": _cell(str(choice["cell"] or ""), renamed)}}
    uid = str(body["workload"]["uid"])
    if body["state"] in BOUND_STATES:
        books.held[uid] = body
    elif body["state"] in LET_GO:
        # It waits for GPUs until a record of its run says otherwise. What it is expected to take was told while it was
        # held, if not now.
        expects = body.get("expects") or books.held.get(uid, {}).get("expects")
        books.held[uid] = {**body, "expects": expects, "choice": {**body["choice"], "plannedStart": entry.at}}
    else:
        books.held.pop(uid, None)
    if body.get("overriddenBy") and entry.moment >= books.period.start:
        books.overridden.add(uid)


def _saw(books: Books, zone: str, start: datetime, end: datetime) -> None:
    first, last = books.seen.get(zone, (start, end))
    books.seen[zone] = (min(first, start), max(last, end))
