# SPDX-License-Identifier: Apache-2.0
"""The product's replay, first come first served, in which a planner holds what may wait.

Jobs that are not rigid are held at submission; each turn makes a snapshot, plans, shields and releases, with the
operator's own code. What is released then starts as all work does, in its cell.
"""

import heapq
from collections.abc import Callable, Sequence
from datetime import datetime

from embellie.domain.forecast import Forecast
from embellie.domain.plan import Action
from embellie.domain.snapshot import Flex
from embellie.planning import plan
from embellie.simulation import SimResult
from embellie.simulation.replay import SUBMIT, Replay
from embellie.thermal import shield
from planned.model import PlannedJob, PlannedSite
from planned.view import SiteView, perfect_forecast

ForecastAt = Callable[[str, datetime], Forecast | None]

_WAKE = SUBMIT + 1
"""The event that brings a turn."""


def simulate_planned(
    jobs: Sequence[PlannedJob], site: PlannedSite, *, turn_s: float = 900.0, forecast_at: ForecastAt | None = None
) -> SimResult:
    """Replay jobs on a site and return what ran when and where.

    Args:
        jobs: The trace, in any order; equal submission times are served by id.
        site: The cluster and its grids.
        turn_s: Time between two turns [s]; an arrival also brings a turn.
        forecast_at: What was known of a grid zone at a time; None gives perfect foresight, 48 hours ahead.
    """
    return _PlannedReplay(jobs, site, turn_s, forecast_at or perfect_forecast(site)).run()


class _PlannedReplay(Replay):
    def __init__(self, jobs: Sequence[PlannedJob], site: PlannedSite, turn_s: float, forecast_at: ForecastAt) -> None:
        super().__init__(jobs, site)
        self._told = {job.id: job for job in jobs}
        self._turn_s = turn_s
        self._view = SiteView(site, forecast_at, turn_s)
        self._held: dict[str, int] = {}
        self._came = False
        """Whether something was held since the last turn."""
        self._next_turn: float | None = None

    def submit(self, index: int) -> None:
        job = self.jobs[index]
        if job.flex is Flex.RIGID or not self.cells_for(job, job.allowed_cells):
            super().submit(index)
            return
        self._held[job.id] = index
        self._came = True

    def drain(self, now_s: float) -> None:
        super().drain(now_s)
        if self._held and (self._came or now_s == self._next_turn):
            self._turn(now_s)
            super().drain(now_s)
        self._came = False

    def _turn(self, now_s: float) -> None:
        now = self.moment(now_s)
        held = [self._told[name] for name in self._held]
        running = [
            (self._told[self.jobs[index].id], cell, self.moment(start_s))
            for index, (cell, start_s, _) in self.running.items()
        ]
        free = {name: pool.node_free_gpus for name, pool in self.pools.items()}
        snapshot = self._view.snapshot(now, held, running, free)
        for decision in shield(plan(snapshot), snapshot).decisions:
            if decision.action is Action.HOLD:
                continue
            index = self._held.pop(decision.key.name)
            job = self.jobs[index]
            cells = self.cells_for(job, frozenset({decision.cell}) if decision.cell else job.allowed_cells)
            self.enqueue(index, cells or self.cells_for(job, job.allowed_cells))
        if self._held and (self._next_turn is None or self._next_turn <= now_s):
            self._next_turn = now_s + self._turn_s
            heapq.heappush(self.events, (self._next_turn, _WAKE, -1))
