# SPDX-License-Identifier: Apache-2.0
"""The one guarded patch that releases a held Job or pod without the planner. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from embellie.watchdog import names
from embellie.watchdog.api import Object, namespaced
from embellie.watchdog.residency import confined

JOB = "Job"
POD = "Pod"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A workload that carries the marker."""

    kind: str
    obj: Object

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return str(self.obj["metadata"]["namespace"])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.obj["metadata"]["name"])

    @property
    def uid(self) -> str:
        """Its uid."""
        return str(self.obj["metadata"]["uid"])

    @property
    def path(self) -> str:
        """Where the API server has it."""
        if self.kind == JOB:
            return namespaced("apis/batch/v1", self.namespace, "jobs", self.name)
        return namespaced("api/v1", self.namespace, "pods", self.name)

    @property
    def residency(self) -> str:
        """The jurisdictions that it must stay in; empty where it may run anywhere."""
        return str((self.obj["metadata"].get("annotations") or {}).get(names.RESIDENCY, "")).strip()

    @property
    def created(self) -> str:
        """When it was created (RFC 3339)."""
        return str(self.obj["metadata"].get("creationTimestamp") or "")

    @property
    def queue(self) -> str:
        """The Kueue queue of a Job that waits in one: Kueue's to start. Empty for any other, and for pods."""
        suspended = self.kind == JOB and self.obj.get("spec", {}).get("suspend")
        return str((self.obj["metadata"].get("labels") or {}).get(names.KUEUE_QUEUE_LABEL, "")) if suspended else ""

    @property
    def label(self) -> str:
        """What logs call it."""
        return f"{self.kind.lower()}/{self.namespace}/{self.name}"

    @property
    def waits(self) -> bool:
        """Whether our gate or the suspension still stands; False where only the marker is left."""
        if self.kind == JOB:
            return bool(self.obj.get("spec", {}).get("suspend")) and not self.queue
        return _gate_index(self.obj) is not None


def is_held(obj: Mapping[str, Any]) -> bool:
    """Whether the object carries our marker; without it nothing is touched."""
    return str((obj.get("metadata", {}).get("labels") or {}).get(names.HELD_LABEL)) == "true"


def now_rfc3339() -> str:
    """Return the wall-clock time to the second, as the API server writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def release_patch(
    held: Held, annotations: Mapping[str, str], zones: Iterable[Mapping[str, Any]] | None = None
) -> list[Object]:
    """Return the JSON patch: guards first, then residency, gate or suspension, marker and annotations.

    `zones` are the GridZones; None where they could not be read.
    """
    meta = held.obj["metadata"]
    operations: list[Object] = [
        _test("/metadata/uid", meta["uid"]),
        _test("/metadata/resourceVersion", meta["resourceVersion"]),
        _test(f"/metadata/labels/{escape(names.HELD_LABEL)}", "true"),
    ]
    if held.waits:
        operations += _start(held, zones)
    operations.append({"op": "remove", "path": f"/metadata/labels/{escape(names.HELD_LABEL)}"})
    if not held.waits:  # somebody else started it, or will: only our marker is left to take away
        return operations
    existing = meta.get("annotations") or {}
    if _bytes({**existing, **annotations}) > names.MOST_ANNOTATION_BYTES:
        return operations  # the user's own fill it up, and a start without our notes is better than none
    if not existing:
        operations.append({"op": "add", "path": "/metadata/annotations", "value": {}})
    operations += [
        {"op": "add", "path": f"/metadata/annotations/{escape(key)}", "value": value}
        for key, value in annotations.items()
    ]
    return operations


def _start(held: Held, zones: Iterable[Mapping[str, Any]] | None) -> list[Object]:
    spec = held.obj["spec"]
    if held.kind == JOB:
        placed = _placed(held, spec["template"]["spec"], zones, "/spec/template/spec")
        return [*placed, {"op": "add", "path": "/spec/suspend", "value": False}]
    gate = f"/spec/schedulingGates/{_gate_index(held.obj)}"
    return [
        *_placed(held, spec, zones, "/spec"),
        _test(f"{gate}/name", names.GATE),
        {"op": "remove", "path": gate},
    ]


def _placed(
    held: Held, pod_spec: Mapping[str, Any], zones: Iterable[Mapping[str, Any]] | None, where: str
) -> list[Object]:
    changes = confined(pod_spec, held.residency, zones) if held.residency else {}
    return [{"op": "add", "path": f"{where}/{part}", "value": value} for part, value in changes.items()]


def _gate_index(pod: Mapping[str, Any]) -> int | None:
    gates = pod.get("spec", {}).get("schedulingGates") or []
    return next((i for i, gate in enumerate(gates) if gate.get("name") == names.GATE), None)


def _bytes(annotations: Mapping[str, Any]) -> int:
    return sum(len(f"{key}{value}".encode()) for key, value in annotations.items())


def _test(path: str, value: object) -> Object:
    return {"op": "test", "path": path, "value": value}


def escape(key: str) -> str:
    """Write a map key as a JSON pointer token (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
