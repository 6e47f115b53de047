# SPDX-License-Identifier: Apache-2.0
"""Why a workload waits, once it is chosen when it starts: the row that binds, by the prices of the joint plan."""

import math
from datetime import datetime

import numpy as np

from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Workload
from embellie.planning.axis.scarcity import REASONS
from embellie.planning.axis.timegrid import NO_SAVING
from embellie.planning.axis.wants import LOW
from embellie.planning.ground import Ground, Starts, anywhere
from embellie.planning.solving.problem import Binding


def likely_start(ground: Ground, w: Workload, starts: Starts, row: int, start: int) -> datetime:
    """Return the latest open start that could still turn out as good as the planned one."""
    cell = starts.rows[row]
    low = starts.costs.low[starts.at, : starts.last + 1]
    if starts.on_site is not None:
        low = low - starts.on_site[LOW]
    if starts.warm:
        low = low - (starts.plain - starts.score)
    expected = float(starts.costs.mean[cell, start]) - starts.own(row, start) - starts.spared(row, start)
    could = anywhere((low <= expected) & starts.ok)
    last = could.shape[0] - 1 - int(could[::-1].argmax())
    return min(ground.grid.start(max(start, last)), w.latest_start)


def would_wait(ground: Ground, w: Workload, starts: Starts, now_row: int, planned: float) -> bool:
    """Return whether the scores alone would make it wait, and the planned start does save enough."""
    end, usual = ground.worth(w, starts.last), float(starts.plain[now_row, 0])
    if end <= 0 or usual <= 0.0:
        return False
    least = max(NO_SAVING, w.minimum_saving_percent / 100.0)
    later = max(planned, float(starts.score[:, : end + 1].min()))
    return 1.0 - (later + starts.spared(now_row, 0)) / usual >= least


def taken(ground: Ground, w: Workload, starts: Starts, planned: float) -> tuple[Reason, datetime] | None:
    """Return the row that keeps it from its own cleanest start, and when that is; None where it gets that one."""
    part = starts.plain[:, : ground.worth(w, starts.last) + 1]
    if ground.scarcity is None or planned <= float(part.min()) * (1.0 + NO_SAVING):
        return None
    own, column = np.unravel_index(int(part.argmin()), part.shape)
    row = ground.scarcity.binding(w, starts.rows[int(own)], int(column))
    if row is Binding.NONE:
        return None
    return REASONS[row], ground.grid.start(int(column))


def why_not_now(ground: Ground, w: Workload, row: int) -> Reason:
    """Return what keeps it from starting in a cell now: of all that is full the dearest, by the plan's prices."""
    first = ground.capacity.blocked_by(w, row)
    if ground.scarcity is None or first is Reason.SENSOR_UNTRUSTED:
        return first
    dear = REASONS[ground.scarcity.binding(w, row, 0)]
    return dear if dear in ground.capacity.all_blocking(w, row, 0) else first


def order_ends(ground: Ground, row: int, first: int) -> datetime | None:
    """Return when the order to a cell's grid zone ends that gives room at its first open start; None without one."""
    zone = ground.zones.get(ground.cells[row].grid_zone)
    ends = [order.ends for order in zone.orders] if zone is not None else []
    return max((end for end in ends if math.ceil(ground.grid.slots(end) - 1e-9) == first), default=None)


def given_to_others(ground: Ground, w: Workload, starts: Starts, start: int) -> int | None:
    """Return the first start at which there was room before this plan, where it went to a tenant that had less.

    Only where that tenant's work came later: what came earlier goes first whatever tenants had.
    """
    excess, rows = ground.standing.of(w.tenant), starts.rows
    if excess <= 0.0:
        return None
    later = [begin for key, (row, begin) in ground.proposed.items() if row in rows and ground.excess_of[key] < excess]
    if not later or min(later) >= start:
        return None
    before = anywhere(ground.at_first.open_starts(w, starts.last, rows)[rows])
    free = int(before.argmax())
    return free if before[free] and free < start and min(later) <= free else None
