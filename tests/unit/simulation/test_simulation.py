# SPDX-License-Identifier: Apache-2.0
"""Replays: first come first served by hand, and the operator's planner on the same jobs."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from planned.replay import simulate_planned
from snapshots import thermal_zone_state

from embellie.accounting import Signal, account, common_window, compare
from embellie.domain.reasons import SignalKind
from embellie.domain.snapshot import Flex
from embellie.simulation import (
    SimCell,
    SimGridZone,
    SimJob,
    SimResult,
    SimSite,
    load_trace,
    sample_trace,
    shape,
    simulate,
)
from embellie.simulation.nodes import NodePool

T0 = datetime(2026, 7, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def job(
    name: str, submit_h: float = 0.0, hours: float = 2.0, pods: int = 1, per_pod: int = 8, **changes: object
) -> SimJob:
    submit = T0 + submit_h * HOUR
    base = SimJob(
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


def zone(name: str, values: list[float], **changes: object) -> SimGridZone:
    signal = Signal(start=T0, step=HOUR, values=np.array(values), kind=SignalKind.AVERAGE_LIFECYCLE)
    return SimGridZone(name=name, signal=signal, **changes)  # type: ignore[arg-type]


TURN_S = 3600.0
DAYS = 10
DAY = [400.0] * 18 + [100.0] * 6


def site(nodes: int = 1, **changes: object) -> SimSite:
    base = SimSite(cells=(SimCell(name="west", grid_zone="west", nodes=nodes),), grid_zones=(zone("west", DAY * DAYS),))
    return replace(base, **changes)  # type: ignore[arg-type]


def run(jobs: Sequence[SimJob], on: SimSite, policy: str) -> SimResult:
    return simulate_planned(jobs, on, turn_s=TURN_S) if policy == "embellie" else simulate(jobs, on)


def starts(*jobs: SimJob, policy: str = "fifo", on: SimSite | None = None) -> dict[str, float]:
    result = run(jobs, on or site(), policy)
    return {run.job: (run.start - T0) / HOUR for run in result.runs}


def test_fifo_starts_in_the_order_of_submission_when_room_comes() -> None:
    assert starts(job("c", 0.2), job("b", 0.1), job("a")) == {"a": 0.0, "b": 2.0, "c": 4.0}


def test_fifo_lets_small_gangs_overtake_what_does_not_fit() -> None:
    found = starts(job("a", per_pod=4), job("b", 0.1, per_pod=8), job("c", 0.2, per_pod=4))
    assert found == {"a": 0.0, "c": 0.2, "b": 2.2}


def test_gangs_start_whole_and_pack_on_nodes() -> None:
    # Two nodes with 4 GPUs free each do not seat one pod of 8.
    two = site(nodes=2)
    found = starts(job("a", per_pod=4, pods=2, hours=1), job("b", per_pod=8), on=two)
    assert found == {"a": 0.0, "b": 0.0}
    spread = starts(job("a", per_pod=6, pods=2, hours=1), job("b", per_pod=4, pods=1), on=two)
    assert spread == {"a": 0.0, "b": 1.0}


def test_what_fits_nowhere_is_named() -> None:
    result = simulate([job("big", pods=2), job("ok")], site())
    assert result.never_started == ("big",)
    assert [run.job for run in result.runs] == ["ok"]


def test_work_stays_in_its_allowed_cells() -> None:
    both = site(
        cells=(SimCell(name="west", grid_zone="west", nodes=1), SimCell(name="east", grid_zone="east", nodes=8)),
        grid_zones=(zone("west", DAY * DAYS), zone("east", DAY * DAYS)),
    )
    jobs = [job("free"), job("bound", allowed_cells=frozenset({"west"}))]
    result = simulate(jobs, both)
    assert dict(zip([r.job for r in result.runs], result.cells, strict=True)) == {"free": "east", "bound": "west"}


def test_the_planner_moves_work_into_the_clean_hours_and_within_the_bound() -> None:
    found = starts(job("a"), job("tight", latest_start=T0 + 3 * HOUR), policy="embellie", on=site(nodes=4))
    assert found["a"] == pytest.approx(18.0, abs=0.26)
    assert found["tight"] <= 3.0


def test_rigid_work_is_never_delayed_by_the_planner() -> None:
    jobs = [job("r", flex=Flex.RIGID), job("p")]
    assert starts(*jobs, policy="embellie", on=site(nodes=4))["r"] == 0.0


def test_the_planner_saves_at_cluster_level_and_keeps_every_bound() -> None:
    jobs = [job(f"j{i}", submit_h=i * 2.3, hours=1 + i % 5, per_pod=1 + i % 8) for i in range(8)]
    place = site(nodes=4)
    fifo, ours = simulate(jobs, place), simulate_planned(jobs, place, turn_s=TURN_S)
    window = common_window(fifo.runs, ours.runs, start=T0)
    signals = {z.name: z.signal for z in place.grid_zones}
    accounts = [account(r.runs, place.zone_powers(), signals, *window) for r in (ours, fifo)]
    assert accounts[0].delays.past_bound == 0
    assert accounts[0].runs == accounts[1].runs == 8
    saved = compare(*accounts)
    assert saved.saved_percent > 5.0
    assert saved.saved_energy_kwh == pytest.approx(0.0, abs=1e-6)


def test_contracted_power_is_kept_by_the_planner_and_not_by_fifo() -> None:
    # Idle 4 x 3.2 x 1.2 = 15.4 kW; each job adds at worst 6.2 kW.
    place = site(nodes=4, grid_zones=(zone("west", DAY * DAYS, contracted_power_kw=30.0),))
    jobs = [job(f"j{i}") for i in range(4)]
    signals = {z.name: z.signal for z in place.grid_zones}
    peaks = {}
    for policy in ("fifo", "embellie"):
        runs = run(jobs, place, policy).runs
        peaks[policy] = account(runs, place.zone_powers(), signals, *common_window(runs, start=T0)).peak_kw
    assert peaks["fifo"] > 30.0
    assert peaks["embellie"] <= 30.0


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
    found = starts(job("a", submit_h=1.0, hours=3.0), policy="embellie", on=place)
    assert found["a"] >= 6.0


def test_replays_are_deterministic_and_do_not_depend_on_the_order_of_jobs() -> None:
    jobs = [job(f"j{i:02d}", submit_h=(i * 7 % 3) / 3, hours=1 + i % 3, per_pod=1 + i % 5) for i in range(6)]
    for policy in ("fifo", "embellie"):
        found, again = (run(order, site(), policy) for order in (jobs, jobs[::-1]))
        assert found == again


@pytest.mark.parametrize("policy", ["fifo", "embellie"])
def test_no_jobs_give_no_runs(policy: str) -> None:
    assert run([], site(), policy).runs == ()


def test_a_week_of_real_jobs_replays_first_come_first_served_without_overbooking() -> None:
    jobs = [
        SimJob(
            id=j.id,
            submit=T0 + timedelta(seconds=j.submit_s),
            duration_s=j.duration_s,
            pods=shape(j.gpus)[0],
            gpus_per_pod=shape(j.gpus)[1],
            power_kw=0.45 * j.gpus,
            worst_power_kw=0.65 * j.gpus,
            latest_start=T0,
        )
        for j in load_trace()
    ]
    result = simulate(jobs, site(nodes=64))
    assert len(result.runs) + len(result.never_started) == len(jobs)
    edges = sorted([(r.end, -r.gpus) for r in result.runs] + [(r.start, r.gpus) for r in result.runs])
    used = np.cumsum([g for _, g in edges])
    assert used.max() <= 64 * 8
    assert used.max() > 0.9 * 64 * 8


def test_the_carried_trace_is_whole() -> None:
    jobs = load_trace()
    assert len(jobs) == 3869
    assert len({j.id for j in jobs}) == 3869
    assert jobs[0].submit_s >= 0
    assert jobs[-1].submit_s < 7 * 86400
    assert {j.gpus for j in jobs} == {1, 2, 4, 8, 16, 32, 64}


def test_a_sample_comes_close_to_its_target_from_below_and_is_always_the_same() -> None:
    trace = load_trace()
    for target in (0.3, 0.55, 0.8):
        found = sample_trace(trace, gpus=256, utilisation=target, max_gpus=32)
        assert target - 0.005 <= found.utilisation <= target
        window = 2 * 86400.0
        load = sum(j.gpus * min(j.duration_s, window - j.submit_s) for j in found.jobs)
        assert load / (256 * window) == pytest.approx(found.utilisation)
    assert sample_trace(trace[::-1], gpus=256, utilisation=0.55) == sample_trace(trace, gpus=256, utilisation=0.55)
    assert sample_trace(trace, gpus=256, utilisation=0.55, seed="x") != sample_trace(trace, gpus=256, utilisation=0.55)


def test_a_sample_counts_its_times_from_the_windows_start() -> None:
    found = sample_trace(
        load_trace(), gpus=256, utilisation=0.5, start_s=86400.0, window_s=86400.0, max_duration_s=7200
    )
    assert all(0 <= j.submit_s < 86400 and j.duration_s <= 7200 for j in found.jobs)


@pytest.mark.parametrize("row", ["a,t,0,-5,1", "a,t,0,nan,1", "a,t,x,5,1", "a,t,0,5,0", "a,t,0,5,1.5", ",t,0,5,1"])
def test_a_row_that_is_no_job_is_refused_with_its_line(tmp_path: Path, row: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(f"job_id,tenant,submit_time_s,duration_s,gpus\nok,t,0,5,1\n{row}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 3"):
        load_trace(path)


def test_a_trace_without_a_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("job_id,gpus\na,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="duration_s"):
        load_trace(path)


@pytest.mark.parametrize(("gpus", "expected"), [(1, (1, 1)), (8, (1, 8)), (16, (2, 8)), (64, (8, 8)), (13, (13, 1))])
def test_a_gangs_shape_is_whole_nodes_where_it_needs_several(gpus: int, expected: tuple[int, int]) -> None:
    assert shape(gpus) == expected


def test_nodes_are_given_back_exactly() -> None:
    pool = NodePool(3, 8)
    first, second = pool.take(2, 6), pool.take(1, 2)
    assert pool.node_free_gpus == (0, 2, 8)
    pool.give_back(first, 6)
    assert pool.node_free_gpus == (6, 8, 8)
    pool.give_back(second, 2)
    assert pool.node_free_gpus == (8, 8, 8)
    assert pool.free_gpus == 24
