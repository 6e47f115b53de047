# SPDX-License-Identifier: Apache-2.0
"""RTE eco2mix, France, from the open-data portal of the grid operators (ODRE). No key.

`taux_co2` is direct emissions of production in France. `eco2mix-national-tr` holds about the last six weeks,
`eco2mix-national-cons-def` what is older; the latter fills every second quarter of an hour only.
https://odre.opendatasoft.com/explore/dataset/eco2mix-national-tr/
"""

import os
from datetime import datetime, timedelta

from embellie_forecast.sources.base import Fault, Licence, SourceError
from embellie_forecast.sources.frame import Readings, Rows
from embellie_forecast.sources.transport import Http
from embellie_forecast.sources.values import as_json, field, instant

URL = "https://odre.opendatasoft.com"
LICENCE = Licence(
    name="Etalab 2.0",
    url="https://www.etalab.gouv.fr/licence-ouverte-open-licence/",
    attribution="RTE, éCO2mix, through ODRE (Licence Ouverte 2.0)",
)
RECENT = timedelta(days=35)
COLUMNS = {
    "charbon": "gen_coal_mw",
    "gaz": "gen_natgas_mw",
    "fioul": "gen_oil_mw",
    "nucleaire": "gen_nuclear_mw",
    "hydraulique": "gen_hydro_mw",
    "eolien": "gen_wind_mw",
    "solaire": "gen_solar_mw",
    "bioenergies": "gen_biomass_mw",
    "taux_co2": "ci_direct_g_per_kwh",
    "consommation": "demand_mw",
    "prevision_j1": "dafc_demand_mw",
}


class Eco2mix:
    """Generation, demand and direct carbon intensity of France, every 15 minutes."""

    name = "RTE eco2mix (FR)"
    usual_delay = timedelta(hours=2)
    foresight = timedelta(0)
    licence = LICENCE

    def __init__(self, http: Http, *, url: str | None = None) -> None:
        self._http = http
        self._url = (url or os.environ.get("EMBELLIE_ODRE_URL") or URL).rstrip("/")

    def read(self, begin: datetime, end: datetime, *, now: datetime) -> Readings:
        """Return what is known about [begin, end); see `Source`."""
        rows = Rows(source=self.name, licence=LICENCE, step=timedelta(minutes=15))
        border = now - RECENT
        if begin < border:
            self._dataset(rows, "eco2mix-national-cons-def", begin, min(end, border), now=now, fresh_h=24)
        if end > border:
            self._dataset(rows, "eco2mix-national-tr", max(begin, border), end, now=now, fresh_h=0)
        return rows.tidy(begin, end, now=now)

    def _dataset(
        self, rows: Rows, dataset: str, begin: datetime, end: datetime, *, now: datetime, fresh_h: int
    ) -> None:
        where = f"date_heure >= date'{begin:%Y-%m-%dT%H:%M:%SZ}' AND date_heure < date'{end:%Y-%m-%dT%H:%M:%SZ}'"
        body = self._http.get(
            # The export has no page limit; `records` stops at 10,000 rows.
            f"{self._url}/api/explore/v2.1/catalog/datasets/{dataset}/exports/json",
            source=self.name,
            now=now,
            params=[("where", where), ("order_by", "date_heure"), ("timezone", "UTC")],
            fresh_for=timedelta(hours=fresh_h),
        )
        document = as_json(body, source=self.name)
        if not isinstance(document, list):
            raise SourceError(Fault.MALFORMED, f"{self.name}: the export is a {type(document).__name__}, not a list")
        for k, record in enumerate(document):
            moment = instant(
                field(document, k, "date_heure", source=self.name, kind=str), source=self.name, field="date_heure"
            )
            # Only the consolidated and definitive data sets are final.
            estimated = "temps" in str(record.get("nature", "")).lower()
            for theirs, ours in COLUMNS.items():
                if theirs in record:
                    rows.add(moment, ours, record[theirs], estimated=estimated)
