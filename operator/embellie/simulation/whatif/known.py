# SPDX-License-Identifier: Apache-2.0
"""What a policy knows of work while it plans: how much is left of jobs, and how much is likely to come."""

import numpy as np

from embellie.simulation.whatif.axis import IntArray
from embellie.simulation.whatif.case import Case
from embellie.simulation.whatif.engine import Engine
from embellie.simulation.whatif.lengths import Lengths

_LOAD_H = 24.0


class Known:
    """True lengths where they are told, else what is expected of them; and the arrivals of the last day."""

    def __init__(self, case: Case, lengths: Lengths) -> None:
        self._case, self._lengths = case, lengths
        self._expected = np.full(case.work.count, -1, dtype=np.int64)

    def last_day(self, now: int) -> tuple[IntArray, int, float]:
        """Return the jobs of the last day, a day [ticks], and how many times their work a day brings.

        Before a day has passed, what came so far says what a day brings.
        """
        arrival, day = self._case.work.arrival, self._case.axis.ticks(_LOAD_H)
        first, last = np.searchsorted(arrival, [now - day, now])
        seen = max(self._case.axis.ticks(1.0), now - int(arrival[0])) if arrival.size else day
        return np.arange(first, last, dtype=np.int64), day, day / min(day, seen)

    def length(self, jobs: IntArray) -> IntArray:
        """Return the lengths of jobs as they were expected when they came, or are known [ticks]."""
        if self._lengths.exact:
            known: IntArray = self._case.work.length[jobs]
            return known
        for job in jobs[self._expected[jobs] < 0].tolist():
            self._expected[job] = max(1, self._lengths.expected(job))
        guessed: IntArray = self._expected[jobs]
        return guessed

    def rest(self, jobs: IntArray, engine: Engine, now: int, level: float | None = None) -> IntArray:
        """Return the rest of jobs, expected or a quantile of it, at least a tick [ticks]."""
        work = self._case.work
        done = engine.done(jobs, now)
        if self._lengths.exact or jobs.size == 0:
            known: IntArray = np.maximum(1, work.length[jobs] - done)
            return known
        kinds = np.array([self._lengths.kind(int(job)) for job in jobs])
        rest = np.empty(jobs.size)
        for kind in np.unique(kinds).tolist():
            rows = kinds == kind
            law, done_h = self._lengths.law(kind), done[rows] * self._case.axis.tick_h
            rest[rows] = law.rest_h(done_h) if level is None else law.rest_quantile_h(done_h, level)
        ticks: IntArray = np.maximum(1, (rest / self._case.axis.tick_h).astype(np.int64))
        return ticks
