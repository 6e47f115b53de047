# SPDX-License-Identifier: Apache-2.0
"""Whether all work that is known could still start in time if nobody began now: the guard before any hold. Pure.

Being held costs nothing as long as everybody still fits before the bound. So the work that is known is listed in order
of its latest start and given GPUs one after the other, as if nothing began before the next look. Where the list starts
somebody too late, slack has run out: that job and all before it in the list must not wait any longer.
"""

import heapq

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.planning.problem import BoolArray

_EPS = 1e-9


def out_of_slack(
    *,
    gpus: FloatArray,
    hours: FloatArray,
    latest_h: FloatArray,
    capacity_gpus: float,
    busy_gpus: FloatArray,
    busy_h: FloatArray,
    begin_h: float,
) -> BoolArray:
    """Return which jobs must start as soon as there is room, shape (jobs,).

    The list does not let a small job overtake a large one, so it errs on the side of starting. A job that is larger
    than the capacity is left out.

    Args:
        gpus: Of each gang.
        hours: How long each may take; a quantile, not the mean, where it is not known [h].
        latest_h: Latest start of each, from now [h].
        capacity_gpus: GPUs in all.
        busy_gpus: GPUs of each run that goes on, shape (runs,).
        busy_h: When each of those may have ended, from now [h].
        begin_h: When the next look is: nothing begins before [h].

    >>> told = {"gpus": np.ones(2), "hours": np.ones(2), "capacity_gpus": 1.0, "begin_h": 1.0}
    >>> none = {"busy_gpus": np.zeros(0), "busy_h": np.zeros(0)}
    >>> out_of_slack(latest_h=np.array([1.0, 2.0]), **told, **none).tolist()
    [False, False]
    >>> out_of_slack(latest_h=np.array([1.0, 1.5]), **told, **none).tolist()
    [True, True]
    """
    must = np.zeros(gpus.size, dtype=bool)
    order = np.lexsort((np.arange(gpus.size), latest_h))
    order = order[gpus[order] <= capacity_gpus + _EPS]
    ends = list(zip(busy_h.tolist(), busy_gpus.tolist(), strict=True))
    heapq.heapify(ends)
    free, now, late = capacity_gpus - float(busy_gpus.sum()), begin_h, -1
    columns = (gpus[order].tolist(), hours[order].tolist(), latest_h[order].tolist())
    for rank, (need, length, latest) in enumerate(zip(*columns, strict=True)):
        while free < need - _EPS and ends:
            end, given = heapq.heappop(ends)
            now, free = max(now, end), free + given
        if now > latest + _EPS:
            late = rank
        free -= need
        heapq.heappush(ends, (now + length, need))
    must[order[: late + 1]] = True
    return must
