# SPDX-License-Identifier: Apache-2.0
"""Make the grid data that the product carries from the project's data folder.

    EMBELLIE_DATA=/path/to/data python tools/carry_grid_data.py

Reads `$EMBELLIE_DATA/grid/<region>.csv.gz` and writes `forecasting/embellie_forecast/data/<region>.csv.gz` and
`manifest.json`. Only columns in the public domain are taken (EIA-930 generation, NOAA GFS weather), hour labels are
made hour-beginning, and numbers are rounded. The same input gives the same bytes.
"""

import gzip
import hashlib
import io
import json
import os
import sys
from pathlib import Path

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


def carry(source: Path, region: str) -> bytes:
    """Return the carried CSV text of one region."""
    frame = pd.read_csv(source, parse_dates=["timestamp_utc"], index_col="timestamp_utc")
    generation = to_hour_beginning(frame.filter(regex="^gen_.*_mw$"), HOUR_ENDING_LABELS.get(region, ()))
    weather = frame[list(WEATHER_DECIMALS)].round(WEATHER_DECIMALS)
    joined = generation.round(0).join(weather, how="left").loc[:LAST_DAY]
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
        raw = carry(source, region)
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
