# SPDX-License-Identifier: Apache-2.0
"""The carbon intensity that really was, for whoever keeps accounts: `DIR/intensity/ZONE.csv`.

The format is in docs/reports.md. Each kind of intensity has its own column, so that none can be taken for another; an
hour that is not believed is absent.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from embellie_forecast.exchange import write_atomically
from embellie_forecast.history import ZoneHistory, hour_of, instant_of
from embellie_forecast.sources.guard import JUDGED, intensity

KINDS = ("ci_lifecycle_g_per_kwh", "ci_direct_g_per_kwh", "ci_marginal_g_per_kwh")
HEADER = ",".join(("timestamp_utc", *KINDS, "estimated", "known_at_utc", "source"))
KEPT = timedelta(days=35)
"""So far back the file reaches. Only what was judged (the last three days) is written; older rows stay as they were."""
MAX_BYTES = 8 << 20
_STAMP = "%Y-%m-%dT%H:%M:%SZ"


def measured_intensity(frame: pd.DataFrame, now: datetime, *, source: str) -> pd.DataFrame:
    """Return what was measured in the days that are judged.

    Args:
        frame: Hourly readings (index in UTC, hour-beginning), in which what is not believed is unknown (guard.believe).
        now: The moment of the issue.
        source: Who measured it.

    Returns:
        A row for each hour of which something is known: KINDS [g/kWh], `estimated` (bool), `known_at`, `source`.
    """
    recent = frame[(frame.index >= pd.Timestamp(now - JUDGED)) & (frame.index <= pd.Timestamp(now))]
    lifecycle, direct = intensity(recent), intensity(recent, direct=True)
    out = pd.DataFrame(
        {
            KINDS[0]: np.nan if lifecycle is None else lifecycle,
            KINDS[1]: np.nan if direct is None else direct,
            KINDS[2]: recent.get(KINDS[2], np.nan),
            "estimated": recent["estimated"].eq(True) if "estimated" in recent.columns else False,
            "known_at": recent.get("known_at", pd.Timestamp(now)),
            "source": source,
        },
        index=recent.index,
    )
    return out.dropna(subset=list(KINDS), how="all")


def measured_of_history(history: ZoneHistory, now: datetime, *, delay: timedelta) -> pd.DataFrame:
    """Return the same of a past that was published hour by hour, so long after each hour's end."""
    first = max(0, hour_of(now - JUDGED) - history.first_hour)
    stop = max(first, min(history.n_hours, hour_of(now) - history.first_hour))
    index = pd.date_range(pd.Timestamp(instant_of(history.first_hour + first)), periods=stop - first, freq="h")
    out = pd.DataFrame(
        {
            KINDS[0]: history.lifecycle_g_per_kwh[first:stop],
            KINDS[1]: history.direct_g_per_kwh[first:stop],
            KINDS[2]: np.nan if history.marginal_g_per_kwh is None else history.marginal_g_per_kwh[first:stop],
            "estimated": False,
            "known_at": index + timedelta(hours=1) + delay,
            "source": f"{history.zone}, replayed",
        },
        index=index,
    )
    return out.dropna(subset=list(KINDS), how="all")


def write_measured(directory: Path, zone: str, told: Iterable[pd.DataFrame], now: datetime) -> str:
    """Write the measured hours of a zone; of several sources an hour is told by the first that knows it.

    A file of that name that somebody else writes is left alone, and nothing is written where nothing changed.

    Returns:
        Why nothing could be written; empty where all is well.

    Raises:
        OSError: The directory refuses the file.
    """
    path = directory / "intensity" / f"{zone}.csv"
    before = _read(path)
    if before and before.partition("\n")[0] != HEADER:
        return f"{path} is written by somebody else, who is believed: measured intensities are not added to it"
    frames = [frame for frame in told if not frame.empty]
    if not frames:
        return ""
    oldest, judged, present = (f"{moment.astimezone(UTC):{_STAMP}}" for moment in (now - KEPT, now - JUDGED, now))
    lines = before.splitlines()[1:]
    kept = [line for line in lines if oldest <= line.partition(",")[0] < judged]
    # Told already, and after now: the clock runs behind.
    later = [line for line in lines if line.partition(",")[0] > present]
    text = "\n".join([HEADER, *kept, *_lines(frames), *later]) + "\n"
    if text != before:
        write_atomically(path, text)
    return ""


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            return "too long to be ours"
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        return "no text of ours"


def _lines(frames: list[pd.DataFrame]) -> list[str]:
    rows = pd.concat([frame.dropna(axis="columns", how="all") for frame in frames])
    rows = rows[~rows.index.duplicated(keep="first")].sort_index().reindex(columns=[*frames[0].columns])
    rows.insert(0, "timestamp_utc", pd.DatetimeIndex(rows.index).strftime(_STAMP))
    rows["estimated"] = rows["estimated"].astype(int)
    rows["known_at"] = pd.to_datetime(rows["known_at"], utc=True).dt.strftime(_STAMP)
    return rows.to_csv(index=False, header=False, float_format="%.2f", lineterminator="\n").splitlines()
