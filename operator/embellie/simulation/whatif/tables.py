# SPDX-License-Identifier: Apache-2.0
"""Tables of a replay: CSV as people have it, plain or gzip, separated by commas, semicolons or tabs."""

import csv
import gzip
import io
import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

_DECIMAL_COMMA = re.compile(r"\d+,(?:\d\d?|\d{4,})")
TOO_MANY = "it has more fields than the header has names: quote what has a separator in it"
"""A row of which nobody knows what belongs to which name."""
_OPEN_QUOTE = "a quote is opened in it and not closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row, and where it begins."""

    line: int
    cells: dict[str, str | None]
    """By name; None where the row ends before it."""
    fault: str = ""
    """Why it cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with a header."""

    file: str
    names: list[str]
    """Without blanks around them."""
    rows: list[Row]
    decimal_comma: bool
    """Whether a comma stands before decimals: columns are separated by semicolons then."""


def read_text(path: Path) -> str:
    """Return a text file's content, unpacked; ValueError says what is wrong with it."""
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        return raw.decode("utf-8-sig")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path.name} is cut off or damaged: {error}; fetch it again") from error
    except UnicodeDecodeError as error:
        from embellie_forecast.unreadable import HEAD_BYTES, why_unreadable

        raise ValueError(f"{path.name} {why_unreadable(raw[:HEAD_BYTES], path.name, error)}") from error


def names_of(text: str) -> list[str]:
    """Return the names in a table's header."""
    return table_of(text.partition("\n")[0], "").names


def table_of(text: str, file: str) -> Table:
    """Return a table; rows that are no CSV are told as such. Raises ValueError for a header that is none."""
    delimiter = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=delimiter, skipinitialspace=True)
    try:
        names = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise ValueError(f"line 1 of {file} is no header of a CSV, is a quote open in it? ({error})") from error
    rows = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            rows.append(Row(line=line, cells={}, fault=f"it is no CSV: {error}"))
            continue
        if cells is None:
            break
        if cells:
            told = dict(zip(names, [*cells, *[None] * (len(names) - len(cells))], strict=False))
            rows.append(Row(line=line, cells=told, fault=_fault(cells, len(names))))
    return Table(file=file, names=names, rows=rows, decimal_comma=delimiter == ";")


def _delimiter(text: str) -> str:
    """Return what separates the columns: a spreadsheet in a country with a decimal comma takes semicolons."""
    return max(",;\t", key=text.partition("\n")[0].count)


def _fault(cells: list[str], names: int) -> str:
    if any("\n" in cell for cell in cells):
        return _OPEN_QUOTE
    return TOO_MANY if any(cell.strip() for cell in cells[names:]) else ""


def number_of(text: str | None, decimal_comma: bool) -> float:
    """Return a cell's number, NaN where it holds none."""
    try:
        return float(with_point(text or "nan", decimal_comma))
    except ValueError:
        return math.nan


def with_point(text: str, decimal_comma: bool) -> str:
    """Return a cell's text with a decimal point where it has a decimal comma."""
    said = text.strip()
    # With three digits after it, a comma may as well stand between thousands.
    return said.replace(",", ".") if decimal_comma or _DECIMAL_COMMA.fullmatch(said) else said
