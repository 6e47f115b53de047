# SPDX-License-Identifier: Apache-2.0
"""What the operator knows of an interval: whose processors drew what, on which node, and who is still there."""

import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from recorder import HOUR, T0, Hand, assembly, pod, view

from embellie.accounting.known import ZoneInterval
from embellie.accounting.overhead import OverheadModel
from embellie.cluster.records import NodeRecord
from embellie.control.metering import Metering
from embellie.control.prices import Prices
from embellie.control.records import Scene
from embellie.control.witness import PowerClasses, Witness
from embellie.telemetry.energy import EnergySamples, Series
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
