# SPDX-License-Identifier: Apache-2.0
"""Whether all work that is known could still start in time if nobody began now: the guard before any hold. Pure.

Being held costs nothing as long as everybody still fits before the bound. So the work that is known is listed in order
of its latest start and given GPUs one after the other, as if nothing began before the next look. Where the list starts
somebody too late, slack has run out: that job and all before it in the list must not wait any longer.

Where there is more work than can start in time whatever is done, the fewest are late if the largest give way (Moore's
rule for one machine, Management Science 15, 1968, here for a pool of GPUs).
"""

import heapq
from dataclasses import dataclass, replace

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.planning.solving.problem import BoolArray, IntArray

KEPT, KEPT_PAUSABLE = 0.4, 0.2
"""Part of every bound that is kept for work that nobody knows of yet: of work that must run in one piece, and of work
that may pause, which can still make room for others."""
_EPS = 1e-9
_LEAST_H = 1.0
"""Who starts just before a late one, or is it, counts as so long in its way: more GPUs still weigh more [h]."""
_MOST_LISTED, _MOST_LISTS = 20_000, 24
"""Jobs that are listed at most to find who gives way, over all the lists that are made for it; and lists."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Queue:
    """Work that waits for GPUs, and what it waits for."""

    gpus: FloatArray
    """Of each gang, shape (jobs,); one that is larger than the capacity is left out of the list."""
    hours: FloatArray
    """How long each may take; a quantile, not the mean, where it is not known, shape (jobs,) [h]."""
    capacity_gpus: float
    busy_gpus: FloatArray
    """GPUs of each run that goes on, shape (runs,)."""
    busy_h: FloatArray
    """When each of those may have ended, from now, shape (runs,) [h]."""

    def only(self, rows: IntArray) -> "Queue":
        """Return the queue of some of the jobs, beside the same runs."""
        return replace(self, gpus=self.gpus[rows], hours=self.hours[rows])

    def listed(self, latest_h: FloatArray) -> IntArray:
        """Return the jobs in the order of their latest start, without those that never fit."""
        order = np.lexsort((np.arange(self.gpus.size), latest_h))
        return order[self.gpus[order] <= self.capacity_gpus + _EPS]

    def starts(self, order: IntArray, begin_h: float) -> FloatArray:
        """Return when jobs start that get GPUs in this order, none before the one ahead of it, shape (listed,) [h]."""
        ends = list(zip(self.busy_h.tolist(), self.busy_gpus.tolist(), strict=True))
        heapq.heapify(ends)
        free, now = self.capacity_gpus - float(self.busy_gpus.sum()), begin_h
        starts = []
        for need, length in zip(self.gpus[order].tolist(), self.hours[order].tolist(), strict=True):
            while free < need - _EPS and ends:
                end, given = heapq.heappop(ends)
                now, free = max(now, end), free + given
            free -= need
            heapq.heappush(ends, (now + length, need))
            starts.append(now)
        return np.array(starts, dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Slack:
    """How much waiting the list leaves."""

    must_start: BoolArray
    """Which jobs must start as soon as there is room, shape (jobs,)."""
    taken: float
    """What part of its slack the list takes from whom it takes most, 0 to 1."""


def slack_of(queue: Queue, latest_h: FloatArray, begin_h: float) -> Slack:
    """Return who must start, and how near that is for the others.

    The list does not let a small job overtake a large one, so it errs on the side of starting.

    Args:
        queue: The work.
        latest_h: Latest start of each, from now, what is kept of its bound taken off, shape (jobs,) [h].
        begin_h: When the next look is: nothing begins before [h].

    >>> none = np.zeros(0)
    >>> two = Queue(gpus=np.ones(2), hours=np.ones(2), capacity_gpus=1.0, busy_gpus=none, busy_h=none)
    >>> slack_of(two, np.array([1.0, 2.0]), 1.0).must_start.tolist()
    [False, False]
    >>> slack_of(two, np.array([1.0, 1.5]), 1.0).must_start.tolist()
    [True, True]
    >>> slack_of(two, np.array([1.0, 5.0]), 1.0).taken
    0.25
    """
    order = queue.listed(latest_h)
    starts, latest = queue.starts(order, begin_h), latest_h[order]
    must = np.zeros(queue.gpus.size, dtype=bool)
    late = np.flatnonzero(starts > latest + _EPS)
    if late.size:
        must[order[: late[-1] + 1]] = True
    taken = np.clip((starts - begin_h) / np.maximum(latest - begin_h, _EPS), 0.0, 1.0)
    return Slack(must, float(taken.max(initial=0.0)))


def give_way(queue: Queue, latest_h: FloatArray) -> BoolArray:
    """Return who goes last so that few are late, where all begin as soon as they can, shape (jobs,).

    Of those that come before the first late one in the list the largest are taken out until the rest of them fits; then
    the list is made again. A job is as large as the GPU-hours that it would take before that late one must start, since
    what it takes later is not in its way; of equals, as all its GPU-hours.

    Args:
        queue: The work.
        latest_h: Latest start of each, from now, shape (jobs,) [h].

    >>> none = np.zeros(0)
    >>> jobs = Queue(
    ...     gpus=np.ones(3), hours=np.array([9.0, 1.0, 1.0]), capacity_gpus=1.0, busy_gpus=none, busy_h=none
    ... )
    >>> give_way(jobs, np.array([0.0, 1.0, 2.0])).tolist()
    [True, False, False]
    """
    last = np.zeros(queue.gpus.size, dtype=bool)
    order, whole = queue.listed(latest_h), queue.gpus * queue.hours
    for _ in range(max(1, min(_MOST_LISTS, _MOST_LISTED // max(1, order.size)))):
        order = order[~last[order]]
        starts = queue.starts(order, 0.0)
        late = np.flatnonzero(starts > latest_h[order] + _EPS)
        if not late.size:
            break
        before, first = order[: late[0] + 1], late[0]
        until_h = latest_h[before[-1]]
        in_the_way = queue.gpus[before] * np.clip(until_h - starts[: first + 1], _LEAST_H, queue.hours[before])
        largest = before[np.lexsort((-whole[before], -in_the_way))]
        over = (starts[first] - until_h) * queue.capacity_gpus
        last[largest[: 1 + int(np.searchsorted(np.cumsum(whole[largest]), over))]] = True
    return last
