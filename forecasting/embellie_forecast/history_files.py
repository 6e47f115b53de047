# SPDX-License-Identifier: Apache-2.0
"""Histories in files: CSV or Parquet in the documented schema, and the few zones that the product carries."""

import gzip
import hashlib
import io
import json
from dataclasses import replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from embellie_forecast.history import HistoryError, ZoneHistory
from embellie_forecast.near_names import did_you_mean
from embellie_forecast.sources.values import number
from embellie_forecast.tables import may_be_thousands, named_twice, plain_names, read_csv, zoned_times
from embellie_forecast.unreadable import head_of, why_unreadable

TIME_COLUMN = "timestamp_utc"
PARTS_OF_AN_HOUR = (5, 10, 15, 30)
"""Steps of rows that are averaged to hours [min]."""
MIN_KNOWN_PARTS = 0.5
KNOWN_PREFIXES = ("ci_", "gen_", "re_pct", "wxfc_", "dafc_")
_SUFFIXES = (".gz", ".csv", ".parquet")


def zone_of(path: Path) -> str:
    """Return the zone that a file's name says, as in US-CISO.csv.gz."""
    name = path.name
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def read_history(path: Path, zone: str | None = None) -> ZoneHistory:
    """Read a zone's file.

    Raises:
        HistoryError: It cannot be read, or is not in the schema; the message says what to mend.
    """
    zone = zone or zone_of(path)
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else read_csv(path)
    except FileNotFoundError as error:
        raise HistoryError(f"{path}: there is no such file") from error
    except Exception as error:  # the parsers raise many kinds on a broken file, and each means the same to the caller
        if (why := why_unreadable(head_of(path), path.name, error)) is not None:
            raise HistoryError(f"{path}: {why}") from error
        raise HistoryError(f"{path}: cannot be read as {path.suffix or 'CSV'}: {str(error).strip()}") from error
    frame.columns = plain_names(frame.columns)
    if (twice := named_twice(frame.columns, (TIME_COLUMN, *KNOWN_PREFIXES))) is not None:
        raise HistoryError(f"{zone}: there are two columns {twice}; keep one of them")
    frame, notes = _with_numbers(frame)
    frame, averaged = hours_of(indexed(frame, zone))
    history = ZoneHistory.from_frame(frame, zone=zone)
    return replace(history, notes=(*notes, *averaged, *history.notes))


def _with_numbers(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the frame with what text in its known columns tells as numbers, and a note for each that tells none."""
    read: dict[str, npt.NDArray[np.object_]] = {}
    notes = []
    for column in frame.columns:
        if str(column).startswith(KNOWN_PREFIXES) and not pd.api.types.is_numeric_dtype(frame[column]):
            text = frame[column].astype(object).fillna("").astype(str).str.strip()
            found = np.array([number(said) for said in text], dtype=np.float64)
            found[may_be_thousands(text)] = np.nan
            # With the mark nobody reads it as a number later on, and it is no silence either.
            read[column] = np.where(np.isfinite(found), found, text.mask(text.eq("")) + "?")
            bad = text[text.ne("") & np.isnan(found)]
            if len(bad):
                notes.append(
                    f"{column}: {len(bad)} values are no numbers and count as unknown, such as {bad.iloc[0]!r}"
                )
    return frame.assign(**read), notes


def hours_of(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return hourly means of rows every 5, 10, 15 or 30 minutes, and a note; other frames as they are.

    An hour with less than half of its parts is unknown.
    """
    index = pd.DatetimeIndex(frame.index)
    if index.hasnans or bool((index == index.floor("h")).all()):
        return frame, []
    frame = frame.loc[~frame.reset_index().duplicated().to_numpy()].sort_index()
    index = pd.DatetimeIndex(frame.index)
    seconds = np.diff(index.as_unit("s").asi8) if index.is_unique else np.zeros(0)
    minutes = round(float(np.median(seconds)) / 60.0) if seconds.size else 0
    if minutes not in PARTS_OF_AN_HOUR or bool((index != index.floor(f"{minutes}min")).any()):
        return frame, []
    numbers = frame.apply(pd.to_numeric, errors="coerce")
    groups = numbers.groupby(index.floor("h"))
    means = groups.mean().where(groups.count() >= MIN_KNOWN_PARTS * 60 / minutes)
    # What cannot be read stays as it is told: it is not silence.
    told = frame.where(numbers.isna()).groupby(index.floor("h")).first()
    return means.where(means.notna(), told), [f"rows every {minutes} minutes were averaged to hours"]


def indexed(frame: pd.DataFrame, zone: str) -> pd.DataFrame:
    """Return the frame with its time column as a UTC index.

    Raises:
        HistoryError: There is no such column, or its times have no zone.
    """
    if isinstance(frame.index, pd.DatetimeIndex):
        return frame
    if TIME_COLUMN not in frame.columns:
        raise HistoryError(
            f"{zone}: the column {TIME_COLUMN} is missing; it holds hours as in 2021-07-01T00:00:00Z. The file has "
            f"{', '.join(str(name)[:40] for name in frame.columns[:8])}"
        )
    times = frame[TIME_COLUMN]
    if not isinstance(times.dtype, pd.DatetimeTZDtype):
        text, zoned = zoned_times(times)
        if not bool(zoned.all()):
            raise HistoryError(
                f"{zone}: {TIME_COLUMN} {str(times[~zoned].iloc[0])[:40]!r} has no time zone; write UTC with a Z, as "
                "in 2021-07-01T00:00:00Z"
            )
        times = pd.to_datetime(text, utc=True, errors="coerce", format="ISO8601")
        if bool(times.isna().any()):
            raise HistoryError(f"{zone}: {TIME_COLUMN} {text[times.isna()].iloc[0][:40]!r} is no date; write ISO 8601")
    return frame.drop(columns=TIME_COLUMN).set_index(pd.DatetimeIndex(times).tz_convert("UTC"))


@lru_cache(maxsize=1)
def manifest() -> dict[str, dict[str, Any]]:
    """Return the manifest of the carried data: zone -> file, sha256, rows, licence."""
    text = (resources.files("embellie_forecast") / "data" / "manifest.json").read_text()
    loaded: dict[str, dict[str, Any]] = json.loads(text)
    return loaded


def carried_zones() -> tuple[str, ...]:
    """Return the zones whose data the product carries."""
    return tuple(sorted(manifest()))


def carried_digest() -> str:
    """Return a hash of all carried data."""
    return hashlib.sha256("".join(manifest()[zone]["sha256"] for zone in carried_zones()).encode()).hexdigest()


def carried_file(zone: str) -> Path:
    """Return the file of a carried zone."""
    return Path(str(resources.files("embellie_forecast") / "data" / str(manifest()[zone]["file"])))


def load_carried(zone: str) -> ZoneHistory:
    """Load a carried zone.

    Raises:
        HistoryError: The zone is not carried, or its file is not the one of the manifest.
    """
    entry = manifest().get(zone)
    if entry is None:
        hint = did_you_mean(zone, carried_zones())
        raise HistoryError(f"no data is carried for grid region {zone!r}{hint}; carried: {', '.join(carried_zones())}")
    packed = carried_file(zone).read_bytes()
    if hashlib.sha256(packed).hexdigest() != entry["sha256"]:
        raise HistoryError(f"{zone}: the carried file differs from its manifest; reinstall the package")
    frame = pd.read_csv(io.BytesIO(gzip.decompress(packed)))
    return ZoneHistory.from_frame(indexed(frame, zone), zone=zone)
