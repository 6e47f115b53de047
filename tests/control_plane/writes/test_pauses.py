# SPDX-License-Identifier: Apache-2.0
"""Pausing end to end: a zone over its hard limit, a Job that allows it, its checkpoint, and the way back."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from embellie.cluster.client import KubeClient
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.hot_row import PAUSE_BY, ZONE, HotRow, hot_row
from embellie_testbed.processes import until
from embellie_testbed.product import NAMESPACE, program, start_watchdog

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(240)]

HOLD_S = 8


@pytest.fixture
def room(
    gpu_cluster: ControlPlane, installed_chart: ControlPlane, kube: KubeClient, namespace: str, tmp_path: Path
) -> Iterator[HotRow]:
    with hot_row(gpu_cluster, kube, namespace, tmp_path, f"--max-limit-hold-seconds={HOLD_S}") as found:
        yield found


def test_a_job_that_allows_it_is_told_waited_for_paused_and_let_go_on(room: HotRow):
    room.run("train", checkpoint="takes=1h")
    room.run("plain")
    room.heat(40)
    by = room.told("train")
    pod = until(lambda: room.pod("train"), "its pod runs")
    until(lambda: room.pod("train")["metadata"]["annotations"].get(PAUSE_BY) == by, "its pod is told too")
    assert room.job("train")["spec"]["suspend"] is False, "an hour is left, and nobody has acknowledged"

    path = f"/api/v1/namespaces/{room.namespace}/pods/{pod['metadata']['name']}"
    acknowledged = {"op": "add", "path": "/metadata/annotations/embellie.io~1checkpointed", "value": by}
    room.kube.json_patch(path, [acknowledged])
    began = time.monotonic()
    until(lambda: room.job("train")["spec"]["suspend"] is True, f"it is paused\n{room.log()}")
    assert room.job("train")["metadata"]["labels"]["embellie.io/held"] == "true"
    status = room.plan_when("train", "Paused")
    assert status["reason"] == "HeatPause"
    assert "has to make less heat (" in status["message"], "and why"
    assert room.job("plain")["spec"]["suspend"] is False, "work that does not allow pauses runs on"
    assert PAUSE_BY not in room.job("plain")["metadata"].get("annotations", {})

    until(lambda: room.job("train")["spec"]["suspend"] is False, "it goes on, hot or not, when the limit hold is over")
    assert time.monotonic() - began < HOLD_S + 10
    assert room.plan_when("train", "Released")["reason"] == "Cooled"
    assert "embellie.io/held" not in room.job("train")["metadata"]["labels"]
    until(lambda: room.pod("train"), "its pod is back")
    assert PAUSE_BY not in room.job("train")["metadata"]["annotations"], "once a day"


def test_without_an_acknowledgement_it_is_paused_when_the_announced_time_is_over(room: HotRow):
    room.run("train", checkpoint="takes=3s")
    room.heat(40)
    room.told("train")
    until(lambda: room.job("train")["spec"]["suspend"] is True, f"it is paused\n{room.log()}")

    def warned() -> bool:
        events = json.loads(room.plane.kubectl("get", "events", "-n", room.namespace, "-o", "json"))["items"]
        return any(e["reason"] == "Paused" and "without an acknowledged" in e["message"] for e in events)

    until(warned, "an event tells that nobody acknowledged")


def test_a_pause_that_contracted_power_asks_for_comes_at_the_instant_that_was_announced_first(room: HotRow):
    room.run("train", checkpoint="takes=5s")
    meter = {"query": 'max(facility_power_watts{zone="west"})', "unit": "Watt"}
    room.apply("GridZone", "west", nodeSelector={ZONE: "west"}, contractedPowerKilowatts=28, powerSensor=meter)
    room.exporter.misbehave(absurd={"facility_power_watts": 30_000})
    by = room.told("train")
    until(lambda: room.job("train")["spec"]["suspend"] is True, f"it is paused\n{room.log()}")
    paused_at = room.job("train")["metadata"]["annotations"]["embellie.io/paused-at"]
    assert 0 <= (datetime.fromisoformat(paused_at) - datetime.fromisoformat(by)).total_seconds() < 20
    assert "an order to cut leaves" in room.plan_when("train", "Paused")["message"]


@pytest.mark.parametrize("change", ["withdrawn", "eased", "put off"])
def test_an_order_that_comes_pauses_work_before_it_begins_and_work_goes_on_when_it_changes(room: HotRow, change: str):
    room.run("train", checkpoint="takes=3s")
    room.exporter.misbehave(absurd={"facility_power_watts": 30_000})
    begins = datetime.now(UTC) + timedelta(minutes=15)
    meter = {"query": 'max(facility_power_watts{zone="west"})', "unit": "Watt"}

    def say(orders: list[dict[str, object]]) -> None:
        room.apply("GridZone", "west", nodeSelector={ZONE: "west"}, powerOrders=orders, powerSensor=meter)

    say([order(begins, 20)])
    room.told("train")
    until(lambda: room.job("train")["spec"]["suspend"] is True, f"it is paused\n{room.log()}")
    assert datetime.now(UTC) < begins
    assert "an order to cut leaves" in room.plan_when("train", "Paused")["message"]
    # The operator of the network changes its mind while the work is paused.
    changed = {"withdrawn": [], "eased": [order(begins, 200)], "put off": [order(begins + timedelta(hours=6), 20)]}
    say(changed[change])
    until(lambda: room.job("train")["spec"]["suspend"] is False, f"it goes on\n{room.log()}")


def test_work_that_an_order_paused_stays_paused_when_the_order_is_lowered(room: HotRow):
    room.run("train", checkpoint="takes=3s")
    room.exporter.misbehave(absurd={"facility_power_watts": 30_000})
    begins = datetime.now(UTC) + timedelta(minutes=15)
    meter = {"query": 'max(facility_power_watts{zone="west"})', "unit": "Watt"}
    room.apply("GridZone", "west", nodeSelector={ZONE: "west"}, powerOrders=[order(begins, 20)], powerSensor=meter)
    until(lambda: room.job("train")["spec"]["suspend"] is True, f"it is paused\n{room.log()}")
    room.apply("GridZone", "west", nodeSelector={ZONE: "west"}, powerOrders=[order(begins, 10)], powerSensor=meter)

    def leaves() -> int:
        zone = json.loads(room.plane.kubectl("get", "gridzone", "west", "-o", "json"))
        return int(zone.get("status", {}).get("powerOrder", {}).get("powerKilowatts", 0))

    until(lambda: leaves() == 10, f"the order is read\n{room.log()}")
    assert room.job("train")["spec"]["suspend"] is True
    assert room.plan_when("train", "Paused")["reason"] == "HeatPause"


def order(begins: datetime, power_kw: int) -> dict[str, object]:
    """Return an order of two hours."""
    return {
        "startTime": begins.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "endTime": (begins + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "powerKilowatts": power_kw,
    }


def test_a_policy_that_goes_back_to_shadow_takes_the_announcement_back_from_job_and_pod(room: HotRow):
    room.run("train", checkpoint="takes=1h")
    room.heat(40)
    room.told("train")
    until(lambda: PAUSE_BY in room.pod("train")["metadata"]["annotations"], "its pod is told too")
    room.apply("EnergyPolicy", room.namespace, mode="shadow")
    until(lambda: PAUSE_BY not in room.job("train")["metadata"]["annotations"], f"shadow pauses nothing\n{room.log()}")
    assert PAUSE_BY not in room.pod("train")["metadata"]["annotations"]


def test_paused_work_waits_while_operator_and_watchdog_are_dead_and_goes_on_once_when_they_are_back(room: HotRow):
    watchdog = start_watchdog(room.plane)
    room.run("train", checkpoint="takes=3s")
    room.heat(40)
    room.told("train")
    room.plan_when("train", "Paused")
    bound = room.plan("train")["spec"]["latestStartTime"]
    paused = room.job("train")
    for program_ in (room.operator, watchdog):
        program_.stop(number=signal.SIGKILL)
    over = datetime.fromisoformat(paused["metadata"]["annotations"]["embellie.io/paused-at"]) + timedelta(
        seconds=HOLD_S
    )
    until(lambda: datetime.now(UTC) > over, "its pause is as long as a pause may be, and nobody is there")
    # Its status may still change: the Job controller counts the pods that went.
    still = room.job("train")
    assert (still["spec"], still["metadata"]["annotations"]) == (paused["spec"], paused["metadata"]["annotations"])

    for program_ in (room.operator, watchdog):
        room.plane.processes.start(program_.name, program_.argv)
    until(lambda: room.job("train")["spec"]["suspend"] is False, f"it goes on\n{room.log()}")
    until(lambda: room.pod("train"), "its pod is back")
    assert room.plan_when("train", "Released")["reason"] in ("Cooled", "OperatorLost")
    assert room.plan("train")["spec"]["latestStartTime"] == bound
    events = json.loads(room.plane.kubectl("get", "events", "-n", room.namespace, "-o", "json"))["items"]
    about = [e["reason"] for e in events if e["involvedObject"]["name"] == "train"]
    assert sum(reason in ("Released", "ReleasedByWatchdog") for reason in about) == 1
    assert about.count("Paused") == 1
    watchdog.stop()


def test_an_uninstall_leaves_nothing_paused_though_a_pause_was_announced_and_the_operator_is_alive(room: HotRow):
    room.run("train", checkpoint="takes=12s")
    room.heat(40)
    room.told("train")
    config = room.plane.kubeconfig_for(NAMESPACE, "embellie-watchdog")
    command = [program("embellie-watchdog"), "uninstall", f"--namespace={NAMESPACE}", f"--kubeconfig={config}"]
    done = subprocess.run([*command, "--release-seconds=5"], capture_output=True, text=True, check=False, timeout=60)
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        until(lambda: PAUSE_BY not in room.job("train")["metadata"]["annotations"], f"taken back\n{room.log()}")
        assert room.job("train")["spec"]["suspend"] is False
    finally:
        switch = f"/api/v1/namespaces/{NAMESPACE}/configmaps/embellie-switch"
        room.kube.json_patch(switch, [{"op": "add", "path": "/data/locked", "value": "false"}])
