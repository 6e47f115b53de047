# SPDX-License-Identifier: Apache-2.0
"""Giving jobs their places in turn: building a plan, filling what is left, and passes in which every job may move.

Jobs are looked at in batches against the room that is left, and take their places one after the other; whoever finds
its place just taken looks again with the next batch. Who finds that others have just changed what its power is worth
looks again by itself.
"""

from collections.abc import Callable

import numpy as np

from embellie.planning.solving.place import Placer
from embellie.planning.solving.problem import IntArray, Place
from embellie.planning.solving.room import Room

_CHUNK, _SWEEP_CHUNK = 256, 64
_MOST_SINGLY = 512
"""So many jobs of a pass look again by themselves, then what they chose stands: a pass must end."""
_SAME_WORTH = 1e-6
"""Smaller differences of what a place earns are rounding."""


def build(placer: Placer, order: IntArray, stop: Callable[[], bool]) -> tuple[Room, list[Place | None]]:
    """Place all jobs in this order, each at its cheapest free place; what finds none gets none."""
    room = Room(placer.c)
    places: list[Place | None] = [None] * placer.c.problem.jobs.count
    fill(placer, room, places, order, stop)
    return room, places


def fill(
    placer: Placer, room: Room, places: list[Place | None], order: IntArray, stop: Callable[[], bool] = lambda: False
) -> None:
    """Place these jobs in what is left."""
    again: list[int] = []
    position, singly = 0, 0
    while (position < order.size or again) and not stop():
        fresh = order[position : position + max(0, _CHUNK - len(again))]
        position += fresh.size
        batch = np.concatenate([np.array(again, dtype=np.int64), fresh])
        again = []
        for job, chosen in zip(batch.tolist(), placer.choose(room, batch), strict=True):
            place = chosen
            if place is not None and singly < _MOST_SINGLY and placer.earned(room, place) < place.earned - _SAME_WORTH:
                singly += 1
                place = placer.choose(room, np.array([job]))[0]
            if place is None:
                continue
            if placer.fits(room, place):
                placer.take(room, place)
                places[job] = place
            else:
                again.append(job)


def sweep(placer: Placer, room: Room, places: list[Place | None], order: IntArray, stop: Callable[[], bool]) -> int:
    """Let each job move to its cheapest free place; return how many moved. Nothing loses a place."""
    moved, singly = 0, 0
    for first in range(0, order.size, _SWEEP_CHUNK):
        if stop():
            break
        batch = order[first : first + _SWEEP_CHUNK]
        earned = [placer.earned(room, old, own=True) if (old := places[job]) is not None else 0.0 for job in batch]
        for job, worth, chosen in zip(batch.tolist(), earned, placer.choose(room, batch, places), strict=True):
            place, old = chosen, places[job]
            if place is None or (old is not None and _same(old, place)):
                continue
            if singly < _MOST_SINGLY and _worth_changed(placer, room, place, old, worth):
                singly += 1
                place = placer.choose(room, np.array([job]), places)[0]
                if place is None or (old is not None and _same(old, place)):
                    continue
            if old is not None:
                placer.take(room, old, -1)
            if placer.fits(room, place):
                placer.take(room, place)
                places[job] = place
                moved += 1
            elif old is not None:
                placer.take(room, old)
    return moved


def _worth_changed(placer: Placer, room: Room, place: Place, old: Place | None, earned: float) -> bool:
    """Return whether others have changed since what a move earns: what it goes for is given, or its own is needed."""
    if not placer.c.wants:
        return False
    if old is None:
        return placer.earned(room, place) < place.earned - _SAME_WORTH
    placer.take(room, old, -1)
    changed = placer.earned(room, place) < place.earned - _SAME_WORTH or placer.earned(room, old) > earned + _SAME_WORTH
    placer.take(room, old)
    return changed


def _same(one: Place, other: Place) -> bool:
    if one.option != other.option or one.zone != other.zone:
        return False
    if isinstance(one.where, slice) or isinstance(other.where, slice):
        return isinstance(one.where, slice) and one.where == other.where
    return np.array_equal(one.where, other.where)
