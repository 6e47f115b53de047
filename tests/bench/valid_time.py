# SPDX-License-Identifier: Apache-2.0
"""The benchmark's grid files with their weather at the hour that it describes.

As published, a row tells of the weather a day later (see `carry_grid_data`), and radiation is a mean since the last
multiple of six hours. Which files label an hour by its end was measured from sunrise and sunset.
"""

from pathlib import Path

import pandas as pd

from carry_grid_data import weather_at_its_hour

HOUR_ENDING = frozenset({"DE", "US-ISNE"})
"""Files with weather whose labels are ends of hours."""


def at_valid_time(folder: Path, zone: str) -> pd.DataFrame:
    """Return a grid file with an hourly UTC index; its labels are as published, its weather is at its hour."""
    frame = pd.read_csv(folder / f"{zone}.csv.gz", index_col="timestamp_utc")
    frame.index = pd.to_datetime(frame.index, utc=True)
    names = [name for name in frame.columns if name.startswith("wxfc_")]
    weather = weather_at_its_hour(frame[names])
    if zone in HOUR_ENDING:
        weather = weather.shift(freq="1h")
    return frame.drop(columns=names).join(weather)


def hour_beginning(frame: pd.DataFrame, zone: str) -> pd.DataFrame:
    """Return the same rows labelled by the beginning of the hour."""
    return frame.shift(freq="-1h") if zone in HOUR_ENDING else frame
