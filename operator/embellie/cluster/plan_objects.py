# SPDX-License-Identifier: Apache-2.0
"""WorkloadPlans as plain objects: what is said about one workload. Pure; `plans.py` writes them.

Times in a plan are the operator's clock. A plan says again only what changed: the state's time moves with the state,
a condition's with its status, and the history grows only by another state or reason.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from embellie.domain import names
from embellie.domain.reasons import Reason, State
from embellie.domain.snapshot import WorkloadKey
from embellie.domain.times import format_time

HISTORY_LENGTH = 20
MAX_MESSAGE = 1024
MAX_NAME = 253
MAX_WAITS = 8
MAX_GRAMS = 10**12
MAX_WATT_HOURS = 10**13
MAX_GPUS = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRecord:
    """What a WorkloadPlan says about one workload; times are in the operator's clock."""

    key: WorkloadKey
    latest_start: datetime
    policy: str
    mode: str
    state: State
    reason: Reason
    message: str
    cell: str
    grid_zone: str
    planned_start: datetime | None
    likely_start_p50: datetime | None
    likely_start_p90: datetime | None
    now_g: float | None
    planned_g: float | None
    planned_low_g: float | None
    planned_high_g: float | None
    energy_wh: float
    gpus: int
    waits_on: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()
    forecast_issue: str = ""
    foreseen: str = ""
    """What its latest start is seen to run into; part of the message too."""

    def signature(self) -> tuple[object, ...]:
        """What must differ for a new write to be worth its cost: not the minute, not the last gram."""
        return (
            self.state,
            self.reason,
            self.cell,
            self.gpus,
            self.planned_start and self.planned_start.replace(second=0, microsecond=0, minute=0),
            self.latest_start,
            self.policy,
            self.mode,
            self.forecast_issue,
            self.waits_on,
            self.problems,
            self.foreseen,
        )


def plan_name(key: WorkloadKey) -> str:
    """Return the name of a workload's plan.

    >>> from embellie.domain.snapshot import WorkloadKind
    >>> plan_name(WorkloadKey(namespace="team-a", name="train", kind=WorkloadKind.JOB, uid="1"))
    'job-train'
    """
    name = f"{key.kind.lower()}-{key.name}"
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    return f"{name[: MAX_NAME - 11].rstrip('-.')}-{digest}"


def plan_object(record: PlanRecord) -> dict[str, Any]:
    """Return what we own of the plan outside its status."""
    key = record.key
    reference = {"apiVersion": key.kind.api_version, "kind": str(key.kind), "name": key.name, "uid": key.uid}
    spec: dict[str, Any] = {
        "workloadRef": reference,
        "latestStartTime": format_time(record.latest_start),
        "mode": record.mode,
    }
    if record.policy:
        spec["policyName"] = record.policy
    return {
        **plan_identity(key),
        "metadata": {
            "name": plan_name(key),
            "namespace": key.namespace,
            # Goes with its workload, and never keeps it from going.
            "ownerReferences": [{**reference, "controller": False, "blockOwnerDeletion": False}],
        },
        "spec": spec,
    }


def plan_identity(key: WorkloadKey) -> dict[str, Any]:
    """Return the part of an object that says which plan it is."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "WorkloadPlan",
        "metadata": {"name": plan_name(key), "namespace": key.namespace},
    }


def plan_status(
    record: PlanRecord, previous: Mapping[str, Any], now: datetime, generation: int | None
) -> dict[str, Any]:
    """Return the status; what is not known is left out."""
    written = format_time(now)
    message = record.message[:MAX_MESSAGE]
    same_state = previous.get("state") == record.state
    status: dict[str, Any] = {
        "observedGeneration": generation,
        "conditions": [_ready(record, previous.get("conditions") or (), written, generation)],
        "state": str(record.state),
        "reason": str(record.reason),
        "message": message,
        "sinceTime": (previous.get("sinceTime") if same_state else None) or written,
        "gridZoneName": record.grid_zone or None,
        "cellName": record.cell or None,
        "plannedStartTime": _time(record.planned_start),
        "likelyStartP50Time": _time(record.likely_start_p50),
        "likelyStartP90Time": _time(record.likely_start_p90),
        "emissionsNowGrams": _whole(record.now_g, MAX_GRAMS),
        "emissionsPlannedGrams": _whole(record.planned_g, MAX_GRAMS),
        "emissionsPlannedLowGrams": _whole(record.planned_low_g, MAX_GRAMS),
        "emissionsPlannedHighGrams": _whole(record.planned_high_g, MAX_GRAMS),
        "energyWattHours": _whole(record.energy_wh or None, MAX_WATT_HOURS),
        "gpus": min(record.gpus, MAX_GPUS),
        "waitsOn": [{"kind": kind, "message": text[:MAX_MESSAGE]} for kind, text in record.waits_on[:MAX_WAITS]],
        "history": _history(record, previous.get("history") or (), written, message),
    }
    return {field: value for field, value in status.items() if value is not None}


def _ready(
    record: PlanRecord, conditions: Sequence[Mapping[str, Any]], written: str, generation: int | None
) -> dict[str, Any]:
    """Whether the plan rests on everything that its user wrote."""
    before = next((c for c in conditions if c.get("type") == "Ready"), {})
    status = "False" if record.problems else "True"
    condition = {
        "type": "Ready",
        "status": status,
        "lastTransitionTime": (before.get("lastTransitionTime") if before.get("status") == status else None) or written,
        "reason": "InvalidAnnotation" if record.problems else "Planned",
        "message": ("; ".join(record.problems) or "The plan is current.")[:MAX_MESSAGE],
    }
    return condition if generation is None else {**condition, "observedGeneration": generation}


def _history(
    record: PlanRecord, history: Sequence[Mapping[str, Any]], written: str, message: str
) -> list[Mapping[str, Any]]:
    last = history[-1] if history else {}
    if (last.get("state"), last.get("reason")) == (record.state, record.reason):
        return list(history)
    entry = {"time": written, "state": str(record.state), "reason": str(record.reason), "message": message}
    return [*history, entry][-HISTORY_LENGTH:]


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)


def _whole(value: float | None, most: int) -> int | None:
    """Round to what the schema takes; a number that is none says nothing."""
    if value is None or math.isnan(value):
        return None
    return round(min(max(0.0, value), float(most)))
