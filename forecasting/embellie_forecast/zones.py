# SPDX-License-Identifier: Apache-2.0
"""`zones.json`: which zones the operator wants forecasts for, and where each one's readings come from.

Hostile until parsed: what cannot be used is left out of its zone, and said.
"""

import hashlib
import json
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embellie_forecast.exchange import ExchangeError
from embellie_forecast.onsite.plants import Plant, SolarPlant, WindPlant
from embellie_forecast.sources.base import SourceError
from embellie_forecast.sources.catalogue import SourceSpec, checked_spec
from embellie_forecast.sources.files import SUFFIXES

MAX_ZONES = 1000
MAX_ZONES_BYTES = 1_000_000
MAX_PLANTS = 16
DEFAULT_BUNDLES = "/var/lib/embellie/bundles"
_ZONE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_PLANT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
UNITS = {"Watt": "W", "Kilowatt": "kW"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """The PromQL that reads a plant's power, and what it counts in (W or kW)."""

    query: str
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OnSite:
    """A plant behind the zone's meter."""

    name: str
    plant: Plant
    meter: Meter | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """A zone that the operator wants forecasts for."""

    name: str
    grid_region: str | None
    site: tuple[float, float] | None = None
    """Latitude and longitude [deg]."""
    primary: SourceSpec | None = None
    """Where live readings come from; None: carried data only."""
    cross_check: SourceSpec | None = None
    weather: SourceSpec | None = None
    """Kind `openmeteo`, or a `bundle` that has an area `weather`."""
    on_site: tuple[OnSite, ...] = field(default=())

    @property
    def grid_key(self) -> str:
        """What models of this zone's grid are kept under."""
        return self.key_of(self.primary)

    def key_of(self, source: SourceSpec | None) -> str:
        """Return the key of this zone's grid as one source tells it: from another feed it is another history.

        The same feed about another area than the grid's, or another file without an area, is another history too.
        """
        grid = self.grid_region or self.name
        if source is None:
            return grid
        file = hashlib.sha256(source.path.encode()).hexdigest()[:8] if source.path else ""
        which = source.area or file
        return "-".join(filter(None, (grid, source.kind, "" if which == grid else which)))


def parse_zones(text: str) -> tuple[list[Zone], list[str]]:
    """Read zones.json; return the usable zones and a sentence for everything that was left out.

    Raises:
        ExchangeError: The text as a whole is no list of zones.
    """
    if len(text) > MAX_ZONES_BYTES:
        raise ExchangeError(f"zones.json is larger than {MAX_ZONES_BYTES} bytes")
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ExchangeError(f"zones.json is not JSON: {error}") from error
    entries = raw.get("zones") if isinstance(raw, dict) else None
    if not isinstance(entries, list) or len(entries) > MAX_ZONES:
        raise ExchangeError(f'zones.json must be {{"zones": [...]}} with at most {MAX_ZONES} zones')
    zones: dict[str, Zone] = {}
    skipped: list[str] = []
    for k, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not _ZONE_NAME.fullmatch(name) or ".." in name:
            skipped.append(f"zones[{k}] has no usable name: {str(name)[:60]!r}")
            continue
        zones[name] = _zone(name, entry, skipped)
    return list(zones.values()), skipped


def read_zones(directory: Path) -> tuple[list[Zone], list[str]]:
    """Read `zones.json` of the exchange directory.

    Raises:
        ExchangeError: It is missing, unreadable or no list of zones.
    """
    try:
        with (directory / "zones.json").open(encoding="utf-8") as file:
            return parse_zones(file.read(MAX_ZONES_BYTES + 1))
    except (OSError, UnicodeDecodeError) as error:
        raise ExchangeError(f"zones.json cannot be read: {error}") from error


def _zone(name: str, entry: dict[str, Any], skipped: list[str]) -> Zone:
    region = entry.get("gridRegion")
    latitude = _number(entry.get("latitudeMillidegrees"), -90_000, 90_000)
    longitude = _number(entry.get("longitudeMillidegrees"), -180_000, 180_000)
    site = None if latitude is None or longitude is None else (latitude / 1000.0, longitude / 1000.0)
    sources = entry.get("sources")
    sources = sources if isinstance(sources, dict) else {}
    return Zone(
        name=name,
        grid_region=region if isinstance(region, str) and region else None,
        site=site,
        primary=_source(name, sources, "primary", skipped),
        cross_check=_source(name, sources, "crossCheck", skipped),
        weather=_weather(name, sources.get("weather"), skipped),
        on_site=tuple(_plants(name, entry.get("onSite"), site, skipped)),
    )


def _source(zone: str, sources: dict[str, Any], role: str, skipped: list[str]) -> SourceSpec | None:
    raw = sources.get(role)
    if raw is None:
        return None
    kind, area = (str(raw.get(key) or "") for key in ("kind", "area")) if isinstance(raw, dict) else ("", "")
    folder = bundles_folder()
    path = str(folder)
    if kind == "File":
        found = (folder / (Path(area).name + suffix) for suffix in SUFFIXES)
        path = str(next((file for file in found if file.exists()), folder / f"{Path(area).name}.csv"))
    try:
        return checked_spec(SourceSpec(kind=kind.lower(), area=area, path=path if kind in {"File", "Bundle"} else ""))
    except SourceError as error:
        skipped.append(f"{zone}: sources.{role} is left out: {error}")
        return None


def bundles_folder() -> Path:
    """Return where bundles and files are mounted: $EMBELLIE_BUNDLES, else the default."""
    return Path(os.environ.get("EMBELLIE_BUNDLES") or DEFAULT_BUNDLES)


def _weather(zone: str, raw: object, skipped: list[str]) -> SourceSpec | None:
    if raw is None:
        return None
    if raw == "OpenMeteo":
        return SourceSpec(kind="openmeteo")
    if raw == "Bundle":
        return SourceSpec(kind="bundle", area="weather", path=str(bundles_folder()))
    skipped.append(f"{zone}: sources.weather must be OpenMeteo or Bundle, not {str(raw)[:40]!r}")
    return None


def _plants(zone: str, raw: object, site: tuple[float, float] | None, skipped: list[str]) -> list[OnSite]:
    found: dict[str, OnSite] = {}
    for k, entry in enumerate(raw[:MAX_PLANTS] if isinstance(raw, list) else []):
        made = _plant(entry, site) if isinstance(entry, dict) else "is no plant"
        if isinstance(made, str):
            skipped.append(f"{zone}: onSite[{k}] {made}")
        else:
            found[made.name] = made
    return list(found.values())


def _plant(entry: dict[str, Any], site: tuple[float, float] | None) -> OnSite | str:
    """Return the plant, or what is wrong with it."""
    name, peak = entry.get("name"), _number(entry.get("peakKilowatts"), 0.001, 1_000_000)
    if not isinstance(name, str) or not _PLANT_NAME.fullmatch(name):
        return f"has no usable name: {str(name)[:60]!r}"
    if peak is None:
        return "needs peakKilowatts from 1 to 1000000"
    raw = entry.get("meter")
    meter = None
    if isinstance(raw, dict) and isinstance(raw.get("query"), str) and raw["query"] and raw.get("unit") in UNITS:
        meter = Meter(query=raw["query"], unit=UNITS[raw["unit"]])
    if entry.get("kind") == "Wind":
        height = _number(entry.get("hubHeightMeters"), 5, 300) or 100.0
        return OnSite(name=name, plant=WindPlant(peak_kw=peak, hub_height_m=height), meter=meter)
    if entry.get("kind") != "Solar":
        return f"must be of kind Solar or Wind, not {str(entry.get('kind'))[:40]!r}"
    if site is None:
        return "is solar and needs the zone's latitudeMillidegrees and longitudeMillidegrees"
    tilt, azimuth = _number(entry.get("tiltDegrees"), 0, 90), _number(entry.get("azimuthDegrees"), 0, 360)
    plant = SolarPlant(
        latitude=site[0],
        longitude=site[1],
        peak_kw=peak,
        tilt_deg=20.0 if tilt is None else tilt,
        # Panels face the equator unless somebody says otherwise.
        azimuth_deg=(180.0 if site[0] >= 0.0 else 0.0) if azimuth is None else azimuth,
    )
    return OnSite(name=name, plant=plant, meter=meter)


def _number(value: object, low: float, high: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value) if low <= value <= high else None
