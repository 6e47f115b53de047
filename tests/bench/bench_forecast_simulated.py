# SPDX-License-Identifier: Apache-2.0
"""What the data at hand can only simulate: weather by lead, and quarters of an hour.

*Weather by lead.* The grids under `$EMBELLIE_DATA/grid` carry day-ahead weather only. Forecasts of days 2 to 4 are made
out of it by taking away part of its departure from the usual and adding an error that lasts for half a day, so that
they agree with it as ASSUMED_AGREEMENT says. It tells whether the inputs by lead are used well, not what a real weather
model's would bring.

*Slots within an hour.* No series of 15 minutes is at hand. Time is stretched by four: blocks of four hours stand for
hours, hours for quarters. The blocks' forecasts are those of the model, the shape within is learnt from the last 140
days, and both are compared with the hours that came, beside the flat block.

January to June 2021 is the validation half, July to December the test.
"""

import argparse
import os
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from valid_time import at_valid_time

from embellie_forecast.factors import FloatArray
from embellie_forecast.history import LEAD_DAYS, ZoneHistory, hour_of
from embellie_forecast.models import Settings, Target, WeatherUse
from embellie_forecast.models.inputs import prepare
from embellie_forecast.models.series import IssuedSeries, issue_at
from embellie_forecast.models.walk import Conditions
from embellie_forecast.models.within_hour import learn_within_hour

GRIDS = ("US-CISO", "US-PJM", "US-ISNE", "DE", "NL", "ES", "SE")
HALVES = {
    "2021-01..06 (validation)": (datetime(2021, 1, 1, tzinfo=UTC), datetime(2021, 6, 26, tzinfo=UTC)),
    "2021-07..12": (datetime(2021, 7, 1, tzinfo=UTC), datetime(2021, 12, 28, tzinfo=UTC)),
}
ASSUMED_AGREEMENT = (0.90, 0.80, 0.70)
"""Correlation of the simulated forecasts of days 2, 3 and 4 with that of the first day, seasons and hours taken off."""
ERROR_LASTS_H = 12.0
STRETCH = 4
SHAPE_DAYS = 140
SETTINGS = Settings(refit_days=28)


def older_weather(history: ZoneHistory, seed: int = 5) -> FloatArray:
    """Return simulated forecasts of days 2 to 4 for every hour, shape (hours, 3, quantities)."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(history.weather)
    clock = (history.first_hour + np.arange(history.n_hours)) % 24
    usual = frame.groupby(clock).transform(lambda column: column.rolling(31, center=True, min_periods=5).mean())
    away = frame - usual
    spread = away.std().to_numpy()
    memory = np.exp(-1.0 / ERROR_LASTS_H)
    out = np.empty((history.n_hours, len(LEAD_DAYS), history.weather.shape[1]))
    for k, agreement in enumerate(ASSUMED_AGREEMENT):
        noise = rng.normal(size=away.shape) * np.sqrt(1.0 - memory**2)
        for row in range(1, len(noise)):
            noise[row] += memory * noise[row - 1]
        found = usual + agreement * away + np.sqrt(1.0 - agreement**2) * spread * noise
        # Wind, sun and rain are never below zero; frozen dew points are.
        out[:, k] = np.where(np.nanmin(history.weather, axis=0) >= 0.0, np.maximum(found, 0.0), found)
    return out


def issued(history: ZoneHistory, weather: WeatherUse, half: str, scale: float = 1.0) -> IssuedSeries:
    """Return a half-year's daily issues at 00 UTC."""
    first, last = HALVES[half]
    scales = {name: value * (scale if name.endswith("_ahead") else 1.0) for name, value in SETTINGS.scales.items()}
    hours = np.arange(hour_of(first), hour_of(last) + 1, 24, dtype=np.int64)
    truth = history.benchmark_g_per_kwh if history.benchmark_g_per_kwh is not None else history.lifecycle_g_per_kwh
    conditions = Conditions(weather=weather, train_from_hour=hour_of(datetime(2020, 1, 1, tzinfo=UTC)))
    return issue_at(prepare(history, Target.LIFECYCLE, truth), hours, conditions, replace(SETTINGS, scales=scales))


def errors(found: IssuedSeries) -> FloatArray:
    """Return mean absolute percentage errors of days 1 to 4."""
    with np.errstate(invalid="ignore"):
        each = 100.0 * np.abs(found.point - found.truth) / np.where(found.truth > 0.0, found.truth, np.nan)
    return np.asarray(np.nanmean(each.reshape(len(each), 4, 24), axis=(0, 2)), dtype=np.float64)


def shaped(found: IssuedSeries, history: ZoneHistory) -> tuple[float, float, float]:
    """Return errors of the hours within blocks of four: flat, shaped, and what the model says of the hours itself."""
    series = pd.Series(history.lifecycle_g_per_kwh)
    # Time stretched: an hour of the data becomes a quarter of an hour.
    series.index = pd.Timestamp(0, unit="s", tz="UTC") + (history.first_hour + np.arange(len(series))) * (
        pd.Timedelta(hours=1) / STRETCH
    )
    errors: tuple[list[float], list[float], list[float]] = [], [], []
    shape = None
    for row, hour in enumerate(found.issue_hours):
        blocks = found.point[row].reshape(-1, STRETCH).mean(axis=1)
        if row % 28 == 0:
            end = int(hour) - history.first_hour
            past = series.iloc[end - 24 * SHAPE_DAYS : end]
            shape = learn_within_hour(past, Target.LIFECYCLE, timedelta(hours=1) / STRETCH)
        truth = found.truth[row]
        usual = np.repeat(blocks, STRETCH)
        bent = usual if shape is None else shape.spread_out(blocks, int(hour) // STRETCH)
        known = np.isfinite(truth) & (truth > 0.0)
        for into, said in zip(errors, (usual, bent, found.point[row]), strict=True):
            into.append(float((100.0 * np.abs(said - truth) / truth)[known].mean()))
    flat, bent_back, own = (float(np.nanmean(each)) for each in errors)
    return flat, bent_back, own


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--half", choices=list(HALVES), action="append", help="default: both")
    parser.add_argument("--scale", type=float, action="append", help="weights of the inputs by lead; default: 1")
    parser.add_argument("--grid", choices=GRIDS, action="append", help="default: all with weather")
    options = parser.parse_args()
    root = os.environ.get("EMBELLIE_DATA")
    if not root:
        print("weather by lead and slots within an hour: left out, EMBELLIE_DATA names no data")
        return 0
    began = time.process_time()
    print("SIMULATED weather of days 2 to 4: mean absolute percentage error of days 1 to 4, life-cycle")
    slots = []
    for half in options.half or HALVES:
        means: dict[str, list[FloatArray]] = {}
        for zone in options.grid or GRIDS:
            history = ZoneHistory.from_frame(at_valid_time(Path(root) / "grid", zone), zone=zone)
            day1 = issued(history, WeatherUse.DAY1, half)
            slots.append((half, zone, shaped(day1, history)))
            told = {"day 1 only": errors(day1)}
            history = replace(history, weather_ahead=older_weather(history))
            for scale in options.scale or (1.0,):
                told[f"by lead, x{scale:g}"] = errors(issued(history, WeatherUse.LEADS, half, scale))
            for name, found in told.items():
                means.setdefault(name, []).append(found)
                print(f"  {half:26} {zone:9} {name:16} {'/'.join(f'{x:.2f}' for x in found)}", flush=True)
        for name, each in means.items():
            found = np.mean(each, axis=0)
            print(f"  {half:26} {'mean':9} {name:16} {'/'.join(f'{x:.2f}' for x in found)}  in all {found.mean():.2f}")
    print("SIMULATED slots: hours within blocks of four [%]: flat block, shaped block, the hourly model itself")
    for half, zone, (flat, bent, own) in slots:
        print(f"  {half:26} {zone:9} {flat:6.2f} {bent:6.2f} {own:6.2f}")
    print(f"{time.process_time() - began:.0f} s of CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
