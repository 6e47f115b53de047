# SPDX-License-Identifier: Apache-2.0
"""The chart, installed, upgraded, tested and taken away by the real helm; its commands run as real processes."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from embellie.cluster.client import KubeClient, object_path
from embellie_testbed.controlplane import CommandError, ControlPlane
from embellie_testbed.paths import CHART, REPOSITORY
from embellie_testbed.processes import until

pytestmark = pytest.mark.control_plane

ADMISSION = REPOSITORY / "manifests" / "admission"
HOME = "embellie-system"
RELEASE = ("embellie", CHART, "--namespace", HOME)
SWITCH = object_path("v1", "configmaps", "embellie-switch", namespace=HOME)
HEARTBEAT = object_path("coordination.k8s.io/v1", "leases", "embellie-heartbeat", namespace=HOME)
KINDS = ["energypolicies", "gridzones", "powercaps", "thermalzones", "workloadplans"]

Json = dict[str, Any]


def documents(text: str) -> list[Json]:
    return [document for document in yaml.safe_load_all(text) if document]


def rendered(control_plane: ControlPlane, *options: str) -> list[Json]:
    return documents(control_plane.helm("template", *RELEASE, "--kube-version", "1.36.0", *options))


def of_kind(objects: list[Json], kind: str, name: str = "") -> list[Json]:
    return [o for o in objects if o["kind"] == kind and name in ("", o["metadata"]["name"])]


def command(pod: Json, name: str) -> list[str]:
    """The command of a pod's container as the kubelet would run it."""
    (container,) = [c for c in pod["containers"] if c["name"] == name]
    values = {"POD_NAMESPACE": HOME, "POD_NAME": "pod-0"}
    # The forecaster knows nothing of pods; it only needs a place for its models that it may write to.
    assert {e["name"] for e in container.get("env", [])} in (set(), set(values), {"EMBELLIE_CACHE", "EMBELLIE_MODELS"})
    line = [*container["command"], *container["args"]]
    return [re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], word) for word in line]


def run(line: list[str], kubeconfig: Path | None = None, *, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    program, *arguments = line
    environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
    if kubeconfig is not None:
        environment["KUBECONFIG"] = str(kubeconfig)
    path = Path(sys.executable).parent / program
    return subprocess.run(
        [path, *arguments], env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )


@pytest.fixture
def reinstalled(control_plane: ControlPlane) -> Iterator[None]:
    """Puts the chart back, whatever a test does to it."""
    yield
    control_plane.helm("upgrade", "--install", *RELEASE)


def test_helm_finds_nothing_to_complain_about(control_plane: ControlPlane) -> None:
    control_plane.helm("lint", "--strict", "--kube-version", "1.36.0", CHART)


def test_the_admission_manifests_are_the_charts_own(control_plane: ControlPlane, tmp_path: Path) -> None:
    environment = {**control_plane.environment(), "HELM": str(control_plane.binaries / "helm")}
    subprocess.run([ADMISSION / "render.sh", tmp_path], env=environment, check=True, capture_output=True)
    fresh = {path.name: path.read_text() for path in tmp_path.iterdir()}
    standing = {path.name: path.read_text() for path in ADMISSION.glob("*.yaml")}
    assert fresh == standing, "run manifests/admission/render.sh"


def test_it_renders_with_every_toggle_turned(control_plane: ControlPlane) -> None:
    plain = rendered(control_plane)
    turned = rendered(
        control_plane,
        *("--set", "crds.enabled=false,aggregateRoles=false,serviceMonitor.enabled=true,operator.replicas=1"),
        *("--set", "image.digest=sha256:" + "a" * 64, "--set", "watchdog.replicas=1"),
        *("--set", "nodeSelector.role=infra,tolerations[0].operator=Exists,imagePullSecrets[0]=key"),
        *("--set", "priorityClassName=system-cluster-critical,serviceMonitor.labels.release=prometheus"),
    )
    assert [crd["spec"]["names"]["plural"] for crd in of_kind(plain, "CustomResourceDefinition")] == KINDS
    assert of_kind(turned, "CustomResourceDefinition") == []
    assert [len(of_kind(objects, "PodDisruptionBudget")) for objects in (plain, turned)] == [2, 0]
    assert [len(of_kind(objects, "ServiceMonitor")) for objects in (plain, turned)] == [0, 1]
    assert of_kind(plain, "PrometheusRule") == []
    assert not any("board" in c["metadata"]["name"] for c in of_kind(plain, "ConfigMap"))
    (deployment,) = of_kind(turned, "Deployment", "embellie-operator")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"role": "infra"}
    assert pod["imagePullSecrets"] == [{"name": "key"}]
    assert {c["image"] for c in pod["containers"]} == {"ghcr.io/embellie/embellie@sha256:" + "a" * 64}


@pytest.mark.parametrize(
    "setting",
    [
        "unknown=1",
        "operator.unknown=1",
        "image.registry=x",
        "crds.unknown=true",
        "watchdog.resources.unknown=1",
        "turnSeconds=0",
        "turnSeconds=15s",
        "turnSeconds=1.5",
        "operator.replicas=0",
        "watchdog.deadManSeconds=1",
        "logLevel=loud",
        "prometheusUrl=prometheus:9090",
        "prometheusRule.unknown=1",
        "grafanaDashboards.label=not a label",
        "grafanaDashboards.enabled=maybe",
        "workloadMetrics=some",
        "image.digest=sha256:short",
        "image.pullPolicy=Sometimes",
        "fullnameOverride=Not_A_Name",
        "crds.keep=maybe",
        "tolerations[0].unknown=x",
        "operator.resources.limits.memory=lots",
    ],
)
def test_an_unknown_or_absurd_value_is_refused(control_plane: ControlPlane, setting: str) -> None:
    with pytest.raises(CommandError, match=r"values don't meet the specifications of the schema"):
        rendered(control_plane, "--set", setting)


def most_beside(control_plane: ControlPlane, *settings: str) -> int | None:
    options = [word for setting in settings for word in ("--set", setting)]
    (deployment,) = of_kind(rendered(control_plane, *options), "Deployment", "embellie-operator")
    found: int | None = deployment["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge")
    return found


@pytest.mark.parametrize("claim", ["ledger.existingClaim=disk", "forecaster.bundles.existingClaim=disk"])
def test_one_operator_with_a_claim_goes_before_the_next_one_comes(control_plane: ControlPlane, claim: str) -> None:
    assert most_beside(control_plane, claim, "operator.replicas=1") == 0
    assert most_beside(control_plane, claim, "operator.replicas=2") is None
    assert most_beside(control_plane, "operator.replicas=1") is None


def test_one_operator_can_be_given_a_claim_by_a_server_side_apply(control_plane: ControlPlane, namespace: str) -> None:
    for options in ((), ("--set", "ledger.existingClaim=disk")):
        found = rendered(control_plane, "--set", "operator.replicas=1", *options)
        (deployment,) = of_kind(found, "Deployment", "embellie-operator")
        deployment["metadata"]["namespace"] = namespace
        control_plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(deployment))


def test_a_dead_man_that_is_shorter_than_two_turns_is_refused(control_plane: ControlPlane) -> None:
    with pytest.raises(CommandError, match="at least twice turnSeconds"):
        rendered(control_plane, "--set", "turnSeconds=61")


def test_an_uninstall_that_would_give_up_before_all_is_released_is_refused(control_plane: ControlPlane) -> None:
    with pytest.raises(CommandError, match=r"greater than uninstall\.releaseSeconds"):
        rendered(control_plane, "--set", "uninstall.releaseSeconds=600")


def test_bundles_from_two_places_are_refused(control_plane: ControlPlane) -> None:
    with pytest.raises(CommandError, match="name only one of existingClaim, configMap and hostPath"):
        rendered(control_plane, "--set", "forecaster.bundles.configMap=a,forecaster.bundles.hostPath=/b")


def test_every_value_has_a_schema_and_no_object_lets_others_in() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def check(value: Any, part: Json, path: str) -> None:
        if "properties" not in part:
            return
        assert part["additionalProperties"] is False, path
        assert isinstance(value, dict), path
        for key, inner in value.items():
            assert key in part["properties"], f"{path}.{key}"
            check(inner, part["properties"][key], f"{path}.{key}")

    check(values, schema, "values")
    assert set(values) == set(schema["properties"]) - {"global"}


def test_boards_and_rules_are_shipped_as_they_are_when_asked_for(control_plane: ControlPlane) -> None:
    objects = rendered(
        control_plane,
        *("--set", "prometheusRule.enabled=true,prometheusRule.labels.release=prometheus,workloadMetrics=true"),
        *("--set", "grafanaDashboards.enabled=true,grafanaDashboards.folder=Energy"),
    )
    for rule in of_kind(objects, "PrometheusRule"):
        assert rule["metadata"]["labels"]["release"] == "prometheus"
        file = CHART / "files" / "rules" / f"{rule['metadata']['name'].removeprefix('embellie-')}.yaml"
        assert rule["spec"] == yaml.safe_load(file.read_text(encoding="utf-8"))
    assert len(of_kind(objects, "PrometheusRule")) == 2
    boards = [c for c in of_kind(objects, "ConfigMap") if c["metadata"]["labels"].get("grafana_dashboard") == "1"]
    assert {c["metadata"]["annotations"]["grafana_folder"] for c in boards} == {"Energy"}
    shipped = {name.removeprefix("embellie-"): json.loads(text) for c in boards for name, text in c["data"].items()}
    files = (CHART / "files" / "dashboards").glob("*.json")
    assert shipped == {p.name: json.loads(p.read_text(encoding="utf-8")) for p in files}
    (deployment,) = of_kind(objects, "Deployment", "embellie-operator")
    assert "--workload-metrics" in deployment["spec"]["template"]["spec"]["containers"][0]["args"]


def test_it_needs_a_cluster_with_mutating_policies(control_plane: ControlPlane) -> None:
    with pytest.raises(CommandError, match="incompatible with Kubernetes"):
        control_plane.helm("template", *RELEASE, "--kube-version", "1.35.4")


def test_every_pod_satisfies_the_restricted_standard(control_plane: ControlPlane, kube: KubeClient) -> None:
    control_plane.kubectl("create", "namespace", "restricted")
    control_plane.kubectl("label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted")
    control_plane.wait_for_default_service_account("restricted")
    found = 0
    for obj in rendered(control_plane):
        spec = obj["spec"] if obj["kind"] == "Pod" else obj.get("spec", {}).get("template", {}).get("spec")
        if obj["kind"] not in ("Pod", "Job", "Deployment"):
            continue
        found += 1
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": obj["metadata"]["name"]},
            "spec": {**spec, "serviceAccountName": "default", "restartPolicy": "Never"},
        }
        kube.request("POST", object_path("v1", "pods", namespace="restricted"), body=body, params={"dryRun": "All"})
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["resources"]["requests"]
            assert container["resources"]["limits"]["memory"]
    assert found == 4


def test_only_containers_that_speak_to_the_api_get_a_token(control_plane: ControlPlane) -> None:
    mounted = {}
    for obj in rendered(control_plane):
        spec = obj["spec"] if obj["kind"] == "Pod" else obj.get("spec", {}).get("template", {}).get("spec")
        if obj["kind"] not in ("Pod", "Job", "Deployment"):
            continue
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            mounted[container["name"]] = "api-token" in [m["name"] for m in container["volumeMounts"]]
    assert mounted == {"operator": True, "forecaster": False, "watchdog": True, "uninstall": True, "check": True}


def test_the_notes_say_what_comes_next(control_plane: ControlPlane) -> None:
    notes = control_plane.helm("get", "notes", "embellie", "--namespace", HOME)
    assert "helm test embellie --namespace embellie-system" in notes
    assert notes.count("kubectl ") >= 2


# Upgrades and the end -------------------------------------------------------------------------------------------------


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


def test_the_charts_kinds_are_the_generated_ones(control_plane: ControlPlane) -> None:
    crds = of_kind(rendered(control_plane), "CustomResourceDefinition")
    generated = [
        yaml.safe_load(path.read_text()) for path in sorted((REPOSITORY / "manifests" / "crds").glob("*.yaml"))
    ]
    assert [crd["spec"] for crd in crds] == [crd["spec"] for crd in generated]


@pytest.mark.parametrize(("keep", "expected"), [("true", "keep"), ("false", None)])
def test_keeping_the_kinds_is_a_choice(control_plane: ControlPlane, keep: str, expected: str | None) -> None:
    crds = of_kind(rendered(control_plane, "--set", f"crds.keep={keep}"), "CustomResourceDefinition")
    assert len(crds) == 5
    assert {crd["metadata"].get("annotations", {}).get("helm.sh/resource-policy") for crd in crds} == {expected}


# The commands, with the tokens of the chart's own accounts -----------------------------------------------------------


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


@pytest.mark.parametrize(
    ("deployment", "container", "help_words"),
    [
        ("embellie-operator", "operator", ["operator", "run"]),
        ("embellie-operator", "forecaster", ["serve"]),
        ("embellie-watchdog", "watchdog", ["run"]),
    ],
)
def test_the_programs_know_every_flag_that_the_chart_gives_them(
    control_plane: ControlPlane, deployment: str, container: str, help_words: list[str]
) -> None:
    (obj,) = of_kind(rendered(control_plane), "Deployment", deployment)
    line = command(obj["spec"]["template"]["spec"], container)
    program, *rest = line
    assert rest[: len(help_words)] == help_words
    text = run([program, *help_words, "--help"])
    assert text.returncode == 0, text.stderr
    flags = {word.split("=")[0] for word in rest if word.startswith("--")}
    assert flags <= set(re.findall(r"--[a-z][a-z-]*", text.stdout))
