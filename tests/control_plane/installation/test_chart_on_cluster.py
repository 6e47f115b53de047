# SPDX-License-Identifier: Apache-2.0
"""The chart installed, upgraded, tested and taken away by the real helm, with the tokens of its own accounts."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from rendered_chart import HOME, RELEASE, Json, command, documents, of_kind, run

from embellie.cluster.client import KubeClient, object_path
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.processes import until

pytestmark = pytest.mark.control_plane

SWITCH = object_path("v1", "configmaps", "embellie-switch", namespace=HOME)
HEARTBEAT = object_path("coordination.k8s.io/v1", "leases", "embellie-heartbeat", namespace=HOME)


@pytest.fixture
def reinstalled(control_plane: ControlPlane) -> Iterator[None]:
    """Puts the chart back, whatever a test does to it."""
    yield
    control_plane.helm("upgrade", "--install", *RELEASE)


def test_the_notes_say_what_comes_next(control_plane: ControlPlane) -> None:
    notes = control_plane.helm("get", "notes", "embellie", "--namespace", HOME)
    assert "helm test embellie --namespace embellie-system" in notes
    assert notes.count("kubectl ") >= 2


def set_switch(kube: KubeClient, **data: str) -> None:
    operations = [{"op": "add", "path": f"/data/{key}", "value": value} for key, value in data.items()]
    kube.json_patch(SWITCH, operations)


def test_it_installs_off_and_an_upgrade_keeps_the_switch(
    control_plane: ControlPlane, kube: KubeClient, reinstalled: None
) -> None:
    control_plane.helm("uninstall", "embellie", "--namespace", HOME, "--no-hooks", "--wait")
    control_plane.helm("install", *RELEASE)
    assert kube.get(SWITCH)["data"] == {"enabled": "false", "locked": "false", "namespaces": ","}
    for enabled, locked in (("true", "false"), ("false", "true"), ("false", "false")):
        written = {"enabled": enabled, "locked": locked, "namespaces": ",team-a,"}
        set_switch(kube, **written)
        control_plane.helm("upgrade", *RELEASE, "--set", "turnSeconds=30")
        assert kube.get(SWITCH)["data"] == written


def test_an_uninstall_keeps_the_kinds_and_what_people_wrote(
    control_plane: ControlPlane, kube: KubeClient, namespace: str, reinstalled: None
) -> None:
    plan = plan_for(kube, namespace)
    control_plane.helm("uninstall", "embellie", "--namespace", HOME, "--no-hooks", "--wait")
    kept = kube.get(plan)
    policies = control_plane.kubectl("get", "mutatingadmissionpolicies,validatingadmissionpolicies", "-o", "name")
    assert policies.split() == ["mutatingadmissionpolicy.admissionregistration.k8s.io/embellie-anchor"]
    left = control_plane.kubectl("get", "all,configmap,lease,role,rolebinding", "-n", HOME, "-o", "name").split()
    assert [name for name in left if "embellie" in name] == []
    control_plane.helm("install", *RELEASE)
    assert kube.get(plan)["metadata"]["uid"] == kept["metadata"]["uid"]


def test_a_chart_that_is_installed_again_holds_again(
    control_plane: ControlPlane, kube: KubeClient, namespace: str, reinstalled: None
) -> None:
    for _ in range(2):
        control_plane.helm("uninstall", "embellie", "--namespace", HOME, "--no-hooks", "--wait")
        # The API server drops what no binding names once a second.
        time.sleep(2.5)
        control_plane.helm("install", *RELEASE)
        set_switch(kube, enabled="true", locked="false", namespaces=f",{namespace},")
        until(lambda: held_when_created(kube, namespace), "the reinstalled policies hold", 20.0)
        set_switch(kube, enabled="false", locked="false", namespaces=",")


def held_when_created(kube: KubeClient, namespace: str) -> bool:
    container = {"name": "main", "image": "train:1"}
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": "probe-", "labels": {"embellie.io/flex": "patient"}},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }
    return bool(kube.create(object_path("batch/v1", "jobs", namespace=namespace), body)["spec"].get("suspend"))


def plan_for(kube: KubeClient, namespace: str) -> str:
    collection = object_path("embellie.io/v1alpha1", "workloadplans", namespace=namespace)
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": "0-1-2-3-4"}
    body = {
        "apiVersion": "embellie.io/v1alpha1",
        "kind": "WorkloadPlan",
        "metadata": {"name": "job-train"},
        "spec": {
            "workloadRef": {**reference, "uid": "11111111-2222-3333-4444-555555555555"},
            "latestStartTime": "2030-01-01T00:00:00Z",
            "policyName": "default",
            "mode": "enforce",
        },
    }
    kube.create(collection, body)
    return f"{collection}/job-train"


def hook(control_plane: ControlPlane, kind: str) -> Json:
    (obj,) = of_kind(documents(control_plane.helm("get", "hooks", "embellie", "--namespace", HOME)), kind)
    return obj


def test_the_uninstall_hook_locks_the_switch_and_releases_what_is_held(
    control_plane: ControlPlane, kube: KubeClient, namespace: str
) -> None:
    job = hook(control_plane, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete"
    pod = job["spec"]["template"]["spec"]
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "held", "labels": {"embellie.io/flex": "patient", "embellie.io/held": "true"}},
        "spec": {
            "suspend": True,
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "train:1"}]}},
        },
    }
    collection = object_path("batch/v1", "jobs", namespace=namespace)
    kube.create(collection, body)
    set_switch(kube, enabled="true", locked="false")
    try:
        done = run(command(pod, "uninstall"), control_plane.kubeconfig_for(HOME, pod["serviceAccountName"]))
        assert done.returncode == 0, done.stdout + done.stderr
        data = kube.get(SWITCH)["data"]
    finally:
        set_switch(kube, enabled="false", locked="false")
    assert (data["enabled"], data["locked"]) == ("false", "true")
    released = kube.get(f"{collection}/held")
    assert released["spec"]["suspend"] is False
    assert "embellie.io/held" not in released["metadata"]["labels"]


def test_the_helm_test_fails_until_a_turn_was_completed(control_plane: ControlPlane, kube: KubeClient) -> None:
    pod = hook(control_plane, "Pod")["spec"]
    kubeconfig = control_plane.kubeconfig_for(HOME, pod["serviceAccountName"])
    kube.delete(HEARTBEAT)
    before = run(command(pod, "check"), kubeconfig)
    assert before.returncode != 0
    assert "Lease embellie-system/embellie-heartbeat" in before.stdout
    renewed = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    spec = {"renewTime": renewed, "holderIdentity": "operator-0"}
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "embellie-heartbeat"}}
    kube.create(HEARTBEAT.rsplit("/", 1)[0], {**body, "spec": spec})
    after = run(command(pod, "check"), kubeconfig)
    assert after.returncode == 0, after.stdout + after.stderr
    kube.delete(HEARTBEAT)
