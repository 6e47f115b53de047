# SPDX-License-Identifier: Apache-2.0
"""One price for each tenant, from its recent share of GPU-hours and of waiting imposed for energy; and Jain's index.

A tenant's *excess* is its share of the recent GPU-hours less its share of the recent waiting: above 0 it got more
than it waited for, below 0 less. Excesses add up to 0. Each enters the plan once: below 0 it is the price of that
tenant's further waiting, above 0 others go first where room is short.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from embellie.domain.snapshot import TenantUse

STEPS = 8.0
"""Excesses are rounded to so many parts of one: few distinct prices make few tables, and small news changes nothing."""
FULL_AT = 0.1
"""Waiting counts fully once it is this part of the work; before, in proportion: an hour in a month is no grievance."""
WAIT_PRICE = 0.05
"""At an excess of -1 an hour's waiting of a GPU costs this part of what an hour of its work emits in the mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How tenants stand towards each other."""

    excess: Mapping[str, float]
    """Tenant -> -1..1, rounded; who is absent stands at 0."""
    shares: Mapping[str, tuple[float, float]]
    """Tenant -> its parts of the recent GPU-hours and of the recent waiting, 0..1."""
    jain: float | None
    """Of the hours waited per hour of work; None with fewer than two tenants."""

    def of(self, tenant: str) -> float:
        """Return a tenant's excess."""
        return self.excess.get(tenant, 0.0)


def standing(tenants: Mapping[str, TenantUse]) -> Standing:
    """Return what recent use says; numbers that are not, or below 0, count as 0.

    >>> standing({"a": TenantUse(gpu_h=75, waited_gpu_h=0), "b": TenantUse(gpu_h=25, waited_gpu_h=50)}).excess
    {'a': 0.75, 'b': -0.75}
    """
    used = {name: (_amount(use.gpu_h), _amount(use.waited_gpu_h)) for name, use in sorted(tenants.items())}
    worked, waited = sum(a for a, _ in used.values()), sum(b for _, b in used.values())
    excess: dict[str, float] = {}
    if worked > 0.0 and waited > 0.0 and len(used) > 1:
        weight = min(1.0, waited / (FULL_AT * worked))
        rounded = {name: round(weight * (a / worked - b / waited) * STEPS) / STEPS for name, (a, b) in used.items()}
        excess = {name: value for name, value in rounded.items() if value}
    shares = {name: (a / worked, b / waited) for name, (a, b) in used.items()} if excess else {}
    delays = [b / (a + b) for a, b in used.values() if a + b > 0.0]
    return Standing(excess=excess, shares=shares, jain=jain(delays) if len(delays) > 1 else None)


def jain(values: Iterable[float]) -> float:
    """Return (sum x)^2 / (n sum x^2): 1 where all are alike, 1/n where one has everything, 1 where all are 0.

    Source: Jain, Chiu and Hawe, DEC-TR-301 (1984).
    """
    x = np.array(list(values), dtype=np.float64)
    squares = float((x * x).sum()) * x.size
    return float(x.sum()) ** 2 / squares if squares > 0.0 else 1.0


def _amount(value: float) -> float:
    return max(0.0, value) if np.isfinite(value) else 0.0
