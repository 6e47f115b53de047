# SPDX-License-Identifier: Apache-2.0
"""On-site solar and wind on days that nothing was chosen on: whole grids as if each were one plant at one point.

No public data of metered plants with the weather that was forecast for them was found. A grid's solar or wind under
`$EMBELLIE_DATA/grid` is harder than a roof: it lies at a thousand places, and grows. Its weather is the mean over the
zone. The method was chosen on days of July to December 2021; scored are days of January to June 2021.
"""

import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from valid_time import at_valid_time, hour_beginning

from embellie_forecast.exchange import FORECAST_LEVELS
from embellie_forecast.judging.scores import interval_score
from embellie_forecast.onsite.forecast import Past, forecast_plant
from embellie_forecast.onsite.plants import Plant, SolarPlant, WindPlant
from embellie_forecast.sources.places import weather_points

GRIDS = ("DE", "ES", "NL", "US-CISO", "US-ISNE")
FIRST, LAST, EVERY_DAYS = datetime(2021, 1, 1, tzinfo=UTC), datetime(2021, 6, 29, tzinfo=UTC), 3
PAST = timedelta(days=60)
DAY = timedelta(days=1)


def plant_of(kind: str, zone: str, peak_kw: float) -> Plant:
    """Return a plant in the middle of a grid."""
    if kind == "wind":
        return WindPlant(peak_kw=peak_kw)
    latitude, longitude = np.mean(weather_points(zone, None), axis=0)
    return SolarPlant(latitude=float(latitude), longitude=float(longitude), peak_kw=peak_kw)


def score(frame: pd.DataFrame, zone: str, kind: str) -> tuple[float, float, float, float, float, int]:
    """Return errors of the model alone, with the meter and of yesterday again, coverage, interval score, and days.

    Errors and interval score in percent of the peak, coverage in percent of the hours in which the plant delivers, or
    may by the range; the interval score is over all hours, so that none is left out by what was forecast for it.
    """
    power = frame[f"gen_{kind}_mw"]
    weather = frame[[name for name in frame.columns if name.startswith("wxfc_")]]
    errors: list[tuple[float, float, float]] = []
    inside: list[float] = []
    scores: list[float] = []
    for start in pd.date_range(FIRST, LAST, freq=f"{EVERY_DAYS}D"):
        past = slice(start - PAST, start - timedelta(hours=1))
        ahead = slice(start, start + DAY - timedelta(hours=1))
        came, yesterday = power.loc[ahead].to_numpy(), power.loc[start - DAY : start - timedelta(hours=1)].to_numpy()
        if len(came) != 24 or len(yesterday) != 24 or not np.isfinite([*came, *yesterday]).all():
            continue
        # The largest hour so far stands for the peak that an owner knows.
        peak = float(power.loc[: start - timedelta(hours=1)].max())
        plant, moment = plant_of(kind, zone, peak), start.to_pydatetime()
        alone, metered = (
            forecast_plant("p", plant, start=moment, slots=24, weather=weather.loc[ahead], past=known).power_kw
            for known in (None, Past(weather_by_day={1: weather.loc[past]}, metered_kw=power.loc[past]))
        )
        middle = FORECAST_LEVELS.index(0.5)
        alone_error, metered_error, repeated = (
            100.0 * float(np.abs(said - came).mean()) / peak for said in (alone[middle], metered[middle], yesterday)
        )
        errors.append((alone_error, metered_error, repeated))
        lit = (came > 0.01 * peak) | (metered[-1] > 0.01 * peak)
        scores.append(100.0 * float(interval_score(metered[0], metered[-1], came).mean()) / peak)
        inside += list(100.0 * ((metered[0] <= came) & (came <= metered[-1]))[lit])
    alone_mean, metered_mean, repeated_mean = np.mean(errors, axis=0)
    return (
        float(alone_mean), float(metered_mean), float(repeated_mean), float(np.mean(inside)), float(np.mean(scores)),
        len(errors),
    )  # fmt: skip


def main() -> int:
    """Print the table."""
    data = os.environ.get("EMBELLIE_DATA")
    if not data:
        print("on-site plants: left out, EMBELLIE_DATA names no data")
        return 0
    began = time.process_time()
    print("on-site, days held out: mean error of day 1 [% of the peak], hours inside the 80 % range [%], its score")
    print(f"{'':16}{'model alone':>12}{'with meter':>12}{'yesterday':>12}{'inside':>9}{'score':>8}{'days':>6}")
    for kind in ("solar", "wind"):
        for zone in GRIDS:
            frame = hour_beginning(at_valid_time(Path(data) / "grid", zone), zone)
            alone, metered, repeated, inside, scored, days = score(frame, zone, kind)
            print(f"{kind:6} {zone:9}{alone:12.1f}{metered:12.1f}{repeated:12.1f}{inside:9.0f}{scored:8.1f}{days:6}",
                  flush=True)  # fmt: skip
    print(f"{time.process_time() - began:.0f} s of CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
