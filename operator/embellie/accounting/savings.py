# SPDX-License-Identifier: Apache-2.0
"""Savings with an interval, per day and zone, out of replays of two schedules; pure. Method: docs/method.md.

The counterfactual is built as *meter + modelled difference*: what a zone's meter said, plus what the same arrivals
first come first served would have drawn above (or below) the schedule that was, both by one and the same model. Idle
power, overhead without load and every error of the model that both schedules share cancel.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, timedelta, tzinfo

import numpy as np

from embellie.accounting.draws import Draws, Uncertainty
from embellie.accounting.onsite import OnSite
from embellie.accounting.ranges import Range, range_of
from embellie.domain.forecast import FloatArray
from embellie.domain.reasons import SignalKind

METHOD = "embellie-savings/5"
METHOD_ON_SITE = "embellie-savings/6"
"""Where metered plants on a site count; without any, both versions are one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneDay:
    """One zone on one day."""

    day: str
    zone: str
    saved_g: Range
    saved_kwh: Range


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneSaving:
    """One zone over the whole window. A zone that took work over from another saves less, or nothing."""

    saved_g: Range
    saved_kwh: Range
    shifted_kwh: float
    owed_g: float
    """What is taken off for what was still to be drawn at the end."""
    brought_g: float
    """What is given back for what was still to be drawn at the beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Savings:
    """What a schedule saved against first come first served. Negative is negative."""

    kind: SignalKind
    saved_g: Range
    saved_kwh: Range
    counterfactual_g: float
    measured_g: float
    peak_change_kw: Mapping[str, Range]
    """Measured peak minus that of the counterfactual, by zone; negative is a lower peak."""
    shifted_kwh: Range
    """Energy that the schedule moved to other hours or zones."""
    cost_saved: Range | None
    """In the currency of the prices; None without prices."""
    owed_kwh: float
    """Energy that the schedule still has to draw after the window, beyond the counterfactual; taken off above, at its
    zones' intensity or at the mean of the zones, whichever is more."""
    brought_kwh: float = 0.0
    """The same at the beginning of the window; the period before was charged with it, and it is given back above."""
    by_day: tuple[ZoneDay, ...] = field(default=())
    by_zone: Mapping[str, ZoneSaving] = field(default_factory=dict)
    method: str = METHOD

    @property
    def verdict(self) -> str:
        """The result in a few words."""
        if self.saved_g.about_zero:
            return "about zero"
        return "saved" if self.saved_g.value > 0 else "more than without"


def savings(
    draws: Draws,
    ci: FloatArray,
    kind: SignalKind,
    *,
    measured_kwh: FloatArray | None = None,
    prices: FloatArray | None = None,
    uncertainty: Uncertainty = Uncertainty(),
    seed: int = 1,
    days_of: tzinfo = UTC,
    on_site: OnSite | None = None,
) -> Savings:
    """Return the savings of a window, totals and by day and zone.

    Args:
        draws: Both schedules, by the model.
        ci: Carbon intensity by zone and slot [g/kWh]; every value must be known.
        kind: What it measures.
        measured_kwh: The zones' meters by slot [kWh]; None takes the model of the schedule that was.
        prices: Price by zone and slot [currency/kWh].
        uncertainty: What is not known.
        seed: Of the intensity's errors.
        days_of: The time zone whose days `by_day` tells.
        on_site: What plants on the sites delivered, by their meters: both schedules use it first.
    """
    if not np.all(np.isfinite(ci)):
        raise ValueError("the carbon intensity has gaps in the window; leave those hours out of it")
    meter = draws.ours.mean(axis=0) if measured_kwh is None else measured_kwh
    kwh = draws.fifo - draws.ours
    noisy = ci[None] * _intensity_errors(draws, uncertainty.intensity, seed)
    owed_g, brought_g = _at_the_edges(draws, noisy, meter)
    grams, counterfactual = kwh * noisy, meter[None] + kwh
    spared_g = 0.0
    if on_site is not None:
        seen = on_site.drawn(len(kwh), uncertainty.on_site, seed)
        grams -= seen.spared_g(counterfactual, noisy) - seen.spared_g(meter[None], noisy)
        spared_g = float(on_site.spared_g(meter, ci).sum())
    measured_g = float((meter * ci).sum()) - spared_g
    edges_g, edges_kwh = brought_g - owed_g, _brought(draws) - draws.owed
    total = grams.sum(axis=(1, 2)) + edges_g.sum(axis=1)
    return Savings(
        kind=kind,
        saved_g=range_of(total),
        saved_kwh=range_of(kwh.sum(axis=(1, 2)) + edges_kwh.sum(axis=1)),
        counterfactual_g=float(measured_g + total.mean()),
        measured_g=measured_g,
        peak_change_kw=_peak_changes(draws, meter, counterfactual),
        shifted_kwh=range_of(np.maximum(kwh, 0.0).sum(axis=(1, 2))),
        cost_saved=None if prices is None else _cost_saved(draws, prices[None], meter),
        owed_kwh=float(draws.owed.sum(axis=1).mean()),
        brought_kwh=float(_brought(draws).sum(axis=1).mean()),
        by_day=_by_day(draws, grams, kwh, days_of),
        by_zone={
            zone: ZoneSaving(
                saved_g=range_of(grams[:, z].sum(axis=1) + edges_g[:, z]),
                saved_kwh=range_of(kwh[:, z].sum(axis=1) + edges_kwh[:, z]),
                shifted_kwh=float(np.maximum(kwh[:, z], 0.0).sum(axis=1).mean()),
                owed_g=float(owed_g[:, z].mean()),
                brought_g=float(brought_g[:, z].mean()),
            )
            for z, zone in enumerate(draws.zones)
        },
        method=METHOD if on_site is None else METHOD_ON_SITE,
    )


def _brought(draws: Draws) -> FloatArray:
    return np.zeros_like(draws.owed) if draws.brought is None else draws.brought


def _cost_saved(draws: Draws, prices: FloatArray, meter: FloatArray) -> Range:
    owed, brought = _at_the_edges(draws, prices, meter)
    return range_of(((draws.fifo - draws.ours) * prices).sum(axis=(1, 2)) + (brought - owed).sum(axis=1))


def _at_the_edges(draws: Draws, prices: FloatArray, meter_kwh: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Price what is still to be drawn at the end of the window, and what was at its beginning, by replay and zone.

    What is still to be drawn has to be paid at some hour: at the mean of the window's last 24 hours. What was left to
    do when the window began was taken off the period before it, and is given back where it is drawn: in the first
    24.
    """
    day = max(1, round(timedelta(hours=24) / draws.window.step))
    owed = _owed(draws.owed, prices, meter_kwh, slice(-day, None))
    return owed, _owed(_brought(draws), prices, meter_kwh, slice(0, day))


def _peak_changes(draws: Draws, meter: FloatArray, counterfactual: FloatArray) -> dict[str, Range]:
    """Return by how much the highest hourly mean of the power differs, by zone; slots may be shorter than an hour."""
    hour = max(1, round(timedelta(hours=1) / draws.window.step))
    hours = hour * draws.window.step.total_seconds() / 3600.0
    was, would = (kwh.reshape(*kwh.shape[:-1], -1, hour).sum(axis=-1).max(axis=-1) for kwh in (meter, counterfactual))
    return {zone: range_of((was[z] - would[:, z]) / hours) for z, zone in enumerate(draws.zones)}


def _by_day(draws: Draws, grams: FloatArray, kwh: FloatArray, days_of: tzinfo) -> tuple[ZoneDay, ...]:
    """Return what each day of a time zone saved in each zone; `grams` and `kwh` have shape (replays, zones, slots)."""
    return tuple(
        ZoneDay(
            day=day,
            zone=zone,
            saved_g=range_of(grams[:, z, part].sum(axis=1)),
            saved_kwh=range_of(kwh[:, z, part].sum(axis=1)),
        )
        for day, part in draws.window.days(days_of)
        for z, zone in enumerate(draws.zones)
    )


def _owed(owed_kwh: FloatArray, prices: FloatArray, meter_kwh: FloatArray, day: slice) -> FloatArray:
    """Price what is still to be drawn, by replay and zone, at the mean of one day.

    It is paid at its zones' intensity. Where that comes to less than the same energy costs at the mean of the zones,
    the mean counts: that work *will* run in a cleaner zone is no saving of a period in which it has not run. It counts
    in the period in which it does; a dirtier zone is paid for at once.

    Args:
        owed_kwh: What the schedule that was still draws beyond the other, shape (replays, zones).
        prices: Intensity or price by slot, shape (replays, zones, slots) or (1, zones, slots).
        meter_kwh: What the zones drew by slot, by which their mean is weighted: shape (zones, slots).
        day: The slots that count.
    """
    price, drawn_kwh = prices[:, :, day].mean(axis=2), meter_kwh[:, day].sum(axis=1)
    weight = drawn_kwh / drawn_kwh.sum() if drawn_kwh.sum() > 0.0 else np.full(drawn_kwh.size, 1.0 / drawn_kwh.size)
    by_zone = owed_kwh * price
    at_mean = owed_kwh.sum(axis=1) * (price * weight).sum(axis=1)
    missing: FloatArray = np.maximum(0.0, at_mean - by_zone.sum(axis=1))
    priced: FloatArray = by_zone + missing[:, None] * weight
    return priced


def _intensity_errors(draws: Draws, sigma: float, seed: int) -> FloatArray:
    """Factors on the intensity, one for each replay, zone and day: a published hour is off together with its day."""
    rng = np.random.default_rng(seed)
    count, zones, slots = draws.fifo.shape
    factors = np.ones((count, zones, slots))
    for _, part in draws.window.days():
        factors[:, :, part] = np.exp(sigma * rng.standard_normal((count, zones, 1)))
    return factors
