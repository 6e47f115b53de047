# SPDX-License-Identifier: Apache-2.0
"""The operator's planner on replayed jobs: what it moves, and what it never does."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from planned.model import PlannedJob, PlannedSite, PlannedZone
from planned.replay import simulate_planned
from snapshots import thermal_zone_state

from embellie.accounting import Signal, account, common_window, compare
from embellie.domain.reasons import SignalKind
from embellie.domain.snapshot import Flex
from embellie.simulation import SimCell, SimResult, simulate

T0 = datetime(2026, 7, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAYS = 10
DAY = [400.0] * 18 + [100.0] * 6


def job(
    name: str, submit_h: float = 0.0, hours: float = 2.0, pods: int = 1, per_pod: int = 8, **changes: object
) -> PlannedJob:
    submit = T0 + submit_h * HOUR
    base = PlannedJob(
        id=name,
        submit=submit,
        duration_s=hours * 3600,
        pods=pods,
        gpus_per_pod=per_pod,
        power_kw=0.5 * pods * per_pod,
        worst_power_kw=0.65 * pods * per_pod,
        latest_start=submit + 24 * HOUR,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def zone(name: str, values: list[float], **changes: object) -> PlannedZone:
    signal = Signal(start=T0, step=HOUR, values=np.array(values), kind=SignalKind.AVERAGE_LIFECYCLE)
    return PlannedZone(name=name, signal=signal, **changes)  # type: ignore[arg-type]


def site(nodes: int = 1, **changes: object) -> PlannedSite:
    cells = (SimCell(name="west", grid_zone="west", nodes=nodes),)
    return replace(PlannedSite(cells=cells, grid_zones=(zone("west", DAY * DAYS),)), **changes)  # type: ignore[arg-type]


def run(jobs: Sequence[PlannedJob], on: PlannedSite) -> SimResult:
    return simulate_planned(jobs, on, turn_s=3600.0)


def starts(*jobs: PlannedJob, on: PlannedSite) -> dict[str, float]:
    return {run.job: (run.start - T0) / HOUR for run in run(jobs, on).runs}


def test_the_planner_moves_work_into_the_clean_hours_and_within_the_bound() -> None:
    found = starts(job("a"), job("tight", latest_start=T0 + 3 * HOUR), on=site(nodes=4))
    assert found["a"] == pytest.approx(18.0, abs=0.26)
    assert found["tight"] <= 3.0


def test_rigid_work_is_never_delayed_by_the_planner() -> None:
    jobs = [job("r", flex=Flex.RIGID), job("p")]
    assert starts(*jobs, on=site(nodes=4))["r"] == 0.0


def test_the_planner_saves_at_cluster_level_and_keeps_every_bound() -> None:
    jobs = [job(f"j{i}", submit_h=i * 2.3, hours=1 + i % 5, per_pod=1 + i % 8) for i in range(8)]
    place = site(nodes=4)
    fifo, ours = simulate(jobs, place), run(jobs, place)
    window = common_window(fifo.runs, ours.runs, start=T0)
    signals = {z.name: z.signal for z in place.grid_zones}
    accounts = [account(r.runs, place.zone_powers(), signals, *window) for r in (ours, fifo)]
    assert accounts[0].delays.past_bound == 0
    assert accounts[0].runs == accounts[1].runs == 8
    assert compare(*accounts).saved_percent > 5.0
    assert accounts[0].emissions.energy_kwh == pytest.approx(accounts[1].emissions.energy_kwh)


def test_contracted_power_is_kept_where_first_come_first_served_would_pass_it() -> None:
    # Idle 4 x 3.2 x 1.2 = 15.4 kW; each job adds at worst 6.2 kW.
    place = site(nodes=4, grid_zones=(zone("west", DAY * DAYS, contracted_power_kw=30.0),))
    jobs = [job(f"j{i}") for i in range(4)]
    signals = {z.name: z.signal for z in place.grid_zones}
    peak_kw, fifo_kw = (
        account(runs, place.zone_powers(), signals, *common_window(runs, start=T0)).peak_kw
        for runs in (run(jobs, place).runs, simulate(jobs, place).runs)
    )
    assert fifo_kw > 30.0
    assert peak_kw <= 30.0


def test_a_hot_afternoon_is_avoided() -> None:
    ambient = np.array(([10.0] * 2 + [24.0] * 4 + [10.0] * 18) * DAYS)
    hall = thermal_zone_state(
        rise_k_per_kw=0.2,
        supply_worst_c=27.0,
        supply_setpoint_c=18.0,
        ambient_approach_k=4.0,
        ambient_grid_zone="west",
    )
    place = site(
        cells=(SimCell(name="west.hall", grid_zone="west", thermal_zone="hall", nodes=1),),
        grid_zones=(zone("west", [300.0] * 24 * DAYS, ambient_c=ambient),),
        thermal_zones=(hall,),
    )
    found = starts(job("a", submit_h=1.0, hours=3.0), on=place)
    assert found["a"] >= 6.0


def test_replays_are_deterministic_and_do_not_depend_on_the_order_of_jobs() -> None:
    jobs = [job(f"j{i:02d}", submit_h=(i * 7 % 3) / 3, hours=1 + i % 3, per_pod=1 + i % 5) for i in range(6)]
    for replay in (run, simulate):
        found, again = (replay(order, site()) for order in (jobs, jobs[::-1]))
        assert found == again


def test_no_jobs_give_no_runs() -> None:
    assert run([], site()).runs == simulate([], site()).runs == ()
