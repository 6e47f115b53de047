# SPDX-License-Identifier: Apache-2.0
"""A ledger as JSON lines. The body stands last on each line, byte for byte as it was hashed."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self, TextIO

from embellie.ledger.records import Entry, LedgerError
from embellie.ledger.store import LedgerReader

_BODY = ',"body":'


def write_export(entries: Iterable[Entry], out: TextIO) -> int:
    """Write one line for each record; return how many."""
    count = 0
    for entry in entries:
        count += 1
        head = json.dumps(
            {
                "seq": entry.seq,
                "segment": entry.segment,
                "kind": entry.kind,
                "at": entry.at,
                "previous": entry.previous,
                "hash": entry.hash,
            },
            separators=(",", ":"),
        )
        out.write(f"{head[:-1]}{_BODY}{entry.body}}}\n")
    return count


def read_export(lines: Iterable[str]) -> Iterator[Entry]:
    """Read an export; raises LedgerError, naming the line and the record before it, for one that is none."""
    after = "the beginning"
    for number, line in enumerate(lines, start=1):
        head, found, rest = line.rstrip("\n").partition(_BODY)
        try:
            told = json.loads(head + "}")
            if not found or not rest.endswith("}"):
                raise ValueError("it has no body")
            entry = Entry(
                int(told["seq"]),
                int(told["segment"]),
                str(told["kind"]),
                str(told["at"]),
                str(told["previous"]),
                str(told["hash"]),
                rest[:-1],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerError(f"line {number}, after {after}, is not a record of a ledger's export: {error}") from error
        after = f"record {entry.seq}"
        yield entry


class ExportReader:
    """Reads an export as `LedgerReader` reads a ledger, once."""

    def __init__(self, path: Path) -> None:
        """Open the export at `path`."""
        # A changed byte may be no text any more; its record is named all the same, by its hash.
        self._file = path.open(encoding="utf-8", errors="surrogateescape")
        self.head = ""
        """The last record that was read, as `ledger verify --head` takes it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def entries(self) -> Iterator[Entry]:
        """Yield the records; raises LedgerError where one comes twice, and would be counted so."""
        last = 0
        for entry in read_export(self._file):
            if entry.seq <= last:
                raise LedgerError(
                    f"record {entry.seq} stands behind record {last}: these are several exports in one file; read each "
                    "by itself"
                )
            last, self.head = entry.seq, f"{entry.seq}:{entry.hash}"
            yield entry


def open_records(path: Path) -> LedgerReader | ExportReader:
    """Open a ledger or an export of one; raises LedgerError for what is neither."""
    try:
        with path.open("rb") as file:
            is_export = file.read(1) == b"{"
        return ExportReader(path) if is_export else LedgerReader(path)
    except OSError:
        return LedgerReader(path)
