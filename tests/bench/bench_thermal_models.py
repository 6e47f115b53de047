# SPDX-License-Identifier: Apache-2.0
"""Heat models on measured machines, and how long a turn of them takes. Run by `make bench-thermal`.

Fits over measured data need the project's data folder, named by EMBELLIE_DATA; without it those rows are left out.
"""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from embellie.cli.thermal_data import Run, load
from embellie.cli.thermal_fit import Outcome, evaluate
from embellie.domain.plan import Action, Decision, Plan
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import (
    Cell,
    Flex,
    Quality,
    Reading,
    RunningGang,
    Snapshot,
    ThermalZoneState,
    Workload,
    WorkloadKey,
    WorkloadKind,
)
from embellie.thermal import shield
from embellie.thermal.controller import HeatController
from embellie.thermal.readings import Unit
from embellie.thermal.sensing import SensorBank, zone_readings
from embellie.thermal.settings import CoolingSettings, LimitSettings, Role, SensorSettings, ZoneSettings
from embellie.thermal.weather import AmbientForecast

ZONES, NODES, STARTS = 200, 5000, 200
NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def row(what: str, value: str, target: str, met: bool | None) -> None:
    """Print one line of the table."""
    verdict = "" if met is None else "met" if met else "MISSED"
    print(f"{what:<66} {value:<26} {target:<22} {verdict}", flush=True)


def measured(folder: Path) -> None:
    """Print the rows over measured data."""
    node = load(folder / "b200_gpuburn_node.csv.gz").runs
    left_out = evaluate(node, [])
    found = left_out.as_json()["node_power_rmse_w"]
    row("node power, B200, each run by the others: rmse", f"{found:.1f} W", "<= 46 W", found <= 46.0)
    automatic = [r for r in node if r.mode == "default"]
    pairs = []
    for held in automatic:
        outcome = evaluate([r for r in node if r is not held], [held])
        pairs += outcome.node_w
    both = np.concatenate(pairs)
    found = float(np.sqrt(np.mean((both[:, 0] - both[:, 1]) ** 2)))
    row("  the same, automatic fans only, one run left out at a time", f"{found:.1f} W", "<= 46 W", found <= 46.0)

    gpu = load(folder / "b200_gpuburn_gpu.csv.gz").runs
    outcome = evaluate([r for r in gpu if "/fp32/" in r.label], [r for r in gpu if r.matches("*/default/fp64/*")])
    found = outcome.as_json()["die_q999_c"]
    what = "die, mean of a 15 s step, fp32 -> fp64, automatic fans: q99.9"
    row(what, f"{found:.2f} C", "<= 3.0 C", found <= 3.0)
    end = outcome.parameters["die_q999_end_of_step_c"]
    row("  the same against the last sample of the step (edges included)", f"{end:.2f} C", "(no target)", None)
    coverage("GPU dies, fp32 -> all others", evaluate(_of(gpu, "/fp32/"), _of(gpu, "/fp64/", "/fp32_tc/")))
    servers = sorted((folder / "biohpc_hourly").glob("*.csv.gz"))
    for path in servers:
        runs = load(path).runs
        third = max(1, len(runs) // 3)
        coverage(f"hourly {path.name.partition('.')[0]}, years of drift", evaluate(runs[:third], runs[third:]))


def _of(runs: tuple[Run, ...], *parts: str) -> list[Run]:
    return [r for r in runs if any(part in r.label for part in parts)]


def coverage(what: str, outcome: Outcome) -> None:
    """Print the margins' rows of one fit."""
    for eps, share in outcome.coverage.items():
        wanted = 1.0 - float(eps)
        row(
            f"margin at {100 * wanted:g} %: {what} ({outcome.rows_test} rows)",
            f"{100 * share:.2f} %, {outcome.margin_c[eps]:.2f} K",
            f"{100 * wanted:g} +- 0.5 %",
            abs(share - wanted) <= 0.005,
        )


def settings() -> list[ZoneSettings]:
    """Return 200 zones in rooms of five whose heat may mix."""
    sensors = (
        SensorSettings(name="inlet", role=Role.INLET, unit=Unit.CELSIUS),
        SensorSettings(name="supply", role=Role.SUPPLY, unit=Unit.CELSIUS),
    )
    return [
        ZoneSettings(
            name=f"z{i}",
            limits=LimitSettings(inlet_hard_c=32.0),
            cooling=CoolingSettings(capacity_kw=250.0, rise_k_per_kw=0.03),
            sensors=sensors,
            neighbours=tuple(f"z{j}" for j in range(i // 5 * 5, i // 5 * 5 + 5) if j != i)[:4],
            base_power_kw=50.0,
        )
        for i in range(ZONES)
    ]


def snapshot(thermal: tuple[ThermalZoneState, ...], per_zone: int) -> tuple[Snapshot, Plan]:
    """Return 5,000 nodes half full and a plan that starts 200 gangs at once."""
    cells = tuple(
        Cell(name=f"g.z{i}", grid_zone="g", thermal_zone=f"z{i}", gpus_total=8 * per_zone,
             node_free_gpus=(8,) * (per_zone // 2) + (0,) * (per_zone - per_zone // 2))
        for i in range(ZONES)
    )  # fmt: skip
    running = tuple(
        RunningGang(cell=f"g.z{i}", gpus=8, power_kw=5.0, worst_power_kw=6.0, expected_end_p50=NOW + timedelta(hours=5),
                    expected_end_p90=NOW + timedelta(hours=9), started_at=NOW - timedelta(hours=2))
        for i in range(ZONES)
        for _ in range(per_zone // 2)
    )  # fmt: skip
    work = tuple(
        Workload(
            key=WorkloadKey(namespace="n", name=f"w{k}", kind=WorkloadKind.JOB, uid=f"u{k}"), created_at=NOW,
            latest_start=NOW + timedelta(hours=20), pods=1, gpus_per_pod=8, power_kw=5.0, worst_power_kw=6.0,
            duration_p50_s=7200.0, duration_p90_s=14400.0, flex=Flex.PATIENT, tenant="n", policy="p", enforced=True,
            allowed_cells=frozenset({f"g.z{k % ZONES}"}),
        )
        for k in range(STARTS)
    )  # fmt: skip
    made = Snapshot(now=NOW, turn_s=15.0, workloads=work, cells=cells, grid_zones=(), thermal_zones=thermal,
                    running=running)  # fmt: skip
    decisions = tuple(
        Decision(key=w.key, action=Action.RELEASE, reason=Reason.BEST_NOW, message="Starts.", cell=f"g.z{k % ZONES}",
                 start=NOW, likely_start_p90=NOW, latest_start=w.latest_start, now=None, best=None)
        for k, w in enumerate(work)
    )  # fmt: skip
    return made, Plan(decisions=decisions, objective_g=0.0)


def turns(count: int = 20) -> None:
    """Time whole turns: judge every sensor, learn, predict an hour, look ahead, shield 200 starts, answer heat."""
    zones, bank, random = settings(), SensorBank(), np.random.default_rng(0)
    controller = HeatController(zones)
    weather = AmbientForecast(start=NOW, step=timedelta(hours=1), p50_c=np.full(72, 8.0), p90_c=np.full(72, 11.0))
    ambient = {z.name: weather for z in zones}
    wall, cpu, started = [], [], 0
    for k in range(count):
        now = NOW + timedelta(seconds=15 * k)
        begun, begun_cpu = time.perf_counter(), time.process_time()
        readings = {}
        for z in zones:
            found: dict[str, Reading] = {}
            for s in z.sensors:
                value = (22.0 if s.role is Role.INLET else 18.0) + 0.3 * random.normal()
                at_s = now.timestamp()
                found[s.name] = bank.judge(f"{z.name}/{s.name}", s, at_s, value, at_s, 100.0 + k)
            readings[z.name] = zone_readings(z, found)
        controller.observe(now, readings, {z.name: 100.0 + 10.0 * random.normal() for z in zones}, ambient)
        controller.models.predict(np.full((60, ZONES), 120.0), np.full((60, ZONES), 18.0), 60.0)
        states = controller.states(ambient)
        made, plan = snapshot(states, NODES // ZONES)
        shielded = shield(plan, made)
        controller.respond(now, ())
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - begun_cpu)
        started = sum(d.action is Action.RELEASE for d in shielded.decisions)
        assert all(r.quality is Quality.FRESH for z in readings.values() for r in z.by_role.values())
    what = f"one turn of estimate, predict and shield, {ZONES} zones, {NODES} nodes, {started} starts"
    row(what, f"{max(cpu[2:]):.2f} s CPU", "< 0.5 s", max(cpu[2:]) < 0.5)
    row("  the same, wall time (worst, median)", f"{max(wall[2:]):.2f} s, {np.median(wall):.2f} s", "", None)


def main() -> None:
    """Print the table."""
    row("heat models", "measured", "target", None)
    folder = os.environ.get("EMBELLIE_DATA")
    data = Path(folder) / "thermal" if folder else None
    if data is not None and data.is_dir():
        measured(data)
    else:
        print("rows over measured data are left out: EMBELLIE_DATA does not name the project's data folder")
    turns()


if __name__ == "__main__":
    main()
