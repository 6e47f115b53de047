# SPDX-License-Identifier: Apache-2.0
"""What `why` and `plan` say: the explanation, the table and its last line."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from embellie.cli.explain import explain
from embellie.cli.rows import columns, rows_of, summary
from embellie.cluster.catalogue import deadline_moved_back
from embellie.domain import names
from embellie.domain.reasons import Reason, State
from embellie.domain.snapshot import WorkloadKey, WorkloadKind

KEY = WorkloadKey(namespace="team-a", name="train", kind=WorkloadKind.JOB, uid="u")
NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def at(hours: float) -> str:
    return (NOW + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


def job(*, suspend: bool = True, held: bool = False, flex: str | None = "patient", **more: Any) -> dict[str, Any]:
    labels = ({names.FLEX_LABEL: flex} if flex else {}) | ({names.HELD_LABEL: "true"} if held else {})
    meta = {"name": "train", "namespace": "team-a", "uid": "u", "labels": labels | more.pop("labels", {})}
    meta |= {"creationTimestamp": at(-2), "annotations": more.pop("annotations", {}), **more.pop("metadata", {})}
    return {"kind": "Job", "metadata": meta, "spec": {"suspend": suspend}, "status": {}, **more}


def plan(state: State | None = State.HELD, reason: Reason = Reason.CLEANER_WINDOW, **status: Any) -> dict[str, Any]:
    full = {
        "state": state,
        "reason": reason,
        "message": "Cleaner hours come tonight.",
        "sinceTime": at(-2),
        "gridZoneName": "west",
        "plannedStartTime": at(14),
        "likelyStartP50Time": at(14),
        "likelyStartP90Time": at(16.5),
        "emissionsNowGrams": 4100,
        "emissionsPlannedGrams": 2900,
        "emissionsPlannedLowGrams": 2400,
        "emissionsPlannedHighGrams": 3500,
    }
    spec = {"workloadRef": {"uid": "u"}, "latestStartTime": at(22), "policyName": "p", "mode": "enforce"}
    return {"spec": spec, "status": full | status if state else {}}


def pending(message: str, **spec: Any) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"kind": "Pod", "metadata": {"name": "p"}, "spec": spec, "status": {"conditions": [condition]}}


def say(plan: Any, workload: Any, pods: Any = (), events: Any = ()) -> list[str]:
    lines = explain(plan, workload, pods, events, now=NOW, zone=UTC)
    assert 1 <= len(lines) <= 6
    assert all("\n" not in line and line for line in lines)
    return lines


def test_a_held_job_is_explained_in_six_lines() -> None:
    window = "2.9 kg (2.4 kg to 3.5 kg) in the best window at Thu 02:00 UTC: 29 % less."
    assert say(plan(), job(held=True)) == [
        "job/train in team-a is held since 10:00 UTC (2h ago).",
        "Why: Cleaner hours come tonight. (CleanerWindow)",
        f"Emissions: 4.1 kg CO2e if started now, {window}",
        "Likely start: Thu 02:00 UTC (P50, in 14h), by Thu 04:30 UTC in nine cases of ten (P90), in zone west.",
        "Latest start, guaranteed: Thu 10:00 UTC (in 22h).",
        "Start it now: kubectl embellie go job/train -n team-a",
    ]


def test_all_times_of_an_answer_are_in_one_zone_and_what_the_user_wrote_stays_as_it_is() -> None:
    paris = ZoneInfo("Europe/Paris")
    stands = plan(message="At 2026-07-02 02:00 UTC, at the latest 2026-07-09 10:00 UTC, not '2026-07-02 02:00 UTC'.")
    told = "At Thu 04:00 CEST, at the latest 2026-07-09 12:00 CEST, not '2026-07-02 02:00 UTC'."
    assert explain(stands, job(held=True), now=NOW, zone=paris)[1] == f"Why: {told} (CleanerWindow)"
    assert columns(rows_of([job(held=True)], [stands]), now=NOW, zone=paris, wide=True)[1][0][-1] == told
    assert say(plan(message="Not before 2026-13-41 99:99 UTC."), job(held=True))[1].count("2026-13-41 99:99 UTC")


def test_a_paused_job_is_not_said_to_be_released_in_a_moment_or_to_lack_a_forecast() -> None:
    stands = plan(State.PAUSED, Reason.HEAT_PAUSE, message="Paused because west has to make less heat.")
    said = say({**stands, "spec": {**stands["spec"], "latestStartTime": at(-2)}}, job(held=True))
    assert said == [
        "job/train in team-a is paused since 10:00 UTC (2h ago).",
        "Why: Paused because west has to make less heat. (HeatPause)",
        "Start it now, against the limit: kubectl embellie go job/train -n team-a",
    ]


def test_a_running_job_that_was_told_to_write_its_checkpoint_says_by_when() -> None:
    told = job(suspend=False, annotations={names.RELEASED_AT: at(-1), names.PAUSE_BY: at(0.5)})
    assert say(plan(State.RELEASED, Reason.BEST_NOW), told)[-1] == (
        "Its zone has to make less heat: once its checkpoint is written, at the latest 12:30 UTC, it is paused."
    )


def test_what_cannot_be_used_is_told_once_also_where_a_limit_holds() -> None:
    unread = "annotation embellie.io/deadline: 'tomorrow' is not an instant with a time zone"
    ready = {"type": "Ready", "status": "False", "reason": "InvalidAnnotation", "message": unread}
    limited = plan(State.HELD_BY_LIMIT, Reason.HEAT_LIMIT, message="It is hot.", conditions=[ready])
    assert say(limited, job(held=True))[1] == f"Why: It is hot. (HeatLimit) To mend: {unread}."
    told = plan(message=f"It starts at once: {unread}.", conditions=[ready])
    assert say(told, job(held=True))[1].count("tomorrow") == 1
    fine = plan(conditions=[{**ready, "reason": "Planned", "message": "The plan is current."}])
    assert say(fine, job(held=True))[1] == "Why: Cleaner hours come tonight. (CleanerWindow)"


def test_a_quota_that_pods_we_hold_count_in_is_not_said_to_be_none_of_our_doing() -> None:
    work = job(suspend=False, flex="rigid")
    for held_pods, said in ((3, "Embellie holds 3 pods here, which count in quotas"), (0, "None of this is Embellie")):
        last = explain(None, work, [], [QUOTA], now=NOW, zone=UTC, held_pods=held_pods)[-1]
        assert "exceeded quota: gpus" in last
        assert said in last
    blocked = explain(None, work, [pending("no node matched")], [], now=NOW, zone=UTC, held_pods=3)[-1]
    assert "None of this is Embellie's doing" in blocked, "a node's room is not in a quota"


QUOTA = {"message": 'pods "x" is forbidden: exceeded quota: gpus, requested: 8', "lastTimestamp": at(-1)}


@pytest.mark.parametrize(
    ("plan", "workload", "pods", "events", "says"),
    [
        (None, job(held=True), [], [], ["no decision is recorded yet", "embellie-heartbeat", "embellie go job/train"]),
        (plan(None), job(held=True), [], [], ["no decision is recorded yet"]),
        (plan(emissionsNowGrams=None), job(held=True), [], [], ["no usable forecast"]),
        (plan(emissionsNowGrams=0), job(held=True), [], [], ["0 g CO2e if started now"]),
        (plan(emissionsPlannedGrams=8200), job(held=True), [], [], ["100 % more"]),
        (
            plan(State.HELD_BY_LIMIT, Reason.LIMIT_READING) | {"spec": {"latestStartTime": at(-1)}},
            job(held=True),
            [],
            [],
            ["past its latest start", "Latest start was 11:00 UTC; only a fresh reading"],
        ),
        (plan() | {"spec": {"latestStartTime": at(-1)}}, job(held=True), [], [], ["it is being released"]),
        (plan(State.SHADOW, Reason.WOULD_HOLD), job(suspend=False), [], [], ["mode shadow", "(WouldHold)"]),
        (plan(State.HANDED_OFF, Reason.STARTED_BY_OTHER), job(suspend=False), [], [], ["not in Embellie's hands"]),
        (
            plan(State.HANDED_OFF, Reason.SUSPENDED_BY_OTHER),
            job(),
            [],
            [],
            ["not in Embellie's hands", "its own suspension", "None of this is Embellie's doing"],
        ),
        (
            plan(State.RELEASED, Reason.BEST_NOW, message="No later start is cleaner."),
            job(suspend=False, annotations={names.RELEASED_AT: at(-1), names.RELEASE_REASON: "BestNow"}),
            [pending("0/4 nodes are available: 4 Insufficient nvidia.com/gpu.")] * 2,
            [],
            ["is released since 11:00 UTC", "No later start is cleaner.", "the scheduler, for 2 pods: 0/4 nodes"],
        ),
        (plan(State.RELEASED, Reason.BEST_NOW), job(suspend=False), [], [], ["is released since 10:00 UTC"]),
        (
            plan(),
            job(suspend=False, annotations={names.RELEASED_AT: at(-1), names.RELEASE_REASON: "OperatorLost"}),
            [],
            [],
            ["the watchdog released it", "(OperatorLost)"],
        ),
        (
            plan(),
            job(suspend=False, annotations={names.RELEASED_AT: "7 bananas", names.RELEASE_REASON: "x" * 500}),
            [],
            [],
            ["is released."],
        ),
        (plan(), job(suspend=False, annotations={names.GO: "ada"}), [], [], ["started by hand by ada"]),
        (plan(), job(suspend=False, annotations={names.GO: ""}), [], [], ["started by hand with kubectl"]),
        (
            plan(State.HANDED_OFF, Reason.STARTED_BY_OTHER),
            job(suspend=False, annotations={names.GO: "ada"}),
            [],
            [],
            ["started by hand by ada"],
        ),
        (
            plan(State.HANDED_OFF, Reason.SUSPENDED_BY_OTHER),
            job(annotations={names.GO: "ada"}),
            [],
            [],
            ["not in Embellie's hands", "its own suspension"],
        ),
        (plan(), job(suspend=False), [], [], ["is not held any more"]),
        (None, job(suspend=False, flex=None), [], [], ["has not opted in", "embellie.io/flex: patient"]),
        (None, job(suspend=False, flex="bananas"), [], [], ["must be patient or bonus"]),
        (None, job(suspend=False, flex="rigid"), [], [], ["is rigid", "never holds it"]),
        (None, job(suspend=False), [], [], ["nothing is recorded about it", "get energypolicies"]),
        (None, job(flex=None), [], [], ["its own suspension"]),
        (
            None,
            job(metadata={"ownerReferences": [{"kind": "CronJob", "name": "nightly"}]}),
            [],
            [],
            ["belongs to CronJob/nightly"],
        ),
        (
            None,
            job(suspend=False, flex=None, metadata={"ownerReferences": [{"kind": "RayJob", "name": "tune"}]}),
            [],
            [],
            ["belongs to RayJob/tune"],
        ),
        (None, job(labels={"kueue.x-k8s.io/queue-name": "gpus"}), [], [], ["Kueue decides", "Kueue queue gpus"]),
        (None, job(flex=None, labels={"kueue.x-k8s.io/queue-name": "gpus"}), [], [], ["Kueue decides"]),
        (
            None,
            job(suspend=False) | {"spec": {"managedBy": "kueue.x-k8s.io/multikueue"}},
            [],
            [],
            ["is run by kueue.x-k8s.io/multikueue (spec.managedBy)", "Embellie does not hold it"],
        ),
        (
            None,
            job(suspend=False, annotations={"helm.sh/hook": "post-install"}),
            [],
            [],
            ["is a hook (helm.sh/hook)", "Embellie does not hold it"],
        ),
        (plan(), job(held=True), [], [QUOTA], ["quota: pods", "exceeded quota: gpus", "embellie go"]),
        (
            None,
            job(suspend=False),
            [],
            [QUOTA, {**QUOTA, "message": "exceeded quota: b", "lastTimestamp": at(0)}],
            ["quota: exceeded quota: b"],
        ),
        (
            plan(waitsOn=[{"kind": "SchedulingGate", "message": "scheduling gate a.io/g of another controller"}]),
            job(held=True),
            [],
            [],
            ["Also waits for: scheduling gate a.io/g"],
        ),
        (None, job(), [], [], ["created suspended", "its own suspension"]),
    ],
)
def test_every_case_says_what_a_person_needs(plan: Any, workload: Any, pods: Any, events: Any, says: Any) -> None:
    text = "\n".join(say(plan, workload, pods, events))
    for part in says:
        assert part in text


def test_pods_that_cannot_be_created_are_told_until_there_is_one() -> None:
    text = 'pods "train-" is forbidden: no PriorityClass with name high was found'
    refused = {"reason": "FailedCreate", "message": text, "lastTimestamp": at(-1)}
    other = {"reason": "FailedMount", "message": "no such volume", "lastTimestamp": at(0)}
    last = say(None, job(suspend=False), [], [other, refused])[-1]
    assert f"It waits for: its pods, which are refused: {text}." in last
    assert not any("PriorityClass" in line for line in say(None, job(), [], [refused]))
    running = {"kind": "Pod", "metadata": {"name": "p"}, "status": {"phase": "Running"}}
    assert not any("PriorityClass" in line for line in say(None, job(suspend=False), [running], [refused]))


def test_what_has_finished_waits_for_nothing() -> None:
    for end, told in (("Complete", "has finished."), ("Failed", "has failed (DeadlineExceeded).")):
        ended = {"type": end, "status": "True", "reason": "DeadlineExceeded"}
        said = say(plan(), job(suspend=False, status={"conditions": [ended]}), [], [QUOTA])
        assert said[0].endswith(told)
        assert not any("waits for" in line for line in said)
        assert not any(line.startswith("Why: ") for line in said), "its plan does not know why it ended so"
        assert said[1].startswith("What Embellie decided: ")


def test_held_work_whose_plan_is_refused_says_why_it_waits_and_what_refuses() -> None:
    held = {"reason": "Held", "message": "Waits for cleaner hours in west.", "eventTime": at(-1)}
    quota = "exceeded quota: q, requested: count/workloadplans.embellie.io=1"
    refused = {"reason": "PlanRefused", "message": f"Its WorkloadPlan was refused: {quota}", "eventTime": at(-1)}
    lines = say(plan(None), job(held=True), [], [held, refused])
    started = "Embellie starts it all the same, and if the operator is lost the watchdog does."
    refusal = f"Its WorkloadPlan was refused: {quota}. {started}"
    assert lines[1:3] == ["Why: Waits for cleaner hours in west.", refusal]
    assert lines[3].startswith("Start it now: "), "no quota of its pods stands against it"
    assert "A decision comes within one turn" in " ".join(say(plan(None), job(held=True), [], [held]))


@pytest.mark.parametrize(("kept_h", "told"), [(22, True), (30, False)], ids=["it stands", "an earlier one came since"])
def test_a_refused_later_deadline_is_told_beside_the_bound_that_stays(kept_h: int, told: bool) -> None:
    event = deadline_moved_back(KEY, NOW + timedelta(hours=40), NOW + timedelta(hours=kept_h))
    bound = say(plan(), job(held=True), [], [{"reason": event.reason, "note": event.note, "eventTime": at(-1)}])[4]
    more = " The latest start only ever moves earlier: Thu 10:00 UTC stays, Fri 04:00 UTC is refused. To wait longer, "
    assert bound == "Latest start, guaranteed: Thu 10:00 UTC (in 22h)." + told * f"{more}create the workload again."


def test_held_work_that_is_being_deleted_is_not_said_to_wait_and_who_keeps_it_is_named() -> None:
    going = {"deletionTimestamp": at(0), "finalizers": ["example.com/backup"]}
    (line,) = say(plan(), job(held=True, metadata=going), [], [QUOTA])
    assert line == "job/train in team-a is being deleted, and kept by example.com/backup (metadata.finalizers)."
    (line,) = say(plan(), job(metadata={"deletionTimestamp": at(0)}))
    assert line == "job/train in team-a is being deleted."


def test_what_kueue_has_let_start_waits_for_no_queue() -> None:
    queue = {"kueue.x-k8s.io/queue-name": "gpus"}
    assert len(say(None, job(suspend=False, labels=queue))) == 1
    pod = job(labels=queue) | {"kind": "Pod", "spec": {}}
    assert len(say(None, pod)) == 1
    gated = {"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}
    assert "Kueue queue gpus" in say(None, pod | {"spec": gated})[-1]


def test_a_held_pod_names_foreign_gates_once_and_not_our_own() -> None:
    gates = [{"name": names.GATE}, {"name": "other.io/g"}]
    pod = job(held=True) | {"kind": "Pod", "spec": {"schedulingGates": gates}}
    waits = [{"kind": "SchedulingGate", "message": "scheduling gate other.io/g of another controller"}]
    last = say(plan(waitsOn=waits), pod)[-1]
    assert last.count("other.io/g") == 1
    assert names.GATE not in last
    assert "embellie go pod/train" in last


def test_the_schedulers_words_are_not_told_while_we_hold() -> None:
    assert "scheduler" not in "\n".join(say(plan(), job(held=True), [pending("no nodes")]))


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("held", [True, False])
def test_no_state_and_reason_make_more_than_six_lines(state: State, reason: Reason, held: bool) -> None:
    workload = job(held=held, labels={"kueue.x-k8s.io/queue-name": "q"})
    say(plan(state, reason, message="many words\n" * 100), workload, [pending("x" * 5000)], [QUOTA])
    say(plan(state, reason, message=None, sinceTime=None, plannedStartTime="7 bananas"), workload)


def test_the_table_is_oldest_first_and_counts_gpus_without_a_plan() -> None:
    limits = {"resources": {"limits": {names.GPU_RESOURCE: "8"}}}
    young = job(held=True, metadata={"creationTimestamp": at(-1), "name": "young", "uid": "v"})
    young["spec"] |= {"parallelism": 4, "completions": 2, "template": {"spec": {"containers": [limits, {}]}}}
    old = job(held=True)
    rows = rows_of([young, old], [plan(gpus=3)])
    header, lines = columns(rows, now=NOW, zone=UTC, wide=False)
    assert [line[0] for line in lines] == ["team-a/train", "team-a/young"]
    assert lines[0] == ["team-a/train", "Job", "3", "Held", "CleanerWindow", "Thu 02:00 UTC", "Thu 10:00 UTC", "west"]
    assert lines[1][2:5] == ["16", "Held", "NoPlanYet"]
    wide_header, wide = columns(rows, now=NOW, zone=UTC, wide=True)
    assert wide_header[: len(header)] == header
    assert all(len(line) == len(wide_header) for line in wide)
    assert summary(rows, where="namespace team-a", shadowed=2).startswith(
        "2 held in namespace team-a, 19 GPUs: 1 CleanerWindow, 1 NoPlanYet. 2 more"
    )
    assert rows[0].as_json()["latestStart"].startswith("2026-07-02T10:00:00")


def test_nothing_held_is_said_in_a_sentence() -> None:
    assert summary([], where="all namespaces", shadowed=0) == "Nothing is held in any namespace."
    assert "1 workload is only watched" in summary([], where="namespace team-a", shadowed=1)


def test_the_schedulers_words_end_with_one_full_stop() -> None:
    words = say(None, job(suspend=False), [pending("0/4 nodes are available.")])[-1]
    assert words.endswith("0/4 nodes are available. None of this is Embellie's doing.")


def test_what_no_zone_may_take_is_not_called_somebody_elses_doing() -> None:
    released = plan(State.RELEASED, Reason.RESIDENCY_UNSATISFIED)
    text = " ".join(say(released, job(suspend=False), [pending("no node matched")]))
    assert "no node matched" in text
    assert "None of this" not in text


@pytest.mark.parametrize(
    ("annotations", "says"),
    [
        ({names.RELEASED_AT: at(-1), names.CELL: "west.hall-1"}, "Embellie let it start in west.hall-1 only."),
        ({names.RELEASED_AT: at(-1), names.RESIDENCY: "FR"}, "Embellie keeps it in FR (embellie.io/residency)."),
        ({names.GO: "ann", names.RESIDENCY: "FR"}, "Embellie keeps it in FR (embellie.io/residency)."),
        ({names.RELEASED_AT: at(-1)}, "None of this is Embellie's doing."),
        ({names.CELL: "copied"}, "None of this is Embellie's doing."),
    ],
)
def test_where_embellie_confined_what_started_it_does_not_deny_it(annotations: dict[str, str], says: str) -> None:
    words = say(None, job(suspend=False, annotations=annotations), [pending("0/4 nodes are available.")])[-1]
    assert words.endswith(says)


def test_of_a_pod_its_job_is_to_be_asked() -> None:
    pod = pending("0/4 nodes are available.")
    pod["metadata"] |= {"namespace": "team-a", "ownerReferences": [{"kind": "Job", "name": "train"}]}
    text = " ".join(say(None, pod))
    assert "belongs to Job/train" in text
    assert "kubectl embellie why job/train -n team-a" in text
    assert "None of this" not in text


def test_a_start_that_was_planned_for_a_moment_ago_is_not_told_as_likely() -> None:
    line = next(line for line in say(plan(likelyStartP50Time=at(-0.01)), job(held=True)) if "Likely start" in line)
    assert line.startswith("Likely start: any moment (P50), by Thu 04:30 UTC in nine cases of ten (P90)")


def test_what_others_wrote_moves_no_cursor() -> None:
    said = say(plan(message="soon\x1b[2J\x07 \u202eno"), job(held=True))
    assert said[1] == "Why: soon?[2J? ?no (CleanerWindow)"
