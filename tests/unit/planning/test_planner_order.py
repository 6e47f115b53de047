# SPDX-License-Identifier: Apache-2.0
"""What a plan says does not depend on the order in which a snapshot lists things."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
from small_cluster import HOUR, NOW, cell, grid_zone, snapshot, workload
from snapshots import thermal_zone_state, workload_at

from embellie.domain.forecast import Forecast
from embellie.domain.reasons import Reason, Rung, SignalKind
from embellie.domain.snapshot import Cell, GridZoneState, Quality, Reading, Snapshot
from embellie.planning import plan


def test_which_of_two_full_rows_is_named_does_not_depend_on_the_order_of_cells() -> None:
    # Nothing emits anything, so that the prices of a cell without GPUs and of a warm one are a tie.
    forecast = Forecast(
        zone="west",
        issued_at=NOW,
        start=NOW.replace(minute=0),
        step=timedelta(minutes=30),
        quantile_levels=(0.5,),
        carbon_intensity_g_per_kwh=np.zeros((1, 24)),
        carbon_intensity_mean_g_per_kwh=np.zeros(24),
        renewable_share=np.full((1, 24), 0.5),
        ambient_temperature_c=np.zeros((1, 24)),
        signal_kind=SignalKind.AVERAGE_LIFECYCLE,
        rung=Rung.LIVE,
        model_id="test",
    )
    grid = GridZoneState(
        name="west", contracted_power_kw=None, base_power_kw=0.0, measured_power_kw=None, forecast=forecast
    )
    cells = tuple(
        Cell(name=name, grid_zone="west", thermal_zone=f"hall-{name}", gpus_total=32, node_free_gpus=(2,), pue=1.25)
        for name in ("a", "b")
    )
    warm = Reading(value=30.0, age_s=0.0, quality=Quality.FRESH)
    zones = (
        thermal_zone_state(name="hall-a", inlet=warm, supply_worst_c=27.0, ambient_grid_zone="west"),
        thermal_zone_state(
            name="hall-b", rise_k_per_kw=0.1, supply_worst_c=27.0, base_power_kw=17.0, ambient_grid_zone="west"
        ),
    )
    due = workload_at(
        NOW, "w0", created_at=NOW, latest_start=NOW, gpus_per_pod=2, power_kw=0.7, worst_power_kw=1.0,
        duration_p50_s=18_601.0, duration_p90_s=18_601.0, minimum_saving_percent=0.0, allowed_cells=frozenset({"a"}),
    )  # fmt: skip
    held = workload_at(
        NOW, "w1", created_at=NOW, latest_start=NOW + timedelta(hours=1), gpus_per_pod=1, power_kw=2.8,
        worst_power_kw=4.0, duration_p50_s=41_401.0, duration_p90_s=41_401.0, enforced=False,
        minimum_saving_percent=0.0, allowed_cells=frozenset({"a", "b"}),
    )  # fmt: skip
    told: list[Reason] = []
    for listed in (cells, cells[::-1]):
        snapshot = Snapshot(
            now=NOW,
            turn_s=30.0,
            workloads=(due, held),
            cells=listed,
            grid_zones=(grid,),
            thermal_zones=zones,
            running=(),
        )
        told.append(plan(snapshot).decisions[1].reason)
    assert told[0] is told[1]
    assert told[0] in (Reason.WAITING_FOR_GPUS, Reason.HEAT_LIMIT)


def test_the_order_of_the_input_changes_nothing() -> None:
    work = [
        workload(f"w{i}", created_at=NOW - (i % 3) * HOUR, duration_p50_s=1800.0 * (1 + i % 5), gpus_per_pod=1 + i % 8)
        for i in range(40)
    ]
    cells = (cell(nodes=(8, 8, 4)), cell("east", nodes=(8, 2)))
    zones = (grid_zone([400.0] * 6 + [100.0] * 42), grid_zone([300.0] * 48, "east"))
    work = [replace(w, allowed_cells=frozenset({"west", "east"})) for w in work]
    expected = {d.key: d for d in plan(snapshot(*work, cells=cells, grid_zones=zones)).decisions}
    work = work[1::2] + work[::2][::-1]
    shuffled = plan(snapshot(*work, cells=cells[::-1], grid_zones=zones[::-1]))
    assert {d.key: d for d in shuffled.decisions} == expected
    assert [d.key for d in shuffled.decisions] == [w.key for w in work]
