# SPDX-License-Identifier: Apache-2.0
"""CSV and Parquet files, and a bundle directory with checksums, for sites without a network.

A file has a column `timestamp_utc` with a zone in every value, and columns of the tidy frame (docs/sources.md).
"""

import gzip
import hashlib
import io
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from embellie_forecast.factors import MIX_COLUMNS
from embellie_forecast.history_files import KNOWN_PREFIXES
from embellie_forecast.sources.base import Fault, Licence, SourceError
from embellie_forecast.sources.frame import BOUNDS, HOUR, KEEP, Readings, Rows
from embellie_forecast.sources.values import number
from embellie_forecast.tables import may_be_thousands, named_twice, parse_csv, plain_names, zoned_times
from embellie_forecast.unreadable import HEAD_BYTES, why_unreadable

OWN = Licence(name="as stated by whoever made the file", url="", attribution="local file")
TIME = "timestamp_utc"
SUMS = "SHA256SUMS"
SUFFIXES = (".csv", ".csv.gz", ".parquet")
MAX_BYTES = 256 << 20


class FileSource:
    """One CSV, CSV.GZ or Parquet file, read anew at every call."""

    licence = OWN
    usual_delay = timedelta(hours=26)
    foresight = timedelta(days=4)

    def __init__(self, path: Path) -> None:
        self.name = f"file ({path.name})"
        self._path = path

    def read(self, begin: datetime, end: datetime, *, now: datetime) -> Readings:
        """Return what the file says about [begin, end); see `Source`."""
        try:
            if self._path.stat().st_size > MAX_BYTES:
                raise SourceError(Fault.MALFORMED, f"{self.name} is larger than {MAX_BYTES >> 20} MiB")
            body = self._path.read_bytes()
            written = datetime.fromtimestamp(self._path.stat().st_mtime, UTC)
        except OSError as error:
            raise SourceError(Fault.UNAVAILABLE, f"{self.name} cannot be read: {error.strerror}") from error
        table = read_table(body, self._path.name, source=self.name)
        return tidy_table(table, begin, end, now=now, known_at=min(written, now), source=self.name)


class Bundle:
    """A directory of files under `SHA256SUMS` (made by `sha256sum *`), read only where the sum is right."""

    licence = OWN
    usual_delay = timedelta(hours=26)
    foresight = timedelta(days=4)

    def __init__(self, folder: Path, area: str) -> None:
        self.name = f"bundle ({area})"
        self._folder = folder
        self._area = area

    def read(self, begin: datetime, end: datetime, *, now: datetime) -> Readings:
        """Return what the area's file says about [begin, end); see `Source`."""
        sums = self._sums()
        name = next((self._area + suffix for suffix in SUFFIXES if self._area + suffix in sums), None)
        if name is None:
            raise SourceError(Fault.EMPTY, f"{self.name}: {SUMS} names no {self._area}.csv, .csv.gz or .parquet")
        path = self._folder / name
        try:
            if path.stat().st_size > MAX_BYTES:
                raise SourceError(Fault.MALFORMED, f"{self.name}: {name} is larger than {MAX_BYTES >> 20} MiB")
            body = path.read_bytes()
        except OSError as error:
            raise SourceError(Fault.UNAVAILABLE, f"{self.name}: {name} cannot be read: {error.strerror}") from error
        if hashlib.sha256(body).hexdigest() != sums[name]:
            raise SourceError(Fault.MALFORMED, f"{self.name}: {name} differs from {SUMS}: copy the bundle again")
        table = read_table(body, name, source=self.name)
        return tidy_table(table, begin, end, now=now, known_at=now, source=self.name)

    def _sums(self) -> dict[str, str]:
        try:
            text = (self._folder / SUMS).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(
                Fault.UNAVAILABLE, f"{self.name}: {SUMS} cannot be read: make it with `sha256sum * > {SUMS}`"
            ) from error
        found = {}
        for line in text.splitlines():
            digest, _, name = line.partition(" ")
            name = name.lstrip(" *")
            # Only plain names: a bundle must not reach out of its directory.
            if len(digest) == 64 and name and "/" not in name and not name.startswith("."):
                found[name] = digest.lower()
        return found


def read_table(body: bytes, name: str, *, source: str) -> pd.DataFrame:
    """Return the table of a file, every cell of a CSV as text.

    Raises:
        SourceError: It is no such file, is cut off, or lacks `timestamp_utc`.
    """
    try:
        if name.endswith(".parquet"):
            table = pd.read_parquet(io.BytesIO(body))
        else:
            text = (gzip.decompress(body) if name.endswith(".gz") else body).decode("utf-8-sig")
            header = text.partition("\n")[0]
            table = parse_csv(io.StringIO(text), sep=next((mark for mark in ";\t" if mark in header), ","), dtype=str)
    except (ValueError, OSError, EOFError, KeyError, zlib.error, pd.errors.ParserError) as error:
        why = why_unreadable(body[:HEAD_BYTES], name, error) or f"cannot be read as a table: {type(error).__name__}"
        raise SourceError(Fault.MALFORMED, f"{source}: {name} {why}") from error
    table.columns = plain_names(table.columns)
    if (twice := named_twice(table.columns, (TIME, *KNOWN_PREFIXES))) is not None:
        raise SourceError(Fault.MALFORMED, f"{source}: {name} has two columns {twice}: keep one of them")
    if TIME not in table.columns:
        if table.index.name != TIME:
            raise SourceError(Fault.MALFORMED, f"{source}: {name} has no column {TIME}")
        table = table.reset_index()
    return table


def tidy_table(
    table: pd.DataFrame, begin: datetime, end: datetime, *, now: datetime, known_at: datetime, source: str
) -> Readings:
    """Return a table as readings; see `Source.read` for what it refuses."""
    moments = _moments(table[TIME], source=source)
    step = _step(moments)
    known = moments < pd.Timestamp(end)
    if known.any():
        begin = max(begin, moments[known].max().to_pydatetime() - KEEP)
    wanted = known & (moments >= pd.Timestamp(begin - HOUR))
    rows = Rows(source=source, licence=OWN, step=step)
    estimated = (
        table["estimated"].map(number).eq(1.0)
        if "estimated" in table.columns
        else pd.Series(data=False, index=table.index)
    )
    columns = [name for name in table.columns if name in BOUNDS]
    unread = {name: _unread(table[name][wanted]) for name in columns}
    # Of a mix that cannot all be read nothing is known: one source that is left out would be taken for a closed one.
    half_read = np.any([unread[name] for name in columns if name in MIX_COLUMNS], axis=0)
    for column in columns:
        hidden = half_read & ~unread[column] if column in MIX_COLUMNS else np.zeros_like(unread[column])
        told = zip(moments[wanted], table[column][wanted], estimated[wanted], unread[column], hidden, strict=True)
        for moment, value, guess, doubtful, hides in told:
            # With the mark nobody reads it as a number.
            said = f"{value}?" if doubtful else None if hides or _blank(value) else value
            rows.add(moment, column, said, estimated=bool(guess), known_at=known_at)
    if not any(name in BOUNDS for name in table.columns):
        raise SourceError(
            Fault.MALFORMED, f"{source} has no column of the tidy frame, such as gen_wind_mw: {list(table.columns)[:8]}"
        )
    return rows.tidy(begin, end, now=now)


def _unread(values: pd.Series) -> npt.NDArray[np.bool_]:
    """Tell which values tell a number that cannot be read; words (`n/e`) tell none."""
    no_numbers = np.array([isinstance(value, str) and np.isnan(number(value)) for value in values], dtype=bool)
    return np.asarray((no_numbers & values.astype(str).str.contains(r"\d")) | may_be_thousands(values), dtype=bool)


def _blank(value: object) -> bool:
    return (isinstance(value, str) and not value.strip()) or (isinstance(value, float) and np.isnan(value))


def _moments(values: pd.Series, *, source: str) -> pd.DatetimeIndex:
    zoneless = f"{source}: {TIME} has no zone, so it could mean any hour: write a Z or an offset"
    try:
        if pd.api.types.is_datetime64_any_dtype(values):
            moments = pd.DatetimeIndex(values)
            if moments.tz is None:
                raise SourceError(Fault.MALFORMED, zoneless)
            return moments.tz_convert("UTC")
        texts, zoned = zoned_times(values)
        if not zoned.all():
            raise SourceError(Fault.MALFORMED, f"{zoneless} ({str(values[~zoned].iloc[0])[:40]!r})")
        return pd.DatetimeIndex(pd.to_datetime(texts, utc=True, format="ISO8601"))
    except SourceError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise SourceError(Fault.MALFORMED, f"{source}: {TIME} cannot be read: {str(error)[:120]}") from error


def _step(moments: pd.DatetimeIndex) -> timedelta:
    """Return the file's own step, at most an hour."""
    apart = pd.Series(moments.unique().sort_values()).diff().mode()
    if not len(apart):
        return HOUR
    return min(max(apart.iloc[0].to_pytimedelta(), timedelta(minutes=1)), HOUR)
