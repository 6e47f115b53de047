# SPDX-License-Identifier: Apache-2.0
"""The writes of a pause, each one guarded JSON patch made from a fresh read.

The fence lets us annotate work that carries `embellie.io/checkpoint`, and suspend a Job only in the patch that also
sets our marker, after it was announced.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from embellie.cluster.client import ApiError, KubeClient, object_path, workload_path
from embellie.cluster.patches import Operation, Raw, pointer
from embellie.cluster.records import PodRecord
from embellie.cluster.side_by_side import side_by_side
from embellie.domain import names
from embellie.domain.snapshot import WorkloadKey
from embellie.domain.times import format_time

TELL_WITHIN_S = 5.0
"""Between the first and the last pod of a Job that hear of a pause in one turn [s]."""
THREADS = 16


class Pauser:
    """Announces, withdraws and carries out pauses. Every method tells whether it wrote, or raises `ApiError`."""

    def __init__(self, client: KubeClient, *, may_write: Callable[[], bool] = lambda: True) -> None:
        """`may_write` is asked before each pod is told: a leader that lost its lease must stop at once."""
        self._client = client
        self._may_write = may_write

    def announce(
        self, key: WorkloadKey, by: datetime, listeners: Sequence[PodRecord], told: Sequence[PodRecord] = ()
    ) -> bool:
        """Write the instant on each of its pods that listen, then on the Job: no pod is stopped that was not told.

        Where the time did not suffice for all pods, the Job is told once the others were, in a later turn. Where one
        could not be told, the others, `told` earlier or now, are told that nothing comes of it.
        """
        raw = self._client.get(workload_path(key))
        if names.PAUSE_BY in (raw["metadata"].get("annotations") or {}):
            return False  # announced a moment ago; the watch has not shown it yet
        change = _set(names.PAUSE_BY, format_time(by))
        try:
            if self._tell(listeners, change).left:
                return False
            self._client.json_patch(workload_path(key), [*_guards(raw, key), change])
        except ApiError:
            with suppress(ApiError):
                self._tell([*listeners, *told], _drop(names.PAUSE_BY))
            raise
        return True

    def remind(self, announced: str, listeners: Sequence[PodRecord]) -> None:
        """Tell pods what their Job was told already."""
        self._tell(listeners, _set(names.PAUSE_BY, announced))

    def withdraw(self, key: WorkloadKey, listeners: Sequence[PodRecord]) -> bool:
        """Take an announcement back, from the pods that listen first: they may have stopped working because of it."""
        raw = self._client.get(workload_path(key))
        annotations = raw["metadata"].get("annotations") or {}
        change = _drop(names.PAUSE_BY)
        told = self._tell(listeners, change)
        # The fence lets us write only to what allows pauses.
        if told.left or names.PAUSE_BY not in annotations or names.CHECKPOINT not in annotations:
            return told.wrote and not told.left
        self._client.json_patch(workload_path(key), [*_guards(raw, key), change])
        return True

    def _tell(self, listeners: Sequence[PodRecord], change: Operation) -> "_Told":
        """Change an annotation of pods, all at about the same time.

        One that is gone, or has nothing to be changed, needs no word. What goes wrong with one is raised after all.
        """

        def tell(pod: PodRecord) -> bool | ApiError:
            path = object_path("v1", "pods", pod.name, namespace=pod.namespace)
            try:
                self._client.json_patch(path, [_is(pod.uid), change])
            except ApiError as error:
                return False if error.status == 404 or error.conflict else error
            return True

        told = side_by_side(tell, listeners, threads=THREADS, begin_within_s=TELL_WITHIN_S, may_begin=self._may_write)
        for outcome in told:
            if isinstance(outcome, ApiError):
                raise outcome
        return _Told(wrote=True in told, left=None in told)

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
        if annotations.get(names.RELEASED_AT, "") > format_time(at):
            # Not our word: a start after its pause would make it new work, which its bound of long ago starts at once.
            operations.append(_drop(names.RELEASED_AT))
        self._client.json_patch(workload_path(key), operations)
        return True


@dataclass(frozen=True, slots=True)
class _Told:
    """What came of telling pods."""

    wrote: bool
    """Whether one was written."""
    left: bool
    """Whether the time did not suffice for all."""


def _is(uid: str) -> Operation:
    return {"op": "test", "path": "/metadata/uid", "value": uid}


def _guards(raw: Raw, key: WorkloadKey) -> list[Operation]:
    version = {"op": "test", "path": "/metadata/resourceVersion", "value": raw["metadata"]["resourceVersion"]}
    return [_is(key.uid), version]


def _set(annotation: str, value: str) -> Operation:
    return {"op": "add", "path": pointer("metadata", "annotations", annotation), "value": value}


def _drop(annotation: str) -> Operation:
    return {"op": "remove", "path": pointer("metadata", "annotations", annotation)}
