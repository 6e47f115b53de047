# SPDX-License-Identifier: Apache-2.0
"""Forecast documents out of what models, climatology and earlier forecasts say: ordered, bounded, complete."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from embellie_forecast.exchange import FORECAST_LEVELS, MAX_MARGINAL_G_PER_KWH, ForecastDocument, Rung, newest_document
from embellie_forecast.factors import DIRECT_EIA, LIFECYCLE_AR5, FloatArray, Scope
from embellie_forecast.history import ZoneHistory, hour_of, instant_of
from embellie_forecast.models.targets import HORIZON_HOURS

STEP = timedelta(hours=1)
MIN_LAST_GOOD_HOURS = 48
NEUTRAL_CARBON_G_PER_KWH = 480.0
"""About the world's mean; any constant does, because a flat forecast gives no reason to wait."""
LIMITS: Mapping[Scope, tuple[float, float]] = {
    factors.scope: (min(factors.grams_per_kwh.values()), max(factors.grams_per_kwh.values()))
    for factors in (LIFECYCLE_AR5, DIRECT_EIA)
}
"""No mix of sources lies outside its cheapest and dearest source [g/kWh]."""
REFERENCE_HOURS = 14 * 24
JUDGED_HOURS = 72
ENVELOPE = 1.5
"""No hour of a forecast lies further than this factor outside what the feed said before the last three days."""


class RungUnavailable(Exception):  # noqa: N818 - it is an answer, not a fault
    """This rung cannot answer; the sentence says why."""


def series_of(history: ZoneHistory, scope: Scope) -> FloatArray:
    """Return a history's carbon intensity of one scope [g/kWh]."""
    return history.lifecycle_g_per_kwh if scope is Scope.LIFECYCLE else history.direct_g_per_kwh


def scope_of(history: ZoneHistory) -> Scope:
    """Return what a history can say: life-cycle intensity where it knows it, else direct."""
    return Scope.LIFECYCLE if np.isfinite(history.lifecycle_g_per_kwh).any() else Scope.DIRECT


def known_end(history: ZoneHistory, before_hour: int | None = None) -> int | None:
    """Return the hour after the newest one whose intensity is known, of those before an hour; None where none is."""
    stop = history.n_hours if before_hour is None else max(0, before_hour - history.first_hour)
    known = np.flatnonzero(np.isfinite(series_of(history, scope_of(history))[:stop]))
    return history.first_hour + int(known[-1]) + 1 if known.size else None


def build(
    *, zone: str, now: datetime, rung: Rung, model_id: str, scope: Scope, carbon: FloatArray, mean: FloatArray,
    share: FloatArray | None, skill: int | None = None, ambient: FloatArray | None = None,
    direct: FloatArray | None = None, marginal: FloatArray | None = None,
    generation_mw: Mapping[str, FloatArray] | None = None,
    envelope: tuple[float, float] | None = None,
) -> ForecastDocument:  # fmt: skip
    """Order the quantiles, keep everything in its bounds and build the document, which refuses what is not finite.

    Args:
        zone: Its name.
        now: The moment of the issue; slot 0 is the hour in which it lies.
        rung: Where the forecast stands.
        model_id: What made it.
        scope: What the intensity counts.
        carbon: Quantiles, shape (3, slots) [g/kWh].
        mean: Expected values, shape (slots,) [g/kWh].
        share: Quantiles of the renewable share, shape (3, slots), 0..1; None where nobody tells it.
        skill: Errors saved against persistence [%].
        ambient: Quantiles of the air temperature, shape (3, slots) [degC].
        direct: Quantiles of the direct intensity beside a life-cycle one [g/kWh].
        marginal: Quantiles of the marginal intensity beside an average one [g/kWh].
        generation_mw: Source -> mean generation of each slot.
        envelope: Narrower bounds of the intensity than those of physics [g/kWh].
    """
    low, high = LIMITS[scope]
    if envelope is not None:
        low, high = max(low, envelope[0]), min(high, envelope[1])
    carbon = np.sort(np.clip(carbon, low, high), axis=0)
    return ForecastDocument(
        zone=zone,
        issued_at=now.replace(microsecond=0),
        start=instant_of(hour_of(now)),
        step=STEP,
        signal_kind=scope.value,
        rung=rung,
        model_id=model_id,
        skill_percent=skill,
        quantile_levels=FORECAST_LEVELS,
        carbon_g_per_kwh=carbon,
        carbon_mean_g_per_kwh=np.clip(mean, carbon[0], carbon[-1]),
        renewable_share=None if share is None else np.sort(np.clip(share, 0.0, 1.0), axis=0),
        ambient_temperature_c=None if ambient is None else np.sort(ambient, axis=0),
        direct_g_per_kwh=None if direct is None else np.sort(np.clip(direct, *LIMITS[Scope.DIRECT]), axis=0),
        marginal_g_per_kwh=None
        if marginal is None
        else np.sort(np.clip(marginal, 0.0, MAX_MARGINAL_G_PER_KWH), axis=0),
        generation_mw={name: np.maximum(mw, 0.0) for name, mw in (generation_mw or {}).items()},
    )


def envelope_of(history: ZoneHistory, scope: Scope, now: datetime) -> tuple[float, float] | None:
    """Return the bounds that the feed's past sets to a forecast; None where it is too short to set any."""
    stop = max(0, min(history.n_hours, hour_of(now) - JUDGED_HOURS - history.first_hour))
    past = series_of(history, scope)[:stop]
    past = past[np.isfinite(past)]
    if past.size < REFERENCE_HOURS:
        return None
    return float(past.min()) / ENVELOPE, float(past.max()) * ENVELOPE


def neutral(zone: str, now: datetime) -> ForecastDocument:
    """Return the flat forecast that gives nobody a reason to wait."""
    shape = (len(FORECAST_LEVELS), HORIZON_HOURS)
    return build(
        zone=zone,
        now=now,
        rung=Rung.NEUTRAL,
        model_id="neutral1",
        scope=Scope.LIFECYCLE,
        carbon=np.full(shape, NEUTRAL_CARBON_G_PER_KWH),
        mean=np.full(HORIZON_HOURS, NEUTRAL_CARBON_G_PER_KWH),
        share=None,
    )


def last_good(directory: Path | None, zone: str, now: datetime) -> ForecastDocument:
    """Return what is still ahead in the last good forecast of the zone.

    Raises:
        RungUnavailable: There is none, or too little of it is left.
    """
    rungs = frozenset({Rung.LIVE, Rung.LAST_GOOD})
    last = None if directory is None else newest_document(directory, zone, rungs=rungs, not_after=now)
    if last is None or last.step > STEP or STEP % last.step or last.quantile_levels != FORECAST_LEVELS:
        raise RungUnavailable("there is none")
    gone_hours = hour_of(now) - hour_of(last.start)
    left = last.carbon_mean_g_per_kwh.size // (STEP // last.step) - gone_hours
    if gone_hours < 0 or left < MIN_LAST_GOOD_HOURS:
        raise RungUnavailable(f"the last one covers only {max(0, left)} h more")
    gone = gone_hours * (STEP // last.step)

    def rest(values: FloatArray | None) -> FloatArray | None:
        return None if values is None else values[..., gone:]

    return replace(
        last,
        issued_at=now.replace(microsecond=0),
        start=instant_of(hour_of(now)),
        rung=Rung.LAST_GOOD,
        carbon_g_per_kwh=last.carbon_g_per_kwh[:, gone:],
        carbon_mean_g_per_kwh=last.carbon_mean_g_per_kwh[gone:],
        renewable_share=rest(last.renewable_share),
        ambient_temperature_c=rest(last.ambient_temperature_c),
        direct_g_per_kwh=rest(last.direct_g_per_kwh),
        marginal_g_per_kwh=rest(last.marginal_g_per_kwh),
        generation_mw={name: mw[gone:] for name, mw in last.generation_mw.items()},
        on_site=(),
        reasons=(),
    )
