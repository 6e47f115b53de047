# SPDX-License-Identifier: Apache-2.0
"""The one patch by which the watchdog releases, its words, its order and its pace."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embellie.domain import names as domain_names
from embellie.domain.reasons import Reason
from embellie.watchdog import names
from embellie.watchdog.events import workload_event
from embellie.watchdog.release import JOB, POD, Held, is_held, release_patch
from embellie.watchdog.sweep import in_order, rate_per_second

WALL = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def job(name: str = "train", *, suspend: bool = True, marker: str | None = "true", **meta: Any) -> Held:
    labels = {"embellie.io/flex": "patient"} | ({names.HELD_LABEL: marker} if marker else {})
    metadata = {"namespace": "team-a", "name": name, "uid": f"uid-{name}", "resourceVersion": "7", "labels": labels}
    spec = {"suspend": suspend, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}
    return Held(kind=JOB, obj={"metadata": {**metadata, **meta}, "spec": spec})


def pod(gates: list[str]) -> Held:
    labels = {names.HELD_LABEL: "true"}
    metadata = {"namespace": "team-a", "name": "p", "uid": "u", "resourceVersion": "9", "labels": labels}
    return Held(kind=POD, obj={"metadata": metadata, "spec": {"schedulingGates": [{"name": g} for g in gates]}})


def test_its_own_constants_equal_those_of_the_domain() -> None:
    for name in (
        "GROUP", "VERSION", "HELD_LABEL", "GATE", "RESIDENCY", "RELEASED_AT", "RELEASE_REASON", "OVERHEATED",
        "MANAGED_BY_LABEL", "FIELD_MANAGER", "KUEUE_QUEUE_LABEL", "MOST_ANNOTATION_BYTES", "FLEX_LABEL",
        "CHECKPOINT", "PAUSE_BY",
    ):  # fmt: skip
        assert getattr(names, name) == getattr(domain_names, name)
    for name in ("OPERATOR_LOST", "UNINSTALLED", "RELEASED_BY_ADMIN"):
        assert getattr(names, name) == Reason[name].value


def test_without_the_marker_an_object_is_not_ours() -> None:
    assert is_held(job().obj)
    assert not is_held(job(marker=None).obj)
    assert not is_held(job(marker="false").obj)


def test_a_job_is_released_by_one_patch_that_guards_before_it_writes() -> None:
    operations = release_patch(job(), {names.RELEASE_REASON: "OperatorLost"})
    assert [o["op"] for o in operations] == ["test", "test", "test", "add", "remove", "add", "add"]
    assert operations[:3] == [
        {"op": "test", "path": "/metadata/uid", "value": "uid-train"},
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "test", "path": "/metadata/labels/embellie.io~1held", "value": "true"},
    ]
    assert {"op": "add", "path": "/spec/suspend", "value": False} in operations
    assert {
        "op": "add",
        "path": "/metadata/annotations/embellie.io~1release-reason",
        "value": "OperatorLost",
    } in operations


def test_only_our_own_gate_is_removed_wherever_it_stands() -> None:
    operations = release_patch(pod(["other.io/gate", names.GATE]), {})
    assert {"op": "test", "path": "/spec/schedulingGates/1/name", "value": names.GATE} in operations
    assert [o["path"] for o in operations if o["op"] == "remove"] == [
        "/spec/schedulingGates/1",
        "/metadata/labels/embellie.io~1held",
    ]


@pytest.mark.parametrize("started", [job(suspend=False), pod(["other.io/gate"])])
def test_what_another_hand_started_only_loses_the_marker(started: Held) -> None:
    operations = release_patch(started, {names.RELEASE_REASON: "OperatorLost"})
    assert [o["path"] for o in operations if o["op"] != "test"] == ["/metadata/labels/embellie.io~1held"]


def test_a_job_in_a_kueue_queue_only_loses_the_marker_and_is_kueues_to_start() -> None:
    queued = job()
    queued.obj["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "gpus"
    operations = release_patch(queued, {names.RELEASE_REASON: "OperatorLost"})
    assert [o["path"] for o in operations if o["op"] != "test"] == ["/metadata/labels/embellie.io~1held"]


def test_a_pod_in_a_kueue_queue_loses_our_gate_and_keeps_kueues() -> None:
    queued = pod([names.GATE, "kueue.x-k8s.io/admission"])
    queued.obj["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "gpus"
    paths = [o["path"] for o in release_patch(queued, {}) if o["op"] == "remove"]
    assert paths == ["/spec/schedulingGates/0", "/metadata/labels/embellie.io~1held"]


def test_existing_annotations_are_kept() -> None:
    operations = release_patch(job(annotations={"mine": "1"}), {"a": "b"})
    assert {"op": "add", "path": "/metadata/annotations", "value": {}} not in operations


def test_work_whose_own_annotations_leave_no_room_for_ours_is_released_without_them() -> None:
    full = {"mine": "ä" * ((names.MOST_ANNOTATION_BYTES - 10) // 2)}
    operations = release_patch(job(annotations=full), {names.RELEASE_REASON: "OperatorLost"})
    marker = "/metadata/labels/embellie.io~1held"
    assert [o["path"] for o in operations if o["op"] != "test"] == ["/spec/suspend", marker]


def test_work_without_a_plan_goes_first_then_the_earliest_latest_start() -> None:
    held = [job(n, creationTimestamp=f"2026-07-01T0{i}:00:00Z") for i, n in enumerate(["a", "b", "c", "d"])]
    latest = {"uid-a": WALL + timedelta(days=2), "uid-b": WALL + timedelta(days=1)}
    assert [h.name for h in in_order(reversed(held), latest)] == ["c", "d", "b", "a"]


def test_the_pace_brings_all_out_in_time_and_never_crawls() -> None:
    assert rate_per_second(10, 300.0) == 5.0
    assert 10_000 / rate_per_second(10_000, 300.0) < 300.0
    assert rate_per_second(100, -3.0) >= 100.0


def test_an_event_has_what_the_api_server_asks_for_whatever_the_name() -> None:
    long = job("x" * 219 + "-" + "y" * 30)
    event = workload_event(long, reason="ReleasedByWatchdog", note="n" * 2000, identity="i" * 200)
    assert len(event["metadata"]["name"]) <= 253
    assert "-." not in event["metadata"]["name"]
    assert (event["type"], len(event["note"]), len(event["reportingInstance"])) == ("Warning", 1000, 128)
