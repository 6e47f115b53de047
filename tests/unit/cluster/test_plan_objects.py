# SPDX-License-Identifier: Apache-2.0
"""What a WorkloadPlan says, and what it leaves as it was."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from plan_records import NOW, plan_record

from embellie.api.meta import MESSAGE_LENGTH
from embellie.api.workloadplan import WorkloadPlan
from embellie.cluster.plan_objects import PlanRecord, plan_name, plan_object, plan_status
from embellie.domain.reasons import Reason, State
from embellie.domain.snapshot import WorkloadKey, WorkloadKind

KEY = WorkloadKey(namespace="team-a", name="train", kind=WorkloadKind.JOB, uid="u1")
RECORD = plan_record(
    KEY,
    latest_start=NOW + timedelta(hours=24, microseconds=900_000),
    cell="west.hall-1",
    now_g=1000.4,
    waits_on=(("SchedulingGate", "scheduling gate quota.io/wait of another controller"),),
)


def status_of(record: PlanRecord, previous: dict[str, Any] | None = None, now: datetime = NOW) -> dict[str, Any]:
    return plan_status(record, previous or {}, now, 3)


def test_a_plan_is_what_its_published_type_says() -> None:
    plan, status = plan_object(RECORD), status_of(RECORD)
    parsed = WorkloadPlan.model_validate({**plan, "status": status})
    assert parsed.spec.latest_start_time == NOW + timedelta(hours=24), "cut to the second, never rounded up"
    assert parsed.status.emissions_now_grams == 1000
    assert parsed.status.observed_generation == 3
    (reference,) = plan["metadata"]["ownerReferences"]
    assert (reference["apiVersion"], reference["kind"]) == ("batch/v1", "Job")
    (of_pod,) = plan_object(replace(RECORD, key=replace(KEY, kind=WorkloadKind.POD)))["metadata"]["ownerReferences"]
    assert (of_pod["apiVersion"], of_pod["kind"]) == ("v1", "Pod")
    assert (reference["uid"], reference["blockOwnerDeletion"], reference["controller"]) == ("u1", False, False)


def test_what_is_not_known_is_left_out() -> None:
    bare = replace(
        RECORD, cell="", grid_zone="", policy="", planned_start=None, now_g=float("nan"), planned_g=-1.0, energy_wh=0.0
    )
    plan, status = plan_object(bare), status_of(bare)
    assert "policyName" not in plan["spec"]
    assert not {"cellName", "gridZoneName", "plannedStartTime", "emissionsNowGrams", "energyWattHours"} & set(status)
    assert status["emissionsPlannedGrams"] == 0
    WorkloadPlan.model_validate({**plan, "status": status})


def test_since_moves_only_with_the_state_and_the_history_with_state_or_reason() -> None:
    first = status_of(RECORD)
    later = NOW + timedelta(minutes=5)
    again = status_of(replace(RECORD, message="In other words."), first, later)
    assert again["sinceTime"] == first["sinceTime"]
    assert again["history"] == first["history"]
    waiting = status_of(replace(RECORD, reason=Reason.WAITING_FOR_GPUS), again, later)
    assert waiting["sinceTime"] == first["sinceTime"]
    assert [entry["reason"] for entry in waiting["history"]] == ["CleanerWindow", "WaitingForGpus"]
    released = status_of(replace(RECORD, state=State.RELEASED, reason=Reason.BEST_NOW), waiting, later)
    assert released["sinceTime"] == "2026-05-01T12:05:00Z"
    assert len(released["history"]) == 3


def test_the_history_keeps_the_newest_twenty() -> None:
    status: dict[str, Any] = {}
    for number in range(30):
        reason = Reason.CLEANER_WINDOW if number % 2 else Reason.WAITING_FOR_GPUS
        status = status_of(replace(RECORD, reason=reason), status, NOW + timedelta(minutes=number))
    assert [entry["time"] for entry in status["history"]] == [f"2026-05-01T12:{m:02}:00Z" for m in range(10, 30)]


def test_ready_tells_of_annotations_that_cannot_be_read_and_its_time_moves_with_its_status() -> None:
    first = status_of(RECORD)["conditions"]
    later = NOW + timedelta(hours=1)
    same = status_of(RECORD, {"conditions": first}, later)["conditions"]
    assert same == first
    broken = replace(RECORD, problems=("embellie.io/duration: '7 bananas' is not a duration",))
    (condition,) = status_of(broken, {"conditions": first}, later)["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "InvalidAnnotation")
    assert "7 bananas" in condition["message"]
    assert condition["lastTransitionTime"] == "2026-05-01T13:00:00Z"
    (condition,) = status_of(replace(broken, problems=("one is odd", "two is odd")))["conditions"]
    assert condition["message"] == "one is odd; two is odd"


def test_a_long_message_is_cut() -> None:
    message = status_of(replace(RECORD, message="x" * 5000))["message"]
    assert len(message) == MESSAGE_LENGTH


def test_work_that_was_scaled_while_held_is_told_anew_and_the_last_gram_is_not() -> None:
    assert replace(RECORD, gpus=24, now_g=3000.0).signature() != RECORD.signature()
    assert replace(RECORD, now_g=1000.6).signature() == RECORD.signature()


@pytest.mark.parametrize(("name", "expected"), [("train", "job-train"), ("n" * 249, "job-" + "n" * 249)])
def test_a_plan_is_named_after_its_workload(name: str, expected: str) -> None:
    assert plan_name(replace(KEY, name=name)) == expected


def test_names_that_are_too_long_are_cut_and_stay_apart() -> None:
    names = {plan_name(replace(KEY, name="n" * 252 + end)) for end in "ab"}
    assert len(names) == 2
    assert all(len(name) <= 253 for name in names)
