# SPDX-License-Identifier: Apache-2.0
"""What shall be done, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from embellie.domain.forecast import FloatArray
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import WorkloadKey


class Action(StrEnum):
    """What a turn does with a workload."""

    HOLD = "Hold"
    RELEASE = "Release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Expected emissions of one run [g], with the interval that the forecast's outer quantiles give."""

    expected_g: float
    low_g: float
    high_g: float
    on_site_g: float = 0.0
    """What the site's own sun and wind spare: it is taken off all three already; the expected part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One workload's decision. `message` is one sentence that a researcher can read."""

    key: WorkloadKey
    action: Action
    reason: Reason
    message: str
    cell: str | None
    """Where it starts, or is planned to; None where no cell can be named (released without narrowing)."""
    start: datetime
    """Planned start; the snapshot's `now` for a release."""
    likely_start_p90: datetime
    latest_start: datetime
    now: Estimate | None
    """Emissions if it started now, in the best cell; None without a forecast."""
    best: Estimate | None
    """Emissions of the planned start."""
    over_limit: bool = False
    """True: held past its bound by a fresh reading over a hard limit."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PriceBook:
    """What room was worth in a plan: the next plan starts its search from it."""

    now: datetime
    edges_h: FloatArray
    """Edges of the plan's slots, hours from `now`, shape (T + 1,)."""
    gpu: Mapping[str, FloatArray]
    """By cell: per GPU and slot, shape (T,) [g]."""
    power: Mapping[str, FloatArray]
    """By the first cell of those that share a contract: per kW and slot [g]."""
    heat: Mapping[str, FloatArray]
    """By the first cell of those that share cooling: per kW and slot [g]."""
    wanted: Mapping[str, FloatArray] = field(default_factory=dict)
    """By what wants power, a heat network or a site with power of its own: what a kW in the slot spares [g]."""
    first: frozenset[WorkloadKey] = frozenset()
    """What went first where room was short, because it found none otherwise: it goes first again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The decisions of a turn, in the order of the snapshot's workloads."""

    decisions: tuple[Decision, ...]
    objective_g: float
    """Expected emissions of all planned work, less what the sites' own power spares, and what heat networks burn for
    what they are still owed [g]."""
    lower_bound_g: float | None = None
    """No plan of the same work has less of it [g]; None where a signal is missing, so that nothing can be proved."""
    prices: PriceBook | None = field(default=None, compare=False)
    """Warm start of the next plan."""
    jain: float | None = None
    """How evenly tenants waited for energy of late (Jain's index); None with fewer than two of them."""
