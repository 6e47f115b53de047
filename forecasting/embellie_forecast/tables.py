# SPDX-License-Identifier: Apache-2.0
"""Tables as people have them: commas, semicolons or tabs, names in any case, and what is no table refused in words."""

import io
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

_ZONED = r"(?:Z|[+-]\d\d:?\d\d|:\d\d(?:\.\d+)?[+-]\d\d)$"
"""How an ISO 8601 time with a zone ends. Of an offset without minutes the time must be told, or it might be a day."""


def read_csv(path: Path) -> pd.DataFrame:
    """Return the table of a file, its names as `plain_names` writes them; packed files are unpacked.

    Raises the many kinds of errors that pandas has for what is no table; see `unreadable.why_unreadable`.
    """
    header = pd.read_csv(path, nrows=0).columns
    how = {}
    if len(header) == 1:
        # A spreadsheet in a country with a decimal comma separates by semicolons, what is copied out of one by tabs.
        marks = ({"sep": ";", "decimal": ","}, {"sep": "\t"})
        how = next((each for each in marks if each["sep"] in str(header[0])), {})
    frame = parse_csv(path, low_memory=False, **how)
    frame.columns = plain_names(frame.columns)
    return frame


def parse_csv(source: Path | io.StringIO, **how: Any) -> pd.DataFrame:
    """Return what pandas reads; rows that have more fields than there are names are refused.

    Of such rows pandas would take the first field for the row's name, and move all others under the name beside theirs.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            frame: pd.DataFrame = pd.read_csv(source, index_col=False, skipinitialspace=True, **how)
        except pd.errors.ParserWarning as error:
            raise pd.errors.ParserError("the first row has more") from error
    return frame


def plain_names(columns: pd.Index) -> pd.Index:
    """Return the names without blanks around them and in small letters, as far as that keeps them apart."""
    plain = columns.astype(str).str.strip().str.lower()
    return plain if plain.is_unique else columns


def named_twice(columns: pd.Index, known: tuple[str, ...]) -> str | None:
    """Return a column that two hold, of those whose names begin with what is known.

    pandas names the second `NAME.1`, and nobody can tell which is meant.
    """
    for name in map(str, columns):
        first, _, count = name.rpartition(".")
        if count.isdigit() and first in columns and first.startswith(known):
            return first
    return None


def zoned_times(text: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return times as ISO 8601 writes them, `UTC` and `z` as Z, and which of them have a zone."""
    written = text.astype(str).str.strip().str.upper().str.replace(r"\s*(?:UTC|GMT)$", "Z", regex=True)
    return written, written.str.contains(_ZONED, regex=True)


def may_be_thousands(column: pd.Series) -> pd.Series:
    """Tell which texts of a column could be two numbers: where another is `1.234,5`, `1.234` may as well be 1234."""
    text = column.astype(str).str.replace(r"\s", "", regex=True)
    parted = bool(text.str.fullmatch(r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+,\d*").any())
    told: pd.Series = text.str.fullmatch(r"[+-]?[1-9]\d{0,2}\.\d{3}") & parted
    return told
