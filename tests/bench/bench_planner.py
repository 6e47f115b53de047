# SPDX-License-Identifier: Apache-2.0
"""How long a plan and its shield take: `python tests/bench/bench_planner.py [--repeat 3] [--clock cpu]`.

Synthetic snapshots from a fixed seed. "alike" are jobs of a few shapes, "distinct" all have durations of their own,
which defeats every cache. "sunny" are zones with plants that leave some of their power to held work. Prints one table;
exits with 1 when a turn of 10,000 takes longer than 2 s.
"""

import argparse
import gc
import resource
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from embellie.domain.forecast import Forecast, OnSitePower
from embellie.domain.plan import Action
from embellie.domain.reasons import Rung, SignalKind
from embellie.domain.snapshot import (
    Cell,
    Flex,
    GridZoneState,
    RunningGang,
    Snapshot,
    ThermalZoneState,
    Workload,
    WorkloadKey,
    WorkloadKind,
)
from embellie.planning import plan
from embellie.thermal import shield

NOW = datetime(2026, 7, 1, 13, 20, tzinfo=UTC)
TURN_LIMIT_S = 2.0


def make_forecast(zone: str, slots: int, seed: int) -> Forecast:
    """Return a daily wave with noise."""
    rng = np.random.default_rng(seed)
    hours = np.arange(slots)
    median = 300 + 120 * np.cos(2 * np.pi * (hours + 4 * seed) / 24) + rng.normal(0, 15, slots)
    values = np.clip(np.stack([median * 0.85, median, median * 1.15]), 1, 1500)
    return Forecast(
        zone=zone,
        issued_at=NOW - timedelta(hours=1),
        start=NOW.replace(minute=0) - timedelta(hours=1),
        step=timedelta(hours=1),
        quantile_levels=(0.1, 0.5, 0.9),
        carbon_intensity_g_per_kwh=values,
        carbon_intensity_mean_g_per_kwh=values[1].copy(),
        renewable_share=np.full((3, slots), 0.4),
        ambient_temperature_c=np.full((3, slots), 15.0),
        signal_kind=SignalKind.AVERAGE_LIFECYCLE,
        rung=Rung.LIVE,
        model_id="bench",
    )


def make_snapshot(workloads: int, cells: int, slots: int, *, distinct: bool, nodes: int = 500) -> Snapshot:
    """Return a cluster that is about 70 % busy, with this much held work."""
    rng = np.random.default_rng(workloads + cells)
    zones = tuple(
        GridZoneState(
            name=f"z{i}",
            contracted_power_kw=1.1 * nodes / cells * 8,
            base_power_kw=nodes / cells * 3.2,
            measured_power_kw=None,
            forecast=make_forecast(f"z{i}", slots, i),
        )
        for i in range(cells)
    )
    thermals = tuple(
        ThermalZoneState(
            name=f"t{i}",
            inlet_limit_c=32,
            margin_c=3,
            rise_k_per_kw=8.0 / (nodes / cells * 8),
            supply=None,
            supply_worst_c=22,
            supply_setpoint_c=20,
            ambient_approach_k=6,
            inlet=None,
            cooling_capacity_kw=None,
            start_ramp_kw_per_min=500.0,
            base_power_kw=nodes / cells * 3.2,
            ambient_grid_zone=f"z{i}",
        )
        for i in range(cells)
    )
    per_cell = nodes // cells
    places = tuple(
        Cell(
            name=f"z{i}.t{i}",
            grid_zone=f"z{i}",
            thermal_zone=f"t{i}",
            gpus_total=per_cell * 8,
            node_free_gpus=tuple(int(n) for n in rng.choice([0, 0, 2, 8], per_cell)),
        )
        for i in range(cells)
    )
    running = tuple(
        RunningGang(
            cell=f"z{int(rng.integers(cells))}.t0" if cells == 1 else places[int(rng.integers(cells))].name,
            gpus=8,
            power_kw=4.0,
            worst_power_kw=5.0,
            expected_end_p50=NOW + timedelta(hours=float(rng.uniform(0, 30))),
            expected_end_p90=NOW + timedelta(hours=float(rng.uniform(10, 60))),
            started_at=NOW - timedelta(hours=2),
        )
        for _ in range(int(nodes * 0.6))
    )
    everywhere = frozenset(cell.name for cell in places)
    work = []
    for i in range(workloads):
        pods, per_pod = [(1, 1), (1, 2), (1, 8), (2, 8)][int(rng.choice(4, p=[0.7, 0.1, 0.15, 0.05]))]
        hours = float(np.clip(rng.lognormal(0.5, 1.2), 0.1, 48)) if distinct else float(rng.choice([0.5, 2, 6.5, 24]))
        work.append(
            Workload(
                key=WorkloadKey(namespace="team", name=f"job-{i}", kind=WorkloadKind.JOB, uid=str(i)),
                created_at=NOW - timedelta(seconds=float(rng.uniform(0, 36000))),
                latest_start=NOW + timedelta(hours=float(rng.uniform(0, 70))),
                pods=pods,
                gpus_per_pod=per_pod,
                power_kw=0.45 * pods * per_pod,
                worst_power_kw=0.65 * pods * per_pod,
                duration_p50_s=hours * 3600,
                duration_p90_s=hours * 3600 * 1.5,
                flex=Flex.PATIENT,
                tenant="team",
                policy="default",
                enforced=True,
                allowed_cells=everywhere if i % 5 else frozenset(sorted(everywhere)[:1]),
                minimum_saving_percent=2.0,
            )
        )
    return Snapshot(
        now=NOW,
        turn_s=15.0,
        workloads=tuple(work),
        cells=places,
        grid_zones=zones,
        thermal_zones=thermals,
        running=running,
    )


def sunny(snapshot: Snapshot, peak_kw: float = 3000.0) -> Snapshot:
    """Return the same behind a plant in each zone."""
    zones = []
    for i, zone in enumerate(snapshot.grid_zones):
        forecast = zone.forecast
        assert forecast is not None
        hour = (forecast.start.hour + np.arange(forecast.n_slots)) % 24
        skies = np.random.default_rng(100 + i).uniform(0.5, 1.0, forecast.n_slots)
        kw = np.clip(np.sin(np.pi * (hour - 6) / 12), 0.0, None) * peak_kw * skies
        roof = OnSitePower(
            name="roof", kind="Solar", rung=Rung.LIVE, power_kw=np.stack([0.7 * kw, kw, np.minimum(1.2 * kw, peak_kw)])
        )
        zones.append(replace(zone, forecast=replace(forecast, on_site=(roof,))))
    return replace(snapshot, grid_zones=tuple(zones))


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: where others use the machine")
    told = parser.parse_args()
    repeat, clock = told.repeat, time.process_time if told.clock == "cpu" else time.perf_counter
    print(
        f"{'workloads':>9} {'cells':>5} {'slots':>5} {'shapes':>8} {'':>5} "
        f"{'plan s':>7} {'shield s':>8} {'held':>6} {'us each':>7}"
    )
    slow = False
    for workloads, cells, slots, distinct, sun in (
        (1000, 2, 96, True, False),
        (5000, 2, 96, True, False),
        (10000, 2, 96, False, False),
        (10000, 2, 96, True, False),
        (10000, 4, 96, False, False),
        (10000, 4, 96, False, True),
        (10000, 4, 192, False, False),
        (10000, 4, 192, True, False),
        (10000, 4, 192, True, True),
    ):
        snapshot = make_snapshot(workloads, cells, slots, distinct=distinct)
        snapshot = sunny(snapshot) if sun else snapshot
        plans, shields = [], []
        for _ in range(repeat):
            gc.collect()
            start = clock()
            planned = plan(snapshot)
            middle = clock()
            done = shield(planned, snapshot)
            plans.append(middle - start)
            shields.append(clock() - middle)
        held = sum(d.action is Action.HOLD for d in done.decisions)
        best, checked = min(plans), min(shields)
        slow = slow or best + checked > TURN_LIMIT_S
        print(
            f"{workloads:>9} {cells:>5} {slots:>5} {'distinct' if distinct else 'alike':>8} "
            f"{'sunny' if sun else '':>5} "
            f"{best:>7.3f} {checked:>8.3f} {held:>6} {best / workloads * 1e6:>7.1f}"
        )
    print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
