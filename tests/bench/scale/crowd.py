# SPDX-License-Identifier: Apache-2.0
"""A cluster with two zones and one policy, and labelled work in its thousands."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from embellie.cluster.client import KubeClient
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.nodes import gpu_nodes
from embellie_testbed.paths import CHART
from embellie_testbed.product import NAMESPACE, write_forecast

TENANT = "research"
ZONES = ("west", "east")


def manifest(kind: str, name: str, gpus: int = 1) -> dict[str, Any]:
    """Return a labelled workload of one pod."""
    pod_spec = {
        "restartPolicy": "Never",
        "containers": [
            {"name": "train", "image": "example.com/train:1", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
        ],
    }
    meta = {
        "name": name,
        "namespace": TENANT,
        "labels": {"embellie.io/flex": "patient"},
        "annotations": {"embellie.io/duration": "2h"},
    }
    if kind == "Pod":
        return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod_spec}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"template": {"spec": pod_spec}}}


def create(kube: KubeClient, kind: str, count: int, prefix: str) -> float:
    """Create many workloads; return how long it took [s]."""
    path = f"/apis/batch/v1/namespaces/{TENANT}/jobs" if kind == "Job" else f"/api/v1/namespaces/{TENANT}/pods"
    started = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        list(
            pool.map(
                lambda i: kube.request("POST", path, body=manifest(kind, f"{prefix}-{i:05}")), range(count), chunksize=8
            )
        )
    return time.monotonic() - started


def forecasts(directory: Path, values: list[float]) -> None:
    """Write the same forecast for both zones."""
    for zone in ZONES:
        write_forecast(directory, zone, values)


def held(kube: KubeClient) -> int:
    """Count what carries the marker."""
    selector = {"labelSelector": "embellie.io/held=true"}
    return sum(1 for path in ("/apis/batch/v1/jobs", "/api/v1/pods") for _ in kube.list_all(path, selector))


def is_any_held(kube: KubeClient) -> bool:
    """Ask for one held object of each kind: counting them all would cost the API server more than the releases do."""
    params = {"labelSelector": "embellie.io/held=true", "limit": "1"}
    return any(kube.get(path, params)["items"] for path in ("/apis/batch/v1/jobs", "/api/v1/pods"))


def prepare(plane: ControlPlane, nodes: int) -> None:
    """Nodes, chart, zones and policy."""
    # More GPUs than a node has, so that ten thousand one-GPU workloads are not held for lack of room.
    plane.add_nodes(*gpu_nodes(nodes, gpus_per_node=24))
    plane.helm("install", "embellie", CHART, "-n", NAMESPACE, "--create-namespace")
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    plane.kubectl("create", "namespace", TENANT)
    plane.wait_for_default_service_account(TENANT)
    objects = [
        {
            "apiVersion": "embellie.io/v1alpha1",
            "kind": "GridZone",
            "metadata": {"name": zone},
            "spec": {"nodeSelector": {"topology.kubernetes.io/zone": zone}, "gridRegion": "US-CISO"},
        }
        for zone in ZONES
    ]
    objects.append(
        {
            "apiVersion": "embellie.io/v1alpha1",
            "kind": "EnergyPolicy",
            "metadata": {"name": "everything"},
            "spec": {"mode": "enforce"},
        }
    )
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(listed))


def switch_on(plane: ControlPlane) -> None:
    """Hold before any operator runs, so that it starts into a full house."""
    data = {"data": {"enabled": "true", "namespaces": f",{TENANT},"}}
    plane.kubectl("patch", "configmap", "embellie-switch", "-n", NAMESPACE, "--type=merge", "-p", json.dumps(data))


def is_held_when_created(kube: KubeClient) -> bool:
    """Create one Job and tell whether admission held it: the API server takes a second to notice the switch."""
    raw = manifest("Job", f"probe-{time.monotonic_ns()}")
    made = kube.request("POST", f"/apis/batch/v1/namespaces/{TENANT}/jobs", body=raw)
    return "embellie.io/held" in made["metadata"]["labels"]


def is_all_running(kube: KubeClient, count: int) -> bool:
    """Tell whether so many pods exist and none is pending any more; a list of one, since counting would cost more."""
    path = f"/api/v1/namespaces/{TENANT}/pods"
    page = kube.get(path, {"limit": "1"})
    there = len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)
    return there >= count and not kube.get(path, {"limit": "1", "fieldSelector": "status.phase=Pending"})["items"]
