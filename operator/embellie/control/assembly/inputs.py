# SPDX-License-Identifier: Apache-2.0
"""What a turn reads before anything is made of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from embellie.api.energypolicy import EnergyPolicy
from embellie.api.gridzone import GridZone
from embellie.api.thermalzone import ThermalZone
from embellie.cluster.store import View
from embellie.domain.forecast import Forecast
from embellie.domain.snapshot import Reading, TenantUse, ThermalZoneState
from embellie.thermal.job_power import LearntPower, NothingLearnt


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the outside said this turn."""

    view: View
    grid_zones: tuple[GridZone, ...]
    thermal_zones: tuple[ThermalZone, ...]
    policies: tuple[EnergyPolicy, ...]
    forecasts: Mapping[str, Forecast]
    grid_power: Mapping[str, Reading]
    """Metered power by GridZone [kW]."""
    inlets: Mapping[str, Reading]
    supplies: Mapping[str, Reading]
    """Temperatures by ThermalZone [°C]."""
    bounds: Mapping[str, datetime]
    """Workload uid -> the latest start that was promised before."""
    in_flight: Mapping[str, str]
    """Releases that the watch has not shown yet: uid -> cell."""
    own_namespace: str
    turn_s: float
    """Longest time from one turn to the next [s of the operator's clock]."""
    period_s: float
    """Time between two turns that have little to do [s of the operator's clock]."""
    max_limit_hold_s: float
    heat: Mapping[str, ThermalZoneState] = field(default_factory=dict)
    """What is known and learnt about each thermal zone; a zone that is missing is judged by its spec alone."""
    tenants: Mapping[str, TenantUse] = field(default_factory=dict)
    """What each namespace had of late."""
    learnt: LearntPower = field(default_factory=NothingLearnt)
    """What jobs and idle nodes draw, from what ran before."""
