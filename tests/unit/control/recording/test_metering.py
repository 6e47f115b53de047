# SPDX-License-Identifier: Apache-2.0
"""What the operator knows of an interval: whose processors drew what, on which node, and who is still there."""

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from recorder import HOUR, T0, Desk, Hand, Meters, assembly, pod, view

from embellie.accounting.known import ZoneInterval
from embellie.accounting.overhead import OverheadModel
from embellie.cluster.records import NodeRecord
from embellie.control.recording.metering import Metering
from embellie.control.recording.prices import Prices
from embellie.control.recording.records import Scene
from embellie.control.recording.witness import PowerClasses, Witness
from embellie.ledger import Kind
from embellie.telemetry.energy import EnergySamples, GpuSeries, Series
from embellie.telemetry.intensity import IntensityFolder
from embellie.telemetry.tariffs import TariffFolder


@pytest.fixture
def known(tmp_path: Path) -> ZoneInterval:
    """Return an hour of a zone in which a gang has two pods on one node and one on another; a second gang has left."""
    clock, witness = Hand(T0), Witness()
    mine = (pod("n1", "p1"), pod("n1", "p2"), pod("n2", "p3"))
    nodes = tuple(NodeRecord(name=name, labels={"zone": "west"}, gpus=16, schedulable=True) for name in ("n1", "n2"))
    seen = replace(view(*mine, pod("n2", "p4", job="gone")), nodes=nodes)
    witness.look(seen, T0, clock.from_wall, {})
    seen = replace(seen, pods=mine)
    witness.look(seen, T0 + timedelta(minutes=20), clock.from_wall, {})
    prices = Prices(IntensityFolder(tmp_path), TariffFolder(tmp_path))
    metering = Metering(clock=clock, source=None, witness=witness, classes=PowerClasses(), prices=prices)
    at = [T0.timestamp(), (T0 + HOUR).timestamp()]
    samples = EnergySamples(
        pod_cpu={
            ("ml", name): Series(list(at), [0.0, joules]) for name, joules in (("p1", 1.0), ("p2", 2.0), ("p3", 4.0))
        }
    )
    scene = Scene(assembly=assembly(seen, clock), view=seen)
    zone = scene.assembly.grid_zones[0]
    return metering.zone(zone, T0, T0 + HOUR, scene, samples, OverheadModel.from_pue(1.2))


def test_each_pod_s_processors_count_on_the_node_where_it_is(known: ZoneInterval) -> None:
    (gang,) = (gang for gang in known.gangs if gang.uid == "j1")
    drawn = {node: sorted(cpu.values[-1] for cpu in counters) for node, counters in gang.cpu.items()}
    assert drawn == {"n1": [1.0, 2.0], "n2": [4.0]}


def test_who_is_still_there_has_no_end_and_who_left_has_one(known: ZoneInterval) -> None:
    ends = {gang.uid: {stay.end_s for stay in gang.stays} for gang in known.gangs}
    assert ends == {"j1": {math.inf}, "gone": {(T0 + timedelta(minutes=20)).timestamp()}}


class Counters(Meters):
    """Eight GPUs at 600 W whose counters go on while nobody scrapes them, from minute 20 to minute `back`."""

    def __init__(self, clock: Hand) -> None:
        super().__init__()
        self.clock, self.gone, self.back, self.answers = clock, 20, 20, True

    def read(self, start: datetime, end: datetime, step_s: float, **_: Any) -> EnergySamples:
        steps = int((min(end, self.clock.moment) - start).total_seconds() / step_s) + 1
        silent = [(T0 + timedelta(minutes=minute)).timestamp() for minute in (self.gone, self.back)]
        at = [start.timestamp() + k * step_s for k in range(steps)]
        at = [t for t in at if not silent[0] <= t < silent[1]]
        joules = {t: 600.0 * (t - (T0 - 24 * HOUR).timestamp()) for t in at}
        held = {t: {("ml", "p1"): 1.0} for t in at}
        gpus = {f"g{k}": GpuSeries("n1", samples=dict(joules), holders=dict(held)) for k in range(8)}
        return EnergySamples(gpus=gpus if at and self.answers else {})


@pytest.fixture
def counters() -> Counters:
    return Counters(Hand(T0))


@pytest.fixture
def desk(tmp_path: Path, counters: Counters) -> Iterator[Desk]:
    desk = Desk(tmp_path, counters.clock, counters)
    yield desk
    desk.stop()


def go(desk: Desk, minutes: int) -> list[dict[str, Any]]:
    """Let time pass turn by turn, and return all accounts."""
    while desk.clock.moment < T0 + timedelta(minutes=minutes):
        desk.turn()
        desk.clock.moment += timedelta(minutes=5)
    return desk.entries(Kind.ACCOUNT)


def test_an_interval_waits_for_what_comes_after_a_silence_and_counters_then_tell_all(
    desk: Desk, counters: Counters
) -> None:
    counters.back = 90
    assert len(go(desk, 85)) == 1, "the first quarter was closed; the others wait"
    after = go(desk, 125)
    assert len(after) == 7
    for account in after:
        row = account["adds"]["workloads"]["j1"]
        # 460 W above idle, and 3 % for the host.
        assert row["dynamicKwh"] == pytest.approx(0.25 * 8 * 0.46 * 1.03, rel=1e-6)
        assert account["adds"]["seconds"]["gpuCovered"] == pytest.approx(8 * 900)


def test_an_interval_waits_for_a_prometheus_that_does_not_answer_but_did(desk: Desk, counters: Counters) -> None:
    go(desk, 25)
    counters.answers = False
    assert len(go(desk, 60)) == 1
    counters.answers = True
    assert {account["adds"]["seconds"]["gpuCovered"] for account in go(desk, 70)} == {8 * 900}


def test_a_silence_at_the_very_end_of_an_interval_is_bridged_too(desk: Desk, counters: Counters) -> None:
    counters.gone, counters.back = 13, 20
    (account,) = go(desk, 25)
    assert account["adds"]["seconds"]["gpuCovered"] == pytest.approx(8 * 900)


def test_no_interval_waits_for_longer_than_two_hours(desk: Desk, counters: Counters) -> None:
    counters.back = 10_000
    accounts = go(desk, 225)
    last = datetime.fromisoformat(accounts[-1]["end"])
    assert last == T0 + timedelta(minutes=90)
    assert accounts[-1]["adds"]["seconds"]["gpuCovered"] == 0.0
    # What began two hours after the last sample waits for nothing, once those before it are closed.
    assert datetime.fromisoformat(go(desk, 305)[-1]["end"]) == T0 + timedelta(minutes=285)


def test_where_there_never_was_any_telemetry_nothing_waits(desk: Desk, counters: Counters) -> None:
    counters.gone, counters.back = -10_000, 10_000
    assert len(go(desk, 65)) == 3
