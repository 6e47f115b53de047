# SPDX-License-Identifier: Apache-2.0
"""The writes of a pause, each one guarded JSON patch made from a fresh read.

The fence lets us annotate work that carries `embellie.io/checkpoint`, and suspend a Job only in the patch that also
sets our marker, after it was announced.
"""

from collections.abc import Sequence
from datetime import datetime

from embellie.cluster.client import ApiError, KubeClient, object_path, workload_path
from embellie.cluster.patches import Operation, Raw, pointer
from embellie.cluster.records import PodRecord
from embellie.domain import names
from embellie.domain.snapshot import WorkloadKey
from embellie.domain.times import format_time


class Pauser:
    """Announces, withdraws and carries out pauses. Every method tells whether it wrote, or raises `ApiError`."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    def announce(self, key: WorkloadKey, by: datetime, listeners: Sequence[PodRecord]) -> bool:
        """Write the instant on each of its pods that listen, then on the Job.

        What fails in between is announced again: no pod is stopped that was not told.
        """
        raw = self._client.get(workload_path(key))
        if names.PAUSE_BY in (raw["metadata"].get("annotations") or {}):
            return False  # announced a moment ago; the watch has not shown it yet
        change = _set(names.PAUSE_BY, format_time(by))
        self._tell(listeners, change)
        self._client.json_patch(workload_path(key), [*_guards(raw, key), change])
        return True

    def withdraw(self, key: WorkloadKey, listeners: Sequence[PodRecord]) -> bool:
        """Take an announcement back, from the pods that listen first: they may have stopped working because of it."""
        raw = self._client.get(workload_path(key))
        annotations = raw["metadata"].get("annotations") or {}
        if names.PAUSE_BY not in annotations:
            return False
        change = _drop(names.PAUSE_BY)
        self._tell(listeners, change)
        if names.CHECKPOINT not in annotations:
            return False  # the fence lets us write only to what allows pauses
        self._client.json_patch(workload_path(key), [*_guards(raw, key), change])
        return True

    def _tell(self, listeners: Sequence[PodRecord], change: Operation) -> None:
        """Change an annotation of pods; one that is gone, or has nothing to be changed, needs no word."""
        for pod in listeners:
            path = object_path("v1", "pods", pod.name, namespace=pod.namespace)
            try:
                self._client.json_patch(path, [_is(pod.uid), change])
            except ApiError as error:
                if error.status != 404 and not error.conflict:
                    raise

    def suspend(self, key: WorkloadKey, announced: str, cell: str, at: datetime) -> bool:
        """Suspend a Job with our marker on it, and note its cell; False where it is not as it was decided about."""
        raw = self._client.get(workload_path(key))
        annotations = raw["metadata"].get("annotations") or {}
        if annotations.get(names.PAUSE_BY) != announced or (raw.get("spec") or {}).get("suspend") is True:
            return False
        operations = [
            *_guards(raw, key),
            {"op": "test", "path": "/spec/suspend", "value": False},
            {"op": "replace", "path": "/spec/suspend", "value": True},
            {"op": "add", "path": pointer("metadata", "labels", names.HELD_LABEL), "value": "true"},
            _set(names.PAUSED_AT, format_time(at)),
            _drop(names.PAUSE_BY),
        ]
        if cell:
            operations.append(_set(names.CELL, cell))
        self._client.json_patch(workload_path(key), operations)
        return True


def _is(uid: str) -> Operation:
    return {"op": "test", "path": "/metadata/uid", "value": uid}


def _guards(raw: Raw, key: WorkloadKey) -> list[Operation]:
    version = {"op": "test", "path": "/metadata/resourceVersion", "value": raw["metadata"]["resourceVersion"]}
    return [_is(key.uid), version]


def _set(annotation: str, value: str) -> Operation:
    return {"op": "add", "path": pointer("metadata", "annotations", annotation), "value": value}


def _drop(annotation: str) -> Operation:
    return {"op": "remove", "path": pointer("metadata", "annotations", annotation)}
