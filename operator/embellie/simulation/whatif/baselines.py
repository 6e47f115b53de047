# SPDX-License-Identifier: Apache-2.0
"""The published policies. Without a capacity they decide exactly as published.

With one, each looks for its choice among the starts (or slots) where the GPUs are not promised to others yet, promises
them, and joins the queue at once where its whole window is full: the kindest reading of rules made without a capacity.

Sources: Lowest-Slot, Lowest-Window, Carbon-Time and the Ecovisor threshold as in GAIA (ASPLOS 2024); Wait AWhile from
"Let's Wait Awhile" (Middleware 2021); the fixed threshold from the scheduler compute-gardener.
"""

from bisect import bisect_right

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.simulation.whatif.axis import BoolArray, IntArray
from embellie.simulation.whatif.case import Case
from embellie.simulation.whatif.engine import Engine, EveryJob
from embellie.simulation.whatif.lengths import Lengths
from embellie.simulation.whatif.outlook import Outlook
from embellie.simulation.whatif.windows import (
    Window,
    cheapest_parts,
    exact_starts,
    first_least,
    hourly_starts,
    quantile_of_ticks,
    slot_starts,
)

ECOVISOR_QUANTILE = 0.3
THRESHOLD_G_PER_KWH = 200.0
"""What compute-gardener waits for unless it is told otherwise."""


class Promises:
    """GPUs that are promised ahead, as mean use by slot."""

    def __init__(self, case: Case) -> None:
        self._per = case.axis.ticks_per_slot
        self._capacity = case.site.capacity_gpus
        self._use = np.zeros(case.axis.n_slots + 1)

    def room(self, starts: IntArray, length: int, gpus: float) -> BoolArray | None:
        """Return at which starts a run has room all along; None: everywhere."""
        if self._capacity is None:
            return None
        return np.array([self._fits(int(start), int(start) + length, gpus) for start in starts])

    def slots(self, first: int, count: int, gpus: float) -> BoolArray | None:
        """Return which slots have room for a whole slot's run; None: all."""
        if self._capacity is None:
            return None
        self._grow(first + count)
        return self._use[first : first + count] + gpus <= self._capacity + 1e-9

    def promise(self, start: int, end: int, gpus: float) -> None:
        """Promise GPUs from `start` to `end` [ticks]."""
        if self._capacity is None or end <= start:
            return
        first, shares = self._shares(start, end)
        self._use[first : first + shares.size] += gpus * shares

    def _fits(self, start: int, end: int, gpus: float) -> bool:
        first, shares = self._shares(start, end)
        return bool(np.all(self._use[first : first + shares.size] + gpus * shares <= (self._capacity or 0.0) + 1e-9))

    def _shares(self, start: int, end: int) -> tuple[int, FloatArray]:
        first, last = start // self._per, -(-end // self._per)
        self._grow(last)
        edges = np.arange(first, last + 1) * self._per
        shares: FloatArray = np.diff(np.clip(edges, start, end).astype(np.float64)) / self._per
        return first, shares

    def _grow(self, slots: int) -> None:
        if slots > self._use.size:
            self._use = np.concatenate((self._use, np.zeros(slots + 256 - self._use.size)))


class _Planned(EveryJob):
    """A rule that fixes a job's start when it comes."""

    def __init__(self, case: Case, outlook: Outlook, lengths: Lengths) -> None:
        super().__init__(case.work.count)
        self._case = case
        self._outlook = outlook
        self._lengths = lengths
        self._promises = Promises(case)
        self._hour = case.axis.ticks(1.0)

    def arrive(self, job: int, now: int, engine: Engine) -> None:
        """Choose a start and promise its GPUs."""
        per, work = self._case.axis.ticks_per_slot, self._case.work
        first, offset = divmod(now, per)
        expected = max(1, self._lengths.expected(job))
        wait = int(work.wait[job])
        slots = (offset + wait + expected) // per + 2
        window = Window(self._outlook.ahead(first, slots), per)
        starts = self._starts(offset, expected, wait)
        room = self._promises.room(starts + first * per, expected, float(work.gpus[job]))
        row = self._choose(window, starts, offset, expected, room)
        start = now if row < 0 else int(starts[row]) + first * per
        self._promises.promise(start, start + expected, float(work.gpus[job]))
        if start <= now:
            self.wants[job] = True
        else:
            engine.wake(start, job)

    def woken(self, job: int, now: int, engine: Engine) -> None:
        """Its start has come."""
        del now, engine
        self.wants[job] = True

    def ended(self, job: int, now: int, engine: Engine) -> None:
        """Take its true length into what is known of lengths."""
        del now
        self._lengths.learn(job, int(engine.ran[job]))

    def _starts(self, offset: int, expected: int, wait: int) -> IntArray:
        del expected
        return hourly_starts(offset, wait, self._hour)

    def _choose(self, window: Window, starts: IntArray, offset: int, expected: int, room: BoolArray | None) -> int:
        """Return the row of the chosen start, -1 where none has room."""
        raise NotImplementedError


class LowestSlot(_Planned):
    """Starts in the lowest slot of the waiting window."""

    def _starts(self, offset: int, expected: int, wait: int) -> IntArray:
        del expected
        return slot_starts(offset, wait, self._case.axis.ticks_per_slot)

    def _choose(self, window: Window, starts: IntArray, offset: int, expected: int, room: BoolArray | None) -> int:
        del offset, expected
        return first_least(window.values[starts // window.per], room)


class LowestWindow(_Planned):
    """Starts where the expected run emits least."""

    def _choose(self, window: Window, starts: IntArray, offset: int, expected: int, room: BoolArray | None) -> int:
        del offset
        return first_least(window.cost(starts, expected), room)


class CarbonTime(_Planned):
    """Starts where most is saved per time until the expected end."""

    def _choose(self, window: Window, starts: IntArray, offset: int, expected: int, room: BoolArray | None) -> int:
        costs = window.cost(starts, expected)
        return first_least(-(costs[0] - costs) / (starts - offset + expected), room)


class Clairvoyant(_Planned):
    """Wait AWhile: with the true length, the lowest slots for work that may be paused, else the lowest run."""

    def __init__(self, case: Case, outlook: Outlook, lengths: Lengths) -> None:
        super().__init__(case, outlook, lengths)
        self._edges: dict[int, list[int]] = {}

    def arrive(self, job: int, now: int, engine: Engine) -> None:
        """Fix all parts of the run."""
        case, work = self._case, self._case.work
        per, length = case.axis.ticks_per_slot, int(work.length[job])
        first, offset = divmod(now, per)
        wait = max(0, min(int(work.wait[job]), case.axis.known_slots * per - now - length))
        gpus = float(work.gpus[job])
        window = Window(self._outlook.ahead(first, (offset + length + wait) // per + 2), per)
        if work.pausable[job]:
            room = self._promises.slots(first, -(-(offset + length + wait) // per), gpus)
            parts = cheapest_parts(window, offset, length, wait, room)
        else:
            starts = exact_starts(offset, length, wait, per)
            row = first_least(window.cost(starts, length), self._promises.room(starts + first * per, length, gpus))
            start = int(starts[max(0, row)])
            parts = [(start, start + length)]
        parts = [(begin + first * per, end + first * per) for begin, end in parts]
        self._edges[job] = [edge for part in parts for edge in part]
        for begin, end in parts:
            self._promises.promise(begin, end, gpus)
            for edge in (begin, end):
                if edge > now:
                    engine.wake(edge, job)
        self.woken(job, now, engine)

    def woken(self, job: int, now: int, engine: Engine) -> None:
        """Run inside the parts, and after the last one if others were in the way."""
        del engine
        passed, edges = bisect_right(self._edges[job], now), len(self._edges[job])
        inside = passed % 2 == 1
        self.wants[job] = inside or passed == edges or (passed > 0 and not self._case.work.pausable[job])


class EcovisorThreshold(EveryJob):
    """Runs while the intensity is below the 30 % quantile of the day after submission, until the waiting is used up."""

    turns = True

    def __init__(self, case: Case, outlook: Outlook) -> None:
        super().__init__(case.work.count)
        self._case = case
        self._outlook = outlook
        self._limit = np.zeros(case.work.count)

    def arrive(self, job: int, now: int, engine: Engine) -> None:
        """Fix the threshold."""
        del engine
        per, day = self._case.axis.ticks_per_slot, self._case.axis.ticks(24.0)
        first, offset = divmod(now, per)
        window = Window(self._outlook.ahead(first, (offset + day) // per + 1), per)
        self._limit[job] = quantile_of_ticks(window, offset, day, ECOVISOR_QUANTILE)
        self.wants[job] = self._case.axis.values[first] < self._limit[job]

    def turn(self, now: int, engine: Engine) -> None:
        """Look at the intensity as it is."""
        jobs = engine.active()
        value = self._case.axis.values[min(now // self._case.axis.ticks_per_slot, self._case.axis.n_slots - 1)]
        self.wants[jobs] = value < self._limit[jobs]


class FixedThreshold(EveryJob):
    """Starts once the intensity is below a fixed value."""

    turns = True

    def __init__(self, case: Case, g_per_kwh: float) -> None:
        super().__init__(case.work.count)
        self._low = case.axis.values < g_per_kwh
        self._per = case.axis.ticks_per_slot

    def _is_low(self, now: int) -> bool:
        return bool(self._low[min(now // self._per, self._low.size - 1)])

    def arrive(self, job: int, now: int, engine: Engine) -> None:
        """Start if it is low."""
        del engine
        self.wants[job] = self._is_low(now)

    def turn(self, now: int, engine: Engine) -> None:
        """Start what waits if it is low; what has begun goes on."""
        jobs = engine.active()
        self.wants[jobs] = self._is_low(now) | engine.ever[jobs]
