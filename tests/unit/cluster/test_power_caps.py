# SPDX-License-Identifier: Apache-2.0
"""What is written for nodes: every cap fits its kind, removals are tried again, and one node's refusal is its own."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from embellie.api import PowerCap
from embellie.cluster.client import ApiError
from embellie.cluster.node_taints import NodeTaints
from embellie.cluster.power_caps import Cap, PowerCaps
from embellie.control.acting.heat_acts import by_node
from embellie.control.deciding.pausing import heat_loads
from embellie.domain import names
from embellie.domain.times import format_time
from embellie.thermal.relief import CapOrder
from embellie_testbed.views import NOW, assembled, grid_zone, job, nodes, running_pod, thermal_zone, view

EXPIRES = NOW + timedelta(minutes=10)


class Server:
    """Keeps PowerCaps; refuses what it is told to refuse."""

    def __init__(self) -> None:
        self.caps: dict[str, dict[str, Any]] = {}
        self.refuses: ApiError | None = None
        self.guarded: tuple[str, ApiError] | None = None
        """One node that somebody's webhook guards, by how its path ends."""
        self.asked = 0

    def _answer(self) -> None:
        self.asked += 1
        if self.refuses is not None:
            raise self.refuses

    def list_all(self, path: str) -> list[dict[str, Any]]:  # noqa: ARG002 - that of KubeClient
        self._answer()
        return list(self.caps.values())

    def apply(self, path: str, body: dict[str, Any]) -> None:
        self._answer()
        if self.guarded is not None and path.endswith(self.guarded[0]):
            raise self.guarded[1]
        self.caps[path] = body

    def delete(self, path: str) -> None:
        self._answer()
        del self.caps[path]


def cap(watts: int = 430) -> Cap:
    return Cap(cap_w=watts, knee_w=420, expires=EXPIRES, zone="west-r1", reason="33.0 °C")


@pytest.mark.parametrize("rated_w", [1, 70, 72, 700, 10_000])
def test_the_cap_of_any_gpu_that_a_gridzone_may_name_fits_its_kind(rated_w: int):
    train = job(held=False)
    pods = [running_pod("train-p", "west-0", job_uid=train.key.uid)]
    west = grid_zone("west", gpuRatedPowerWatts=rated_w, gpuIdlePowerWatts=0)
    made = assembled(
        view=view(train, pods=pods, on=nodes()), grid_zones=(west,), thermal_zones=(thermal_zone("west-r1"),)
    )
    (load,) = heat_loads(made, [train], pods, NOW)
    ordered = CapOrder(key=load.key, nodes=load.nodes, watts_per_gpu=load.knee_w, expires=EXPIRES, reason="33.0 °C")
    server = Server()
    caps = by_node([ordered], [replace(load, capable=True)])
    PowerCaps(server).turn(caps, NOW)  # type: ignore[arg-type]  # all that it asks
    (written,) = server.caps.values()
    assert PowerCap.parse(written).spec.cap_watts >= 0.6 * rated_w


@pytest.mark.parametrize("status", [0, 409, 500, 503])
def test_a_cap_that_could_not_be_removed_is_removed_when_the_api_server_answers_again(status: int):
    server = Server()
    made = PowerCaps(server)  # type: ignore[arg-type]  # all that it asks
    made.turn({"west-0": cap()}, NOW)
    server.refuses = ApiError(status, "Error", "not now")
    made.turn({}, NOW)
    made.turn({}, NOW)
    assert server.caps
    server.refuses = None
    made.turn({}, NOW)
    assert not server.caps


@pytest.mark.parametrize("status", [403, 404])
def test_without_the_right_or_the_kind_nobody_is_asked_again_before_there_is_something_to_write(status: int):
    server = Server()
    server.refuses = ApiError(status, "Error", "no")
    made = PowerCaps(server)  # type: ignore[arg-type]  # all that it asks
    for _ in range(3):
        made.turn({}, NOW)
    assert server.asked == 1
    server.refuses = None
    made.turn({"west-0": cap()}, NOW)
    assert server.caps


class Nodes:
    """Nodes with our taint, one of which somebody's webhook guards."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.freed: list[str] = []
        self.taints: list[dict[str, str]] = []

    def get(self, path: str) -> dict[str, Any]:
        taint = {"key": names.OVERHEATED, "value": "row", "effect": "NoSchedule"}
        return {"metadata": {"name": path, "uid": "u", "resourceVersion": "1"}, "spec": {"taints": [taint]}}

    def json_patch(self, path: str, operations: Any) -> None:
        if path.endswith("/a"):
            raise ApiError(self.status, "Error", "not this node")
        self.freed.append(path.rpartition("/")[2])
        self.taints += operations[-1].get("value", ())


def test_a_taint_says_since_when_it_stands():
    server = Nodes(0)
    NodeTaints(server).turn({"b": "west-r1"}, {}, NOW)  # type: ignore[arg-type]  # all that it asks
    assert server.taints == [
        {"key": names.OVERHEATED, "value": "west-r1", "effect": "NoSchedule", "timeAdded": format_time(NOW)}
    ]


def test_a_taint_that_stands_is_not_written_again_before_the_watch_shows_it():
    server = Nodes(0)
    NodeTaints(server).turn({"b": "row"}, {}, NOW + timedelta(minutes=1))  # type: ignore[arg-type]  # all that it asks
    assert server.freed == server.taints == []


@pytest.mark.parametrize(("status", "freed"), [(403, ["b", "c"]), (400, ["b", "c"]), (0, []), (503, [])])
def test_a_node_that_may_not_be_changed_keeps_the_taint_on_no_other(status: int, freed: list[str]):
    server = Nodes(status)
    NodeTaints(server).turn({}, dict.fromkeys("abc", "row"), NOW)  # type: ignore[arg-type]  # all that it asks
    assert server.freed == freed


@pytest.mark.parametrize(("status", "capped"), [(400, ["b", "c"]), (403, ["b", "c"]), (0, []), (503, [])])
def test_a_cap_that_a_webhook_refuses_keeps_no_other_node_uncapped(status: int, capped: list[str]):
    server = Server()
    server.guarded = ("/a", ApiError(status, "Error", "not this node"))
    made = PowerCaps(server)  # type: ignore[arg-type]  # all that it asks
    made.turn(dict.fromkeys("abc", cap()), NOW)
    assert [path.rpartition("/")[2] for path in server.caps] == capped
    made.turn({}, NOW)
    assert not server.caps


def test_a_hundred_caps_that_a_webhook_refuses_keep_the_later_nodes_uncapped_for_a_few_turns_at_most():
    server = Server()
    server.guarded = ("x", ApiError(403, "Error", "not this node"))
    made = PowerCaps(server)  # type: ignore[arg-type]  # all that it asks
    wanted = dict.fromkeys([*(f"a-{i}-x" for i in range(100)), "z"], cap())
    for _ in range(3):
        made.turn(wanted, NOW)
    assert [path.rpartition("/")[2] for path in server.caps] == ["z"]
    server.guarded = None
    for _ in range(3):
        made.turn(wanted, NOW)
    assert len(server.caps) == 101


def test_a_node_whose_cap_gets_no_answer_comes_last_in_the_next_turn():
    server = Server()
    server.guarded = ("/a", ApiError(500, "InternalError", "failed calling webhook"))
    made = PowerCaps(server)  # type: ignore[arg-type]  # all that it asks
    for _ in range(2):
        made.turn(dict.fromkeys("abc", cap()), NOW)
    assert [path.rpartition("/")[2] for path in server.caps] == ["b", "c"]


def while_leading(writes: int) -> Callable[[], bool]:
    """Lead for so many more writes."""
    left = iter([True] * writes)
    return lambda: next(left, False)


def test_a_leader_that_lost_its_lease_stops_in_the_middle_of_a_batch():
    server, node_server = Server(), Nodes(0)
    PowerCaps(server, may_write=while_leading(2)).turn(dict.fromkeys("abc", cap()), NOW)  # type: ignore[arg-type]  # all that it asks
    assert [path.rpartition("/")[2] for path in server.caps] == ["a", "b"]
    NodeTaints(node_server, may_write=while_leading(1)).turn({}, dict.fromkeys("bcd", "row"), NOW)  # type: ignore[arg-type]  # all that it asks
    assert node_server.freed == ["b"]


def test_a_cap_that_somebody_deleted_counts_as_standing_for_a_minute_at_most_and_is_written_again():
    server = Server()
    made = PowerCaps(server)  # type: ignore[arg-type]  # all that it asks
    made.turn({"west-0": cap()}, NOW)
    server.caps.clear()
    made.turn({"west-0": cap()}, NOW + timedelta(seconds=60))
    assert server.caps
    server.caps.clear()
    made.turn({}, NOW + timedelta(seconds=120))
    assert made.standing(NOW + timedelta(seconds=120)) == {}


def test_a_cap_that_somebody_else_wrote_before_ours_is_left_to_them():
    server = Server()
    made = PowerCaps(server)  # type: ignore[arg-type]  # all that it asks
    made.turn({}, NOW)
    theirs = {"metadata": {"name": "west-0"}, "spec": {"capWatts": 300}}
    server.caps["theirs"] = theirs
    made.turn({"west-0": cap()}, NOW + timedelta(hours=3))
    assert server.caps == {"theirs": theirs}


def test_nobody_is_asked_again_while_nothing_is_capped_and_nothing_is_to_be():
    server = Server()
    made = PowerCaps(server)  # type: ignore[arg-type]  # all that it asks
    for hours in range(3):
        made.turn({}, NOW + timedelta(hours=hours))
        assert made.standing(NOW + timedelta(hours=hours)) == {}
    assert server.asked == 1
