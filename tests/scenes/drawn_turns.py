# SPDX-License-Identifier: Apache-2.0
"""Drawn turns: any cluster, forecasts, sensors, contracts, orders and work that a plan may meet."""

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import strategies as st

from embellie.domain.forecast import Forecast, OnSitePower
from embellie.domain.heat import HeatOutlook
from embellie.domain.power_orders import PowerOrder
from embellie.domain.reasons import Reason, Rung, SignalKind
from embellie.domain.snapshot import (
    CARBON,
    Cell,
    Flex,
    GridZoneState,
    Quality,
    Reading,
    RunningGang,
    Snapshot,
    TenantUse,
    ThermalZoneState,
    Weights,
    Workload,
    WorkloadKey,
    WorkloadKind,
)

NOW = datetime(2026, 7, 1, 13, 20, tzinfo=UTC)
TURN_S = 30.0
CELLS = ("a", "b", "c")
TENANTS = (
    {},
    {"t": TenantUse(gpu_h=90, waited_gpu_h=1), "u": TenantUse(gpu_h=10, waited_gpu_h=30)},
    {"u": TenantUse(gpu_h=9, waited_gpu_h=0), "v": TenantUse(gpu_h=1, waited_gpu_h=0.4)},
)


def hours(low: float, high: float) -> st.SearchStrategy[timedelta]:
    return st.floats(low, high, allow_nan=False).map(lambda h: timedelta(seconds=round(h * 3600)))


@st.composite
def forecasts(draw: st.DrawFn, zone: str) -> Forecast | None:
    if draw(st.integers(0, 5)) == 0:
        return None
    slots = draw(st.sampled_from([6, 24, 48]))
    mean = np.array(draw(st.lists(st.floats(0, 900), min_size=slots, max_size=slots)))
    return Forecast(
        zone=zone,
        issued_at=NOW,
        start=NOW.replace(minute=0) - timedelta(hours=draw(st.integers(0, 3))),
        step=draw(st.sampled_from([timedelta(hours=1), timedelta(minutes=30)])),
        quantile_levels=(0.1, 0.5, 0.9),
        carbon_intensity_g_per_kwh=np.stack([mean * 0.8, mean, mean * 1.2]),
        carbon_intensity_mean_g_per_kwh=mean,
        renewable_share=np.full((3, slots), 0.5) + 0.4 * np.sin(np.arange(slots)),
        price_per_mwh=draw(st.sampled_from([None, 200.0 * np.cos(np.arange(slots)), np.zeros(slots)])),
        ambient_temperature_c=np.full((3, slots), draw(st.floats(-10, 40))) if draw(st.booleans()) else None,
        signal_kind=draw(st.sampled_from(SignalKind)),
        rung=draw(st.sampled_from(Rung)),
        model_id="test",
        on_site=tuple(draw(st.lists(plants(slots), max_size=2))),
    )


@st.composite
def plants(draw: st.DrawFn, slots: int) -> OnSitePower:
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return OnSitePower(
        name="plant",
        kind=draw(st.sampled_from(["Solar", "Wind"])),
        rung=Rung.CLIMATOLOGY,
        power_kw=np.sort(rng.choice([0.0, 5.0, 40.0, 200.0], (3, slots)), axis=0),
    )


def readings(low: float, high: float) -> st.SearchStrategy[Reading | None]:
    return st.none() | st.builds(
        Reading,
        value=st.none() | st.floats(low, high),
        age_s=st.floats(0, 1000),
        quality=st.sampled_from([Quality.FRESH] * 6 + list(Quality)),
    )


@st.composite
def outlooks(draw: st.DrawFn) -> HeatOutlook:
    slots = draw(st.sampled_from([4, 24]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return HeatOutlook(
        start=NOW.replace(minute=0) + timedelta(hours=draw(st.integers(-2, 2))),
        step=draw(st.sampled_from([timedelta(hours=1), timedelta(minutes=30), timedelta(hours=2)])),
        removable_kw=rng.choice([0.0, 20.0, 60.0, np.inf], slots),
        pue=rng.uniform(1.0, 1.6, slots),
        floor_kw=rng.choice([0.0, 10.0, 30.0, 90.0], slots) if draw(st.booleans()) else None,
        floor_g_per_kwh=draw(st.sampled_from([0.0, 60.0, 224.0, 1500.0])),
    )


@st.composite
def orders(draw: st.DrawFn) -> PowerOrder:
    begins = NOW + draw(hours(-4, 12))
    return PowerOrder(begins=begins, ends=begins + draw(hours(0.1, 8)), power_kw=float(draw(st.integers(0, 90))))


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    names = CELLS[: draw(st.integers(1, 3))]
    shared = draw(st.booleans())
    grids = tuple(
        GridZoneState(
            name=f"g{n}",
            contracted_power_kw=draw(st.none() | st.floats(30, 200)),
            base_power_kw=draw(st.floats(0, 30)),
            measured_power_kw=draw(readings(0, 90)),
            forecast=draw(forecasts(f"g{n}")),
            orders=tuple(draw(st.lists(orders(), max_size=2))) if draw(st.booleans()) else (),
        )
        for n in (names[:1] if shared else names)
    )
    thermals = tuple(
        ThermalZoneState(
            name=f"t{n}",
            inlet_limit_c=32.0,
            margin_c=3.0,
            rise_k_per_kw=draw(st.sampled_from([0.0, 0.1, 0.5])),
            supply=draw(readings(15, 35)),
            supply_worst_c=27.0,
            supply_setpoint_c=20.0,
            ambient_approach_k=8.0,
            inlet=draw(readings(15, 40)),
            cooling_capacity_kw=draw(st.none() | st.floats(0, 80)),
            start_ramp_kw_per_min=draw(st.none() | st.floats(0.5, 100)),
            base_power_kw=draw(st.floats(0, 20)),
            ambient_grid_zone=grids[0].name,
            outlook=draw(st.none() | outlooks()),
        )
        for n in names
        if draw(st.booleans())
    )
    cells = tuple(
        Cell(
            name=n,
            grid_zone=grids[0].name if shared else f"g{n}",
            thermal_zone=f"t{n}" if any(t.name == f"t{n}" for t in thermals) else None,
            gpus_total=32,
            node_free_gpus=tuple(draw(st.lists(st.sampled_from([0, 2, 4, 8]), max_size=4))),
            pue=1.25,
        )
        for n in names
    )
    running = tuple(
        RunningGang(
            cell=draw(st.sampled_from(names)),
            gpus=4,
            power_kw=2.0,
            worst_power_kw=draw(st.floats(0.5, 6)),
            expected_end_p50=NOW + draw(hours(-2, 10)),
            expected_end_p90=NOW + draw(hours(-2, 20)),
            started_at=NOW - draw(hours(0, 1)),
        )
        for _ in range(draw(st.integers(0, 3)))
    )
    return Snapshot(
        now=NOW,
        turn_s=TURN_S,
        workloads=tuple(draw(workload(i)) for i in range(draw(st.integers(0, 7)))),
        cells=cells,
        grid_zones=grids,
        thermal_zones=thermals,
        running=running,
        tenants=draw(st.sampled_from(TENANTS)),
        max_held_gpus=draw(st.sampled_from([{}] * 4 + [{"p": 0.0}, {"p": 12.0}])),
    )


@st.composite
def workload(draw: st.DrawFn, number: int) -> Workload:
    p50 = draw(st.floats(60, 30 * 3600))
    worst = draw(st.floats(0.1, 10))
    start_now = draw(st.sampled_from([None] * 6 + [Reason.INVALID_ANNOTATION.value, Reason.NO_POLICY.value]))
    return Workload(
        key=WorkloadKey(namespace="n", name=f"w{number}", kind=WorkloadKind.JOB, uid=str(number)),
        created_at=NOW - draw(hours(0, 30)),
        latest_start=NOW + draw(hours(-6, 30)),
        pods=draw(st.integers(1, 3)),
        gpus_per_pod=draw(st.sampled_from([1, 2, 4, 8])),
        power_kw=worst * 0.7,
        worst_power_kw=worst,
        duration_p50_s=p50,
        duration_p90_s=p50 * draw(st.floats(1, 2)),
        flex=Flex.PATIENT,
        tenant=draw(st.sampled_from(["t", "u", "v"])),
        weights=draw(st.sampled_from([CARBON, CARBON, Weights(cost=1.0), Weights(carbon=0.0, renewable=2.0)])),
        policy="p",
        enforced=draw(st.integers(0, 4)) > 0,
        allowed_cells=frozenset(draw(st.lists(st.sampled_from([*CELLS, "gone"]), max_size=3))),
        minimum_saving_percent=draw(st.sampled_from([0.0, 2.0, 10.0])),
        start_now=start_now,
    )
