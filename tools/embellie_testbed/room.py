# SPDX-License-Identifier: Apache-2.0
"""The simulated machine room: which pod runs on which GPU, what that draws, how warm it becomes.

Fed with Node and Pod objects in any order; between two events the power is constant, so the rows are advanced at each
event and each reading. A row that gets or loses a node is built anew and comes to rest at once.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from embellie_testbed import physics
from embellie_testbed.ambient import Ambient
from embellie_testbed.nodes import GPU_RESOURCE, PRODUCT_LABEL, ROW_LABEL, ZONE_LABEL
from embellie_testbed.physics import RowPlant

TRUE_WATTS = "testbed.embellie.io/watts-per-gpu"
"""What a pod really draws; it may differ from what its user stated."""
STATED_WATTS = "embellie.io/watts-per-gpu"

Sample: TypeAlias = tuple[str, dict[str, str], float]
"""Metric name, labels, value."""


@dataclass(slots=True, kw_only=True)
class _Node:
    name: str
    zone: str
    row: str
    product: str
    gpus: list["_Pod | None"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pod:
    uid: str
    name: str
    namespace: str
    node: str
    gpus: int
    watts_per_gpu: float


@dataclass(slots=True, kw_only=True)
class Room:
    """Nodes, pods and rows. Not for several threads at once."""

    now: Callable[[], datetime]
    ambient: Ambient
    rows: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Changes of a row's hall (`hall` in docs/drills.md), by its name; any other row gets what its name draws."""
    _nodes: dict[str, _Node] = field(default_factory=dict)
    _pods: dict[str, _Pod] = field(default_factory=dict)
    _plants: dict[str, tuple[tuple[str, ...], RowPlant]] = field(default_factory=dict)
    """By row: its nodes in the order of the plant's, and the plant."""
    _advanced: datetime | None = None

    def set_node(self, node: Mapping[str, Any]) -> None:
        """Take a new or changed Node; one without GPUs is not simulated."""
        meta = node["metadata"]
        labels = meta.get("labels", {})
        count = int(node.get("status", {}).get("capacity", {}).get(GPU_RESOURCE, "0"))
        if meta["name"] in self._nodes or count == 0:
            return
        self.advance()
        zone = labels.get(ZONE_LABEL, "")
        self._nodes[meta["name"]] = _Node(
            name=meta["name"],
            zone=zone,
            row=labels.get(ROW_LABEL, zone or "room"),
            product=labels.get(PRODUCT_LABEL, "unknown"),
            gpus=[None] * count,
        )
        for pod in self._pods.values():
            if pod.node == meta["name"]:
                self._seat(pod)

    def remove_node(self, name: str) -> None:
        """Forget a Node and what ran on it."""
        self.advance()
        self._nodes.pop(name, None)

    def set_pod(self, pod: Mapping[str, Any]) -> None:
        """Take a new or changed Pod: it draws power while it is Running on a node with GPUs."""
        uid = pod["metadata"]["uid"]
        if pod.get("status", {}).get("phase") != "Running":
            self.remove_pod(uid)
            return
        if uid in self._pods:
            return
        parsed = _parse_pod(pod)
        if parsed.gpus and parsed.node:
            self.advance()
            self._pods[uid] = parsed
            self._seat(parsed)

    def remove_pod(self, uid: str) -> None:
        """Free the GPUs of a pod."""
        pod = self._pods.get(uid)
        if pod is None:
            return
        self.advance()
        del self._pods[uid]
        node = self._nodes.get(pod.node)
        if node is not None:
            node.gpus = [None if user is pod else user for user in node.gpus]

    def keep_only(self, *, node_names: set[str] | None = None, pod_uids: set[str] | None = None) -> None:
        """Forget what a complete list no longer contains."""
        if node_names is not None:
            for name in set(self._nodes) - node_names:
                self.remove_node(name)
        if pod_uids is not None:
            for uid in set(self._pods) - pod_uids:
                self.remove_pod(uid)

    def advance(self) -> None:
        """Let the time that has passed change the temperatures."""
        now = self.now()
        elapsed_s = 0.0 if self._advanced is None else (now - self._advanced).total_seconds()
        self._advanced = now
        rows = self._rows()
        self._plants = {name: kept for name, kept in self._plants.items() if name in rows}
        for name, nodes in rows.items():
            names = tuple(node.name for node in nodes)
            outside_c = self.ambient.at(nodes[0].zone, now)
            kept = self._plants.get(name)
            if kept is None or kept[0] != names:
                kept = names, RowPlant(name, len(names), self.rows.get(name, {}), outside_c)
                self._plants[name] = kept
            kept[1].advance([_busy_w(node) for node in nodes], outside_c, elapsed_s)

    def samples(self) -> Iterator[Sample]:
        """Yield what the exporters of a real room would say now."""
        self.advance()
        facility_w: dict[str, float] = {}
        for row, nodes in self._rows().items():
            plant, zone = self._plants[row][1], nodes[0].zone
            facility_w[zone] = facility_w.get(zone, 0.0) + plant.facility_w()
            for place, (node, power_w, inlet_c) in enumerate(zip(nodes, plant.node_w(), plant.inlet_c(), strict=True)):
                labels = {"node": node.name, "row": row, "zone": node.zone}
                yield "ipmi_temperature_celsius", {"id": "1", "name": "Inlet Temp", **labels}, inlet_c
                yield "ipmi_dcmi_power_consumption_current_watts", labels, power_w
                yield from _gpu_samples(node, plant, place)
            yield "cooling_supply_temperature_celsius", {"row": row, "zone": zone}, plant.supply_c()
            yield "cooling_return_temperature_celsius", {"row": row, "zone": zone}, plant.return_c()
        for zone, power_w in facility_w.items():
            yield "facility_power_watts", {"zone": zone}, power_w
            yield "outside_temperature_celsius", {"zone": zone}, self.ambient.at(zone, self.now())

    def _seat(self, pod: _Pod) -> None:
        node = self._nodes.get(pod.node)
        if node is None:
            return
        free = [index for index, user in enumerate(node.gpus) if user is None]
        for index in free[: pod.gpus]:
            node.gpus[index] = pod

    def _rows(self) -> dict[str, list[_Node]]:
        rows: dict[str, list[_Node]] = {}
        for node in self._nodes.values():
            rows.setdefault(node.row, []).append(node)
        return rows


def _busy_w(node: _Node) -> list[float]:
    return [user.watts_per_gpu for user in node.gpus if user is not None]


def _gpu_samples(node: _Node, plant: RowPlant, place: int) -> Iterator[Sample]:
    for index, user in enumerate(node.gpus):
        watts = plant.gpu_idle_w if user is None else max(plant.gpu_idle_w, user.watts_per_gpu)
        labels = {
            "gpu": str(index),
            "UUID": f"GPU-{node.name}-{index}",
            "modelName": node.product,
            "Hostname": node.name,
        }
        if user is not None:
            labels |= {"pod": user.name, "namespace": user.namespace}
        yield "DCGM_FI_DEV_POWER_USAGE", labels, watts
        yield "DCGM_FI_DEV_GPU_TEMP", labels, plant.gpu_c(place, watts)


def _parse_pod(pod: Mapping[str, Any]) -> _Pod:
    meta, spec = pod["metadata"], pod["spec"]
    containers = spec.get("containers", [])
    gpus = sum(int(each.get("resources", {}).get("limits", {}).get(GPU_RESOURCE, "0")) for each in containers)
    return _Pod(
        uid=meta["uid"],
        name=meta["name"],
        namespace=meta["namespace"],
        node=spec.get("nodeName", ""),
        gpus=gpus,
        watts_per_gpu=_watts(meta.get("annotations", {})),
    )


def _watts(annotations: Mapping[str, str]) -> float:
    for key in (TRUE_WATTS, STATED_WATTS):
        text = annotations.get(key, "")
        if re.fullmatch(r"\d{1,4}(\.\d+)?", text):
            return float(text)
    return physics.GPU_RUNNING_W
