# SPDX-License-Identifier: Apache-2.0
"""Records of a CSV, one by one: a cell in quotes may hold line breaks (RFC 4180).

A quote that stays open costs its line alone: the lines after it are read as records of their own.
"""

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

OPEN_QUOTE = "a quote is opened in it and not closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record, and the line where it begins."""

    line: int
    cells: list[str]
    fault: str = ""
    """Why it is none."""


class _Lines:
    """Lines as a reader takes them, record by record."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._ahead = iter(lines)
        self._back: deque[str] = deque()
        self._before = 0
        self.taken: list[str] = []
        """Of this record."""

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else next(self._ahead)
        self.taken.append(line)
        return line

    def begin(self) -> int:
        """Begin a record; return the number of its first line."""
        self._before += len(self.taken)
        self.taken = []
        return self._before + 1

    def give_back(self) -> None:
        """Give back all lines of this record but the first."""
        self._back.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]


def records_of(lines: Iterable[str], delimiter: str) -> Iterator[Record]:
    """Give the records of a CSV, blank lines as records without cells."""
    source = _Lines(lines)
    reader = csv.reader(source, delimiter=delimiter, skipinitialspace=True)
    while True:
        line = source.begin()
        try:
            cells = next(reader, None)
            broken = cells is not None and any("\n" in cell for cell in cells)
            fault = OPEN_QUOTE if broken and not _is_closed(source.taken, delimiter) else ""
        except csv.Error as error:
            # A cell that finds no end becomes too long for any.
            cells, fault = [], OPEN_QUOTE if len(source.taken) > 1 else f"it is no CSV: {error}"
        if cells is None:
            return
        if fault:
            source.give_back()
        yield Record(line=line, cells=[] if fault else cells, fault=fault)


def _is_closed(lines: list[str], delimiter: str) -> bool:
    """Tell whether a quote that spans lines ends its cell: one that stays open ends amid another cell, or nowhere."""
    try:
        list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error:
        return False
    return True
