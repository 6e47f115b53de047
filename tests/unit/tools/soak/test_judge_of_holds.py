# SPDX-License-Identifier: Apache-2.0
"""The judge of a soak finds each broken promise about holds in a doctored audit log, and none in a good one."""

import pytest
from audit_logs import AuditLog, at, good_hold, promises, spell

from embellie_testbed.soak.judge import judge
from embellie_testbed.soak.rules_holds import latest as latest_s
from embellie_testbed.soak.spells import Part
from embellie_testbed.soak.trail import WATCHDOG

LATE = "held work starts by its latest start"


def test_a_good_hold_breaks_no_promise() -> None:
    log = AuditLog()
    good_hold(log, released=59.0)
    case = log.case()
    assert judge(case) == []
    assert latest_s(case) == 0.0


@pytest.mark.parametrize(
    ("released", "latest", "notes"),
    [
        (30.0, 20.0, {}),  # what its plan promised
        (70.0, 60.0, {}),  # what any policy allows
        (30.0, 20.0, {"soak.example.com/waits_at_most": "20"}),  # what its user asked for
    ],
)
def test_work_that_is_held_past_its_bound_is_found(released: float, latest: float, notes: dict[str, str]) -> None:
    log = AuditLog()
    good_hold(log, released=released, latest=latest, **notes)
    (found,) = judge(log.case())
    assert found.promise == LATE
    assert "job/train in team was held" in str(found)
    assert "waits=False" in str(found), "the write that ended it is shown"


def test_work_that_waits_for_ever_is_found() -> None:
    log = AuditLog()
    log.plan(log.job(), 1.0, "Held", "CleanerWindow")
    assert promises(judge(log.case())) == [LATE]


@pytest.mark.parametrize("part", [Part.OPERATOR, Part.API, Part.LIMIT])
def test_time_that_was_disturbed_is_counted_out(part: Part) -> None:
    log = AuditLog()
    good_hold(log, released=70.0)
    assert judge(log.case(spell(part, 58.0, 68.0))) == []
    assert promises(judge(log.case(spell(part, 58.0, 62.0)))) == [LATE]
    assert promises(judge(log.case(spell(Part.WATCHDOG, 58.0, 80.0)))) == [LATE], "the operator was there"


def test_a_limit_excuses_for_a_bounded_time_only() -> None:
    log = AuditLog()
    good_hold(log, released=90.0)
    assert promises(judge(log.case(spell(Part.LIMIT, 50.0, 100.0)))) == [LATE]


def test_a_watchdog_that_does_not_release_is_found() -> None:
    log = AuditLog()
    job = log.job()
    log.plan(job, 1.0, "Held", "CleanerWindow")
    log.release(job, 50.0, WATCHDOG, "OperatorLost")
    gone = spell(Part.GONE, 10.0, 55.0), spell(Part.OPERATOR, 10.0, 75.0)
    assert promises(judge(log.case(*gone))) == ["with the operator gone the watchdog releases everything"]
    assert judge(log.case(*gone, spell(Part.WATCHDOG, 15.0, 40.0))) == [], "it was away itself"
    assert judge(log.case(spell(Part.GONE, 10.0, 30.0), spell(Part.OPERATOR, 10.0, 50.0))) == [], "it had time left"


def test_a_latest_start_that_moves_later_is_found() -> None:
    log = AuditLog()
    job = log.job()
    log.plan(job, 1.0, "Held", "CleanerWindow", latest=40.0)
    log.plan(job, 2.0, "Held", "CleanerWindow", latest=50.0)
    log.release(job, 30.0)
    log.plan(job, 31.0, "Released", "BestNow", latest=50.0)
    assert promises(judge(log.case())) == ["latestStart never moves later"]


def test_a_latest_start_past_what_was_asked_for_is_found() -> None:
    log = AuditLog()
    good_hold(log, released=5.0, **{"soak.example.com/waits_at_most": "20"})
    assert promises(judge(log.case())) == ["latestStart never moves later"]


def test_work_whose_words_cannot_be_read_starts_at_once_whatever_latest_start_its_plan_tells() -> None:
    log = AuditLog()
    good_hold(log, released=2.0, **{"soak.example.com/waits_at_most": "0"})
    assert judge(log.case()) == []


def test_a_plan_without_a_policy_promises_no_start() -> None:
    log = AuditLog()
    job = log.job()
    log.release(job, 2.0, reason="NoPolicy")
    log.plan(job, 2.5, "Released", "NoPolicy", latest=86400.0, policy="")
    assert judge(log.case()) == []


def test_a_hold_without_a_reason_is_found() -> None:
    log = AuditLog()
    job = log.job()
    log.release(job, 30.0)
    log.plan(job, 31.0, "Released", "BestNow")
    assert promises(judge(log.case())) == ["every hold says why"]
    assert judge(log.case(spell(Part.OPERATOR, 0.0, 29.0))) == [], "nobody was there to say it"


def test_a_start_without_a_reason_on_it_is_found() -> None:
    log = AuditLog()
    job = log.job()
    log.plan(job, 1.0, "Held", "CleanerWindow")
    log.release(job, 30.0, reason="")
    assert promises(judge(log.case())) == ["every start says why"]


def test_a_start_that_its_plan_does_not_tell_is_found() -> None:
    log = AuditLog()
    job = log.job()
    log.plan(job, 1.0, "Held", "CleanerWindow")
    log.release(job, 30.0)
    log.plan(job, 31.0, "Released", "BoundReached")
    assert promises(judge(log.case())) == ["every start says why"]
    assert judge(log.case(spell(Part.OPERATOR, 30.5, 40.0))) == [], "it died before it could"


def test_undisturbed_time_knows_spells_that_overlap() -> None:
    case = AuditLog().case(spell(Part.API, 10.0, 20.0), spell(Part.API, 15.0, 30.0), spell(Part.OPERATOR, 12.0, 13.0))
    assert case.undisturbed_s((Part.API,), at(0.0), at(40.0)) == 20.0
    assert case.after((Part.API,), at(5.0), 10.0) == at(35.0)
