# SPDX-License-Identifier: Apache-2.0
"""The event-driven engine: arrivals, ends, and a rule that says which jobs want to run now.

Whoever wants to run runs while there is room; what has waited as long as it may wants to run whatever the rule says.
Work that cannot be paused is never stopped once it runs. Where there is room for some only, the longest forced go
first, then by the rule's rank, then by arrival; a gang that does not fit is overtaken by those that do.
"""

import heapq
import math
from collections.abc import Collection, Iterable
from typing import Protocol

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.simulation.whatif.axis import BoolArray, IntArray
from embellie.simulation.whatif.case import Case, Schedule

_END, _ARRIVE, _TURN, _WAKE = 0, 1, 2, 3


class Rule(Protocol):
    """A policy: it keeps `wants` for every job that is in the system."""

    turns: bool
    """True: `turn` is called at the beginning of every slot."""
    reserves: bool
    """True: where a job whose waiting is used up finds no room, none starts that may still wait."""
    wants: BoolArray
    """Shape (jobs,): whether a job wants to run now."""
    rank: FloatArray
    """Shape (jobs,): lower goes first where room is short; equal ranks go by arrival."""
    last: BoolArray
    """Shape (jobs,): goes after all others, and makes room for them, though its waiting be used up."""

    def arrive(self, job: int, now: int, engine: "Engine") -> None:
        """A job has come; set what it wants, and wake-ups."""

    def turn(self, now: int, engine: "Engine") -> None:
        """A slot begins."""

    def woken(self, job: int, now: int, engine: "Engine") -> None:
        """A wake-up that was asked for."""

    def ended(self, job: int, now: int, engine: "Engine") -> None:
        """A job has ended: its true length is known from now on."""


class Engine:
    """One replay in the making. Times are ticks of the case's axis."""

    def __init__(self, case: Case, rule: Rule) -> None:
        work = case.work
        self.case = case
        self._rule = rule
        self._capacity = math.inf if case.site.capacity_gpus is None else float(case.site.capacity_gpus)
        self._gpus = work.gpus.tolist()
        self._pausable = work.pausable.tolist()
        self.ran = np.zeros(work.count, dtype=np.int64)
        """Ticks of work done up to the last stop, shape (jobs,)."""
        self.started_at = np.full(work.count, -1, dtype=np.int64)
        """Since when it has been running; -1: it is not."""
        self.forced = np.zeros(work.count, dtype=bool)
        self.ever = np.zeros(work.count, dtype=bool)
        """Has ever started."""
        self._waiting: dict[int, None] = {}
        self._running: dict[int, None] = {}
        self._ready: dict[int, None] = {}
        """Those that wait and want to run, or must."""
        self._planned_from = math.inf
        """The first turn; before it a rule may make up its mind about all jobs at any arrival."""
        self._events: list[tuple[int, int, int, int]] = []
        self._free = self._capacity
        self._parts: tuple[list[int], list[int], list[int]] = ([], [], [])
        self.refused: list[int] = []
        """Jobs larger than the whole capacity: they never run."""

    def run(self) -> Schedule:
        """Replay to the last end."""
        work, slot = self.case.work, self.case.axis.ticks_per_slot
        for job, (arrival, gpus) in enumerate(zip(work.arrival.tolist(), self._gpus, strict=True)):
            if gpus > self._capacity:
                self.refused.append(job)
            else:
                heapq.heappush(self._events, (arrival, _ARRIVE, job, 0))
        if self._events and self._rule.turns:
            self._planned_from = -(-self._events[0][0] // slot) * slot
            heapq.heappush(self._events, (int(self._planned_from), _TURN, -1, 0))
        while self._events:
            self._step(self._events[0][0], slot)
        jobs, starts, ends = (np.array(column, dtype=np.int64) for column in self._parts)
        order = np.lexsort((starts, jobs))
        return Schedule(job=jobs[order], start=starts[order], end=ends[order])

    def wake(self, tick: int, job: int) -> None:
        """Ask for `woken` at a later tick."""
        heapq.heappush(self._events, (tick, _WAKE, job, 0))

    def active(self) -> IntArray:
        """Return the jobs that wait, and those that run and may be paused."""
        running = [job for job in self._running if self._pausable[job]]
        return np.array([*self._waiting, *running], dtype=np.int64)

    def fixed(self) -> IntArray:
        """Return the jobs that run and may not be paused."""
        return np.array([job for job in self._running if not self._pausable[job]], dtype=np.int64)

    def done(self, jobs: IntArray, now: int) -> IntArray:
        """Return the ticks of work that jobs have done by now."""
        since = self.started_at[jobs]
        return self.ran[jobs] + np.where(since >= 0, now - since, 0)

    def left_to_wait(self, jobs: IntArray, now: int) -> IntArray:
        """Return the ticks that jobs may still wait, 0 at least."""
        work = self.case.work
        waited = now - work.arrival[jobs] - self.done(jobs, now)
        return np.maximum(0, work.wait[jobs] - waited)

    def _step(self, now: int, slot: int) -> None:
        turn = False
        rule = self._rule
        touched = []
        while self._events and self._events[0][0] == now:
            _, kind, job, stamp = heapq.heappop(self._events)
            touched.append(job)
            if kind == _END:
                if job in self._running and stamp == self.started_at[job]:
                    self._stop(job, now)
                    rule.ended(job, now, self)
            elif kind == _ARRIVE:
                self._waiting[job] = None
                self._bound(job, now)
                rule.arrive(job, now, self)
            elif kind == _TURN:
                turn = True
            elif stamp == 1:
                self.forced[job] |= job in self._waiting and self._left(job, now) <= 0
            else:
                rule.woken(job, now, self)
        if turn:
            rule.turn(now, self)
            if self._waiting or self._running or self._events:
                heapq.heappush(self._events, (now + slot, _TURN, -1, 0))
        everybody = turn or (rule.turns and now < self._planned_from)
        if everybody:
            touched = [*self._waiting, *self._running]
        self._dispatch(now, touched, whole=turn)

    def _left(self, job: int, now: int) -> int:
        work, since = self.case.work, self.started_at[job]
        done = self.ran[job] + (now - since if since >= 0 else 0)
        return int(work.wait[job] - (now - work.arrival[job] - done))

    def _bound(self, job: int, now: int) -> None:
        """Make sure that a waiting job is looked at when its waiting is used up."""
        left = self._left(job, now)
        if left <= 0:
            self.forced[job] = True
        else:
            heapq.heappush(self._events, (now + left, _WAKE, job, 1))

    def _dispatch(self, now: int, touched: Iterable[int], *, whole: bool) -> None:
        """Pause and start what is due; only about `touched` jobs may the rule have changed its mind."""
        forced = self.forced
        for job in touched:
            self._look_at(job, now)
        ready = list(self._ready)
        if self._capacity < math.inf and self._rule.turns and ready:
            first = _rows(ready)
            if not whole:
                first = first[forced[first]]
            if whole or (self.case.work.gpus[first] > self._free).any():
                self._give_way(first, now)
        if not ready or self._free <= 0:
            return
        if self._capacity < math.inf and len(ready) > 1:
            ready = self._in_order(_rows(ready))
        kept = False
        for job in ready:
            if self._gpus[job] <= self._free and (forced[job] or not kept):
                self._start(job, now)
            elif forced[job]:
                kept = self._rule.reserves

    def _look_at(self, job: int, now: int) -> None:
        """Pause a job that does not want to run any more, or note that a waiting one does."""
        wants, forced = bool(self._rule.wants[job]), self.forced
        if job in self._running:
            if self._pausable[job] and not wants and not forced[job]:
                if self._left(job, now) > 0:
                    self._pause(job, now)
                else:
                    forced[job] = True
        elif job in self._waiting and (wants or forced[job]):
            self._ready[job] = None
        else:
            self._ready.pop(job, None)

    def _in_order(self, rows: IntArray) -> list[int]:
        """Return jobs as they go: the last ones behind, the forced before, then by rank and arrival."""
        rule = self._rule
        ordered: list[int] = rows[np.lexsort((rows, rule.rank[rows], ~self.forced[rows], rule.last[rows]))].tolist()
        return ordered

    def _give_way(self, ready: IntArray, now: int) -> None:
        """Pause work that may be paused where these go before it: all at a slot's beginning, the forced at any time."""
        if not ready.size:
            return
        work = self.case.work
        running = _rows(self._running)
        running = running[work.pausable[running]]
        may_pause = ~self.forced[running] & (self.left_to_wait(running, now) > 0)
        soft = running[self._rule.last[running] | may_pause]
        free = self._free + float(work.gpus[soft].sum())
        for job in self._in_order(np.concatenate((ready, soft))):
            if self._gpus[job] <= free:
                free -= self._gpus[job]
            elif job in self._running:
                self._pause(job, now)

    def _start(self, job: int, now: int) -> None:
        del self._waiting[job]
        self._ready.pop(job, None)
        self._running[job] = None
        self._free -= self._gpus[job]
        self.started_at[job] = now
        self.ever[job] = True
        end = now + int(self.case.work.length[job] - self.ran[job])
        heapq.heappush(self._events, (end, _END, job, now))

    def _stop(self, job: int, now: int) -> None:
        del self._running[job]
        self._free += self._gpus[job]
        start = int(self.started_at[job])
        self.ran[job] += now - start
        self.started_at[job] = -1
        if now > start:
            for column, value in zip(self._parts, (job, start, now), strict=True):
                column.append(value)

    def _pause(self, job: int, now: int) -> None:
        self._stop(job, now)
        self._waiting[job] = None
        self._bound(job, now)
        if self._rule.wants[job] or self.forced[job]:
            self._ready[job] = None


def _rows(jobs: Collection[int]) -> IntArray:
    return np.fromiter(jobs, dtype=np.int64, count=len(jobs))


class EveryJob:
    """What rules share: nothing is wanted before it is said, and nothing happens on what a rule does not mind."""

    turns = False
    reserves = False

    def __init__(self, count: int) -> None:
        self.wants: BoolArray = np.zeros(count, dtype=bool)
        self.rank: FloatArray = np.zeros(count)
        self.last: BoolArray = np.zeros(count, dtype=bool)

    def arrive(self, job: int, now: int, engine: Engine) -> None:
        """Run at once."""
        del now, engine
        self.wants[job] = True

    def turn(self, now: int, engine: Engine) -> None:
        """Do nothing."""

    def woken(self, job: int, now: int, engine: Engine) -> None:
        """Do nothing."""

    def ended(self, job: int, now: int, engine: Engine) -> None:
        """Do nothing."""
