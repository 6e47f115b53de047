# SPDX-License-Identifier: Apache-2.0
"""The patches that release, as plain data."""

from datetime import UTC, datetime
from typing import Any

import pytest

from embellie.cluster.patches import hand_off_patch, release_patch_job, release_patch_pod
from embellie.domain import names

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
MARKER = "/metadata/labels/embellie.io~1held"


def job(**meta: Any) -> dict[str, Any]:
    return {
        "metadata": {"uid": "u1", "resourceVersion": "7", "labels": {names.HELD_LABEL: "true"}, **meta},
        "spec": {"suspend": True, "template": {"spec": {"containers": []}}},
    }


def pod(*gates: str) -> dict[str, Any]:
    return {
        "metadata": {"uid": "u2", "resourceVersion": "8", "labels": {names.HELD_LABEL: "true"}},
        "spec": {"schedulingGates": [{"name": gate} for gate in gates], "containers": []},
    }


def guards_in(operations: list[dict[str, Any]]) -> dict[str, Any]:
    return {op["path"]: op["value"] for op in operations if op["op"] == "test"}


def test_a_job_release_is_guarded_by_uid_version_marker_and_suspension() -> None:
    operations = release_patch_job(job(), {}, AT, "BestNow", None)
    assert guards_in(operations) == {
        "/metadata/uid": "u1",
        "/metadata/resourceVersion": "7",
        MARKER: "true",
        "/spec/suspend": True,
    }
    assert operations[: len(guards_in(operations))] == [op for op in operations if op["op"] == "test"]


def test_only_our_own_gate_is_removed_wherever_it_stands() -> None:
    operations = release_patch_pod(pod("a.io/first", names.GATE, "z.io/last"), {}, AT, "BestNow", None)
    assert guards_in(operations)["/spec/schedulingGates/1"] == {"name": names.GATE}
    assert [op["path"] for op in operations if op["op"] == "remove"] == ["/spec/schedulingGates/1", MARKER]


def test_a_pod_without_our_gate_gives_no_patch() -> None:
    with pytest.raises(ValueError, match="our gate"):
        release_patch_pod(pod("a.io/first"), {}, AT, "BestNow", None)


def test_missing_annotations_are_created_as_a_map() -> None:
    added = release_patch_job(job(), {}, AT, "BestNow", "west.hall")[-1]
    assert added == {
        "op": "add",
        "path": "/metadata/annotations",
        "value": {
            names.RELEASED_AT: "2026-05-01T12:00:00Z",
            names.RELEASE_REASON: "BestNow",
            names.CELL: "west.hall",
        },
    }


def test_annotations_of_the_user_stay() -> None:
    operations = release_patch_job(job(annotations={"team/a": "b"}), {}, AT, "BestNow", "west")
    paths = [op["path"] for op in operations if op["path"].startswith("/metadata/annotations")]
    assert paths == [f"/metadata/annotations/embellie.io~1{key}" for key in ("released-at", "release-reason", "cell")]


def test_annotations_that_leave_no_room_for_ours_keep_no_work_from_its_start() -> None:
    full = {"team/a": "ä" * ((names.MOST_ANNOTATION_BYTES - 60) // 2), names.CELL: "east"}
    operations = release_patch_job(job(annotations=full), {}, AT, "BestNow", "west")
    written = [(op["op"], op["path"]) for op in operations if op["op"] != "test"]
    gone = ("remove", "/metadata/annotations/embellie.io~1cell")
    assert written == [("replace", "/spec/suspend"), ("remove", MARKER), gone], "the copied cell is no note of ours"


def test_a_cell_copied_from_another_manifest_goes_when_none_is_given() -> None:
    operations = release_patch_job(job(annotations={names.CELL: "east"}), {}, AT, "BestNow", None)
    assert {"op": "remove", "path": "/metadata/annotations/embellie.io~1cell"} in operations


def test_without_placement_the_affinity_is_not_written() -> None:
    assert not [op for op in release_patch_job(job(), {}, AT, "BestNow", None) if "affinity" in op["path"]]


def test_taking_the_marker_off_changes_nothing_else() -> None:
    assert [op["path"] for op in hand_off_patch(job()) if op["op"] != "test"] == [MARKER]


def test_a_pod_that_is_handed_over_loses_our_gate_with_the_marker_and_no_other_gate() -> None:
    operations = hand_off_patch(pod("kueue.x-k8s.io/admission", names.GATE))
    assert guards_in(operations)["/spec/schedulingGates/1"] == {"name": names.GATE}
    assert [op["path"] for op in operations if op["op"] != "test"] == ["/spec/schedulingGates/1", MARKER]
