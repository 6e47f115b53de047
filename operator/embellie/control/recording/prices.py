# SPDX-License-Identifier: Apache-2.0
"""What an interval's energy is priced with: the measured intensity, else what the forecast said of the present."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from embellie.accounting.known import Price, Tariff
from embellie.domain.reasons import SignalKind
from embellie.domain.snapshot import Snapshot
from embellie.telemetry.intensity import IntensityFolder
from embellie.telemetry.tariffs import TariffFolder
from embellie.telemetry.zone_files import slot_of

PROVISIONAL = timedelta(hours=72)
"""So long late grid data may still replace estimates."""

AHEAD = timedelta(hours=24)
"""So far ahead a forecast stands in for hours in which no newer one comes."""


class Prices:
    """Keeps what forecasts say of the present, and knows where measured values are."""

    def __init__(self, intensity: IntensityFolder, tariffs: TariffFolder) -> None:
        self._intensity, self._tariffs = intensity, tariffs
        self._nowcasts: dict[tuple[str, datetime], Price] = {}
        self._ambient: dict[tuple[str, datetime], float] = {}

    def observe(self, snapshot: Snapshot) -> None:
        """Note what forecasts say of the present: the estimate until somebody knows better."""
        now = snapshot.now
        for zone in snapshot.grid_zones:
            forecast = zone.forecast
            if forecast is None:
                continue
            first = int((now - forecast.start) / forecast.step)
            ahead = max(0, first) + int(AHEAD / forecast.step)
            for slot in range(max(0, first), min(forecast.n_slots, ahead)):
                start = forecast.start + slot * forecast.step
                self._nowcasts[zone.name, start] = Price(
                    kind=forecast.signal_kind,
                    g_per_kwh=float(forecast.carbon_intensity_mean_g_per_kwh[slot]),
                    quality="estimated",
                    source=f"{forecast.model_id} ({forecast.rung})",
                )
                if forecast.ambient_temperature_c is not None:
                    self._ambient[zone.name, start] = float(forecast.ambient_temperature_c[forecast.median, slot])
        self._nowcasts = {k: v for k, v in self._nowcasts.items() if k[1] > now - PROVISIONAL}
        self._ambient = {k: v for k, v in self._ambient.items() if k[1] > now - PROVISIONAL}

    def ambient_c(self, zone: str, moment: datetime) -> float | None:
        """Return the outside temperature of an hour, as forecast [degC]."""
        return self._ambient.get((zone, slot_of(moment, timedelta(hours=1))))

    def of(self, zone: str, start: datetime, end: datetime) -> tuple[Price, ...]:
        """Return the best that is known of an interval's intensity, by kind of signal."""
        known = self._intensity.of(zone)
        middle = start + (end - start) / 2
        found: dict[SignalKind, Price] = {}
        for step in (timedelta(hours=1), timedelta(minutes=30), timedelta(minutes=15)):
            nowcast = self._nowcasts.get((zone, slot_of(middle, step)))
            if nowcast is not None:
                found[nowcast.kind] = nowcast
        if known is not None:
            for kind in SignalKind:
                value = known.at(kind, middle)
                if value is not None:
                    quality = "estimated" if value.estimated else "measured"
                    found[kind] = Price(kind=kind, g_per_kwh=value.g_per_kwh, quality=quality, source=known.source)
        return tuple(found[kind] for kind in SignalKind if kind in found)

    def tariff(self, zone: str, start: datetime, end: datetime) -> Tariff | None:
        """Return what electricity costs in an interval; None where nobody says."""
        known = self._tariffs.of(zone)
        price = None if known is None else known.at(start + (end - start) / 2)
        if known is None or price is None:
            return None
        return Tariff(per_mwh=price, currency=known.currency, source=known.source)


def tariff_of(told: Mapping[str, Any] | None) -> Tariff | None:
    """Read an electricity price from a record; records of before there were any have none."""
    if told is None:
        return None
    return Tariff(per_mwh=float(told["perMwh"]), currency=str(told["currency"]), source=str(told["source"]))


def price_of(told: Mapping[str, Any]) -> Price:
    """Read a price from a record."""
    return Price(
        kind=SignalKind(told["kind"]),
        g_per_kwh=float(told["gPerKwh"]),
        quality=str(told["quality"]),
        source=str(told["source"]),
    )


def merged(new: Sequence[Price], old: Sequence[Price]) -> tuple[Price, ...]:
    """Return what is known now, kind by kind: what is measured takes the place of what was booked.

    A kind of which nothing is heard any more keeps what was booked, and an estimate never replaces anything.
    """
    best = {price.kind: price for price in old}
    for price in new:
        if price.quality == "measured" or price.kind not in best:
            best[price.kind] = price
    return tuple(best[kind] for kind in SignalKind if kind in best)
