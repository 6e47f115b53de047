# SPDX-License-Identifier: Apache-2.0
"""Replays first come first served, against what is worked out by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from embellie.accounting import Signal
from embellie.domain.reasons import SignalKind
from embellie.simulation import SimCell, SimGridZone, SimJob, SimSite, load_trace, shape, simulate
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
        latest_start=submit + 24 * HOUR,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def zone(name: str) -> SimGridZone:
    signal = Signal(start=T0, step=HOUR, values=np.full(240, 300.0), kind=SignalKind.AVERAGE_LIFECYCLE)
    return SimGridZone(name=name, signal=signal)


def site(nodes: int = 1, **changes: object) -> SimSite:
    base = SimSite(cells=(SimCell(name="west", grid_zone="west", nodes=nodes),), grid_zones=(zone("west"),))
    return replace(base, **changes)  # type: ignore[arg-type]


def starts(*jobs: SimJob, on: SimSite | None = None) -> dict[str, float]:
    return {run.job: (run.start - T0) / HOUR for run in simulate(jobs, on or site()).runs}


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
        grid_zones=(zone("west"), zone("east")),
    )
    jobs = [job("free"), job("bound", allowed_cells=frozenset({"west"}))]
    result = simulate(jobs, both)
    assert dict(zip([r.job for r in result.runs], result.cells, strict=True)) == {"free": "east", "bound": "west"}


def test_a_week_of_real_jobs_replays_first_come_first_served_without_overbooking() -> None:
    jobs = [
        SimJob(
            id=j.id,
            submit=T0 + timedelta(seconds=j.submit_s),
            duration_s=j.duration_s,
            pods=shape(j.gpus)[0],
            gpus_per_pod=shape(j.gpus)[1],
            power_kw=0.45 * j.gpus,
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


def test_nodes_are_given_back_exactly() -> None:
    pool = NodePool(3, 8)
    first, second = pool.take(2, 6), pool.take(1, 2)
    assert pool.node_free_gpus == (0, 2, 8)
    pool.give_back(first, 6)
    assert pool.node_free_gpus == (6, 8, 8)
    pool.give_back(second, 2)
    assert pool.node_free_gpus == (8, 8, 8)
    assert pool.free_gpus == 24
