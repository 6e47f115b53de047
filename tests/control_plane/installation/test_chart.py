# SPDX-License-Identifier: Apache-2.0
"""What helm makes of the chart, whatever its values; its programs know what it tells them."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from rendered_chart import RELEASE, Json, command, of_kind, rendered, run

from embellie.cluster.client import KubeClient, object_path
from embellie_testbed.controlplane import CommandError, ControlPlane
from embellie_testbed.paths import CHART, REPOSITORY

pytestmark = pytest.mark.control_plane

ADMISSION = REPOSITORY / "manifests" / "admission"
KINDS = ["energypolicies", "gridzones", "powercaps", "thermalzones", "workloadplans"]


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
