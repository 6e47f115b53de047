# SPDX-License-Identifier: Apache-2.0
"""Parts of snapshots that tests of the planner and of the shield share."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from embellie.domain.forecast import Forecast
from embellie.domain.reasons import Rung, SignalKind
from embellie.domain.snapshot import (
    Flex,
    GridZoneState,
    RunningGang,
    ThermalZoneState,
    Workload,
    WorkloadKey,
    WorkloadKind,
)


def workload_at(now: datetime, name: str = "a", **changes: object) -> Workload:
    """A patient Job of one pod and 8 GPUs for two hours, created five minutes ago, that may wait for twelve hours."""
    base = Workload(
        key=WorkloadKey(namespace="team", name=name, kind=WorkloadKind.JOB, uid=name),
        created_at=now - timedelta(minutes=5),
        latest_start=now + timedelta(hours=12),
        pods=1,
        gpus_per_pod=8,
        power_kw=4.0,
        worst_power_kw=5.0,
        duration_p50_s=7200.0,
        duration_p90_s=7200.0,
        flex=Flex.PATIENT,
        tenant="team",
        policy="default",
        enforced=True,
        allowed_cells=frozenset({"west"}),
        minimum_saving_percent=2.0,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def forecast_at(now: datetime, values: Sequence[float], zone: str = "west", **changes: object) -> Forecast:
    """An hourly forecast from this hour on, a tenth wide to each side [g/kWh]."""
    mean = np.array(values, dtype=np.float64)
    base = Forecast(
        zone=zone,
        issued_at=now,
        start=now.replace(minute=0),
        step=timedelta(hours=1),
        quantile_levels=(0.1, 0.5, 0.9),
        carbon_intensity_g_per_kwh=np.stack([mean * 0.9, mean, mean * 1.1]),
        carbon_intensity_mean_g_per_kwh=mean,
        renewable_share=np.full((3, mean.size), 0.5),
        signal_kind=SignalKind.AVERAGE_LIFECYCLE,
        rung=Rung.LIVE,
        model_id="test",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def grid_zone_at(now: datetime, values: Sequence[float] | None, name: str = "west", **changes: object) -> GridZoneState:
    """A zone without a contract, whose idle nodes draw 10 kW, with a forecast where there are values."""
    base = GridZoneState(
        name=name,
        contracted_power_kw=None,
        base_power_kw=10.0,
        measured_power_kw=None,
        forecast=forecast_at(now, values, name) if values is not None else None,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def thermal_zone_state(**changes: object) -> ThermalZoneState:
    """A thermal zone without sensors that no heat of its own warms."""
    base = ThermalZoneState(
        name="hall",
        inlet_limit_c=32.0,
        margin_c=3.0,
        rise_k_per_kw=0.0,
        supply=None,
        supply_worst_c=20.0,
        supply_setpoint_c=20.0,
        ambient_approach_k=8.0,
        inlet=None,
        cooling_capacity_kw=None,
        start_ramp_kw_per_min=None,
        base_power_kw=0.0,
        ambient_grid_zone=None,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def gang_at(now: datetime, **changes: object) -> RunningGang:
    """Work of 8 GPUs in the west that runs for an hour, and most likely for two more."""
    base = RunningGang(
        cell="west",
        gpus=8,
        power_kw=4.0,
        worst_power_kw=5.0,
        expected_end_p50=now + timedelta(hours=2),
        expected_end_p90=now + timedelta(hours=3),
        started_at=now - timedelta(hours=1),
    )
    return replace(base, **changes)  # type: ignore[arg-type]
