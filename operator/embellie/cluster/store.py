# SPDX-License-Identifier: Apache-2.0
"""What the cluster looks like, fed by watch events and put right by full lists.

A watch may lose a deletion (after a 410 the client lists again and never says what went away), so a list is the truth:
`replace` prunes what the list does not hold. An object that an event touched while the list was under way keeps the
event's word, because the list may be older.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from embellie.cluster.demands import Raw
from embellie.cluster.records import (
    NamespaceRecord,
    NodeRecord,
    PodRecord,
    WorkloadRecord,
    bare_record,
    parse_bare_pod,
    parse_job,
    parse_namespace,
    parse_node,
    parse_pod,
)
from embellie.domain import names
from embellie.domain.snapshot import WorkloadKind

logger = logging.getLogger(__name__)

MOST_STILL_S = 5.0
"""Events wait no longer than this for a plan: a watch that is not read for long gets cut off."""


class Resource(StrEnum):
    """The resources that the operator watches, by plural name."""

    JOBS = "jobs"
    PODS = "pods"
    NODES = "nodes"
    NAMESPACES = "namespaces"
    GRID_ZONES = "gridzones"
    THERMAL_ZONES = "thermalzones"
    ENERGY_POLICIES = "energypolicies"

    @property
    def api_version(self) -> str:
        """Under which the API server has its objects."""
        core = {Resource.JOBS: "batch/v1", Resource.PODS: "v1", Resource.NODES: "v1", Resource.NAMESPACES: "v1"}
        return core.get(self, names.API_VERSION)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The store at one instant."""

    workloads: tuple[WorkloadRecord, ...]
    pods: tuple[PodRecord, ...]
    nodes: tuple[NodeRecord, ...]
    namespaces: tuple[NamespaceRecord, ...]
    grid_zones: tuple[Raw, ...]
    thermal_zones: tuple[Raw, ...]
    energy_policies: tuple[Raw, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One object's records; several may come from one object (a bare GPU pod is a workload and takes GPUs)."""

    workload: WorkloadRecord | None = None
    other: PodRecord | NodeRecord | NamespaceRecord | Raw | None = None


def _parse_pod_entry(raw: Raw) -> _Entry:
    return _Entry(parse_bare_pod(raw), parse_pod(raw))


_PARSERS: Mapping[Resource, Callable[[Raw], _Entry]] = {
    Resource.JOBS: lambda raw: _Entry(workload=parse_job(raw)),
    Resource.PODS: _parse_pod_entry,
    Resource.NODES: lambda raw: _Entry(other=parse_node(raw)),
    Resource.NAMESPACES: lambda raw: _Entry(other=parse_namespace(raw)),
    Resource.GRID_ZONES: lambda raw: _Entry(other=_without_noise(raw)),
    Resource.THERMAL_ZONES: lambda raw: _Entry(other=_without_noise(raw)),
    Resource.ENERGY_POLICIES: lambda raw: _Entry(other=_without_noise(raw)),
}


def _parse(resource: Resource, raw: Raw) -> _Entry:
    """Read one object; one that cannot be read must not cost us all the others."""
    try:
        return _PARSERS[resource](raw)
    except Exception:  # a boundary: whatever somebody managed to write into an object
        logger.exception("%s %s cannot be read and is left out", resource, raw["metadata"].get("name"))
    # What we hold must get free of us all the same.
    kind = {Resource.JOBS: WorkloadKind.JOB, Resource.PODS: WorkloadKind.POD}.get(resource)
    return _Entry(workload=bare_record(raw, kind)) if kind is not None else _Entry()


def _without_noise(raw: Raw) -> Raw:
    meta = {k: v for k, v in raw["metadata"].items() if k != "managedFields"}
    return {**raw, "metadata": meta}


class Store:
    """Thread-safe: watch threads write, the planning loop reads whole views."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[Resource, dict[str, _Entry]] = {resource: {} for resource in Resource}
        self._touched: dict[Resource, set[str]] = {}
        self.version = 0
        """Grows with every change of a record; an event that changes nothing that matters leaves it."""
        self.wake = threading.Event()
        """Set when something came that should not wait for the next period."""
        self._moving = threading.Event()
        self._moving.set()
        self._still_until = 0.0

    @contextmanager
    def still(self, at_most_s: float = MOST_STILL_S) -> Iterator[None]:
        """Let events wait meanwhile, for the next turn sees them anyway.

        In a rush, reading thousands of events beside a plan would double the time that the plan takes: both need the
        interpreter, and numpy hands it over again and again.
        """
        self._still_until = time.monotonic() + at_most_s
        self._moving.clear()
        try:
            yield
        finally:
            self._moving.set()

    def apply(self, resource: Resource, event_type: str | None, raw: Mapping[str, Any]) -> None:
        """Take in one watch event (`ADDED`, `MODIFIED`, `DELETED`, or None for an initial listing)."""
        if not self._moving.is_set():
            self._moving.wait(max(0.0, self._still_until - time.monotonic()))
        uid = raw["metadata"]["uid"]
        entry = None if event_type == "DELETED" else _parse(resource, raw)
        with self._lock:
            entries = self._entries[resource]
            touched = self._touched.get(resource)
            if touched is not None:
                touched.add(uid)
            before = entries.get(uid)
            if entry is None or entry == _Entry():
                self.version += entries.pop(uid, None) is not None
            elif entry != before:
                entries[uid] = entry
                self.version += 1
        if _is_news(resource, before, entry):
            self.wake.set()

    def begin_list(self, resource: Resource) -> None:
        """Remember from now on which objects events touch, until `replace`."""
        with self._lock:
            self._touched[resource] = set()

    def replace(self, resource: Resource, items: Iterable[Mapping[str, Any]]) -> int:
        """Make a complete list the truth; return how many stale objects it pruned."""
        listed = {}
        for raw in items:
            entry = _parse(resource, raw)
            if entry != _Entry():
                listed[raw["metadata"]["uid"]] = entry
        with self._lock:
            entries = self._entries[resource]
            touched = self._touched.pop(resource, set())
            gone = [uid for uid in entries if uid not in listed and uid not in touched]
            for uid in gone:
                del entries[uid]
            changed = {u: e for u, e in listed.items() if u not in touched and entries.get(u) != e}
            entries.update(changed)
            self.version += len(gone) + len(changed)
        return len(gone)

    def view(self) -> View:
        """Return everything at one instant."""
        with self._lock:
            jobs, pods = self._entries[Resource.JOBS], self._entries[Resource.PODS]
            return View(
                workloads=tuple(e.workload for part in (jobs, pods) for e in part.values() if e.workload is not None),
                pods=tuple(e.other for e in pods.values() if isinstance(e.other, PodRecord)),
                nodes=tuple(e.other for e in self._entries[Resource.NODES].values() if isinstance(e.other, NodeRecord)),
                namespaces=tuple(
                    e.other for e in self._entries[Resource.NAMESPACES].values() if isinstance(e.other, NamespaceRecord)
                ),
                grid_zones=self._objects(Resource.GRID_ZONES),
                thermal_zones=self._objects(Resource.THERMAL_ZONES),
                energy_policies=self._objects(Resource.ENERGY_POLICIES),
            )

    def _objects(self, resource: Resource) -> tuple[Raw, ...]:
        return tuple(e.other for e in self._entries[resource].values() if isinstance(e.other, Mapping))


def _checkpointed(entry: _Entry | None) -> str:
    return entry.other.checkpointed if entry and isinstance(entry.other, PodRecord) else ""


def _is_news(resource: Resource, before: _Entry | None, after: _Entry | None) -> bool:
    """Tell whether a change should start a turn early: held work, an acknowledged pause or a zone that changed."""
    if resource in (Resource.JOBS, Resource.PODS):
        if _checkpointed(after) not in ("", _checkpointed(before)):
            return True
        old, new = (before.workload if before else None), (after.workload if after else None)
        return old != new and bool((old and old.held) or (new and (new.held or new.opted_in)))
    if resource in (Resource.NODES, Resource.NAMESPACES):
        return False
    old_spec = before.other.get("spec") if before and isinstance(before.other, Mapping) else None
    new_spec = after.other.get("spec") if after and isinstance(after.other, Mapping) else None
    return old_spec != new_spec
