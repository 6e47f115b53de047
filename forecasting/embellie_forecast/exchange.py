# SPDX-License-Identifier: Apache-2.0
"""The files between the operator and the forecaster: zones in, forecasts out (docs/reference/forecast-format.md).

Whatever is read is hostile until parsed; whatever is written is valid and appears at once or not at all.
"""

import json
import os
import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from embellie_forecast.clock import parse_instant
from embellie_forecast.factors import FloatArray

SCHEMA = "embellie.io/forecast/v1"
KEEP_FILES = 8
MAX_CARBON_G_PER_KWH = 2000.0
MAX_ZONES = 1000
MAX_ZONES_BYTES = 1_000_000
MAX_FORECAST_BYTES = 1_000_000
TEMPERATURE_RANGE_C = (-90.0, 65.0)
_ZONE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class Rung(StrEnum):
    """How good the source of a forecast is, best first. The words are the operator's."""

    LIVE = "Live"
    LAST_GOOD = "LastGood"
    CALENDAR = "Calendar"
    CLIMATOLOGY = "Climatology"
    NEUTRAL = "Neutral"


class ExchangeError(ValueError):
    """A file of the exchange directory cannot be believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """A zone that the operator wants forecasts for."""

    name: str
    grid_region: str | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForecastDocument:
    """One zone's forecast from one issue, as it is written. Quantile arrays have shape (levels, slots)."""

    zone: str
    issued_at: datetime
    start: datetime
    step: timedelta
    signal_kind: str
    rung: Rung
    model_id: str
    skill_percent: int | None
    quantile_levels: tuple[float, ...]
    carbon_g_per_kwh: FloatArray
    carbon_mean_g_per_kwh: FloatArray
    renewable_share: FloatArray
    ambient_temperature_c: FloatArray | None

    def __post_init__(self) -> None:
        """Refuse what the reader would have to refuse."""
        shape = (len(self.quantile_levels), self.carbon_mean_g_per_kwh.shape[0])
        arrays = [
            ("carbon intensity", self.carbon_g_per_kwh, shape, (0.0, MAX_CARBON_G_PER_KWH)),
            ("mean carbon intensity", self.carbon_mean_g_per_kwh, shape[1:], (0.0, MAX_CARBON_G_PER_KWH)),
            ("renewable share", self.renewable_share, shape, (0.0, 1.0)),
        ]
        if self.ambient_temperature_c is not None:
            arrays.append(("ambient temperature", self.ambient_temperature_c, shape, TEMPERATURE_RANGE_C))
        if shape[1] == 0:
            raise ExchangeError("a forecast needs at least one slot")
        for name, values, wanted, (low, high) in arrays:
            if values.shape != wanted:
                raise ExchangeError(f"{name} has shape {values.shape}, not {wanted}")
            if not np.isfinite(values).all() or values.min() < low or values.max() > high:
                raise ExchangeError(f"{name} must be finite and lie in {low:g}..{high:g}")
            if values.ndim == 2 and (np.diff(values, axis=0) < 0.0).any():
                raise ExchangeError(f"the quantiles of {name} cross")

    def to_json(self) -> dict[str, Any]:
        """Return the document in the file's format."""
        return {
            "schema": SCHEMA,
            "zone": self.zone,
            "issuedAt": _stamp(self.issued_at),
            "start": _stamp(self.start),
            "stepSeconds": int(self.step.total_seconds()),
            "signalKind": self.signal_kind,
            "rung": self.rung.value,
            "modelId": self.model_id,
            "skillPercent": self.skill_percent,
            "quantileLevels": list(self.quantile_levels),
            "carbonIntensityGramsPerKilowattHour": _rounded(self.carbon_g_per_kwh, 2),
            "carbonIntensityMeanGramsPerKilowattHour": _rounded(self.carbon_mean_g_per_kwh, 2),
            "renewableShare": _rounded(self.renewable_share, 4),
            "ambientTemperatureCelsius": _rounded(self.ambient_temperature_c, 2),
        }


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _rounded(values: FloatArray | None, decimals: int) -> Any:
    return None if values is None else np.round(values, decimals).tolist()


def parse_document(text: str) -> ForecastDocument:
    """Read a forecast file's text.

    Raises:
        ExchangeError: Anything in it cannot be believed.
    """
    try:
        raw = json.loads(text)
        if raw["schema"] != SCHEMA:
            raise ExchangeError(f"schema {raw['schema']!r} is not {SCHEMA!r}")
        ambient = raw["ambientTemperatureCelsius"]
        return ForecastDocument(
            zone=str(raw["zone"]),
            issued_at=parse_instant(raw["issuedAt"]),
            start=parse_instant(raw["start"]),
            step=timedelta(seconds=int(raw["stepSeconds"])),
            signal_kind=str(raw["signalKind"]),
            rung=Rung(raw["rung"]),
            model_id=str(raw["modelId"]),
            skill_percent=None if raw["skillPercent"] is None else int(raw["skillPercent"]),
            quantile_levels=tuple(float(level) for level in raw["quantileLevels"]),
            carbon_g_per_kwh=np.array(raw["carbonIntensityGramsPerKilowattHour"], dtype=np.float64),
            carbon_mean_g_per_kwh=np.array(raw["carbonIntensityMeanGramsPerKilowattHour"], dtype=np.float64),
            renewable_share=np.array(raw["renewableShare"], dtype=np.float64),
            ambient_temperature_c=None if ambient is None else np.array(ambient, dtype=np.float64),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise ExchangeError(f"not a forecast: {error}") from error


def parse_zones(text: str) -> tuple[list[Zone], list[str]]:
    """Read zones.json; return the usable zones and a sentence for each entry that was skipped.

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
    skipped = []
    for k, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not _ZONE_NAME.fullmatch(name) or ".." in name:
            skipped.append(f"zones[{k}] has no usable name: {str(name)[:60]!r}")
            continue
        region = entry.get("gridRegion")
        zones[name] = Zone(name=name, grid_region=region if isinstance(region, str) and region else None)
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


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the whole new one, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # The operator may run as another user of the same pod.
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_forecast(directory: Path, document: ForecastDocument) -> Path:
    """Write a forecast and delete all but the newest files of its zone; return its path."""
    folder = directory / "forecasts" / document.zone
    path = folder / f"{document.issued_at.astimezone(UTC):%Y%m%dT%H%M%SZ}.json"
    write_atomically(path, json.dumps(document.to_json(), allow_nan=False, separators=(",", ":")))
    files = sorted(folder.glob("*.json"))
    # Files from after this issue belong to a clock that has jumped back since; a reader would take them for newer.
    for stale in [*files[:-KEEP_FILES], *(file for file in files if file.name > path.name)]:
        stale.unlink(missing_ok=True)
    return path


def newest_document(
    directory: Path, zone: str, *, rungs: frozenset[Rung], not_after: datetime
) -> ForecastDocument | None:
    """Return the newest believable forecast of a zone on one of these rungs, issued at or before `not_after`."""
    for path in sorted((directory / "forecasts" / zone).glob("*.json"), reverse=True):
        try:
            if path.stat().st_size > MAX_FORECAST_BYTES:
                continue
            document = parse_document(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ExchangeError):
            continue
        if document.rung in rungs and document.zone == zone and document.issued_at <= not_after:
            return document
    return None
