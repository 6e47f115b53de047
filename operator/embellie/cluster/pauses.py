# SPDX-License-Identifier: Apache-2.0
"""The writes of a pause, each one guarded JSON patch made from a fresh read.

The fence lets us annotate work that carries `embellie.io/checkpoint`, and suspend a Job only in the patch that also
sets our marker, after it was announced.
"""

from collections.abc import Sequence
from datetime import datetime

from embellie.cluster.client import ApiError, KubeClient, object_path
from embellie.cluster.patches import Operation, Raw, format_time, pointer
from embellie.cluster.records import PodRecord
from embellie.domain import names
from embellie.domain.snapshot import WorkloadKey


class Pauser:
    """Announces, withdraws and carries out pauses. Every method tells whether it wrote, or raises `ApiError`."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    def announce(self, key: WorkloadKey, by: datetime, listeners: Sequence[PodRecord]) -> bool:
        """Write the instant on the Job, then on each of its pods that listen; a pod that is gone needs no word."""
        raw = self._client.get(_path(key))
        if names.PAUSE_BY in (raw["metadata"].get("annotations") or {}):
            return False  # announced a moment ago; the watch has not shown it yet
        self._client.json_patch(_path(key), [*_guards(raw, key), _set(names.PAUSE_BY, format_time(by))])
        for pod in listeners:
            path = object_path("v1", "pods", pod.name, namespace=pod.namespace)
            try:
                self._client.json_patch(path, [_is(pod.uid), _set(names.PAUSE_BY, format_time(by))])
            except ApiError as error:
                if error.status != 404 and not error.conflict:
                    raise
        return True

    def withdraw(self, key: WorkloadKey) -> bool:
        """Take an announcement back."""
        raw = self._client.get(_path(key))
        if names.PAUSE_BY not in (raw["metadata"].get("annotations") or {}):
            return False
        self._client.json_patch(_path(key), [*_guards(raw, key), _drop(names.PAUSE_BY)])
        return True

    def suspend(self, key: WorkloadKey, announced: str, cell: str, at: datetime) -> bool:
        """Suspend a Job with our marker on it, and note its cell; False where it is not as it was decided about."""
        raw = self._client.get(_path(key))
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
        self._client.json_patch(_path(key), operations)
        return True


def _path(key: WorkloadKey) -> str:
    return object_path("batch/v1", "jobs", key.name, namespace=key.namespace)


def _is(uid: str) -> Operation:
    return {"op": "test", "path": "/metadata/uid", "value": uid}


def _guards(raw: Raw, key: WorkloadKey) -> list[Operation]:
    version = {"op": "test", "path": "/metadata/resourceVersion", "value": raw["metadata"]["resourceVersion"]}
    return [_is(key.uid), version]


def _set(annotation: str, value: str) -> Operation:
    return {"op": "add", "path": pointer("metadata", "annotations", annotation), "value": value}


def _drop(annotation: str) -> Operation:
    return {"op": "remove", "path": pointer("metadata", "annotations", annotation)}
