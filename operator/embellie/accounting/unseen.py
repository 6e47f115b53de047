# SPDX-License-Identifier: Apache-2.0
"""What work drew that no sample ever showed: it came and went while nobody scraped, or its labels were lost; pure.

Counters go on while nobody reads them. The cluster knows which work was on a node, so that what the GPUs drew that
nobody is seen to hold is that work's. Of several such gangs nobody knows which GPU each had: they share it by the
GPU-time that they reserved, and it counts as estimated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from embellie.accounting.known import Stay
from embellie.accounting.meters import J_PER_KWH
from embellie.domain.forecast import FloatArray


@dataclass(frozen=True, slots=True)
class Free:
    """A GPU that nobody was seen to hold over [start_s, end_s), and what it drew beyond its idle power [J]."""

    start_s: float
    end_s: float
    above_j: float


def unseen_kwh(
    free: Sequence[Free], stays: Mapping[str, Sequence[Stay]], edges_s: FloatArray, *, idle_w: float, most_w: float
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Return by gang what its GPUs on one node drew [kWh], idle draw included, and for how long [s], by stretch.

    Args:
        free: What the node's GPUs drew while nobody was seen to hold them.
        stays: Gang -> its stays on the node, of gangs that no sample shows there.
        edges_s: Edges of the stretches [s].
        idle_w: What a GPU draws without work [W].
        most_w: More than a GPU can draw [W].
    """
    free = [one for one in free if any(_held(mine, one.start_s, one.end_s) for mine in stays.values())]
    if not free:
        return {}
    moments = [(one.start_s, one.end_s) for one in free]
    moments += [(stay.start_s, stay.end_s) for mine in stays.values() for stay in mine]
    first, last = min(one.start_s for one in free), max(one.end_s for one in free)
    knots = np.unique(np.clip([*np.ravel(moments), *edges_s], first, last))
    length_s, middle = np.diff(knots), (knots[1:] + knots[:-1]) / 2.0
    seats = {uid: _seats(mine, middle) for uid, mine in stays.items()}
    all_seats = np.sum(list(seats.values()), axis=0)
    gpus, above_w = np.zeros_like(middle), np.zeros_like(middle)
    for one in free:
        inside = (one.start_s <= middle) & (middle < one.end_s)
        held_s = float((all_seats * length_s)[inside].sum())
        gpus += inside
        # Beyond its idle power it drew while work was there; below it, all the time.
        shared_s = held_s if one.above_j > 0.0 else one.end_s - one.start_s
        above_w += np.where(inside & (all_seats > 0.0), one.above_j / max(shared_s, 1e-9), 0.0)
    # Work cannot have had more GPUs than stood free.
    part = np.divide(np.minimum(gpus, all_seats), all_seats, out=np.zeros_like(middle), where=all_seats > 0.0)
    watts = np.clip(idle_w * part + above_w, 0.0, most_w * part)
    stretch = np.searchsorted(edges_s, middle, side="right") - 1
    inside = (stretch >= 0) & (stretch < edges_s.size - 1)
    found = {}
    for uid, mine in seats.items():
        kwh, there_s = np.zeros(edges_s.size - 1), np.zeros(edges_s.size - 1)
        np.add.at(kwh, stretch[inside], (mine * watts * length_s / J_PER_KWH)[inside])
        np.add.at(there_s, stretch[inside], (mine * part * length_s)[inside])
        if there_s.any():
            found[uid] = kwh, there_s
    return found


def _held(stays: Sequence[Stay], start_s: float, end_s: float) -> bool:
    return any(stay.start_s < end_s and stay.end_s > start_s for stay in stays)


def _seats(stays: Sequence[Stay], at_s: FloatArray) -> FloatArray:
    """Return how many GPUs stays reserve at instants."""
    seats = np.zeros_like(at_s)
    for stay in stays:
        seats += stay.gpus * ((stay.start_s <= at_s) & (at_s < stay.end_s))
    return seats
