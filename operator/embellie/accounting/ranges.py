# SPDX-License-Identifier: Apache-2.0
"""A number with its interval, out of replays."""

from dataclasses import dataclass

import numpy as np

from embellie.domain.forecast import FloatArray

LEVEL = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A number with its 90 % interval."""

    value: float
    low: float
    high: float

    @property
    def about_zero(self) -> bool:
        """True where nobody can tell on which side of zero it lies."""
        return self.low <= 0.0 <= self.high

    def scaled(self, factor: float) -> "Range":
        """Return the same in another unit (a factor above zero)."""
        return Range(value=self.value * factor, low=self.low * factor, high=self.high * factor)


def range_of(values: FloatArray) -> Range:
    """Return mean and interval.

    The k-th of n replays in order has k/(n+1) of all further ones below it on the mean, whatever their distribution
    (Weibull's plotting positions). The usual (k-1)/(n-1) takes the outermost replays for the ends of all that can be:
    an interval of 90 % from 30 replays then holds 84 % of further ones.
    """
    middle = float(values.mean())
    ends = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="weibull")
    low, high = (float(v) for v in ends)
    return Range(value=middle, low=low, high=high)
