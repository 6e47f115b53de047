# SPDX-License-Identifier: Apache-2.0
"""NESO Carbon Intensity API, Great Britain. No key.

The intensity is that of combustion (direct), imports included. The stored "forecast" is overwritten until it is a
nowcast, so only `actual` is read, and never a history of forecasts.
https://carbon-intensity.github.io/api-definitions/
"""

import os
from datetime import datetime, timedelta
from typing import Any

from embellie_forecast.sources.base import Licence
from embellie_forecast.sources.frame import Readings, Rows
from embellie_forecast.sources.transport import Http
from embellie_forecast.sources.values import as_json, field, instant, number

URL = "https://api.carbonintensity.org.uk"
LICENCE = Licence(
    name="CC BY 4.0",
    url="https://creativecommons.org/licenses/by/4.0/",
    attribution="National Energy System Operator (NESO), Carbon Intensity API",
)
MOST_DAYS = timedelta(days=13)
RENEWABLE = frozenset({"biomass", "hydro", "solar", "wind"})


class Neso:
    """Direct carbon intensity and renewable share of Great Britain, every half hour."""

    name = "NESO (GB)"
    usual_delay = timedelta(hours=1)
    foresight = timedelta(0)
    licence = LICENCE

    def __init__(self, http: Http, *, url: str | None = None) -> None:
        self._http = http
        self._url = (url or os.environ.get("EMBELLIE_NESO_URL") or URL).rstrip("/")

    def read(self, begin: datetime, end: datetime, *, now: datetime) -> Readings:
        """Return what is known about [begin, end); see `Source`."""
        rows = Rows(source=self.name, licence=LICENCE, step=timedelta(minutes=30))
        first = begin
        while first < end:
            last = min(first + MOST_DAYS, end)
            for record, moment in self._chunk("intensity", first, last, now=now):
                actual = field(record, "intensity", source=self.name, kind=dict).get("actual")
                rows.add(moment, "ci_direct_g_per_kwh", actual)
            for record, moment in self._chunk("generation", first, last, now=now):
                mix = field(record, "generationmix", source=self.name)
                shares = [number(part.get("perc")) for part in mix if part.get("fuel") in RENEWABLE]
                if shares and moment < now:
                    rows.add(moment, "re_pct", sum(shares))
            first = last
        return rows.tidy(begin, end, now=now)

    def _chunk(self, what: str, begin: datetime, end: datetime, *, now: datetime) -> list[tuple[Any, datetime]]:
        body = self._http.get(
            f"{self._url}/{what}/{begin:%Y-%m-%dT%H:%MZ}/{end:%Y-%m-%dT%H:%MZ}",
            source=self.name,
            now=now,
            fresh_for=timedelta(days=7) if end < now - timedelta(days=30) else timedelta(0),
        )
        data = field(as_json(body, source=self.name), "data", source=self.name)
        moments = [
            instant(field(data, k, "from", source=self.name, kind=str), source=self.name, field="data.from")
            for k in range(len(data))
        ]
        return list(zip(data, moments, strict=True))
