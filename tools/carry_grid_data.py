# SPDX-License-Identifier: Apache-2.0
"""Make the grid data that the product carries from the project's data folder.

    EMBELLIE_DATA=/path/to/data python tools/carry_grid_data.py

Reads `$EMBELLIE_DATA/grid/<region>.csv.gz` and writes `forecasting/embellie_forecast/data/<region>.csv.gz` and
`manifest.json`. Only columns in the public domain are taken (EIA-930 generation, NOAA GFS weather), hour labels are
made hour-beginning, weather is moved to the hour that it describes, and numbers are rounded. The same input gives the
same bytes.
"""

import gzip
import hashlib
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd

TARGET = Path(__file__).resolve().parent.parent / "forecasting" / "embellie_forecast" / "data"
REGIONS = ("US-CISO", "US-PJM")
LAST_DAY = "2023-01-02"
WEATHER_DECIMALS = {
    "wxfc_wind_speed_ms": 2,
    "wxfc_temp_c": 1,
    "wxfc_dewpoint_c": 1,
    "wxfc_dswrf_wm2": 0,
    "wxfc_precip_kgm2": 2,
}
HOUR_ENDING_LABELS: dict[str, tuple[tuple[str, str], ...]] = {
    # Measured from the hours of sunrise and sunset: CAISO's local day 2022-06-14, and every day from 2022-06-16, is
    # labelled by the end of the hour. The label 07Z where a span begins is a row too many and is dropped; the hour
    # 2022-06-15T07Z was overwritten at the source and stays empty.
    "US-CISO": (("2022-06-14T08:00Z", "2022-06-15T07:00Z"), ("2022-06-16T08:00Z", "2100-01-01T00:00Z")),
}


def to_hour_beginning(generation: pd.DataFrame, spans: tuple[tuple[str, str], ...]) -> pd.DataFrame:
    """Shift the labels that lie in `spans` back by an hour, so that each label is the beginning of its hour."""
    hour = pd.Timedelta(hours=1)
    shifted = pd.Series(generation.index, index=generation.index)
    surplus = pd.Series(data=False, index=generation.index)
    for first, last in spans:
        inside = (generation.index >= pd.Timestamp(first)) & (generation.index <= pd.Timestamp(last))
        shifted[inside] -= hour
        surplus |= generation.index == pd.Timestamp(first) - hour
    moved = generation.set_axis(pd.DatetimeIndex(shifted), axis=0)[~surplus.to_numpy()]
    return moved.asfreq("h")


WEATHER_LEADS = pd.Timedelta(hours=23)
"""A published row at hour h = 1..23 of day D tells of hour-ending h of day D + 1."""
TRIED_HOURS, TRIED_DAYS = (-1, 0, 21, 22, 23, 24, 25), (-1, 0, 1, 2)
STEP_HOURS, MISSING_STEP, LAST_HOUR = 3, 2, 23
SUN, RAIN = "wxfc_dswrf_wm2", "wxfc_precip_kgm2"


def weather_at_its_hour(published: pd.DataFrame) -> pd.DataFrame:
    """Return weather whose row t is that of the hour that begins at t, from the run of 00Z on the day before.

    Row h = 1..23 of day D is published from the run of D 00Z at lead 24 + h, in steps of three hours; row 0 from lead
    24 of the same run. Radiation is a mean and precipitation a sum since the last multiple of six hours, as GFS tells
    them; for 6 to 9 UTC both are missing, and the step before is repeated.

    Args:
        published: Columns `wxfc_*` of a grid file, on an hourly UTC index.

    Returns:
        The same columns, radiation as the mean of each step [W/m2], precipitation per hour [kg/m2].
    """
    weather = published.shift(freq=WEATHER_LEADS)
    hour = pd.DatetimeIndex(weather.index).hour.to_numpy()
    # Hour 23 ends the step of 21 and 22. What stands there is from a later run, of the same day.
    weather.loc[hour == LAST_HOUR] = weather.shift(1).loc[hour == LAST_HOUR]
    step = hour // STEP_HOURS
    second, missing = step % 2 == 1, step == MISSING_STEP
    sums = {SUN: weather[SUN] * np.where(second, 2 * STEP_HOURS, STEP_HOURS), RAIN: weather[RAIN]}
    for name, since in sums.items():
        # Of the pair with the missing step only the sum is known: each step gets its half.
        halves = since.where(~missing, since.shift(-STEP_HOURS)) / 2.0
        own = since.mask(second, since - since.shift(STEP_HOURS)).mask(step // 2 == MISSING_STEP // 2, halves)
        # Differences of rounded numbers fall short of zero by a hair.
        weather[name] = (own / STEP_HOURS).clip(lower=0.0)
    return weather


def read(source: Path, region: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a region's generation, hour-beginning, and its weather at the hour that it describes."""
    frame = pd.read_csv(source, parse_dates=["timestamp_utc"], index_col="timestamp_utc")
    generation = to_hour_beginning(frame.filter(regex="^gen_.*_mw$"), HOUR_ENDING_LABELS.get(region, ()))
    return generation, weather_at_its_hour(frame[list(WEATHER_DECIMALS)])


def agreement(generation: pd.DataFrame, weather: pd.DataFrame) -> tuple[dict[int, float], dict[int, float]]:
    """Return how weather correlates with what it generates, by how far the published rows are moved in all.

    Returns:
        Radiation and solar output by hours; daily means of wind speed and wind output by days. The hours of the sun
        tell the hour, the days of the wind the day.
    """
    solar, sun = generation["gen_solar_mw"], weather[SUN].shift(freq=-WEATHER_LEADS)
    by_hour = {hours: solar.corr(sun.shift(freq=f"{hours}h")) for hours in TRIED_HOURS}
    wind, speed = (x.resample("D").mean() for x in (generation["gen_wind_mw"], weather["wxfc_wind_speed_ms"]))
    return by_hour, {days: wind.corr(speed.shift(freq=f"{days - 1}D")) for days in TRIED_DAYS}


def carry(generation: pd.DataFrame, weather: pd.DataFrame) -> bytes:
    """Return the carried CSV text of one region."""
    joined = generation.round(0).join(weather.round(WEATHER_DECIMALS), how="left").loc[:LAST_DAY]
    text = io.StringIO()
    header = ["timestamp_utc", *joined.columns]
    text.write(",".join(header) + "\n")
    for moment, row in zip(joined.index, joined.to_numpy(), strict=True):
        cells = ["" if value != value else f"{value:g}" if abs(value) < 1e4 else f"{value:.0f}" for value in row]
        text.write(",".join([f"{moment:%Y-%m-%dT%H:%MZ}", *cells]) + "\n")
    return text.getvalue().encode()


def main() -> int:
    """Write the files; return the exit code."""
    root = os.environ.get("EMBELLIE_DATA")
    if not root:
        print("Set EMBELLIE_DATA to the folder that holds grid/US-CISO.csv.gz.", file=sys.stderr)
        return 2
    manifest = {}
    TARGET.mkdir(parents=True, exist_ok=True)
    for region in REGIONS:
        source = Path(root) / "grid" / f"{region}.csv.gz"
        generation, weather = read(source, region)
        hours, days = agreement(generation, weather)
        for what, unit, found in (("sun", "h", hours), ("wind", "d", days)):
            print(f"{region}: {what}, moved by " + ", ".join(f"{k} {unit}: {x:.2f}" for k, x in found.items()))
        if (
            max(hours, key=hours.__getitem__) != WEATHER_LEADS / pd.Timedelta("1h")
            or max(days, key=days.__getitem__) != 1
        ):
            print(f"{source}: its weather is not {WEATHER_LEADS} ahead of its labels any more", file=sys.stderr)
            return 1
        raw = carry(generation, weather)
        packed = gzip.compress(raw, compresslevel=9, mtime=0)
        (TARGET / f"{region}.csv.gz").write_bytes(packed)
        manifest[region] = {
            "file": f"{region}.csv.gz",
            "sha256": hashlib.sha256(packed).hexdigest(),
            "rows": raw.count(b"\n") - 1,
            "sourceSha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        }
        print(f"{region}: {manifest[region]['rows']} hours, {len(packed) / 1024:.0f} KiB")
    (TARGET / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
