# SPDX-License-Identifier: Apache-2.0
"""What is written to a Job and its pods when a pause is announced, taken back and carried out."""

import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from embellie.cluster.client import ApiError
from embellie.cluster.pauses import Pauser
from embellie.domain.times import format_time
from embellie_testbed.views import NOW, job, running_pod


class Api:
    """Answers reads with one Job, and keeps what was patched; pods whose names begin with `lost` give no answer."""

    def __init__(self, **annotations: str) -> None:
        self.annotations = {f"embellie.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
        self.patched: list[str] = []

    suspended = False

    def get(self, path: str) -> dict[str, Any]:  # noqa: ARG002 - that of KubeClient
        meta = {"resourceVersion": "1", "annotations": self.annotations}
        return {"metadata": meta, "spec": {"suspend": self.suspended}}

    def json_patch(self, path: str, operations: list[dict[str, Any]]) -> None:
        name = path.rpartition("/")[2]
        if name.startswith("lost"):
            raise ApiError(503, "ServiceUnavailable", "try later")
        self.patched.append(f"{operations[-1]['op']} {name}")
        self.operations = operations


def test_a_job_is_told_only_once_all_of_its_pods_that_listen_were() -> None:
    train = job(held=False)
    pods = [running_pod(name, "west-0") for name in ("one", "lost")]
    api: Any = Api()
    with pytest.raises(ApiError):
        Pauser(api).announce(train.key, NOW, pods)
    assert api.patched == ["add one", "remove one"], "what was told is taken back, until the next turn tries again"
    assert Pauser(api).announce(train.key, NOW, pods[:1])
    assert api.patched[2:] == ["add one", "add train"]


def test_all_pods_of_a_job_are_told_at_about_the_same_time() -> None:
    together = threading.Barrier(8, timeout=10.0)
    api: Any = Api()
    told = api.json_patch

    def wait_for_the_others(path: str, operations: list[dict[str, Any]]) -> None:
        if "/pods/" in path:
            together.wait()
        told(path, operations)

    api.json_patch = wait_for_the_others
    pods = [running_pod(f"pod-{i}", "west-0") for i in range(8)]
    assert Pauser(api).announce(job(held=False).key, NOW, pods)
    assert api.patched[-1] == "add train", "the last word is the Job's"


def test_pods_that_are_slow_to_be_told_do_not_keep_a_turn_from_its_heartbeat_nor_a_pause_from_coming(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("embellie.cluster.pauses.TELL_WITHIN_S", 0.05)
    api: Any = Api()
    write = api.json_patch

    def slowly(*request: Any) -> None:
        time.sleep(0.1)
        write(*request)

    api.json_patch = slowly
    train, left = job(held=False), [running_pod(f"pod-{i}", "west-0") for i in range(40)]
    began, turns = time.monotonic(), 0
    announced = False
    while not announced:
        announced = Pauser(api).announce(train.key, NOW, left)
        turns += 1
        assert time.monotonic() - began < 2.0 * turns
        left = [pod for pod in left if f"add {pod.name}" not in api.patched]
    assert (turns, len(api.patched), api.patched[-1]) == (3, 41, "add train"), "each is told once, the Job at the end"


def test_a_leader_that_lost_its_lease_tells_no_more_pods() -> None:
    leads = iter([True])
    api: Any = Api()
    pods = [running_pod(f"pod-{i}", "west-0") for i in range(3)]
    assert not Pauser(api, may_write=lambda: next(leads, False)).announce(job(held=False).key, NOW, pods)
    assert api.patched == ["add pod-0"], "whoever leads now finds it, and takes it back or carries it through"


def test_where_a_pod_cannot_be_told_those_that_were_told_in_an_earlier_turn_are_told_too_that_nothing_comes_of_it():
    api: Any = Api()
    early, lost = (running_pod(name, "west-0") for name in ("early", "lost"))
    with pytest.raises(ApiError):
        Pauser(api).announce(job(held=False).key, NOW, [lost], [early])
    assert api.patched == ["remove early"]


def test_pods_of_a_job_that_was_never_told_are_told_that_nothing_comes_of_it() -> None:
    api: Any = Api(checkpoint="takes=1h")
    assert Pauser(api).withdraw(job(held=False).key, [running_pod("one", "west-0")])
    assert api.patched == ["remove one"]


def test_what_was_announced_is_taken_back_from_the_pods_too() -> None:
    train, pods = job(held=False), [running_pod("one", "west-0")]
    api: Any = Api(pause_by=format_time(NOW), checkpoint="takes=1h")
    assert Pauser(api).withdraw(train.key, pods)
    assert api.patched == ["remove one", "remove train"]


def test_a_job_that_stopped_allowing_pauses_is_not_written_to_but_its_pods_are_told() -> None:
    api: Any = Api(pause_by=format_time(NOW))
    assert Pauser(api).withdraw(job(held=False).key, [running_pod("one", "west-0")])
    assert api.patched == ["remove one"], "the fence would refuse it, turn after turn"


def test_a_job_is_suspended_as_it_was_decided_about_or_not_at_all() -> None:
    train, by = job(held=False), format_time(NOW)
    api: Any = Api(pause_by=by)
    assert not Pauser(api).suspend(train.key, format_time(NOW - timedelta(minutes=1)), "west", NOW)
    api.suspended = True
    assert not Pauser(api).suspend(train.key, by, "west", NOW), "its user has suspended it"
    api.suspended = False
    assert api.patched == []
    assert Pauser(api).suspend(train.key, by, "west", NOW)
    written = {o["path"]: o.get("value") for o in api.operations if o["op"] in ("add", "replace")}
    assert written == {
        "/spec/suspend": True,
        "/metadata/labels/embellie.io~1held": "true",
        "/metadata/annotations/embellie.io~1paused-at": by,
        "/metadata/annotations/embellie.io~1cell": "west",
    }
    assert {"op": "remove", "path": "/metadata/annotations/embellie.io~1pause-by"} in api.operations
    guarded = {o["path"]: o["value"] for o in api.operations if o["op"] == "test"}
    assert guarded == {"/metadata/uid": train.key.uid, "/metadata/resourceVersion": "1", "/spec/suspend": False}


@pytest.mark.parametrize("strange", ["2999-01-01T00:00:00Z", "soon"])
def test_a_job_whose_user_wrote_a_start_later_than_its_pause_is_paused_all_the_same(strange: str) -> None:
    train, by = job(held=False), format_time(NOW)
    for released, goes in ((strange, True), (format_time(NOW - timedelta(hours=1)), False)):
        api: Any = Api(pause_by=by, released_at=released)
        assert Pauser(api).suspend(train.key, by, "west", NOW)
        dropped = {"op": "remove", "path": "/metadata/annotations/embellie.io~1released-at"}
        assert (dropped in api.operations) is goes
