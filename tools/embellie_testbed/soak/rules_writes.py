# SPDX-License-Identifier: Apache-2.0
"""Promises about what is written: nothing on other people's work, nothing twice, nothing refused because of us."""

import re
from collections.abc import Iterator
from datetime import timedelta

from embellie_testbed.soak.audit import Object, Write
from embellie_testbed.soak.rules import Case, Violation
from embellie_testbed.soak.rules_holds import RELEASED_AT
from embellie_testbed.soak.trail import FLEX, HELD, NEVER, OURS, WILLING, Life, gates, labels, notes, suspended, waits

CHECKPOINT = "embellie.io/checkpoint"
PAUSE_BY = "embellie.io/pause-by"
NOTES = ("embellie.io/cell", PAUSE_BY, "embellie.io/paused-at", RELEASED_AT, "embellie.io/release-reason")
_OUR_POLICY = re.compile(r"polic(y|ies)\W+embellie-", re.IGNORECASE)
_SWITCH_IS_SEEN = timedelta(seconds=5)


def only_what_opted_in_is_written(case: Case) -> Iterator[Violation]:
    """Our accounts write on nothing that neither waits for us nor allows pauses, not even in vain."""
    for life in case.trail.lives.values():
        for change in life.changes:
            if change.write.user in OURS and not _may_be_written(case, life, change.before, change.write):
                yield _told("unlabelled work is never written to", f"{change.write.user} wrote on {life}", life)
    for write in case.trail.refused:
        if write.user not in OURS or "embellie-fence" not in write.message:
            continue
        known = case.trail.named(write)
        if known is not None and not _may_be_written(case, known, known.at(write.at), write):
            says = f"{write.user} tried to write on {known}"
            yield _told("unlabelled work is never written to", says, known, write)


def _may_be_written(case: Case, life: Life, obj: Object, write: Write) -> bool:
    if labels(obj).get(HELD) == "true":
        return True
    # What has opted out since it was told to pause is told that it is not.
    about = case.trail.lives.get(life.owner, life)
    known = [change.after for change in about.changes if change.write.at <= write.at]
    ever = any(labels(each).get(FLEX) in WILLING for each in known)
    return ever and (CHECKPOINT in notes(obj) or PAUSE_BY in notes(obj))


def what_did_not_opt_in_is_as_its_user_wrote_it(case: Case) -> Iterator[Violation]:
    """Unlabelled work, and what is never held, is created as it was sent, and never carries our marker."""
    promise = "what did not opt in is as its user wrote it"
    for life in case.trail.work():
        first = life.changes[0]
        willing = labels(first.after).get(FLEX) in WILLING and NEVER not in notes(first.after)
        if willing or first.write.verb != "create":
            continue
        asked, came = first.write.asked, first.after
        if any(_standing(asked)[key] != value for key, value in _standing(came).items()):
            yield _told(promise, f"{life} was created as {_standing(came)}, not as {_standing(asked)}", life)
        if any(waits(change.after) for change in life.changes):
            yield _told(promise, f"{life} was held", life)


def _standing(obj: Object) -> dict[str, object]:
    spec = obj.get("spec") or {}
    pod = (spec.get("template") or {}).get("spec") or spec
    return {"suspend": suspended(obj), "gates": gates(obj), "affinity": pod.get("affinity")}


def copied_notes_are_taken_off(case: Case) -> Iterator[Violation]:
    """What a manifest copied from a live object says in our name is not believed."""
    for life in case.trail.work():
        first = life.changes[0]
        if first.write.verb != "create" or labels(first.after).get(FLEX) not in WILLING:
            continue
        kept = [key for key in NOTES if key in notes(first.after)]
        if kept:
            yield _told("copied notes are taken off", f"{life} was created with {', '.join(kept)}", life)


def nothing_is_released_twice(case: Case) -> Iterator[Violation]:
    """Each start of ours ends a wait."""
    for life in case.trail.lives.values():
        for change in life.changes:
            released = notes(change.after).get(RELEASED_AT) != notes(change.before).get(RELEASED_AT)
            if released and change.before and change.write.user in OURS and not waits(change.before):
                yield _told("nothing is released twice", f"{life} was released though it did not wait", life)


def nothing_is_refused_because_of_us(case: Case) -> Iterator[Violation]:
    """No user's write is refused by a policy of ours."""
    for write in case.trail.refused:
        if write.user not in OURS and _OUR_POLICY.search(write.message):
            says = f"{write.user} may not {write.verb} {write.resource} {write.name}: {write.message[:300]}"
            yield Violation(promise="nothing is refused because of us", says=says, shown_by=(write.line(),))


def nothing_is_held_after_uninstall(case: Case) -> Iterator[Violation]:
    """After an uninstall nothing waits, and nothing new is held."""
    gone_at = case.terms.uninstalled_at
    if gone_at is None:
        return
    for wait in case.trail.waits():
        if wait.end is None:
            yield _told("uninstalling leaves nothing held", f"{wait.life} waits for ever", wait.life)
        elif wait.begin > gone_at + _SWITCH_IS_SEEN:
            yield _told("after an uninstall nothing new is held", f"{wait.life} was held", wait.life)
    for life in case.trail.work():
        if life.ended is None and _stands_by_our_hand(life):
            yield _told("uninstalling leaves nothing held", f"{life} lost its marker and stays as we held it", life)


def _stands_by_our_hand(life: Life) -> bool:
    """Tell whether work still stands because of us, although it carries no marker any more; a queue may hold it."""
    if waits(life.last) or not (suspended(life.last) or "embellie.io/hold" in gates(life.last)):
        return False
    still = next((c for c in reversed(life.changes) if not _stands(c.before)), life.changes[0])
    unmarked = next((c for c in reversed(life.changes) if waits(c.before) and not waits(c.after)), None)
    if unmarked is None or unmarked.write.user not in OURS or "kueue.x-k8s.io/queue-name" in labels(life.last):
        return False
    return still.write.at < unmarked.write.at


def _stands(obj: Object) -> bool:
    return suspended(obj) or "embellie.io/hold" in gates(obj)


def _told(promise: str, says: str, life: Life, *more: Write) -> Violation:
    return Violation(promise=promise, says=says, shown_by=(*life.lines(), *(write.line() for write in more)))
