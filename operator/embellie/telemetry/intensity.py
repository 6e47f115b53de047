# SPDX-License-Identifier: Apache-2.0
"""The carbon intensity that really was, hour by hour, from files: `DIR/intensity/ZONE.csv` (docs/reports.md).

Whoever knows it writes it: the forecaster, a cron job, a person. Columns: `timestamp_utc`, and one or more of
`ci_lifecycle_g_per_kwh`, `ci_direct_g_per_kwh` and `ci_marginal_g_per_kwh`, and `estimated` (1 where the source filled
a hole itself). The kind of signal is in the column's name, so that no kind can be taken for another.
"""

import csv
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from embellie.domain.reasons import SignalKind

logger = logging.getLogger(__name__)

COLUMNS = {
    "ci_lifecycle_g_per_kwh": SignalKind.AVERAGE_LIFECYCLE,
    "ci_direct_g_per_kwh": SignalKind.AVERAGE_DIRECT,
    "ci_marginal_g_per_kwh": SignalKind.MARGINAL,
}
TIME_COLUMN = "timestamp_utc"
MOST_G_PER_KWH = 3000.0
MAX_FILE_BYTES = 32 << 20


class IntensityError(ValueError):
    """The file cannot be used; the message names what to mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One slot's intensity."""

    g_per_kwh: float
    estimated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Intensity:
    """A zone's series: slot start -> value, by kind of signal. Holes are absent, never zero."""

    step: timedelta
    values: Mapping[SignalKind, Mapping[datetime, Known]]
    source: str

    def at(self, kind: SignalKind, moment: datetime) -> Known | None:
        """Return the value of the slot that holds an instant."""
        step_s = self.step.total_seconds()
        start = datetime.fromtimestamp(moment.timestamp() // step_s * step_s, UTC)
        return self.values.get(kind, {}).get(start)


def read_intensity(path: Path) -> Intensity:
    """Read a series; raises IntensityError for a file that is none.

    Values that no grid has (negative, above 3000, not a number) are holes.
    """
    import gzip

    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise IntensityError(
                f"{path}: the file is larger than {MAX_FILE_BYTES >> 20} MiB; cut it to the years needed"
            )
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise IntensityError(f"{path}: cannot be read: {error}") from error
    rows = csv.DictReader(text.splitlines())
    fields = set(rows.fieldnames or ())
    if TIME_COLUMN not in fields or not fields & COLUMNS.keys():
        raise IntensityError(
            f"{path}: the columns {TIME_COLUMN} and one of {', '.join(COLUMNS)} are needed, got {fields}"
        )
    values: dict[SignalKind, dict[datetime, Known]] = {COLUMNS[name]: {} for name in COLUMNS if name in fields}
    times = []
    for number, row in enumerate(rows, start=2):
        moment = _time(row[TIME_COLUMN], path, number)
        times.append(moment)
        for name, kind in COLUMNS.items():
            number_g = _number(row.get(name))
            if number_g is not None:
                # A later row of the same hour is its correction.
                values[kind][moment] = Known(g_per_kwh=number_g, estimated=(row.get("estimated") or "0").strip() == "1")
    gaps = sorted({later - earlier for earlier, later in pairwise(times) if later > earlier})
    step = gaps[0] if gaps else timedelta(hours=1)
    if step not in (timedelta(minutes=15), timedelta(minutes=30), timedelta(hours=1)):
        raise IntensityError(f"{path}: the step must be 15, 30 or 60 minutes, got {step}")
    return Intensity(step=step, values=values, source=path.name)


def _time(text: str | None, path: Path, line: int) -> datetime:
    try:
        moment = datetime.fromisoformat((text or "").strip())
    except ValueError as error:
        raise IntensityError(
            f"{path}: line {line}: {TIME_COLUMN} {text!r} is no time; write 2021-07-01T00:00:00Z"
        ) from error
    if moment.tzinfo is None:
        raise IntensityError(f"{path}: line {line}: {TIME_COLUMN} {text!r} has no time zone; write UTC with a Z")
    return moment.astimezone(UTC)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) and 0.0 <= value <= MOST_G_PER_KWH else None


class IntensityFolder:
    """The files of all zones, read again when they change; one that cannot be read is named in the log once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, tuple[float, Intensity | None]] = {}

    def of(self, zone: str) -> Intensity | None:
        """Return a zone's series, or None where there is no readable file."""
        path = self._folder / f"{zone}.csv"
        try:
            changed = path.stat().st_mtime
        except OSError:
            return None
        before = self._read.get(zone)
        if before is None or before[0] != changed:
            try:
                found: Intensity | None = read_intensity(path)
            except IntensityError as error:
                logger.warning("the carbon intensity of %s is not used: %s", zone, error)
                found = None
            self._read[zone] = before = (changed, found)
        return before[1]
