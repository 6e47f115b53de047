# SPDX-License-Identifier: Apache-2.0
"""Why a workload is where it is, in at most six lines. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from embellie.cli.waits import newest_text, other_waits
from embellie.cli.words import clock_time, grams, in_time, one_line, with_clock_times
from embellie.domain import names
from embellie.domain.reasons import Reason, State
from embellie.domain.times import parse_time

Raw = Mapping[str, Any]
OPTED_IN = ("patient", "bonus")
RELEASED_BY_US = {
    Reason.OPERATOR_LOST: "The operator completed no turn for too long, so the watchdog released it.",
    Reason.UNINSTALLED: "Embellie was uninstalled, so it was released.",
    Reason.RELEASED_BY_ADMIN: "An administrator released everything that was held.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One workload with all that is known about it, and how times are to be written."""

    plan: Raw | None
    workload: Raw
    pods: tuple[Raw, ...]
    events: tuple[Raw, ...]
    now: datetime
    zone: tzinfo | None
    held_pods: int
    """Pods that we hold in its namespace."""

    @property
    def meta(self) -> Raw:
        """The workload's metadata."""
        return self.workload.get("metadata") or {}

    @property
    def what(self) -> str:
        """The workload, as kubectl names it."""
        return f"{str(self.workload.get('kind', 'Job')).lower()}/{self.meta.get('name')}"

    @property
    def who(self) -> str:
        """The workload with its namespace."""
        return f"{self.what} in {self.meta.get('namespace')}"

    @property
    def held(self) -> bool:
        """Whether it carries our marker."""
        return self.label(names.HELD_LABEL) == "true"

    @property
    def status(self) -> Raw:
        """The plan's status."""
        return (self.plan or {}).get("status") or {}

    def label(self, key: str) -> str:
        """Return a label of the workload."""
        return str((self.meta.get("labels") or {}).get(key) or "")

    def annotation(self, key: str) -> str:
        """Return an annotation of the workload."""
        return str((self.meta.get("annotations") or {}).get(key) or "")

    @property
    def owner(self) -> Raw:
        """The first owner; empty where it has none."""
        return next(iter(self.meta.get("ownerReferences") or ()), {})

    @property
    def of_a_job(self) -> bool:
        """Whether it is a Job's pod: where it may run was decided about its Job."""
        return self.owner.get("kind") == "Job"

    def time(self, moment: datetime) -> str:
        """Write an instant."""
        return clock_time(moment, self.now, self.zone)


def explain(
    plan: Raw | None,
    workload: Raw,
    pods: Iterable[Raw] = (),
    events: Iterable[Raw] = (),
    *,
    now: datetime,
    zone: tzinfo | None = UTC,
    held_pods: int = 0,
) -> list[str]:
    """Return at most six lines that say where the workload stands, why, until when, and how to start it now.

    `held_pods` are those that we hold in its namespace: they count in its quotas.
    """
    pods, events = tuple(pods), tuple(events)
    case = Case(plan=plan, workload=workload, pods=pods, events=events, now=now, zone=zone, held_pods=held_pods)
    if case.meta.get("deletionTimestamp"):
        return [_deleted(case)]
    waits = other_waits(case.workload, case.pods, case.events, case.status.get("waitsOn") or (), held=case.held)
    if case.held:
        lines = _held(case)
        against = case.status.get("state") in (State.HELD_BY_LIMIT, State.PAUSED)
        how = "Start it now, against the limit" if against else "Start it now"
        go = f"{how}: kubectl embellie go {case.what} -n {case.meta.get('namespace')}"
        return [*lines, f"Also waits for: {_listed(waits)} {go}" if waits else go]
    lines = [*_not_held(case), *_announced(case)]
    if not waits or _finished(case):
        return lines
    return [*lines, f"It waits for: {_listed(waits, 500)}{_whose(case, waits)}"]


def _deleted(case: Case) -> str:
    keepers = ", ".join(map(str, case.meta.get("finalizers") or ()))
    kept = f", and kept by {one_line(keepers, 200)} (metadata.finalizers)" if keepers else ""
    return f"{case.who} is being deleted{kept}."


def _whose(case: Case, waits: Iterable[str]) -> str:
    """Say whether the wait may be our doing: held pods take quota, and what we let start may run only where we said."""
    if case.held_pods and any(wait.startswith("quota: ") for wait in waits):
        many = f"{case.held_pods} pods" if case.held_pods > 1 else "a pod"
        return (
            f" Embellie holds {many} here, which count in quotas: kubectl embellie plan -n {case.meta.get('namespace')}"
        )
    if case.status.get("reason") == Reason.RESIDENCY_UNSATISFIED or case.of_a_job:
        return ""
    released = case.annotation(names.RELEASED_AT)
    cell, residency = case.annotation(names.CELL), case.annotation(names.RESIDENCY)
    if released and cell:
        return f" Embellie let it start in {one_line(cell, 130)} only."
    if residency and (released or case.annotation(names.GO)):
        return f" Embellie keeps it in {one_line(residency, 80)} ({names.RESIDENCY})."
    return " None of this is Embellie's doing."


def _listed(waits: Iterable[str], longest: int = 300) -> str:
    """Join phrases into one that ends with one full stop, whatever others put at the end of theirs."""
    return f"{one_line('; '.join(wait.rstrip('. ') for wait in waits), longest)}."


def _held(case: Case) -> list[str]:
    if not case.status.get("state"):
        created = parse_time(case.meta.get("creationTimestamp"))
        since = f" since {case.time(created)}" if created else ""
        first = f"{case.who} is held{since}, and no decision is recorded yet."
        if refused := _told(case, names.PLAN_REFUSED):
            started = "Embellie starts it all the same, and if the operator is lost the watchdog does."
            return [first, *(f"Why: {why}." for why in [_told(case, State.HELD)] if why), f"{refused}. {started}"]
        return [
            first,
            "A decision comes within one turn. If none comes the operator is off, and the watchdog releases it soon.",
            "When the operator last completed a turn: kubectl get lease -n embellie-system embellie-heartbeat -o yaml",
        ]
    state = str(case.status.get("state"))
    if state == State.PAUSED:
        # It has been started in time; what it waits for is no better hour.
        return [_state_line(case, "paused"), _why(case)]
    text = "held by a limit, past its latest start," if state == State.HELD_BY_LIMIT else "held"
    return [_state_line(case, text), _why(case), *_window(case), *_likely(case), *_bound(case)]


def _told(case: Case, reason: str, about: str = "") -> str:
    """Return what our last event of a reason says, without a full stop; empty without one that is `about` this."""
    told = newest_text(event for event in case.events if event.get("reason") == reason)
    if about not in told:
        return ""
    return one_line(with_clock_times(told.rstrip("."), case.now, case.zone))


def _state_line(case: Case, text: str) -> str:
    since = parse_time(case.status.get("sinceTime"))
    when = f" since {case.time(since)} ({in_time(since, case.now)})" if since else ""
    return f"{case.who} is {text}{when}."


def _why(case: Case, word: str = "Why") -> str:
    reason = str(case.status.get("reason") or "no reason recorded")
    message = str(case.status.get("message") or "")
    told = one_line(with_clock_times(message, case.now, case.zone))
    return (f"{word}: {told} ({reason})" if message else f"{word}: {reason}") + _not_used(case, message)


def _not_used(case: Case, message: str) -> str:
    """Say what its user wrote that cannot be used, where the reason does not: a limit may hold it all the same."""
    ready: Raw = next((c for c in case.status.get("conditions") or () if c.get("type") == "Ready"), {})
    problems = str(ready.get("message") or "") if ready.get("reason") == "InvalidAnnotation" else ""
    return f" To mend: {one_line(problems, 500)}." if problems and problems not in message else ""


def _window(case: Case) -> list[str]:
    """Now against the best window."""
    now_g, planned_g = case.status.get("emissionsNowGrams"), case.status.get("emissionsPlannedGrams")
    start = parse_time(case.status.get("plannedStartTime"))
    if now_g is None or planned_g is None:
        return ["Emissions: no usable forecast, so now and later cannot be compared."]
    low, high = case.status.get("emissionsPlannedLowGrams"), case.status.get("emissionsPlannedHighGrams")
    interval = f" ({grams(low)} to {grams(high)})" if low is not None and high is not None else ""
    at = f" at {case.time(start)}" if start else ""
    line = f"Emissions: {grams(now_g)} CO2e if started now, {grams(planned_g)}{interval} in the best window{at}"
    if now_g > 0:
        percent = round(100 * (now_g - planned_g) / now_g)
        line += f": {abs(percent)} % {'less' if percent >= 0 else 'more'}"
    return [f"{line}."]


def _likely(case: Case) -> list[str]:
    p50 = parse_time(case.status.get("likelyStartP50Time")) or parse_time(case.status.get("plannedStartTime"))
    p90 = parse_time(case.status.get("likelyStartP90Time"))
    if not p50:
        return []
    where = case.status.get("gridZoneName")
    soon = f"{case.time(p50)} (P50, {in_time(p50, case.now)})" if p50 > case.now else "any moment (P50)"
    late = f", by {case.time(p90)} in nine cases of ten (P90)" if p90 else ""
    place = f", in zone {where}" if where else ""
    return [f"Likely start: {soon}{late}{place}."]


def _bound(case: Case) -> list[str]:
    latest = parse_time(((case.plan or {}).get("spec") or {}).get("latestStartTime"))
    if not latest:
        return []
    if case.status.get("state") == State.HELD_BY_LIMIT:
        return [f"Latest start was {case.time(latest)}; only a fresh reading over a limit holds it now."]
    if latest <= case.now:
        return [f"Latest start was {case.time(latest)}: it is being released."]
    # An earlier deadline may have been set since.
    kept = _told(case, names.DEADLINE_MOVED_BACK, f"{latest.astimezone(UTC):%Y-%m-%d %H:%M} UTC stays")
    more = f" {kept}." if kept else ""
    return [f"Latest start, guaranteed: {case.time(latest)} ({in_time(latest, case.now)}).{more}"]


def _not_held(case: Case) -> list[str]:
    if _finished(case):
        return [f"{case.who} has {_end(case)}.", *_record(case)]
    state = case.status.get("state")
    if state == State.SHADOW:
        return [_state_line(case, "not touched: its policy is in mode shadow"), _why(case), *_window(case)]
    if _started_by_hand(case):
        by = case.annotation(names.GO)
        who = f" by {one_line(by, 80)}" if by else ""
        return [f"{case.who} was started by hand{who} with kubectl embellie go: Embellie leaves it alone."]
    if state == State.HANDED_OFF:
        return [_state_line(case, "not in Embellie's hands"), _why(case)]
    if case.annotation(names.RELEASED_AT):
        return _released(case)
    if state == State.RELEASED:
        return [_state_line(case, "released"), _why(case)]
    if state:
        return [f"{case.who} is not held any more: another hand started it. The plan will say so after the next turn."]
    return _never_held(case)


def _announced(case: Case) -> list[str]:
    """Say that a running Job was told to write its checkpoint."""
    by = parse_time(case.annotation(names.PAUSE_BY))
    if by is None or _finished(case):
        return []
    return [
        f"Its zone has to make less heat: once its checkpoint is written, at the latest {case.time(by)}, it is paused."
    ]


def _started_by_hand(case: Case) -> bool:
    """Whether `kubectl embellie go` was the last word about it."""
    said = names.GO in (case.meta.get("annotations") or {}) and not case.annotation(names.RELEASED_AT)
    return said and case.status.get("reason") != Reason.SUSPENDED_BY_OTHER


def _released(case: Case) -> list[str]:
    at = parse_time(case.annotation(names.RELEASED_AT))
    reason = case.annotation(names.RELEASE_REASON)
    when = f" since {case.time(at)}" if at else ""
    cell = case.annotation(names.CELL)
    lines = [f"{case.who} is released{when}{f', to {one_line(cell, 130)}' if cell else ''}."]
    if reason in RELEASED_BY_US:
        return [*lines, f"Why: {RELEASED_BY_US[Reason(reason)]} ({reason})"]
    if case.status.get("reason") == reason:
        return [*lines, _why(case)]
    return [*lines, f"Why: {one_line(reason, 80)}"] if reason else lines


def _record(case: Case) -> list[str]:
    # Not why it ended so: that is the Job's own affair.
    return [_why(case, "What Embellie decided")] if case.status.get("reason") else []


def _finished(case: Case) -> bool:
    status = case.workload.get("status") or {}
    if case.workload.get("kind") == "Pod":
        return status.get("phase") in ("Succeeded", "Failed")
    ends = ("Complete", "Failed")
    return any(c.get("type") in ends and c.get("status") == "True" for c in status.get("conditions") or ())


def _end(case: Case) -> str:
    """Say how it ended: what failed is not said to have done its work."""
    status = case.workload.get("status") or {}
    failed: Raw = next((c for c in status.get("conditions") or () if c.get("type") == "Failed"), {})
    if status.get("phase") != "Failed" and failed.get("status") != "True":
        return "finished"
    why = str(failed.get("reason") or status.get("reason") or "")
    return f"failed ({one_line(why, 80)})" if why else "failed"


def _never_held(case: Case) -> list[str]:
    return outside(case) or [
        f"{case.who} has opted in ({case.label(names.FLEX_LABEL)}) and was not held: nothing is recorded about it.",
        "It was created suspended, its label came later, holding was off, or no turn came.",
        "Or no EnergyPolicy matches it: kubectl get energypolicies",
    ]


def outside(case: Case) -> list[str]:
    """Say why work is never held, whatever the policies and the hour; nothing where it may be."""
    flex = case.label(names.FLEX_LABEL)
    if case.of_a_job:
        job = one_line(str(case.owner.get("name")), 120)
        return [
            f"{case.who} belongs to Job/{job}: Embellie holds only Jobs and pods without an owner.",
            f"For its Job: kubectl embellie why job/{job} -n {case.meta.get('namespace')}",
        ]
    if case.owner:
        owner = f"{case.owner.get('kind')}/{case.owner.get('name')}"
        return [
            f"{case.who} belongs to {one_line(owner, 120)}: Embellie holds only Jobs and pods without an owner.",
        ]
    if case.label(names.KUEUE_QUEUE_LABEL):
        return [f"{case.who} is in a Kueue queue: Kueue decides when and where it starts, Embellie does not hold it."]
    hook = next((key for key in sorted(names.HOOKS) if case.annotation(key)), "")
    if hook:
        return [f"{case.who} is a hook ({hook}), whose release would hang: Embellie does not hold it."]
    controller = str((case.workload.get("spec") or {}).get("managedBy") or names.JOB_CONTROLLER)
    if controller != names.JOB_CONTROLLER:
        return [f"{case.who} is run by {one_line(controller, 120)} (spec.managedBy): Embellie does not hold it."]
    if flex == "rigid":
        return [
            f"{case.who} is rigid ({names.FLEX_LABEL}: rigid): Embellie never holds it.",
            f"To let the next one wait for cleaner hours, create it with {names.FLEX_LABEL}: patient.",
        ]
    if flex not in OPTED_IN:
        found = f"its {names.FLEX_LABEL} is {flex[:40]!r}; it must be patient or bonus" if flex else _misplaced(case)
        return [
            f"{case.who} has not opted in{f' ({found})' if found else ''}: Embellie never touches it.",
            f"To let the next one wait for cleaner hours, create it with the label {names.FLEX_LABEL}: patient.",
        ]
    return []


def _misplaced(case: Case) -> str:
    """Say where else the user wrote the opt-in, where nobody reads it; empty where they did not."""
    if case.annotation(names.FLEX_LABEL):
        return f"{names.FLEX_LABEL} is written as an annotation; it is read as a label only"
    template = ((case.workload.get("spec") or {}).get("template") or {}).get("metadata") or {}
    if names.FLEX_LABEL in (template.get("labels") or {}):
        return f"the label {names.FLEX_LABEL} stands in its pod template; it is read on the Job itself only"
    return ""
