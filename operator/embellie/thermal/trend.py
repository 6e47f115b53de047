# SPDX-License-Identifier: Apache-2.0
"""Where a temperature is going, from the last minutes of a sensor that is quantised and noisy. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median

_WINDOW = timedelta(seconds=240)
_SHORTEST_S = 30.0
_MOVED_OVER = timedelta(seconds=120)
_NOISE_K = 0.5
"""What a sensor moves by while nothing happens; its own resolution where that is coarser [K]."""
_SEEN_TWICE = 2
_FEWEST = 5
"""So many readings tell how much a sensor moves by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """The recent fresh readings of one temperature, oldest first."""

    samples: tuple[tuple[datetime, float], ...] = ()
    hard_c: float | None = None
    """The hard limit that they were read against [degC]."""
    step_k: float = 0.0
    """Smallest change between two readings that was seen: the sensor's resolution [K]; 0 before any."""
    rushed: int = 0
    """So many readings in a row rose as if the limit were near."""

    def felt(self, now: datetime, value_c: float, hard_c: float, urgent_s: float) -> "Trend":
        """Return the trend with one more reading; one of another limit is another temperature, and begins anew.

        Args:
            now: When it was read.
            value_c: The reading [degC].
            hard_c: The hard limit [degC].
            urgent_s: A limit that is nearer than this counts as a rush [s].
        """
        if self.hard_c is not None and self.hard_c != hard_c:
            return Trend().felt(now, value_c, hard_c, urgent_s)
        if self.samples and now <= self.samples[-1][0]:
            return self
        kept = tuple(one for one in self.samples if now - one[0] <= _WINDOW)
        step = self.step_k
        if self.samples and (change := abs(value_c - self.samples[-1][1])) > 1e-6:
            step = change if step == 0.0 else min(step, change)
        found = Trend(samples=(*kept, (now, value_c)), step_k=step, hard_c=hard_c)
        rushes = value_c < hard_c and (hard_c - value_c) <= urgent_s * found.rise_k_per_s
        return replace(found, rushed=self.rushed + 1) if rushes else found

    @property
    def rise_k_per_s(self) -> float:
        """How fast it surely rises: by more than the sensor moves by itself [K/s]; 0 where it may stand still."""
        if not self.samples:
            return 0.0
        now, value_c = self.samples[-1]
        noise_k = max(_NOISE_K, self.step_k, self._scatter_k)
        rises = [
            (value_c - before_c - noise_k) / seconds
            for at, before_c in self.samples
            if (seconds := (now - at).total_seconds()) >= _SHORTEST_S
        ]
        return max(0.0, max(rises, default=0.0))

    @property
    def _scatter_k(self) -> float:
        """By how much two readings of a noisy sensor may differ while nothing happens [K]; 0 where its steps tell it.

        From how far readings lie off the line between their neighbours, which no steady rise moves: half of them within
        1.65 standard deviations of the noise, so that twice that are 2.3 of a difference.
        """
        values = [value_c for _, value_c in self.samples]
        if len(values) < _FEWEST:
            return 0.0
        bend_k = median(abs(a - 2.0 * b + c) for a, b, c in zip(values, values[1:], values[2:], strict=False))
        return 2.0 * bend_k if bend_k > 2.0 * self.step_k else 0.0

    @property
    def hottest_c(self) -> float:
        """The hottest reading of the last minutes [degC]; not finite before any."""
        return max((value_c for _, value_c in self.samples), default=float("-inf"))

    @property
    def falls(self) -> bool:
        """Whether it is lower than it was two minutes ago."""
        return self._moved_k < -1e-6

    @property
    def rises(self) -> bool:
        """Whether it is higher than it was two minutes ago."""
        return self._moved_k > 1e-6

    @property
    def _moved_k(self) -> float:
        if not self.samples:
            return 0.0
        now, value_c = self.samples[-1]
        before = [c for at, c in self.samples if now - at >= _MOVED_OVER]
        return value_c - before[-1] if before else 0.0

    def to_limit_s(self, hard_c: float) -> float:
        """Return in how many seconds it passes its hard limit if it goes on so; infinite if it never will.

        One jump of a coarse sensor is no rush: it takes two readings that agree.
        """
        if not self.samples:
            return float("inf")
        value_c = self.samples[-1][1]
        if value_c >= hard_c:
            return 0.0
        if self.rushed < _SEEN_TWICE or (rise := self.rise_k_per_s) <= 0.0:
            return float("inf")
        return (hard_c - value_c) / rise
