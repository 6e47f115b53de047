# SPDX-License-Identifier: Apache-2.0
"""U.S. Energy Information Administration, API v2: hourly generation by energy source of a balancing authority.

Values are strings. The label is the end of the hour for all authorities but PJM; California's changed from the
beginning to the end on 2022-06-16 (measured from sunrise and sunset).
https://www.eia.gov/opendata/documentation.php
"""

import math
import os
from datetime import UTC, datetime, timedelta

from embellie_forecast.sources.base import Fault, Licence, SourceError
from embellie_forecast.sources.credentials import find_secret
from embellie_forecast.sources.frame import HOUR, Readings, Rows
from embellie_forecast.sources.transport import Http
from embellie_forecast.sources.values import as_json, field, number

URL = "https://api.eia.gov"
LICENCE = Licence(
    name="public domain (U.S. Government)",
    url="https://www.eia.gov/about/copyrights_reuse.php",
    attribution="U.S. Energy Information Administration, Hourly Electric Grid Monitor (Form EIA-930)",
)
PAGE = 5000
MAX_PAGES = 60
FUELS = {
    "COL": "coal",
    "NG": "natgas",
    "OIL": "oil",
    "NUC": "nuclear",
    "WAT": "hydro",
    "WND": "wind",
    "WNB": "wind",
    "SUN": "solar",
    "SNB": "solar",
    "BIO": "biomass",
    "GEO": "geothermal",
    "OTH": "other",
    "UNK": "other",
}
STORAGE = frozenset({"BAT", "PS", "UES", "OES"})
"""Storage only moves energy; what filled it has been counted."""
LABELLED_BY_BEGINNING = frozenset({"PJM"})
CISO_CHANGE = datetime(2022, 6, 16, 7, tzinfo=UTC)


class Eia:
    """Hourly generation by source of one balancing authority, such as CISO or PJM."""

    licence = LICENCE
    usual_delay = timedelta(hours=26)
    foresight = timedelta(0)

    def __init__(self, http: Http, area: str, *, url: str | None = None) -> None:
        self.name = f"EIA ({area})"
        self._http = http
        self._area = area
        self._url = (url or os.environ.get("EMBELLIE_EIA_URL") or URL).rstrip("/")

    def read(self, begin: datetime, end: datetime, *, now: datetime) -> Readings:
        """Return what is known about [begin, end); see `Source`."""
        key = find_secret("EIA_API_KEY")
        if key is None:
            raise SourceError(Fault.NOT_CONFIGURED, f"{self.name} needs a key: set EIA_API_KEY or EIA_API_KEY_FILE")
        rows = Rows(source=self.name, licence=LICENCE, step=HOUR)
        # Sources of one kind (with and without storage) are added up, so values are kept until all are there.
        found: dict[tuple[datetime, str], dict[str, set[float]]] = {}
        for page in range(MAX_PAGES):
            body = self._http.get(
                f"{self._url}/v2/electricity/rto/fuel-type-data/data/",
                source=self.name,
                now=now,
                params=[
                    ("frequency", "hourly"),
                    ("data[0]", "value"),
                    ("facets[respondent][]", self._area),
                    ("start", f"{begin:%Y-%m-%dT%H}"),
                    ("end", f"{end + HOUR:%Y-%m-%dT%H}"),
                    ("sort[0][column]", "period"),
                    ("sort[0][direction]", "asc"),
                    ("offset", str(page * PAGE)),
                    ("length", str(PAGE)),
                ],
                secret_params={"api_key": key},
                fresh_for=timedelta(days=7) if end < now - timedelta(days=30) else timedelta(0),
            )
            document = as_json(body, source=self.name)
            data = field(document, "response", "data", source=self.name)
            for k in range(len(data)):
                self._record(rows, found, field(data, k, source=self.name, kind=dict))
            total = number(field(document, "response", "total", source=self.name, kind=(str, int)))
            if len(data) < PAGE or (page + 1) * PAGE >= total:
                break
        for (moment, fuel), by_code in found.items():
            # A code that is there twice with two values makes the sum ambiguous: give both, and neither is believed.
            least, most = (sum(pick(values) for values in by_code.values()) for pick in (min, max))
            rows.add(moment, f"gen_{fuel}_mw", least, estimated=moment > now - timedelta(days=2))
            if most != least:
                rows.add(moment, f"gen_{fuel}_mw", most)
        return rows.tidy(begin, end, now=now)

    def _record(
        self, rows: Rows, found: dict[tuple[datetime, str], dict[str, set[float]]], record: dict[str, object]
    ) -> None:
        if record.get("respondent", self._area) != self._area:
            rows.note(f"values of {record.get('respondent')} were sent and left out")
            return
        code = str(record.get("fueltype"))
        fuel = FUELS.get(code)
        if fuel is None:
            if code not in STORAGE:
                rows.note(f"the energy source {code[:8]!r} is not known and left out")
            return
        period = str(record.get("period"))
        try:
            label = datetime.strptime(period, "%Y-%m-%dT%H").replace(tzinfo=UTC)
        except ValueError as error:
            raise SourceError(
                Fault.MALFORMED, f"{self.name}: response.data.period is no hour: {period[:40]!r}"
            ) from error
        value = number(record.get("value"))
        moment = self._beginning(label)
        if math.isfinite(value):
            found.setdefault((moment, fuel), {}).setdefault(code, set()).add(value)
        else:
            rows.add(moment, f"gen_{fuel}_mw", record.get("value"))

    def _beginning(self, label: datetime) -> datetime:
        by_beginning = self._area in LABELLED_BY_BEGINNING or (self._area == "CISO" and label < CISO_CHANGE)
        return label if by_beginning else label - HOUR
