# SPDX-License-Identifier: Apache-2.0
"""The simulated machine room: which pod runs on which GPU, what that draws, how warm it becomes.

Fed with Node and Pod objects in any order; between two events the power is constant, so advancing the temperatures at
each event and each reading is exact.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from embellie_testbed import physics
from embellie_testbed.ambient import Ambient
from embellie_testbed.nodes import GPU_RESOURCE, PRODUCT_LABEL, ROW_LABEL, ZONE_LABEL
from embellie_testbed.physics import Row

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
    rows: Mapping[str, Row] = field(default_factory=dict)
    """Rows whose parameters are given; any other gets those that its name draws."""
    _nodes: dict[str, _Node] = field(default_factory=dict)
    _pods: dict[str, _Pod] = field(default_factory=dict)
    _inlets_c: dict[str, float] = field(default_factory=dict)
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
        power = self._row_power_w()
        for name, zone in self._row_zones().items():
            row = self._row(name)
            supply = physics.supply_c(row, self.ambient.at(zone, now))
            steady = physics.steady_inlet_c(row, supply, power[name] / 1000)
            before = self._inlets_c.get(name, steady)
            self._inlets_c[name] = physics.next_inlet_c(row, before, steady, elapsed_s)

    def samples(self) -> Iterator[Sample]:
        """Yield what the exporters of a real room would say now."""
        self.advance()
        now = self.now()
        zone_power_w: dict[str, float] = {}
        for node in self._nodes.values():
            power_w = physics.node_power_w(_busy_w(node))
            zone_power_w[node.zone] = zone_power_w.get(node.zone, 0.0) + power_w
            inlet_c = self._inlets_c[node.row]
            place = {"node": node.name, "row": node.row, "zone": node.zone}
            yield "ipmi_temperature_celsius", {"id": "1", "name": "Inlet Temp", **place}, inlet_c
            yield "ipmi_dcmi_power_consumption_current_watts", place, power_w
            yield from _gpu_samples(node, inlet_c)
        for name, zone in self._row_zones().items():
            supply = physics.supply_c(self._row(name), self.ambient.at(zone, now))
            yield "cooling_supply_temperature_celsius", {"row": name, "zone": zone}, supply
        for zone, power_w in zone_power_w.items():
            yield "facility_power_watts", {"zone": zone}, power_w * physics.POWER_USAGE_EFFECTIVENESS
            yield "outside_temperature_celsius", {"zone": zone}, self.ambient.at(zone, now)

    def _seat(self, pod: _Pod) -> None:
        node = self._nodes.get(pod.node)
        if node is None:
            return
        free = [index for index, user in enumerate(node.gpus) if user is None]
        for index in free[: pod.gpus]:
            node.gpus[index] = pod

    def _row(self, name: str) -> Row:
        return self.rows.get(name) or physics.row_named(name)

    def _row_zones(self) -> dict[str, str]:
        return {node.row: node.zone for node in self._nodes.values()}

    def _row_power_w(self) -> dict[str, float]:
        power: dict[str, float] = {}
        for node in self._nodes.values():
            power[node.row] = power.get(node.row, 0.0) + physics.node_power_w(_busy_w(node))
        return power


def _busy_w(node: _Node) -> list[float]:
    return [user.watts_per_gpu for user in node.gpus if user is not None]


def _gpu_samples(node: _Node, inlet_c: float) -> Iterator[Sample]:
    for index, user in enumerate(node.gpus):
        watts = physics.GPU_IDLE_W if user is None else user.watts_per_gpu
        labels = {
            "gpu": str(index),
            "UUID": f"GPU-{node.name}-{index}",
            "modelName": node.product,
            "Hostname": node.name,
        }
        if user is not None:
            labels |= {"pod": user.name, "namespace": user.namespace}
        yield "DCGM_FI_DEV_POWER_USAGE", labels, watts
        yield "DCGM_FI_DEV_GPU_TEMP", labels, physics.gpu_temperature_c(inlet_c, watts)


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
            return max(physics.GPU_IDLE_W, float(text))
    return physics.GPU_RUNNING_W
