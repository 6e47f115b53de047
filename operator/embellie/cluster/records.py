# SPDX-License-Identifier: Apache-2.0
"""Kubernetes objects cut down to what a decision needs.

The raw object is dropped as soon as it is read: ten thousand held workloads must fit in a small process. Everything
here is outside data, so nothing is assumed to be present or well formed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from embellie.cluster.demands import (
    UNCONSTRAINED,
    Constraints,
    Raw,
    as_count,
    as_int,
    constraints_of,
    devices_in,
    gpus_of,
)
from embellie.cluster.taints import Taint, overheated_zone, parse_taints
from embellie.domain import names
from embellie.domain.snapshot import WorkloadKey, WorkloadKind
from embellie.domain.times import parse_time

_TERMS = (
    names.DEADLINE,
    names.DURATION,
    names.MAX_DELAY,
    names.RESIDENCY,
    names.WATTS_PER_GPU,
    names.CHECKPOINT,
)
_ON_PODS_TOO = (names.CHECKPOINT, names.WATTS_PER_GPU)
"""Terms that are read in a Job's pod template as well."""
_KEPT_ANNOTATIONS = (
    *_TERMS,
    names.KUEUE_MAX_EXEC_SECONDS,
    names.RELEASED_AT,
    names.RELEASE_REASON,
    names.CELL,
    names.GO,
    names.PAUSE_BY,
    names.CHECKPOINTED,
    names.PAUSED_AT,
)
_FINISHED_PHASES = frozenset({"Succeeded", "Failed"})
_NO_ANNOTATIONS: Mapping[str, str] = {}
_OURS = f"{names.GROUP}/"
_MOST_STRAYS = 4
"""So many are named: each becomes an event, and nobody's thousands may crowd out those of others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadRecord:
    """A Job or a bare pod that opted in, was held by us, or uses GPUs."""

    key: WorkloadKey
    created_at: datetime
    """Wall time."""
    flex: str
    """Value of the opt-in label; empty without it."""
    held: bool
    """Carries our marker."""
    waiting: bool
    """Job: suspended. Pod: our gate is there."""
    finished: bool
    """Ended, or being deleted."""
    pods: int
    gpus_per_pod: int
    annotations: Mapping[str, str]
    labels: Mapping[str, str]
    """Only for opted-in workloads: policies select on them."""
    constraints: Constraints
    strays: tuple[str, ...] = ()
    """One sentence for each key under our name that its user wrote where nobody reads it."""
    other_gates: tuple[str, ...] = ()
    queue: str = ""
    exempt: bool = False
    """Never held, whatever its label: it has an owner, or a queue, a hook or another controller decides about it."""
    deleting: bool = False
    succeeded: int = 0
    """Pods of a Job that have finished their work."""
    completions: int = 1
    """Pods of a Job that have to."""
    started_at: datetime | None = None
    """Wall time of the first start, as the API server tells it."""
    completed_at: datetime | None = None
    """Wall time at which a Job succeeded."""
    unreadable: bool = False
    """Only its name and its border could be read: nothing is planned about it, and it starts at once."""

    @property
    def pods_left(self) -> int:
        """Pods that run at once from now on."""
        return max(0, min(self.pods, self.completions - self.succeeded))

    @property
    def opted_in(self) -> bool:
        """True for `patient` and `bonus`; `rigid` is never held."""
        return self.flex in ("patient", "bonus")

    @property
    def gpus(self) -> int:
        """GPUs of the whole gang."""
        return self.pods * self.gpus_per_pod

    @property
    def paused(self) -> bool:
        """True for a Job that we paused and have not started again."""
        paused_at = self.annotations.get(names.PAUSED_AT)
        if not (self.held and self.waiting and paused_at):
            return False
        # Both are written by us in one form, so that the texts compare as the instants do.
        return paused_at >= self.annotations.get(names.RELEASED_AT, "")

    @property
    def queued(self) -> bool:
        """True in a Kueue queue: Kueue decides when it starts, and counts it against a quota once it has decided."""
        return bool(self.queue)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRecord:
    """A pod that uses GPUs."""

    uid: str
    namespace: str
    name: str
    job_uid: str
    """uid of the Job that controls it; empty for any other pod."""
    node: str
    gpus: int
    watts_per_gpu: str
    created_at: datetime
    started_at: datetime | None
    hears: bool = False
    """Carries the checkpoint annotation itself, so that a pause can be announced inside of it (downward API)."""
    told: str = ""
    """The instant by which it was told to pause."""
    checkpointed: str = ""
    """Its acknowledgement of a pause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """A node with GPUs."""

    name: str
    labels: Mapping[str, str]
    gpus: int
    schedulable: bool
    taints: tuple[Taint, ...] = ()
    """Those that last and turn pods away."""
    overheated: str = ""
    """The thermal zone that our own taint names; empty without it."""
    overheated_since: datetime | None = None
    """Since when that taint stands; None where it does not say."""
    devices: frozenset[str] = frozenset()
    """What it offers besides CPU, memory and GPUs, by the names of resources."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceRecord:
    """A namespace, for policies' selectors."""

    name: str
    labels: Mapping[str, str]


def _kept(meta: Raw) -> Mapping[str, str]:
    annotations, labels = meta.get("annotations") or {}, meta.get("labels") or {}
    kept = {k: str(annotations[k]) for k in _KEPT_ANNOTATIONS if k in annotations}
    if names.KUEUE_MAX_EXEC_SECONDS in labels:
        # Kueue reads its hint from a label.
        kept[names.KUEUE_MAX_EXEC_SECONDS] = str(labels[names.KUEUE_MAX_EXEC_SECONDS])
    return kept or _NO_ANNOTATIONS


def _strays(meta: Raw, template: Raw) -> tuple[str, ...]:
    """Name what looks like a term and is none: a deadline that nobody reads would be missed without a word."""
    inside = (template.get("metadata") or {}).get("annotations") or {}
    on_pods = (k for k in _TERMS if k in inside and k not in {*_ON_PODS_TOO, *(meta.get("annotations") or {})})
    unknown = (k for k in meta.get("annotations") or {} if k.startswith(_OURS) and k not in _KEPT_ANNOTATIONS)
    return (
        *(f"annotation {k[:80]}: Embellie knows no such annotation" for k in sorted(unknown)[:_MOST_STRAYS]),
        *(f"label {k}: it is read as an annotation only" for k in _TERMS if k in (meta.get("labels") or {})),
        *(f"annotation {k} of the pod template: it is read on the Job itself only" for k in on_pods),
    )


def _key(meta: Raw, kind: WorkloadKind) -> WorkloadKey:
    return WorkloadKey(namespace=meta["namespace"], name=meta["name"], kind=kind, uid=meta["uid"])


def _created(meta: Raw) -> datetime:
    return parse_time(meta.get("creationTimestamp")) or datetime.fromtimestamp(0, UTC)


def _exempt(meta: Raw) -> bool:
    """Tell what the admission policies leave alone."""
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    return (
        bool(meta.get("ownerReferences"))
        or names.KUEUE_QUEUE_LABEL in labels
        or not names.HOOKS.isdisjoint(annotations)
    )


def parse_job(raw: Raw) -> WorkloadRecord | None:
    """Read a batch/v1 Job; None when it neither opted in, nor carries our marker, nor uses GPUs."""
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    template = spec.get("template") or {}
    pod_spec = template.get("spec") or {}
    labels = meta.get("labels") or {}
    flex, held, gpus = labels.get(names.FLEX_LABEL, ""), labels.get(names.HELD_LABEL) == "true", gpus_of(pod_spec)
    if not (flex or held or gpus):
        return None
    parallelism = max(0, as_int(spec.get("parallelism", 1), 1))
    completions = as_int(spec.get("completions", parallelism), parallelism)
    finished = any(
        c.get("type") in ("Complete", "Failed") and c.get("status") == "True" for c in status.get("conditions") or ()
    )
    annotations = _kept(meta)
    return WorkloadRecord(
        key=_key(meta, WorkloadKind.JOB),
        created_at=_created(meta),
        flex=flex,
        held=held,
        waiting=spec.get("suspend") is True,
        finished=finished or bool(meta.get("deletionTimestamp")),
        deleting=bool(meta.get("deletionTimestamp")),
        pods=max(1, min(parallelism, completions)),
        completions=max(1, completions),
        gpus_per_pod=gpus,
        annotations=annotations,
        labels=dict(labels) if flex or held else {},
        constraints=constraints_of(pod_spec),
        strays=_strays(meta, template) if flex or held else (),
        other_gates=tuple(str(g.get("name")) for g in pod_spec.get("schedulingGates") or ()),
        queue=str(labels.get(names.KUEUE_QUEUE_LABEL, "")),
        exempt=_exempt(meta) or (spec.get("managedBy") or names.JOB_CONTROLLER) != names.JOB_CONTROLLER,
        succeeded=max(0, as_int(status.get("succeeded", 0), 0)),
        started_at=parse_time(status.get("startTime")),
        completed_at=parse_time(status.get("completionTime")),
    )


def parse_bare_pod(raw: Raw) -> WorkloadRecord | None:
    """Read a pod as a workload of its own; None unless it carries our marker, or opted in and nobody owns it."""
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    labels = meta.get("labels") or {}
    flex, held = labels.get(names.FLEX_LABEL, ""), labels.get(names.HELD_LABEL) == "true"
    if not held and (meta.get("ownerReferences") or not flex):
        # One that we hold stays ours to start when a controller adopts it.
        return None
    gates = tuple(str(g.get("name")) for g in spec.get("schedulingGates") or ())
    return WorkloadRecord(
        key=_key(meta, WorkloadKind.POD),
        created_at=_created(meta),
        flex=flex,
        held=held,
        waiting=names.GATE in gates,
        finished=status.get("phase") in _FINISHED_PHASES or bool(meta.get("deletionTimestamp")),
        deleting=bool(meta.get("deletionTimestamp")),
        pods=1,
        gpus_per_pod=gpus_of(spec),
        annotations=_kept(meta),
        labels=dict(labels),
        constraints=constraints_of(spec),
        strays=_strays(meta, {}),
        other_gates=tuple(g for g in gates if g != names.GATE),
        queue=str(labels.get(names.KUEUE_QUEUE_LABEL, "")),
        exempt=_exempt(meta),
        started_at=parse_time(status.get("startTime")),
    )


def bare_record(raw: Raw, kind: WorkloadKind) -> WorkloadRecord | None:
    """Return what is left of held work whose object cannot be read; None for all other work."""
    meta, spec = raw["metadata"], raw.get("spec")
    if not isinstance(meta.get("labels"), Mapping) or meta["labels"].get(names.HELD_LABEL) != "true":
        return None
    annotations = meta.get("annotations")
    residency = annotations.get(names.RESIDENCY) if isinstance(annotations, Mapping) else None
    return WorkloadRecord(
        key=_key(meta, kind),
        created_at=_created(meta),
        flex=str(meta["labels"].get(names.FLEX_LABEL, "")),
        held=True,
        waiting=kind is WorkloadKind.POD or (isinstance(spec, Mapping) and spec.get("suspend") is True),
        finished=bool(meta.get("deletionTimestamp")),
        deleting=bool(meta.get("deletionTimestamp")),
        pods=1,
        gpus_per_pod=0,
        annotations={names.RESIDENCY: str(residency)} if residency else _NO_ANNOTATIONS,
        labels={},
        constraints=UNCONSTRAINED,
        queue=str(meta["labels"].get(names.KUEUE_QUEUE_LABEL, "")),
        unreadable=True,
    )


def parse_pod(raw: Raw) -> PodRecord | None:
    """Read a pod that takes GPUs on a node or soon will; None when it has none, is gated, or has ended."""
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    gpus = gpus_of(spec)
    if not gpus or spec.get("schedulingGates") or status.get("phase") in _FINISHED_PHASES:
        return None
    owner: Raw = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), {})
    return PodRecord(
        uid=meta["uid"],
        namespace=meta["namespace"],
        name=meta["name"],
        job_uid=str(owner.get("uid", "")) if owner.get("kind") == "Job" else "",
        node=str(spec.get("nodeName") or ""),
        gpus=gpus,
        watts_per_gpu=str((meta.get("annotations") or {}).get(names.WATTS_PER_GPU, "")),
        created_at=_created(meta),
        started_at=parse_time(status.get("startTime")),
        hears=names.CHECKPOINT in (meta.get("annotations") or {}),
        told=str((meta.get("annotations") or {}).get(names.PAUSE_BY, "")),
        checkpointed=str((meta.get("annotations") or {}).get(names.CHECKPOINTED, "")),
    )


def parse_node(raw: Raw) -> NodeRecord | None:
    """Read a node; None when it offers no GPUs."""
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    allocatable = status.get("allocatable") or {}
    gpus = as_count(allocatable.get(names.GPU_RESOURCE, 0))
    if not gpus:
        return None
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or ())
    overheated, overheated_since = overheated_zone(spec)
    return NodeRecord(
        name=meta["name"],
        labels=dict(meta.get("labels") or {}),
        gpus=gpus,
        schedulable=ready and not spec.get("unschedulable") and not overheated,
        taints=parse_taints(spec),
        overheated=overheated,
        overheated_since=overheated_since,
        devices=devices_in(allocatable),
    )


def parse_namespace(raw: Raw) -> NamespaceRecord:
    """Read a namespace."""
    meta = raw["metadata"]
    return NamespaceRecord(name=meta["name"], labels=dict(meta.get("labels") or {}))
