# SPDX-License-Identifier: Apache-2.0
"""The simulated machine room's arithmetic, and what it says of pods that come and go."""

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from embellie_testbed import build, physics
from embellie_testbed.ambient import Ambient
from embellie_testbed.demo.scenario import ROWS, Row
from embellie_testbed.exporter import Feed
from embellie_testbed.nodes import gpu_nodes
from embellie_testbed.room import Room

START = datetime(2022, 9, 5, tzinfo=UTC)


class Times:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def room_with_one_node(times: Times, **ambient: Any) -> Room:
    room = Room(now=times, ambient=Ambient(**ambient))
    (pool,) = gpu_nodes(1, zones=["west"])
    for node in pool.manifests():
        room.set_node(node)
    return room


def pod(name: str = "p", gpus: int = 8, phase: str = "Running", **annotations: str) -> dict[str, Any]:
    return {
        "metadata": {
            "uid": f"uid-{name}",
            "name": name,
            "namespace": "team-a",
            "annotations": {key.replace("__", "/").replace("_", "-"): text for key, text in annotations.items()},
        },
        "spec": {
            "nodeName": "west-gpu-000",
            "containers": [{"resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}],
        },
        "status": {"phase": phase},
    }


def values(room: Room, metric: str) -> list[float]:
    return [value for name, _, value in room.samples() if name == metric]


def test_an_idle_node_draws_its_idle_power_with_its_gpus_included() -> None:
    room = room_with_one_node(Times())
    (power_w,) = values(room, "ipmi_dcmi_power_consumption_current_watts")
    assert 3100 < power_w < 3300
    assert values(room, "DCGM_FI_DEV_POWER_USAGE") == [140.0] * 8
    (facility_w,) = values(room, "facility_power_watts")
    assert 1.04 < facility_w / power_w < 1.4


def test_a_running_pod_draws_what_it_really_draws_and_not_what_its_user_stated() -> None:
    room = room_with_one_node(Times())
    room.set_pod(pod(gpus=2, **{"testbed.embellie.io__watts_per_gpu": "640", "embellie.io__watts_per_gpu": "300"}))
    assert values(room, "DCGM_FI_DEV_POWER_USAGE") == [640.0, 640.0] + [140.0] * 6
    (power_w,) = values(room, "ipmi_dcmi_power_consumption_current_watts")
    assert 3100 + 2 * 500 * 1.03 < power_w < 3400 + 2 * 500 * 1.03


@pytest.mark.parametrize("text", ["", "nan", "-5", "1e9", "7 bananas", "99999"])
def test_a_senseless_power_annotation_counts_as_none(text: str) -> None:
    room = room_with_one_node(Times())
    room.set_pod(pod(gpus=1, **{"embellie.io__watts_per_gpu": text}))
    assert max(values(room, "DCGM_FI_DEV_POWER_USAGE")) == physics.GPU_RUNNING_W


def test_a_pod_that_ended_frees_its_gpus_for_the_next() -> None:
    room = room_with_one_node(Times())
    room.set_pod(pod("first"))
    room.set_pod(pod("first", phase="Succeeded"))
    assert values(room, "DCGM_FI_DEV_POWER_USAGE") == [140.0] * 8
    room.set_pod(pod("second"))
    users = [labels.get("pod") for name, labels, _ in room.samples() if name == "DCGM_FI_DEV_POWER_USAGE"]
    assert users == ["second"] * 8


def test_a_pod_that_is_seen_before_its_node_draws_power_once_the_node_is_seen() -> None:
    room = Room(now=Times(), ambient=Ambient())
    room.set_pod(pod())
    (pool,) = gpu_nodes(1, zones=["west"])
    for node in pool.manifests():
        room.set_node(node)
    assert values(room, "DCGM_FI_DEV_POWER_USAGE") == [physics.GPU_RUNNING_W] * 8


def test_what_a_complete_list_no_longer_has_is_forgotten() -> None:
    room = room_with_one_node(Times())
    room.set_pod(pod())
    room.keep_only(pod_uids=set())
    assert values(room, "DCGM_FI_DEV_POWER_USAGE") == [140.0] * 8
    room.keep_only(node_names=set())
    assert list(room.samples()) == []


def test_the_inlet_follows_the_power_with_a_lag_and_comes_to_rest() -> None:
    times = Times()
    room = room_with_one_node(times, constant_c=5.0)
    (before,) = values(room, "ipmi_temperature_celsius")
    assert 22.0 < before < 25.0
    room.set_pod(pod())
    assert values(room, "ipmi_temperature_celsius") == [pytest.approx(before, abs=0.01)]
    times.now += timedelta(seconds=60)
    (soon,) = values(room, "ipmi_temperature_celsius")
    times.now += timedelta(hours=2)
    (after,) = values(room, "ipmi_temperature_celsius")
    assert min(soon, after) > before + 0.1
    times.now += timedelta(hours=2)
    assert values(room, "ipmi_temperature_celsius") == [pytest.approx(after, abs=0.05)]


def test_the_supply_follows_the_outside_once_that_is_too_hot_for_the_setpoint() -> None:
    supplies = [
        values(room_with_one_node(Times(), constant_c=c), "cooling_supply_temperature_celsius") for c in (10, 34)
    ]
    assert supplies[0] == [pytest.approx(22.0, abs=0.1)]
    assert 28.0 < supplies[1][0] < 36.0


def test_rows_differ_and_each_keeps_its_parameters() -> None:
    assert physics.row_spec("west-r1", 4, {}) == physics.row_spec("west-r1", 4, {})
    assert physics.row_spec("west-r1", 4, {}) != physics.row_spec("west-r2", 4, {})
    assert physics.row_spec("west-r1", 4, {"recirculation_share": 0.3}).hall.recirculation_share == 0.3


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_the_engineer_of_the_demo_told_is_what_a_loaded_row_shows(row: Row) -> None:
    plant = physics.RowPlant(row.name, 8, row.hall, 30.0)
    plant.advance([[640.0] * 8] * 8, 30.0, 6 * 3600.0)
    rise = (max(plant.inlet_c()) - plant.supply_c()) / (sum(plant.node_w()) / 1000)
    assert 0.7 * row.rise_mk_per_kw / 1000 < rise <= 1.05 * row.rise_mk_per_kw / 1000
    assert plant.supply_c() <= max(row.setpoint_c, 30.0 + row.approach_k)


def test_the_outside_is_read_per_zone_with_straight_lines_between_hours(tmp_path: Path) -> None:
    table = tmp_path / "ambient.csv"
    table.write_text(
        "timestamp_utc,zone,ambient_c\n"
        "2022-09-05T01:00:00Z,west,30\n2022-09-05T00:00:00Z,west,20\n2022-09-05T00:00:00Z,east,10\n"
    )
    ambient = Ambient.read(table)
    assert ambient.at("west", START + timedelta(minutes=30)) == pytest.approx(25.0)
    assert ambient.at("west", START - timedelta(days=1)) == 20.0
    assert ambient.at("west", START + timedelta(days=1)) == 30.0
    assert ambient.at("east", START) == 10.0
    assert ambient.at("elsewhere", START) == 15.0


def test_the_feed_freezes_drops_and_lies_when_told_to(tmp_path: Path) -> None:
    times, control = Times(), tmp_path / "control.json"
    room = room_with_one_node(times)
    feed = Feed(room, threading.Lock(), control)
    first = feed.answer()
    assert first is not None
    assert 'ipmi_temperature_celsius{id="1",name="Inlet Temp",node="west-gpu-000"' in first

    room.set_pod(pod())
    control.write_text(json.dumps({"freeze": True}))
    assert feed.answer() == first
    control.write_text(json.dumps({"drop": ["ipmi_temperature_celsius"]}))
    second = feed.answer()
    assert second is not None
    assert "ipmi_temperature_celsius" not in second
    assert 'pod="p"' in second
    control.write_text(json.dumps({"absurd": {"cooling_supply_temperature_celsius": 900}}))
    third = feed.answer()
    assert third is not None
    assert 'cooling_supply_temperature_celsius{row="west-r1",zone="west"} 900\n' in third
    control.write_text(json.dumps({"drop": True}))
    assert feed.answer() is None


def test_nodes_are_shared_among_zones_and_rows() -> None:
    nodes = [node for pool in gpu_nodes(9) for node in pool.manifests()]
    places = [
        (node["metadata"]["labels"]["topology.kubernetes.io/zone"], node["metadata"]["labels"]["example.com/row"])
        for node in nodes
    ]
    assert len({node["metadata"]["name"] for node in nodes}) == 9
    assert [places.count(("west", "west-r1")), places.count(("west", "west-r2"))] == [3, 2]
    assert [places.count(("east", "east-r1")), places.count(("east", "east-r2"))] == [2, 2]


def test_versions_are_read_from_go_mod_and_stamped_into_every_program_that_has_a_place_for_one() -> None:
    version = build.kubernetes_version()
    flags = {step.binaries[0]: build.linker_flags(step) for step in build.STEPS}
    assert f"k8s.io/component-base/version.gitVersion={version} " in flags["kube-apiserver"]
    assert "chartutil.k8sVersionMinor=" + version.split(".")[1] in flags["helm"]
    assert "common/version.Version=3." in flags["prometheus"]
    assert "{" not in "".join(flags.values())


@pytest.mark.parametrize(
    ("script", "says"),
    [("exit 127", "no `go` on the PATH"), ("echo go1.25.3", "on the PATH is go1.25.3"), ("echo devel", "devel")],
)
def test_a_missing_or_old_go_gets_one_clear_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\n{script}\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.BuildError, match=says) as caught:
        build.go_version()
    assert "1.26" in str(caught.value)
    assert "\n" not in str(caught.value)
