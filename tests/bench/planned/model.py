# SPDX-License-Identifier: Apache-2.0
"""A trace and a site with what a planner is told of them, beside what the product's replay needs."""

from dataclasses import dataclass

from embellie.domain.forecast import FloatArray
from embellie.domain.snapshot import ThermalZoneState
from embellie.simulation import SimGridZone, SimJob, SimSite


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob(SimJob):
    """One gang of a trace, as its user described it."""

    worst_power_kw: float
    """What it adds to idle nodes at most [kW of IT power]."""
    tenant: str = ""
    expected_duration_s: float | None = None
    """What the planner is told; None tells it the true duration."""
    used_share: float = 1.0
    """The part of it that such work is expected to use, 0..1."""
    minimum_saving_percent: float = 2.0

    @property
    def told_duration_s(self) -> float:
        """The duration that the planner is told [s]."""
        return self.duration_s if self.expected_duration_s is None else self.expected_duration_s


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlannedZone(SimGridZone):
    """A grid zone with its contract and its weather."""

    contracted_power_kw: float | None = None
    ambient_c: FloatArray | None = None
    """Outdoor temperature on the signal's own steps [degC]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlannedSite(SimSite):
    """A cluster in its rooms. A thermal zone's readings and base load are filled in by the replay."""

    grid_zones: tuple[PlannedZone, ...]
    thermal_zones: tuple[ThermalZoneState, ...] = ()
