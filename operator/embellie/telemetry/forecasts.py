# SPDX-License-Identifier: Apache-2.0
"""Forecasts that the forecaster left in the shared directory (docs/reference/forecast-format.md).

The newest file that can be read and believed counts; a bad one is passed over, named in the log once, and the one
before it serves. A forecast that no longer reaches far enough ahead moves down to rung `LastGood`, and is dropped when
it ends.
"""

import dataclasses
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from embellie.api.gridzone import GridZone
from embellie.domain.forecast import FloatArray, Forecast, OnSitePower
from embellie.domain.reasons import Rung, SignalKind
from embellie.telemetry.tariffs import TariffFolder

SCHEMA = "embellie.io/forecast/v1"
FRESH_FOR = timedelta(hours=7)
"""Older than this a live forecast counts as the last good one."""
AHEAD = timedelta(minutes=10)
"""Clocks may differ by this much; an issue from further ahead waits for its time."""
SHORTEST_STEP, LONGEST_STEP = timedelta(minutes=1), timedelta(days=1)
AMBIENT_RANGE_C = (-90.0, 70.0)
MAX_HORIZON = timedelta(days=366)
MAX_FILE_BYTES = 4 << 20
MAX_PLANT_KW = 1_000_000.0
MAX_ENTRIES = 32
MAX_SENTENCE = 500
logger = logging.getLogger(__name__)


def parse_forecast(document: Any) -> Forecast:
    """Build a Forecast from a file's content; raises ValueError naming what is wrong."""
    if not isinstance(document, Mapping):
        raise ValueError(f"the file must hold an object, got {type(document).__name__}")  # noqa: TRY004 - bad data
    if document.get("schema") != SCHEMA:
        raise ValueError(f"schema must be {SCHEMA}, got {document.get('schema')!r}")
    try:
        share, ambient = document["renewableShare"], document.get("ambientTemperatureCelsius")
        return _believable(
            Forecast(
                zone=str(document["zone"]),
                issued_at=_time(document["issuedAt"]),
                start=_time(document["start"]),
                step=timedelta(seconds=float(document["stepSeconds"])),
                quantile_levels=tuple(float(q) for q in document["quantileLevels"]),
                carbon_intensity_g_per_kwh=_array(document["carbonIntensityGramsPerKilowattHour"], 2),
                carbon_intensity_mean_g_per_kwh=_array(document["carbonIntensityMeanGramsPerKilowattHour"], 1),
                renewable_share=None if share is None else _array(share, 2),
                ambient_temperature_c=None if ambient is None else _array(ambient, 2),
                signal_kind=SignalKind(document["signalKind"]),
                rung=Rung(document["rung"]),
                model_id=str(document["modelId"])[:253],
                skill_percent=None if document.get("skillPercent") is None else int(document["skillPercent"]),
                on_site=tuple(_plant(plant) for plant in _list(document, "onSite")),
                attribution=_sentences(document, "attribution"),
                reasons=_sentences(document, "reasons"),
            )
        )
    except KeyError as error:
        raise ValueError(f"field {error} is missing") from error
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from error


def _believable(forecast: Forecast) -> Forecast:
    """Refuse what the domain does not: an endless time axis, and temperatures of another shape or world."""
    if not SHORTEST_STEP <= forecast.step <= LONGEST_STEP:
        raise ValueError(f"stepSeconds must be from 60 to 86400, got {forecast.step.total_seconds():g}")
    if forecast.end > forecast.start + MAX_HORIZON:
        raise ValueError(f"a forecast must not cover more than {MAX_HORIZON.days} days")
    ambient = forecast.ambient_temperature_c
    if ambient is not None:
        low, high = AMBIENT_RANGE_C
        if ambient.shape != forecast.carbon_intensity_g_per_kwh.shape:
            raise ValueError("ambientTemperatureCelsius must have the shape of the carbon intensity")
        if not np.all(np.isfinite(ambient)) or ambient.min() < low or ambient.max() > high:
            raise ValueError(f"ambientTemperatureCelsius must be finite and lie in {low:g}..{high:g}")
    for plant in forecast.on_site:
        power = plant.power_kw
        if power.shape != forecast.carbon_intensity_g_per_kwh.shape:
            raise ValueError("onSite.powerKilowatts must have the shape of the carbon intensity")
        if not np.all(np.isfinite(power)) or power.min() < 0.0 or power.max() > MAX_PLANT_KW:
            raise ValueError(f"onSite.powerKilowatts must be finite and lie in 0..{MAX_PLANT_KW:g}")
    return forecast


def _list(document: Mapping[str, Any], name: str) -> list[Any]:
    found = document.get(name) or []
    if not isinstance(found, list) or len(found) > MAX_ENTRIES:
        raise ValueError(f"{name} must be a list of at most {MAX_ENTRIES} entries")
    return found


def _plant(told: Mapping[str, Any]) -> OnSitePower:
    return OnSitePower(
        name=str(told["name"])[:63],
        kind=str(told["kind"])[:63],
        rung=Rung(told["rung"]),
        power_kw=_array(told["powerKilowatts"], 2),
    )


def _sentences(document: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return what people are told, on one line each and without control characters."""
    texts = (" ".join(str(text)[:MAX_SENTENCE].split()) for text in _list(document, name))
    return tuple(clean for text in texts if (clean := "".join(c for c in text if c.isprintable())))


def zone_entry(zone: GridZone) -> dict[str, Any]:
    """Return what the forecaster is told about a zone (docs/reference/forecast-format.md)."""
    spec = zone.spec
    told: dict[str, Any] = {
        "name": zone.metadata.name,
        "gridRegion": spec.grid_region,
        "latitudeMillidegrees": spec.latitude_millidegrees,
        "longitudeMillidegrees": spec.longitude_millidegrees,
    }
    if spec.sources is not None:
        told["sources"] = spec.sources.to_json_object()
    if spec.on_site:
        told["onSite"] = [plant.to_json_object() for plant in spec.on_site]
    return told


def _time(text: object) -> datetime:
    moment = datetime.fromisoformat(str(text))
    if moment.tzinfo is None:
        raise ValueError(f"time {text} has no zone")
    return moment.astimezone(UTC)


def _array(values: object, dimensions: int) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions:
        raise ValueError(f"expected {dimensions} dimensions, got {array.ndim}")
    array.flags.writeable = False
    return array


def _write_atomically(target: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(target)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


class ForecastDirectory:
    """Reads `DIR/forecasts/ZONE/*.json`, writes `DIR/zones.json`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tariffs = TariffFolder(directory / "prices")
        self._cache: dict[str, tuple[tuple[Path, int, int], Forecast]] = {}
        self._reported: set[Path] = set()
        self._zones_written = ""
        self._unwritable = ""

    def write_zones(self, zones: Iterable[Mapping[str, Any]]) -> None:
        """Tell the forecaster which zones to forecast, atomically and only on change."""
        text = json.dumps({"zones": list(zones)}, sort_keys=True, indent=1)
        target = self._directory / "zones.json"
        try:
            if text != self._zones_written or not target.exists():
                self._directory.mkdir(parents=True, exist_ok=True)
                _write_atomically(target, text)
                self._zones_written = text
            self._unwritable = ""
        except OSError as error:
            # A full or read-only volume leaves us without forecasts at worst; it must not stop the turn.
            if self._unwritable != str(error):
                self._unwritable = str(error)
                logger.warning("%s cannot be written, so no new zone is forecast: %s", target, error)

    def latest(self, zone: str, now: datetime) -> Forecast | None:
        """Return the newest believable forecast for a zone that still covers `now`, or None."""
        folder = self._directory / "forecasts" / zone
        try:
            files = sorted((p for p in folder.iterdir() if p.suffix == ".json"), reverse=True)
        except OSError:
            return None
        for path in files:
            forecast = self._read(zone, path)
            if forecast is None or forecast.issued_at > now + AHEAD:
                continue
            if forecast.end <= now or forecast.start > now + forecast.step:
                continue
            if now - forecast.issued_at > FRESH_FOR and forecast.rung is Rung.LIVE:
                forecast = dataclasses.replace(forecast, rung=Rung.LAST_GOOD)
            return self._priced(forecast)
        return None

    def _priced(self, forecast: Forecast) -> Forecast:
        tariffs = self._tariffs.of(forecast.zone)
        if tariffs is None or len(self._tariffs.currencies()) > 1:
            # Prices in two currencies cannot be compared, and nobody here knows the rate.
            return forecast
        prices = tariffs.ahead(forecast.start, forecast.step, forecast.n_slots)
        return forecast if prices is None else dataclasses.replace(forecast, price_per_mwh=prices)

    def _read(self, zone: str, path: Path) -> Forecast | None:
        cached = self._cache.get(zone)
        try:
            found = path.stat()
            # A file is named by its second: a model that is trained within one takes the name of what was said before.
            which = (path, found.st_ino, found.st_mtime_ns)
            if cached is not None and cached[0] == which:
                return cached[1]
            if found.st_size > MAX_FILE_BYTES:
                raise ValueError(f"is longer than {MAX_FILE_BYTES >> 20} MiB")
            forecast = parse_forecast(json.loads(path.read_text(encoding="utf-8")))
            if forecast.zone != zone:
                raise ValueError(f"is for zone {forecast.zone[:80]}")
        except (OSError, ValueError, RecursionError) as error:
            if path not in self._reported:
                self._reported = {p for p in self._reported if p.exists()} | {path}
                logger.warning("forecast file %s is passed over: %s", path, error)
            return None
        self._cache[zone] = (which, forecast)
        return forecast
