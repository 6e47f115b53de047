# SPDX-License-Identifier: Apache-2.0
"""What the soak itself disturbed, and for how long: the time that no promise can be held against."""

import json
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

SETTLE_S = 20.0
"""How long the docs allow another replica, or one that was started again, to take over [s]."""


class Part(StrEnum):
    """What can be disturbed."""

    OPERATOR = "operator"
    """It was disturbed, and may be settling still."""
    GONE = "no operator"
    """No operator could act, so that the watchdog has to."""
    WATCHDOG = "watchdog"
    API = "api"
    """The API server, etcd, or the machine that all of it runs on."""
    LIMIT = "limit"
    """Sensors or meters stand over a hard limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell:
    """One part was disturbed from one instant to another."""

    part: Part
    begin: datetime
    end: datetime
    why: str


class Journal:
    """Gathers spells, from several threads; what is still under way ends with the soak."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spells: list[Spell] = []

    @contextmanager
    def spell(self, why: str, *parts: Part, settle_s: float = SETTLE_S) -> Iterator[None]:
        """Write down that parts are disturbed as long as the block takes, and the time they take to settle."""
        begin = now()
        try:
            yield
        finally:
            self.add(why, *parts, begin=begin, end=now() + timedelta(seconds=settle_s))

    def add(self, why: str, *parts: Part, begin: datetime, end: datetime) -> None:
        """Write down what has ended already."""
        with self._lock:
            self._spells += [Spell(part=part, begin=begin, end=end, why=why) for part in parts]

    def spells(self) -> tuple[Spell, ...]:
        """Return all of them, by their beginning."""
        with self._lock:
            return tuple(sorted(self._spells, key=lambda spell: spell.begin))


def write_spells(path: Path, spells: Iterable[Spell]) -> None:
    """Keep spells beside the audit log, so that it can be judged again."""
    path.write_text(json.dumps([asdict(spell) for spell in spells], default=str, indent=1), encoding="utf-8")


def read_spells(path: Path) -> tuple[Spell, ...]:
    """Return spells that were kept."""
    return tuple(
        Spell(
            part=Part(each["part"]),
            begin=datetime.fromisoformat(each["begin"]),
            end=datetime.fromisoformat(each["end"]),
            why=each["why"],
        )
        for each in json.loads(path.read_text(encoding="utf-8"))
    )


def undisturbed_s(spells: Iterable[Spell], parts: Collection[Part], begin: datetime, end: datetime) -> float:
    """Return how much of the time between two instants none of the parts was disturbed [s]."""
    total, free_from = 0.0, begin
    for spell in sorted((s for s in spells if s.part in parts and s.end > begin), key=lambda s: s.begin):
        if spell.begin >= end:
            break
        total += max(0.0, (spell.begin - free_from).total_seconds())
        free_from = max(free_from, spell.end)
    return total + max(0.0, (end - free_from).total_seconds())


def after_undisturbed(spells: Iterable[Spell], parts: Collection[Part], begin: datetime, seconds: float) -> datetime:
    """Return the instant at which so much undisturbed time has passed since `begin`."""
    at = begin
    for spell in sorted((s for s in spells if s.part in parts and s.end > begin), key=lambda s: s.begin):
        free_s = (spell.begin - at).total_seconds()
        if free_s >= seconds:
            break
        seconds -= max(0.0, free_s)
        at = max(at, spell.end)
    return at + timedelta(seconds=seconds)


def now() -> datetime:
    """Return the wall clock, which is the API server's too."""
    return datetime.now(UTC)
