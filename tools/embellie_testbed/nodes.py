# SPDX-License-Identifier: Apache-2.0
"""Simulated GPU nodes: Node objects that kwok keeps Ready and whose pods it runs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from embellie_testbed.processes import until
from embellie_testbed.rest import Rest

ZONE_LABEL = "topology.kubernetes.io/zone"
ROW_LABEL = "example.com/row"
GPU_RESOURCE = "nvidia.com/gpu"
PRODUCT_LABEL = "nvidia.com/gpu.product"
KWOK_ANNOTATION = "kwok.x-k8s.io/node"

_CONNECTIONS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePool:
    """Equal nodes of one zone, spread evenly over its rows of racks."""

    zone: str
    nodes: int
    rows: int = 1
    gpus_per_node: int = 8
    product: str = "NVIDIA-H100-80GB-HBM3"
    labels: dict[str, str] = field(default_factory=dict)
    only_gpu_pods: bool = False
    """Taint the nodes as many GPU clusters do; the API server lets pods that ask for GPUs tolerate it."""

    def row_of(self, index: int) -> str:
        """Return the row in which the node of this index stands."""
        return f"{self.zone}-r{index * self.rows // self.nodes + 1}"

    def manifests(self) -> Iterator[dict[str, Any]]:
        """Yield the Node objects."""
        for index in range(self.nodes):
            yield self._manifest(index)

    def _manifest(self, index: int) -> dict[str, Any]:
        name = f"{self.zone}-gpu-{index:03d}"
        resources = {
            "cpu": "192",
            "memory": "2Ti",
            "ephemeral-storage": "8Ti",
            "pods": "110",
            GPU_RESOURCE: str(self.gpus_per_node),
        }
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "annotations": {KWOK_ANNOTATION: "fake", "node.alpha.kubernetes.io/ttl": "0"},
                "labels": {
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/arch": "amd64",
                    "kubernetes.io/os": "linux",
                    ZONE_LABEL: self.zone,
                    ROW_LABEL: self.row_of(index),
                    PRODUCT_LABEL: self.product,
                    "nvidia.com/gpu.count": str(self.gpus_per_node),
                    **self.labels,
                },
            },
            "spec": {"taints": [{"key": GPU_RESOURCE, "effect": "NoSchedule"}] if self.only_gpu_pods else []},
            "status": {
                "capacity": resources,
                "allocatable": resources,
                "addresses": [{"type": "Hostname", "address": name}],
                "nodeInfo": {
                    "architecture": "amd64",
                    "operatingSystem": "linux",
                    "kubeletVersion": "fake",
                    "kubeProxyVersion": "fake",
                    "containerRuntimeVersion": "fake",
                    "kernelVersion": "fake",
                    "osImage": "kwok",
                    "bootID": "",
                    "machineID": "",
                    "systemUUID": "",
                },
            },
        }


def gpu_nodes(
    count: int,
    *,
    zones: Sequence[str] = ("west", "east"),
    gpus_per_node: int = 8,
    only_gpu_pods: bool = False,
) -> tuple[NodePool, ...]:
    """Return pools that share `count` nodes among the zones, the first zones taking what does not divide."""
    share, rest = divmod(count, len(zones))
    sizes = [share + (1 if index < rest else 0) for index in range(len(zones))]
    return tuple(
        NodePool(
            zone=zone,
            nodes=size,
            rows=min(2, size),
            gpus_per_node=gpus_per_node,
            only_gpu_pods=only_gpu_pods,
        )
        for zone, size in zip(zones, sizes, strict=True)
        if size
    )


def add_nodes(connect: Callable[[], Rest], pools: Iterable[NodePool]) -> None:
    """Create the nodes over a few connections, and wait until kwok has made all of them Ready."""
    manifests = [manifest for pool in pools for manifest in pool.manifests()]

    def create(share: list[dict[str, Any]]) -> None:
        rest = connect()
        try:
            for manifest in share:
                rest.request("POST", "/api/v1/nodes", manifest)
        finally:
            rest.close()

    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        list(pool.map(create, (manifests[offset::_CONNECTIONS] for offset in range(_CONNECTIONS))))
    wanted = {manifest["metadata"]["name"] for manifest in manifests}
    rest = connect()
    try:
        until(
            lambda: wanted <= {node["metadata"]["name"] for node in rest.objects("/api/v1/nodes") if is_ready(node)},
            seconds=60.0,
            what=f"{len(wanted)} nodes are Ready",
            every_seconds=0.2,
        )
    finally:
        rest.close()


def is_ready(node: dict[str, Any]) -> bool:
    """Tell whether a Node object has the condition Ready and is not tainted as not ready."""
    conditions = node.get("status", {}).get("conditions", [])
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    taints = node.get("spec", {}).get("taints", [])
    return ready and not any(taint["key"] == "node.kubernetes.io/not-ready" for taint in taints)
