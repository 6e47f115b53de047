# SPDX-License-Identifier: Apache-2.0
"""ENTSO-E Transparency Platform: generation by type (A75) and the day-ahead wind and solar forecast (A69).

entsoe-py knows the areas, the types and the documents' curve kinds. It removes commas from numbers (1,5 would become
15) and keeps the first of two differing values, so the XML is checked and its numbers are rewritten before it reads.
https://transparency.entsoe.eu/content/static_content/Static%20content/web%20api/Guide.html
"""

import math
import os
import warnings
from datetime import datetime, timedelta
from xml.etree import ElementTree as ET

import pandas as pd

from embellie_forecast.believable import without_closed
from embellie_forecast.sources.base import Fault, Licence, SourceError
from embellie_forecast.sources.credentials import Secret, find_secret
from embellie_forecast.sources.frame import Readings, Rows
from embellie_forecast.sources.transport import Http
from embellie_forecast.sources.values import number

URL = "https://web-api.tp.entsoe.eu/api"
LICENCE = Licence(
    name="ENTSO-E Transparency Platform terms (free re-use, CC BY 4.0 list)",
    url="https://transparency.entsoe.eu/content/static_content/download?path=/Static%20content/terms%20and%20conditions/",
    attribution="ENTSO-E Transparency Platform",
)
MOST_DAYS = timedelta(days=360)
TYPES = {
    "Biomass": "biomass",
    "Fossil Brown coal/Lignite": "coal",
    "Fossil Coal-derived gas": "natgas",
    "Fossil Gas": "natgas",
    "Fossil Hard coal": "coal",
    "Fossil Oil": "oil",
    "Fossil Oil shale": "oil",
    "Fossil Peat": "coal",
    "Geothermal": "geothermal",
    "Hydro Run-of-river and pondage": "hydro",
    "Hydro Water Reservoir": "hydro",
    "Marine": "hydro",
    "Nuclear": "nuclear",
    "Other renewable": "biomass",
    "Solar": "solar",
    "Waste": "other",
    "Wind Offshore": "wind",
    "Wind Onshore": "wind",
    "Other": "other",
}
STORAGE = frozenset({"Hydro Pumped Storage", "Energy storage"})
"""Storage only moves energy; what filled it has been counted."""


class Entsoe:
    """Generation by type of one bidding zone or country, such as DE_LU or ES, every 15 or 60 minutes."""

    licence = LICENCE
    usual_delay = timedelta(hours=4)
    foresight = timedelta(days=2)

    def __init__(self, http: Http, area: str, *, url: str | None = None) -> None:
        self.name = f"ENTSO-E ({area})"
        self._http = http
        self._area = area
        self._url = url or os.environ.get("ENTSOE_ENDPOINT_URL") or URL

    def read(self, begin: datetime, end: datetime, *, now: datetime) -> Readings:
        """Return what is known about [begin, end); see `Source`."""
        from entsoe.mappings import lookup_area

        token = find_secret("ENTSOE_API_KEY")
        if token is None:
            raise SourceError(
                Fault.NOT_CONFIGURED, f"{self.name} needs a token: set ENTSOE_API_KEY or ENTSOE_API_KEY_FILE"
            )
        try:
            code = str(lookup_area(self._area).code)
        except ValueError as error:
            raise SourceError(
                Fault.NOT_CONFIGURED, f"{self.name}: ENTSO-E has no such area; try DE_LU, FR, ES or NL"
            ) from error
        rows = Rows(source=self.name, licence=LICENCE, step=timedelta(minutes=15))
        self._document(rows, "A75", "A16", code, begin, min(end, now), token, now=now)
        try:
            self._document(rows, "A69", "A01", code, begin, end, token, now=now)
        except SourceError as error:
            # A grid without an official forecast is still a grid.
            rows.note(f"no day-ahead wind and solar: {error}")
        return rows.tidy(begin, end, now=now)

    def _document(
        self, rows: Rows, document: str, process: str, code: str, begin: datetime, end: datetime, token: Secret,
        *, now: datetime,
    ) -> None:  # fmt: skip
        first = begin
        while first < end:
            last = min(first + MOST_DAYS, end)
            body = self._http.get(
                self._url,
                source=self.name,
                now=now,
                params=[
                    ("documentType", document),
                    ("processType", process),
                    ("in_Domain", code),
                    ("periodStart", f"{first:%Y%m%d%H}00"),
                    ("periodEnd", f"{last:%Y%m%d%H}00"),
                ],
                secret_params={"securityToken": token},
                fresh_for=timedelta(days=7) if last < now - timedelta(days=30) else timedelta(0),
            )
            self._add(rows, self._table(body, rows), forecast=document == "A69")
            first = last

    def _table(self, body: bytes, rows: Rows) -> pd.DataFrame:
        """Return the document as entsoe-py reads it: one column per type."""
        from entsoe.parsers import parse_generation

        text = checked_xml(body, source=self.name, rows=rows)
        try:
            # The library is not on pandas 4 yet, and says so at every call.
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                found = parse_generation(text, nett=False)
        except Exception as error:
            raise SourceError(
                Fault.MALFORMED, f"{self.name}: the document is not as documented: {type(error).__name__}"
            ) from error
        return found.to_frame() if isinstance(found, pd.Series) else found

    def _add(self, rows: Rows, table: pd.DataFrame, *, forecast: bool) -> None:
        found: dict[str, pd.Series[float]] = {}
        if table.empty:
            return
        for column in table.columns:
            kind, metric = column if isinstance(column, tuple) else (column, "Actual Aggregated")
            source = TYPES.get(str(kind))
            if metric != "Actual Aggregated" or kind in STORAGE or (forecast and source not in {"solar", "wind"}):
                continue
            if source is None:
                rows.note(f"the type {str(kind)[:40]!r} is not known and left out")
                continue
            found[str(kind)] = _quarters(table[column].map(number))
        types = pd.DataFrame(found)
        if not forecast:
            # One that was closed must not make those that it is added up with unknown.
            types, closed = without_closed(types, TYPES)
            for kind in closed:
                rows.note(f"{kind} is silent for days while others are told, and counts as 0 there")
        for source in dict.fromkeys(TYPES[kind] for kind in types.columns):
            name = f"dafc_{source}_mw" if forecast else f"gen_{source}_mw"
            # Unknown in one type is unknown in the sum: a missing lignite series must not look like a clean hour.
            total = types[[kind for kind in types.columns if TYPES[kind] == source]].sum(axis=1, skipna=False)
            for moment, value in total.items():
                begin = pd.Timestamp(moment).tz_convert("UTC").to_pydatetime()  # type: ignore[arg-type]
                rows.add(begin, name, None if math.isnan(value) else value)


def _quarters(values: "pd.Series[float]") -> "pd.Series[float]":
    """Return a series of 15 or 60 minutes every 15 minutes: a value holds until the next is due."""
    own = values.dropna()
    usual = pd.Series(own.index).diff().mode()
    every = usual.iloc[0].to_pytimedelta() if len(usual) else timedelta(hours=1)
    parts = min(4, max(1, round(every / timedelta(minutes=15))))
    shifted = [own.set_axis(own.index + pd.Timedelta(minutes=15 * part)) for part in range(parts)]
    held = pd.concat(shifted)
    return held[~held.index.duplicated(keep="last")].sort_index()


def checked_xml(body: bytes, *, source: str, rows: Rows) -> str:
    """Return well-formed XML whose quantities are plain numbers and whose positions are there once.

    Raises:
        SourceError: It is a page, is cut off, or says that there is nothing.
    """
    text = body.decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    if "<!DOCTYPE" in text[:2000] or "<!ENTITY" in text or "<html" in text[:2000].lower() or not text.startswith("<"):
        raise SourceError(Fault.MALFORMED, f"{source} answered with a page instead of its XML")
    try:
        root = ET.fromstring(text)  # noqa: S314 - documents with entities were refused above
    except ET.ParseError as error:
        raise SourceError(Fault.MALFORMED, f"{source} answered with XML that is cut off or broken") from error
    if "No matching data found" in text:
        raise SourceError(Fault.EMPTY, f"{source}: no matching data found")
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    for period in root.iter(f"{space}Period"):
        seen: dict[str, float] = {}
        doubtful = set()
        for point in list(period.findall(f"{space}Point")):
            position, quantity = point.findtext(f"{space}position", ""), point.find(f"{space}quantity")
            value = number(None if quantity is None else quantity.text)
            if position in seen:
                if value != seen[position]:
                    doubtful.add(position)
                period.remove(point)
            seen.setdefault(position, value)
            if quantity is not None:
                quantity.text = repr(value)
        for point in period.findall(f"{space}Point"):
            quantity = point.find(f"{space}quantity")
            if point.findtext(f"{space}position", "") in doubtful and quantity is not None:
                quantity.text = "nan"
                rows.note("a position is there twice with different values, so neither is believed")
    if space:
        ET.register_namespace("", space.strip("{}"))
    return ET.tostring(root, encoding="unicode")
