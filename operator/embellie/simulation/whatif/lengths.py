# SPDX-License-Identifier: Apache-2.0
"""What is known of how long a job will run: its true length, its queue's mean, or what earlier jobs tell.

A `Law` is a distribution of lengths by its survival function S(u), the chance to run longer than u. A queue's mean
alone does not fix one: below two hours the exponential law cut at two hours is taken, above them a Lomax law (a power
tail from two hours on), since the longer training work has run, the longer it will still run. Its shape was chosen on
GAIA's year of Alibaba PAI jobs, not on the thousand of its figures.
"""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.simulation.whatif.axis import BoolArray, IntArray

LENGTHS = ("true", "queue-mean", "predicted")
QUEUE_H = 2.0
TAIL_SHAPE = 3.0
_BEFORE_H = {"short": 0.5, "long": 8.0}
"""What a queue's mean counts as before any job has ended: the round means of GAIA's year of PAI jobs."""
_FINE_H = 0.25
_LEAST = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Law:
    """A distribution of lengths on a grid of `_FINE_H`, linear between; beyond the grid the last hazard goes on."""

    survival: FloatArray
    """S(k * _FINE_H), falling from 1; shape (points,)."""
    _area: FloatArray

    @staticmethod
    def of(survival: FloatArray) -> "Law":
        """Make a law from its survival function."""
        # A positive floor that keeps falling: work that outlives all others is still expected to end.
        floor = _LEAST * np.exp(-np.arange(survival.size) * _FINE_H)
        safe = np.maximum(survival, floor)
        area = np.concatenate(([0.0], np.cumsum((safe[1:] + safe[:-1]) / 2.0 * _FINE_H)))
        return Law(safe, area)

    def chance(self, hours: FloatArray) -> FloatArray:
        """Return S(u)."""
        result: FloatArray = np.interp(hours, self._grid(), self.survival)
        return result

    def expected_run_h(self, done_h: FloatArray, ahead_h: FloatArray | float) -> FloatArray:
        """Return how much of the next `ahead_h` work is expected to fill that has run `done_h` [h]."""
        area = np.interp(done_h + ahead_h, self._grid(), self._area) - np.interp(done_h, self._grid(), self._area)
        result: FloatArray = area / self.chance(np.asarray(done_h))
        return result

    def rest_h(self, done_h: FloatArray) -> FloatArray:
        """Return the expected rest of work that has run `done_h` [h]."""
        result: FloatArray = (self._area[-1] - np.interp(done_h, self._grid(), self._area)) / self.chance(done_h)
        return result

    def rest_quantile_h(self, done_h: FloatArray, level: float) -> FloatArray:
        """Return the rest that work which has run `done_h` does not outlive with a chance of `level` [h]."""
        left = (1.0 - level) * self.chance(done_h)
        # The survival function falls; where it stays at its floor the grid's end is the answer.
        end = np.interp(-left, -self.survival, self._grid())
        result: FloatArray = np.maximum(end - done_h, _FINE_H)
        return result

    @property
    def reach_h(self) -> float:
        """Where the grid ends [h]."""
        return (self.survival.size - 1) * _FINE_H

    def _grid(self) -> FloatArray:
        return np.arange(self.survival.size, dtype=np.float64) * _FINE_H


def law_of_queue(mean_h: float, *, short: bool) -> Law:
    """Return the law that a queue's mean stands for."""
    if short:
        u = np.arange(0.0, QUEUE_H + 2.0, _FINE_H)
        rate = _cut_rate(min(max(mean_h, 0.02), 0.98 * QUEUE_H))
        raw = np.exp(-rate * u) - np.exp(-rate * QUEUE_H)
        return Law.of(np.clip(raw / (1.0 - np.exp(-rate * QUEUE_H)), 0.0, 1.0))
    scale = max(mean_h - QUEUE_H, 0.05) * (TAIL_SHAPE - 1.0)
    u = np.arange(0.0, min(1000.0, QUEUE_H + 12.0 * scale), _FINE_H)
    return Law.of((1.0 + np.maximum(u - QUEUE_H, 0.0) / scale) ** -TAIL_SHAPE)


def _cut_rate(mean_h: float) -> float:
    """Return the rate of the exponential law, cut at two hours, that has this mean (by bisection)."""
    low, high = -400.0, 400.0
    for _ in range(100):
        rate = (low + high) / 2.0
        x = rate * QUEUE_H
        mean = QUEUE_H / 2.0 if abs(x) < 1e-6 else 1.0 / rate - QUEUE_H / np.expm1(min(x, 700.0))
        low, high = (rate, high) if mean > mean_h else (low, rate)
    return rate if abs(rate) > 1e-6 else 1e-6


class Lengths(Protocol):
    """A source of what is known of lengths."""

    exact: bool
    """True: lengths are known."""

    def expected(self, job: int) -> int:
        """Return the expected length of a job that has not begun [ticks]."""

    def learn(self, job: int, length: int) -> None:
        """A job has ended after `length` ticks."""

    def kind(self, job: int) -> int:
        """Return the job's law; stays the same for its whole life."""

    def law(self, kind: int) -> Law:
        """Return a law as it is known now."""


class TrueLengths:
    """Everybody knows everything."""

    exact = True

    def __init__(self, length: IntArray) -> None:
        self._length = length

    def expected(self, job: int) -> int:
        """Return the true length."""
        return int(self._length[job])

    def learn(self, job: int, length: int) -> None:
        """There is nothing to learn."""

    def kind(self, job: int) -> int:
        """Return the only kind."""
        del job
        return 0

    def law(self, kind: int) -> Law:
        """True lengths have no law."""
        raise NotImplementedError(f"kind {kind}: true lengths have no law")


class QueueMeans:
    """As in GAIA: a job's queue is known (under two hours, or not), and the queue's mean, later jobs included."""

    exact = False

    def __init__(self, duration_s: FloatArray, tick_s: float) -> None:
        limit = QUEUE_H * 3600.0
        ticks = duration_s / tick_s
        self._short = np.floor(ticks) < limit / tick_s
        groups = (ticks[duration_s <= limit], ticks[duration_s >= limit])
        self._means = [float(group.mean()) if group.size else 0.0 for group in groups]
        hours = tick_s / 3600.0
        self._laws = [
            law_of_queue(self._means[0] * hours, short=True),
            law_of_queue(self._means[1] * hours, short=False),
        ]

    def expected(self, job: int) -> int:
        """Return the whole ticks of the queue's mean."""
        return int(self._means[self.kind(job)])

    def learn(self, job: int, length: int) -> None:
        """The means are given."""

    def kind(self, job: int) -> int:
        """Return 0 for the short queue, 1 for the other."""
        return 0 if self._short[job] else 1

    def law(self, kind: int) -> Law:
        """Return the law of a queue."""
        return self._laws[kind]


class Predicted:
    """Learnt from jobs that have ended before: by tenant, kind of work and size, falling back where there are few.

    The queue (under two hours, or not) is known, since the bound on waiting depends on it. Only a group's mean is
    learnt and the form of the law is kept: laws made of the lengths seen themselves did worse on GAIA's year of PAI
    jobs, by 0.4 points for AU-SA and 0.6 for GB.
    """

    exact = False
    _ENOUGH = 100
    """Jobs of a group that speak for themselves."""
    _NEWEST = 2000
    _PRIOR = 5.0
    """Jobs that the mean before all experience counts for."""

    def __init__(self, groups: list[tuple[str, str, str]], short: BoolArray, tick_s: float) -> None:
        """Take each job's tenant, kind and size class."""
        self._tick_h = tick_s / 3600.0
        self._keys = [self._chain(group, bool(s)) for group, s in zip(groups, short, strict=True)]
        self._seen: dict[tuple[str, ...], list[float]] = {}
        self._kinds: dict[tuple[str, ...], int] = {}
        self._by_kind: list[tuple[tuple[str, ...], ...]] = []
        self._cache: dict[tuple[str, ...], tuple[int, Law]] = {}

    @staticmethod
    def _chain(group: tuple[str, str, str], short: bool) -> tuple[tuple[str, ...], ...]:
        queue = "short" if short else "long"
        tenant, kind, size = group
        return (queue, tenant, kind, size), (queue, tenant, kind), (queue, "", kind, size), (queue,)

    def learn(self, job: int, length: int) -> None:
        """Remember a length, newest last, for the job's groups."""
        self._remember(self._keys[job], length * self._tick_h)

    def learn_group(self, group: tuple[str, str, str], *, short: bool, hours: float) -> None:
        """Remember a length of an earlier job by its tenant, kind and size class."""
        self._remember(self._chain(group, short), hours)

    def _remember(self, keys: tuple[tuple[str, ...], ...], hours: float) -> None:
        for key in keys:
            seen = self._seen.setdefault(key, [])
            seen.append(hours)
            if len(seen) > 2 * self._NEWEST:
                del seen[: self._NEWEST]

    def expected(self, job: int) -> int:
        """Return the mean of the nearest group that is large enough."""
        key, seen = self._nearest(self._keys[job])
        return max(1, int(self._mean_h(key, seen) / self._tick_h))

    def _mean_h(self, key: tuple[str, ...], seen: list[float]) -> float:
        newest = seen[-self._NEWEST :]
        return (sum(newest) + _BEFORE_H[key[0]] * self._PRIOR) / (len(newest) + self._PRIOR)

    def kind(self, job: int) -> int:
        """Return the kind: jobs of one tenant, kind and size have one law."""
        chain = self._keys[job]
        found = self._kinds.get(chain[0])
        if found is None:
            found = self._kinds[chain[0]] = len(self._by_kind)
            self._by_kind.append(chain)
        return found

    def law(self, kind: int) -> Law:
        """Return the law as it is known now."""
        key, seen = self._nearest(self._by_kind[kind])
        cached = self._cache.get(key)
        # A law is made anew when a tenth more is known.
        if cached is not None and len(seen) < 1.1 * cached[0]:
            return cached[1]
        law = law_of_queue(self._mean_h(key, seen), short=key[0] == "short")
        self._cache[key] = (max(1, len(seen)), law)
        return law

    def _nearest(self, chain: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], list[float]]:
        for key in chain:
            seen = self._seen.get(key, [])
            if len(seen) >= self._ENOUGH:
                return key, seen
        return chain[-1], self._seen.get(chain[-1], [])


def size_class(gpus: float) -> str:
    """Return the power of two that a gang's size belongs to, as the class for predictions."""
    sizes = (1, 2, 4, 8, 16, 32, 64, 128)
    return str(sizes[min(len(sizes) - 1, bisect_left(sizes, gpus))])
