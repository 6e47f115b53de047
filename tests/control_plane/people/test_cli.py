# SPDX-License-Identifier: Apache-2.0
"""`embellie why`, `plan`, `go` and `release` as real processes against a real API server."""

import json
import os
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from embellie.watchdog.api import Api, ApiError, namespaced
from embellie_testbed.processes import until
from embellie_testbed.product import program

pytestmark = pytest.mark.control_plane

HELD = "embellie.io/held"
PLANS = "apis/embellie.io/v1alpha1"


def embellie(control_plane: Any, *arguments: str, name: str = "embellie") -> subprocess.CompletedProcess[str]:
    command = [program(name), *arguments]
    environment = {**os.environ, "KUBECONFIG": str(control_plane.kubeconfig), "TZ": "UTC"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def make_job(api: Api, namespace: str, name: str, *, held: bool = True, suspend: bool = True, **meta: Any) -> Any:
    labels = {"embellie.io/flex": "patient"} | ({HELD: "true"} if held else {})
    container = {"name": "c", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "8"}}}
    pod = {"restartPolicy": "Never", "containers": [container]}
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels, **meta},
        "spec": {"suspend": suspend, "template": {"spec": pod}},
    }
    return api.create(namespaced("apis/batch/v1", namespace, "jobs"), body)


def make_pod(api: Api, namespace: str, name: str) -> Any:
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]
            }
        }
    }
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {HELD: "true", "embellie.io/flex": "bonus"},
            "annotations": {"embellie.io/residency": "FR"},
        },
        "spec": {
            "affinity": affinity,
            "schedulingGates": [{"name": "other.io/gate"}, {"name": "embellie.io/hold"}],
            "containers": [{"name": "c", "image": "i"}],
        },
    }
    return api.create(namespaced("api/v1", namespace, "pods"), body)


def stamp(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


def make_plan(api: Api, workload: Any, latest_hours: float) -> None:
    meta = workload["metadata"]
    ref = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"]}
    spec = {"workloadRef": ref, "latestStartTime": stamp(latest_hours), "policyName": "night", "mode": "enforce"}
    name = f"job-{meta['name']}"
    path = namespaced(PLANS, meta["namespace"], "workloadplans")
    api.create(path, {"apiVersion": PLANS[5:], "kind": "WorkloadPlan", "metadata": {"name": name}, "spec": spec})
    status = {
        "state": "Held",
        "reason": "CleanerWindow",
        "message": "Cleaner hours come tonight.",
        "sinceTime": stamp(-1),
        "gridZoneName": "west",
        "cellName": "west.hall-1",
        "plannedStartTime": stamp(9),
        "likelyStartP50Time": stamp(9),
        "likelyStartP90Time": stamp(11),
        "emissionsNowGrams": 4100,
        "emissionsPlannedGrams": 2900,
        "gpus": 8,
    }
    api.merge_patch(f"{path}/{name}/status", {"status": status})


def read(api: Api, workload: Any, kind: str = "Job") -> Any:
    prefix, plural = ("apis/batch/v1", "jobs") if kind == "Job" else ("api/v1", "pods")
    return api.get(namespaced(prefix, workload["metadata"]["namespace"], plural, workload["metadata"]["name"]))


def test_why_explains_a_held_job_in_at_most_six_lines(control_plane: Any, api: Api, namespace: str) -> None:
    make_plan(api, make_job(api, namespace, "train"), latest_hours=20)
    result = embellie(control_plane, "why", "job/train", "-n", namespace)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith(f"job/train in {namespace} is held since ")
    assert lines[1] == "Why: Cleaner hours come tonight. (CleanerWindow)"
    assert "29 % less" in lines[2]
    assert "UTC" in lines[3]
    assert "guaranteed" in lines[4]
    assert lines[5] == f"Start it now: kubectl embellie go job/train -n {namespace}"


def test_a_plan_of_an_earlier_job_of_the_same_name_is_not_told(control_plane: Any, api: Api, namespace: str) -> None:
    job = make_job(api, namespace, "train")
    job["metadata"]["uid"] = "another"
    make_plan(api, job, latest_hours=20)
    result = embellie(control_plane, "why", "job/train", "-n", namespace)
    assert "no decision is recorded yet" in result.stdout


def test_a_missing_job_is_one_sentence_that_says_what_to_do(control_plane: Any, namespace: str) -> None:
    result = embellie(control_plane, "-n", namespace, "why", "job/none")
    assert result.returncode == 1
    assert f"there is no job 'none' in namespace '{namespace}'" in result.stderr
    assert "Traceback" not in result.stderr


def refuses_pods(api: Api, namespace: str) -> bool:
    """Whether a quota counts yet: before, a pod may pass, or be refused for another cause and retried ever later."""
    container = {"name": "c", "image": "i"}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": {"containers": [container]}}
    try:
        api.call("POST", namespaced("api/v1", namespace, "pods"), query={"dryRun": "All"}, body=body)
    except ApiError as error:
        return "exceeded quota" in error.message
    return False


def test_why_tells_of_a_quota_that_is_not_our_doing(control_plane: Any, api: Api, namespace: str) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-pods"},
        "spec": {"hard": {"pods": "0"}},
    }
    api.create(namespaced("api/v1", namespace, "resourcequotas"), quota)
    until(lambda: refuses_pods(api, namespace), "the quota takes effect", 60.0, every_seconds=0.1)
    make_job(api, namespace, "train", held=False, suspend=False)

    def told() -> str | None:
        said = embellie(control_plane, "why", "job/train", "-n", namespace).stdout
        return said if "exceeded quota" in said else None

    assert "None of this is Embellie's doing" in until(told, "the quota is named", 60.0, every_seconds=0.5)


def test_plan_shows_what_is_held_and_only_that(control_plane: Any, api: Api, namespace: str) -> None:
    make_plan(api, make_job(api, namespace, "older"), latest_hours=20)
    make_job(api, namespace, "free", held=False)
    make_pod(api, namespace, "pod")
    result = embellie(control_plane, "plan", "-n", namespace, "--utc")
    assert result.returncode == 0, result.stderr
    header, *rows, last = result.stdout.splitlines()
    assert " ".join(header.split()) == "NAMESPACE/NAME KIND GPUS STATE REASON PLANNED START LATEST START ZONE"
    assert {row.split()[0] for row in rows} == {f"{namespace}/older", f"{namespace}/pod"}
    assert last == f"2 held in namespace {namespace}, 8 GPUs: 1 CleanerWindow, 1 NoPlanYet."
    found = json.loads(embellie(control_plane, "plan", "-n", namespace, "-o", "json").stdout)
    assert {row["name"]: row["reason"] for row in found} == {"older": "CleanerWindow", "pod": "NoPlanYet"}
    assert "WHY" in embellie(control_plane, "plan", "-A", "-o", "wide").stdout


def test_go_starts_a_held_job_within_five_seconds_and_twice_is_as_good_as_once(
    control_plane: Any, api: Api, namespace: str
) -> None:
    job = make_job(api, namespace, "train", annotations={"mine": "1"})
    begun = time.monotonic()
    result = embellie(control_plane, "go", "job/train", "-n", namespace, name="kubectl-embellie")
    assert time.monotonic() - begun < 5.0
    assert result.returncode == 0, result.stderr
    assert "job/train is started" in result.stdout
    after = read(api, job)
    assert after["spec"]["suspend"] is False
    assert HELD not in after["metadata"]["labels"]
    assert after["metadata"]["annotations"]["mine"] == "1"
    assert "embellie.io/go" in after["metadata"]["annotations"]
    again = embellie(control_plane, "go", "job/train", "-n", namespace)
    assert again.returncode == 0
    assert "not held by Embellie: nothing to do" in again.stdout
    assert "started by hand" in embellie(control_plane, "why", "job/train", "-n", namespace).stdout


def test_go_leaves_alone_what_its_user_suspended(control_plane: Any, api: Api, namespace: str) -> None:
    job = make_job(api, namespace, "mine", held=False)
    result = embellie(control_plane, "go", "job/mine", "-n", namespace)
    assert result.returncode == 1
    assert "suspended, but not by Embellie" in result.stderr
    assert read(api, job)["spec"]["suspend"] is True


def test_go_keeps_a_pod_inside_its_residency_or_keeps_it_held(control_plane: Any, api: Api, namespace: str) -> None:
    pod = make_pod(api, namespace, "pod")
    refused = embellie(control_plane, "go", "pod/pod", "-n", namespace)
    assert refused.returncode == 1
    assert "no GridZone lies there; it stays held" in refused.stderr
    zones = "/apis/embellie.io/v1alpha1/gridzones"
    zone = {"nodeSelector": {"grid": namespace}, "jurisdiction": "FR"}
    api.create(
        zones,
        {"apiVersion": PLANS[5:], "kind": "GridZone", "metadata": {"name": namespace}, "spec": zone},
    )
    try:
        assert embellie(control_plane, "go", "pod/pod", "-n", namespace).returncode == 0
    finally:
        api.call("DELETE", f"{zones}/{namespace}")
    spec = read(api, pod, "Pod")["spec"]
    assert [gate["name"] for gate in spec["schedulingGates"]] == ["other.io/gate"]
    # Beside a required affinity of the user's the border is a node selector, so that the manifest can be applied again.
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"] == [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]
    assert spec["nodeSelector"] == {"grid": namespace}


def test_a_user_with_the_role_edit_may_do_all_of_it_and_one_without_is_told_so(
    control_plane: Any, api: Api, namespace: str, tmp_path: Path
) -> None:
    make_job(api, namespace, "train")
    token = control_plane.kubectl("create", "token", "default", "-n", namespace).strip()
    source = Path(control_plane.kubeconfig).read_text()
    server = control_plane.kubectl("config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.server}")
    authority = control_plane.kubectl(
        "config", "view", "--raw", "--flatten", "-o", "jsonpath={.clusters[0].cluster.certificate-authority-data}"
    )
    assert server in source
    theirs = tmp_path / "kubeconfig"
    theirs.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority-data": authority}}],
                "users": [{"name": "u", "user": {"token": token}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
            }
        )
    )
    options = ["--kubeconfig", str(theirs)]
    refused = embellie(control_plane, "why", "job/train", *options)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: you may not do this")
    account = f"--serviceaccount={namespace}:default"
    control_plane.kubectl("create", "rolebinding", "edit", "--clusterrole=edit", account, "-n", namespace)

    def allowed() -> str:
        return embellie(control_plane, "why", "job/train", *options).stdout

    assert "is held" in until(allowed, "the role takes effect", 30.0, every_seconds=0.5)
    gone = embellie(control_plane, "go", "job/train", *options)
    assert gone.returncode == 0, gone.stderr
    by = read(api, {"metadata": {"namespace": namespace, "name": "train"}})["metadata"]["annotations"]["embellie.io/go"]
    assert by == f"system:serviceaccount:{namespace}:default"


def test_release_all_lets_everything_go_earliest_latest_start_first(
    control_plane: Any, api: Api, namespace: str
) -> None:
    for index in range(6):
        make_plan(api, make_job(api, namespace, f"j{index}"), latest_hours=20 - index)
    switch = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "embellie-switch"}}
    api.create(namespaced("api/v1", namespace, "configmaps"), switch | {"data": {"enabled": "true", "locked": "false"}})
    options = ["--release-seconds", "5", "--install-namespace", namespace]
    result = embellie(control_plane, "release", "--all", "--lock", *options)
    assert result.returncode == 0, result.stderr
    ours = [line.split()[1] for line in result.stdout.splitlines() if line.endswith(f" in {namespace}")]
    assert ours == [f"job/j{index}" for index in reversed(range(6))]
    data = api.get(namespaced("api/v1", namespace, "configmaps", "embellie-switch"))["data"]
    assert (data["enabled"], data["locked"]) == ("false", "true")
    assert "To unlock" in result.stdout
