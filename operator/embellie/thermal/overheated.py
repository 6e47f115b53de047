# SPDX-License-Identifier: Apache-2.0
"""How much heat may come back to a zone that overheated: little more than it was seen to carry since. Pure.

Something changed there that its model does not know yet (a fan, a filter, a door), so what is admitted by reckoning
would only drive it over its mark again, and the answer would flap.
"""

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

_WORST = 1.135
"""Worst-case heat over the same heat as it is measured."""
_MORE = 1.1
"""At most so much more heat at a time than was carried."""
_COUNTS_FOR = timedelta(hours=1)
"""So long after the ladder let go and the zone was last over its leave mark; by then its model knows better."""
_SHOWS_S = 300.0
"""More heat takes so long to show in the temperature [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overheated:
    """What was seen of a zone since it passed its enter mark."""

    carried_kw: float | None = None
    """Most heat that it carried under its leave mark since without warming, and what may be added [kW]; None: it did
    not yet."""
    seen: datetime
    until: datetime
    """Until when it counts."""

    @property
    def proven_kw(self) -> float | None:
        """Most worst-case heat that may be there [kW]."""
        return None if self.carried_kw is None else _WORST * self.carried_kw


def felt_heat(
    known: Overheated | None,
    heat_kw: float,
    supply_c: float | None,
    now: datetime,
    *,
    over: bool,
    cool: bool,
    rises: bool,
    held: bool,
    hottest_c: float,
    leave_c: float,
) -> Overheated | None:
    """Take in one fresh reading; return what counts from now on, None where nothing does.

    Args:
        known: What counted before.
        heat_kw: Heat that the zone makes [kW].
        supply_c: What the cooling delivers [degC]; None where nobody knows.
        now: The present.
        over: Whether the zone stands at its enter mark, or one that its heat may reach has just passed its own.
        cool: Whether it stands under its leave mark.
        rises: Whether it warms.
        held: Whether the ladder still holds it back, or a zone that its heat may reach.
        hottest_c: The hottest that it read in the last minutes: one reading may be low by a step of its sensor [degC].
        leave_c: Its leave mark, where it may stand with what is added [degC].
    """
    if over:
        return Overheated(seen=now, until=now + _COUNTS_FOR)
    if known is None:
        return None
    if not held and now >= known.until:
        return None
    carried = known.carried_kw
    if cool and not rises:
        share = 1.0 - math.exp(-max(0.0, (now - known.seen).total_seconds()) / _SHOWS_S)
        may_kw = heat_kw * _more(supply_c, hottest_c, leave_c)
        carried = may_kw if carried is None else carried + share * max(0.0, may_kw - carried)
    return replace(known, carried_kw=carried, seen=now, until=now + _COUNTS_FOR if held or not cool else known.until)


def _more(supply_c: float | None, hottest_c: float, leave_c: float) -> float:
    """Return by what factor heat may grow: by none at the leave mark.

    Where cooling is short a zone stands over its supply by about the square of its heat: fans turn up, and more of what
    they move is hot air that nobody carried off.
    """
    if supply_c is None or hottest_c <= supply_c:
        return _MORE
    return min(_MORE, math.sqrt(max(1.0, (leave_c - supply_c) / (hottest_c - supply_c))))
