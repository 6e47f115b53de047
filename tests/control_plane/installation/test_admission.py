# SPDX-License-Identifier: Apache-2.0
"""Who is held at creation, and who is not: the admission policies on a real API server."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from embellie.cluster import switch as switch_words
from embellie.cluster.client import KubeClient, object_path
from embellie.domain import names
from embellie.watchdog import switch as watchdog_switch
from embellie_testbed.processes import until

pytestmark = pytest.mark.control_plane

RELEASE_NAMESPACE = "embellie-system"
SWITCH = object_path("v1", "configmaps", "embellie-switch", namespace=RELEASE_NAMESPACE)
SWITCHES = object_path("v1", "configmaps", namespace=RELEASE_NAMESPACE)
OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "11111111-2222-3333-4444-555555555555"}

Json = dict[str, Any]


def workload(kind: str, *, name: str = "", flex: str | None = "patient", **metadata: Any) -> Json:
    labels = {names.FLEX_LABEL: flex} if flex else {}
    named = {"name": name} if name else {"generateName": "train-"}
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "train:1"}]}
    return {
        "apiVersion": "batch/v1" if kind == "Job" else "v1",
        "kind": kind,
        "metadata": {**named, **metadata, "labels": {**labels, **metadata.get("labels", {})}},
        "spec": {"template": {"spec": pod}} if kind == "Job" else pod,
    }


def collection(obj: Json, namespace: str) -> str:
    return object_path(obj["apiVersion"], f"{obj['kind'].lower()}s", namespace=namespace)


def created(kube: KubeClient, namespace: str, obj: Json) -> Json:
    """What the API server would store; it goes through all of admission, and nothing is left to clear away."""
    return kube.request("POST", collection(obj, namespace), body=obj, params={"dryRun": "All"})


def marked(obj: Json) -> bool:
    return obj["metadata"].get("labels", {}).get(names.HELD_LABEL) == "true"


def gates(obj: Json) -> list[str]:
    return [gate["name"] for gate in obj["spec"].get("schedulingGates", [])]


def waits(obj: Json) -> bool:
    return obj["spec"]["suspend"] is True if obj["kind"] == "Job" else names.GATE in gates(obj)


def held(obj: Json) -> bool:
    """Held by us; a hold without its marker, or a marker without its hold, would be neither."""
    assert marked(obj) == waits(obj), "marker and hold must come together"
    return marked(obj)


@pytest.fixture
def switch(kube: KubeClient, namespace: str) -> Iterator[Callable[..., None]]:
    """Put data into the switch (None: delete it), and wait until the API server acts on it."""

    def put(data: Json | None, *, holds: bool) -> None:
        kube.delete(SWITCH)
        if data is not None:
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "embellie-switch"}, "data": data}
            kube.create(SWITCHES, body)
        for kind in ("Job", "Pod"):
            until(
                lambda kind=kind: held(created(kube, namespace, workload(kind))) is holds,
                what=f"{kind} in {namespace} should {'' if holds else 'not '}be held with {data}",
                seconds=15.0,
            )

    yield put
    put(None, holds=False)


def on(namespace: str) -> Json:
    return {"enabled": "true", "locked": "false", "namespaces": f",other,{namespace},"}


@pytest.fixture
def switched_on(switch: Callable[..., None], namespace: str) -> None:
    switch(on(namespace), holds=True)


def test_a_labelled_job_is_created_suspended_and_marked(switched_on: None, kube: KubeClient, namespace: str) -> None:
    job = kube.create(collection(workload("Job"), namespace), workload("Job", name="train"))
    assert held(job)
    assert job["metadata"]["labels"][names.FLEX_LABEL] == "patient"


def test_a_labelled_bare_pod_is_created_gated_and_marked(switched_on: None, kube: KubeClient, namespace: str) -> None:
    pod = kube.create(collection(workload("Pod"), namespace), workload("Pod", name="train"))
    assert gates(pod) == [names.GATE]
    assert held(pod)


@pytest.mark.parametrize("kind", ["Job", "Pod"])
@pytest.mark.parametrize("flex", ["patient", "bonus"])
def test_both_flexible_classes_are_held_also_under_a_generated_name(
    switched_on: None, kube: KubeClient, namespace: str, kind: str, flex: str
) -> None:
    obj = kube.create(collection(workload(kind), namespace), workload(kind, flex=flex))
    assert obj["metadata"]["name"].startswith("train-")
    assert held(obj)


@pytest.mark.parametrize("kind", ["Job", "Pod"])
@pytest.mark.parametrize("flex", [None, "rigid", "Patient", "", "patient-bonus"])
def test_unlabelled_and_rigid_work_is_never_held(
    switched_on: None, kube: KubeClient, namespace: str, kind: str, flex: str | None
) -> None:
    obj = workload(kind, labels={} if flex is None else {names.FLEX_LABEL: flex}, flex=None)
    assert not held(created(kube, namespace, obj))


@pytest.mark.parametrize("kind", ["Job", "Pod"])
@pytest.mark.parametrize(
    "metadata",
    [
        {"ownerReferences": [OWNER]},
        {"labels": {"kueue.x-k8s.io/queue-name": "gpus"}},
        {"annotations": {"helm.sh/hook": "pre-install"}},
        {"annotations": {"argocd.argoproj.io/hook": "Sync"}},
    ],
    ids=["owned", "in a Kueue queue", "a Helm hook", "an Argo CD hook"],
)
def test_what_is_somebody_elses_to_start_is_not_held(
    switched_on: None, kube: KubeClient, namespace: str, kind: str, metadata: Json
) -> None:
    assert not held(created(kube, namespace, workload(kind, **metadata)))


def test_a_job_that_its_user_suspended_stays_his(switched_on: None, kube: KubeClient, namespace: str) -> None:
    job = workload("Job")
    job["spec"]["suspend"] = True
    assert not marked(created(kube, namespace, job))


def test_a_job_with_suspend_false_written_out_is_held(switched_on: None, kube: KubeClient, namespace: str) -> None:
    job = workload("Job")
    job["spec"]["suspend"] = False
    assert held(created(kube, namespace, job))


@pytest.mark.parametrize(
    ("managed_by", "expected"), [("example.com/controller", False), ("kubernetes.io/job-controller", True)]
)
def test_a_job_of_a_foreign_controller_is_not_held(
    switched_on: None, kube: KubeClient, namespace: str, managed_by: str, expected: bool
) -> None:
    job = workload("Job")
    job["spec"]["managedBy"] = managed_by
    assert held(created(kube, namespace, job)) is expected


def test_a_pod_that_is_bound_to_a_node_is_created_as_it_is(switched_on: None, kube: KubeClient, namespace: str) -> None:
    pod = workload("Pod")
    pod["spec"]["nodeName"] = "somewhere"
    assert not held(created(kube, namespace, pod))


def test_our_gate_is_added_beside_others_and_never_twice(switched_on: None, kube: KubeClient, namespace: str) -> None:
    pod = workload("Pod")
    pod["spec"]["schedulingGates"] = [{"name": "example.com/data"}]
    assert gates(created(kube, namespace, pod)) == ["example.com/data", names.GATE]
    pod["spec"]["schedulingGates"] = [{"name": names.GATE}]
    assert gates(created(kube, namespace, pod)) == [names.GATE]


def test_a_held_manifest_that_is_created_again_is_held_once(
    switched_on: None, kube: KubeClient, namespace: str
) -> None:
    for kind in ("Job", "Pod"):
        first = created(kube, namespace, workload(kind))
        copied = workload(kind, labels=first["metadata"]["labels"])
        for key in ("suspend", "schedulingGates"):
            if key in first["spec"]:
                copied["spec"][key] = first["spec"][key]
        again = created(kube, namespace, copied)
        assert held(again)
        assert kind == "Job" or gates(again) == [names.GATE]


def test_the_pods_of_a_held_job_are_not_gated_when_it_starts(
    switched_on: None, kube: KubeClient, namespace: str, control_plane: Any
) -> None:
    control_plane.wait_for_default_service_account(namespace)
    job = workload("Job", name="labelled-template")
    job["spec"]["template"]["metadata"] = {"labels": {names.FLEX_LABEL: "patient"}}
    assert held(kube.create(collection(job, namespace), job))
    path = object_path("batch/v1", "jobs", "labelled-template", namespace=namespace)
    kube.json_patch(path, [{"op": "replace", "path": "/spec/suspend", "value": False}])
    pods = object_path("v1", "pods", namespace=namespace)
    until(lambda: list(kube.list_all(pods)), what="the Job's pod was not created", seconds=15.0)
    (pod,) = kube.list_all(pods)
    assert gates(pod) == []
    assert names.HELD_LABEL not in pod["metadata"]["labels"]


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"enabled": "true"},
        {"enabled": "true", "namespaces": ","},
        {"enabled": "true", "namespaces": ""},
        {"enabled": "true", "namespaces": "NAMESPACE"},
        {"enabled": "true", "namespaces": ",NAMESPACE-not,not-NAMESPACE,"},
        {"enabled": "false", "namespaces": ",NAMESPACE,"},
        {"enabled": "perhaps", "namespaces": ",NAMESPACE,"},
        {"enabled": "", "namespaces": ",NAMESPACE,"},
        {"namespaces": ",NAMESPACE,"},
        {"enabled": "true", "locked": "true", "namespaces": ",NAMESPACE,"},
        {"enabled": "true", "locked": " True", "namespaces": ",NAMESPACE,"},
        {"enabled": "true", "locked": "yes", "namespaces": ",NAMESPACE,"},
        {"enabled": "true", "namespaces": "\x01{[garbage\u2026"},
    ],
    ids=str,
)
def test_a_switch_that_does_not_plainly_say_on_holds_nothing(
    switch: Callable[..., None], namespace: str, data: Json | None
) -> None:
    switch(on(namespace), holds=True)
    named = data if data is None else {k: v.replace("NAMESPACE", namespace) for k, v in data.items()}
    switch(named, holds=False)


@pytest.mark.parametrize("word", sorted(switch_words._YES))
def test_policies_operator_and_watchdog_read_the_same_words_as_on(
    switch: Callable[..., None], namespace: str, word: str
) -> None:
    switch({**on(namespace), "enabled": f" {word.title()}"}, holds=True)
    assert switch_words.says_yes(f" {word.title()}")
    assert switch_words._YES == watchdog_switch._YES


def test_a_missing_lock_reads_as_unlocked(switch: Callable[..., None], namespace: str) -> None:
    switch({"enabled": "true", "namespaces": f",{namespace},"}, holds=True)


def test_protected_namespaces_are_never_held_in(switch: Callable[..., None], kube: KubeClient, namespace: str) -> None:
    protected = [*names.PROTECTED_NAMESPACES, RELEASE_NAMESPACE]
    switch({"enabled": "true", "namespaces": f",{namespace},{','.join(protected)},"}, holds=True)
    for name in protected:
        assert not held(created(kube, name, workload("Job")))


def test_an_update_holds_nothing(switched_on: None, kube: KubeClient, namespace: str) -> None:
    kube.create(collection(workload("Job"), namespace), workload("Job", name="plain", flex=None))
    path = object_path("batch/v1", "jobs", "plain", namespace=namespace)
    add = {"op": "add", "path": "/metadata/labels", "value": {names.FLEX_LABEL: "patient"}}
    assert not held(kube.json_patch(path, [add]))


# The marker -----------------------------------------------------------------------------------------------------------


def remove_hold(obj: Json) -> Json:
    if obj["kind"] == "Job":
        return {"op": "replace", "path": "/spec/suspend", "value": False}
    return {"op": "remove", "path": "/spec/schedulingGates"}


def path_of(obj: Json) -> str:
    return f"{collection(obj, obj['metadata']['namespace'])}/{obj['metadata']['name']}"


@pytest.mark.parametrize("kind", ["Job", "Pod"])
def test_the_marker_goes_with_the_hold_when_another_hand_starts_it(
    switched_on: None, kube: KubeClient, namespace: str, kind: str
) -> None:
    obj = kube.create(collection(workload(kind), namespace), workload(kind, name="mine"))
    assert held(obj)
    assert not marked(kube.json_patch(path_of(obj), [remove_hold(obj)]))


def test_a_job_that_is_suspended_after_its_release_does_not_look_like_ours(
    switched_on: None, kube: KubeClient, namespace: str
) -> None:
    job = kube.create(collection(workload("Job"), namespace), workload("Job", name="mine"))
    kube.json_patch(path_of(job), [remove_hold(job)])
    again = kube.json_patch(path_of(job), [{"op": "replace", "path": "/spec/suspend", "value": True}])
    assert waits(again)
    assert not marked(again)


@pytest.mark.parametrize("kind", ["Job", "Pod"])
def test_the_marker_stays_while_the_hold_does(switched_on: None, kube: KubeClient, namespace: str, kind: str) -> None:
    obj = kube.create(collection(workload(kind), namespace), workload(kind, name="mine"))
    rigid = {"op": "replace", "path": "/metadata/labels/embellie.io~1flex", "value": "rigid"}
    assert held(kube.json_patch(path_of(obj), [rigid]))
    assert held(kube.json_patch(path_of(obj), [{"op": "remove", "path": rigid["path"]}]))


def test_a_pod_keeps_its_marker_as_long_as_it_has_our_gate(switched_on: None, kube: KubeClient, namespace: str) -> None:
    pod = kube.create(collection(workload("Pod"), namespace), workload("Pod", name="mine"))
    path = "/metadata/labels/embellie.io~1held"
    for taken in ({"op": "remove", "path": path}, {"op": "replace", "path": path, "value": "false"}):
        assert held(kube.json_patch(path_of(pod), [taken]))
    assert held(kube.json_patch(path_of(pod), [{"op": "remove", "path": "/metadata/labels"}]))


def test_a_job_whose_marker_is_taken_off_is_its_users(switched_on: None, kube: KubeClient, namespace: str) -> None:
    job = kube.create(collection(workload("Job"), namespace), workload("Job", name="mine"))
    taken = kube.json_patch(path_of(job), [{"op": "remove", "path": "/metadata/labels/embellie.io~1held"}])
    assert waits(taken)
    assert not marked(taken)


@pytest.mark.parametrize("state", ["on", "off"])
def test_a_pod_whose_manifest_brings_our_gate_gets_our_marker_so_that_it_is_started(
    switch: Callable[..., None], kube: KubeClient, namespace: str, state: str
) -> None:
    switch(on(namespace) if state == "on" else None, holds=state == "on")
    pod = workload("Pod")
    pod["spec"]["schedulingGates"] = [{"name": names.GATE}]
    assert held(created(kube, namespace, pod))


@pytest.mark.parametrize("state", ["on", "off"])
@pytest.mark.parametrize("kind", ["Job", "Pod"])
def test_a_marker_without_a_hold_is_taken_off(
    switch: Callable[..., None], kube: KubeClient, namespace: str, kind: str, state: str
) -> None:
    switch(on(namespace) if state == "on" else None, holds=state == "on")
    forged = workload(kind, flex=None, labels={names.HELD_LABEL: "true"})
    until(
        lambda: not marked(created(kube, namespace, copy.deepcopy(forged))),
        what="the marker was believed",
        seconds=15.0,
    )
    stale = workload(kind, labels={names.HELD_LABEL: "true"})
    assert held(created(kube, namespace, stale)) is (state == "on")


@pytest.mark.parametrize("metadata", [{"flex": None}, {"flex": "rigid"}, {"ownerReferences": [OWNER]}], ids=str)
def test_a_marker_on_a_suspended_job_that_cannot_be_ours_is_taken_off(
    switched_on: None, kube: KubeClient, namespace: str, metadata: Json
) -> None:
    job = workload("Job", **metadata, labels={names.HELD_LABEL: "true"})
    job["spec"]["suspend"] = True
    stored = created(kube, namespace, job)
    assert waits(stored)
    assert not marked(stored)


def test_a_marker_that_is_added_later_is_taken_off(switched_on: None, kube: KubeClient, namespace: str) -> None:
    job = workload("Job", name="users")
    job["spec"]["suspend"] = True
    stored = kube.create(collection(job, namespace), job)
    add = {"op": "add", "path": "/metadata/labels/embellie.io~1held", "value": "true"}
    assert not marked(kube.json_patch(path_of(stored), [add]))


OUR_NOTES = ("cell", "go", "pause-by", "paused-at", "released-at", "release-reason")


@pytest.mark.parametrize("kind", ["Job", "Pod"])
def test_new_work_loses_our_notes_that_its_manifest_carries(
    switched_on: None, kube: KubeClient, namespace: str, kind: str
) -> None:
    copied = {f"embellie.io/{note}": "2026-01-02T03:04:05Z" for note in OUR_NOTES}
    obj = workload(kind, annotations={**copied, names.RESIDENCY: "FR", "note": "mine"})
    assert created(kube, namespace, obj)["metadata"]["annotations"] == {names.RESIDENCY: "FR", "note": "mine"}
    only_ours = created(kube, namespace, workload(kind, annotations=copied))
    assert held(only_ours)
    assert not only_ours["metadata"].get("annotations")


def test_nobody_but_us_notes_on_held_work_that_it_was_paused_or_where_it_runs(
    switched_on: None, kube: KubeClient, namespace: str
) -> None:
    job = kube.create(collection(workload("Job"), namespace), workload("Job", name="mine"))
    notes = {f"embellie.io/{note}": "x" for note in OUR_NOTES}
    changed = kube.json_patch(path_of(job), [{"op": "add", "path": "/metadata/annotations", "value": notes}])
    kept = {f"embellie.io/{note}" for note in ("go", "released-at", "release-reason")}
    assert set(changed["metadata"]["annotations"]) == kept, "who starts it with rights of their own says so"
    unlabelled = created(kube, namespace, workload("Job", flex=None, annotations=notes))
    assert unlabelled["metadata"]["annotations"] == notes, "work that did not opt in is never touched"


def test_no_policy_of_ours_can_refuse_anybodys_work(kube: KubeClient) -> None:
    root = "/apis/admissionregistration.k8s.io/v1"
    found = {}
    for plural in ("mutatingadmissionpolicies", "validatingadmissionpolicies"):
        for policy in kube.list_all(f"{root}/{plural}"):
            found[policy["metadata"]["name"]] = policy["spec"]["failurePolicy"]
    ours = {name: policy for name, policy in found.items() if name.startswith("embellie-")}
    keepers = ["gate", "gate-strays", "marker", "notes"]
    names = ["anchor", "fence", "fence-marks", "fence-nodes", "hold-jobs", "hold-pods", *keepers]
    assert ours == {f"embellie-{name}": "Ignore" for name in names}
    for plural in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
        assert list(kube.list_all(f"{root}/{plural}")) == []
