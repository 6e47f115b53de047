# SPDX-License-Identifier: Apache-2.0
"""The one write on somebody's workload: letting it start.

Each release is one JSON patch, made from a fresh read and guarded by `test` on the uid, the resourceVersion, our marker
and the gate or suspension, so that a write can only ever hit the object it was meant for, in the state it was read in.
Without our marker nothing is touched. If somebody else has let the workload start, only the marker goes, so that a
later sweep cannot undo what its user does then.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias

from embellie.cluster.affinity import confine
from embellie.domain import names
from embellie.domain.snapshot import WorkloadKind
from embellie.domain.times import format_time

Operation: TypeAlias = dict[str, Any]
Raw: TypeAlias = Mapping[str, Any]


def pointer(*parts: str) -> str:
    """Return a JSON pointer (RFC 6901).

    >>> pointer("metadata", "labels", "embellie.io/held")
    '/metadata/labels/embellie.io~1held'
    """
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


def has_marker(raw: Raw) -> bool:
    """Whether it was us who held the object."""
    return bool((raw["metadata"].get("labels") or {}).get(names.HELD_LABEL) == "true")


def is_waiting(raw: Raw, kind: WorkloadKind) -> bool:
    """Whether the object still stands still: a suspended Job, a pod with our gate."""
    spec = raw.get("spec") or {}
    if kind is WorkloadKind.JOB:
        return spec.get("suspend") is True
    return _gate_index(raw) is not None


def queue_of(raw: Raw) -> str:
    """Return the Kueue queue that the object is in; empty without one."""
    return str((raw["metadata"].get("labels") or {}).get(names.KUEUE_QUEUE_LABEL, ""))


def release_patch_job(
    raw: Raw, placement_labels: Mapping[str, str], released_at: datetime, reason: str, cell: str | None
) -> list[Operation]:
    """Return the patch that confines a held Job's pods to a cell and unsuspends it.

    The template may change while the Job is suspended and no pod of an earlier run is left; before that the API server
    refuses the whole patch, and a later turn writes it.
    """
    operations = [*_guards(raw), {"op": "test", "path": "/spec/suspend", "value": True}]
    pod_spec = ((raw.get("spec") or {}).get("template") or {}).get("spec") or {}
    operations += _placed(pod_spec, placement_labels, "spec", "template", "spec")
    operations.append({"op": "replace", "path": "/spec/suspend", "value": False})
    return operations + _unmark() + _annotate(raw, released_at, reason, cell)


def release_patch_pod(
    raw: Raw, placement_labels: Mapping[str, str], released_at: datetime, reason: str, cell: str | None
) -> list[Operation]:
    """Return the patch that confines a held pod to a cell and removes our gate, and no other.

    Raises ValueError when our gate is not there.
    """
    gate = _ungate(raw)
    if not gate:
        raise ValueError("the pod does not carry our gate")
    placed = _placed(raw.get("spec") or {}, placement_labels, "spec")
    return [*_guards(raw), *placed, *gate, *_unmark(), *_annotate(raw, released_at, reason, cell)]


def hand_off_patch(raw: Raw) -> list[Operation]:
    """Return the patch that takes our marker and our gate off and leaves everything else.

    The decision is somebody else's now. A suspension stays: it is theirs too.
    """
    return [*_guards(raw), *_ungate(raw), *_unmark()]


def _gate_index(raw: Raw) -> int | None:
    gates = (raw.get("spec") or {}).get("schedulingGates") or ()
    return next((i for i, gate in enumerate(gates) if gate.get("name") == names.GATE), None)


def _ungate(raw: Raw) -> list[Operation]:
    index = _gate_index(raw)
    if index is None:
        return []
    gate = pointer("spec", "schedulingGates", str(index))
    return [{"op": "test", "path": gate, "value": {"name": names.GATE}}, {"op": "remove", "path": gate}]


def _guards(raw: Raw) -> list[Operation]:
    meta = raw["metadata"]
    return [
        {"op": "test", "path": "/metadata/uid", "value": meta["uid"]},
        {"op": "test", "path": "/metadata/resourceVersion", "value": meta["resourceVersion"]},
        {"op": "test", "path": pointer("metadata", "labels", names.HELD_LABEL), "value": "true"},
    ]


def _placed(pod_spec: Raw, labels: Mapping[str, str], *where: str) -> list[Operation]:
    changes = confine(pod_spec, labels)
    return [{"op": "add", "path": pointer(*where, part), "value": value} for part, value in changes.items()]


def _unmark() -> list[Operation]:
    return [{"op": "remove", "path": pointer("metadata", "labels", names.HELD_LABEL)}]


def _annotate(raw: Raw, released_at: datetime, reason: str, cell: str | None) -> list[Operation]:
    existing = raw["metadata"].get("annotations") or {}
    written = {names.RELEASED_AT: format_time(released_at), names.RELEASE_REASON: reason}
    if cell is not None:
        written[names.CELL] = cell
    if not existing:
        return [{"op": "add", "path": "/metadata/annotations", "value": written}]
    if _bytes({**existing, **written}) > names.MOST_ANNOTATION_BYTES:
        written = {}  # the user's own fill it up, and a start without our notes is better than none
    operations: list[Operation] = [
        {"op": "add", "path": pointer("metadata", "annotations", key), "value": value} for key, value in written.items()
    ]
    if names.CELL in existing and names.CELL not in written:
        # Copied over from another object's manifest: nobody may believe that this one was placed there.
        operations.append({"op": "remove", "path": pointer("metadata", "annotations", names.CELL)})
    return operations


def _bytes(annotations: Mapping[str, Any]) -> int:
    return sum(len(f"{key}{value}".encode()) for key, value in annotations.items())
