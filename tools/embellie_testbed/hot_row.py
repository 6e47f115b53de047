# SPDX-License-Identifier: Apache-2.0
"""A cluster whose western row can be made hot, with Prometheus, exporter and a running operator, for tests."""

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embellie.cluster.client import KubeClient
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.exporter import Exporter, start_exporter
from embellie_testbed.processes import until
from embellie_testbed.product import Program, start_operator, write_forecast
from embellie_testbed.prometheus import start_prometheus

ZONE = "topology.kubernetes.io/zone"
PAUSE_BY = "embellie.io/pause-by"
ROW = "row"


class HotRow:
    """A cluster whose western row can be made hot, with a running operator."""

    def __init__(self, plane: ControlPlane, kube: KubeClient, namespace: str, exporter: Exporter) -> None:
        self.plane, self.kube, self.namespace, self.exporter = plane, kube, namespace, exporter
        self.operator: Program

    def apply(self, kind: str, name: str, **spec: Any) -> None:
        """Apply one of our cluster-scoped objects."""
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
        """Return a Job as it is now."""
        return self.kube.get(f"/apis/batch/v1/namespaces/{self.namespace}/jobs/{name}")

    def pod(self, name: str) -> dict[str, Any] | None:
        """Return the bound pod of a Job that is not on its way out."""
        selector = {"labelSelector": f"job-name={name}"}
        pods = self.kube.get(f"/api/v1/namespaces/{self.namespace}/pods", selector)["items"]
        return next((p for p in pods if p["spec"].get("nodeName") and not p["metadata"].get("deletionTimestamp")), None)

    def told(self, name: str) -> str:
        """Wait for an announcement and return its instant."""
        notes = until(lambda: self._told(name), f"{name} is told\n{self.log()}")
        return str(notes[PAUSE_BY])

    def _told(self, name: str) -> dict[str, str] | None:
        notes: dict[str, str] = self.job(name)["metadata"].get("annotations") or {}
        return notes if PAUSE_BY in notes else None

    def plan(self, name: str) -> dict[str, Any]:
        """Return a Job's WorkloadPlan; empty before it has one."""
        found = self.plane.kubectl("get", "wp", f"job-{name}", "-n", self.namespace, "-o", "json", check=False)
        return json.loads(found) if found.strip() else {}

    def plan_when(self, name: str, state: str) -> dict[str, Any]:
        """Wait until a Job's plan tells a state, and return its status."""

        def there() -> dict[str, Any] | None:
            status = self.plan(name).get("status", {})
            return status if status.get("state") == state else None

        found: dict[str, Any] = until(there, f"the plan of {name} says {state}\n{self.log()}")
        return found

    def nodes(self) -> list[dict[str, Any]]:
        """Return the nodes of the row."""
        return [n for n in self.kube.get("/api/v1/nodes")["items"] if n["metadata"]["labels"][ZONE] == "west"]

    def log(self) -> str:
        """Return the end of what the operator wrote."""
        return self.operator.log()[-2000:]

    def heat(self, celsius: int) -> None:
        """Make every inlet read so many degrees."""
        self.exporter.misbehave(absurd={"ipmi_temperature_celsius": celsius})


@contextmanager
def hot_row(
    plane: ControlPlane, kube: KubeClient, namespace: str, folder: Path, *flags: str, measures: Sequence[str] = ()
) -> Iterator[HotRow]:
    """Set the scene on a control plane with GPU nodes and the chart, and clear it away again.

    Args:
        plane: Where.
        kube: An admin's client.
        namespace: Where the Jobs of the test live.
        folder: For forecasts.
        *flags: Of the operator.
        measures: Of the row's ladder; all where none is named.
    """
    exporter = start_exporter(plane, ambient=12.0)
    prometheus = start_prometheus(plane, [exporter.target])
    prometheus.wait_for_series("max(ipmi_temperature_celsius)")
    found = HotRow(plane, kube, namespace, exporter)
    for zone in ("west", "east"):
        found.apply("GridZone", zone, nodeSelector={ZONE: zone}, gridRegion="US-CISO", jurisdiction="US-CA")
        write_forecast(folder, zone, [100.0] * 48)
    query = 'max(ipmi_temperature_celsius{zone="west"})'
    sensor = {"name": "inlet", "role": "Inlet", "unit": "Celsius", "query": query, "maxAgeSeconds": 10}
    ladder = {"ladder": {"measures": list(measures), "minimumDwellSeconds": 30}} if measures else {}
    found.apply("ThermalZone", ROW, nodeSelector={ZONE: "west"}, sensors=[sensor], **ladder)
    selector = {"matchNames": [namespace]}
    found.apply("EnergyPolicy", namespace, mode="enforce", namespaceSelector=selector, maxPausesPerDay=1)
    found.operator = start_operator(plane, folder, flags=("--turn-seconds=1", *flags), prometheus_url=prometheus.url)
    try:
        yield found
    finally:
        found.operator.stop()
        for name in ("prometheus", "exporter"):
            plane.processes.stop(name, number=signal.SIGKILL)
        plane.kubectl("delete", "gridzones,energypolicies,thermalzones,powercaps", "--all")
        plane.kubectl("delete", "jobs", "--all", "-n", namespace, "--cascade=foreground")
