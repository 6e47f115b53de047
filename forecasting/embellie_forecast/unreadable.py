# SPDX-License-Identifier: Apache-2.0
"""What a file is that cannot be read as a table, and what to do about it."""

import re
from pathlib import Path

import pandas as pd

KINDS = (
    (b"\x1f\x8b", (".gz",), "is compressed: let its name end in .csv.gz"),
    (b"PAR1", (".parquet",), "is a Parquet file: let its name end in .parquet"),
    (b"PK\x03\x04", (".zip",), "is a spreadsheet or an archive: export the table as CSV"),
    (b"\xff\xfe", (), "is text in UTF-16: save it as CSV in UTF-8"),
    (b"\xfe\xff", (), "is text in UTF-16: save it as CSV in UTF-8"),
)
"""How a file begins, the endings of names with which that is right, and what it is."""
HEAD_BYTES = 4
_RAGGED = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")
_OPEN_QUOTE = re.compile(r"EOF inside string starting at row (\d+)")


def head_of(path: Path) -> bytes:
    """Return a file's first bytes; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def why_unreadable(head: bytes, name: str, error: Exception) -> str | None:
    """Return what is wrong with a file, as what follows its name; None where the error itself says all there is.

    Args:
        head: Its first bytes.
        name: Its name.
        error: What a parser said about it.
    """
    for magic, endings, what in KINDS:
        if head.startswith(magic) and not name.endswith(endings):
            return what
    if isinstance(error, UnicodeDecodeError):
        return "is not text in UTF-8: save it as CSV in UTF-8"
    if isinstance(error, pd.errors.EmptyDataError):
        return "is empty: its first line must name the columns"
    if isinstance(error, pd.errors.ParserError):
        if (open_quote := _OPEN_QUOTE.search(str(error))) is not None:
            return f"is no table: a quote is opened in line {int(open_quote[1]) + 1} and not closed"
        found = _RAGGED.search(str(error))
        where = f"line {found[2]} has {found[3]} fields, and {found[1]} are named" if found else str(error).strip()
        return (
            f"is no table: its first line must name the columns, and no row may have more fields than these: {where}. "
            "Quote what has a separator in it"
        )
    return None
