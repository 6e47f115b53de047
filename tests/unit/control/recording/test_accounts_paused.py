# SPDX-License-Identifier: Apache-2.0
"""The run of work that was paused: all that it drew, from its first start to its end, whoever led meanwhile."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from recorder import HOUR, T0, Desk, Hand, Meters, pod, view

from embellie.cluster.records import UNCONSTRAINED, PodRecord, WorkloadRecord
from embellie.cluster.store import View
from embellie.domain.snapshot import WorkloadKey, WorkloadKind
from embellie.ledger import Kind

QUARTER = timedelta(minutes=15)
JOB = WorkloadRecord(
    key=WorkloadKey(namespace="ml", name="train", kind=WorkloadKind.JOB, uid="j1"), created_at=T0, flex="patient",
    held=False, labels={}, annotations={}, pods=1, gpus_per_pod=8, waiting=False, finished=False,
    constraints=UNCONSTRAINED,
)  # fmt: skip


def seen(*pods: PodRecord) -> View:
    return replace(view(*pods), workloads=(JOB,))


def started(uid: str, at: datetime) -> PodRecord:
    return replace(pod(uid=uid, job="j1"), created_at=at, started_at=at)


def paused(folder: Path) -> tuple[Desk, Hand]:
    """A desk, and its clock, whose work ran for two hours and was then paused for one."""
    clock = Hand(T0)
    desk = Desk(folder, clock, Meters())
    desk.turns(8, QUARTER, seen=seen(started("before", T0)))
    desk.turns(4, QUARTER, seen=seen())
    return desk, clock


@pytest.mark.parametrize("restarts", [False, True])
def test_a_run_that_was_paused_begins_with_its_first_start_and_holds_all_that_it_drew(
    restarts: bool, tmp_path: Path
) -> None:
    desk, clock = paused(tmp_path)
    if restarts:
        desk.stop()
        desk = Desk(tmp_path, clock, Meters())
    desk.turns(8, QUARTER, seen=seen(started("after", clock.now())))
    desk.turns(4, QUARTER, seen=seen())
    accounts = [
        body["adds"]["workloads"]["j1"] for body in desk.entries(Kind.ACCOUNT) if "j1" in body["adds"]["workloads"]
    ]
    run = desk.entries(Kind.RUN)[-1]
    start, end = (datetime.fromisoformat(run[edge]) for edge in ("start", "end"))
    assert (start, end) == (T0, T0 + 5 * HOUR)
    assert sum(row["gpuSeconds"] for row in accounts) == pytest.approx(4 * 8 * 3600.0)
    drawn = sum(row["dynamicKwh"] for row in accounts)
    assert run["addedKw"] * 5.0 == pytest.approx(drawn)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_run_that_goes_on_after_a_pause_is_told_as_running_since_its_first_start(
    restarts: bool, tmp_path: Path
) -> None:
    desk, clock = paused(tmp_path)
    after = started("after", clock.now())
    desk.turns(2, QUARTER, seen=seen(after))
    if restarts:
        desk.stop()
        desk = Desk(tmp_path, clock, Meters())
        desk.turns(2, QUARTER, seen=seen(after))
    run = desk.entries(Kind.RUN)[-1]
    assert (datetime.fromisoformat(run["start"]), run["running"]) == (T0, True)
