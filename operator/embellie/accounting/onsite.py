# SPDX-License-Identifier: Apache-2.0
"""What the plants on a site delivered, by their own meters, and what its use spared; pure. Rule: docs/method.md.

In each interval the zone uses its own energy first: self-consumed is the lesser of what was delivered and what was
drawn, and the grid supplies the rest. Only what a meter measured counts, and never a forecast.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from embellie.accounting.known import Plant, Price
from embellie.accounting.meters import power_steps
from embellie.domain.forecast import FloatArray
from embellie.domain.onsite import G_PER_KWH
from embellie.domain.reasons import SignalKind

LONGEST_S = 300.0
"""A longer silence of a plant's meter is not bridged [s]: Prometheus shows a last sample for so long."""
AROUND = 1.0 / 3.0
"""Looked at before and after an interval, as a share of it, to see whether the meter moves at all: some are told anew
every quarter of an hour."""
AT_REST = 0.01
"""A plant that takes no more than this share of its peak (an inverter at night) delivers nothing; below that its meter
is the wrong way round."""
NET_METER = 0.9
"""A zone's meter that says less than this share of its machines' energy does not tell what was drawn."""

NO_METER = "it has no meter"
SHARED_METER = "another plant has the same meter"
STANDS_STILL = "its meter stands still"
NO_GOOD_SAMPLES = "samples are missing, negative or above its peak"
NO_DRAW = "the zone's power sensor says less than its machines draw: it must not leave out what comes from the plants"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What one plant delivered in an interval, as far as its meter proves it."""

    name: str
    kind: str
    kwh: float
    covered_s: float
    """For how long of the interval [s]."""
    missing: str = ""
    """Why not for all of it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnSite:
    """What the plants delivered by zone and slot, shape (zones, slots) [kWh], and what that emits [g/kWh]."""

    kwh: FloatArray
    g_per_kwh: FloatArray

    def spared_g(self, drawn_kwh: FloatArray, ci: FloatArray) -> FloatArray:
        """Return what their use takes off the grid's emissions, shape (..., zones, slots) [g]; below zero adds to them.

        Args:
            drawn_kwh: What the zones draw, shape (..., zones, slots) [kWh].
            ci: The grid's intensity, of that shape or one that fits it [g/kWh].
        """
        used: FloatArray = np.minimum(self.kwh, np.maximum(drawn_kwh, 0.0))
        spared: FloatArray = (ci - self.g_per_kwh) * used
        return spared

    def drawn(self, count: int, sigma: float, seed: int) -> "OnSite":
        """Return what the meters may have meant, `count` times: shape (count, zones, slots), each zone off as a whole.

        Args:
            count: How many replays.
            sigma: Standard deviation of the meters' factor.
            seed: Of the draws.
        """
        # Its own sequence: that of the intensity's errors is the same with and without plants.
        off = np.random.default_rng([seed, count]).standard_normal((count, self.kwh.shape[0], 1))
        return OnSite(kwh=self.kwh * np.exp(sigma * off), g_per_kwh=self.g_per_kwh)


def any_metered(plants: Sequence[Plant]) -> bool:
    """Tell whether any plant has a meter: without one a zone is accounted as if it had no plants."""
    return any(plant.unread != NO_METER for plant in plants)


def delivered(plant: Plant, first_s: float, last_s: float) -> Delivered:
    """Return what a plant delivered in [first_s, last_s); seconds without good samples count as nothing."""

    def nothing(why: str) -> Delivered:
        return Delivered(name=plant.name, kind=plant.kind, kwh=0.0, covered_s=0.0, missing=why)

    if plant.unread:
        return nothing(plant.unread)
    length_s, peak_w = last_s - first_s, 1000.0 * plant.peak_kw
    at_s, watts = np.asarray(plant.meter.at_s, dtype=np.float64), np.asarray(plant.meter.values, dtype=np.float64)
    near = (at_s >= first_s - AROUND * length_s) & (at_s <= last_s + AROUND * length_s)
    at_s, watts = at_s[near], watts[near]
    watts = np.where((watts < 0.0) & (watts >= -AT_REST * peak_w), 0.0, watts)
    if watts.size and watts[0] > 0.0 and np.all(watts == watts[0]):
        return nothing(STANDS_STILL)
    steps = power_steps(at_s.tolist(), watts.tolist(), max_w=peak_w, longest_s=LONGEST_S)
    found = steps.between(np.array([first_s, last_s]))
    kwh, covered_s = float(found.kwh[0]), float(found.covered_s[0])
    missing = "" if covered_s >= 0.999 * length_s else NO_GOOD_SAMPLES
    return Delivered(name=plant.name, kind=plant.kind, kwh=kwh, covered_s=covered_s, missing=missing)


def by_kind(plants: Sequence[Delivered], drawn_kwh: float, length_s: float) -> dict[str, dict[str, float]]:
    """Return what an interval adds to the sums, by kind of plant.

    Where more was delivered than drawn, each plant's energy was used for the same share.
    """
    whole_kwh = sum(plant.kwh for plant in plants)
    share = min(1.0, max(0.0, drawn_kwh) / whole_kwh) if whole_kwh > 0.0 else 0.0
    sums: dict[str, dict[str, float]] = {}
    for plant in plants:
        row = sums.setdefault(plant.kind, dict.fromkeys(("deliveredKwh", "usedKwh", "seconds", "coveredSeconds"), 0.0))
        row["deliveredKwh"] += plant.kwh
        row["usedKwh"] += plant.kwh * share
        row["seconds"] += length_s
        row["coveredSeconds"] += plant.covered_s
    return sums


def spared_g_per_kwh(
    prices: Sequence[Price], sums: Mapping[str, Mapping[str, float]], drawn_kwh: float
) -> dict[SignalKind, float]:
    """Return by how much less each kilowatt-hour that was drawn emitted than the grid's, by kind of signal [g/kWh].

    All that was drawn has the same part in it: base, runs, cooling. Below zero where the plants' own factor is higher
    than the grid's. Empty where nothing was used.

    Args:
        prices: The grid's intensities.
        sums: What `by_kind` returned.
        drawn_kwh: What the zone drew.
    """
    used = {kind: row["usedKwh"] for kind, row in sums.items() if row["usedKwh"] > 0.0}
    if not used or drawn_kwh <= 0.0:
        return {}
    return {
        price.kind: sum(kwh * (price.g_per_kwh - G_PER_KWH[price.kind][kind]) for kind, kwh in used.items()) / drawn_kwh
        for price in prices
        if price.kind in G_PER_KWH
    }
