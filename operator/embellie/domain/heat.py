# SPDX-License-Identifier: Apache-2.0
"""What a thermal zone can take in the hours ahead: the heat model hands it to the planner and to the shield."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from embellie.domain.forecast import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneHeatModel:
    """How a zone heats, as learnt: T = filter_tau(T_supply + offset + own * P + sum of neighbours' share).

    Only gains that are physical come out of the learning: own and neighbours >= 0, tau > 0 (so 0 <= a < 1 in discrete
    time).
    """

    own_k_per_kw: float
    own_sd_k_per_kw: float
    neighbours_k_per_kw: Mapping[str, float] = field(default_factory=dict)
    offset_k: float = 0.0
    bias_k: float = 0.0
    """How much warmer the zone is just now than the model says [K]; negative when cooler."""
    tau_s: float
    margin_k: float
    """What predictions may be wrong by: conformal, never below the configured floor [K]."""
    trusted: bool
    """True: enough was seen, and the parameters are sure enough, for this model to replace what the spec says."""
    drifted: bool = False
    """True: the zone stopped behaving as it was learnt."""
    samples: float = 0.0
    """Effective number of samples behind the parameters."""

    @property
    def gain_k_per_kw(self) -> float:
        """The own gain with two standard deviations on the safe side [K/kW]."""
        return self.own_k_per_kw + 2.0 * self.own_sd_k_per_kw


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeatOutlook:
    """One zone's heat rows. Slot k covers [start + k*step, start + (k+1)*step); every array has shape (n_slots,)."""

    start: datetime
    step: timedelta
    removable_kw: FloatArray
    """Heat that the cooling can carry away at P90 ambient, base load included [kW]; infinite without a limit."""
    pue: FloatArray
    """Facility power over IT power, expected."""
    floor_kw: FloatArray | None = None
    """IT power that makes the heat that a heat network is owed [kW]; None where none is."""
    floor_g_per_kwh: float = 0.0
    """What the network burns instead for each kWh of IT energy that it goes without [gCO2e/kWh]."""
    bound: tuple[str, ...] = ()
    """Which limit binds in each slot (values of `limits.HeatBound`); empty where nobody asked."""

    def __post_init__(self) -> None:
        """Refuse shapes and values that no plan may rest on."""
        arrays = [("removable_kw", self.removable_kw, 0.0), ("pue", self.pue, 1.0)]
        if self.floor_kw is not None:
            arrays.append(("floor_kw", self.floor_kw, 0.0))
        for name, values, low in arrays:
            if values.shape != self.removable_kw.shape or values.ndim != 1 or values.size == 0:
                raise ValueError(f"heat outlook: {name} must have one value for each slot")
            if np.isnan(values).any() or values.min() < low:
                raise ValueError(f"heat outlook: {name} must be numbers of at least {low:g}")
        if not 0.0 <= self.floor_g_per_kwh < np.inf:
            raise ValueError("heat outlook: floor_g_per_kwh must be a number of at least 0")
        if self.step <= timedelta(0) or self.start.tzinfo is None:
            raise ValueError("heat outlook: the step must be positive and the start must have a zone")

    def slots(self, begin: datetime, end: datetime) -> tuple[slice, slice]:
        """Return the slots that [begin, end) touches, and those that stand for what of it lies beyond the last one.

        Beyond the last slot the last day goes on, because weather comes back; before the first one, the first counts
        (a clock that was set back). Either may be empty, both never are.
        """
        count = int(self.removable_kw.size)
        first = int((begin - self.start) // self.step)
        last = max(first, -int((self.start - end) // self.step) - 1)
        beyond = slice(count, count)
        if last >= count:
            beyond = slice(max(0, count - max(1, int(timedelta(days=1) / self.step))), count)
        return slice(max(0, min(first, count)), min(max(0, last) + 1, count)), beyond

    def worst_kw(self, begin: datetime, end: datetime) -> tuple[float, str]:
        """Return the least removable heat of any slot that counts for [begin, end) [kW], and which limit binds then."""
        within, beyond = self.slots(begin, end)
        first = min(within.start, beyond.start)
        slot = first + int(np.argmin(self.removable_kw[first : within.stop]))
        return float(self.removable_kw[slot]), self.bound[slot] if self.bound else ""
