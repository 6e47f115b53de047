# SPDX-License-Identifier: Apache-2.0
"""Decisions as they are handed out, and the part of them that weighs tenants."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from embellie.domain.plan import Action, Decision, Estimate
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Snapshot, Workload, WorkloadKey
from embellie.planning import messages


def release(
    w: Workload,
    at: datetime,
    cell: str | None,
    reason: Reason,
    message: str,
    now: Estimate | None = None,
    best: Estimate | None = None,
) -> Decision:
    """Return the decision to start a workload at once."""
    return Decision(
        key=w.key,
        action=Action.RELEASE,
        reason=reason,
        message=message,
        cell=cell,
        start=at,
        likely_start_p90=at,
        latest_start=w.latest_start,
        now=now,
        best=best,
    )


def hold(
    w: Workload,
    cell: str,
    start: datetime,
    likely: datetime,
    reason: Reason,
    now: Estimate | None,
    best: Estimate | None,
    *,
    also: Sequence[Reason] = (),
    until: datetime | None = None,
    taken: tuple[Reason, datetime] | None = None,
    words: str = "",
) -> Decision:
    """Return the decision to wait.

    `also` are further rows that are full, `until` is when the first room comes, `taken` says which row keeps the
    workload from its own cheapest start and when that would be, and `words` replace the sentence.
    """
    if words:
        message = words
    elif reason is Reason.CLEANER_WINDOW and now is not None and best is not None:
        message = messages.cleaner_window(w, cell, start, now, best, taken)
    else:
        message = messages.blocked(w, (reason, *also), cell, start, until)
    return Decision(
        key=w.key,
        action=Action.HOLD,
        reason=reason,
        message=message,
        cell=cell,
        start=start,
        likely_start_p90=likely,
        latest_start=w.latest_start,
        now=now,
        best=best,
    )


def respect_held_fraction(snapshot: Snapshot, decisions: dict[WorkloadKey, Decision]) -> set[WorkloadKey]:
    """Release the oldest of what a policy holds beyond its ceiling, in `decisions`; return which."""
    held: dict[str, list[Workload]] = defaultdict(list)
    for w in snapshot.workloads:
        ours = w.enforced and w.policy in snapshot.max_held_gpus
        if ours and decisions[w.key].action is Action.HOLD:
            held[w.policy].append(w)
    released = set()
    for policy, workloads in held.items():
        most = snapshot.max_held_gpus[policy]
        excess = sum(w.gpus for w in workloads) - most
        for w in sorted(workloads, key=lambda w: (w.created_at, w.key)):
            if excess <= 0:
                break
            excess -= w.gpus
            released.add(w.key)
            decisions[w.key] = replace(
                decisions[w.key],
                action=Action.RELEASE,
                reason=Reason.HELD_FRACTION,
                message=messages.held_fraction(w, most),
                start=snapshot.now,
                likely_start_p90=snapshot.now,
                best=decisions[w.key].now,
            )
    return released
