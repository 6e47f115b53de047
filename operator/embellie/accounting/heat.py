# SPDX-License-Identifier: Apache-2.0
"""How warm a thermal zone became, from what ran in it: the steady state at its actual power."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from embellie.accounting.curves import StepCurve
from embellie.domain.forecast import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeatSite:
    """A thermal zone's physics and the supply it had; value k covers one step from `start` [degC]."""

    start: datetime
    step: timedelta
    supply_c: FloatArray
    rise_k_per_kw: float
    inlet_limit_c: float
    capacity_kw: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatRecord:
    """Violations are spells, not samples: one for each time that the zone went over its limit."""

    peak_inlet_c: float
    violations: int
    violation_s: float


def heat_record(curve: StepCurve, site: HeatSite) -> HeatRecord:
    """Return how a zone's limits fared under a curve of IT power (a curve made with a PUE of 1)."""
    step_s = site.step.total_seconds()
    offset_s = (site.start - curve.start).total_seconds()
    span_s = float(curve.edges_s[-1])
    slots = offset_s + np.arange(site.supply_c.shape[0] + 1) * step_s
    if slots[0] > 0 or slots[-1] < span_s:
        raise ValueError("the supply's temperatures do not cover the whole curve")
    edges = np.unique(np.concatenate((curve.edges_s, slots[(slots > 0) & (slots < span_s)])))
    kw = curve.kw[np.searchsorted(curve.edges_s, edges[:-1], side="right") - 1]
    supply = site.supply_c[np.searchsorted(slots, edges[:-1], side="right") - 1]
    inlet = supply + site.rise_k_per_kw * kw
    over = inlet >= site.inlet_limit_c
    if site.capacity_kw is not None:
        over |= kw > site.capacity_kw
    begins = over & ~np.concatenate(([False], over[:-1]))
    return HeatRecord(
        peak_inlet_c=float(inlet.max()),
        violations=int(begins.sum()),
        violation_s=float(np.diff(edges)[over].sum()),
    )
