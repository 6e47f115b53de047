# SPDX-License-Identifier: Apache-2.0
"""The pure middle of a turn: from what is known to what shall be done."""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from embellie.api.energypolicy import PolicyMode
from embellie.api.meta import DNS_LABEL
from embellie.cluster.plan_objects import PlanRecord
from embellie.cluster.plans import KnownPlan
from embellie.cluster.records import WorkloadRecord
from embellie.control.assembly.assemble import Assembly
from embellie.control.deciding.outcome import records_of
from embellie.domain import names
from embellie.domain.limits import bound_reached
from embellie.domain.plan import Action, Decision, Plan, PriceBook
from embellie.domain.reasons import BOUND_STATES, Reason, State
from embellie.domain.snapshot import Snapshot, WorkloadKey
from embellie.domain.times import format_time, parse_time
from embellie.planning.planner import plan
from embellie.thermal.promises import Collision, foresee
from embellie.thermal.shield import shield


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """Everything that a turn decided."""

    releases: tuple[Decision, ...]
    """To be carried out now, most urgent first."""
    records: tuple[PlanRecord, ...]
    """What stands after the turn, for every workload under decision, releases included."""
    hand_offs: tuple[PlanRecord, ...]
    """Workloads that others decided about."""
    to_unmark: tuple[WorkloadKey, ...]
    """Workloads that run although they carry our marker."""
    more_due: bool
    """More releases are due than one turn may write."""
    newcomers: bool
    """Work came that the plan does not know: it is planned in the next turn, which should follow at once."""
    standing: Plan
    """The plan before the shield; the next turn may go on from it while it writes what is due."""
    collisions: tuple[Collision, ...]
    """Promised starts that the plan could only put where a limit will not carry them."""


_COMPARES_HOURS = frozenset({Reason.FORECAST_UNAVAILABLE, Reason.BEST_NOW, Reason.MINIMUM_SAVING, Reason.TENANT_SHARE})


def decide(
    assembly: Assembly,
    workloads: Sequence[WorkloadRecord],
    known: Mapping[str, KnownPlan],
    settled: Container[str],
    max_releases: int,
    put_back: Container[str] = (),
    standing: Plan | None = None,
    *,
    leads_since: datetime | None = None,
    before: PriceBook | None = None,
) -> Verdicts:
    """Plan, shield, and bound the number of releases. Pure.

    Args:
        assembly: This turn's.
        workloads: All that the store knows.
        known: What is written, by uid.
        settled: uids whose standing is being written by ourselves.
        max_releases: The most urgent ones go first; the others are put off until the next turn.
        put_back: uids whose last release was refused. They come after all others, so that a few that cannot be
            released never block the rest.
        standing: The plan of a moment ago, of which only a part could be written: not made anew, but shielded anew.
        leads_since: When this process began to lead, as long as its forecaster may not have spoken of all zones yet.
            Then what an earlier leader held stands: to know no later hour that is better is no reason to start it.
        before: The prices of the last plan, from which this one's search starts.
    """
    snapshot = assembly.snapshot
    planned = _what_is_left(standing, snapshot) if standing is not None else None
    newcomers = planned is not None and len(planned.decisions) < len(snapshot.workloads)
    if planned is None:
        planned = plan(snapshot, before)
    if leads_since is not None:
        # The API server writes whole seconds, rounded down.
        earlier = {w.key for w in snapshot.workloads if w.created_at + timedelta(seconds=1) <= leads_since}
        kept = tuple(d for d in planned.decisions if not _is_only_early(d, known.get(d.key.uid), d.key in earlier))
        planned = replace(planned, decisions=kept)
    enforced = shield(planned, snapshot)
    waiting = tuple(_await_place(d, known.get(d.key.uid), snapshot) for d in enforced.decisions)
    enforced = replace(enforced, decisions=waiting)
    shadow = plan(assembly.shadow) if assembly.shadow.workloads else None
    due = _by_urgency((d for d in enforced.decisions if d.action is Action.RELEASE), snapshot, put_back)
    later = {d.key for d in due[max_releases:]}
    if later:
        enforced = replace(enforced, decisions=tuple(_put_off(d) if d.key in later else d for d in enforced.decisions))
    issues = {z.name: z.forecast.issued_at.isoformat() for z in snapshot.grid_zones if z.forecast is not None}
    collisions = foresee(snapshot, planned)
    records = records_of(enforced, assembly, issues, collisions)
    if shadow is not None:
        records += records_of(shadow, assembly, issues)
    hand_offs, to_unmark = _hand_offs(workloads, known, settled)
    return Verdicts(
        releases=tuple(due[:max_releases]),
        records=tuple(records),
        hand_offs=tuple(hand_offs),
        to_unmark=tuple(to_unmark),
        more_due=bool(later),
        newcomers=newcomers,
        standing=planned,
        collisions=collisions,
    )


def _by_urgency(releases: Iterable[Decision], snapshot: Snapshot, put_back: Container[str]) -> list[Decision]:
    """Sort releases: bounds that have come first, the earliest of them before the others; then the oldest work."""
    workloads = {w.key: w for w in snapshot.workloads}

    def urgency(decision: Decision) -> tuple[bool, bool, datetime, datetime, WorkloadKey]:
        workload = workloads[decision.key]
        at_bound = bound_reached(workload.latest_start, snapshot.now, snapshot.turn_s)
        return (
            workload.key.uid in put_back,
            not at_bound,
            workload.latest_start if at_bound else workload.created_at,
            workload.created_at,
            workload.key,
        )

    return sorted(releases, key=urgency)


def _what_is_left(standing: Plan, snapshot: Snapshot) -> Plan | None:
    """Keep the decisions about what still waits.

    None when a bound has come that the plan holds or does not know, or when work may not run any more where the plan
    has it (its border was edited, or a zone). Other work that came since is planned when the plan is made anew.
    """
    decided = {d.key: d for d in standing.decisions}
    for workload in snapshot.workloads:
        found = decided.get(workload.key)
        holds = found is None or found.action is Action.HOLD
        if holds and bound_reached(workload.latest_start, snapshot.now, snapshot.turn_s):
            return None
        if found is not None and found.cell is not None and found.cell not in workload.allowed_cells:
            return None
    waiting = {w.key for w in snapshot.workloads}
    return replace(standing, decisions=tuple(d for d in standing.decisions if d.key in waiting))


def _is_only_early(decision: Decision, before: KnownPlan | None, earlier: bool) -> bool:
    """Tell whether a start only means that not all forecasts were read yet, of something that was held before.

    It was, too, where nothing was planned, or written, about it before its leader died.
    """
    was_held = earlier if before is None else before.state in (*BOUND_STATES, "")
    return decision.action is Action.RELEASE and decision.reason in _COMPARES_HOURS and was_held


def _await_place(decision: Decision, before: KnownPlan | None, snapshot: Snapshot) -> Decision:
    """Let work wait on as it was going to when every place that it may use is gone, be it for a moment only.

    Nodes that boot offer no GPUs yet, and a GridZone may be replaced. A start without a place is checked against no
    limit, and one into a border without a zone stays Pending for good: that waits until the bound.
    """
    placeless = decision.action is Action.RELEASE and decision.reason in (Reason.NO_ZONE, Reason.RESIDENCY_UNSATISFIED)
    if not placeless or before is None or before.state not in BOUND_STATES:
        return decision
    if not before.cell and before.reason != decision.reason:
        return decision  # it never had a place
    what, until = f"zone left where it must stay ({names.RESIDENCY})", decision.latest_start
    if decision.reason is Reason.NO_ZONE:
        what, until = "zone left with nodes that it may use", parse_time(before.planned_start) or snapshot.now
    if until <= snapshot.now or bound_reached(decision.latest_start, snapshot.now, snapshot.turn_s):
        return decision
    return replace(
        decision,
        action=Action.HOLD,
        message=f"There is no {what}: it waits for one, at the latest until {until:%Y-%m-%d %H:%M} UTC.",
        start=until,
        likely_start_p90=until,
    )


def _put_off(decision: Decision) -> Decision:
    return replace(
        decision,
        action=Action.HOLD,
        reason=Reason.RELEASE_RATE,
        message=starts_soon(decision.message),
    )


def starts_soon(message: str) -> str:
    """Say of work that is due why it still waits."""
    return f"Starts in a moment: more releases are due than one turn writes. {message}"


def _hand_offs(
    workloads: Sequence[WorkloadRecord], known: Mapping[str, KnownPlan], settled: Container[str]
) -> tuple[list[PlanRecord], list[WorkloadKey]]:
    """Find workloads whose state others changed since we last wrote it down."""
    found: list[PlanRecord] = []
    unmark: list[WorkloadKey] = []
    for record in workloads:
        handed = record.held and (not record.waiting or record.queued)
        if handed:
            unmark.append(record.key)
        before = known.get(record.key.uid)
        if before is None or record.key.uid in settled or record.deleting:
            continue
        outcome = _handed_off(record, before)
        if outcome is not None:
            found.append(plain_record(record, before, *outcome))
    return found, unmark


def _handed_off(record: WorkloadRecord, before: KnownPlan) -> tuple[State, Reason, str] | None:
    # A plan whose status was never written says nothing, and was about to say Held.
    was_held = before.state in (*BOUND_STATES, State.PAUSED, "") and before.mode != PolicyMode.SHADOW
    if record.held and record.waiting and not record.queued:
        return None
    if was_held and record.queued:
        return (
            State.HANDED_OFF,
            Reason.STARTED_BY_OTHER,
            f"Handed to the Kueue queue {record.queue[:80]}, which decides when and where it starts.",
        )
    released_at = parse_time(record.annotations.get(names.RELEASED_AT))
    if was_held and released_at is not None:
        return _released_elsewhere(record, released_at)
    if was_held and record.waiting:
        return (
            State.HANDED_OFF,
            Reason.SUSPENDED_BY_OTHER,
            f"Somebody took the label {names.HELD_LABEL} off while it waited: it is not ours to start any more.",
        )
    if was_held:
        return (
            State.HANDED_OFF,
            Reason.STARTED_BY_OTHER,
            _who_started(record.annotations.get(names.GO)),
        )
    if before.state == State.RELEASED and record.waiting and not record.held and not record.finished:
        return (
            State.HANDED_OFF,
            Reason.SUSPENDED_BY_OTHER,
            "Suspended after our release by its user or another controller, who must start it again.",
        )
    return None


def _who_started(go: str | None) -> str:
    if go is None:
        return "Somebody removed the gate or set suspend: false; that counts as go."
    return f"Started with `embellie go` by {go[:80]}." if go else "Started with `embellie go`."


def _released_elsewhere(record: WorkloadRecord, at: datetime) -> tuple[State, Reason, str]:
    try:
        reason = Reason(record.annotations.get(names.RELEASE_REASON, ""))
    except ValueError:
        reason = Reason.STARTED_BY_OTHER
    return State.RELEASED, reason, f"Released at {format_time(at)} ({reason})."


def _noted_cell(record: WorkloadRecord) -> str:
    """Return the cell in our annotation; empty where it is no name of one, since its user may have written anything."""
    cell = record.annotations.get(names.CELL, "")
    parts = cell.split(".")
    is_name = len(parts) <= 2 and all(len(part) <= 63 and re.fullmatch(DNS_LABEL, part) for part in parts)
    return cell if is_name else ""


def plain_record(record: WorkloadRecord, before: KnownPlan, state: State, reason: Reason, message: str) -> PlanRecord:
    """Describe a workload that this turn plans nothing for."""
    cell = _noted_cell(record)
    return PlanRecord(
        key=record.key,
        latest_start=before.latest_start,
        policy=before.policy,
        mode=before.mode,
        state=state,
        reason=reason,
        message=message,
        cell=cell,
        grid_zone=cell.partition(".")[0],
        planned_start=None,
        likely_start_p50=None,
        likely_start_p90=None,
        now_g=None,
        planned_g=None,
        planned_low_g=None,
        planned_high_g=None,
        energy_wh=0.0,
        gpus=record.gpus,
    )
