# SPDX-License-Identifier: Apache-2.0
"""Series of a zone in files that anybody may write, `DIR/KIND/ZONE.csv`: equal steps in UTC, labelled by their start.

What is common to measured carbon intensities (`intensity`) and electricity prices (`tariffs`); docs/reports.md.
"""

import csv
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

TIME_COLUMN = "timestamp_utc"
MAX_FILE_BYTES = 32 << 20
STEPS = (timedelta(minutes=15), timedelta(minutes=30), timedelta(hours=1))


class ZoneFileError(ValueError):
    """The file cannot be used; the message names what to mend."""


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file, and the step between them."""

    fields: frozenset[str]
    rows: tuple[tuple[datetime, Mapping[str, str | None]], ...]
    step: timedelta


def read_table(path: Path, wanted: Callable[[frozenset[str]], bool], hint: str) -> Table:
    """Read a file.

    Args:
        path: The file.
        wanted: Whether these columns will do, the time aside.
        hint: What is said where they will not.

    Raises:
        ZoneFileError: The file cannot be read, lacks a column, or holds a time that is none.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ZoneFileError(
                f"{path}: the file is larger than {MAX_FILE_BYTES >> 20} MiB; cut it to the years needed"
            )
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ZoneFileError(f"{path}: cannot be read: {error}") from error
    lines = csv.DictReader(text.splitlines())
    try:
        fields = frozenset(lines.fieldnames or ())
        if TIME_COLUMN not in fields or not wanted(fields):
            raise ZoneFileError(f"{path}: the columns {TIME_COLUMN} and {hint} are needed, got {sorted(fields)}")
        rows = tuple((_time(row[TIME_COLUMN], path, line), row) for line, row in enumerate(lines, start=2))
    except csv.Error as error:
        raise ZoneFileError(f"{path}: near line {lines.line_num}: {error}; look for a stray quotation mark") from error
    return Table(fields, rows, _step([moment for moment, _ in rows], path))


def _step(times: list[datetime], path: Path) -> timedelta:
    gaps = sorted({later - earlier for earlier, later in pairwise(times) if later > earlier})
    step = gaps[0] if gaps else timedelta(hours=1)
    if step not in STEPS:
        raise ZoneFileError(f"{path}: the step must be 15, 30 or 60 minutes, got {step}")
    return step


def _time(text: str | None, path: Path, line: int) -> datetime:
    try:
        moment = datetime.fromisoformat((text or "").strip())
    except ValueError as error:
        raise ZoneFileError(
            f"{path}: line {line}: {TIME_COLUMN} {text!r} is no time; write 2021-07-01T00:00:00Z"
        ) from error
    if moment.tzinfo is None:
        raise ZoneFileError(f"{path}: line {line}: {TIME_COLUMN} {text!r} has no time zone; write UTC with a Z")
    return moment.astimezone(UTC)


def number(text: str | None, low: float, high: float) -> float | None:
    """Return a number within bounds; anything else is a hole."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) and low <= value <= high else None


def slot_of(moment: datetime, step: timedelta) -> datetime:
    """Return the start of the slot that holds an instant."""
    step_s = step.total_seconds()
    return datetime.fromtimestamp(moment.timestamp() // step_s * step_s, UTC)


class ZoneFolder(Generic[T]):
    """The files of all zones, read again when they change; one that cannot be read is named in the log once."""

    def __init__(self, folder: Path, read: Callable[[Path], T], what: str) -> None:
        self.folder = folder
        self._reader, self._what = read, what
        self._read: dict[str, tuple[float, T | None]] = {}

    def of(self, zone: str) -> T | None:
        """Return a zone's series, or None where there is no readable file."""
        path = self.folder / f"{zone}.csv"
        try:
            changed = path.stat().st_mtime
        except OSError:
            return None
        before = self._read.get(zone)
        if before is None or before[0] != changed:
            try:
                found: T | None = self._reader(path)
            except ZoneFileError as error:
                logger.warning("the %s of %s is not used: %s", self._what, zone, error)
                found = None
            self._read[zone] = before = (changed, found)
        return before[1]
