# SPDX-License-Identifier: Apache-2.0
"""Ledgers of a node that works twelve hours a day, and the commands that read them."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from embellie.accounting.interval import account_interval
from embellie.accounting.known import Gang, Machine, Plant, Price, Samples, Stay, Tariff, ZoneInterval
from embellie.cli.main import cli
from embellie.domain.reasons import SignalKind
from embellie.ledger import Draft, Kind, Ledger

T0 = datetime(2026, 3, 28, tzinfo=UTC)
"""A day before the clocks change in Europe."""
HOUR = timedelta(hours=1)


def zone_hour(
    k: int,
    *,
    zone: str = "west",
    priced: bool = True,
    namespace: str = "ml",
    g: float = 400.0,
    team: str = "",
    tariff: Tariff | None = None,
    roof_kw: float | None = None,
) -> Draft:
    start = T0 + k * HOUR
    at = tuple(start.timestamp() + s for s in range(0, 3601, 300))
    prices = (Price(kind=SignalKind.AVERAGE_LIFECYCLE, g_per_kwh=g, quality="measured", source="x"),)
    busy = 6 <= k % 24 < 18
    stay = Stay(node="n", gpus=8, start_s=at[0], end_s=at[-1])
    gang = Gang(uid=f"u{k // 24}", namespace=namespace, name="train", team=team, stays=(stay,), watts_per_gpu=600.0)
    body = account_interval(
        ZoneInterval(
            zone=zone,
            start=start,
            end=start + HOUR,
            machines=(
                Machine(
                    name="n", gpus=8, idle_w=3200.0, gpu_idle_w=140.0, host_share=0.03,
                    power=Samples(at_s=at, values=tuple(6800.0 if busy else 3200.0 for _ in at)),
                ),
            ),
            gpus=(),
            gangs=(gang,) if busy else (),
            prices=prices if priced else (),
            tariff=tariff,
            plants=() if roof_kw is None else (roof(at, roof_kw),),
        )
    )  # fmt: skip
    cell = {"name": zone, "nodes": 1, "gpusPerNode": 8, "nodeIdleKw": 3.2, "marginalPue": 1.2}
    return Draft(kind=Kind.ACCOUNT, at=start + HOUR, body={**body, "cells": [cell]})


def roof(at_s: tuple[float, ...], kw: float) -> Plant:
    """Return solar panels of 400 kW that deliver so much on the mean: a cloud comes and goes, or it is night."""
    watts = tuple(1000.0 * kw * (1.0 + 0.1 * (-1) ** k) for k, _ in enumerate(at_s))
    return Plant(name="roof", kind="Solar", peak_kw=400.0, meter=Samples(at_s=at_s, values=watts))


def ran(day: int, **changes: Any) -> Draft:
    """Work that came at midnight, waited for six hours and ran for twelve."""
    submitted = T0 + day * 24 * HOUR
    body: dict[str, Any] = {
        "uid": f"u{day}", "namespace": "ml", "kind": "Job", "name": "train", "flex": "patient", "submitted": submitted,
        "start": submitted + 6 * HOUR, "end": submitted + 18 * HOUR, "latestStart": submitted + 8 * HOUR, "gpus": 8,
        "gpusPerPod": 8, "cell": "west", "cells": ["west"], "addedKw": 3.6, "wattsPerGpu": 600.0,
        "meteredGpuHours": 0.0, "running": False,
    }  # fmt: skip
    return Draft(kind=Kind.RUN, at=submitted + 18 * HOUR, body=body | changes)


def write(path: Path, drafts: list[Draft]) -> None:
    with Ledger(path, leader="a", version="1") as ledger:
        ledger.append(drafts)


@contextmanager
def by_hand(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a ledger's file past the product, as somebody who bends it would."""
    connection = sqlite3.connect(path)
    try:
        with connection:
            yield connection
    finally:
        # Its own `with` ends the transaction only.
        connection.close()


def swinging(hours: int) -> list[Draft]:
    """Dirty nights and clean days: what waited from midnight to six in the morning has saved."""
    return [zone_hour(k, g=600.0 if k % 24 < 6 else 200.0) for k in range(hours)]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def report(path: Path, first: str, last: str, *more: str) -> Result:
    return run("report", "--ledger", str(path), "--from", first, "--to", last, "--draws", "19", *more)
