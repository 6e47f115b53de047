# SPDX-License-Identifier: Apache-2.0
"""Which plans are written first where there is no time for all of them."""

from dataclasses import replace
from datetime import timedelta

from plan_records import NOW, plan_record

from embellie.cluster.plan_objects import PlanRecord
from embellie.cluster.plans import News, in_turns
from embellie.domain.reasons import Reason, State
from embellie.domain.snapshot import WorkloadKey, WorkloadKind


def record(name: str, state: State = State.HELD, hours: int = 0) -> PlanRecord:
    key = WorkloadKey(namespace="lab", name=name, kind=WorkloadKind.JOB, uid=name)
    made = plan_record(key, state=state, planned_start=NOW + timedelta(hours=hours))
    return replace(made, reason=Reason.BOUND_REACHED) if state is State.RELEASED else made


def kind_of(record_: PlanRecord) -> News:
    return News[record_.key.name.rpartition("-")[0]]


def order(*names_: str) -> list[str]:
    return [r.key.name for r in in_turns([record(name) for name in names_], kind_of)]


def test_a_first_answer_is_not_kept_back_by_releases_without_end():
    crowd = [f"RELEASE-{number}" for number in range(1000)]
    assert "FIRST_ANSWER-0" in order(*crowd, "FIRST_ANSWER-0")[:2]


def test_a_changed_answer_is_not_kept_back_by_releases_and_new_work_without_end():
    crowd = [f"{kind}-{number}" for number in range(1000) for kind in ("RELEASE", "FIRST_ANSWER")]
    assert "OTHER_ANSWER-0" in order(*crowd, "OTHER_ANSWER-0")[:3]


def test_new_numbers_come_after_all_news():
    mixed = order("NUMBERS-0", "FIRST_ANSWER-0", "NUMBERS-1", "RELEASE-0", "RELEASE-1", "OTHER_ANSWER-0")
    assert [name for name in mixed if name.startswith("NUMBERS")] == mixed[-2:]


def test_each_record_is_written_once_and_of_each_kind_the_latest_start_first():
    records = [record(f"{kind}-{hour}", hours=hour) for hour in (3, 9, 1) for kind in ("RELEASE", "NUMBERS")]
    assert [r.key.name for r in in_turns(records, kind_of)] == [
        "RELEASE-9", "RELEASE-3", "RELEASE-1", "NUMBERS-9", "NUMBERS-3", "NUMBERS-1",
    ]  # fmt: skip
