# SPDX-License-Identifier: Apache-2.0
"""What heat does to nodes: the taint of the last rung and PowerCaps, how they go, and that they fail open."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embellie.cluster.client import ApiError, KubeClient
from embellie.domain import names
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.hot_row import ROW, ZONE, HotRow, hot_row
from embellie_testbed.processes import until
from embellie_testbed.product import NAMESPACE, program

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(240)]

AGENT = names.POWER_CAP_AGENT_LABEL
OTHER_TAINT = {"key": "example.com/mine", "value": "x", "effect": "PreferNoSchedule"}


@pytest.fixture
def tainting(
    gpu_cluster: ControlPlane, installed_chart: ControlPlane, kube: KubeClient, namespace: str, tmp_path: Path
) -> Iterator[HotRow]:
    with hot_row(gpu_cluster, kube, namespace, tmp_path, measures=("CloseAdmission", "Taint")) as found:
        yield found


@pytest.fixture
def capping(
    gpu_cluster: ControlPlane, installed_chart: ControlPlane, kube: KubeClient, namespace: str, tmp_path: Path
) -> Iterator[HotRow]:
    with hot_row(gpu_cluster, kube, namespace, tmp_path, measures=("CloseAdmission", "LowerCaps")) as found:
        yield found
        gpu_cluster.kubectl("label", "nodes", "--all", f"{AGENT}-")


def tainted(kube: KubeClient) -> dict[str, str]:
    """Every node that carries our taint, with the zone that it names."""
    taints = {n["metadata"]["name"]: n["spec"].get("taints") or [] for n in kube.get("/api/v1/nodes")["items"]}
    return {name: t["value"] for name, several in taints.items() for t in several if t["key"] == names.OVERHEATED}


def caps(room: HotRow) -> dict[str, dict[str, Any]]:
    found = room.kube.get(f"/apis/{names.API_VERSION}/powercaps")["items"]
    return {cap["metadata"]["name"]: cap for cap in found}


def watchdog(plane: ControlPlane, *arguments: str) -> subprocess.CompletedProcess[str]:
    config = plane.kubeconfig_for(NAMESPACE, "embellie-watchdog")
    command = [program("embellie-watchdog"), *arguments, f"--namespace={NAMESPACE}", f"--kubeconfig={config}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_nodes_of_a_zone_over_its_limit_are_tainted_until_it_cools(tainting: HotRow):
    row = sorted(node["metadata"]["name"] for node in tainting.nodes())
    keeps = row[0]
    tainting.kube.json_patch(f"/api/v1/nodes/{keeps}", [{"op": "add", "path": "/spec/taints", "value": [OTHER_TAINT]}])
    tainting.heat(40)
    until(lambda: sorted(tainted(tainting.kube)) == row, f"the whole row is tainted, and no other\n{tainting.log()}")
    assert set(tainted(tainting.kube).values()) == {ROW}

    tainting.exporter.misbehave()
    until(lambda: not tainted(tainting.kube), f"it cooled, and the taints are gone\n{tainting.log()}")
    assert tainting.kube.get(f"/api/v1/nodes/{keeps}")["spec"]["taints"] == [OTHER_TAINT], "that is somebody else's"
    tainting.kube.json_patch(f"/api/v1/nodes/{keeps}", [{"op": "remove", "path": "/spec/taints"}])


def test_a_sensor_that_tells_nothing_taints_nothing(tainting: HotRow):
    tainting.heat(40)
    until(lambda: tainted(tainting.kube), f"the row is tainted\n{tainting.log()}")
    tainting.exporter.misbehave(drop=True)
    until(lambda: not tainted(tainting.kube), f"nobody knows how warm it is\n{tainting.log()}", 60.0)


def test_a_policy_that_goes_back_to_shadow_takes_the_taints_back(tainting: HotRow):
    tainting.heat(40)
    until(lambda: tainted(tainting.kube), f"the row is tainted\n{tainting.log()}")
    tainting.apply("EnergyPolicy", tainting.namespace, mode="shadow")
    until(lambda: not tainted(tainting.kube), f"shadow touches nothing\n{tainting.log()}")


def test_the_watchdog_takes_the_taints_of_a_dead_operator_off(tainting: HotRow):
    tainting.heat(40)
    until(lambda: tainted(tainting.kube), f"the row is tainted\n{tainting.log()}")
    plane = tainting.plane
    plane.processes.stop(tainting.operator.name, number=signal.SIGKILL)
    config = plane.kubeconfig_for(NAMESPACE, "embellie-watchdog")
    command = [program("embellie-watchdog"), "run", f"--namespace={NAMESPACE}", f"--kubeconfig={config}"]
    plane.processes.start("watchdog", [*command, "--dead-man-seconds=2", "--release-seconds=5", "--health-port=0"])
    try:
        until(lambda: not tainted(tainting.kube), "the taints are gone", 60.0)
    finally:
        plane.processes.stop("watchdog", number=signal.SIGKILL)


def test_an_uninstall_leaves_no_taint_though_the_operator_is_alive(tainting: HotRow):
    tainting.heat(40)
    until(lambda: tainted(tainting.kube), f"the row is tainted\n{tainting.log()}")
    try:
        done = watchdog(tainting.plane, "uninstall", "--release-seconds=5")
        assert done.returncode == 0, done.stdout + done.stderr
        until(lambda: not tainted(tainting.kube), f"no taint comes back\n{tainting.log()}")
    finally:
        switch = f"/api/v1/namespaces/{NAMESPACE}/configmaps/embellie-switch"
        tainting.kube.json_patch(switch, [{"op": "add", "path": "/data/locked", "value": "false"}])


def test_caps_are_written_for_nodes_with_an_agent_never_below_the_knee_and_removed(capping: HotRow):
    capping.plane.kubectl("label", "nodes", "-l", f"{ZONE}=west", f"{AGENT}=true")
    capping.run("train")
    node = until(lambda: capping.pod("train"), "it runs")["spec"]["nodeName"]
    capping.heat(40)
    cap = until(lambda: caps(capping).get(node), f"its node is capped\n{capping.log()}")
    assert list(caps(capping)) == [node], "a node without work of ours needs no cap"
    spec = cap["spec"]
    assert spec["kneeWatts"] == 420, "60 % of the rated 700 W"
    assert spec["kneeWatts"] <= spec["capWatts"] < 700
    assert spec["thermalZoneName"] == ROW
    assert "°C" in spec["reason"]
    assert spec["expiryTime"] > cap["metadata"]["creationTimestamp"]
    shown = capping.plane.kubectl("get", "powercaps")
    assert f"{spec['capWatts']}" in shown
    assert ROW in shown

    capping.apply("EnergyPolicy", capping.namespace, mode="shadow")
    until(lambda: not caps(capping), f"shadow caps nothing\n{capping.log()}")


def test_work_that_did_not_opt_in_and_nodes_without_an_agent_are_not_capped(capping: HotRow):
    capping.plane.kubectl("label", "nodes", "-l", f"{ZONE}=west", f"{AGENT}=true")
    foreign = {**json.loads(json.dumps(body("admins"))), "metadata": {"name": "admins"}}
    capping.kube.create(f"/apis/{names.API_VERSION}/powercaps", foreign)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "rigid"},
        "spec": {
            "nodeSelector": {ZONE: "west"},
            "containers": [{"name": "c", "image": "train", "resources": {"limits": {"nvidia.com/gpu": "8"}}}],
        },
    }
    capping.kube.create(f"/api/v1/namespaces/{capping.namespace}/pods", pod)
    capping.run("train")
    node = until(lambda: capping.pod("train"), "it runs")["spec"]["nodeName"]
    capping.heat(40)
    until(lambda: caps(capping).get(node), f"its node is capped\n{capping.log()}")
    assert sorted(caps(capping)) == sorted([node, "admins"])
    done = watchdog(capping.plane, "uninstall", "--release-seconds=5")
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        until(lambda: list(caps(capping)) == ["admins"], "ours are gone, and what others wrote is left")
    finally:
        switch = f"/api/v1/namespaces/{NAMESPACE}/configmaps/embellie-switch"
        capping.kube.json_patch(switch, [{"op": "add", "path": "/data/locked", "value": "false"}])


def body(name: str, **spec: Any) -> dict[str, Any]:
    whole = {
        "capWatts": 500, "kneeWatts": 420, "expiryTime": "2030-01-01T00:00:00Z", "thermalZoneName": "row",
        "reason": "row is too hot.",
    }  # fmt: skip
    return {
        "apiVersion": names.API_VERSION, "kind": "PowerCap", "metadata": {"name": name}, "spec": {**whole, **spec},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"capWatts": 300}, "must be greater than or equal to kneeWatts"),
        ({"capWatts": 0, "kneeWatts": 0}, "greater than or equal to 1"),
        ({"expiryTime": "tomorrow"}, "expiryTime"),
    ],
)
def test_a_cap_below_its_knee_or_without_an_end_is_refused(kube: KubeClient, spec: dict[str, Any], says: str):
    with pytest.raises(ApiError) as refused:
        kube.create(f"/apis/{names.API_VERSION}/powercaps", body("bad", **spec))
    assert refused.value.status == 422
    assert says in refused.value.message


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "add", "path": "/spec/unschedulable", "value": True},
        {"op": "add", "path": "/metadata/labels/team", "value": "b"},
        {"op": "add", "path": "/spec/taints", "value": [{"key": names.OVERHEATED, "effect": "NoExecute"}]},
        {"op": "add", "path": "/spec/taints", "value": [{"key": "example.com/other", "effect": "NoSchedule"}]},
    ],
    ids=["cordon", "label", "evicting taint", "another taint"],
)
@pytest.mark.parametrize("account", ["operator", "watchdog"])
def test_our_accounts_may_change_nothing_of_a_node_but_their_taint(
    gpu_cluster: ControlPlane, installed_chart: ControlPlane, kube: KubeClient, account: str, operation: dict[str, Any]
):
    path = f"/api/v1/nodes/{kube.get('/api/v1/nodes')['items'][0]['metadata']['name']}"
    client = KubeClient.from_environment(gpu_cluster.kubeconfig_for(NAMESPACE, f"embellie-{account}"))

    def fenced() -> str:
        try:
            client.request(
                "PATCH", path, body=[operation], params={"dryRun": "All"}, content_type="application/json-patch+json"
            )
        except ApiError as error:
            return error.message
        return ""

    # RBAC and policies take effect a moment after they were written.
    until(lambda: "embellie-fence-nodes" in fenced(), "the fence refuses it")
    client.close()
