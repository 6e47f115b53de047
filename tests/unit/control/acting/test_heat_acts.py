# SPDX-License-Identifier: Apache-2.0
"""What the ladder orders for nodes, taints and caps, is bounded and ends by itself."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from switches import switch

from embellie.cluster.client import ApiError
from embellie.cluster.node_taints import NodeTaints
from embellie.cluster.power_caps import Cap, PowerCaps
from embellie.cluster.records import parse_node
from embellie.cluster.switch import Switch
from embellie.control.acting.heat_acts import HeatActs, by_node
from embellie.control.assembly.layout import lay_out
from embellie.control.assembly.sensors import Readings
from embellie.control.deciding.pausing import heat_loads
from embellie.control.heat.heat_desk import HeatDesk
from embellie.domain import names
from embellie.domain.snapshot import Quality, Reading
from embellie.domain.times import format_time
from embellie.thermal.relief import CapOrder, HeatLoad
from embellie.thermal.sensing import ZoneReadings
from embellie.thermal.settings import Role
from embellie_testbed.views import NOW, ROW, assembled, bare_pod, job, node, nodes, running_pod, thermal_zone, view


class Desk(NodeTaints):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.wanted: list[dict[str, str]] = []

    def turn(self, wanted: Any, standing: Any, now: Any) -> None:  # noqa: ARG002
        self.wanted.append(dict(wanted))


class Caps(PowerCaps):
    """Keeps what it was told."""

    def __init__(self, standing: Mapping[str, int] | None = None) -> None:
        self.wanted: list[dict[str, Cap]] = []
        self._standing = dict(standing or {})

    def standing(self, now: Any) -> dict[str, int]:  # noqa: ARG002 - that of PowerCaps
        return self._standing

    def turn(self, wanted: Any, now: Any) -> None:  # noqa: ARG002 - that of PowerCaps
        self.wanted.append(dict(wanted))


def acts(held_by: Switch) -> tuple[HeatActs, Desk, Caps]:
    desk, caps = Desk(), Caps()
    return HeatActs(caps=caps, taints=desk, switch=held_by, max_taint_s=3600.0), desk, caps


LAYOUT = lay_out((), (thermal_zone("west-r1"),), nodes())


def test_a_taint_ends_after_as_long_as_a_limit_may_hold_and_may_come_again_after_that():
    made, desk, _ = acts(switch())
    for hours, hot in ((0.0, ["west-r1"]), (0.9, ["west-r1"]), (1.1, ["west-r1"]), (1.2, []), (1.3, ["west-r1"])):
        made.turn(NOW + timedelta(hours=hours), LAYOUT, hot, (), (), enforced=True)
    assert [bool(wanted) for wanted in desk.wanted] == [True, True, False, False, True]
    assert desk.wanted[0] == dict.fromkeys(["west-0", "west-1", "west-2", "west-3"], "west-r1")


def test_a_taint_ends_when_it_would_have_under_the_leader_that_set_it():
    on = [replace(one, overheated="west-r1", overheated_since=NOW - timedelta(minutes=50)) for one in nodes()]
    made, desk, _ = acts(switch())
    for minutes in (0, 9, 11):
        layout = lay_out((), (thermal_zone("west-r1"),), on)
        made.turn(NOW + timedelta(minutes=minutes), layout, ["west-r1"], (), (), enforced=True)
    assert [bool(wanted) for wanted in desk.wanted] == [True, True, False]


@pytest.mark.parametrize(("celsius", "stays"), [(31.8, True), (25.0, False)])
def test_a_new_leader_keeps_the_taint_of_the_one_before_it_while_the_zone_is_hot(celsius: float, stays: bool):
    inlet = Reading(value=celsius, age_s=1.0, quality=Quality.FRESH)
    seen = {"west-r1": ZoneReadings(by_role={Role.INLET: inlet})}
    readings = Readings(grid_power_kw={}, inlets={}, supplies={}, problems={}, zones=seen)
    sensor = {"name": "inlet", "role": "Inlet", "unit": "Celsius", "query": "inlet"}
    zone = thermal_zone("west-r1", sensors=[sensor], limits={"inletHardCelsius": 32})
    on = [replace(one, overheated="west-r1") for one in nodes() if one.name.startswith("west")]
    made, desk, _ = acts(switch())
    heat = HeatDesk(acts=made)
    for turn in range(3):
        heat.turn(NOW + timedelta(seconds=15 * turn), [zone], readings, {"west-r1": 20.0}, {})
        heat.remember(assembled(view=view(on=on), thermal_zones=(zone,)))
    assert [bool(wanted) for wanted in desk.wanted] == [stays, stays]


@pytest.mark.parametrize("held_by", [switch(locked=True), switch(readable=False)], ids=["locked", "unreadable"])
def test_nothing_is_done_to_nodes_while_an_uninstall_may_be_under_way(held_by: Switch):
    made, desk, caps = acts(held_by)
    made.turn(NOW, LAYOUT, ["west-r1"], [order()], [load()], enforced=True)
    assert desk.wanted == [{}]
    assert caps.wanted == [{}]


def test_in_shadow_nothing_is_done_to_nodes():
    made, desk, caps = acts(switch())
    made.turn(NOW, LAYOUT, ["west-r1"], [order()], [load()], enforced=False)
    assert desk.wanted == [{}]
    assert caps.wanted == [{}]


def load(key: str = "a", *, knee_w: float = 420.0, capable: bool = True) -> HeatLoad:
    return HeatLoad(
        key=key, zone="west-r1", nodes=("west-0",), gpus=8, power_kw=5.0, started_at=NOW, rated_w=700.0, knee_w=knee_w,
        capable=capable,
    )  # fmt: skip


def order(key: str = "a", watts: float = 500.2) -> CapOrder:
    expires = NOW + timedelta(minutes=10)
    return CapOrder(key=key, nodes=("west-0",), watts_per_gpu=watts, expires=expires, reason="33.0 °C")


def test_a_node_gets_the_highest_cap_of_its_work_and_never_less_than_any_knee():
    caps = by_node([order("a", 430.0), order("b", 300.0), order("c", 600.0)], [load("a"), load("b", knee_w=450.4)])
    assert set(caps) == {"west-0"}, "an order about unknown work is nobody's"
    assert (caps["west-0"].cap_w, caps["west-0"].knee_w) == (451, 451)
    assert by_node([order("a")], [load("a", capable=False)]) == {}
    assert by_node([order("a")], [load("a")])["west-0"].cap_w == 501


@pytest.mark.parametrize(("capacity_kw", "kept_w"), [(500, {}), (5, {"west-0": 430})])
def test_a_cap_of_a_leader_before_us_goes_up_only_where_the_zone_carries_it(capacity_kw: int, kept_w: dict[str, int]):
    caps = Caps({"west-0": 430})
    heat = HeatDesk(acts=HeatActs(caps=caps, taints=Desk(), switch=switch(), max_taint_s=3600.0))
    train = job("train", held=False)
    pods = [running_pod("train-pod", "west-0", gpus=8, job_uid=train.key.uid)]
    zone = thermal_zone("west-r1", cooling={"capacityKilowatts": capacity_kw})
    found = [node("west-0", **{names.POWER_CAP_AGENT_LABEL: "true"}), node("west-1")]
    made = assembled(view=view(train, pods=pods, on=found), thermal_zones=(zone,))
    heat.remember(made, heat_loads(made, [train], pods, NOW))
    heat.turn(NOW, [zone], Readings(grid_power_kw={}, inlets={}, supplies={}, problems={}), {"west-r1": 5.0}, {})
    assert {name: cap.cap_w for name, cap in caps.wanted[0].items()} == kept_w


def test_what_is_capped_already_counts_with_what_its_cap_leaves_it():
    made, _, _ = acts(switch())
    held = HeatActs(caps=Caps({"west-0": 420}), taints=Desk(), switch=switch(), max_taint_s=3600.0)
    (found,) = held.as_capped([load()], NOW)
    assert (found.cap_w, found.power_kw) == (420, pytest.approx(8 * 0.42))
    assert held.capped(NOW) == {"west-0"}
    assert made.as_capped([load()], NOW) == (load(),)


class Listing:
    """An API server with PowerCaps, or without an answer."""

    def __init__(self, *caps: dict[str, Any], fails: bool = False) -> None:
        self.caps, self.fails, self.asked = caps, fails, 0

    def list_all(self, path: str) -> list[dict[str, Any]]:  # noqa: ARG002 - that of KubeClient
        self.asked += 1
        if self.fails:
            raise ApiError(0, "Unreachable", "no answer")
        return list(self.caps)


def power_cap(name: str, minutes: int, *, ours: bool = True) -> dict[str, Any]:
    labels = {names.MANAGED_BY_LABEL: names.FIELD_MANAGER} if ours else {}
    spec = {"capWatts": 430, "kneeWatts": 420, "expiryTime": format_time(NOW + timedelta(minutes=minutes))}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def test_the_caps_that_stand_are_ours_and_have_not_ended_and_none_are_known_while_nobody_answers():
    server = Listing(power_cap("west-0", 5), power_cap("west-1", -5), power_cap("west-2", 5, ours=False))
    made = PowerCaps(server)  # type: ignore[arg-type]  # all that it asks
    assert made.standing(NOW) == made.standing(NOW) == {"west-0": 430}
    assert server.asked == 1
    silent = Listing(power_cap("west-0", 5), fails=True)
    made = PowerCaps(silent)  # type: ignore[arg-type]  # all that it asks
    assert made.standing(NOW) == made.standing(NOW) == {}
    assert silent.asked == 1, "nor asked again before there is something to write"


def test_a_load_is_capped_as_its_nodes_are_once_all_of_them_are():
    wide = replace(load(), nodes=("west-0", "west-1"))
    for standing, cap_w in (({"west-0": 430}, None), ({"west-0": 430, "west-1": 500}, 500)):
        made = HeatActs(caps=Caps(standing), taints=Desk(), switch=switch(), max_taint_s=3600.0)
        assert made.as_capped([wide], NOW)[0].cap_w == cap_w


def test_only_work_that_opted_in_on_nodes_with_an_agent_can_be_capped():
    agent = {names.POWER_CAP_AGENT_LABEL: "true"}
    found = [node("west-0", **agent), node("west-1"), node("west-2", **agent), node("west-3", **agent)]
    probe = bare_pod("probe", held=False, gpus=4)
    records = [job(n, held=False) for n in ("a", "b", "c")]
    pods = [running_pod(f"{r.key.name}-pod", f"west-{k}", gpus=4, job_uid=r.key.uid) for k, r in enumerate(records)]
    pods.append(running_pod("probe", "west-3", gpus=4, uid=probe.key.uid))
    records.append(probe)
    stranger = running_pod("rigid", "west-2", gpus=4)
    made = assembled(view=view(*records, pods=[*pods, stranger], on=found), thermal_zones=(thermal_zone("west-r1"),))
    loads = heat_loads(made, records, [*pods, stranger], NOW)
    assert {one.key: one.capable for one in loads} == {
        "uid-research-a": True, "uid-research-b": False, "uid-research-c": False, "uid-research-probe": True,
    }  # fmt: skip


def test_our_own_taint_closes_a_node_for_now_and_is_no_lasting_barrier():
    raw = {
        "metadata": {"name": "west-0", "labels": {ROW: "west-r1"}},
        "spec": {
            "taints": [
                {"key": names.OVERHEATED, "value": "west-r1", "effect": "NoSchedule", "timeAdded": format_time(NOW)}
            ]
        },
        "status": {"allocatable": {"nvidia.com/gpu": "8"}, "conditions": [{"type": "Ready", "status": "True"}]},
    }
    found = parse_node(raw)
    assert found is not None
    assert (found.schedulable, found.taints, found.overheated) == (False, (), "west-r1")
    assert found.overheated_since == NOW
    assert lay_out((), (), [found]).overheated == {"west-0": "west-r1"}
