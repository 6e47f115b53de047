# SPDX-License-Identifier: Apache-2.0
"""Nothing of ours is left where nobody of ours would ever take it away: a gate, a marker, an announced pause."""

from typing import Any

import pytest

from embellie.cluster.client import KubeClient, object_path
from embellie.domain import names
from embellie_testbed.processes import until

pytestmark = pytest.mark.control_plane

OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "11111111-2222-3333-4444-555555555555"}
FLEX, MARKER = {names.FLEX_LABEL: "patient"}, {names.HELD_LABEL: "true"}
POD = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "train:1"}]}
TAKE_MARKER = {"op": "remove", "path": "/metadata/labels/embellie.io~1held"}

Json = dict[str, Any]


def gated_pod(*foreign: str, **metadata: Any) -> Json:
    """Return a pod whose manifest brings our gate behind those of others."""
    gates = [{"name": name} for name in (*foreign, names.GATE)]
    meta = {"name": "train", **metadata}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {**POD, "schedulingGates": gates}}


def pods_in(namespace: str, name: str = "") -> str:
    return object_path("v1", "pods", name, namespace=namespace)


def gates(pod: Json) -> list[str]:
    return [gate["name"] for gate in pod["spec"].get("schedulingGates", [])]


def marked(pod: Json) -> bool:
    return pod["metadata"].get("labels", {}).get(names.HELD_LABEL) == "true"


@pytest.fixture(autouse=True)
def in_force(kube: KubeClient, namespace: str) -> None:
    """Policies take effect a moment after they were installed."""

    def stand() -> bool:
        ours, stray = (
            kube.request("POST", pods_in(namespace), body=gated_pod(labels=labels), params={"dryRun": "All"})
            for labels in (FLEX, {})
        )
        return marked(ours) and not gates(stray)

    until(stand, "the policies do not stand", 15.0)


@pytest.mark.parametrize("foreign", [(), ("example.com/data",)], ids=["ours", "and another"])
@pytest.mark.parametrize(
    "metadata",
    [
        {"labels": FLEX, "ownerReferences": [OWNER]},
        {"labels": {**FLEX, **MARKER}, "ownerReferences": [OWNER]},
        {"labels": MARKER},
        {"ownerReferences": [OWNER]},
        {},
    ],
    ids=["owned", "owned and marked", "without our label, marked", "owned, without our label", "without our label"],
)
def test_a_pod_that_is_never_held_loses_a_gate_of_ours_that_its_manifest_brings(
    kube: KubeClient, namespace: str, metadata: Json, foreign: tuple[str, ...]
) -> None:
    obj = gated_pod(*foreign, **metadata)
    pod = kube.request("POST", pods_in(namespace), body=obj, params={"dryRun": "All"})
    assert (gates(pod), marked(pod)) == (list(foreign), False)


def test_a_job_whose_template_brings_our_gate_runs(kube: KubeClient, namespace: str) -> None:
    template = {"metadata": {"labels": FLEX}, "spec": gated_pod()["spec"]}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train"}, "spec": {"template": template}}
    kube.create(object_path("batch/v1", "jobs", namespace=namespace), job)
    until(lambda: list(kube.list_all(pods_in(namespace))), what="the Job's pod was not created", seconds=15.0)
    (pod,) = kube.list_all(pods_in(namespace))
    assert (gates(pod), marked(pod)) == ([], False)


def test_a_held_pod_that_was_adopted_keeps_its_marker_as_long_as_its_gate(kube: KubeClient, namespace: str) -> None:
    maps = object_path("v1", "configmaps", namespace=namespace)
    owner = kube.create(maps, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}})
    assert marked(kube.create(pods_in(namespace), gated_pod(labels=FLEX)))
    adopted = {"op": "add", "path": "/metadata/ownerReferences", "value": [{**OWNER, "uid": owner["metadata"]["uid"]}]}
    kube.json_patch(pods_in(namespace, "train"), [adopted])
    assert marked(kube.json_patch(pods_in(namespace, "train"), [TAKE_MARKER]))


def test_an_announced_pause_goes_with_the_leave_to_pause(
    accounts: dict[str, KubeClient], kube: KubeClient, namespace: str
) -> None:
    meta = {"name": "train", "labels": FLEX, "annotations": {names.CHECKPOINT: "takes=1h"}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"template": {"spec": POD}}}
    kube.create(object_path("batch/v1", "jobs", namespace=namespace), job)
    path = object_path("batch/v1", "jobs", "train", namespace=namespace)
    notes = "/metadata/annotations/embellie.io~1"
    announce = {"op": "add", "path": f"{notes}pause-by", "value": "2030-01-02T03:04:05Z"}
    accounts["operator"].json_patch(path, [announce])
    edited = kube.json_patch(path, [{"op": "add", "path": f"{notes}checkpoint", "value": "takes=2h"}])
    assert names.PAUSE_BY in edited["metadata"]["annotations"]
    edited = kube.json_patch(path, [{"op": "remove", "path": f"{notes}checkpoint"}])
    assert names.PAUSE_BY not in edited["metadata"].get("annotations", {})
