# SPDX-License-Identifier: Apache-2.0
"""What every rule of the judge is given, and what it answers."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from embellie_testbed.soak.spells import Part, Spell, after_undisturbed, undisturbed_s
from embellie_testbed.soak.trail import Trail


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """With what the product was started, and how much later than promised is not yet told as a fault [s]."""

    max_limit_hold_s: float
    dead_man_s: float
    release_s: float
    longest_delay_s: float
    """The longest wait that any policy of the soak allows."""
    tolerance_s: float = 15.0
    """For a machine that is slower than the soak notices; counted in time that nothing was disturbed."""
    uninstalled_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A promise that was not kept, and the writes that show it."""

    promise: str
    says: str
    shown_by: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"VIOLATED: {self.promise}: {self.says}", *(f"    {line}" for line in self.shown_by)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is judged."""

    trail: Trail
    spells: tuple[Spell, ...]
    terms: Terms

    def undisturbed_s(self, parts: Collection[Part], begin: datetime, end: datetime) -> float:
        """Return how much of the time between two instants none of the parts was disturbed [s]."""
        return undisturbed_s(self.spells, parts, begin, end)

    def after(self, parts: Collection[Part], begin: datetime, seconds: float) -> datetime:
        """Return when so much undisturbed time has passed since `begin`."""
        return after_undisturbed(self.spells, parts, begin, seconds)


Rule: TypeAlias = Callable[[Case], Iterator[Violation]]
