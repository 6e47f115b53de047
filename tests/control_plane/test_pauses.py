# SPDX-License-Identifier: Apache-2.0
"""Pausing end to end: a zone over its hard limit, a Job that allows it, its checkpoint, and the way back."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embellie.cluster.client import KubeClient
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.exporter import Exporter, start_exporter
from embellie_testbed.processes import until
from embellie_testbed.product import Program, start_operator, write_forecast
from embellie_testbed.prometheus import start_prometheus

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(240)]

ZONE = "topology.kubernetes.io/zone"
PAUSE_BY = "embellie.io/pause-by"
HOLD_S = 8


class Room:
    """A cluster whose western row can be made hot, with a running operator."""

    def __init__(self, plane: ControlPlane, kube: KubeClient, namespace: str, exporter: Exporter) -> None:
        self.plane, self.kube, self.namespace, self.exporter = plane, kube, namespace, exporter
        self.operator: Program

    def apply(self, kind: str, name: str, **spec: Any) -> None:
        body = {"apiVersion": "embellie.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        self.plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(body))

    def run(self, name: str, **notes: str) -> None:
        """Create a Job, and wait until its pod runs."""
        annotations = {f"embellie.io/{key}": value for key, value in notes.items()}
        container = {"name": "c", "image": "train", "resources": {"limits": {"nvidia.com/gpu": "8"}}}
        pod = {"restartPolicy": "Never", "nodeSelector": {ZONE: "west"}, "containers": [container]}
        body = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "labels": {"embellie.io/flex": "patient"}, "annotations": annotations},
            "spec": {"template": {"metadata": {"annotations": annotations}, "spec": pod}},
        }
        path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        self.kube.request("POST", path, body=body, params={"fieldManager": "a-user"})
        until(lambda: self.job(name).get("status", {}).get("active") == 1 and self.pod(name), f"{name} runs")

    def job(self, name: str) -> dict[str, Any]:
        return self.kube.get(f"/apis/batch/v1/namespaces/{self.namespace}/jobs/{name}")

    def pod(self, name: str) -> dict[str, Any] | None:
        selector = {"labelSelector": f"job-name={name}"}
        pods = self.kube.get(f"/api/v1/namespaces/{self.namespace}/pods", selector)["items"]
        return next((p for p in pods if p["spec"].get("nodeName") and not p["metadata"].get("deletionTimestamp")), None)

    def told(self, name: str) -> str:
        """Wait for an announcement and return its instant."""
        return until(lambda: self.job(name)["metadata"]["annotations"].get(PAUSE_BY), f"{name} is told\n{self.log()}")

    def plan(self, name: str) -> dict[str, Any]:
        found = self.plane.kubectl("get", "wp", f"job-{name}", "-n", self.namespace, "-o", "json", check=False)
        return json.loads(found) if found.strip() else {}

    def plan_when(self, name: str, state: str) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            status = self.plan(name).get("status", {})
            return status if status.get("state") == state else None

        return until(there, f"the plan of {name} says {state}\n{self.log()}")

    def log(self) -> str:
        return self.operator.log()[-2000:]

    def heat(self, celsius: int) -> None:
        self.exporter.misbehave(absurd={"ipmi_temperature_celsius": celsius})


@pytest.fixture
def room(
    gpu_cluster: ControlPlane, installed_chart: ControlPlane, kube: KubeClient, namespace: str, tmp_path: Path
) -> Iterator[Room]:
    exporter = start_exporter(gpu_cluster, ambient=12.0)
    prometheus = start_prometheus(gpu_cluster, [exporter.target])
    prometheus.wait_for_series("max(ipmi_temperature_celsius)")
    found = Room(gpu_cluster, kube, namespace, exporter)
    for zone in ("west", "east"):
        found.apply("GridZone", zone, nodeSelector={ZONE: zone}, gridRegion="US-CISO", jurisdiction="US-CA")
        write_forecast(tmp_path, zone, [100.0] * 48)
    query = 'max(ipmi_temperature_celsius{zone="west"})'
    sensor = {"name": "inlet", "role": "Inlet", "unit": "Celsius", "query": query, "maxAgeSeconds": 10}
    found.apply("ThermalZone", "row", nodeSelector={ZONE: "west"}, sensors=[sensor])
    selector = {"matchNames": [namespace]}
    found.apply("EnergyPolicy", namespace, mode="enforce", namespaceSelector=selector, maxPausesPerDay=1)
    found.operator = start_operator(
        gpu_cluster,
        tmp_path,
        flags=("--turn-seconds=1", f"--max-limit-hold-seconds={HOLD_S}"),
        prometheus_url=prometheus.url,
    )
    yield found
    found.operator.stop()
    for name in ("prometheus", "exporter"):
        gpu_cluster.processes.stop(name, number=signal.SIGKILL)
    gpu_cluster.kubectl("delete", "gridzones,energypolicies,thermalzones", "--all")
    gpu_cluster.kubectl("delete", "jobs", "--all", "-n", namespace, "--cascade=foreground")


def test_a_job_that_allows_it_is_told_waited_for_paused_and_let_go_on(room: Room):
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
    assert "too hot" in status["message"]
    assert room.job("plain")["spec"]["suspend"] is False, "work that does not allow pauses runs on"
    assert PAUSE_BY not in room.job("plain")["metadata"].get("annotations", {})

    until(lambda: room.job("train")["spec"]["suspend"] is False, "it goes on, hot or not, when the limit hold is over")
    assert time.monotonic() - began < HOLD_S + 10
    assert room.plan_when("train", "Released")["reason"] == "Cooled"
    assert "embellie.io/held" not in room.job("train")["metadata"]["labels"]
    until(lambda: room.pod("train"), "its pod is back")
    assert PAUSE_BY not in room.job("train")["metadata"]["annotations"], "once a day"


def test_without_an_acknowledgement_it_is_paused_when_the_announced_time_is_over(room: Room):
    room.run("train", checkpoint="takes=3s")
    room.heat(40)
    room.told("train")
    until(lambda: room.job("train")["spec"]["suspend"] is True, f"it is paused\n{room.log()}")

    def warned() -> bool:
        events = json.loads(room.plane.kubectl("get", "events", "-n", room.namespace, "-o", "json"))["items"]
        return any(e["reason"] == "Paused" and "without an acknowledged" in e["message"] for e in events)

    until(warned, "an event tells that nobody acknowledged")
