# SPDX-License-Identifier: Apache-2.0
"""Rooms with zones, work and sensors of every kind, for properties of heat and power."""

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import strategies as st

from embellie.domain.heat import HeatOutlook, ZoneHeatModel
from embellie.domain.snapshot import (
    Cell,
    Flex,
    GridZoneState,
    Quality,
    Reading,
    RunningGang,
    Snapshot,
    ThermalZoneState,
    Workload,
    WorkloadKey,
    WorkloadKind,
)

NOW = datetime(2026, 7, 1, 13, 0, tzinfo=UTC)
TURN_S = 30.0
ZONES = ("a", "b", "c")


def readings(low: float, high: float) -> st.SearchStrategy[Reading | None]:
    qualities = st.sampled_from([Quality.FRESH] * 8 + list(Quality))
    return st.none() | st.builds(Reading, value=st.floats(low, high), age_s=st.just(5.0), quality=qualities)


@st.composite
def zone_states(draw: st.DrawFn, name: str) -> ThermalZoneState:
    model = None
    if draw(st.booleans()):
        model = ZoneHeatModel(
            own_k_per_kw=draw(st.floats(0.01, 0.4)),
            own_sd_k_per_kw=draw(st.floats(0.0, 0.02)),
            neighbours_k_per_kw={n: draw(st.floats(0.001, 0.1)) for n in ZONES if n != name and draw(st.booleans())},
            offset_k=draw(st.floats(-2, 3)),
            bias_k=draw(st.floats(-2, 2)),
            tau_s=600.0,
            margin_k=draw(st.floats(0.5, 4)),
            trusted=draw(st.booleans()),
            drifted=draw(st.booleans()),
        )
    ahead = None
    if draw(st.booleans()):
        removable = np.array(draw(st.lists(st.floats(0, 200), min_size=30, max_size=30)))
        ahead = HeatOutlook(start=NOW, step=timedelta(hours=1), removable_kw=removable, pue=np.ones(30))
    limited = st.none() | st.floats(20, 200)
    return ThermalZoneState(
        name=name,
        inlet_limit_c=32.0,
        margin_c=2.0,
        rise_k_per_kw=draw(st.sampled_from([0.0, 0.05, 0.2])),
        supply=draw(readings(15, 33)),
        supply_worst_c=27.0,
        supply_setpoint_c=20.0,
        ambient_approach_k=8.0,
        inlet=draw(readings(18, 34)),
        cooling_capacity_kw=draw(limited),
        start_ramp_kw_per_min=draw(st.none() | st.floats(1, 100)),
        base_power_kw=draw(st.floats(0, 20)),
        ambient_grid_zone="g",
        outlook=ahead,
        model=model,
        coolant_return=draw(readings(30, 60)),
        coolant_return_limit_c=draw(st.none() | st.just(56.0)),
        air_return=draw(readings(30, 60)),
        air_return_limit_c=draw(st.none() | st.just(50.0)),
        arriving_k=draw(st.sampled_from([0.0, 1.5])),
        ceiling_kw=draw(limited),
        barrier_kw=draw(limited),
        admission_open=draw(st.integers(0, 5)) > 0,
        closed_because="it is hot",
    )


@st.composite
def rooms(draw: st.DrawFn) -> Snapshot:
    names = ZONES[: draw(st.integers(1, 3))]
    works = tuple(
        Workload(
            key=WorkloadKey(namespace="n", name=f"w{k}", kind=WorkloadKind.JOB, uid=str(k)),
            created_at=NOW - timedelta(hours=1),
            latest_start=NOW + timedelta(hours=draw(st.sampled_from([-3, 0, 1, 5]))),
            pods=1,
            gpus_per_pod=1,
            power_kw=1.0,
            worst_power_kw=draw(st.floats(0.5, 60)),
            duration_p50_s=draw(st.floats(600, 20 * 3600)),
            duration_p90_s=draw(st.floats(600, 40 * 3600)),
            flex=Flex.PATIENT,
            tenant="t",
            policy="p",
            enforced=True,
            allowed_cells=frozenset(names),
        )
        for k in range(draw(st.integers(1, 6)))
    )
    running = tuple(
        RunningGang(
            cell=draw(st.sampled_from(names)), gpus=8, power_kw=2.0, worst_power_kw=draw(st.floats(1, 60)),
            expected_end_p50=NOW + timedelta(hours=3),
            expected_end_p90=NOW + timedelta(hours=draw(st.sampled_from([-1, 1, 5, 12]))),
            started_at=NOW - timedelta(minutes=draw(st.integers(0, 200))), length_stated=draw(st.booleans()),
            overrun=draw(st.sampled_from([1.0, 1.5, 2.0])),
        )
        for _ in range(draw(st.integers(0, 4)))
    )  # fmt: skip
    grid = GridZoneState(
        name="g",
        contracted_power_kw=draw(st.none() | st.floats(50, 400)),
        base_power_kw=20.0,
        measured_power_kw=draw(readings(0, 400)),
        forecast=None,
    )
    return Snapshot(
        now=NOW,
        turn_s=TURN_S,
        workloads=works,
        cells=tuple(
            Cell(name=n, grid_zone="g", thermal_zone=n, gpus_total=64, node_free_gpus=(8,) * 8, pue=1.2) for n in names
        ),
        grid_zones=(grid,),
        thermal_zones=tuple(draw(zone_states(n)) for n in names),
        running=running,
    )
