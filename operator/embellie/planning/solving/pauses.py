# SPDX-License-Identifier: Apache-2.0
"""Work in parts where a pause is not free: few, long parts instead of the cheapest slots one by one."""

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.planning.solving.problem import BoolArray, IntArray

_SMOOTHING = (1, 2, 3, 6, 12)
_EPS_H = 1e-9


def parts_of(slots: IntArray) -> list[tuple[int, int]]:
    """Return the parts [first, after last) of rising slot numbers.

    >>> parts_of(np.array([1, 2, 5]))
    [(1, 3), (5, 6)]
    """
    breaks = np.flatnonzero(np.diff(slots) > 1)
    starts = [int(slots[0]), *(int(slots[i + 1]) for i in breaks)]
    ends = [*(int(slots[i]) + 1 for i in breaks), int(slots[-1]) + 1]
    return list(zip(starts, ends, strict=True))


def as_needed(slots: IntArray, hours: FloatArray, need_h: float) -> IntArray:
    """Return the first of these slots that together hold `need_h` hours: work ends once it is done.

    Where slots differ in length, the cheapest ones, put in order of time, can hold a whole slot too many.

    >>> as_needed(np.array([0, 1]), np.array([1.0, 0.25]), 0.5)
    array([0])
    """
    done = np.cumsum(hours[slots])
    return slots[: int(np.searchsorted(done, need_h - _EPS_H)) + 1]


def cheapest_parts(
    price: FloatArray, ok: BoolArray, pause: FloatArray, hours: FloatArray, need_h: float, min_run_h: float
) -> tuple[float, int, IntArray] | None:
    """Return (cost, zone, slots) of the best of few candidates; None where none keeps the minimum run.

    Candidates are the slots that are cheapest by prices smoothed over more and more slots, which makes parts longer
    and fewer, and the cheapest run without a pause. Each is valued at its real price with all its pauses.

    Args:
        price: Of each zone and slot, shape (Z, T).
        ok: Where there is room, shape (Z, T).
        pause: Cost of a pause that ends in a slot, shape (Z, T).
        hours: Of each slot, shape (T,).
        need_h: Work to be done [h].
        min_run_h: Least length of each part but the last [h].
    """
    best: tuple[float, int, IntArray] | None = None
    for zone in range(price.shape[0]):
        open_slots = np.flatnonzero(ok[zone])
        if open_slots.size == 0 or hours[open_slots].sum() < need_h - _EPS_H:
            continue
        for slots in _candidates(price[zone] / hours, ok[zone], open_slots, hours, need_h):
            parts = parts_of(slots)
            if any(hours[a:b].sum() < min_run_h - _EPS_H for a, b in parts[:-1]):
                continue
            used = hours[slots].copy()
            used[-1] -= max(0.0, float(used.sum()) - need_h)
            cost = float((price[zone][slots] / hours[slots] * used).sum())
            cost += float(sum(pause[zone][first] for first, _ in parts[1:]))
            if best is None or cost < best[0] - 1e-12:
                best = (cost, zone, slots)
    return best


def _candidates(
    rate: FloatArray, ok: BoolArray, open_slots: IntArray, hours: FloatArray, need_h: float
) -> list[IntArray]:
    found = []
    for width in _SMOOTHING:
        smooth = np.convolve(rate, np.ones(width) / width, mode="same")[open_slots]
        order = open_slots[np.argsort(smooth, kind="stable")]
        found.append(as_needed(np.sort(as_needed(order, hours, need_h)), hours, need_h))
    edges = np.concatenate([[0.0], np.cumsum(hours)])
    first = np.arange(rate.size)
    after = np.searchsorted(edges, edges[:-1] + need_h - _EPS_H)
    closed = np.concatenate([[0], np.cumsum(~ok)])
    inside = after <= rate.size
    free = inside & (closed[np.minimum(after, rate.size)] == closed[first])
    if free.any():
        paid = np.concatenate([[0.0], np.cumsum(np.where(ok, rate * hours, 0.0))])
        cost = np.where(free, paid[np.minimum(after, rate.size)] - paid[first], np.inf)
        start = int(cost.argmin())
        found.append(np.arange(start, int(after[start])))
    return found
