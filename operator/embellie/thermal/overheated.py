# SPDX-License-Identifier: Apache-2.0
"""How much heat may come back to a zone that overheated: little more than it was seen to carry since. Pure.

Something changed there that its model does not know yet (a fan, a filter, a door), so what is admitted by reckoning
would only drive it over its mark again, and the answer would flap. What it carried while its neighbours rested proves
nothing of what it carries beside them, so it is proven together with their heat; less of any of it is proven too.

A zone that nobody filled since teaches its model nothing: it is believed again once it carried what overheated it. An
hour after it is cool steps may be larger, so that gangs which fit no small one come back too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

_WORST = 1.135
"""Worst-case heat over the same heat as it is measured."""
_MORE = 1.1
"""At most so much more heat at a time than was carried, for the first hour."""
_COUNTS_FOR = timedelta(hours=1)
"""It counts at least so long after the ladder let go and the zone was last over its leave mark."""
_FORGOTTEN = timedelta(days=1)
"""So long after that nothing counts, though the zone was never asked to carry as much again."""
_SHOWS = timedelta(minutes=5)
"""More heat takes so long to show in the temperature."""
_KEPT = 32
"""So many that none of the others holds are kept, the newest."""
Heats = Mapping[str, float]
"""Heat of a zone and of each of its neighbours, by name [kW]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overheated:
    """What was seen of a zone since it passed its enter mark."""

    carried_kw: tuple[Heats, ...] = ()
    """What it carried under its leave mark without warming, and what may be added; none of them within another."""
    bears_kw: Heats | None = None
    """The least heat since it is under its leave mark, or since the last that it carried; None: it is over it."""
    bears_since: datetime | None = None
    overheated_kw: Heats
    """The most heat while it stood at its enter mark."""
    until: datetime
    """Until when it counts in any case."""

    @property
    def carries_it(self) -> bool:
        """Whether it carried what overheated it."""
        return any(_within(self.overheated_kw, heats) for heats in self.carried_kw)

    @property
    def proven_kw(self) -> tuple[Heats, ...]:
        """Worst-case heat that may be there: what it carried, or bears until then; nothing while it is too warm."""
        carried_kw = self.carried_kw or (() if self.bears_kw is None else (self.bears_kw,))
        return tuple(_times(_WORST, heats) for heats in carried_kw)


def felt_heat(
    known: Overheated | None,
    heat_kw: Heats,
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
        heat_kw: Heat that the zone makes, and its neighbours.
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
        before_kw = {} if known is None else known.overheated_kw
        most_kw = {name: max(kw, before_kw.get(name, kw)) for name, kw in heat_kw.items()}
        return Overheated(overheated_kw=most_kw, until=now + _COUNTS_FOR)
    if known is None:
        return None
    long_cool = not held and now >= known.until
    if long_cool and (known.carries_it or now >= known.until + _FORGOTTEN):
        return None
    found = replace(known, until=now + _COUNTS_FOR if held or not cool else known.until)
    if not cool:
        return replace(found, bears_kw=None, bears_since=None)
    if known.bears_kw is None or known.bears_since is None:
        return replace(found, bears_kw=heat_kw, bears_since=now)
    bears_kw = {name: min(kw, known.bears_kw.get(name, kw)) for name, kw in heat_kw.items()}
    if rises or now - known.bears_since < _SHOWS:
        return replace(found, bears_kw=bears_kw)
    more = _more(supply_c, hottest_c, leave_c, math.inf if long_cool else _MORE)
    carried = _with(known.carried_kw, _times(more, bears_kw))
    return replace(found, carried_kw=carried, bears_kw=heat_kw, bears_since=now)


def _times(factor: float, heat_kw: Heats) -> Heats:
    return {name: factor * kw for name, kw in heat_kw.items()}


def _with(carried_kw: tuple[Heats, ...], more_kw: Heats) -> tuple[Heats, ...]:
    if any(_within(more_kw, heats) for heats in carried_kw):
        return carried_kw
    return (*(heats for heats in carried_kw if not _within(heats, more_kw)), more_kw)[-_KEPT:]


def _within(heat_kw: Heats, most_kw: Heats) -> bool:
    return all(heat_kw.get(name, math.inf) <= most for name, most in most_kw.items())


def _more(supply_c: float | None, hottest_c: float, leave_c: float, most: float) -> float:
    """Return by what factor heat may grow, at most by `most`: by none at the leave mark.

    Where cooling is short a zone stands over its supply by about the square of its heat: fans turn up, and more of what
    they move is hot air that nobody carried off.
    """
    if supply_c is None or hottest_c <= supply_c:
        return _MORE
    return min(most, math.sqrt(max(1.0, (leave_c - supply_c) / (hottest_c - supply_c))))
