# SPDX-License-Identifier: Apache-2.0
"""The judge of a soak finds pauses that break a promise, and work that crossed a border."""

import pytest
from audit_logs import USER, AuditLog, good_hold, promises, spell, whole

from embellie_testbed.soak.audit import Object
from embellie_testbed.soak.judge import judge
from embellie_testbed.soak.spells import Part
from embellie_testbed.soak.trail import HELD, OPERATOR, TAKES, WATCHDOG

EARLY = "nothing is paused before its checkpoint or its instant"
CROSSED = "residency is never crossed"


def running(log: AuditLog, **notes: str) -> Object:
    log.policy()
    return log.job(held=False, checkpoint="takes=10s", **{TAKES: "10", **notes})


def pause(log: AuditLog, job: Object, seconds: float, user: str = OPERATOR) -> None:
    notes = {"embellie.io/pause-by": None, "embellie.io/paused-at": whole(seconds)}
    log.change(job, seconds, user, suspend=True, labels={HELD: "true"}, annotations=notes)


def resume(log: AuditLog, job: Object, seconds: float) -> None:
    log.plan(job, seconds - 1.0, "Paused", "HeatPause")
    log.release(job, seconds, reason="Cooled")
    log.plan(job, seconds + 1.0, "Released", "Cooled")


def announced(log: AuditLog, by: float = 30.0, **notes: str) -> Object:
    job = running(log, **notes)
    log.note(job, 20.0, OPERATOR, pause_by=whole(by))
    return job


def test_a_pause_at_its_instant_that_ends_in_time_breaks_no_promise() -> None:
    log = AuditLog()
    job = announced(log)
    pause(log, job, 30.0)
    log.plan(job, 31.0, "Paused", "HeatPause", latest=90.0)
    resume(log, job, 50.0)
    assert judge(log.case()) == []


def test_a_plan_that_is_made_anew_for_a_pause_promises_no_start() -> None:
    log = AuditLog()
    log.policy()
    job = good_hold(log, released=5.0, latest=40.0, checkpoint="takes=10s", **{TAKES: "10"})
    log.note(job, 20.0, OPERATOR, pause_by=whole(30.0))
    pause(log, job, 30.0)
    log.plan(job, 31.0, "Paused", "HeatPause", latest=55.0)
    resume(log, job, 50.0)
    assert judge(log.case()) == []


def test_a_pause_before_its_instant_is_found() -> None:
    log = AuditLog()
    job = announced(log)
    pause(log, job, 25.0)
    resume(log, job, 40.0)
    assert promises(judge(log.case())) == [EARLY]


@pytest.mark.parametrize(("word", "kept"), [(whole(30.0), True), ("yes", False)])
def test_an_acknowledged_checkpoint_lets_a_pause_come_early(word: str, kept: bool) -> None:
    log = AuditLog()
    job = announced(log)
    log.note(job, 22.0, USER, checkpointed=word)
    pause(log, job, 25.0)
    resume(log, job, 40.0)
    assert promises(judge(log.case())) == ([] if kept else [EARLY])


@pytest.mark.parametrize("both", [True, False])
def test_all_of_its_pods_must_have_acknowledged(both: bool) -> None:
    log = AuditLog()
    job = announced(log)
    pods = [log.pod(job, f"train-{number}", 5.0) for number in range(2)]
    for pod in pods if both else pods[:1]:
        log.note(pod, 22.0, USER, checkpointed=whole(30.0))
    pause(log, job, 25.0)
    resume(log, job, 40.0)
    assert promises(judge(log.case())) == ([] if both else [EARLY])


def test_an_unannounced_pause_is_found() -> None:
    log = AuditLog()
    job = running(log)
    pause(log, job, 30.0)
    resume(log, job, 40.0)
    assert promises(judge(log.case())) == ["no pause without an announcement"]


def test_work_that_another_hand_of_ours_holds_again_is_found() -> None:
    log = AuditLog()
    job = announced(log)
    pause(log, job, 30.0, WATCHDOG)
    resume(log, job, 40.0)
    assert promises(judge(log.case())) == ["what was started is not held again"]


def test_an_announcement_that_leaves_too_little_time_is_found() -> None:
    log = AuditLog()
    job = announced(log, by=24.0)
    pause(log, job, 24.0)
    resume(log, job, 40.0)
    assert promises(judge(log.case())) == ["a pause leaves time for a checkpoint"]


def test_an_announcement_that_a_slow_machine_wrote_late_is_none() -> None:
    log = AuditLog()
    job = announced(log, by=27.0)
    pause(log, job, 27.0)
    resume(log, job, 40.0)
    assert judge(log.case(spell(Part.API, 15.0, 21.0))) == []


def test_an_announcement_to_work_that_allows_no_pause_is_found() -> None:
    log = AuditLog()
    log.policy()
    log.note(log.job(held=False, checkpoint="takes=2h"), 20.0, OPERATOR, pause_by=whole(30.0))
    assert promises(judge(log.case())) == ["only what allows it is paused"]


@pytest.mark.parametrize("spec", [{"mode": "shadow"}, {"maxPausesPerDay": 0}])
def test_an_announcement_that_no_policy_allows_is_found(spec: dict[str, object]) -> None:
    log = AuditLog()
    job = announced(log)
    log.policy(-50.0, **spec)
    pause(log, job, 30.0)
    resume(log, job, 40.0)
    assert promises(judge(log.case())) == ["only under a policy that allows it work is paused"]


def test_a_second_pause_is_found() -> None:
    log = AuditLog()
    job = announced(log)
    pause(log, job, 30.0)
    resume(log, job, 40.0)
    log.note(job, 60.0, OPERATOR, pause_by=whole(70.0))
    pause(log, job, 70.0)
    resume(log, job, 80.0)
    assert promises(judge(log.case())) == ["work is paused at most once a day"]


def test_a_pause_that_lasts_too_long_is_found() -> None:
    log = AuditLog()
    job = announced(log)
    pause(log, job, 30.0)
    resume(log, job, 60.0)
    assert promises(judge(log.case())) == ["paused work goes on in time"]
    assert judge(log.case(spell(Part.OPERATOR, 40.0, 50.0))) == []


@pytest.mark.parametrize(("node", "kept"), [("west-1", True), ("east-1", False), ("nowhere-1", False)])
def test_work_of_ours_that_runs_outside_of_its_residency_is_found(node: str, kept: bool) -> None:
    log = AuditLog()
    log.zone("west", "US-CA")
    log.zone("east", "FR")
    job = good_hold(log, residency="US, DE")
    log.bind(log.pod(job, "train-0", 31.0), node, 32.0)
    assert promises(judge(log.case())) == ([] if kept else [CROSSED])


def test_a_zone_that_moved_just_before_a_start_may_not_have_been_seen() -> None:
    log = AuditLog()
    log.zone("west", "US-CA")
    log.zone("west", "FR", 28.0)
    job = good_hold(log, residency="US")
    log.bind(log.pod(job, "train-0", 31.0), "west-1", 32.0)
    assert judge(log.case()) == []


def test_work_that_its_user_started_by_hand_is_its_users_to_place() -> None:
    log = AuditLog()
    log.zone("east", "FR")
    job = log.job(residency="US")
    log.change(job, 5.0, USER, suspend=False, labels={HELD: None})
    log.bind(log.pod(job, "train-0", 6.0), "east-1", 7.0)
    assert judge(log.case()) == []


def test_work_that_a_command_of_ours_started_stays_inside() -> None:
    log = AuditLog()
    log.zone("east", "FR")
    job = log.job(residency="US")
    log.change(job, 5.0, USER, suspend=False, labels={HELD: None}, annotations={"embellie.io/go": "somebody"})
    log.bind(log.pod(job, "train-0", 6.0), "east-1", 7.0)
    assert promises(judge(log.case())) == [CROSSED]
