# SPDX-License-Identifier: Apache-2.0
"""The judge of a soak finds each write that we should not have made, and each trace that an uninstall left."""

from pathlib import Path
from typing import Any

import pytest
from audit_logs import USER, AuditLog, good_hold, promises

from embellie_testbed.soak.judge import judge
from embellie_testbed.soak.remains import judge_logs, judge_remains
from embellie_testbed.soak.trail import FLEX, HELD, NEVER, OPERATOR, WATCHDOG

UNLABELLED = "unlabelled work is never written to"
AS_WRITTEN = "what did not opt in is as its user wrote it"
NOTHING_HELD = "uninstalling leaves nothing held"


def test_work_that_did_not_opt_in_and_is_left_alone_breaks_no_promise() -> None:
    log = AuditLog()
    log.job(flex=None, held=False, checkpoint="takes=5s")
    log.job("fixed", flex="rigid", held=False)
    assert judge(log.case()) == []


@pytest.mark.parametrize("flex", [None, "rigid"])
def test_a_write_on_work_that_did_not_opt_in_is_found(flex: str | None) -> None:
    log = AuditLog()
    log.note(log.job(flex=flex, held=False, checkpoint="takes=5s"), 5.0, OPERATOR, pause_by=None)
    assert promises(judge(log.case())) == [UNLABELLED]


def test_a_write_that_the_fence_refused_is_found_too() -> None:
    log = AuditLog()
    job = log.job(flex=None, held=False)
    answer = {"kind": "Status", "message": "ValidatingAdmissionPolicy 'embellie-fence' denied request"}
    log.event(5.0, OPERATOR, "patch", "jobs", job, code=403, answer=answer)
    assert promises(judge(log.case())) == [UNLABELLED]


def test_an_announcement_that_is_taken_back_from_work_that_has_opted_out_is_none() -> None:
    log = AuditLog()
    log.policy()
    job = log.job(held=False, checkpoint="takes=5s", **{"soak.example.com/takes": "5"})
    log.note(job, 5.0, OPERATOR, pause_by="2026-03-01T12:00:10Z")
    log.change(job, 6.0, USER, labels={FLEX: None})
    log.note(job, 7.0, OPERATOR, pause_by=None)
    assert judge(log.case()) == []


def test_unlabelled_work_that_is_held_is_found() -> None:
    log = AuditLog()
    log.job(flex=None, held=True)
    assert AS_WRITTEN in promises(judge(log.case()))


def test_work_that_is_never_held_and_was_is_found() -> None:
    log = AuditLog()
    good_hold(log, **{NEVER: "hook"})
    assert set(promises(judge(log.case()))) == {AS_WRITTEN}


def test_a_copied_note_that_stays_is_found() -> None:
    log = AuditLog()
    good_hold(log, paused_at="2026-01-01T00:00:00Z")
    assert promises(judge(log.case())) == ["copied notes are taken off"]


def test_a_second_release_is_found() -> None:
    log = AuditLog()
    job = good_hold(log)
    log.change(job, 40.0, WATCHDOG, annotations={"embellie.io/released-at": "2026-03-01T12:00:40Z"})
    assert "nothing is released twice" in promises(judge(log.case()))


def test_a_user_who_is_refused_because_of_us_is_found() -> None:
    log = AuditLog()
    answer = {"kind": "Status", "message": "ValidatingAdmissionPolicy 'embellie-fence' denied request"}
    log.event(1.0, USER, "create", "jobs", {"metadata": {"name": "x", "namespace": "team"}}, code=403, answer=answer)
    assert promises(judge(log.case())) == ["nothing is refused because of us"]


def test_an_uninstall_that_leaves_nothing_held_breaks_no_promise() -> None:
    log = AuditLog()
    good_hold(log)
    log.job("newcomer", born=90.0, held=False)
    assert judge(log.case(uninstalled=80.0)) == []


def test_what_waits_after_an_uninstall_is_found() -> None:
    log = AuditLog()
    log.plan(log.job(born=25.0), 26.0, "Held", "CleanerWindow")
    assert promises(judge(log.case(until=30.0, uninstalled=29.0))) == [NOTHING_HELD]


def test_what_lost_its_marker_and_stands_still_after_an_uninstall_is_found() -> None:
    log = AuditLog()
    job = log.job()
    log.plan(job, 1.0, "Held", "CleanerWindow")
    log.change(job, 30.0, WATCHDOG, labels={HELD: None})
    assert promises(judge(log.case(uninstalled=80.0))) == [NOTHING_HELD]


def test_what_its_user_suspends_is_nothing_that_we_hold() -> None:
    log = AuditLog()
    log.change(good_hold(log), 40.0, USER, suspend=True)
    assert judge(log.case(uninstalled=80.0)) == []


def test_new_work_that_is_held_after_an_uninstall_is_found() -> None:
    log = AuditLog()
    job = log.job("newcomer", born=90.0)
    log.release(job, 91.0)
    assert promises(judge(log.case(until=100.0, uninstalled=80.0))) == ["after an uninstall nothing new is held"]


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("Job", {"metadata": {"labels": {HELD: "true"}}}),
        ("Pod", {"spec": {"schedulingGates": [{"name": "embellie.io/hold"}]}}),
        ("Node", {"spec": {"taints": [{"key": "embellie.io/overheated"}]}}),
        ("PowerCap", {"metadata": {"labels": {"app.kubernetes.io/managed-by": "embellie"}}}),
        ("ConfigMap", {"metadata": {"name": "embellie-switch"}}),
        ("ClusterRole", {"metadata": {"labels": {"app.kubernetes.io/instance": "embellie"}}}),
    ],
)
def test_each_trace_of_ours_is_found(kind: str, more: dict[str, Any]) -> None:
    obj = {"kind": kind, "spec": more.get("spec", {}), "metadata": {"name": "x", **more.get("metadata", {})}}
    assert promises(judge_remains([obj], AuditLog().case().trail)) == ["uninstalling leaves nothing of ours"]


def test_a_turn_that_failed_is_found_once_for_each_defect(tmp_path: Path) -> None:
    line = (
        '{"time": "%s", "level": "error", "message": "turn failed", "error": "Traceback: KeyError: 1' + "x" * 99 + '"}'
    )
    (tmp_path / "operator-1.log").write_text('{"message": "leading"}\n' + line % "12:00" + "\n" + line % "12:01" + "\n")
    (tmp_path / "watchdog-2.log").write_text('{"event": "started"}\n')
    assert promises(judge_logs(tmp_path)) == ["no turn ends in a defect of its own"]


def test_what_is_documented_to_stay_and_what_others_have_is_no_trace() -> None:
    anchor = {"kind": "MutatingAdmissionPolicy", "metadata": {"name": "embellie-anchor"}}
    others = {"kind": "Node", "metadata": {"name": "n"}, "spec": {"taints": [{"key": "nvidia.com/gpu"}]}}
    assert judge_remains([anchor, others], AuditLog().case().trail) == []


@pytest.mark.parametrize(("writer", "status", "left"), [
    (OPERATOR, {}, True),
    (OPERATOR, {"conditions": [{"type": "Complete", "status": "True"}]}, False),
    (USER, {}, False),
])  # fmt: skip
def test_an_announcement_of_ours_to_work_that_goes_on_is_a_trace(writer: str, status: Any, left: bool) -> None:
    log = AuditLog()
    job = log.job(held=False)
    log.note(job, 5.0, writer, pause_by="2026-03-01T12:00:10Z")
    said = promises(judge_remains([{**job, "status": status}], log.case().trail))
    assert said == (["uninstalling leaves nothing of ours"] if left else [])
