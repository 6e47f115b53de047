# SPDX-License-Identifier: Apache-2.0
"""The two grids as they really were, and as the forecaster saw them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embellie_forecast.history import WEATHER_COLUMNS, hour_of
from embellie_forecast.history_files import load_carried
from embellie_testbed.demo.picture import ForecastHour, Hour
from embellie_testbed.demo.scenario import ZoneSite

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GridTruth:
    """One grid, hour by hour: slot k is the hour that begins at `start` + k hours."""

    zone: str
    start: datetime
    carbon_g_per_kwh: FloatArray
    """Life-cycle."""
    direct_g_per_kwh: FloatArray
    renewable_share: FloatArray
    ambient_c: FloatArray

    def index(self, moment: datetime) -> int:
        """Return the slot that `moment` lies in, clipped to what is known."""
        return min(self.carbon_g_per_kwh.size - 1, max(0, int((moment - self.start) // timedelta(hours=1))))

    def past(self, now: datetime) -> tuple[Hour, ...]:
        """Return the 24 hours up to the present one."""
        last = self.index(now)
        return tuple(
            Hour(start=self.start + timedelta(hours=k), carbon_g_per_kwh=float(self.carbon_g_per_kwh[k]))
            for k in range(max(0, last - 24), last + 1)
        )


def load_truth(site: ZoneSite, *, begin: datetime, hours: int) -> GridTruth:
    """Read a zone's grid from the data that the forecaster carries, from a day before `begin` on."""
    history = load_carried(site.region)
    start = begin - timedelta(hours=24)
    first = hour_of(start) - history.first_hour
    part = slice(first, first + hours + 24)
    temperature = history.weather[:, WEATHER_COLUMNS.index("wxfc_temp_c")]
    carbon, direct, share, ambient = (
        _filled(v[part])
        for v in (history.lifecycle_g_per_kwh, history.direct_g_per_kwh, history.renewable_share, temperature)
    )
    if carbon.size < hours + 24:
        raise ValueError(f"the data of {site.region} ends before the demo does")
    return GridTruth(
        zone=site.name,
        start=start,
        carbon_g_per_kwh=carbon,
        direct_g_per_kwh=direct,
        renewable_share=share,
        ambient_c=ambient,
    )


def write_ambient(path: Path, truths: Iterable[GridTruth]) -> None:
    """Write the outside temperatures as CSV, one row per zone and hour, for the exporter's physics."""
    lines = ["timestamp_utc,zone,ambient_c"]
    for truth in truths:
        for k, value in enumerate(truth.ambient_c):
            moment = truth.start + timedelta(hours=k)
            lines.append(f"{moment:%Y-%m-%dT%H:%M:%SZ},{truth.zone},{value:.2f}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


PUBLISHED_AFTER = timedelta(hours=24)
"""So late the intensity that really was becomes known."""


def write_intensity(folder: Path, truths: Iterable[GridTruth], now: datetime) -> None:
    """Publish what became known of the grids' intensity: the operator's accounts replace their estimates by it.

    As grids do: when an hour is over there is a first figure, marked as estimated, and a day later the one that stays.
    The first figure is the mean of the hour and of the one before.
    """
    folder.mkdir(exist_ok=True)
    hour = timedelta(hours=1)
    for truth in truths:
        over = max(0, int((now - truth.start) / hour))
        settled = max(0, int((now - PUBLISHED_AFTER - truth.start) / hour))
        rows = []
        for k in range(min(over, truth.carbon_g_per_kwh.size)):
            first = k if k < settled else max(0, k - 1)
            lifecycle, direct = (
                float(values[first : k + 1].mean()) for values in (truth.carbon_g_per_kwh, truth.direct_g_per_kwh)
            )
            moment = f"{truth.start + hour * k:%Y-%m-%dT%H:%M:%SZ}"
            rows.append(f"{moment},{lifecycle:.2f},{direct:.2f},{int(k >= settled)}")
        draft = folder / f".{truth.zone}.csv"
        lines = ["timestamp_utc,ci_lifecycle_g_per_kwh,ci_direct_g_per_kwh,estimated", *rows]
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
        draft.rename(folder / f"{truth.zone}.csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenAhead:
    """The newest forecast of a zone, as the forecaster wrote it."""

    rung: str
    hours: tuple[ForecastHour, ...]


def newest_forecast(folder: Path, zone: str) -> SeenAhead | None:
    """Read the newest forecast of a zone from the exchange folder; None where there is none to read yet."""
    files = sorted((folder / "forecasts" / zone).glob("*.json"))
    if not files:
        return None
    try:
        body = json.loads(files[-1].read_text(encoding="utf-8"))
        start, step = datetime.fromisoformat(body["start"]), timedelta(seconds=body["stepSeconds"])
        levels = body["quantileLevels"]
        low, median, high = (
            body["carbonIntensityGramsPerKilowattHour"][levels.index(level)] for level in (levels[0], 0.5, levels[-1])
        )
        hours = tuple(
            ForecastHour(start=start + step * k, low_g_per_kwh=a, median_g_per_kwh=b, high_g_per_kwh=c)
            for k, (a, b, c) in enumerate(zip(low, median, high, strict=True))
        )
        return SeenAhead(rung=body["rung"], hours=hours)
    except (OSError, ValueError, KeyError, TypeError):
        # Rotated away between the listing and the read: the next picture finds its successor.
        return None


def _filled(values: FloatArray) -> FloatArray:
    """Carry the last known value over unknown hours."""
    filled = values.copy()
    for k in range(1, filled.size):
        if not np.isfinite(filled[k]):
            filled[k] = filled[k - 1]
    return filled
