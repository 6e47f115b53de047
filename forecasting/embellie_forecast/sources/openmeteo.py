# SPDX-License-Identifier: Apache-2.0
"""Open-Meteo: the weather forecast, and what it had been a day or more before (previous runs), for honest training.

No key for non-commercial use; a commercial key goes to the customer host. Radiation and rain are means and sums over
the hour *before* their label, all else is a value at the label.
https://open-meteo.com/en/docs, https://open-meteo.com/en/docs/previous-runs-api
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from embellie_forecast.sources.base import Fault, Licence, SourceError
from embellie_forecast.sources.credentials import find_secret
from embellie_forecast.sources.frame import HOUR, Readings, Rows
from embellie_forecast.sources.transport import Http
from embellie_forecast.sources.values import as_json, field, number

FORECAST_URL = "https://api.open-meteo.com"
PREVIOUS_URL = "https://previous-runs-api.open-meteo.com"
LICENCE = Licence(
    name="CC BY 4.0",
    url="https://open-meteo.com/en/licence",
    attribution="Weather data by Open-Meteo.com (CC BY 4.0)",
)
VARIABLES = {
    "wind_speed_10m": ("wxfc_wind_speed_ms", "m/s", False),
    "wind_speed_100m": ("wxfc_wind_speed_100m_ms", "m/s", False),
    "temperature_2m": ("wxfc_temp_c", "°C", False),
    "dew_point_2m": ("wxfc_dewpoint_c", "°C", False),
    "shortwave_radiation": ("wxfc_dswrf_wm2", "W/m²", True),
    "precipitation": ("wxfc_precip_kgm2", "mm", True),
}
"""Their name -> ours, the unit that must come, and whether the value belongs to the hour before its label."""
SHORT_BY = timedelta(hours=12)
MOST_DAYS = timedelta(days=90)
Point = tuple[float, float]


class OpenMeteo:
    """The newest forecast, averaged over points (latitude, longitude in degrees); columns `wxfc_*`."""

    licence = LICENCE
    usual_delay = timedelta(0)
    foresight = timedelta(0)

    def __init__(self, http: Http, points: Sequence[Point], *, url: str | None = None) -> None:
        self.name = "Open-Meteo"
        self._http = http
        self._points = tuple(points)
        self._own_url = url or os.environ.get("EMBELLIE_OPENMETEO_URL")
        self._free_url = FORECAST_URL
        self._suffix = ""
        self._known_before = timedelta(0)

    def read(self, begin: datetime, end: datetime, *, now: datetime) -> Readings:
        """Return the weather of [begin, end); see `Source`."""
        rows = Rows(source=self.name, licence=LICENCE, step=HOUR)
        newest, first = begin, begin
        while first < end:
            last = min(first + MOST_DAYS, end)
            newest = max(newest, self._chunk(rows, first, last, now=now))
            first = last
        readings = rows.tidy(begin, end, now=now)
        if newest < end - SHORT_BY:
            raise SourceError(
                Fault.STALE,
                f"{self.name} sent an old forecast: it ends {newest:%Y-%m-%d %H:%M} UTC, not {end:%Y-%m-%d %H:%M} UTC",
            )
        return readings

    def _chunk(self, rows: Rows, begin: datetime, end: datetime, *, now: datetime) -> datetime:
        key = find_secret("OPENMETEO_API_KEY")
        base = self._own_url or (self._free_url.replace("https://", "https://customer-") if key else self._free_url)
        names = [name + self._suffix for name in VARIABLES]
        body = self._http.get(
            f"{base.rstrip('/')}/v1/forecast",
            source=self.name,
            now=now,
            params=[
                ("latitude", ",".join(f"{latitude:.4f}" for latitude, _ in self._points)),
                ("longitude", ",".join(f"{longitude:.4f}" for _, longitude in self._points)),
                ("hourly", ",".join(names)),
                ("wind_speed_unit", "ms"),
                ("timezone", "GMT"),
                ("start_date", f"{begin:%Y-%m-%d}"),
                # One more hour, because radiation and rain come with the next label.
                ("end_date", f"{end + HOUR:%Y-%m-%d}"),
            ],
            secret_params={"apikey": key} if key else None,
            fresh_for=timedelta(minutes=30) if end > now else timedelta(days=30),
        )
        document = as_json(body, source=self.name)
        places = document if isinstance(document, list) else [document]
        if len(places) != len(self._points):
            raise SourceError(Fault.MALFORMED, f"{self.name} answered for {len(places)} of {len(self._points)} points")
        tables = [self._place(place) for place in places]
        axis = tables[0][0]
        if any(table[0] != axis for table in tables):
            raise SourceError(Fault.MALFORMED, f"{self.name}: the points have different times")
        newest = begin
        for name, (ours, _, hour_before) in VARIABLES.items():
            values = [table[1][name] for table in tables]
            for k, label in enumerate(axis):
                moment = label - HOUR if hour_before else label
                given = [number(column[k]) for column in values]
                mean = float(np.mean(given))
                if np.isfinite(mean):
                    newest = max(newest, moment)
                known = min(moment - self._known_before, now) if self._known_before else now
                bad = next((column[k] for column, one in zip(values, given, strict=True) if not np.isfinite(one)), None)
                rows.add(moment, ours, bad if bad is not None else mean, known_at=known)
        return newest

    def _place(self, place: Any) -> tuple[list[datetime], dict[str, list[Any]]]:
        if field(place, "utc_offset_seconds", source=self.name, kind=(int, float)) != 0:
            raise SourceError(Fault.MALFORMED, f"{self.name}: asked for UTC, got local times")
        axis = []
        for text in field(place, "hourly", "time", source=self.name):
            try:
                moment = datetime.fromisoformat(str(text))
            except ValueError as error:
                raise SourceError(
                    Fault.MALFORMED, f"{self.name}: hourly.time is no time: {str(text)[:40]!r}"
                ) from error
            axis.append(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC))
        columns = {}
        for name, (_, unit, _) in VARIABLES.items():
            theirs = name + self._suffix
            got = field(place, "hourly_units", theirs, source=self.name, kind=str)
            if got != unit:
                raise SourceError(Fault.MALFORMED, f"{self.name}: {theirs} came in {got[:20]!r}, not in {unit}")
            values = field(place, "hourly", theirs, source=self.name)
            if len(values) != len(axis):
                raise SourceError(
                    Fault.MALFORMED, f"{self.name}: hourly.{theirs} has {len(values)} values for {len(axis)} times"
                )
            columns[name] = values
        return axis, columns


class OpenMeteoPreviousRuns(OpenMeteo):
    """What was forecast so many days ahead: the only honest weather to train on."""

    def __init__(self, http: Http, points: Sequence[Point], *, days_ahead: int = 1, url: str | None = None) -> None:
        if not 1 <= days_ahead <= 7:
            raise SourceError(Fault.NOT_CONFIGURED, f"previous runs reach 1 to 7 days back, not {days_ahead}")
        super().__init__(http, points)
        self.name = f"Open-Meteo previous runs ({days_ahead} d ahead)"
        self._own_url = url or os.environ.get("EMBELLIE_OPENMETEO_PREVIOUS_URL")
        self._free_url = PREVIOUS_URL
        self._suffix = f"_previous_day{days_ahead}"
        self._known_before = timedelta(days=days_ahead)
