# SPDX-License-Identifier: Apache-2.0
"""The page by which an auditor reads the ledger names every field of an account, and its sums are those of a record."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embellie.accounting.interval import account_interval
from embellie.accounting.known import Gang, Machine, Plant, Price, Samples, Stay, Tariff, ZoneInterval
from embellie.domain.reasons import SignalKind
from embellie_testbed.paths import REPOSITORY

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT = tuple(T0.timestamp() + 60.0 * k for k in range(-4, 20))
BY_NAME = {"names", "teamOf", "grams", "sparedGrams", "cost"}
"""Tables whose keys are names of workloads, signals or currencies."""
ROWS_BY_NAME = {"namespaces", "teams", "workloads", "onSite"}


def account() -> dict[str, Any]:
    """Return the account of a node with a job under half a roof of sun, priced, with a tariff."""
    stay = Stay(node="n", gpus=4, start_s=AT[0], end_s=AT[-1])
    gang = Gang(uid="a", namespace="ml", name="a", team="t", stays=(stay,), watts_per_gpu=600.0)
    power = Samples(at_s=AT, values=(21_200.0,) * len(AT))
    sun = Samples(at_s=AT, values=tuple(8_000.0 + 50.0 * (k % 2) for k in range(len(AT))))
    known = ZoneInterval(
        zone="west",
        start=T0,
        end=T0 + timedelta(minutes=15),
        prices=(Price(kind=SignalKind.AVERAGE_DIRECT, g_per_kwh=350.0, quality="measured", source="x"),),
        tariff=Tariff(per_mwh=80.0, currency="EUR", source="x"),
        plants=(Plant(name="roof", kind="Solar", peak_kw=40.0, meter=sun),),
        gpus=(),
        machines=(Machine(name="n", gpus=8, idle_w=3200.0, gpu_idle_w=140.0, host_share=0.03, power=power),),
        gangs=(gang,),
        meter=Samples(at_s=AT, values=(25_600.0,) * len(AT)),
    )
    return account_interval(known)


def fields(node: Any, name: str = "") -> Iterator[str]:
    if isinstance(node, list):
        for entry in node:
            yield from fields(entry)
    elif isinstance(node, Mapping) and name not in BY_NAME:
        for key, child in node.items():
            if name not in ROWS_BY_NAME:
                yield key
            yield from fields(child, key)


def test_every_field_of_an_account_is_on_the_page() -> None:
    page = (REPOSITORY / "docs" / "ledger.md").read_text(encoding="utf-8")
    _, _, section = page.partition("## An account, field by field")
    section, _, _ = section.partition("\n## ")
    told = {part for name in re.findall(r"`([\w.]+)`", section) for part in name.split(".")}
    assert {re.sub(r"^(priced|estimated|costed)[A-Z]\w+", r"\1", name) for name in fields(account())} <= told


def test_the_sums_on_the_page_hold_in_a_record() -> None:
    adds = account()["adds"]
    kwh = adds["kwh"]
    assert kwh["facility"] == pytest.approx(kwh["jobs"] + kwh["idle"] + kwh["overhead"] + kwh["unexplained"])
    assert kwh["facility"] == kwh["metered"]
    spared = adds["sparedGrams"]["AverageDirect"]
    assert spared > 0.0
    assert adds["grams"]["AverageDirect"] == pytest.approx(350.0 * kwh["facility"] - spared)
    assert adds["cost"]["EUR"] == pytest.approx(80.0 * kwh["facility"] / 1000.0)
    (row,) = adds["workloads"].values()
    parts = row["dynamicKwh"] + row["idleKwh"] + row["overheadKwh"]
    assert row["cost"]["EUR"] == pytest.approx(80.0 * parts / 1000.0)
