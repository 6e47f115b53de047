# SPDX-License-Identifier: Apache-2.0
"""What weeks are drawn from: jobs that ran somewhere, and two grids with their weather."""

import csv
import gzip
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.simulation import TraceJob, load_trace
from embellie_forecast.history import WEATHER_COLUMNS
from embellie_forecast.history_files import load_carried

PEAK_AT_WM2 = 900.0


@cache
def trace() -> tuple[TraceJob, ...]:
    """Return the long trace where it is at hand, else the week that is carried."""
    folder = os.environ.get("EMBELLIE_DATA")
    path = Path(folder) / "jobs" / "itp2021.csv.gz" if folder else None
    if path is None or not path.is_file():
        return load_trace()
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        return tuple(
            TraceJob(
                id=row["job_id"],
                tenant=row["tenant"],
                submit_s=float(row["submit_time_s"]),
                duration_s=float(row["duration_s"]),
                gpus=int(float(row["gpus"])),
            )
            for row in rows
            if row["duration_s"] and float(row["duration_s"]) > 0 and float(row["gpus"]) >= 1
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Past:
    """A region's hours, gaps carried over."""

    first_hour: int
    ci: FloatArray
    """Carbon intensity [g/kWh]."""
    ambient_c: FloatArray
    sun: FloatArray
    """Radiation as a share of what panels give their peak at (0..1)."""


@cache
def past(region: str) -> Past:
    """Return a region's hours."""
    history = load_carried(region)
    warm, radiation_wm2 = (
        _filled(history.weather[:, WEATHER_COLUMNS.index(name)]) for name in ("wxfc_temp_c", "wxfc_dswrf_wm2")
    )
    sun = np.clip(radiation_wm2 / PEAK_AT_WM2, 0.0, 1.0)
    return Past(first_hour=history.first_hour, ci=_filled(history.lifecycle_g_per_kwh), ambient_c=warm, sun=sun)


def _filled(values: FloatArray) -> FloatArray:
    good = np.flatnonzero(np.isfinite(values))
    return np.interp(np.arange(values.size), good, values[good])
