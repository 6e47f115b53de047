# SPDX-License-Identifier: Apache-2.0
"""What a file is that cannot be read as a table, and what to do about it. Pure."""

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
    if isinstance(error, pd.errors.ParserError):
        return f"is no table: its first line must name the columns, and no row may have more ({str(error).strip()})"
    return None
