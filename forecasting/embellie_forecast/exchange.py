# SPDX-License-Identifier: Apache-2.0
"""The forecasts that the forecaster writes for the operator (docs/reference/forecast-format.md).

Whatever is read is hostile until parsed; whatever is written is valid and appears at once or not at all.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from embellie_forecast.clock import parse_instant
from embellie_forecast.factors import FloatArray
from embellie_forecast.folders import replace_bytes

SCHEMA = "embellie.io/forecast/v1"
KEEP_FILES = 8
MAX_CARBON_G_PER_KWH = 2000.0
MAX_MARGINAL_G_PER_KWH = 3000.0
MAX_MW = 1_500_000.0
MAX_KW = 1_000_000.0
MAX_REASON = 500
FORECAST_LEVELS = (0.1, 0.5, 0.9)
"""The quantile levels that are written."""
MAX_FORECAST_BYTES = 1_000_000
TEMPERATURE_RANGE_C = (-90.0, 65.0)


class Rung(StrEnum):
    """How good the source of a forecast is, best first. The words are the operator's."""

    LIVE = "Live"
    LAST_GOOD = "LastGood"
    CALENDAR = "Calendar"
    CLIMATOLOGY = "Climatology"
    NEUTRAL = "Neutral"


class ExchangeError(ValueError):
    """A file of the exchange directory cannot be believed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnSiteForecast:
    """The power of one plant behind the zone's meter."""

    name: str
    kind: str
    """Solar or Wind."""
    rung: Rung
    power_kw: FloatArray
    """Shape (levels, slots)."""


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
    renewable_share: FloatArray | None
    """None where nobody tells it."""
    ambient_temperature_c: FloatArray | None
    direct_g_per_kwh: FloatArray | None = None
    """Direct carbon intensity beside a life-cycle one; shape (levels, slots)."""
    marginal_g_per_kwh: FloatArray | None = None
    """Marginal intensity where a source gives it; shape (levels, slots). Told beside the average, never in it."""
    generation_mw: Mapping[str, FloatArray] = field(default_factory=dict)
    """Source -> mean generation of each slot, where the model knows the mix."""
    on_site: tuple[OnSiteForecast, ...] = ()
    attribution: tuple[str, ...] = ()
    """Whose data this rests on."""
    reasons: tuple[str, ...] = ()
    """Why it does not stand on a better rung, and what of the feeds was not believed."""

    def __post_init__(self) -> None:
        """Refuse what the reader would have to refuse."""
        shape = (len(self.quantile_levels), self.carbon_mean_g_per_kwh.shape[0])
        arrays = [
            ("carbon intensity", self.carbon_g_per_kwh, shape, (0.0, MAX_CARBON_G_PER_KWH)),
            ("mean carbon intensity", self.carbon_mean_g_per_kwh, shape[1:], (0.0, MAX_CARBON_G_PER_KWH)),
        ]
        if self.renewable_share is not None:
            arrays.append(("renewable share", self.renewable_share, shape, (0.0, 1.0)))
        if self.ambient_temperature_c is not None:
            arrays.append(("ambient temperature", self.ambient_temperature_c, shape, TEMPERATURE_RANGE_C))
        if self.direct_g_per_kwh is not None:
            arrays.append(("direct intensity", self.direct_g_per_kwh, shape, (0.0, MAX_CARBON_G_PER_KWH)))
        if self.marginal_g_per_kwh is not None:
            arrays.append(("marginal intensity", self.marginal_g_per_kwh, shape, (0.0, MAX_MARGINAL_G_PER_KWH)))
        arrays += [(f"generation of {name}", mw, shape[1:], (0.0, MAX_MW)) for name, mw in self.generation_mw.items()]
        arrays += [(f"power of {one.name}", one.power_kw, shape, (0.0, MAX_KW)) for one in self.on_site]
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
            **self._optional(),
        }

    def _optional(self) -> dict[str, Any]:
        """Return the fields that are left out where there is nothing to say."""
        found: dict[str, Any] = {}
        if self.direct_g_per_kwh is not None:
            found["carbonIntensityDirectGramsPerKilowattHour"] = _rounded(self.direct_g_per_kwh, 2)
        if self.marginal_g_per_kwh is not None:
            found["carbonIntensityMarginalGramsPerKilowattHour"] = _rounded(self.marginal_g_per_kwh, 2)
        if self.generation_mw:
            found["generationMegawatts"] = {name: _rounded(mw, 1) for name, mw in sorted(self.generation_mw.items())}
        if self.on_site:
            found["onSite"] = [
                {"name": p.name, "kind": p.kind, "rung": p.rung.value, "powerKilowatts": _rounded(p.power_kw, 2)}
                for p in self.on_site
            ]
        if self.attribution:
            found["attribution"] = list(self.attribution)
        if self.reasons:
            found["reasons"] = [reason[:MAX_REASON] for reason in self.reasons]
        return found


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
        share, ambient = raw["renewableShare"], raw["ambientTemperatureCelsius"]
        direct = raw.get("carbonIntensityDirectGramsPerKilowattHour")
        marginal = raw.get("carbonIntensityMarginalGramsPerKilowattHour")
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
            renewable_share=None if share is None else np.array(share, dtype=np.float64),
            ambient_temperature_c=None if ambient is None else np.array(ambient, dtype=np.float64),
            direct_g_per_kwh=None if direct is None else np.array(direct, dtype=np.float64),
            marginal_g_per_kwh=None if marginal is None else np.array(marginal, dtype=np.float64),
            generation_mw={
                str(name): np.array(mw, dtype=np.float64) for name, mw in raw.get("generationMegawatts", {}).items()
            },
            on_site=tuple(
                OnSiteForecast(
                    name=str(plant["name"]),
                    kind=str(plant["kind"]),
                    rung=Rung(plant["rung"]),
                    power_kw=np.array(plant["powerKilowatts"], dtype=np.float64),
                )
                for plant in raw.get("onSite", [])
            ),
            attribution=tuple(str(name) for name in raw.get("attribution", [])),
            reasons=tuple(str(reason) for reason in raw.get("reasons", [])),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise ExchangeError(f"not a forecast: {error}") from error


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the whole new one, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The operator may run as another user of the same pod.
    replace_bytes(path, text.encode(), mode=0o644)


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
