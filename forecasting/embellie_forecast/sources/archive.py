# SPDX-License-Identifier: Apache-2.0
"""What a source has said so far, hour by hour, in memory and (where the disk allows) in a Parquet file.

It is what a restart begins with, what models are trained on, and what stays when a feed dies.
"""

import hashlib
import re
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from embellie_forecast.folders import replace_bytes
from embellie_forecast.sources.frame import BOUNDS, KEEP, Readings
from embellie_forecast.sources.guard import measured_columns

KEEP_FINE = timedelta(days=60)
AHEAD = timedelta(days=4)
"""Forecasts are kept so far past now."""
EXTRA = ("estimated", "known_at")


class Archive:
    """The hourly readings of one source about one area."""

    def __init__(self, folder: Path | None, name: str, *, hourly: bool = True) -> None:
        """Set up; with `hourly=False` readings keep their own step, for a shorter time."""
        self.name = name
        self._hourly = hourly
        slug = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:60]
        # What two names have in common must not make one archive of them.
        own = hashlib.sha256(name.encode()).hexdigest()[:12]
        self._path = None if folder is None else folder / f"{slug}-{own}.parquet"
        self.frame = self._load()
        self.problem = ""
        """Why it could not be written; empty while all is well."""

    def _load(self) -> pd.DataFrame:
        empty = pd.DataFrame(index=pd.DatetimeIndex([], tz="UTC", name="begin_utc"))
        if self._path is None or not self._path.exists():
            return empty
        try:
            frame = pd.read_parquet(self._path)
        except Exception:  # noqa: BLE001 - a torn archive is asked for again, it never stops a forecast
            return empty
        index = frame.index
        known = [name for name in frame.columns if name in BOUNDS or name in EXTRA]
        if not isinstance(index, pd.DatetimeIndex) or str(index.tz) != "UTC" or not index.is_unique:
            return empty
        frame = frame[known].sort_index()
        for name in known:
            if name in BOUNDS:
                frame[name] = frame[name].astype("float64").where(frame[name].between(*BOUNDS[name]))
        return frame

    @property
    def newest(self) -> datetime | None:
        """The newest hour of which something was measured, in an archive of forecasts the newest; None: there is none.

        Forecasts that still come must not hide that the readings do not.
        """
        known = self.frame[measured_columns(self.frame) or [name for name in self.frame.columns if name in BOUNDS]]
        known = known.dropna(how="all")
        return None if known.empty else known.index[-1].to_pydatetime()

    @property
    def oldest(self) -> datetime | None:
        """The oldest hour that is there; None while it is empty."""
        return None if self.frame.empty else self.frame.index[0].to_pydatetime()

    def add(self, readings: Readings, *, now: datetime) -> None:
        """Take what a source said; a later word on the same hour replaces the earlier one. Then store it."""
        fresh = readings.hourly().frame if self._hourly else readings.frame
        merged = fresh.combine_first(self.frame) if not self.frame.empty else fresh
        merged = self._known_since(merged)
        # What a clock that ran ahead has left behind would look like the future: it goes.
        future = merged.index > pd.Timestamp(now + timedelta(hours=1))
        merged.loc[future, measured_columns(merged)] = np.nan
        told = merged[[name for name in merged.columns if name in BOUNDS]].notna().any(axis=1)
        merged = merged[~future | (told & (merged.index <= pd.Timestamp(now + AHEAD)))].sort_index()
        merged = merged[merged.index > merged.index.max() - (KEEP if self._hourly else KEEP_FINE)]
        merged.index.name = "begin_utc"
        self.frame = merged
        self._store()

    def _known_since(self, merged: pd.DataFrame) -> pd.DataFrame:
        """Return the hours with the moment at which their values were first known: hearing them again is no news."""
        values = [name for name in merged.columns if name not in EXTRA]
        before = self.frame.reindex(index=merged.index, columns=merged.columns)
        same = ((merged[values] == before[values]) | (merged[values].isna() & before[values].isna())).all(axis=1)
        known = before["known_at"].notna() & same
        merged["known_at"] = merged["known_at"].where(~known, before["known_at"])
        return merged

    def _store(self) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_bytes(self._path, self.frame.to_parquet())
            self.problem = ""
        except OSError as error:
            # Kept in memory: a full disk costs the history of a restart, not the forecast.
            self.problem = f"{self._path} cannot be written ({error.strerror or error})"
