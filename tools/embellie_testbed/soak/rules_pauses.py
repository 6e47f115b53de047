# SPDX-License-Identifier: Apache-2.0
"""Promises about pauses: only where they are allowed, announced first, once, and not for longer than they may last."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from embellie_testbed.soak.audit import parse
from embellie_testbed.soak.rules import Case, Violation
from embellie_testbed.soak.rules_holds import ALIVE, ROUNDING
from embellie_testbed.soak.rules_writes import PAUSE_BY
from embellie_testbed.soak.trail import OPERATOR, TAKES, Change, Life, Wait, notes, versions

CHECKPOINTED = "embellie.io/checkpointed"
_POLICY_IS_SEEN = timedelta(seconds=15)
_ENDED = frozenset({"Succeeded", "Failed"})


def pauses_are_announced(case: Case) -> Iterator[Violation]:
    """An announcement leaves the time that a checkpoint takes, on work that allows it under a policy that does."""
    for life in case.trail.work():
        for change in life.changes:
            by = notes(change.after).get(PAUSE_BY)
            if not by or change.write.user != OPERATOR or notes(change.before).get(PAUSE_BY) == by:
                continue
            takes = notes(change.before).get(TAKES)
            lead_s = (parse(by) - change.write.at).total_seconds()
            if takes is None:
                yield _told("only what allows it is paused", f"{life} was told to pause", life)
            # It is reckoned when the turn begins, and written at its end, in whole seconds.
            elif lead_s < float(takes) - 1.0 and not _late(case, change, float(takes) - lead_s):
                says = f"{life} was given {lead_s:.1f} s for a checkpoint that takes {takes} s"
                yield _told("a pause leaves time for a checkpoint", says, life)
            if not _policy_allows(case, change.write.at):
                yield _told("only under a policy that allows it work is paused", f"{life} was told to pause", life)


def _late(case: Case, change: Change, missing_s: float) -> bool:
    """Tell whether a write took so long only because the API server or the machine did."""
    begin = change.write.at - timedelta(seconds=missing_s + 1.0)
    return missing_s < case.terms.tolerance_s and case.undisturbed_s(ALIVE, begin, change.write.at) < missing_s


def _policy_allows(case: Case, at: datetime) -> bool:
    known = (policy for writes in case.trail.policies.values() for policy in versions(writes, at - _POLICY_IS_SEEN, at))
    specs = (policy.get("spec") or {} for policy in known)
    return any(spec.get("mode") == "enforce" and spec.get("maxPausesPerDay", 0) > 0 for spec in specs)


def nothing_is_paused_early(case: Case) -> Iterator[Violation]:
    """Work is suspended at the announced instant, or once its checkpoint is acknowledged, and at most once a day."""
    for life in case.trail.work():
        paused = [wait for wait in life.waits() if wait.pause]
        if len(paused) > 1:
            yield _told("work is paused at most once a day", f"{life} was paused {len(paused)} times", life)
        for wait in paused:
            by = notes(wait.began.before).get(PAUSE_BY, "")
            if wait.began.write.user != OPERATOR:
                yield _told("what was started is not held again", f"{wait.began.write.user} held {life}", life)
            elif not by:
                yield _told("no pause without an announcement", f"{life} was paused unannounced", life)
            elif wait.begin < parse(by) - ROUNDING and not _acknowledged(case, wait, by):
                says = f"{life} was paused {(parse(by) - wait.begin).total_seconds():.1f} s early, unacknowledged"
                yield _told("nothing is paused before its checkpoint or its instant", says, life)


def _acknowledged(case: Case, wait: Wait, by: str) -> bool:
    if notes(wait.began.before).get(CHECKPOINTED) == by:
        return True
    pods = [
        pod.at(wait.begin)
        for pod in case.trail.lives.values()
        if pod.owner == wait.life.uid and (pod.ended is None or pod.ended > wait.begin)
    ]
    running = [pod for pod in pods if pod and (pod.get("status") or {}).get("phase") not in _ENDED]
    return bool(running) and all(notes(pod).get(CHECKPOINTED) == by for pod in running)


def pauses_end(case: Case) -> Iterator[Violation]:
    """Paused work goes on once a pause has lasted as long as it may."""
    for wait in case.trail.waits():
        lasted_s = case.undisturbed_s(ALIVE, wait.begin, wait.end or case.trail.until)
        if wait.pause and lasted_s > case.terms.max_limit_hold_s + case.terms.tolerance_s:
            says = f"{wait.life} stayed paused for {lasted_s:.1f} undisturbed seconds"
            yield _told("paused work goes on in time", says, wait.life)


def _told(promise: str, says: str, life: Life) -> Violation:
    return Violation(promise=promise, says=says, shown_by=life.lines())
