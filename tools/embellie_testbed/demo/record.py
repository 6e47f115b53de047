# SPDX-License-Identifier: Apache-2.0
"""What really happened, written down from the API server's watch events.

Times are wall-clock times of receipt: the API server's own timestamps have whole seconds, which at 900 times the
speed are a quarter of an hour. `Record` is a state machine over events, with no I/O of its own.
"""

import threading
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from embellie.domain.names import GATE, GROUP, HELD_LABEL

JSON = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class PodTrack:
    """One pod's life; times are wall-clock seconds of receipt."""

    node: str = ""
    gpus: int = 0
    running: float | None = None
    finished: float | None = None


@dataclass(slots=True, kw_only=True)
class JobTrack:
    """One job's life."""

    name: str
    flex: str
    watts_per_gpu: int
    created: float
    held: bool = False
    released: float | None = None
    completed: float | None = None
    touched: bool = False
    """True where anything of ours is on the Job or its pods."""
    latest_start: datetime | None = None
    plan: JSON = field(default_factory=dict)
    """Status of the workload's WorkloadPlan as last seen."""
    pods: dict[str, PodTrack] = field(default_factory=dict)

    @property
    def holding(self) -> bool:
        """True while our marker is on it."""
        return self.held and self.released is None

    @property
    def started(self) -> float | None:
        """When the last pod of the gang began to run; None while one has not."""
        times = [p.running for p in self.pods.values()]
        return max(t for t in times if t is not None) if times and None not in times else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """One change of a WorkloadPlan's state or reason, as it was received."""

    received: float
    workload: str
    state: str
    reason: str
    message: str


class Record:
    """All jobs of the demo, kept up to date by three watches (jobs, pods, WorkloadPlans)."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.lock = threading.RLock()
        self.jobs: dict[str, JobTrack] = {}
        self.spoken: list[Spoken] = []

    def submitted(self, name: str, *, flex: str, watts_per_gpu: int, now: float) -> None:
        """Note that a job is about to be created, so that no event about it can come too early."""
        with self.lock:
            self.jobs[name] = JobTrack(name=name, flex=flex, watts_per_gpu=watts_per_gpu, created=now)

    def apply_job(self, kind: str, job: JSON, received: float) -> None:
        """Take in one event of batch/v1 Jobs."""
        if kind == "DELETED":
            return
        meta = job["metadata"]
        labels = meta.get("labels", {})
        with self.lock:
            track = self.jobs.get(meta["name"])
            if track is None:
                return
            if labels.get(HELD_LABEL) == "true":
                track.held = True
            elif track.held and track.released is None:
                track.released = received
            if job.get("status", {}).get("completionTime") and track.completed is None:
                track.completed = received
            track.touched = track.touched or _touched(
                meta, job["spec"].get("template", {}).get("spec", {}), job["spec"]
            )

    def apply_pod(self, kind: str, pod: JSON, received: float) -> None:
        """Take in one event of pods."""
        meta, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
        owner = next((o["name"] for o in meta.get("ownerReferences", []) if o["kind"] == "Job"), None)
        with self.lock:
            job = self.jobs.get(owner or "")
            if job is None:
                return
            track = job.pods.get(meta["name"])
            if track is None:
                if kind == "DELETED":
                    return
                track = job.pods[meta["name"]] = PodTrack(gpus=gpus_of(spec))
            track.node = track.node or spec.get("nodeName", "")
            phase = status.get("phase", "")
            if phase in {"Running", "Succeeded", "Failed"} and track.running is None:
                track.running = received
            if (phase in {"Succeeded", "Failed"} or kind == "DELETED") and track.finished is None:
                track.finished = received
            job.touched = job.touched or _touched(meta, spec, {})

    def apply_plan(self, kind: str, plan: JSON, received: float) -> None:
        """Take in one event of WorkloadPlans."""
        if kind == "DELETED":
            return
        spec, status = plan.get("spec", {}), plan.get("status", {})
        name = spec.get("workloadRef", {}).get("name", "")
        with self.lock:
            job = self.jobs.get(name)
            if job is None:
                return
            if spec.get("latestStartTime"):
                job.latest_start = datetime.fromisoformat(spec["latestStartTime"])
            before = (job.plan.get("state"), job.plan.get("reason"))
            job.plan = status
            if status.get("state") and (status["state"], status.get("reason")) != before:
                self.spoken.append(
                    Spoken(
                        received=received,
                        workload=name,
                        state=status["state"],
                        reason=status.get("reason", ""),
                        message=status.get("message", ""),
                    )
                )


def gpus_of(pod_spec: JSON) -> int:
    """Return the GPUs that a pod asks for."""
    asked = (
        c.get("resources", {}).get("requests", {}).get("nvidia.com/gpu", 0) for c in pod_spec.get("containers", [])
    )
    return sum(int(n) for n in asked)


def _touched(meta: JSON, pod_spec: JSON, job_spec: JSON) -> bool:
    """Tell whether a Job or pod carries anything that Embellie writes.

    The feeder gives unlabelled jobs no label, annotation or affinity of the group, so any of these is ours.
    """
    ours = [*meta.get("labels", {}), *meta.get("annotations", {})]
    return (
        any(key.startswith(f"{GROUP}/") for key in ours)
        or any(gate.get("name") == GATE for gate in pod_spec.get("schedulingGates", []))
        or bool(pod_spec.get("affinity"))
        or bool(job_spec.get("suspend"))
    )
