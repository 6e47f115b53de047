# SPDX-License-Identifier: Apache-2.0
"""The rows of `embellie plan`. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, tzinfo
from typing import Any

from embellie.cli.words import clock_time, grams, one_line, with_clock_times
from embellie.cluster.demands import as_int, gpus_of
from embellie.domain import names
from embellie.domain.durations import format_duration
from embellie.domain.times import parse_time

Raw = Mapping[str, Any]
NO_PLAN = "NoPlanYet"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """One held workload with its plan; None where no plan tells."""

    namespace: str
    name: str
    kind: str
    gpus: int
    state: str
    reason: str
    created: datetime | None
    planned_start: datetime | None
    latest_start: datetime | None
    likely_start_p90: datetime | None
    zone: str
    flex: str
    policy: str
    emissions_now_grams: int | None
    emissions_planned_grams: int | None
    message: str

    def as_json(self) -> dict[str, Any]:
        """Return the row with camelCase keys and RFC 3339 times."""
        return {_camel(k): v.isoformat() if isinstance(v, datetime) else v for k, v in asdict(self).items()}


def rows_of(held: Iterable[Raw], plans: Iterable[Raw]) -> list[PlanRow]:
    """Join what is held with its plans by uid, oldest first."""
    by_uid = {((p.get("spec") or {}).get("workloadRef") or {}).get("uid"): p for p in plans}
    rows = [_row(obj, by_uid.get(obj["metadata"]["uid"])) for obj in held]
    return sorted(rows, key=lambda r: (r.created.timestamp() if r.created else 0.0, r.namespace, r.name))


def _row(obj: Raw, plan: Raw | None) -> PlanRow:
    meta, spec, status = obj["metadata"], (plan or {}).get("spec") or {}, (plan or {}).get("status") or {}
    return PlanRow(
        namespace=str(meta["namespace"]),
        name=str(meta["name"]),
        kind=str(obj["kind"]),
        gpus=_gpus(obj) if status.get("gpus") is None else int(status["gpus"]),
        state=str(status.get("state") or "Held"),
        reason=str(status.get("reason") or NO_PLAN),
        created=parse_time(meta.get("creationTimestamp")),
        planned_start=parse_time(status.get("plannedStartTime")),
        latest_start=parse_time(spec.get("latestStartTime")),
        likely_start_p90=parse_time(status.get("likelyStartP90Time")),
        zone=str(status.get("cellName") or status.get("gridZoneName") or ""),
        flex=str((meta.get("labels") or {}).get(names.FLEX_LABEL) or ""),
        policy=str(spec.get("policyName") or ""),
        emissions_now_grams=status.get("emissionsNowGrams"),
        emissions_planned_grams=status.get("emissionsPlannedGrams"),
        message=one_line(str(status.get("message") or "")),
    )


def _gpus(obj: Raw) -> int:
    """Count the GPUs that a workload asks for."""
    spec = obj.get("spec") or {}
    if obj["kind"] == "Pod":
        return gpus_of(spec)
    pods = min(as_int(spec.get("parallelism"), 1), as_int(spec.get("completions"), 1 << 30))
    return pods * gpus_of((spec.get("template") or {}).get("spec") or {})


def columns(
    rows: Iterable[PlanRow], *, now: datetime, zone: tzinfo | None, wide: bool
) -> tuple[list[str], list[list[str]]]:
    """Return the header and the cells of the table."""
    header = ["NAMESPACE/NAME", "KIND", "GPUS", "STATE", "REASON", "PLANNED START", "LATEST START", "ZONE"]
    more = ["AGE", "FLEX", "POLICY", "LIKELY BY (P90)", "NOW CO2E", "PLANNED CO2E", "WHY"]

    def when(moment: datetime | None) -> str:
        return clock_time(moment, now, zone) if moment else "-"

    def mass(value: int | None) -> str:
        return "-" if value is None else grams(value)

    lines = []
    for r in rows:
        line = [f"{r.namespace}/{r.name}", r.kind, str(r.gpus), r.state, r.reason]
        line += [when(r.planned_start), when(r.latest_start), r.zone or "-"]
        if wide:
            age = format_duration(now - r.created) if r.created else "-"
            line += [age, r.flex or "-", r.policy or "-", when(r.likely_start_p90)]
            line += [mass(r.emissions_now_grams), mass(r.emissions_planned_grams)]
            line.append(with_clock_times(r.message, now, zone) or "-")
        lines.append(line)
    return (header + more if wide else header), lines


def summary(rows: list[PlanRow], *, where: str, shadowed: int) -> str:
    """Return the last line: how much is held, and for which reasons."""
    more = f"{shadowed} more {'is' if shadowed == 1 else 'are'}" if rows else f"{shadowed} {_workloads(shadowed)}"
    note = f" {more} only watched (shadow): kubectl get workloadplans -A" if shadowed else ""
    if not rows:
        return f"Nothing is held in {where.replace('all namespaces', 'any namespace')}.{note}"
    reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(r.reason for r in rows).most_common())
    gpus = sum(r.gpus for r in rows)
    return f"{len(rows)} held in {where}, {gpus} GPU{'' if gpus == 1 else 's'}: {reasons}.{note}"


def _workloads(count: int) -> str:
    return "workload is" if count == 1 else "workloads are"


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)
