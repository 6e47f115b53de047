# SPDX-License-Identifier: Apache-2.0
"""Electricity Maps API v3: life-cycle carbon intensity and renewable share of consumption, hourly. Needs a token.

Values are traced through imports and revised for days. The free plan covers one zone and the last 24 hours only.
https://portal.electricitymaps.com/docs
"""

import os
from datetime import datetime, timedelta
from typing import Any

from embellie_forecast.sources.base import Fault, Licence, SourceError
from embellie_forecast.sources.credentials import Secret, find_secret
from embellie_forecast.sources.frame import HOUR, Readings, Rows
from embellie_forecast.sources.transport import Http
from embellie_forecast.sources.values import as_json, field, instant

URL = "https://api.electricitymaps.com"
LICENCE = Licence(
    name="Electricity Maps terms of the token's plan",
    url="https://www.electricitymaps.com/terms-of-service",
    attribution="Electricity Maps",
)
MOST_DAYS = timedelta(days=10)


class ElectricityMaps:
    """Consumption-based life-cycle intensity of one zone, such as DE or US-CAL-CISO."""

    licence = LICENCE
    usual_delay = timedelta(hours=2)
    foresight = timedelta(0)

    def __init__(self, http: Http, area: str, *, url: str | None = None) -> None:
        self.name = f"Electricity Maps ({area})"
        self._http = http
        self._area = area
        self._url = (url or os.environ.get("EMBELLIE_ELECTRICITYMAPS_URL") or URL).rstrip("/")

    def read(self, begin: datetime, end: datetime, *, now: datetime) -> Readings:
        """Return what is known about [begin, end); see `Source`."""
        token = find_secret("ELECTRICITYMAPS_TOKEN")
        if token is None:
            raise SourceError(
                Fault.NOT_CONFIGURED,
                f"{self.name} needs a token: set ELECTRICITYMAPS_TOKEN or ELECTRICITYMAPS_TOKEN_FILE",
            )
        rows = Rows(source=self.name, licence=LICENCE, step=HOUR)
        for record, moment in self._series("carbon-intensity", begin, end, token, now=now):
            kind = record.get("emissionFactorType", "lifecycle")
            if kind != "lifecycle":
                raise SourceError(Fault.MALFORMED, f"{self.name}: asked for lifecycle factors, got {str(kind)[:20]!r}")
            self._add(rows, record, moment, "ci_lifecycle_g_per_kwh", record.get("carbonIntensity"), now)
        try:
            for record, moment in self._series("power-breakdown", begin, end, token, now=now):
                self._add(rows, record, moment, "re_pct", record.get("renewablePercentage"), now)
        except SourceError as error:
            # Not every plan covers it; the intensity alone is of use.
            rows.note(str(error))
        return rows.tidy(begin, end, now=now)

    def _add(self, rows: Rows, record: Any, moment: datetime, column: str, value: object, now: datetime) -> None:
        updated = record.get("updatedAt")
        known = None if updated is None else min(instant(updated, source=self.name, field="updatedAt"), now)
        rows.add(moment, column, value, estimated=bool(record.get("isEstimated")), known_at=known)

    def _series(
        self, what: str, begin: datetime, end: datetime, token: Secret, *, now: datetime
    ) -> list[tuple[Any, datetime]]:
        found: list[tuple[Any, datetime]] = []
        first = begin
        while first < end:
            last = min(first + MOST_DAYS, end)
            span = [("start", f"{first:%Y-%m-%dT%H:%M:%SZ}"), ("end", f"{last:%Y-%m-%dT%H:%M:%SZ}")]
            try:
                found += self._get(f"{what}/past-range", span, "data", token, now=now)
            except SourceError as error:
                if error.fault is not Fault.FORBIDDEN:
                    raise
                # The free plan tells the last 24 hours, and nothing else.
                return self._get(f"{what}/history", [], "history", token, now=now)
            first = last
        return found

    def _get(
        self, path: str, span: list[tuple[str, str]], key: str, token: Secret, *, now: datetime
    ) -> list[tuple[Any, datetime]]:
        body = self._http.get(
            f"{self._url}/v3/{path}",
            source=self.name,
            now=now,
            params=[("zone", self._area), ("emissionFactorType", "lifecycle"), *span],
            secret_headers={"auth-token": token},
        )
        data = field(as_json(body, source=self.name), key, source=self.name)
        moments = [
            instant(field(data, k, "datetime", source=self.name, kind=str), source=self.name, field=f"{key}.datetime")
            for k in range(len(data))
        ]
        return list(zip(data, moments, strict=True))
