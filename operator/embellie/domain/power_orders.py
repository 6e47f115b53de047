# SPDX-License-Identifier: Apache-2.0
"""How much a grid zone may draw at which time: its contract, and orders to draw less for some hours. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from embellie.domain.forecast import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerOrder:
    """An order to draw no more than so much in [begins, ends)."""

    begins: datetime
    ends: datetime
    power_kw: float

    def holds(self, moment: datetime) -> bool:
        """Tell whether it holds at a moment."""
        return self.begins <= moment < self.ends


def limit_at(contract_kw: float | None, orders: Sequence[PowerOrder], moment: datetime) -> float:
    """Return the least limit that holds at a moment [kW]; infinite where none does."""
    contract = math.inf if contract_kw is None else contract_kw
    return min([contract, *(order.power_kw for order in orders if order.holds(moment))])


def current_or_next(orders: Sequence[PowerOrder], moment: datetime) -> PowerOrder | None:
    """Return the order that holds at a moment, the least of several, or else the one that begins next, if any."""
    holding = [order for order in orders if order.holds(moment)]
    if holding:
        return min(holding, key=lambda order: (order.power_kw, order.begins, order.ends))
    coming = [order for order in orders if moment < order.begins < order.ends]
    return min(coming, key=lambda order: (order.begins, order.power_kw, order.ends), default=None)


def least_limits_kw(
    contract_kw: float | None,
    orders: Sequence[PowerOrder],
    origin: datetime,
    begin_s: FloatArray,
    end_s: FloatArray,
) -> FloatArray:
    """Return the least limit that holds anywhere in each of some intervals [kW]; infinite where none does.

    Args:
        contract_kw: What holds always; None: nothing does.
        orders: What holds for a while.
        origin: Where the intervals are counted from.
        begin_s: Their beginnings, shape (intervals,) [s].
        end_s: Their ends, which are not part of them; one that is no later than its beginning means that instant [s].
    """
    least = np.full(begin_s.shape, np.inf if contract_kw is None else contract_kw)
    for order in orders:
        from_s, until_s = (order.begins - origin).total_seconds(), (order.ends - origin).total_seconds()
        holds = (begin_s < until_s) & ((from_s <= begin_s) | (from_s < end_s))
        least[holds] = np.minimum(least[holds], order.power_kw)
    return least
