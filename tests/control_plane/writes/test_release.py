# SPDX-License-Identifier: Apache-2.0
"""Releases on a real API server: what is let go, what is left alone, and what is said about it."""

import json
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

from embellie.cluster.actuate import Outcome, ReleaseOrder, Releaser, ReleaseResult
from embellie.cluster.client import ApiError, KubeClient, object_path, workload_path
from embellie.cluster.patches import release_patch_job, release_patch_pod
from embellie.cluster.records import parse_job
from embellie.domain import names
from embellie.domain.snapshot import WorkloadKey, WorkloadKind

pytestmark = pytest.mark.control_plane

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
WEST = {"topology.kubernetes.io/zone": "west"}
OURS = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["west"]}
TWO_TERMS = [
    {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["h100"]}]},
    {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["h200"]}]},
]
USER_AFFINITY = {
    "nodeAffinity": {
        REQUIRED: {"nodeSelectorTerms": TWO_TERMS},
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 5, "preference": {"matchExpressions": [{"key": "fast", "operator": "Exists"}]}}
        ],
    },
    "podAntiAffinity": {
        REQUIRED: [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "train"}}}]
    },
}


def make_job(
    kube: KubeClient,
    namespace: str,
    name: str = "train",
    *,
    labels: Mapping[str, str] | None = None,
    affinity: Mapping[str, Any] | None = None,
    suspend: bool = True,
) -> WorkloadKey:
    pod_spec: dict[str, Any] = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "train"}]}
    if affinity:
        pod_spec["affinity"] = affinity
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {names.HELD_LABEL: "true"} if labels is None else dict(labels)},
        "spec": {"suspend": suspend, "template": {"spec": pod_spec}},
    }
    made = kube.create(object_path("batch/v1", "jobs", namespace=namespace), body)
    return WorkloadKey(namespace=namespace, name=name, kind=WorkloadKind.JOB, uid=made["metadata"]["uid"])


def make_pod(
    kube: KubeClient,
    namespace: str,
    name: str = "notebook",
    *,
    gates: tuple[str, ...] = (names.GATE,),
    affinity: Mapping[str, Any] | None = None,
) -> WorkloadKey:
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {names.HELD_LABEL: "true"}, "annotations": {"team.io/note": "mine"}},
        "spec": {"schedulingGates": [{"name": gate} for gate in gates], "containers": [{"name": "c", "image": "i"}]},
    }
    if affinity:
        body["spec"]["affinity"] = affinity
    made = kube.create(object_path("v1", "pods", namespace=namespace), body)
    return WorkloadKey(namespace=namespace, name=name, kind=WorkloadKind.POD, uid=made["metadata"]["uid"])


def order(key: WorkloadKey, labels: Mapping[str, str] = WEST) -> ReleaseOrder:
    return ReleaseOrder(key=key, placement_labels=labels, cell="west", reason="BestNow", released_at=AT)


def release(kube: KubeClient, *keys: WorkloadKey) -> list[ReleaseResult]:
    return Releaser(kube).release([order(key) for key in keys])


def outcomes(results: list[ReleaseResult]) -> list[Outcome]:
    return [result.outcome for result in results]


def test_a_held_job_starts_where_it_was_told_and_keeps_its_own_constraints(kube: KubeClient, namespace: str) -> None:
    key = make_job(kube, namespace, affinity=USER_AFFINITY)
    assert outcomes(release(kube, key)) == [Outcome.RELEASED]
    job = kube.get(workload_path(key))
    assert job["spec"]["suspend"] is False
    assert names.HELD_LABEL not in job["metadata"].get("labels", {})
    assert job["metadata"]["annotations"] == {
        names.RELEASED_AT: "2026-05-01T12:00:00Z",
        names.RELEASE_REASON: "BestNow",
        names.CELL: "west",
    }
    assert job["spec"]["template"]["spec"]["affinity"] == USER_AFFINITY
    assert job["spec"]["template"]["spec"]["nodeSelector"] == WEST


def test_a_held_pod_loses_our_gate_only_and_is_confined_beside_its_own_affinity(
    kube: KubeClient, namespace: str
) -> None:
    key = make_pod(kube, namespace, gates=("quota.io/wait", names.GATE, "z.io/last"), affinity=USER_AFFINITY)
    assert outcomes(release(kube, key)) == [Outcome.RELEASED]
    pod = kube.get(workload_path(key))
    assert [gate["name"] for gate in pod["spec"]["schedulingGates"]] == ["quota.io/wait", "z.io/last"]
    assert pod["spec"]["affinity"] == USER_AFFINITY
    assert pod["spec"]["nodeSelector"] == WEST
    assert pod["metadata"]["annotations"]["team.io/note"] == "mine"
    assert pod["metadata"]["annotations"][names.CELL] == "west"
    assert names.HELD_LABEL not in pod["metadata"].get("labels", {})


def test_a_pod_without_constraints_gets_one_term(kube: KubeClient, namespace: str) -> None:
    key = make_pod(kube, namespace)
    assert outcomes(release(kube, key)) == [Outcome.RELEASED]
    pod = kube.get(workload_path(key))
    assert pod["spec"]["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"] == [{"matchExpressions": [OURS]}]
    assert not pod["spec"].get("schedulingGates")


def test_a_job_that_was_edited_since_the_decision_is_not_released_but_decided_about_anew(
    kube: KubeClient, namespace: str
) -> None:
    key = make_job(kube, namespace)
    decided_on = parse_job(kube.get(workload_path(key)))
    decided = replace(order(key), decided_on=decided_on)
    border = {"op": "add", "path": "/metadata/annotations", "value": {names.RESIDENCY: "FR"}}
    kube.json_patch(workload_path(key), [border])
    assert outcomes(Releaser(kube).release([decided])) == [Outcome.CONFLICT]
    assert kube.get(workload_path(key))["spec"]["suspend"] is True
    again = replace(decided, decided_on=parse_job(kube.get(workload_path(key))))
    assert outcomes(Releaser(kube).release([again])) == [Outcome.RELEASED]


def test_a_release_without_a_cell_leaves_the_affinity_alone(kube: KubeClient, namespace: str) -> None:
    key = make_job(kube, namespace)
    bare = ReleaseOrder(key=key, placement_labels={}, cell=None, reason="NoZone", released_at=AT)
    assert outcomes(Releaser(kube).release([bare])) == [Outcome.RELEASED]
    job = kube.get(workload_path(key))
    assert "affinity" not in job["spec"]["template"]["spec"]
    assert names.CELL not in job["metadata"]["annotations"]


def test_repeating_a_release_whose_answer_was_lost_says_released(kube: KubeClient, namespace: str) -> None:
    keys = make_job(kube, namespace), make_pod(kube, namespace)
    assert outcomes(release(kube, *keys)) == [Outcome.RELEASED] * 2
    written = [(pod["spec"], pod["metadata"]["annotations"]) for pod in map(kube.get, map(workload_path, keys))]
    assert outcomes(release(kube, *keys)) == [Outcome.RELEASED] * 2
    assert written == [(pod["spec"], pod["metadata"]["annotations"]) for pod in map(kube.get, map(workload_path, keys))]


def test_what_somebody_else_started_only_loses_our_marker(kube: KubeClient, namespace: str) -> None:
    job = make_job(kube, namespace, suspend=False)
    pod = make_pod(kube, namespace, gates=("other.io/gate",))
    assert outcomes(release(kube, job, pod)) == [Outcome.ALREADY_RELEASED] * 2
    for key in (job, pod):
        meta = kube.get(workload_path(key))["metadata"]
        assert names.HELD_LABEL not in meta.get("labels", {})
        assert names.RELEASED_AT not in meta.get("annotations", {})
    assert kube.get(workload_path(pod))["spec"]["schedulingGates"] == [{"name": "other.io/gate"}]


def test_handing_off_takes_the_marker_of_started_work_only(kube: KubeClient, namespace: str) -> None:
    started, waiting = make_job(kube, namespace, "a", suspend=False), make_job(kube, namespace, "b")
    assert outcomes(Releaser(kube).hand_off([started, waiting])) == [Outcome.ALREADY_RELEASED, Outcome.CONFLICT]
    assert names.HELD_LABEL not in kube.get(workload_path(started))["metadata"].get("labels", {})
    held = kube.get(workload_path(waiting))
    assert held["metadata"]["labels"][names.HELD_LABEL] == "true"
    assert held["spec"]["suspend"] is True


def test_a_job_that_its_user_suspended_is_never_touched(kube: KubeClient, namespace: str) -> None:
    key = make_job(kube, namespace, labels={names.FLEX_LABEL: "patient"})
    before = kube.get(workload_path(key))["spec"]
    assert outcomes(release(kube, key)) == [Outcome.NOT_OURS]
    after = kube.get(workload_path(key))
    assert after["spec"] == before
    assert names.RELEASED_AT not in after["metadata"].get("annotations", {})


def test_a_job_in_a_kueue_queue_is_left_to_kueue(kube: KubeClient, namespace: str) -> None:
    key = make_job(kube, namespace, labels={names.HELD_LABEL: "true", "kueue.x-k8s.io/queue-name": "gold"})
    assert outcomes(release(kube, key)) == [Outcome.NOT_OURS]
    job = kube.get(workload_path(key))
    assert job["spec"]["suspend"] is True
    assert names.HELD_LABEL not in job["metadata"]["labels"]


def test_a_deleted_workload_is_gone(kube: KubeClient, namespace: str) -> None:
    key = make_pod(kube, namespace)
    kube.request("DELETE", workload_path(key), body={"gracePeriodSeconds": 0})
    assert outcomes(release(kube, key)) == [Outcome.GONE]


def test_a_recreated_workload_of_the_same_name_is_another_one(kube: KubeClient, namespace: str) -> None:
    first = make_pod(kube, namespace)
    kube.request("DELETE", workload_path(first), body={"gracePeriodSeconds": 0})
    second = make_pod(kube, namespace)
    assert outcomes(release(kube, first)) == [Outcome.REPLACED]
    assert kube.get(workload_path(second))["spec"]["schedulingGates"] == [{"name": names.GATE}]


class _ChangingClient(KubeClient):
    """Another hand touches the object between our read and our write."""

    def get(self, path: str, params: Mapping[str, str] | None = None, timeout_s: float = 10.0) -> dict[str, Any]:
        found = super().get(path, params, timeout_s)
        touch = {
            "op": "add",
            "path": "/metadata/annotations",
            "value": {"touched": found["metadata"]["resourceVersion"]},
        }
        self.json_patch(path, [touch])
        return found


@pytest.mark.parametrize("make", [make_job, make_pod])
def test_an_object_that_changed_since_the_read_is_a_conflict_and_stays_held(
    control_plane: Any, kube: KubeClient, namespace: str, make: Any
) -> None:
    key = make(kube, namespace)
    changing = _ChangingClient.from_environment(control_plane.kubeconfig)
    assert outcomes(release(changing, key)) == [Outcome.CONFLICT]
    assert kube.get(workload_path(key))["metadata"]["labels"][names.HELD_LABEL] == "true"
    assert outcomes(release(kube, key)) == [Outcome.RELEASED]
    changing.close()


def test_a_release_that_the_api_server_finds_invalid_is_refused_and_not_a_lost_race(
    kube: KubeClient, namespace: str
) -> None:
    for key in (make_job(kube, namespace), make_pod(kube, namespace)):
        (result,) = Releaser(kube).release([order(key, {"zone": "Île"})])
        assert result.outcome is Outcome.DENIED
        assert "label" in result.message
        assert kube.get(workload_path(key))["metadata"]["labels"][names.HELD_LABEL] == "true"


@pytest.mark.parametrize("guard", ["/metadata/uid", "/metadata/resourceVersion", "/metadata/labels/embellie.io~1held"])
def test_each_guard_refuses_the_whole_patch(kube: KubeClient, namespace: str, guard: str) -> None:
    for key, make in (
        (make_job(kube, namespace), release_patch_job),
        (make_pod(kube, namespace), release_patch_pod),
    ):
        operations = make(kube.get(workload_path(key)), WEST, AT, "BestNow", "west")
        (test,) = [op for op in operations if op["path"] == guard and op["op"] == "test"]
        test["value"] = "other"
        with pytest.raises(ApiError) as refusal:
            kube.json_patch(workload_path(key), operations)
        assert refusal.value.conflict
        assert kube.get(workload_path(key))["metadata"]["labels"][names.HELD_LABEL] == "true"


def test_a_settled_job_that_was_suspended_again_is_placed_and_started(kube: KubeClient, namespace: str) -> None:
    key = make_job(kube, namespace, suspend=False)
    path = workload_path(key)
    wait_for(kube, path, lambda job: "startTime" in job.get("status", {}))
    kube.json_patch(path, [{"op": "replace", "path": "/spec/suspend", "value": True}])
    wait_for(kube, path, lambda job: not job["status"].get("active") and "startTime" not in job["status"])
    assert outcomes(release(kube, key)) == [Outcome.RELEASED]
    job = kube.get(path)
    assert job["spec"]["suspend"] is False
    assert (
        OURS
        in (
            job["spec"]["template"]["spec"]["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"][0][
                "matchExpressions"
            ]
        )
    )


def wait_for(kube: KubeClient, path: str, condition: Any) -> None:
    pause = threading.Event()
    for _ in range(200):
        if condition(kube.get(path)):
            return
        pause.wait(0.1)
    pytest.fail(f"{path} never came to the expected state: {kube.get(path).get('status')}")


def test_a_large_batch_is_read_from_a_list_and_each_order_gets_its_own_answer(kube: KubeClient, namespace: str) -> None:
    keys = [make_job(kube, namespace, f"job-{i}") for i in range(40)]
    gone = WorkloadKey(namespace=namespace, name="never-was", kind=WorkloadKind.JOB, uid="0")
    results = release(kube, *keys, gone)
    assert [result.key for result in results] == [*keys, gone]
    assert outcomes(results) == [Outcome.RELEASED] * 40 + [Outcome.GONE]


def test_what_cannot_be_begun_in_time_stays_held_and_due(kube: KubeClient, namespace: str) -> None:
    keys = [make_job(kube, namespace, f"job-{i}") for i in range(3)]
    orders = [order(key) for key in keys]
    ticks = chain([0.0, 0.0], repeat(5.0))
    releaser = Releaser(kube, max_parallel=1, monotonic=lambda: next(ticks))
    assert outcomes(releaser.release(orders, begin_within_s=3.5)) == [
        Outcome.RELEASED,
        Outcome.NOT_BEGUN,
        Outcome.NOT_BEGUN,
    ]
    assert [kube.get(workload_path(key))["spec"]["suspend"] for key in keys] == [False, True, True]
    assert outcomes(Releaser(kube).release(orders[1:])) == [Outcome.RELEASED] * 2


def test_a_replica_that_lost_the_lease_writes_nothing(kube: KubeClient, namespace: str) -> None:
    key = make_job(kube, namespace)
    results = Releaser(kube, may_write=lambda: False).release([order(key)])
    assert outcomes(results) == [Outcome.UNREACHABLE]
    assert kube.get(workload_path(key))["spec"]["suspend"] is True


def test_a_refusal_by_rbac_is_told_and_nothing_changes(control_plane: Any, kube: KubeClient, namespace: str) -> None:
    key = make_job(kube, namespace)
    nobody = KubeClient.from_environment(control_plane.kubeconfig_for(namespace, "default"))
    (result,) = release(nobody, key)
    assert result.outcome is Outcome.DENIED
    assert "cannot get resource" in result.message
    assert kube.get(workload_path(key))["spec"]["suspend"] is True
    nobody.close()


def test_a_silent_api_server_ends_a_batch_soon_and_every_order_gets_an_answer(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    client = KubeClient.from_environment(tmp_path / "config")
    keys = [WorkloadKey(namespace="n", name=f"j{i}", kind=WorkloadKind.JOB, uid=str(i)) for i in range(200)]
    started = time.monotonic()
    results = release(client, *keys)
    assert time.monotonic() - started < 15.0
    assert [result.key for result in results] == keys
    assert set(outcomes(results)) == {Outcome.UNREACHABLE, Outcome.NOT_BEGUN}
    client.close()
