# SPDX-License-Identifier: Apache-2.0
"""What is held never waits for what else is cleared up: pauses of hundreds of pods, each of which takes its time."""

import copy
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from embellie.watchdog import commands, names
from embellie.watchdog.api import ApiError, NoAnswerError, UnreachableError
from embellie.watchdog.guard import Guard, GuardOptions
from embellie.watchdog.pauses import withdraw_pauses

SOON_S = 5.0
TOLD = {names.CHECKPOINT: "takes=5m", names.PAUSE_BY: "2026-07-01T12:00:00Z"}


class Cluster:
    """Holds one Job, and runs one of whose many pods each was told to pause."""

    def __init__(self, pods: int = 20) -> None:
        self.let_go, self.cleared, self.go_on = threading.Event(), threading.Event(), threading.Event()
        self.fault: Exception | None = None
        self.asked: list[str] = []
        self._pods = [self._object(f"pod-{i}", TOLD, ownerReferences=[{"uid": "uid-runs"}]) for i in range(pods)]
        self._leases: dict[str, dict[str, Any]] = {}

    def _object(self, name: str, notes: dict[str, str], **meta: Any) -> dict[str, Any]:
        known = {"namespace": "team-a", "name": name, "uid": f"uid-{name}", "resourceVersion": "1"}
        spec = {"suspend": True, "template": {"spec": {}}}
        return {"metadata": {**known, **meta, "annotations": notes}, "spec": spec}

    def list(self, path: str, labelSelector: str = "", **_more: object) -> list[dict[str, Any]]:  # noqa: N803
        if labelSelector == f"{names.HELD_LABEL}=true":
            held = path.endswith("/jobs") and not self.let_go.is_set()
            return [self._object("held", {}, labels={names.HELD_LABEL: "true"})] if held else []
        if path.endswith("/jobs"):
            return [self._object("runs", {names.CHECKPOINT: "takes=5m"})]
        return self._pods if path.endswith("/pods") else []

    def json_patch(self, path: str, _operations: object) -> None:
        if path.endswith("/jobs/held"):
            self.let_go.set()
            return
        self.asked.append(path)
        if self.fault is not None:
            raise self.fault
        self.go_on.wait()
        if len(self.asked) == len(self._pods):
            self.cleared.set()

    def get(self, path: str) -> dict[str, Any]:
        if path not in self._leases:
            raise ApiError(404, "NotFound", path)
        return copy.deepcopy(self._leases[path])

    def create(self, path: str, body: dict[str, Any]) -> None:
        meta = {**body["metadata"], "resourceVersion": "1"}
        self._leases[f"{path}/{meta.get('name')}"] = {**body, "metadata": meta}

    def replace(self, path: str, body: dict[str, Any]) -> None:
        self._leases[path] = body


@pytest.fixture
def cluster() -> Iterator[Any]:
    stage = Cluster()
    yield stage
    stage.go_on.set()


def test_the_watchdog_releases_what_is_held_while_pauses_are_being_taken_back(cluster: Any) -> None:
    stop = threading.Event()
    options = GuardOptions(namespace="n", name="e", identity="w", dead_man_seconds=0.5, release_seconds=1.0)
    guard = Guard(cluster, options, stop)
    running = threading.Thread(target=guard.run, daemon=True)
    running.start()
    try:
        assert cluster.let_go.wait(SOON_S)
        assert not cluster.cleared.is_set()
        cluster.go_on.set()
        assert cluster.cleared.wait(SOON_S)
        assert len(cluster.asked) == 20, "once for each time that the operator goes silent"
    finally:
        stop.set()
        running.join(SOON_S)


def test_an_uninstall_releases_what_is_held_though_pauses_cannot_be_taken_back_in_time(cluster: Any) -> None:
    code, sentence = commands.uninstall(
        cluster, namespace="n", name="e", identity="w", release_seconds=1.0, timeout_seconds=3.0
    )
    assert cluster.let_go.is_set()
    assert (code, "1 released), but announced pauses" in sentence) == (1, True), sentence


@pytest.mark.parametrize("fault", [NoAnswerError("timed out"), ApiError(500, "Error", "failed calling webhook")])
def test_somebodys_webhook_that_hangs_is_waited_for_three_times_and_no_more(cluster: Any, fault: Exception) -> None:
    cluster.fault = fault
    with pytest.raises(UnreachableError, match="pods/pod-0 in team-a is still told to pause"):
        withdraw_pauses(cluster, "w")
    assert len(cluster.asked) == 3


def test_pods_that_are_refused_at_once_keep_no_others_from_being_told(cluster: Any) -> None:
    cluster.fault = ApiError(403, "Forbidden", "by a policy")
    assert "is still told to pause" in str(withdraw_pauses(cluster, "w"))
    assert len(cluster.asked) == 20
