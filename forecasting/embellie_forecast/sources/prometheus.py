# SPDX-License-Identifier: Apache-2.0
"""A Prometheus query: on-site meters (solar, wind, the site's draw). Any server with the HTTP API v1.

https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries
"""

import os
from datetime import UTC, datetime, timedelta

from embellie_forecast.sources.base import Fault, Licence, SourceError
from embellie_forecast.sources.credentials import Secret, find_secret
from embellie_forecast.sources.frame import Readings, Rows
from embellie_forecast.sources.transport import Http
from embellie_forecast.sources.values import as_json, field, number

LICENCE = Licence(name="your own data", url="", attribution="the site's own meters")
STEP = timedelta(minutes=5)
MOST_POINTS = 10_000
"""A server refuses more than 11,000 points a series in one query."""
SCALES = {"W": 1e-3, "kW": 1.0, "MW": 1e3}


class PrometheusMeter:
    """One query that yields one series of power, as `power_kw`."""

    licence = LICENCE
    usual_delay = timedelta(minutes=15)
    foresight = timedelta(0)

    def __init__(self, http: Http, query: str, *, unit: str = "kW", url: str | None = None) -> None:
        if unit not in SCALES:
            raise SourceError(Fault.NOT_CONFIGURED, f"the unit of a meter must be W, kW or MW, not {unit[:20]!r}")
        self.name = f"Prometheus ({query[:40]})"
        self._http = http
        self._query = query
        self._scale = SCALES[unit]
        self._url = (url or os.environ.get("EMBELLIE_PROMETHEUS_URL") or "").rstrip("/")

    def read(self, begin: datetime, end: datetime, *, now: datetime) -> Readings:
        """Return what is known about [begin, end); see `Source`."""
        if not self._url:
            raise SourceError(Fault.NOT_CONFIGURED, f"{self.name} needs a server: set EMBELLIE_PROMETHEUS_URL")
        token = find_secret("EMBELLIE_PROMETHEUS_TOKEN")
        rows = Rows(source=self.name, licence=LICENCE, step=STEP)
        first, end = begin, min(end, now)
        while first < end:
            last = min(first + MOST_POINTS * STEP, end)
            self._chunk(rows, first, last, token, now=now)
            first = last + STEP
        return rows.tidy(begin, end, now=now)

    def _chunk(self, rows: Rows, begin: datetime, end: datetime, token: Secret | None, *, now: datetime) -> None:
        body = self._http.get(
            f"{self._url}/api/v1/query_range",
            source=self.name,
            now=now,
            params=[
                ("query", self._query),
                ("start", f"{begin.timestamp():.0f}"),
                ("end", f"{end.timestamp():.0f}"),
                ("step", f"{STEP.total_seconds():.0f}"),
            ],
            secret_headers={"Authorization": Secret(f"Bearer {token.value}")} if token else None,
        )
        document = as_json(body, source=self.name)
        if field(document, "status", source=self.name, kind=str) != "success":
            raise SourceError(Fault.MALFORMED, f"{self.name}: {str(document.get('error'))[:200]}")
        result = field(document, "data", "result", source=self.name)
        if len(result) > 1:
            raise SourceError(
                Fault.MALFORMED, f"{self.name} yields {len(result)} series: aggregate it to one, as with sum()"
            )
        for k in range(len(result)):
            for pair in field(result, k, "values", source=self.name):
                moment, value = self._pair(pair)
                rows.add(moment, "power_kw", number(value) * self._scale)

    def _pair(self, pair: object) -> tuple[datetime, object]:
        if not isinstance(pair, list) or len(pair) != 2:
            raise SourceError(Fault.MALFORMED, f"{self.name}: a sample is not a pair of time and value")
        seconds = number(pair[0])
        if not 0.0 <= seconds < 1e11:
            raise SourceError(Fault.MALFORMED, f"{self.name}: {str(pair[0])[:40]!r} is no time")
        step = STEP.total_seconds()
        # Samples stand on the query's own grid, which begins wherever the query did.
        return datetime.fromtimestamp(seconds // step * step, UTC), pair[1]
