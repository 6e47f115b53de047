# SPDX-License-Identifier: Apache-2.0
"""First come, first served: the plan of last resort, and the yardstick for jobs without a place."""

from collections.abc import Callable

import numpy as np

from embellie.planning.solving.place import Placer
from embellie.planning.solving.problem import BoolArray, Place
from embellie.planning.solving.room import Room, open_starts

_CHUNK = 64


def first_come(
    placer: Placer, stop: Callable[[], bool] = lambda: False, most: int | None = None
) -> tuple[Room, list[Place | None]]:
    """Return the room and places where each job, in the order of the input, starts as early as it can, without pauses.

    Jobs are looked at in batches, but served strictly one after the other: a place in an earlier zone or slot that has
    gone since is looked up again. Once so many as `most` have found none, nobody else is looked at.
    """
    c = placer.c
    room = Room(c)
    count = c.problem.jobs.count
    places: list[Place | None] = [None] * count
    option = np.searchsorted(c.job, np.arange(count))
    most = count if most is None else most
    for first in range(0, count, _CHUNK):
        if stop() or places[:first].count(None) >= most:
            break
        rows = option[first : first + _CHUNK]
        starts = open_starts(room, c, rows)
        for i, row in enumerate(rows):
            place = _earliest(placer, int(row), starts[i])
            while place is not None and not placer.fits(room, place):
                # Room only shrinks: what was closed stays closed, so only this start need be struck off.
                starts[i, place.zone, _first(place)] = False
                place = _earliest(placer, int(row), starts[i])
            if place is not None:
                placer.take(room, place)
                places[first + i] = place
    return room, places


def _earliest(placer: Placer, row: int, ok: BoolArray) -> Place | None:
    c = placer.c
    anywhere: BoolArray = np.logical_or.reduce(ok, axis=0)
    start = int(anywhere.argmax())
    if not anywhere[start]:
        return None
    end, limit_end = int(c.ends[c.length[row], start]), int(c.ends[c.limit_length[row], start])
    where, limit_where = slice(start, end), slice(start, limit_end)
    if c.pausable[row]:
        slots = np.arange(start, end)
        return Place(row, int(ok[:, start].argmax()), slots, slots, 0.0)
    return Place(row, int(ok[:, start].argmax()), where, limit_where, 0.0)


def _first(place: Place) -> int:
    return int(place.where.start) if isinstance(place.where, slice) else int(place.where[0])
