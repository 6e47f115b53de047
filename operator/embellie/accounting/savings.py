# SPDX-License-Identifier: Apache-2.0
"""Savings with an interval, per day and zone, beside the naive sum over jobs; pure. Method: docs/method.md.

The counterfactual is built as *meter + modelled difference*: what a zone's meter said, plus what the same arrivals
first come first served would have drawn above (or below) the schedule that was, both by one and the same model. Idle
power, overhead without load and every error of the model that both schedules share cancel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo

import numpy as np

from embellie.accounting.curves import Run, ZonePower, power_curve
from embellie.accounting.emissions import Signal, emissions
from embellie.accounting.onsite import OnSite
from embellie.domain.forecast import FloatArray
from embellie.domain.reasons import SignalKind

METHOD = "embellie-savings/5"
METHOD_ON_SITE = "embellie-savings/6"
"""Where metered plants on a site count; without any, both versions are one."""
LEVEL = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A number with its 90 % interval."""

    value: float
    low: float
    high: float

    @property
    def about_zero(self) -> bool:
        """True where nobody can tell on which side of zero it lies."""
        return self.low <= 0.0 <= self.high

    def scaled(self, factor: float) -> "Range":
        """Return the same in another unit (a factor above zero)."""
        return Range(value=self.value * factor, low=self.low * factor, high=self.high * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """What is not known, as standard deviations of factors: stated judgements (docs/method.md)."""

    duration: float = 0.025
    """Of one job's duration, had it run at another time."""
    job_power: float = 0.05
    """Of one job's power as it was seen: in both schedules alike."""
    power_elsewhere: float = 0.02
    """Of what one job would have drawn at another time, beside what it drew."""
    common_power: float = 0.03
    """Of all power together (meters, overhead)."""
    intensity: float = 0.05
    """Of one day's carbon intensity of a zone."""
    on_site: float = 0.03
    """Of what the plants of a zone delivered, by their meters."""
    told_duration: float = 0.3
    """Of the duration of work that has not begun, which is only told: of its logarithm."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """Slots of equal length; the first begins at `start`."""

    start: datetime
    step: timedelta
    slots: int

    @property
    def end(self) -> datetime:
        """The end of the last slot."""
        return self.start + self.step * self.slots

    @property
    def edges_s(self) -> FloatArray:
        """Edges of the slots, counted from `start` [s]."""
        return np.arange(self.slots + 1, dtype=np.float64) * self.step.total_seconds()

    def days(self, zone: tzinfo = UTC) -> list[tuple[str, slice]]:
        """Return the days of a time zone that the window touches, with the slots whose middle lies in each."""
        found: list[tuple[str, slice]] = []
        days = [(self.start + self.step * (k + 0.5)).astimezone(zone).date() for k in range(self.slots)]
        first = 0
        for k in range(1, self.slots + 1):
            if k == self.slots or days[k] != days[k - 1]:
                found.append((days[k - 1].isoformat(), slice(first, k)))
                first = k
        return found


def slot_energy(runs: Sequence[Run], zones: Sequence[ZonePower], window: Window) -> FloatArray:
    """Return the facility energy of runs by zone and slot, shape (zones, slots) [kWh]."""
    return np.stack(
        [power_curve(runs, zone, window.start, window.end).energy_between(window.edges_s) for zone in zones]
    )


def energy_after(runs: Sequence[Run], zones: Sequence[ZonePower], moment: datetime) -> FloatArray:
    """Return what runs still draw after an instant, by zone, overhead included, idle nodes not [kWh]."""
    pue = {zone.name: zone.pue for zone in zones}
    left = dict.fromkeys(pue, 0.0)
    for run in runs:
        hours = (run.end - max(run.start, moment)).total_seconds() / 3600.0
        if hours > 0.0 and run.zone in left:
            left[run.zone] += run.power_kw * hours * pue[run.zone]
    return np.array([left[zone.name] for zone in zones])


def intensities(signals: Mapping[str, Signal], zones: Sequence[ZonePower], window: Window) -> FloatArray:
    """Return the zones' carbon intensity by slot, shape (zones, slots) [g/kWh]; NaN where it is not known.

    Raises TypeError where the zones are measured by two kinds of signal.
    """
    kinds = {signals[zone.name].kind for zone in zones}
    if len(kinds) > 1:
        raise TypeError(f"zones measured by {sorted(kinds)} cannot be added up")
    rows = []
    for zone in zones:
        signal = signals[zone.name]
        middle = [window.start + window.step * k + window.step / 2 for k in range(window.slots)]
        index = np.array([(moment - signal.start) // signal.step for moment in middle])
        inside = (index >= 0) & (index < signal.values.shape[0])
        values = np.full(window.slots, np.nan)
        values[inside] = signal.values[index[inside]]
        rows.append(values)
    return np.stack(rows)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draws:
    """Replays of both schedules with the same draws of power. Arrays are facility energy [kWh]."""

    window: Window
    zones: tuple[str, ...]
    ours: FloatArray
    """The schedule that was, by the model: shape (draws, zones, slots)."""
    fifo: FloatArray
    """First come first served: shape (draws, zones, slots)."""
    owed: FloatArray
    """What the schedule that was still draws after the window, beyond what the other does: shape (draws, zones)."""
    brought: FloatArray | None = None
    """What it still had to draw when the window began, beyond what the other had: (draws, zones). None: nothing."""


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
    gained = draws.fifo - draws.ours
    noisy = ci[None] * _intensity_errors(draws, uncertainty.intensity, seed)
    # What is still to be drawn has to be paid at some hour: at the mean intensity of the window's last 24 hours.
    day = max(1, round(timedelta(hours=24) / draws.window.step))
    last_day, first_day = slice(-day, None), slice(0, day)
    owed_g = _owed(draws.owed, noisy, meter, last_day)
    # What was left to do when the window began was taken off the period before it, and is given back where it is drawn.
    brought = np.zeros_like(draws.owed) if draws.brought is None else draws.brought
    brought_g = _owed(brought, noisy, meter, first_day)
    grams, kwh = gained * noisy, gained
    counterfactual = meter[None] + gained
    spared_g = 0.0
    if on_site is not None:
        seen = on_site.drawn(len(gained), uncertainty.on_site, seed)
        grams -= seen.spared_g(counterfactual, noisy) - seen.spared_g(meter[None], noisy)
        spared_g = float(on_site.spared_g(meter, ci).sum())
    measured_g = float((meter * ci).sum()) - spared_g
    edges_g, edges_kwh = brought_g - owed_g, brought - draws.owed
    total = grams.sum(axis=(1, 2)) + edges_g.sum(axis=1)
    cost = None
    if prices is not None:
        owed_cost = _owed(draws.owed, prices[None], meter, last_day)
        brought_cost = _owed(brought, prices[None], meter, first_day)
        cost = range_of((gained * prices[None]).sum(axis=(1, 2)) + (brought_cost - owed_cost).sum(axis=1))
    return Savings(
        kind=kind,
        saved_g=range_of(total),
        saved_kwh=range_of(kwh.sum(axis=(1, 2)) + edges_kwh.sum(axis=1)),
        counterfactual_g=float(measured_g + total.mean()),
        measured_g=measured_g,
        peak_change_kw=_peak_changes(draws, meter, counterfactual),
        shifted_kwh=range_of(np.maximum(gained, 0.0).sum(axis=(1, 2))),
        cost_saved=cost,
        owed_kwh=float(draws.owed.sum(axis=1).mean()),
        brought_kwh=float(brought.sum(axis=1).mean()),
        by_day=_by_day(draws, grams, kwh, days_of),
        by_zone={
            zone: ZoneSaving(
                saved_g=range_of(grams[:, z].sum(axis=1) + edges_g[:, z]),
                saved_kwh=range_of(kwh[:, z].sum(axis=1) + edges_kwh[:, z]),
                shifted_kwh=float(np.maximum(gained[:, z], 0.0).sum(axis=1).mean()),
                owed_g=float(owed_g[:, z].mean()),
                brought_g=float(brought_g[:, z].mean()),
            )
            for z, zone in enumerate(draws.zones)
        },
        method=METHOD if on_site is None else METHOD_ON_SITE,
    )


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


def range_of(values: FloatArray) -> Range:
    """Return mean and interval.

    The k-th of n replays in order has k/(n+1) of all further ones below it on the mean, whatever their distribution
    (Weibull's plotting positions). The usual (k-1)/(n-1) takes the outermost replays for the ends of all that can be:
    an interval of 90 % from 30 replays then holds 84 % of further ones.
    """
    middle = float(values.mean())
    ends = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="weibull")
    low, high = (float(v) for v in ends)
    return Range(value=middle, low=low, high=high)


def naive_sum(runs: Sequence[Run], pue: Mapping[str, float], signals: Mapping[str, Signal]) -> float:
    """Return the sum over jobs of what each would have emitted more, had it started when it came [g].

    This is the figure that others print: each job as if the cluster had been empty for it. A job whose hours the
    signals do not cover is left out.
    """
    total = 0.0
    for run in runs:
        signal = signals.get(run.zone)
        if signal is None or run.end <= run.start or run.latest_start is None:
            continue
        zone = ZonePower(name=run.zone, idle_kw=0.0, pue=pue.get(run.zone, 1.0))
        when_it_came = replace(run, start=run.submitted_at, end=run.submitted_at + (run.end - run.start))
        curves = [power_curve([one], zone, one.start, one.end) for one in (when_it_came, run)]
        try:
            total += emissions(curves[0], signal).grams - emissions(curves[1], signal).grams
        except ValueError:
            continue
    return total


def why_they_differ(saved: Savings, naive_g: float) -> str:
    """Return one sentence on why the sum over jobs is another number."""
    ours = saved.saved_g.value
    if abs(naive_g - ours) <= 0.05 * max(abs(naive_g), abs(ours), 1.0):
        return "The sum over jobs comes to much the same, because there was room for each job when it came."
    if saved.saved_g.low <= naive_g <= saved.saved_g.high:
        return (
            "The sum over jobs lies within the interval, so that nobody can tell the two apart here; it takes the "
            "cluster as empty for every job, and has no interval of its own."
        )
    if naive_g > ours:
        return (
            "The sum over jobs is higher, because it takes the cluster as empty for every job: where a held job only "
            "let another one run, or would have had to wait for GPUs anyway, nothing was saved."
        )
    return (
        "The sum over jobs is lower, because it leaves out what holding one job did to the others: they ran at other "
        "hours, or in another zone, than they would have."
    )
