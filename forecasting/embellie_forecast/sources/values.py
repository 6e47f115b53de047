# SPDX-License-Identifier: Apache-2.0
"""Numbers and instants out of other people's text: read exactly, or not at all."""

import json
import math
import re
from datetime import UTC, datetime
from typing import Any

from embellie_forecast.sources.base import Fault, SourceError

_PLAIN = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+\.\d*")
_AMBIGUOUS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


def number(value: object) -> float:
    """Return a number from a JSON or CSV value; NaN where it is none, or could be two.

    A comma is read as a decimal comma (`1,5`, `1.234,5`) unless a point follows it (`1,234.5`). `1,234` alone could
    be either, so it is unknown.

    >>> [number(v) for v in (3, "4.5", "4,5", "1.234,5", "1,234.5", "1,234", "n/a", True)]
    [3.0, 4.5, 4.5, 1234.5, 1234.5, nan, nan, nan]
    """
    if isinstance(value, bool) or value is None:
        return math.nan
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else math.nan
    if not isinstance(value, str):
        return math.nan
    # People and French tables part thousands with spaces, some of them narrow.
    text = re.sub(r"[\s\u00a0\u202f]", "", value)
    if _AMBIGUOUS.fullmatch(text):
        return math.nan
    if _DECIMAL_COMMA.fullmatch(text):
        text = text.replace(".", "").replace(",", ".")
    elif _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    if not _PLAIN.fullmatch(text):
        return math.nan
    found = float(text)
    return found if math.isfinite(found) else math.nan


def instant(value: object, *, source: str, field: str) -> datetime:
    """Return an RFC 3339 instant as UTC.

    Raises:
        SourceError: It cannot be read, or has no zone and could mean any hour.
    """
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise SourceError(Fault.MALFORMED, f"{source}: {field} is no time: {str(value)[:40]!r}") from error
    if moment.tzinfo is None:
        raise SourceError(
            Fault.MALFORMED, f"{source}: {field} {str(value)[:40]!r} has no zone, so it could mean any hour"
        )
    return moment.astimezone(UTC)


def as_json(body: bytes, *, source: str) -> Any:
    """Return the JSON of a response.

    Raises:
        SourceError: It is HTML, cut off, or no JSON.
    """
    text = body.decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    if text.startswith("<"):
        raise SourceError(Fault.MALFORMED, f"{source} answered with a page (HTML or XML) instead of JSON")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(Fault.MALFORMED, f"{source} answered with JSON that is cut off or broken") from error


def field(document: Any, *path: str | int, source: str, kind: type | tuple[type, ...] = list) -> Any:
    """Return a nested field of a response.

    Raises:
        SourceError: It is missing or of another type; the sentence names it.
    """
    found = document
    for key in path:
        try:
            found = found[key]
        except (KeyError, IndexError, TypeError) as error:
            raise SourceError(Fault.MALFORMED, f"{source}: field {_dotted(path)} is missing") from error
    if not isinstance(found, kind):
        raise SourceError(Fault.MALFORMED, f"{source}: field {_dotted(path)} is a {type(found).__name__}")
    return found


def _dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(str(key) for key in path)
