# SPDX-License-Identifier: Apache-2.0
"""Accounts of clusters with more namespaces than most have."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from embellie.accounting.interval import account_interval
from embellie.accounting.known import Gang, Machine, Stay, ZoneInterval
from embellie.ledger import Draft, Kind, Ledger

T0 = datetime(2026, 7, 1, tzinfo=UTC)
S0 = T0.timestamp()
MACHINE = Machine(name="n", gpus=8, idle_w=3200.0, gpu_idle_w=140.0, host_share=0.03)


def test_ten_thousand_gangs_of_as_many_namespaces_are_one_record_that_closes(tmp_path: Path) -> None:
    machines = tuple(replace(MACHINE, name=f"n{k}") for k in range(1250))
    gangs = tuple(
        Gang(
            uid=f"00000000-0000-0000-0000-{k:012}", namespace=f"namespace-{k:05}", name=f"train-{k:05}", team=f"t{k}",
            stays=(Stay(node=f"n{k // 8}", gpus=1, start_s=S0, end_s=S0 + 3600),), watts_per_gpu=600.0,
        )
        for k in range(10_000)
    )  # fmt: skip
    body = account_interval(
        ZoneInterval(
            zone="west",
            start=T0,
            end=T0 + timedelta(hours=1),
            machines=machines,
            gpus=(),
            gangs=gangs,
        )
    )
    kwh = body["adds"]["kwh"]
    assert len(body["adds"]["namespaces"]) == 10_000
    assert kwh["jobs"] + kwh["idle"] + kwh["overhead"] == pytest.approx(kwh["facility"])
    with Ledger(tmp_path / "ledger.sqlite", leader="a", version="1") as ledger:
        ledger.append([Draft(kind=Kind.ACCOUNT, at=T0, body=body)])
        assert ledger.count == 2
