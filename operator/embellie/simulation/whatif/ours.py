# SPDX-License-Identifier: Apache-2.0
"""The policy `embellie` where there are always enough GPUs: jobs do not compete, and each is best planned alone.

At prices of 0 the planner does just that: `planned` with a capacity that nobody reaches gives the same starts. It is
done here without the planner, since this knows the whole distribution of lengths and the very minute.
"""

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.simulation.whatif.ahead import Ahead
from embellie.simulation.whatif.axis import IntArray
from embellie.simulation.whatif.case import Case
from embellie.simulation.whatif.engine import Engine, EveryJob
from embellie.simulation.whatif.lengths import Law, Lengths
from embellie.simulation.whatif.waiting import PauseTable, pause_gain_known, start_gain, start_gain_known

WAIT_PRICE = 0.02
_MOST_GAIN = 1e9
_TABLE_H = 48.0
"""How far the dynamic programme looks ahead."""


class Embellie(EveryJob):
    """Runs or holds by the expected emissions of the rest of each job."""

    turns = True

    def __init__(self, case: Case, ahead: Ahead, lengths: Lengths, *, wait_price: float) -> None:
        """Prepare.

        Args:
            case: The replay.
            ahead: What is expected of the intensity.
            lengths: What is known of lengths.
            wait_price: What an hour of one job's wait must save, as a share of what a GPU-hour emits on average.
        """
        super().__init__(case.work.count)
        self._case, self._ahead, self._lengths = case, ahead, lengths
        axis, work = case.axis, case.work
        self._slot = -1
        self._costs = np.zeros(0)
        self._tables: dict[int, PauseTable] = {}
        self._laws: list[Law] = []
        kw_per_gpu = float(work.power_kw.sum() / work.gpus.sum()) or 1.0
        self._wait_cost = ahead.wait_price(wait_price) * axis.slot_h * kw_per_gpu / np.maximum(work.power_kw, 1e-9)
        # Prices of waiting by size class: one table serves them all.
        levels = np.round(np.log2(self._wait_cost / max(self._wait_cost.max(), 1e-12) + 1e-12)) if wait_price else None
        if levels is None:
            self._level_costs, self._level = np.zeros(1), np.zeros(work.count, dtype=np.int64)
        else:
            kinds, self._level = np.unique(levels, return_inverse=True)
            self._level_costs = np.array([self._wait_cost[self._level == i].mean() for i in range(kinds.size)])

    def arrive(self, job: int, now: int, engine: Engine) -> None:
        """Decide for the rest of this slot."""
        self._look(now)
        self._decide(np.array([job]), now, engine)

    def turn(self, now: int, engine: Engine) -> None:
        """Decide for everything that waits or may be paused."""
        self._look(now)
        self._decide(engine.active(), now, engine)

    def woken(self, job: int, now: int, engine: Engine) -> None:
        """Look again: the start that was best lies inside a slot, and has come."""
        if not engine.ever[job]:
            self.arrive(job, now, engine)

    def ended(self, job: int, now: int, engine: Engine) -> None:
        """Learn its length."""
        del now
        self._lengths.learn(job, int(engine.ran[job]))

    def _look(self, now: int) -> None:
        """Take in what is known at the beginning of this slot."""
        slot = now // self._case.axis.ticks_per_slot
        if slot == self._slot:
            return
        self._slot = slot
        # Kept alive with their tables, which are found by the law's identity.
        self._tables, self._laws = {}, []
        self._costs = self._ahead.costs(slot) * self._case.axis.slot_h

    def _decide(self, jobs: IntArray, now: int, engine: Engine) -> None:
        if jobs.size == 0:
            return
        per, work = self._case.axis.ticks_per_slot, self._case.work
        part = 1.0 - (now % per) / per
        ticks = engine.done(jobs, now)
        left = engine.left_to_wait(jobs, now) / per
        pausable = work.pausable[jobs]
        # Where a later start is better: slots until then. What may be paused is looked at once a slot.
        gain, wait = np.empty(jobs.size), np.full(jobs.size, np.inf)
        if self._lengths.exact:
            rest, price = (work.length[jobs] - ticks) / per, self._wait_cost[jobs]
            if pausable.any():
                rows = pausable
                gain[rows] = pause_gain_known(self._costs, rest[rows], left[rows], part, price[rows])
            if not pausable.all():
                rows = ~pausable
                found = start_gain_known(self._costs, rest[rows], left[rows], part, price[rows], within=True)
                gain[rows], wait[rows] = found
        else:
            kinds = np.array([self._lengths.kind(int(job)) for job in jobs])
            for kind in np.unique(kinds).tolist():
                rows = kinds == kind
                gain[rows], wait[rows] = self._gain_by_law(kind, jobs[rows], ticks[rows] / per, left[rows], part)
        self.wants[jobs] = gain >= 0.0
        for row in np.flatnonzero((gain < 0.0) & (wait < part)).tolist():
            engine.wake(now + max(1, round(wait[row] * per)), int(jobs[row]))
        # Where room is short, those go first that lose most by waiting, per GPU.
        self.rank[jobs] = -np.minimum(gain, _MOST_GAIN) * work.power_kw[jobs] / work.gpus[jobs]

    def _gain_by_law(
        self, kind: int, jobs: IntArray, done: FloatArray, left: FloatArray, part: float
    ) -> tuple[FloatArray, FloatArray]:
        law, slot_h = self._lengths.law(kind), self._case.axis.slot_h
        pausable = self._case.work.pausable[jobs]
        gain, wait = np.empty(jobs.size), np.full(jobs.size, np.inf)
        if pausable.any():
            some = jobs[pausable]
            gain[pausable] = self._table(law).gain(
                float(self._costs[0]),
                self._level[some],
                self._wait_cost[some],
                done[pausable],
                left[pausable],
                np.full(some.size, part),
            )
        if not pausable.all():
            rows = ~pausable
            price = self._wait_cost[jobs[rows]]
            gain[rows], wait[rows] = start_gain(self._costs, law, slot_h, price, left[rows], part)
        return gain, wait

    def _table(self, law: Law) -> PauseTable:
        found = self._tables.get(id(law))
        if found is None:
            axis = self._case.axis
            longest = int(self._case.work.wait.max() / axis.ticks_per_slot) + 1
            most_run = int(law.reach_h / axis.slot_h) + 1
            ahead = self._costs[: max(2, round(_TABLE_H / axis.slot_h))]
            found = PauseTable(ahead, law, axis.slot_h, max(1, longest), self._level_costs, most_run)
            self._tables[id(law)] = found
            self._laws.append(law)
        return found
