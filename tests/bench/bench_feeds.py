# SPDX-License-Identifier: Apache-2.0
"""False alarms: how much of what really happened would the checks of a live feed refuse?

Plays the grids under `$EMBELLIE_DATA/grid` day by day, as a feed that never lies, alone and beside the same grid as
Electricity Maps told it (`em/`: it counts imports, and other emission factors). Every refused hour is a false alarm,
but for hours in which the published series itself is broken. Thresholds were set with January to
June 2021 in view; July to December was measured afterwards.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from embellie_forecast.feed_checks import MAX_CONTRADICTED_HOURS
from embellie_forecast.sources.frame import BOUNDS
from embellie_forecast.sources.guard import Believed, believe

OTHERS = {
    "US-CISO": "US-CAL-CISO",
    "US-PJM": "US-MIDA-PJM",
    "US-ISNE": "US-NE-ISNE",
    "US-BPAT": "US-NW-BPAT",
    "US-FPL": "US-FLA-FPL",
    "US-NYIS": "US-NY-NYIS",
    **{name: name for name in ("DE", "NL", "ES", "SE")},
}
HALVES = {"2021-01..06, set on": ("2021-01-01", "2021-07-01"), "2021-07..12": ("2021-07-01", "2021-12-30")}
WINDOW = timedelta(days=45)
CHECKS = ("frozen", "repeats", "absurd", "jumped", "contradicts")


def read(path: Path) -> pd.DataFrame:
    """Return the measured columns of a grid file."""
    frame = pd.read_csv(path, index_col="timestamp_utc")
    frame.index = pd.to_datetime(frame.index, utc=True)
    return frame[[name for name in frame.columns if name in BOUNDS and not name.startswith(("wxfc_", "dafc_"))]]


def days(frame: pd.DataFrame, cross: pd.DataFrame | None, begin: str, end: str) -> Iterator[tuple[datetime, Believed]]:
    """Yield what is believed at noon of each day."""
    for noon in pd.date_range(begin, end, freq="D", tz="UTC", inclusive="left") + timedelta(hours=12, minutes=10):
        now = noon.to_pydatetime()
        known = slice(noon - WINDOW, noon - timedelta(hours=1))
        part = frame.loc[known]
        if part.empty:
            continue
        yield now, believe(part, now=now, cross=None if cross is None else cross.loc[known])


def alarms(frame: pd.DataFrame, cross: pd.DataFrame | None, begin: str, end: str) -> tuple[int, int, Counter[str], int]:
    """Return hours that were there, hours refused, days with an alarm by check, and days that lose their rung."""
    there = refused = lost = 0
    by_check: Counter[str] = Counter()
    for now, believed in days(frame, cross, begin, end):
        last = slice(pd.Timestamp(now - timedelta(hours=25)), pd.Timestamp(now - timedelta(hours=1)))
        before, after = (np.isfinite(one.loc[last].to_numpy(dtype=np.float64)).any(axis=1).sum()
                         for one in (frame, believed.frame[frame.columns]))  # fmt: skip
        there, refused = there + int(before), refused + int(before - after)
        by_check.update(check for check in CHECKS if any(check in note for note in believed.notes))
        lost += believed.contradicted_hours > MAX_CONTRADICTED_HOURS
    return there, refused, by_check, lost


def main() -> int:
    """Print the table."""
    data = os.environ.get("EMBELLIE_DATA")
    if not data:
        print("false alarms of the feeds' checks: left out, $EMBELLIE_DATA names no data")
        return 0
    folder, began = Path(data) / "grid", time.process_time()
    print(f"{'grid, half-year':34} {'refused hours':>20} {'days with an alarm (over 72 h)':52} days without Live")
    for zone, other in OTHERS.items():
        frame = read(folder / f"{zone}.csv.gz")
        second = read(folder / "em" / f"{other}.csv.gz")
        for half, (begin, end) in HALVES.items():
            for name, cross in (("alone", None), ("beside a second", second)):
                there, refused, by_check, lost = alarms(frame, cross, begin, end)
                share = 100.0 * refused / max(1, there)
                said = ", ".join(f"{check} {n}" for check, n in by_check.most_common()) or "none"
                print(f"{zone:8} {half.partition(',')[0]} {name:15} {refused:5} ({share:5.2f} %)    {said:52} {lost:5}",
                      flush=True)  # fmt: skip
    print(f"{time.process_time() - began:.0f} s of CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
