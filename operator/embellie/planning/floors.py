# SPDX-License-Identifier: Apache-2.0
"""Heat floors: what power is worth where a heat network needs its heat, and what is still short.

A floor is no limit. Each kWh that is short of it costs the objective v. Its price q, anything from 0 to v times the
slot's hours, is what a kW in the slot earns while prices are searched; `docs/planner.md` has the proof.
"""

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.planning.inputs import most_floor_price
from embellie.planning.options import Compiled
from embellie.planning.problem import IntArray, Prices, Problem
from embellie.planning.room import Where


def by_zone(rows: FloatArray, problem: Problem) -> FloatArray:
    """Return rows of floor groups as rows of zones; zones that serve none have 0, shape (Z, T)."""
    group = problem.zones.floor_group
    out = np.zeros((problem.n_zones, problem.n_slots))
    out[group >= 0] = rows[group[group >= 0]]
    return out


def run_worth(span: tuple[IntArray, FloatArray], worth: FloatArray) -> FloatArray:
    """Return what 1 kW earns over runs from each slot, shape of the span's arrays; behind the last edge nothing.

    Args:
        span: Where the runs end (`Compiled.spans`).
        worth: What 1 kW earns in each slot, shape (T,).
    """
    row, part = span
    at = np.concatenate([[0.0], np.cumsum(worth)])
    return np.asarray(at[row] - at[:-1] + np.concatenate([worth, [0.0]])[row] * part)


def load_kw(c: Compiled, option: int, where: Where) -> FloatArray:
    """Return an option's expected power in the slots of its place; it ends inside the last one [kW]."""
    hours = c.hours[where]
    used = hours.copy()
    used[-1] -= max(0.0, float(hours.sum() - c.length_h[option]))
    return np.asarray(c.power_kw[option] * used / hours)


def shortfall_cost(problem: Problem, owed_kw: FloatArray) -> float:
    """Return what it costs that so much is still owed, shape of `owed_kw`: (floor groups, T)."""
    return float((most_floor_price(problem) * np.maximum(owed_kw, 0.0)).sum())


def floor_value(prices: Prices, problem: Problem) -> FloatArray:
    """Return what the whole floors add to the Lagrangian, row by row, shape (floor groups, T)."""
    return np.asarray(prices.floor * problem.zones.floor_kw)
