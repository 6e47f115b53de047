# SPDX-License-Identifier: Apache-2.0
"""The CRD types, one module per kind: the single source of `manifests/crds/` and of the chart's copy."""

from embellie.api.energypolicy import EnergyPolicy
from embellie.api.gridzone import GridZone
from embellie.api.meta import Resource
from embellie.api.powercap import PowerCap
from embellie.api.thermalzone import ThermalZone
from embellie.api.workloadplan import WorkloadPlan

KINDS: tuple[type[Resource], ...] = (GridZone, ThermalZone, EnergyPolicy, WorkloadPlan, PowerCap)

__all__ = ["KINDS", "EnergyPolicy", "GridZone", "PowerCap", "Resource", "ThermalZone", "WorkloadPlan"]
