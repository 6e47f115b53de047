# SPDX-License-Identifier: Apache-2.0
"""Searches over one job's waiting window, in ticks from the beginning of the slot that it arrives in.

`values` are the slots from that one on, `offset` the arrival inside it. Of equal choices the first is taken.
"""

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.simulation.whatif.axis import BoolArray, IntArray

_ROUNDING = 1e-12
"""Costs closer than this, relatively, are equal: cumulative sums round."""


class Window:
    """The intensity ahead of a job, ready to be summed between any ticks."""

    def __init__(self, values: FloatArray, ticks_per_slot: int) -> None:
        self.values = values
        self.per = ticks_per_slot
        self._sums = np.concatenate(([0.0], np.cumsum(values))) * ticks_per_slot

    def cost(self, start: IntArray, length: int) -> FloatArray:
        """Return the sum over `length` ticks from each start; past the last slot its value stands."""
        return self._integral(start + length) - self._integral(start)

    def _integral(self, tick: IntArray) -> FloatArray:
        slot = np.clip(tick // self.per, 0, self.values.size - 1)
        part: FloatArray = self._sums[slot] + (tick - slot * self.per) * self.values[slot]
        return part


def first_least(costs: FloatArray, allowed: BoolArray | None = None) -> int:
    """Return the first of the least costs, -1 where none is allowed."""
    found = costs if allowed is None else np.where(allowed, costs, np.inf)
    least = float(found.min())
    if not np.isfinite(least):
        return -1
    return int(np.argmax(found <= least + abs(least) * _ROUNDING))


def slot_starts(offset: int, wait: int, per: int) -> IntArray:
    """Return the arrival and every beginning of a slot within the waiting window, both ends in."""
    return np.concatenate(([offset], np.arange(per, offset + wait + 1, per))).astype(np.int64)


def hourly_starts(offset: int, wait: int, hour: int) -> IntArray:
    """Return the arrival and every whole hour after it within the waiting window, both ends in."""
    return offset + np.arange(0, wait + 1, hour, dtype=np.int64)


def exact_starts(offset: int, length: int, wait: int, per: int) -> IntArray:
    """Return all starts among which the cheapest run must be: its start or its end lies on a slot's edge."""
    begins = slot_starts(offset, wait, per)
    first_end = -(-(offset + length) // per) * per
    by_end = np.arange(first_end, offset + length + wait + 1, per, dtype=np.int64) - length
    return np.unique(np.concatenate((begins, by_end, [offset + wait])))


def cheapest_parts(
    window: Window, offset: int, length: int, wait: int, room: BoolArray | None = None
) -> list[tuple[int, int]]:
    """Return the `length` cheapest ticks of [offset, offset + length + wait) as parts, earlier ones first among equals.

    Slots without room are used only if the others do not suffice.
    """
    per, end = window.per, offset + length + wait
    n = -(-end // per)
    edges = np.arange(n + 1, dtype=np.int64) * per
    begins, ends = np.maximum(edges[:-1], offset), np.minimum(edges[1:], end)
    values = np.resize(window.values, n) if window.values.size < n else window.values[:n]
    full = np.zeros(n, dtype=bool) if room is None else ~np.resize(room, n)
    order = np.lexsort((np.arange(n), values, full))
    sizes = (ends - begins)[order]
    before = np.cumsum(sizes) - sizes
    take = np.clip(length - before, 0, sizes)
    used = np.zeros(n, dtype=np.int64)
    used[order] = take
    slots = np.flatnonzero(used)
    first = begins[slots]
    last = first + used[slots]
    apart = np.flatnonzero(first[1:] != last[:-1])
    heads, tails = np.concatenate(([0], apart + 1)), np.concatenate((apart, [slots.size - 1]))
    return list(zip(first[heads].tolist(), last[tails].tolist(), strict=True))


def quantile_of_ticks(window: Window, offset: int, length: int, level: float) -> float:
    """Return the quantile (linear) of the intensity over all ticks of [offset, offset + length)."""
    per, end = window.per, offset + length
    n = -(-end // per)
    edges = np.arange(n + 1, dtype=np.int64) * per
    counts = np.minimum(edges[1:], end) - np.maximum(edges[:-1], offset)
    values = np.resize(window.values, n) if window.values.size < n else window.values[:n]
    order = np.argsort(values, kind="stable")
    last = np.cumsum(counts[order]) - 1
    place = level * (length - 1)
    below, above = (values[order][np.searchsorted(last, tick)] for tick in (np.floor(place), np.ceil(place)))
    return float(below + (above - below) * (place - np.floor(place)))
