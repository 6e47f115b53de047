# SPDX-License-Identifier: Apache-2.0
"""The demo's record of what really happened, and the Jobs that its feeder submits."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embellie_testbed.demo.feeder import RUN_SECONDS, manifest
from embellie_testbed.demo.record import JobTrack, Record
from embellie_testbed.demo.scenario import DemoJob, Flex


def demo_job(**changes: Any) -> DemoJob:
    values: dict[str, Any] = {
        "name": "itp07-00001",
        "submit": datetime(2022, 9, 5, 13, tzinfo=UTC),
        "duration": timedelta(hours=3),
        "gpus": 32,
        "flex": Flex.PATIENT,
        "max_delay": timedelta(hours=6),
        "stated_duration": timedelta(hours=4, minutes=30),
        "watts_per_gpu": 600,
    }
    return DemoJob(**{**values, **changes})


def recorded(*, flex: str = "patient") -> Record:
    record = Record()
    record.submitted("a", flex=flex, watts_per_gpu=600, now=100.0)
    return record


def job_event(*, held: bool = False, suspend: bool = False, **meta: Any) -> dict[str, Any]:
    labels = {"embellie.io/flex": "patient"} | ({"embellie.io/held": "true"} if held else {})
    return {
        "metadata": {"name": "a", "labels": labels, **meta},
        "spec": {"suspend": suspend, "template": {"spec": {}}},
        "status": {},
    }


def pod_event(name: str, *, node: str = "", phase: str = "Pending", **spec: Any) -> dict[str, Any]:
    container = {"resources": {"requests": {"nvidia.com/gpu": "8"}}}
    return {
        "metadata": {"name": name, "ownerReferences": [{"kind": "Job", "name": "a"}]},
        "spec": {"containers": [container], **({"nodeName": node} if node else {}), **spec},
        "status": {"phase": phase},
    }


def track(record: Record) -> JobTrack:
    return record.jobs["a"]


def test_a_big_gang_becomes_whole_node_pods_that_run_as_long_as_the_trace_says() -> None:
    body = manifest(demo_job(), namespace="training", factor=900.0)
    template = body["spec"]["template"]
    assert (body["spec"]["parallelism"], body["spec"]["completions"]) == (4, 4)
    assert template["spec"]["containers"][0]["resources"]["requests"] == {"nvidia.com/gpu": "8"}
    assert template["metadata"]["annotations"][RUN_SECONDS] == "12.000"
    assert body["metadata"]["labels"] == {"embellie.io/flex": "patient"}
    assert body["metadata"]["annotations"]["embellie.io/max-delay"] == "6h"
    assert body["metadata"]["annotations"]["embellie.io/duration"] == "4h30m"


def test_an_unlabelled_job_carries_nothing_of_ours() -> None:
    body = manifest(demo_job(flex=Flex.UNLABELLED, max_delay=None), namespace="training", factor=900.0)
    keys = [*body["metadata"]["labels"], *body["metadata"]["annotations"]]
    keys += body["spec"]["template"]["metadata"]["annotations"]
    assert not [key for key in keys if key.startswith("embellie.io/")]


def test_the_release_is_the_moment_in_which_the_marker_goes() -> None:
    record = recorded()
    record.apply_job("ADDED", job_event(held=True, suspend=True), 100.1)
    assert track(record).holding
    record.apply_job("MODIFIED", job_event(held=True, suspend=True), 101.0)
    assert track(record).released is None
    record.apply_job("MODIFIED", job_event(), 103.5)
    record.apply_job("MODIFIED", job_event(), 104.0)
    assert track(record).released == 103.5
    assert not track(record).holding


def test_a_gang_has_started_when_its_last_pod_runs() -> None:
    record = recorded()
    record.apply_pod("ADDED", pod_event("a-0"), 101.0)
    record.apply_pod("ADDED", pod_event("a-1"), 101.0)
    record.apply_pod("MODIFIED", pod_event("a-0", node="west-01", phase="Running"), 102.0)
    assert track(record).started is None
    record.apply_pod("MODIFIED", pod_event("a-1", node="west-02", phase="Running"), 105.0)
    assert track(record).started == 105.0
    record.apply_pod("MODIFIED", pod_event("a-0", node="west-01", phase="Succeeded"), 110.0)
    assert [p.finished for p in track(record).pods.values()] == [110.0, None]
    assert [p.gpus for p in track(record).pods.values()] == [8, 8]


def test_events_about_work_that_is_not_of_the_demo_are_ignored() -> None:
    record = recorded()
    stranger = pod_event("x")
    stranger["metadata"]["ownerReferences"][0]["name"] = "somebody-elses"
    record.apply_pod("ADDED", stranger, 101.0)
    record.apply_plan("ADDED", {"spec": {"workloadRef": {"name": "somebody-elses"}}, "status": {"state": "Held"}}, 1.0)
    assert track(record).pods == {}
    assert record.spoken == []


@pytest.mark.parametrize(
    "job",
    [
        job_event(held=True),
        job_event(suspend=True),
        job_event(annotations={"embellie.io/released-at": "2022-09-05T13:00:00Z"}),
    ],
)
def test_a_trace_of_ours_on_an_unlabelled_job_is_noticed(job: dict[str, Any]) -> None:
    job["metadata"]["labels"].pop("embellie.io/flex")
    record = recorded(flex="")
    record.apply_job("ADDED", job, 100.2)
    assert track(record).touched


@pytest.mark.parametrize(
    "spec", [{"affinity": {"nodeAffinity": {}}}, {"schedulingGates": [{"name": "embellie.io/hold"}]}]
)
def test_a_trace_of_ours_on_an_unlabelled_jobs_pod_is_noticed(spec: dict[str, Any]) -> None:
    record = recorded(flex="")
    record.apply_pod("ADDED", pod_event("a-0"), 100.2)
    assert not track(record).touched
    record.apply_pod("MODIFIED", pod_event("a-0", **spec), 100.3)
    assert track(record).touched


def test_only_a_changed_decision_is_spoken_again() -> None:
    record = recorded()
    plan = {
        "spec": {"workloadRef": {"name": "a"}, "latestStartTime": "2022-09-05T19:00:00Z"},
        "status": {"state": "Held", "reason": "CleanerWindow", "message": "Waits."},
    }
    record.apply_plan("ADDED", plan, 101.0)
    record.apply_plan("MODIFIED", plan, 102.0)
    released = {**plan, "status": {"state": "Released", "reason": "BestNow", "message": "Starts."}}
    record.apply_plan("MODIFIED", released, 103.0)
    assert [(s.received, s.state) for s in record.spoken] == [(101.0, "Held"), (103.0, "Released")]
    assert track(record).latest_start == datetime(2022, 9, 5, 19, tzinfo=UTC)
