# SPDX-License-Identifier: Apache-2.0
"""Decisions as they are handed out, and the part of them that weighs tenants."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
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


def start_now(
    w: Workload,
    at: datetime,
    cell: str,
    now: Estimate,
    better: tuple[Estimate, float] | None,
    *,
    hurried: bool,
    shares: Mapping[str, tuple[float, float]],
) -> Decision:
    """Return the decision to start a workload that has room, with the reason why it does not wait.

    Args:
        w: The workload.
        at: Now.
        cell: Where it starts.
        now: What that emits.
        better: The best later start and the part of the emissions that it would save; None where none is better.
        hurried: Whether work may not wait for cleaner hours, because room runs short.
        shares: What tenants had of late (`fairness.Standing`).
    """
    if better is None:
        return release(w, at, cell, Reason.BEST_NOW, messages.best_now(w, cell, now), now, now)
    later, saving = better
    if saving < w.minimum_saving_percent / 100.0:
        reason, text = Reason.MINIMUM_SAVING, messages.minimum_saving(w, cell, now, later)
    elif hurried:
        reason, text = Reason.SLACK_SPENT, messages.slack_spent(w, cell, now, later)
    else:
        # It would have waited for this, were it not for what its tenant has waited already.
        reason, text = Reason.TENANT_SHARE, messages.waited_enough(w, cell, now, later, shares[w.tenant])
    return release(w, at, cell, reason, text, now, now)


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
    order_ends: datetime | None = None,
    taken: tuple[Reason, datetime] | None = None,
    words: str = "",
) -> Decision:
    """Return the decision to wait.

    `also` are further rows that are full, `until` is when the first room comes, `order_ends` when the order ends that
    gives it, `taken` says which row keeps the
    workload from its own cheapest start and when that would be, and `words` replace the sentence.
    """
    if words:
        message = words
    elif reason is Reason.CLEANER_WINDOW and now is not None and best is not None:
        message = messages.cleaner_window(w, cell, start, now, best, taken)
    else:
        message = messages.blocked(w, (reason, *also), cell, start, until, order_ends)
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
