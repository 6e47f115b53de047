# SPDX-License-Identifier: Apache-2.0
"""How much heat a zone shall make when a ceiling, an order to cut and a heat network's floor ask for different things.

The limits of the machines come first and are not negotiable here. Among the rest the zone's own policy says who wins;
what loses is named with what it lost to.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from embellie.thermal.settings import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Two constraints that cannot both be met, and which one is kept."""

    kept: Side
    given_up: Side
    kept_kw: float
    given_up_kw: float

    def __str__(self) -> str:
        """Say it in a sentence."""
        return (
            f"{_WORDS[self.given_up]} {self.given_up_kw:.0f} kW and {_WORDS[self.kept]} {self.kept_kw:.0f} kW: "
            f"the policy keeps the {self.kept.lower()}"
        )


_WORDS = {
    Side.CEILING: "the heat-rejection ceiling allows",
    Side.ORDER: "the order to cut allows",
    Side.FLOOR: "the heat network is owed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The band in which a zone's heat shall lie [kW]."""

    at_most_kw: float
    at_least_kw: float
    conflicts: tuple[Conflict, ...] = ()


def reconcile(
    ceiling_kw: float | None, order_kw: float | None, floor_kw: float | None, prefer: Sequence[Side]
) -> Target:
    """Return the band that the constraints leave, in the order in which they are preferred.

    A floor is IT heat that must be made; ceiling and order are the most that may be. None: no such constraint.
    """
    asked = {Side.CEILING: ceiling_kw, Side.ORDER: order_kw, Side.FLOOR: floor_kw}
    ranked = [side for side in (*prefer, *(s for s in Side if s not in prefer)) if asked[side] is not None]
    most, least = float("inf"), 0.0
    most_by: Side | None = None
    least_by: Side | None = None
    conflicts: list[Conflict] = []
    for side in ranked:
        kw = asked[side]
        if kw is None:
            continue
        if side is Side.FLOOR:
            if kw > most and most_by is not None:
                conflicts.append(Conflict(kept=most_by, given_up=side, kept_kw=most, given_up_kw=kw))
            least, least_by = min(kw, most), side
        else:
            if kw < least and least_by is not None:
                conflicts.append(Conflict(kept=least_by, given_up=side, kept_kw=least, given_up_kw=kw))
            if max(kw, least) < most:
                most, most_by = max(kw, least), side
    return Target(at_most_kw=most, at_least_kw=least, conflicts=tuple(conflicts))
