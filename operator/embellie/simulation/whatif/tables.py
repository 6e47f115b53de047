# SPDX-License-Identifier: Apache-2.0
"""Tables of a replay: CSV as people have it, plain or gzip, separated by commas, semicolons or tabs."""

import gzip
import io
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import TextIO

from embellie.simulation.whatif.records import Record, records_of

_DECIMAL_COMMA = re.compile(r"\d+,(?:\d\d?|\d{4,})")
TOO_MANY = "it has more fields than the header has names: quote what has a separator in it"
"""A row of which nobody knows what belongs to which name."""
_HEAD_BYTES = 4
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row, and where it begins."""

    line: int
    cells: dict[str, str | None]
    """By name; None where the row ends before it."""
    fault: str = ""
    """Why it cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first row of a table, and what it says of the others."""

    file: str
    names: list[str]
    """Without blanks around them."""
    decimal_comma: bool
    """Whether a comma stands before decimals: columns are separated by semicolons then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Header):
    """A table with a header."""

    rows: list[Row]


@contextmanager
def opened(path: Path, errors: str = "strict") -> Iterator[TextIO]:
    """Give a text file's lines, unpacked; ValueError says what is wrong with it, at the line where that shows.

    Args:
        path: The file; a pipe will do.
        errors: What becomes of bytes that are no UTF-8, as in `open`.
    """
    with path.open("rb") as raw:
        head = raw.peek(_HEAD_BYTES)[:_HEAD_BYTES]
        whole = gzip.GzipFile(fileobj=raw) if head.startswith(b"\x1f\x8b") else raw
        # Bytes that are left out of UTF-16 leave nonsense.
        errors = "strict" if head[:2] in _UTF_16 else errors
        try:
            with io.TextIOWrapper(whole, encoding="utf-8-sig", errors=errors) as lines:
                yield lines
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path.name} is cut off or damaged: {error}; fetch it again") from error
        except UnicodeDecodeError as error:
            from embellie_forecast.unreadable import why_unreadable

            raise ValueError(f"{path.name} {why_unreadable(head, path.name, error)}") from error


def read_text(path: Path) -> str:
    """Return a text file's content, unpacked; ValueError says what is wrong with it."""
    with opened(path) as lines:
        return lines.read()


def names_of(text: str) -> list[str]:
    """Return the names in a table's header."""
    return stream_of(io.StringIO(text, newline=None), "")[0].names


def table_of(text: str, file: str) -> Table:
    """Return a table; rows that are no CSV are told as such. Raises ValueError for a header that is none."""
    header, rows = stream_of(io.StringIO(text, newline=None), file)
    return Table(file=file, names=header.names, decimal_comma=header.decimal_comma, rows=list(rows))


def stream_of(lines: Iterable[str], file: str) -> tuple[Header, Iterator[Row]]:
    """Return a table's header, and its rows one by one, of the lines of a file; see `table_of`."""
    source = iter(lines)
    first = next(source, "")
    # A spreadsheet in a country with a decimal comma takes semicolons.
    delimiter = max(",;\t", key=first.count)
    records = records_of(chain([first], source), delimiter)
    header = next(records, Record(line=1, cells=[]))
    if header.fault:
        raise ValueError(f"line 1 of {file} is no header of a CSV: {header.fault}")
    names = [name.strip() for name in header.cells]
    return Header(file=file, names=names, decimal_comma=delimiter == ";"), _rows(records, names)


def _rows(records: Iterator[Record], names: list[str]) -> Iterator[Row]:
    for record in records:
        cells = record.cells
        if not cells and not record.fault:
            continue
        more = any(cell.strip() for cell in cells[len(names) :])
        told = dict(zip_longest(names, cells[: len(names)]))
        yield Row(line=record.line, cells=told, fault=TOO_MANY if more else record.fault)


def number_of(text: str | None, decimal_comma: bool) -> float:
    """Return a cell's number, NaN where it holds none."""
    try:
        return float(with_point(text or "nan", decimal_comma))
    except ValueError:
        return math.nan


def with_point(text: str, decimal_comma: bool) -> str:
    """Return a cell's text with a decimal point where it has a decimal comma."""
    said = text.strip()
    if "," not in said:
        return said
    # With three digits after it, a comma may as well stand between thousands.
    return said.replace(",", ".") if decimal_comma or _DECIMAL_COMMA.fullmatch(said) else said
