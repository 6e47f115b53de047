# SPDX-License-Identifier: Apache-2.0
"""Checks a chain in one pass: a changed byte, a removed or a reordered record is found and named."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from embellie.ledger.records import GENESIS, ChangedRecordError, Entry, Kind, LedgerError, digest

MAX_FINDINGS = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong; `seq` is the record that it was found at."""

    seq: int
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a check found."""

    records: int
    segments: int
    compacted: int
    """Records that a daily account stands for."""
    head_seq: int
    head_hash: str
    findings: tuple[Finding, ...]
    compared: bool = True
    """False where the record known from elsewhere was compacted since, so that its hash is not there any more."""

    @property
    def sound(self) -> bool:
        """True where nothing is wrong."""
        return not self.findings


@dataclass(frozen=True, slots=True)
class _Span:
    """Records that were compacted: numbers, the hash before the first, the hash of the last."""

    first: int
    last: int
    before: str
    end: str
    segment: int


def spans_of(entries: Iterable[Entry]) -> dict[int, _Span]:
    """Return what daily records stand for, by the first number; unreadable ones are found when the chain is walked."""
    spans = {}
    for entry in entries:
        try:
            told = entry.content["replaces"]
            span = _Span(
                int(told["first"]), int(told["last"]), str(told["before"]), str(told["end"]), int(told["segment"])
            )
        except (LedgerError, ValueError, KeyError, TypeError):
            continue
        spans[span.first] = span
    return spans


def unchanged(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Pass records on; raises ChangedRecordError at the first that does not have its own hash.

    What a whole walk finds besides (missing, reordered, written anew) is left to `verify`. What a record is, is part of
    it: whoever wants records of some kinds picks them afterwards.
    """
    for entry in entries:
        if not _is_as_written(entry):
            raise ChangedRecordError(
                f"{_was_changed(entry)}: nothing is told from this ledger; see `embellie ledger verify`, "
                "and restore a backup"
            )
        yield entry


def _is_as_written(entry: Entry) -> bool:
    return entry.hash == digest(entry.seq, entry.segment, entry.kind, entry.at, entry.previous, entry.body)


def _was_changed(entry: Entry) -> str:
    told = f"record {entry.seq} ({entry.kind[:16]}, {entry.at[:27]}) was changed after it was written"
    # What is no text any more must not keep it from being named.
    return told.encode("utf-8", "backslashreplace").decode()


def verify(
    entries: Iterable[Entry],
    daily: Iterable[Entry] = (),
    *,
    head: tuple[int, str] | None = None,
    known: tuple[int, str] | None = None,
) -> Verification:
    """Walk a chain.

    Args:
        entries: All records, in the order in which they are stored.
        daily: Its daily records, once more and first: they say which numbers may be missing.
        head: Number and hash of the last record, by the file's own state.
        known: Number and hash of a record that was once the last, kept where nobody could change it. Without it nobody
            can tell that the newest records were cut off, or all were written anew.
    """
    walk = _Walk(spans_of(daily), known)
    for entry in entries:
        walk.step(entry)
    return walk.result(head)


class _Walk:
    def __init__(self, spans: Mapping[int, _Span], known: tuple[int, str] | None) -> None:
        self._spans, self._known = spans, known
        self._compared = known is None
        self._findings: list[Finding] = []
        self._expected, self._previous, self._segment = 1, GENESIS, 0
        self._records = self._compacted = 0

    def step(self, entry: Entry) -> None:
        self._records += 1
        if entry.seq < self._expected:
            self._find(entry.seq, f"record {entry.seq} stands after record {self._expected - 1}: reordered or repeated")
            return
        self._skip_compacted(entry.seq)
        if entry.seq > self._expected:
            missing = _range(self._expected, entry.seq - 1)
            self._find(entry.seq, f"{missing} missing: removed, and no daily record stands for it")
        elif entry.previous != self._previous:
            self._find(
                entry.seq,
                f"record {entry.seq} does not follow record {entry.seq - 1}: one of them was changed or reordered",
            )
        if not _is_as_written(entry):
            self._find(entry.seq, _was_changed(entry))
        self._check_segment(entry)
        self._compare(entry.seq, entry.hash)
        self._expected, self._previous, self._segment = entry.seq + 1, entry.hash, entry.segment

    def result(self, head: tuple[int, str] | None) -> Verification:
        last = self._expected - 1
        ends = [told[0] for told in (head, self._known) if told is not None]
        if ends and max(ends) > last:
            self._find(max(ends), f"{_range(last + 1, max(ends))} missing at the end")
        elif head is not None and head != (last, self._previous):
            self._find(last, f"the head is record {last}, but record {head[0]} with another hash was expected")
        return Verification(
            records=self._records,
            segments=self._segment,
            compacted=self._compacted,
            head_seq=last,
            head_hash=self._previous,
            findings=tuple(self._findings[:MAX_FINDINGS]),
            compared=self._compared,
        )

    def _compare(self, seq: int, name: str) -> None:
        """Hold a record against the one known from elsewhere."""
        if self._known is not None and seq == self._known[0]:
            self._compared = True
            if name != self._known[1]:
                self._find(seq, f"record {seq} is not the one that was known: the chain was written anew")

    def _skip_compacted(self, up_to: int) -> None:
        """Go over numbers that daily records stand for."""
        while self._expected < up_to and (span := self._spans.get(self._expected)) is not None and span.last < up_to:
            if span.before != self._previous:
                self._find(span.first, f"records {span.first} to {span.last} were compacted from another chain")
            self._compare(span.last, span.end)
            self._compacted += span.last - span.first + 1
            self._expected, self._previous, self._segment = span.last + 1, span.end, span.segment

    def _check_segment(self, entry: Entry) -> None:
        opens = entry.kind == Kind.SEGMENT
        if entry.segment != self._segment + (1 if opens else 0):
            self._find(entry.seq, f"record {entry.seq} is in segment {entry.segment}, after segment {self._segment}")
        if opens and f'"hash":"{entry.previous}"' not in entry.body:
            self._find(entry.seq, f"segment {entry.segment} does not carry the hash of the head before it")

    def _find(self, seq: int, what: str) -> None:
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(Finding(seq, what))


def _range(first: int, last: int) -> str:
    return f"record {first} is" if first == last else f"records {first} to {last} are"
