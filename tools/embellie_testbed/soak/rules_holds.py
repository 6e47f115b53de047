# SPDX-License-Identifier: Apache-2.0
"""Promises about holds: how long, that they end when the operator is gone, and that each says why."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from embellie_testbed.soak.audit import Write, parse
from embellie_testbed.soak.rules import Case, Violation
from embellie_testbed.soak.spells import Part
from embellie_testbed.soak.trail import OPERATOR, OURS, WAITS_AT_MOST, Life, Wait, notes

ALIVE = (Part.OPERATOR, Part.API)
GUARDED = (Part.WATCHDOG, Part.API)
ROUNDING = timedelta(seconds=1)
RELEASED_AT = "embellie.io/released-at"
RELEASE_REASON = "embellie.io/release-reason"
WAITING_STATES = frozenset({"Held", "HeldByLimit", "Paused"})


def stated_bound(life: Life, case: Case) -> datetime:
    """Return past which instant its own words and the longest of all policies let work wait."""
    stated_s = float(notes(life.changes[0].after).get(WAITS_AT_MOST, case.terms.longest_delay_s))
    return life.born + timedelta(seconds=min(stated_s, case.terms.longest_delay_s)) + ROUNDING


def promised(life: Life, case: Case, until: datetime | None = None) -> list[datetime]:
    """Return the latest starts that its plans promised until then, in the order in which they were written."""
    found = []
    for write in case.trail.plans.get(life.uid, ()):
        if until is not None and write.at > until:
            break
        latest = (write.came.get("spec") or {}).get("latestStartTime")
        if latest:
            found.append(parse(latest))
    return found


def never_past_its_bound(case: Case) -> Iterator[Violation]:
    """A living operator holds nothing past its latest start, but for a limit, and that for a bounded time."""
    for wait in _holds(case):
        bound = min([stated_bound(wait.life, case), *promised(wait.life, case)])
        # Held only from then on: a policy that came later cannot have kept an earlier bound.
        begin, end = max(bound, wait.begin), wait.end or case.trail.until
        if end <= begin:
            continue
        late_s = case.undisturbed_s((*ALIVE, Part.LIMIT), begin, end)
        most_s = case.undisturbed_s(ALIVE, begin, end) - case.terms.max_limit_hold_s
        if max(late_s, most_s) > case.terms.tolerance_s:
            past_s = (end - bound).total_seconds()
            says = f"{wait.life} was held {past_s:.1f} s past {bound:%H:%M:%S}, {late_s:.1f} s of them undisturbed"
            yield _told("held work starts by its latest start", says, wait, case)


def latest(case: Case) -> float:
    """Return by how much the latest hold of all stood past its bound while nothing was disturbed [s]."""
    found = [0.0]
    for wait in _holds(case):
        bound = max(min([stated_bound(wait.life, case), *promised(wait.life, case)]), wait.begin)
        found.append(case.undisturbed_s((*ALIVE, Part.LIMIT), bound, max(bound, wait.end or case.trail.until)))
    return max(found)


def fails_open(case: Case) -> Iterator[Violation]:
    """With the operator gone, a living watchdog lets everything go in the time that the docs give it."""
    allowed_s = case.terms.dead_man_s + case.terms.release_s + case.terms.tolerance_s
    for spell in case.spells:
        if spell.part is not Part.GONE:
            continue
        due = case.after(GUARDED, spell.begin, allowed_s)
        if due >= min(spell.end, case.trail.until):
            continue
        for wait in case.trail.waits():
            # What began while the watchdog swept may be in its next list only.
            if wait.begin < due - timedelta(seconds=case.terms.tolerance_s) and (wait.end or case.trail.until) > due:
                says = (
                    f"{wait.life} stayed held though the operator was gone since {spell.begin:%H:%M:%S} ({spell.why})"
                )
                yield _told("with the operator gone the watchdog releases everything", says, wait, case)


def latest_start_never_later(case: Case) -> Iterator[Violation]:
    """A latest start is a promise: it only ever moves earlier, and lies within what was asked for from the first.

    What a plan says after the start, such as one that is made anew for a pause, is no promise of a start any more.
    """
    for uid, writes in case.trail.plans.items():
        life = case.trail.lives.get(uid)
        if life is None:
            continue
        if not _planned_while_held(life, writes[0], case):
            continue
        before = stated_bound(life, case)
        if before == life.born + ROUNDING:
            # Words that cannot be read or met start it at once: its bound is then its policy's, and means nothing.
            before += timedelta(seconds=case.terms.longest_delay_s)
        starts = [wait.end or case.trail.until for wait in life.waits() if not wait.pause]
        for moment in promised(life, case, until=max(starts, default=None)):
            if moment > before:
                says = f"{life} was promised {moment:%H:%M:%S} after {before:%H:%M:%S}"
                yield Violation(
                    promise="latestStart never moves later",
                    says=says,
                    shown_by=(*life.lines(), *(write.line() for write in writes)),
                )
                break
            before = moment


def _planned_while_held(life: Life, first: Write, case: Case) -> bool:
    """Tell whether a plan promised a start: one that begins with a pause, or without any policy, promises none."""
    grace = timedelta(seconds=case.terms.tolerance_s)
    holds = [wait for wait in life.waits() if not wait.pause]
    return bool(first.came["spec"].get("policyName")) and any(
        wait.end is None or first.at < wait.end + grace for wait in holds
    )


def says_why(case: Case) -> Iterator[Violation]:
    """Every hold and every start has its reason, on the workload and in its plan."""
    grace_s = case.terms.tolerance_s
    for wait in case.trail.waits():
        end = wait.end or case.trail.until
        told = [write.came.get("status") or {} for write in case.trail.plans.get(wait.life.uid, ())]
        if case.undisturbed_s(ALIVE, wait.begin, end) > grace_s and not any(
            status.get("state") in WAITING_STATES and status.get("reason") and status.get("message") for status in told
        ):
            yield _told("every hold says why", f"no plan says why {wait.life} waits", wait, case)
        if wait.ended is None or wait.ended.write.user not in OURS or _handed_over(wait):
            continue
        reason = notes(wait.ended.after).get(RELEASE_REASON, "")
        if not reason:
            yield _told("every start says why", f"{wait.life} was started without a reason on it", wait, case)
        elif (
            wait.ended.write.user == OPERATOR
            and _lived_on(wait, case, grace_s)
            and not any(status.get("state") == "Released" and status.get("reason") == reason for status in told)
        ):
            yield _told("every start says why", f"no plan says that {wait.life} started: {reason}", wait, case)


def _holds(case: Case) -> Iterator[Wait]:
    return (wait for wait in case.trail.waits() if not wait.pause)


def _handed_over(wait: Wait) -> bool:
    """Tell whether only the marker was taken off: somebody else had started it, or a queue starts it."""
    return wait.ended is not None and notes(wait.ended.after).get(RELEASED_AT) == notes(wait.ended.before).get(
        RELEASED_AT
    )


def _lived_on(wait: Wait, case: Case, seconds: float) -> bool:
    """Tell whether workload, operator and API server went on for so long that a start could be written down [s].

    An operator that dies between a start and its record does not make up for it: the reason is on the workload.
    """
    assert wait.end is not None  # noqa: S101 - asked of ended waits only
    until = wait.end + timedelta(seconds=seconds)
    ends = min(wait.life.ended or case.trail.until, case.terms.uninstalled_at or case.trail.until, case.trail.until)
    return until < ends and case.undisturbed_s(ALIVE, wait.end, until) >= seconds


def _told(promise: str, says: str, wait: Wait, case: Case) -> Violation:
    plans = []
    for write in case.trail.plans.get(wait.life.uid, ()):
        status = write.came.get("status") or {}
        latest = (write.came.get("spec") or {}).get("latestStartTime")
        plans.append(
            f"{write.line()} [{latest}, {status.get('state')}, {status.get('reason')}: {status.get('message')}]"
        )
    near = [s for s in case.spells if s.end > wait.begin and s.begin < (wait.end or case.trail.until)]
    spells = tuple(f"disturbed {s.begin:%H:%M:%S}..{s.end:%H:%M:%S}: {s.part} ({s.why})" for s in near)
    return Violation(promise=promise, says=says, shown_by=(*wait.life.lines(), *plans, *spells))
