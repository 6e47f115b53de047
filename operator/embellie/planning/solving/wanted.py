# SPDX-License-Identifier: Apache-2.0
"""Wanted power: what it is worth that power is drawn in a slot, and how much of it is still short.

A heat network wants the heat that it is owed, and a site wants work that uses its own sun and wind. Neither is a limit.
Each kWh that is short costs the objective v. Its price q, anything from 0 to v times the slot's hours, is what a kW in
the slot earns while prices are searched; `docs/planner.md` has the proof.
"""

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.planning.solving.inputs import most_wanted_price
from embellie.planning.solving.options import Compiled
from embellie.planning.solving.problem import IntArray, Prices, Problem
from embellie.planning.solving.room import Where


def by_zone(rows: FloatArray, c: Compiled) -> FloatArray:
    """Return what a kW of each zone gets where a kW of each row gets so much; 0 where it serves none, shape (Z, T)."""
    out = np.zeros((c.zones, c.slots))
    for zone, served in enumerate(c.serves):
        for row, share in served:
            out[zone] += share * rows[row]
    return out


def run_worth(span: tuple[IntArray, FloatArray], worth: FloatArray) -> FloatArray:
    """Return what 1 kW earns over runs from each slot, behind the last edge nothing; shape of both, broadcast.

    Args:
        span: Where the runs end (`Compiled.spans`), shape (..., T).
        worth: What 1 kW earns in each slot, shape (T,), or that of the result.
    """
    row, part = span
    at, each = (np.zeros((*worth.shape[:-1], worth.shape[-1] + 1)) for _ in range(2))
    np.cumsum(worth, axis=-1, out=at[..., 1:])
    each[..., :-1] = worth
    if worth.ndim == 1:
        ends, rest = at[row], each[row]
    else:
        row = np.broadcast_to(row, worth.shape)
        ends, rest = np.take_along_axis(at, row, axis=-1), np.take_along_axis(each, row, axis=-1)
    return np.asarray(ends - at[..., :-1] + rest * part)


def load_kw(c: Compiled, option: int, where: Where) -> FloatArray:
    """Return an option's expected power in the slots of its place; it ends inside the last one [kW]."""
    hours = c.hours[where]
    used = hours.copy()
    used[-1] -= max(0.0, float(hours.sum() - c.length_h[option]))
    return np.asarray(c.power_kw[option] * used / hours)


def shortfall_cost(problem: Problem, short_kw: FloatArray) -> float:
    """Return what it costs that so much is still short, shape of `short_kw`: (rows, T)."""
    return float((most_wanted_price(problem) * np.maximum(short_kw, 0.0)).sum())


def wanted_value(prices: Prices, problem: Problem) -> FloatArray:
    """Return what all that is wanted adds to the Lagrangian, row by row, shape (rows, T)."""
    return np.asarray(prices.wanted * problem.zones.wanted_kw)
