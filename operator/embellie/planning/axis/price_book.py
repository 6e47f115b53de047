# SPDX-License-Identifier: Apache-2.0
"""Prices of a plan on paper: written down by name, and read again on the axis of the next turn.

Rows of the solver's arrays are numbered anew each turn; names of cells and of what wants power stay.
"""

import math
from collections.abc import Sequence

import numpy as np

from embellie.domain.plan import PriceBook
from embellie.planning.axis.timegrid import TimeGrid
from embellie.planning.solving.inputs import no_prices, shifted
from embellie.planning.solving.problem import IntArray, Prices, Problem


def written(prices: Prices, problem: Problem, grid: TimeGrid, cells: Sequence[str], wants: Sequence[str]) -> PriceBook:
    """Return a plan's prices by name.

    Args:
        prices: What the solver found.
        problem: What it solved.
        grid: The turn's axis.
        cells: Names of the zones' rows, in order.
        wants: Names of the rows of wanted power, in order.
    """
    return PriceBook(
        now=grid.now,
        edges_h=problem.edges_h,
        gpu={name: prices.gpu[z] for z, name in enumerate(cells)},
        power={name: prices.power[row] for name, row in _leaders(problem.zones.power_group, cells).items()},
        heat={name: prices.heat[row] for name, row in _leaders(problem.zones.heat_group, cells).items()},
        wanted=dict(zip(wants, prices.wanted, strict=True)),
    )


def prices_of(
    book: PriceBook | None, problem: Problem, grid: TimeGrid, cells: Sequence[str], wants: Sequence[str]
) -> Prices | None:
    """Return the last plan's prices on today's axis; None where there are none or they are of another day.

    `cells` and `wants` are as for `written`.
    """
    elapsed_h = (grid.now - book.now).total_seconds() / 3600.0 if book is not None else math.inf
    if book is None or not 0.0 <= elapsed_h < float(book.edges_h[-1]):
        return None
    blank = no_prices(problem)
    slots = book.edges_h.size - 1
    old = Prices(
        gpu=np.zeros((len(cells), slots)),
        power=np.zeros((blank.power.shape[0], slots)),
        heat=np.zeros((blank.heat.shape[0], slots)),
        wanted=np.zeros((blank.wanted.shape[0], slots)),
    )
    for rows, told, places in (
        (old.gpu, book.gpu, dict(zip(cells, range(len(cells)), strict=True))),
        (old.power, book.power, _leaders(problem.zones.power_group, cells)),
        (old.heat, book.heat, _leaders(problem.zones.heat_group, cells)),
        (old.wanted, book.wanted, {name: row for row, name in enumerate(wants)}),
    ):
        for name, row in places.items():
            if name in told:
                rows[row] = told[name]
    moved = shifted(old, book.edges_h, problem.edges_h, elapsed_h)
    zones = problem.zones
    return Prices(
        gpu=moved.gpu,
        power=np.where(np.isfinite(zones.power_kw), moved.power, 0.0),
        heat=np.where(np.isfinite(zones.heat_kw), moved.heat, 0.0),
        wanted=moved.wanted,
    )


def _leaders(group: IntArray, cells: Sequence[str]) -> dict[str, int]:
    """Return the rows of groups by the first cell of each."""
    found: dict[str, int] = {}
    for zone, row in enumerate(group):
        if row >= 0 and int(row) not in found.values():
            found[cells[zone]] = int(row)
    return found
