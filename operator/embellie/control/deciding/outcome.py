# SPDX-License-Identifier: Apache-2.0
"""Turns a plan into what is written about it: one record per workload, the same for status, event and log. Pure."""

from collections.abc import Mapping, Sequence

from embellie.api.energypolicy import PolicyMode
from embellie.cluster.plan_objects import PlanRecord
from embellie.control.assembly.assemble import Assembly, Subject
from embellie.domain.plan import Action, Decision, Plan
from embellie.domain.reasons import Reason, State
from embellie.domain.snapshot import WorkloadKey
from embellie.thermal.promises import Collision


def record_of(decision: Decision, assembly: Assembly, issue: str, foreseen: str = "") -> PlanRecord:
    """Describe one decision; `foreseen` is what its latest start is seen to run into, in a sentence."""
    subject = assembly.subjects[decision.key]
    state, reason, message = _outcome(decision, subject)
    cell = assembly.cells.get(decision.cell or "")
    workload = subject.workload
    return PlanRecord(
        key=decision.key,
        latest_start=workload.latest_start,
        policy=workload.policy,
        mode=PolicyMode.ENFORCE if workload.enforced else PolicyMode.SHADOW,
        state=state,
        reason=reason,
        message=f"{message} {foreseen}" if foreseen else message,
        cell=decision.cell or "",
        grid_zone=cell.grid_zone if cell else "",
        planned_start=decision.start,
        likely_start_p50=decision.start,
        likely_start_p90=decision.likely_start_p90,
        now_g=decision.now.expected_g if decision.now else None,
        planned_g=decision.best.expected_g if decision.best else None,
        planned_low_g=decision.best.low_g if decision.best else None,
        planned_high_g=decision.best.high_g if decision.best else None,
        energy_wh=workload.power_kw * workload.duration_p50_s / 3.6,
        gpus=workload.gpus,
        waits_on=_waits_on(subject),
        problems=(*subject.terms.problems, *subject.record.strays),
        forecast_issue=issue,
        foreseen=foreseen,
    )


def _outcome(decision: Decision, subject: Subject) -> tuple[State, Reason, str]:
    if not subject.workload.enforced:
        if decision.action is Action.HOLD:
            return State.SHADOW, Reason.WOULD_HOLD, f"Shadow: it would have waited. {decision.message}"
        return State.SHADOW, Reason.WOULD_START, f"Shadow: it would have started at once. {decision.message}"
    if decision.action is Action.RELEASE:
        return State.RELEASED, decision.reason, decision.message
    state = State.HELD_BY_LIMIT if decision.over_limit else State.HELD
    return state, decision.reason, decision.message


def _waits_on(subject: Subject) -> tuple[tuple[str, str], ...]:
    """What else stands between the workload and its start that is not our doing."""
    return tuple(
        ("SchedulingGate", f"scheduling gate {gate} of another controller") for gate in subject.record.other_gates
    )


def records_of(
    plan: Plan, assembly: Assembly, issues: Mapping[str, str], collisions: Sequence[Collision] = ()
) -> list[PlanRecord]:
    """Describe every decision of a plan.

    Args:
        plan: The plan.
        assembly: What the turn knows.
        issues: From a grid zone to its forecast's issue time.
        collisions: Latest starts that are seen to run into a limit.
    """
    issue_of_all = " ".join(issues[k] for k in sorted(issues))
    contract_kw = {zone.name: zone.contracted_power_kw for zone in assembly.snapshot.grid_zones}
    over: dict[WorkloadKey, list[str]] = {}
    for collision in collisions:
        over.setdefault(collision.key, []).append(_foreseen(collision, contract_kw))
    foreseen = {key: f"As things stand its latest start will take {' and '.join(what)}." for key, what in over.items()}
    return [
        record_of(d, assembly, issue_of_all, foreseen.get(d.key, "") if d.action is Action.HOLD else "")
        for d in plan.decisions
    ]


def _foreseen(collision: Collision, contract_kw: Mapping[str, float | None]) -> str:
    """Say what a latest start runs into, without numbers, which change with every turn: the zone's condition has them.

    Args:
        collision: What is foreseen.
        contract_kw: Each grid zone's contract; a lower limit than that is an order's.
    """
    if collision.reason is Reason.HEAT_LIMIT:
        return f"thermal zone {collision.zone} over what its cooling carries"
    ordered = collision.limit_kw != contract_kw[collision.zone]
    return f"grid zone {collision.zone} over {'what an order leaves it' if ordered else 'its contracted power'}"
