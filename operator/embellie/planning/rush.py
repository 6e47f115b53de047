# SPDX-License-Identifier: Apache-2.0
"""The guard of a turn: which workloads must not wait for cleaner hours, because room before their bounds runs short.

Work that may start in some cells only must find its room there. So the list of `slack` is made for each set of cells
that is all that some work may use, with the work that is confined to it, and for all cells together.

The list adds many runs up, some shorter and some longer than expected: each counts with its expected length (P50), and
a part of every bound is kept besides.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.domain.limits import heat_room_now
from embellie.domain.power_orders import PowerOrder, limit_at
from embellie.domain.snapshot import GridZoneState, Snapshot, Workload, WorkloadKey
from embellie.planning.slack import KEPT, Queue, give_way, slack_of
from embellie.planning.solving.problem import IntArray

_MOST_POOLS = 8
_EPS = 1e-9


def pressing(snapshot: Snapshot, soon_h: float) -> list[WorkloadKey]:
    """Return which held workloads must start as soon as there is room, those first that go first.

    Args:
        snapshot: What is.
        soon_h: Until when nobody would start if they were held: the length of the plan's slots [h].
    """
    # In an order that does not depend on the input's, so that equal snapshots give equal plans.
    workloads = sorted((w for w in snapshot.workloads if w.enforced), key=_order)
    found: dict[WorkloadKey, bool] = {}
    if not workloads:
        return []
    told = _Columns(snapshot, workloads)
    for cells in _pools(snapshot, workloads):
        rows = np.array([i for i, w in enumerate(workloads) if w.allowed_cells <= cells], dtype=np.int64)
        queue = _queue(snapshot, cells, told, rows)
        latest_h = told.latest_h[rows]
        must = slack_of(queue, np.maximum(latest_h - KEPT * told.allowed_h[rows], soon_h), soon_h).must_start
        if not must.any():
            continue
        last = give_way(queue, np.maximum(latest_h, 0.0))
        for i in np.flatnonzero(must):
            key = workloads[int(rows[i])].key
            found[key] = found.get(key, False) or bool(last[i])
    ranked = [w.key for w in workloads if w.key in found]
    return sorted(ranked, key=lambda key: found[key])


def _order(w: Workload) -> tuple[datetime, datetime, WorkloadKey]:
    return w.latest_start, w.created_at, w.key


class _Columns:
    """Workloads as arrays; times in hours from now."""

    def __init__(self, snapshot: Snapshot, workloads: Sequence[Workload]) -> None:
        now = snapshot.now
        self.gpus: FloatArray = np.array([w.gpus for w in workloads], dtype=np.float64)
        self.hours: FloatArray = np.array([w.duration_p50_s / 3600.0 for w in workloads])
        self.latest_h: FloatArray = np.array([(w.latest_start - now).total_seconds() / 3600.0 for w in workloads])
        self.allowed_h: FloatArray = np.array(
            [max(0.0, (w.latest_start - w.created_at).total_seconds() / 3600.0) for w in workloads]
        )
        gpus = float(self.gpus.sum())
        self.kw_per_gpu = math.fsum(w.worst_power_kw for w in workloads) / gpus if gpus > 0.0 else 0.0


def _pools(snapshot: Snapshot, workloads: Iterable[Workload]) -> list[frozenset[str]]:
    """Return all cells, and the smaller sets that most work is confined to."""
    everywhere = frozenset(cell.name for cell in snapshot.cells)
    count: dict[frozenset[str], int] = {}
    for w in workloads:
        count[w.allowed_cells] = count.get(w.allowed_cells, 0) + 1
    smaller = {cells & everywhere for cells in count} - {everywhere, frozenset()}
    ranked = sorted(smaller, key=lambda cells: (-count.get(cells, 0), sorted(cells)))
    return [everywhere, *ranked[:_MOST_POOLS]]


def _queue(snapshot: Snapshot, cells: frozenset[str], told: _Columns, rows: IntArray) -> Queue:
    running = [gang for gang in snapshot.running if gang.cell in cells]
    lifted = sorted({order.ends for zone in snapshot.grid_zones for order in _present(zone, snapshot.now)})
    rooms = [_room(snapshot, cells, told.kw_per_gpu, at) for at in (snapshot.now, *lifted)]
    ends = [*(gang.expected_end_p50 for gang in running), *lifted]
    return Queue(
        gpus=told.gpus[rows],
        hours=told.hours[rows],
        capacity_gpus=rooms[-1],
        # What an order takes away comes back at its end, like what a run has.
        busy_gpus=np.array([*(gang.gpus for gang in running), *np.diff(rooms)], dtype=np.float64),
        busy_h=np.array([max(0.0, (end - snapshot.now).total_seconds() / 3600.0) for end in ends], dtype=np.float64),
    )


def _present(zone: GridZoneState, now: datetime) -> list[PowerOrder]:
    return [order for order in zone.orders if order.holds(now)]


def _room(snapshot: Snapshot, cells: frozenset[str], kw_per_gpu: float, at: datetime) -> float:
    """Return how many GPUs work may have in these cells in all, by their number, contracts and cooling [GPUs].

    Of the orders those count that hold now, each until its end, so that there is never less at a later `at`.
    """
    mine = sorted((cell for cell in snapshot.cells if cell.name in cells), key=lambda cell: cell.name)
    gpus = {cell.name: float(cell.gpus_free) for cell in mine}
    for gang in snapshot.running:
        if gang.cell in gpus:
            gpus[gang.cell] += gang.gpus
    pue = {cell.grid_zone: cell.pue for cell in mine}
    power_kw = {
        zone.name: (limit_at(zone.contracted_power_kw, _present(zone, snapshot.now), at) - zone.base_power_kw)
        / pue[zone.name]
        for zone in snapshot.grid_zones
        if zone.name in pue
    }
    heat_kw = {zone.name: heat_room_now(zone).limit_kw - zone.base_power_kw for zone in snapshot.thermal_zones}
    return min(
        _within(gpus, {cell.name: cell.grid_zone for cell in mine}, power_kw, kw_per_gpu),
        _within(gpus, {cell.name: cell.thermal_zone or "" for cell in mine}, heat_kw, kw_per_gpu),
    )


def _within(
    gpus: Mapping[str, float], zone_of: Mapping[str, str], limit_kw: Mapping[str, float], kw_per_gpu: float
) -> float:
    """Return the GPUs of cells, in each zone no more than its limit feeds or cools."""
    inside: dict[str, float] = {}
    for cell, count in gpus.items():
        inside[zone_of[cell]] = inside.get(zone_of[cell], 0.0) + count
    if kw_per_gpu <= _EPS:
        return sum(inside.values())
    return sum(min(count, max(0.0, limit_kw.get(zone, math.inf)) / kw_per_gpu) for zone, count in inside.items())
