# SPDX-License-Identifier: Apache-2.0
"""The proved lower bound: for any prices >= 0, recomputed in a fixed order of arithmetic.

LB = sum over jobs of min(least priced cost over all their places, cost of no place) - sum of price x capacity
+ sum of wanted power x its price. No search, no solver and no tolerance is involved; `docs/planner.md` has the proof.
What rounding could have added is taken off again.
"""

import math
from typing import TypeAlias

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.planning.solving.audit import OVERDRAW
from embellie.planning.solving.dual import limit_prices
from embellie.planning.solving.inputs import most_wanted_price
from embellie.planning.solving.options import Compiled
from embellie.planning.solving.problem import IntArray, Prices, Problem
from embellie.planning.solving.wanted import by_zone, run_worth, wanted_value

_CHUNK = 256
_ROUNDING = 1e-9
"""Relative error allowed for: sums of fewer than 10^5 doubles err by less than 10^-11 of their terms."""
Rooms: TypeAlias = tuple[FloatArray, FloatArray]


def lower_bound(
    problem: Problem, prices: Prices, compiled: Compiled | None = None, *, overbooked: bool = False
) -> float:
    """Return a number that no plan of the problem undercuts.

    Slots in which a gang alone is more than a row can take are closed to it, since no plan uses them; not where plans
    may overbook (`overbooked`).

    Raises ValueError for a price that is negative or not a number, for a price of a row without a limit, and for a
    price of wanted power that is higher than what its shortfall costs.
    """
    zones = problem.zones
    pairs = ((prices.gpu, zones.gpus), (prices.power, zones.power_kw), (prices.heat, zones.heat_kw))
    for price, capacity in pairs:
        if price.shape != capacity.shape or not np.all(np.isfinite(price)) or (price.size and price.min() < 0):
            raise ValueError("prices must be numbers of at least 0, one for each row and slot")
        if np.any((price > 0) & ~np.isfinite(capacity)):
            raise ValueError("a row without a limit must have the price 0")
    most = most_wanted_price(problem)
    if prices.wanted.shape != most.shape or not np.all((prices.wanted >= 0) & (prices.wanted <= most)):
        raise ValueError("prices of wanted power must lie between 0 and what a kW that is short costs in the slot")
    c = compiled if compiled is not None else Compiled(problem)
    least = problem.jobs.unplaced_cost.copy()
    rooms = None if overbooked else _rooms(problem)
    for rows, costs in ((np.flatnonzero(~c.pausable), _run_costs), (np.flatnonzero(c.pausable), _part_costs)):
        for first in range(0, rows.size, _CHUNK):
            part = rows[first : first + _CHUNK]
            np.minimum.at(least, c.job[part], costs(c, prices, part, rooms))
    # What is already overdrawn cannot be used and is worth nothing to plans: they see a capacity of 0.
    worth = [price * np.where(price > 0, np.maximum(capacity, 0.0), 0.0) for price, capacity in pairs]
    terms = [*least.tolist(), *(-float(v) for rows in worth for v in rows.reshape(-1))]
    terms += wanted_value(prices, problem).reshape(-1).tolist()
    return math.fsum(terms) - _ROUNDING * math.fsum(abs(t) for t in terms)


def _rooms(problem: Problem) -> Rooms:
    """Return the largest gang that each zone takes in each slot, in GPUs and in kW at worst, each of shape (Z, T)."""
    zones = problem.zones
    kw = np.full(zones.gpus.shape, np.inf)
    for zone, (power, heat) in enumerate(zip(zones.power_group, zones.heat_group, strict=True)):
        if power >= 0:
            kw[zone] = zones.power_kw[power] / zones.power_factor[zone]
        if heat >= 0:
            kw[zone] = np.minimum(kw[zone], zones.heat_kw[heat])
    return np.maximum(zones.gpus, 0.0) + OVERDRAW, np.maximum(kw, 0.0) + OVERDRAW


def _cumulative(values: FloatArray) -> FloatArray:
    out = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=out[:, 1:])
    return out


def _run_costs(c: Compiled, prices: Prices, rows: IntArray, rooms: Rooms | None) -> FloatArray:
    """Return the least priced cost of runs, shape (n,)."""
    energy = c.energy(c.length[rows], c.weighing[rows])
    gpu, limit = _cumulative(prices.gpu), _cumulative(limit_prices(prices, c))
    cost = c.power_kw[rows][:, None, None] * energy
    end, limit_end = c.ends[c.length[rows]], c.ends[c.limit_length[rows]]
    if c.wants:
        span, wanted = c.spans(c.length[rows]), by_zone(prices.wanted, c)
        for zone in range(c.zones):
            cost[:, zone] -= c.power_kw[rows][:, None] * run_worth(span, wanted[zone])
    for zone in range(c.zones):
        cost[:, zone] += c.gpus[rows][:, None] * (gpu[zone][end] - gpu[zone][None, :-1])
        cost[:, zone] += c.limit_kw[rows][:, None] * (limit[zone][limit_end] - limit[zone][None, :-1])
    cost += (c.delay[rows][:, None] * c.edges[None, :-1])[:, None, :]
    slot = np.arange(c.slots)
    closed = (slot < c.release[rows][:, None]) | (slot > c.latest[rows][:, None])
    cost[np.broadcast_to(closed[:, None, :], cost.shape)] = np.inf
    cost[~c.fits[rows]] = np.inf
    if rooms is not None:
        for size, room, until in ((c.gpus, rooms[0], end), (c.limit_kw, rooms[1], limit_end)):
            for zone in range(c.zones):
                full = _cumulative((size[rows][:, None] > room[zone]).astype(np.float64))
                cost[:, zone][np.take_along_axis(full, until, axis=1) > full[:, :-1]] = np.inf
    least: FloatArray = cost.reshape(rows.size, -1).min(axis=1) - c.at_once[rows]
    return least


def _part_costs(c: Compiled, prices: Prices, rows: IntArray, rooms: Rooms | None) -> FloatArray:
    """Return the least priced cost of pausable work: the cheapest hours of its window, pauses free."""
    limit = limit_prices(prices, c)
    price = c.power_kw[rows][:, None, None] * (c.rates[c.weighing[rows]] * c.hours)
    price = price + c.gpus[rows][:, None, None] * prices.gpu[None]
    price += c.limit_kw[rows][:, None, None] * limit[None]
    if c.wants:
        price -= c.power_kw[rows][:, None, None] * by_zone(prices.wanted, c)[None]
    price += ((c.delay[rows] / c.length_h[rows])[:, None] * (c.hours * c.middles)[None])[:, None, :]
    rate = price / c.hours
    slot = np.arange(c.slots)
    closed = (slot < c.release[rows][:, None]) | (slot >= c.deadline[rows][:, None])
    closed |= (c.latest[rows] < c.release[rows])[:, None]
    rate[np.broadcast_to(closed[:, None, :], rate.shape)] = np.inf
    rate[~c.fits[rows]] = np.inf
    if rooms is not None:
        rate[(c.gpus[rows][:, None, None] > rooms[0]) | (c.limit_kw[rows][:, None, None] > rooms[1])] = np.inf
    order = np.argsort(rate, axis=2, kind="stable")
    sorted_rate = np.take_along_axis(rate, order, axis=2)
    hours = c.hours[order]
    before = np.cumsum(hours, axis=2) - hours
    used = np.clip(c.length_h[rows][:, None, None] - before, 0.0, hours)
    used[used < 1e-9] = 0.0
    with np.errstate(invalid="ignore"):
        cost = np.where(used > 0.0, sorted_rate * used, 0.0).sum(axis=2)
    short = hours.sum(axis=2) < c.length_h[rows][:, None] - 1e-9
    cost[short] = np.inf
    least: FloatArray = cost.min(axis=1) - c.at_once[rows]
    return least
