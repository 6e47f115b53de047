# SPDX-License-Identifier: Apache-2.0
"""The watchdog's sweep, on an API server that misbehaves and a clock that only waiting moves."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from embellie.watchdog import commands, names
from embellie.watchdog.api import ApiError, NoAnswerError, UnreachableError
from embellie.watchdog.nodes import clear_nodes
from embellie.watchdog.sweep import Order, Progress, sweep
from embellie.watchdog.switch import turn_off

Refusal = Callable[[str, str], None]
Objects = list[dict[str, Any]]
TAINT = {"key": names.OVERHEATED, "value": "row", "effect": "NoSchedule"}
OTHER = {"key": "team", "value": "vision", "effect": "NoSchedule"}


class Waits(threading.Event):
    """Nobody really waits: the clock moves instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.asked: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout or 0.0)
        self.now += timeout or 0.0
        return self.is_set()


class Cluster:
    """Holds Jobs; `refuses` may raise for a method and a path, `comes` brings a Job with a list of that number."""

    def __init__(self, *held: str, refuses: Refusal = lambda _method, _path: None, **notes: str) -> None:
        self.refuses, self.notes = refuses, notes
        self.comes: dict[int, str] = {}
        self.plans: dict[str, str] = {}
        self.nodes: Objects = []
        self.caps: list[str] = []
        self.switch: dict[str, str] | None = {"enabled": "true", "locked": "false"}
        self.lists = 0
        self.calls: list[tuple[str, str]] = []
        self.patches: list[Objects] = []
        self._held = list(held)
        self._lock = threading.Lock()

    def _asked(self, method: str, path: str) -> None:
        with self._lock:
            self.calls.append((method, path))
        self.refuses(method, path)

    @property
    def released(self) -> list[str]:
        """Names of the Jobs in the order in which they were let go."""
        return [path.rpartition("/")[2] for method, path in self.calls if method == "PATCH" and "/jobs/" in path]

    def list(self, path: str, **_query: str) -> Objects:
        self._asked("LIST", path)
        if path.endswith("/jobs"):
            self.lists += 1
            self._held += [self.comes[self.lists]] if self.lists in self.comes else []
            return [self._job(name) for name in self._held]
        if path.endswith("/workloadplans"):
            ref = ((uid, {"workloadRef": {"uid": uid}, "latestStartTime": at}) for uid, at in self.plans.items())
            return [{"metadata": {"name": uid}, "spec": spec} for uid, spec in ref]
        if path.endswith("/nodes"):
            return self.nodes
        return [{"metadata": {"name": name}} for name in self.caps] if path.endswith("/powercaps") else []

    def _job(self, name: str) -> dict[str, Any]:
        meta = {"namespace": "team-a", "name": name, "uid": f"uid-{name}", "resourceVersion": "1"}
        spec = {"suspend": True, "template": {"spec": {}}}
        return {"metadata": {**meta, "annotations": self.notes, "labels": {names.HELD_LABEL: "true"}}, "spec": spec}

    def json_patch(self, path: str, operations: Objects) -> None:
        self._asked("PATCH", path)
        self.patches.append(operations)
        with self._lock:
            if "/jobs/" in path:
                self._held.remove(path.rpartition("/")[2])

    def get(self, path: str) -> dict[str, Any]:
        self._asked("GET", path)
        if self.switch is None:
            raise ApiError(404, "NotFound", path)
        return {"data": self.switch}

    def merge_patch(self, path: str, body: dict[str, Any]) -> None:
        self._asked("MERGE", path)
        assert self.switch is not None
        self.switch |= body["data"]

    def create(self, path: str, _body: object) -> None:
        self._asked("POST", path)

    def call(self, method: str, path: str) -> None:
        self._asked(method, path)


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waits]:
    waits = Waits()
    clock = SimpleNamespace(monotonic=lambda: waits.now, sleep=waits.wait)
    monkeypatch.setattr("embellie.watchdog.sweep.time", clock)
    monkeypatch.setattr("embellie.watchdog.commands.time", clock)
    monkeypatch.setattr("embellie.watchdog.sweep.WRITERS", 1)
    return waits


def swept(cluster: Any, stop: Waits, *, within_s: float | None = 100.0, **changes: Any) -> Progress:
    order = {"reason": names.OPERATOR_LOST, "identity": "w", "release_seconds": 10.0, "stop": stop, **changes}
    return sweep(cluster, Order(**order), give_up_after_seconds=within_s)


def refuse(status: int, *, of: str, method: str = "PATCH") -> Refusal:
    def answer(asked: str, path: str) -> None:
        if asked == method and of in path:
            raise ApiError(status, "Refused", f"because of {status}")

    return answer


def test_one_empty_list_ends_no_sweep_because_creations_race_the_switch(stop: Waits) -> None:
    cluster = Cluster("early")
    cluster.comes = {3: "late"}
    progress = swept(cluster, stop)
    assert cluster.released == ["early", "late"]
    assert (progress.released, progress.left, progress.clean, cluster.lists) == (2, 0, True, 5)


def test_a_crowd_is_spread_over_the_time_that_there_is_and_a_few_are_not(stop: Waits) -> None:
    swept(Cluster(*(f"job-{i}" for i in range(101))), stop, release_seconds=10.0)
    assert sum(stop.asked[:101]) == pytest.approx(0.85 * 10.0 * 100 / 101)
    stop.asked.clear()
    swept(Cluster(*(f"job-{i}" for i in range(11))), stop, release_seconds=400.0)
    assert sum(stop.asked[:11]) == pytest.approx(10 / 5.0)


def test_what_is_promised_earliest_goes_first_and_without_plans_what_was_created_first(stop: Waits) -> None:
    cluster = Cluster("a", "b")
    cluster.plans = {"uid-a": "2026-07-03T00:00:00Z", "uid-b": "2026-07-02T00:00:00Z"}
    swept(cluster, stop)
    assert cluster.released == ["b", "a"]
    blind = Cluster("a", "b", refuses=refuse(403, of="workloadplans", method="LIST"))
    blind.plans = cluster.plans
    swept(blind, stop)
    assert blind.released == ["a", "b"]


def test_an_api_server_that_is_away_is_asked_less_and_less_often_and_waited_for(stop: Waits) -> None:
    begins = iter([True] * 6)

    def away(_method: str, _path: str) -> None:
        if next(begins, False):
            raise UnreachableError("connection refused")

    cluster = Cluster("held", refuses=away)
    assert swept(cluster, stop, within_s=None).clean
    assert cluster.released == ["held"]
    assert stop.asked[:6] == [2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    assert max(stop.asked[6:]) == 1.0, "once it answers again nobody waits longer than usual"


def test_a_sweep_that_may_not_release_ends_when_its_time_is_up_and_says_why(stop: Waits) -> None:
    progress = swept(Cluster("one", "other", refuses=refuse(403, of="/jobs/")), stop, within_s=60.0)
    assert (progress.released, progress.left, progress.clean) == (0, 2, False)
    assert set(progress.failures) == {"because of 403"}
    assert 60.0 < stop.now <= 71.0


@pytest.mark.parametrize(("status", "failures"), [(409, 0), (422, 0), (404, 0), (403, 1), (500, 1)])
def test_a_lost_race_is_no_failure_and_no_release_of_ours(stop: Waits, status: int, failures: int) -> None:
    told: list[str] = []
    cluster = Cluster("held", refuses=refuse(status, of="/jobs/"))
    progress = swept(cluster, stop, within_s=0.5, on_release=lambda held: told.append(held.name))
    assert (progress.released, len(progress.failures), told) == (0, failures, [])
    assert not [path for method, path in cluster.calls if method == "POST"], "no Event says otherwise"


def test_an_event_that_is_refused_costs_no_release(stop: Waits) -> None:
    told: list[str] = []
    cluster = Cluster("held", refuses=refuse(403, of="/events", method="POST"))
    assert swept(cluster, stop, on_release=lambda held: told.append(held.name)).clean
    assert (cluster.released, told) == (["held"], ["held"])


def test_a_heartbeat_that_comes_back_ends_the_sweep_before_the_next_release(stop: Waits) -> None:
    silent = iter([True] * 3)
    cluster = Cluster("a", "b", "c", "d")
    progress = swept(cluster, stop, keep_going=lambda: next(silent, False))
    assert cluster.released == ["a", "b"], "it is asked before each list and before each release"
    assert (progress.released, progress.clean) == (2, False)


def test_whoever_is_told_to_stop_releases_nothing_more(stop: Waits) -> None:
    cluster = Cluster("a", "b")

    def stops(held: Any) -> None:
        stop.set()

    swept(cluster, stop, on_release=stops)
    assert cluster.released == ["a"]


def test_work_whose_release_gets_no_answer_keeps_nobody_else_held(stop: Waits) -> None:
    def hang(method: str, path: str) -> None:
        if method == "PATCH" and "stuck" in path:
            raise NoAnswerError("read timed out")

    cluster = Cluster("stuck", "waiting", refuses=hang)
    progress = swept(cluster, stop, within_s=0.5)
    assert (progress.released, progress.left) == (1, 2)
    assert progress.failures == {"the API server gave no answer": 1}


def test_an_api_server_that_goes_away_in_the_middle_is_not_asked_for_everybody(stop: Waits) -> None:
    def refused(method: str, path: str) -> None:
        if method == "PATCH":
            raise UnreachableError(f"connection refused: {path}")

    cluster = Cluster(*(f"job-{i}" for i in range(20)), refuses=refused)
    assert swept(cluster, stop, within_s=0.5).released == 0
    assert len(cluster.released) <= 2


@pytest.mark.parametrize(("status", "tries"), [(503, 0), (429, 0), (403, 1)])
def test_work_that_must_stay_somewhere_waits_while_zones_cannot_be_read_for_a_moment(
    stop: Waits, status: int, tries: int
) -> None:
    residency = {names.RESIDENCY: "FR"}
    cluster = Cluster("resident", refuses=refuse(status, of="gridzones", method="LIST"), **residency)
    progress = swept(cluster, stop, within_s=0.5)
    assert progress.released == tries
    assert bool(progress.failures) is not bool(tries)


@pytest.mark.parametrize(
    ("data", "lock", "after"),
    [
        ({"enabled": "true", "locked": "false"}, False, {"enabled": "false", "locked": "false"}),
        ({"enabled": "true", "locked": "false"}, True, {"enabled": "false", "locked": "true"}),
        ({"enabled": "false", "locked": "false"}, True, {"enabled": "false", "locked": "true"}),
        ({"enabled": "true", "locked": "true"}, False, {"enabled": "false", "locked": "true"}),
    ],
)
def test_a_switch_that_is_turned_off_is_off_and_locked_where_that_was_asked(
    data: dict[str, str], lock: bool, after: dict[str, str]
) -> None:
    cluster: Any = Cluster()
    cluster.switch = data
    assert turn_off(cluster, "n", "embellie", lock=lock)
    assert cluster.switch == after
    assert not turn_off(cluster, "n", "embellie", lock=lock), "there is nothing left to write"


def test_a_switch_that_is_missing_is_off() -> None:
    cluster: Any = Cluster()
    cluster.switch = None
    assert not turn_off(cluster, "n", "embellie", lock=True)


def node(name: str, *taints: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": {"taints": list(taints)} if taints else {}}


def test_nodes_lose_our_taint_and_no_other_and_their_power_caps() -> None:
    cluster: Any = Cluster()
    cluster.nodes = [node("hot", TAINT), node("shared", OTHER, TAINT), node("theirs", OTHER), node("bare")]
    cluster.caps = ["hot"]
    assert clear_nodes(cluster) is None
    written = [path.rpartition("/")[2] for method, path in cluster.calls if method == "PATCH"]
    assert dict(zip(written, (operations[-1] for operations in cluster.patches), strict=True)) == {
        "hot": {"op": "remove", "path": "/spec/taints"},
        "shared": {"op": "replace", "path": "/spec/taints", "value": [OTHER]},
    }
    assert cluster.patches[1][:2] == [
        {"op": "test", "path": "/metadata/uid", "value": "uid-shared"},
        {"op": "test", "path": "/spec/taints", "value": [OTHER, TAINT]},
    ]
    assert ("DELETE", "/apis/embellie.io/v1alpha1/powercaps/hot") in cluster.calls


def test_a_taint_that_stays_is_told_and_a_kind_or_node_that_is_gone_leaves_nothing() -> None:
    cluster: Any = Cluster(refuses=refuse(404, of="powercaps", method="LIST"))
    assert clear_nodes(cluster) is None
    cluster.nodes = [node("hot", TAINT)]
    cluster.refuses = refuse(404, of="/nodes/")
    assert clear_nodes(cluster) is None
    cluster.refuses = refuse(409, of="/nodes/")
    assert "taint" in str(clear_nodes(cluster))
    cluster.refuses = refuse(403, of="/nodes", method="LIST")
    assert "cannot be listed" in str(clear_nodes(cluster))


def uninstalled(cluster: Any) -> tuple[int, str]:
    return commands.uninstall(
        cluster, namespace="n", name="embellie", identity="w", release_seconds=1.0, timeout_seconds=20.0
    )


def test_an_uninstall_locks_before_it_releases_and_succeeds_only_when_nothing_is_left(
    stop: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = SimpleNamespace(Event=lambda: stop, Thread=threading.Thread)
    monkeypatch.setattr("embellie.watchdog.commands.threading", threads)
    clean = Cluster("held")
    assert uninstalled(clean) == (0, "nothing is held any more (1 released)")
    assert clean.switch == {"enabled": "false", "locked": "true"}
    methods = [method for method, path in clean.calls if "/jobs/" in path or "configmaps" in path]
    assert methods == ["GET", "MERGE", "PATCH"]
    for refusal, said in (
        (refuse(403, of="/jobs/"), "0 released, 1 still held (because of 403)"),
        (refuse(403, of="configmaps", method="MERGE"), "the switch could not be locked"),
        (refuse(403, of="/powercaps/", method="DELETE"), "nothing is held any more (1 released), but PowerCaps stand"),
    ):
        cluster = Cluster("held", refuses=refusal)
        cluster.caps = ["hot"]
        code, sentence = uninstalled(cluster)
        assert (code, said in sentence) == (1, True), sentence


def test_a_switch_that_cannot_be_written_for_a_moment_is_tried_again_until_the_time_is_up(stop: Waits) -> None:
    busy = iter([True] * 4)

    def refused(_method: str, _path: str) -> None:
        if next(busy, False):
            raise ApiError(503, "Busy", "try again")

    cluster: Any = Cluster(refuses=refused)
    assert commands.switch_off(cluster, "n", "embellie", lock=True, until=60.0) is None
    assert stop.asked == [0.5, 1.0, 2.0, 4.0]
    assert cluster.switch["locked"] == "true"
    cluster.refuses = refuse(503, of="configmaps", method="GET")
    assert "503" in str(commands.switch_off(cluster, "n", "embellie", lock=True, until=stop.now + 5.0))
    waited = stop.now
    cluster.refuses = refuse(403, of="configmaps", method="GET")
    assert "403" in str(commands.switch_off(cluster, "n", "embellie", lock=True, until=stop.now + 60.0))
    assert stop.now == waited, "a refusal does not change by itself"
