# SPDX-License-Identifier: Apache-2.0
"""What is recorded about a turn: the decisions that changed. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embellie.api.energypolicy import EnergyPolicy, UserNames
from embellie.cluster.plan_objects import PlanRecord
from embellie.cluster.records import WorkloadRecord
from embellie.cluster.store import View
from embellie.control.assembly.assemble import Assembly
from embellie.control.recording.people import Hidden
from embellie.domain import names
from embellie.domain.reasons import BOUND_STATES
from embellie.domain.snapshot import Snapshot
from embellie.ledger import Draft, Kind

DELETED = "Deleted"
"""State of work that is no more; nobody decided it, so that it is none of `State`."""
NAME_LENGTH = 253
"""Longest name of a person that is recorded."""


class DecisionLog:
    """Turns the standing of workloads into decision records: one for each change, none for what stands as it did."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[object, ...]] = {}
        self._held: dict[str, PlanRecord] = {}

    def drafts(self, records: Sequence[PlanRecord], assembly: Assembly, view: View) -> list[Draft]:
        """Return what is new this turn."""
        now = assembly.snapshot.now
        workloads = {workload.key.uid: workload for workload in view.workloads}
        told = {record.key.uid for record in records}
        drafts = [
            Draft(kind=Kind.DECISION, at=now, body=_deleted(self._held.pop(uid)))
            for uid in sorted(self._held.keys() - workloads.keys() - told)
        ]
        new = [record for record in records if self._said.get(record.key.uid) != _signature(record)]
        turn = _turn_inputs(assembly.snapshot) if new else {}
        for record in new:
            self._said[record.key.uid] = _signature(record)
            body = _decision(record, assembly, turn, workloads.get(record.key.uid))
            drafts.append(Draft(kind=Kind.DECISION, at=now, body=body))
            if record.state in BOUND_STATES:
                self._held[record.key.uid] = record
            else:
                self._held.pop(record.key.uid, None)
        self._forget(view)
        return drafts

    def _forget(self, view: View) -> None:
        if len(self._said) > 2 * len(view.workloads) + 1000:
            existing = {workload.key.uid for workload in view.workloads}
            self._said = {uid: said for uid, said in self._said.items() if uid in existing}


def _deleted(record: PlanRecord) -> dict[str, Any]:
    """Return the record of work that its user deleted while it waited: it will never run."""
    return {
        "workload": _workload(record),
        "state": DELETED,
        "reason": DELETED,
        "message": "It was deleted while it was held.",
        "overriddenBy": None,
    }


def _workload(record: PlanRecord) -> dict[str, Any]:
    return {
        "namespace": record.key.namespace,
        "kind": str(record.key.kind),
        "name": record.key.name,
        "uid": record.key.uid,
        "gpus": record.gpus,
    }


def _signature(record: PlanRecord) -> tuple[object, ...]:
    return (
        record.state,
        record.reason,
        record.cell,
        record.planned_start,
        record.latest_start,
        record.policy,
        record.mode,
    )


def _turn_inputs(snapshot: Snapshot) -> dict[str, Any]:
    """What all decisions of a turn rest on, short enough to be hashed and long enough to be told."""
    forecasts = {
        zone.name: {
            "issuedAt": zone.forecast.issued_at,
            "model": zone.forecast.model_id,
            "rung": str(zone.forecast.rung),
            "signalKind": str(zone.forecast.signal_kind),
        }
        for zone in snapshot.grid_zones
        if zone.forecast is not None
    }
    seen = (
        snapshot.now.isoformat(),
        snapshot.turn_s,
        [(cell.name, cell.node_free_gpus, cell.pue) for cell in snapshot.cells],
        [(z.name, z.contracted_power_kw, z.orders, z.base_power_kw, z.measured_power_kw) for z in snapshot.grid_zones],
        [(z.name, z.inlet, z.supply, z.inlet_limit_c, z.margin_c) for z in snapshot.thermal_zones],
        [(g.cell, g.gpus, g.power_kw, g.expected_end_p50.isoformat()) for g in snapshot.running],
        sorted((name, str(told)) for name, told in forecasts.items()),
    )
    return {"forecasts": forecasts, "hash": hashlib.sha256(repr(seen).encode()).hexdigest()}


def _decision(
    record: PlanRecord,
    assembly: Assembly,
    turn: Mapping[str, Any],
    workload: WorkloadRecord | None,
) -> dict[str, Any]:
    subject = assembly.subjects.get(record.key)
    policy = subject.policy if subject else None
    own = repr(subject.workload) if subject else repr(record.key)
    return {
        "workload": _workload(record),
        "state": str(record.state),
        "reason": str(record.reason),
        "message": record.message,
        "mode": record.mode,
        "policy": {"name": record.policy, "generation": policy.metadata.generation if policy else None},
        "choice": {
            "cell": record.cell,
            "zone": record.grid_zone,
            "plannedStart": record.planned_start,
            "latestStart": record.latest_start,
        },
        "alternatives": {
            "startNowG": record.now_g,
            "plannedG": record.planned_g,
            "plannedLowG": record.planned_low_g,
            "plannedHighG": record.planned_high_g,
            "energyKwh": record.energy_wh / 1000.0,
        },
        "expects": None
        if subject is None
        else {
            "submitted": subject.workload.created_at,
            "durationP50S": subject.workload.duration_p50_s,
            "addedKw": subject.workload.power_kw,
            "gpusPerPod": subject.workload.gpus_per_pod,
        },
        "forecasts": turn["forecasts"],
        "inputsHash": hashlib.sha256(f"{turn['hash']}\n{own}".encode()).hexdigest(),
        "overriddenBy": None if workload is None else _who(workload, assembly, policy),
    }


def _who(workload: WorkloadRecord, assembly: Assembly, policy: EnergyPolicy | None) -> str | Hidden | None:
    """Return who started it by hand, plainly only where its policy says so: a policy that is gone may have said no."""
    by = workload.annotations.get(names.GO, "")[:NAME_LENGTH]
    if not by:
        return None
    policy = policy or assembly.table.match(workload)
    return by if policy is not None and policy.spec.user_names is UserNames.PLAIN else Hidden(by)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The newest turn, as far as accounts need it."""

    assembly: Assembly
    view: View
