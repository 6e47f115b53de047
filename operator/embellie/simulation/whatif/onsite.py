# SPDX-License-Identifier: Apache-2.0
"""A site's own sun and wind in a replay: the site uses them first, and the grid supplies the rest.

At each moment the grid supplies max(0, power - own), own power being constant within a slot. What is used of one's own
counts with its own factor, as in the accounts; what is left over counts as nothing.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.simulation.whatif.axis import Axis, IntArray
from embellie.simulation.whatif.outlook import Outlook, Perfect

_PROFILE_DAYS = 14
_DAY_FADES_H, _LAST_FADES_H = 24.0, 8.0
_LAST_H = 3.0
_TELLING = 0.02
"""Hours that usually hold less than this part of a day's energy tell nothing."""
_MOST_RATIO = 3.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnSite:
    """What the plants deliver, on the slots of a replay's axis."""

    plants_kw: FloatArray
    """By plant and slot, shape (plants, slots) [kW]."""
    past_kw: FloatArray
    """The same before the replay, newest last, shape (plants, past slots)."""
    plants_g: FloatArray
    """What a kWh of each counts as, shape (plants,) [g/kWh]."""
    kw: FloatArray = field(init=False)
    """Of all, shape (slots,)."""
    g_per_kwh: FloatArray = field(init=False)
    """What a kWh of all counts as, by slot."""

    def __post_init__(self) -> None:
        """Add up."""
        kw = self.plants_kw.sum(axis=0)
        grams = np.divide(self.plants_g @ self.plants_kw, kw, out=np.zeros(kw.size), where=kw > 0.0)
        object.__setattr__(self, "kw", kw)
        object.__setattr__(self, "g_per_kwh", grams)

    @property
    def most_g_per_kwh(self) -> float:
        """What a kWh counts as at most."""
        return float(self.plants_g.max())

    def extended(self, slots: int, slot_h: float) -> "OnSite":
        """Return it with at least so many slots: beyond its history the last day repeats."""
        count = self.plants_kw.shape[1]
        if slots <= count:
            return self
        again = count - min(count, max(1, round(24.0 / slot_h)))
        more = self.plants_kw[:, again + np.arange(slots - count) % (count - again)]
        return replace(self, plants_kw=np.concatenate((self.plants_kw, more), axis=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """Where the energy of a power curve came from."""

    carbon_kg: float
    own_kwh: float
    """Used of the site's own."""


def supply(edges: IntArray, power_kw: FloatArray, axis: Axis, on_site: OnSite) -> Supply:
    """Return where the energy of a power curve came from.

    Args:
        edges: Ticks between which it is constant, shape (n + 1,).
        power_kw: Shape (n,).
        axis: The grid's intensity.
        on_site: The site's own power, on that axis.
    """
    per = axis.ticks_per_slot
    marks = np.arange(int(edges[0]) // per + 1, -(-int(edges[-1]) // per)) * per
    cuts = np.union1d(edges, marks)
    power = power_kw[np.searchsorted(edges, cuts[:-1], side="right") - 1]
    slot = np.minimum(cuts[:-1] // per, axis.n_slots - 1)
    own = np.minimum(power, on_site.kw[slot])
    hours = np.diff(cuts) * axis.tick_h
    grams = (power - own) * axis.grams(cuts[:-1], cuts[1:]) + own * on_site.g_per_kwh[slot] * hours
    return Supply(
        carbon_kg=float(grams.sum()) / 1000.0,
        own_kwh=float((own * hours).sum()),
    )


def perfect(axis: Axis, on_site: OnSite) -> Outlook:
    """Return an outlook that knows what the plants will deliver."""
    return Perfect(replace(axis, values=on_site.kw))


def noisy(axis: Axis, on_site: OnSite, fraction: float, seed: int) -> Outlook:
    """Return an outlook with an error of a fraction of each slot's own power, drawn once."""
    # Its own sequence: the noise of the intensity is the same with and without plants.
    noise = np.random.default_rng([seed, 1]).normal(0.0, fraction, on_site.kw.size)
    return Perfect(replace(axis, values=np.maximum(on_site.kw * (1.0 + noise), 0.0)))


class Usual:
    """What the past of the plants' own power tells, and nothing else: no weather, no place.

    Each plant's mean by time of day over the last two weeks, times how the last hours compare to it, which gives way to
    how the last day does, and that fades too. Before a whole day is known nothing is expected.
    """

    def __init__(self, axis: Axis, on_site: OnSite) -> None:
        self._slot_h, self._day = axis.slot_h, max(1, round(24.0 / axis.slot_h))
        self._last = max(1, round(_LAST_H / axis.slot_h))
        self._past = on_site.past_kw.shape[1]
        self._known = np.concatenate((on_site.past_kw, on_site.plants_kw), axis=1)

    def ahead(self, slot: int, slots: int) -> FloatArray:
        """Return what is expected, at the beginning of a slot, of it and the next ones, shape (slots,) [kW]."""
        day, now = self._day, self._past + slot
        days = min(_PROFILE_DAYS, now // day)
        if days < 1:
            return np.zeros(slots)
        hours = (np.arange(slots) + 0.5) * self._slot_h
        fades, gives_way = np.exp(-hours / _DAY_FADES_H), np.exp(-hours / _LAST_FADES_H)
        expected = np.zeros(slots)
        for seen in self._known[:, now - days * day : now].reshape(-1, days, day):
            usual, last = seen.mean(axis=0), seen[-1]
            by_day = _ratio(last, usual, 0.0, otherwise=1.0)
            # At night the last hours tell nothing of the day.
            least = _TELLING * float(usual.sum())
            by_hour = _ratio(last[-self._last :], usual[-self._last :], least, otherwise=by_day)
            change = (by_hour * gives_way + by_day * (1.0 - gives_way) - 1.0) * fades
            expected += usual[np.arange(slots) % day] * np.maximum(1.0 + change, 0.0)
        return expected


def _ratio(last: FloatArray, usual: FloatArray, least: float, *, otherwise: float) -> float:
    """Return how the last hours compare to usual ones, or something else where those held no more than so much."""
    held = float(usual.sum())
    return min(float(last.sum()) / held, _MOST_RATIO) if held > least else otherwise
