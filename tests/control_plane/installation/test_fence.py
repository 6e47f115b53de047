# SPDX-License-Identifier: Apache-2.0
"""What our own ServiceAccounts may do to workloads, with RBAC out of the way: only the fence stands between."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from fenced_workloads import (
    BOTH_TERM,
    MARKER,
    OURS,
    USER_AFFINITY,
    USER_SELECTOR,
    USER_TERM,
    ZONE_TERM,
    Json,
    add,
    denied,
    path_of,
    remove,
    spec_of,
)
from stamping_webhook import STAMP, stamping

from embellie.cluster.client import ApiError, KubeClient, object_path
from embellie.cluster.patches import release_patch_job, release_patch_pod
from embellie.domain import names
from embellie.domain.clock import SystemClock
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.processes import until

pytestmark = pytest.mark.control_plane

RELEASE = {"Job": release_patch_job, "Pod": release_patch_pod}
PREFERRED = "/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution"
REQUIRED = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms"


def settle(kube: KubeClient, obj: Json) -> None:
    """Wait until the Job controller has written its first condition, so that a fresh read stays fresh."""
    if obj["kind"] == "Job":
        until(
            lambda: bool(kube.get(path_of(obj))["status"].get("conditions")), "the Job controller does not work", 15.0
        )


def pod_path(kind: str, path: str) -> str:
    return f"/spec/template/spec{path}" if kind == "Job" else f"/spec{path}"


@pytest.mark.parametrize("account", OURS)
@pytest.mark.parametrize("kind", ["Job", "Pod"])
def test_the_operators_release_passes(
    accounts: dict[str, KubeClient], workloads: dict[str, Json], kube: KubeClient, kind: str, account: str
) -> None:
    obj = workloads[f"{kind} held"]
    settle(kube, obj)
    operations = RELEASE[kind](kube.get(path_of(obj)), {"zone": "west"}, SystemClock().now(), "BestNow", "west")
    released = accounts[account].json_patch(path_of(obj), operations)
    pod = released["spec"]["template"]["spec"] if kind == "Job" else released["spec"]
    assert pod["affinity"] == USER_AFFINITY
    assert pod["nodeSelector"] == {**USER_SELECTOR, "zone": "west"}
    assert names.HELD_LABEL not in released["metadata"]["labels"]
    if kind == "Job":
        assert released["spec"]["suspend"] is False
    else:
        assert released["spec"]["schedulingGates"] == [{"name": "example.com/data"}]


@pytest.mark.parametrize("kind", ["Job", "Pod"])
@pytest.mark.parametrize(
    "operations",
    [
        [remove(MARKER)],
        [add("/metadata/annotations/embellie.io~1cell", "west")],
        [remove("/metadata/annotations/embellie.io~1deadline")],
        [add(REQUIRED, [BOTH_TERM])],
        [add("/nodeSelector/zone", "west")],
    ],
    ids=["marker", "our annotation", "remove our annotation", "a narrower affinity", "a narrower selector"],
)
def test_each_part_of_a_release_passes_alone(
    accounts: dict[str, KubeClient], workloads: dict[str, Json], kind: str, operations: list[Json]
) -> None:
    in_pod = [{**o, "path": pod_path(kind, o["path"])} if "/metadata" not in o["path"] else o for o in operations]
    accounts["operator"].json_patch(path_of(workloads[f"{kind} held"]), in_pod)


@pytest.mark.parametrize("kind", ["Job", "Pod"])
def test_an_affinity_may_be_added_where_there_is_none(
    accounts: dict[str, KubeClient], kube: KubeClient, namespace: str, kind: str
) -> None:
    spec = spec_of(kind)
    del (spec["template"]["spec"] if kind == "Job" else spec)["affinity"]
    body = {
        "apiVersion": "batch/v1" if kind == "Job" else "v1",
        "kind": kind,
        "metadata": {"name": "plain", "labels": {names.FLEX_LABEL: "bonus", names.HELD_LABEL: "true"}},
        "spec": spec,
    }
    obj = kube.create(object_path(body["apiVersion"], f"{kind.lower()}s", namespace=namespace), body)
    settle(kube, obj)
    operations = RELEASE[kind](kube.get(path_of(obj)), {"zone": "west"}, SystemClock().now(), "BestNow", None)
    accounts["operator"].json_patch(path_of(obj), operations)


@pytest.mark.parametrize("account", OURS)
def test_a_job_that_lost_all_labels_but_the_marker_is_released(
    accounts: dict[str, KubeClient], workloads: dict[str, Json], kube: KubeClient, account: str
) -> None:
    """Without labels a Job gets those of its template from the API server, in the very write that starts it."""
    obj = workloads["Job held"]
    settle(kube, obj)
    kube.json_patch(path_of(obj), [add("/metadata/labels", {names.HELD_LABEL: "true"})])
    operations = release_patch_job(kube.get(path_of(obj)), {"zone": "west"}, SystemClock().now(), "NoPolicy", None)
    released = accounts[account].json_patch(path_of(obj), operations)
    assert released["spec"]["suspend"] is False
    assert names.HELD_LABEL not in released["metadata"]["labels"]


@pytest.fixture
def stamping_webhook(control_plane: ControlPlane, kube: KubeClient, workloads: dict[str, Json]) -> Iterator[None]:
    """A customer's webhook writes on whatever is changed."""
    with stamping(control_plane):
        path = path_of(workloads["Pod free"])
        touch = [add("/metadata/annotations/touched", "by-its-user")]
        until(lambda: kube.json_patch(path, touch)["metadata"]["labels"]["team"] == "stamped", "nobody stamps", 15.0)
        yield


@pytest.mark.parametrize("account", OURS)
@pytest.mark.parametrize("kind", ["Job", "Pod"])
def test_a_release_passes_where_a_webhook_writes_on_whatever_is_changed(
    accounts: dict[str, KubeClient],
    workloads: dict[str, Json],
    kube: KubeClient,
    stamping_webhook: None,
    kind: str,
    account: str,
) -> None:
    obj = workloads[f"{kind} held"]
    settle(kube, obj)
    operations = RELEASE[kind](kube.get(path_of(obj)), {"zone": "west"}, SystemClock().now(), "BestNow", "west")
    released = accounts[account].json_patch(path_of(obj), operations)
    meta, pod = released["metadata"], released["spec"]["template"]["spec"] if kind == "Job" else released["spec"]
    assert names.HELD_LABEL not in meta["labels"]
    assert (meta["labels"]["team"], meta["annotations"]["example.com/seen"]) == ("stamped", "stamped")
    assert "note" not in meta["annotations"]
    assert STAMP in pod["tolerations"]


METADATA = [
    ([add("/metadata/labels/team", "b")], "no other label"),
    ([add("/metadata/labels/new", "label")], "exempt its accounts there"),
    ([add("/metadata/labels/app", "train")], "no other label"),
    ([add("/metadata/annotations/note", "ours")], "annotations that start with"),
    ([add("/metadata/annotations/embellie.io.evil~1x", "y")], "annotations that start with"),
    ([add("/metadata/annotations/embellie.io~1overstep", "1")], "annotations that start with"),
    ([remove("/metadata/labels/team")], "no other label"),
    ([remove("/metadata/labels/embellie.io~1flex")], "no other label"),
    ([remove("/metadata/labels")], "no other label"),
    ([remove("/metadata/annotations/note")], "annotations that start with"),
    ([remove("/metadata/annotations")], "annotations that start with"),
    ([remove("/metadata/finalizers")], "finalizers"),
    ([add("/metadata/finalizers/-", "embellie.io/x")], "finalizers"),
    (
        [
            add(
                "/metadata/ownerReferences",
                [{"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "11111111-2222-3333-4444-555555555555"}],
            )
        ],
        "owner references",
    ),
]


@pytest.mark.parametrize("kind", ["Job", "Pod"])
@pytest.mark.parametrize(("operations", "words"), METADATA, ids=lambda value: str(value)[:60])
def test_other_metadata_is_fenced(
    accounts: dict[str, KubeClient], workloads: dict[str, Json], kind: str, operations: list[Json], words: str
) -> None:
    assert words in denied(accounts["operator"], workloads[f"{kind} held"], operations)


def test_the_marker_of_held_work_cannot_be_made_to_say_anything_else(
    accounts: dict[str, KubeClient], workloads: dict[str, Json], kube: KubeClient
) -> None:
    assert "no other label" in denied(accounts["operator"], workloads["Job held"], [add(MARKER, "false")])
    # That of a pod stays as long as its gate: put back, or the write is refused, by which policy comes first.
    pod = path_of(workloads["Pod held"])
    with contextlib.suppress(ApiError):
        accounts["operator"].json_patch(pod, [add(MARKER, "false")])
    assert kube.get(pod)["metadata"]["labels"][names.HELD_LABEL] == "true"


@pytest.mark.parametrize("kind", ["Job", "Pod"])
def test_a_mark_that_somebody_wrote_hides_no_overstep_and_stops_no_release(
    accounts: dict[str, KubeClient], workloads: dict[str, Json], kube: KubeClient, kind: str
) -> None:
    obj = workloads[f"{kind} held"]
    settle(kube, obj)
    marked = kube.json_patch(path_of(obj), [add("/metadata/annotations/embellie.io~1overstep", "copied")])
    assert "no other label" in denied(accounts["operator"], obj, [add("/metadata/labels/team", "b")])
    assert denied(accounts["operator"], obj, [remove("/metadata/annotations/embellie.io~1overstep")])
    operations = RELEASE[kind](marked, {"zone": "west"}, SystemClock().now(), "BestNow", "west")
    accounts["operator"].json_patch(path_of(obj), operations)


# The API server itself refuses some of them (422), before anybody's admission policy is asked: those name no words.
NARROW = "only narrow"
NOTHING_ELSE = "nothing else in its spec"
MAY_ADD = "may add to the node selector"
ONLY_REQUIRED = "only change the required node affinity"
FIELDS = [{"key": "metadata.name", "operator": "In", "values": ["n"]}]
POD_SPEC = [
    ("/containers/0/image", "evil:1", {"Pod": NOTHING_ELSE}),
    ("/tolerations/-", {"key": "any", "operator": "Exists"}, {"Job": NOTHING_ELSE, "Pod": NOTHING_ELSE}),
    ("/nodeSelector", {"zone": "west"}, {"Job": MAY_ADD}),
    ("/nodeSelector/arch", "arm64", {"Job": MAY_ADD}),
    ("/affinity", {"nodeAffinity": {}}, {}),
    ("/affinity/podAntiAffinity", {}, {}),
    ("/affinity/podAffinity", {"preferredDuringSchedulingIgnoredDuringExecution": []}, {}),
    (PREFERRED, [], {"Job": ONLY_REQUIRED, "Pod": ONLY_REQUIRED}),
    ("/affinity/nodeAffinity", {}, {"Job": ONLY_REQUIRED}),
    (REQUIRED, [ZONE_TERM], {"Job": NARROW}),
    (REQUIRED, [USER_TERM, ZONE_TERM], {"Job": NARROW}),
    (REQUIRED, [BOTH_TERM, BOTH_TERM], {"Job": NARROW}),
    (REQUIRED, [{**BOTH_TERM, "matchFields": FIELDS}], {"Job": NARROW, "Pod": NARROW}),
]


@pytest.mark.parametrize("kind", ["Job", "Pod"])
@pytest.mark.parametrize(("path", "value", "words"), POD_SPEC, ids=lambda value: str(value)[:60])
def test_the_rest_of_a_pod_spec_is_fenced(
    accounts: dict[str, KubeClient], workloads: dict[str, Json], kind: str, path: str, value: Any, words: Json
) -> None:
    obj, operations = workloads[f"{kind} held"], [add(pod_path(kind, path), value)]
    if kind in words:
        assert words[kind] in denied(accounts["operator"], obj, operations)
    else:
        with pytest.raises(ApiError, match="422 Invalid"):
            accounts["operator"].json_patch(path_of(obj), operations)


@pytest.mark.parametrize(
    "operations",
    [
        [remove("/spec/schedulingGates/1")],
        [remove("/spec/schedulingGates")],
        [add("/spec/schedulingGates", [{"name": names.GATE}])],
    ],
    ids=["its own", "all", "replaced"],
)
def test_gates_of_others_are_fenced(
    accounts: dict[str, KubeClient], workloads: dict[str, Json], operations: list[Json]
) -> None:
    assert "and no other" in denied(accounts["operator"], workloads["Pod held"], operations)


JOB_SPEC = [
    ("/parallelism", 2),
    ("/activeDeadlineSeconds", 60),
    ("/backoffLimit", 0),
    ("/ttlSecondsAfterFinished", 1),
    ("/template/metadata/labels/app", "other"),
    ("/template/metadata/annotations", {"a": "b"}),
    ("/template/spec/schedulingGates", [{"name": names.GATE}]),
]


@pytest.mark.parametrize(("path", "value"), JOB_SPEC)
def test_the_rest_of_a_job_is_fenced(
    accounts: dict[str, KubeClient], workloads: dict[str, Json], path: str, value: Any
) -> None:
    denied(accounts["operator"], workloads["Job held"], [add(f"/spec{path}", value)])


@pytest.mark.parametrize("account", OURS)
@pytest.mark.parametrize("kind", ["Job", "Pod"])
def test_nothing_without_our_marker_is_touched(
    accounts: dict[str, KubeClient], workloads: dict[str, Json], kind: str, account: str
) -> None:
    start = add("/spec/suspend", False) if kind == "Job" else remove("/spec/schedulingGates/0")
    for operation in (start, add("/metadata/annotations/embellie.io~1cell", "west"), add(MARKER, "true")):
        assert "marker" in denied(accounts[account], workloads[f"{kind} free"], [operation])


@pytest.mark.parametrize("kind", ["Job", "Pod"])
def test_nothing_is_created_deleted_or_written_beside_the_spec(
    accounts: dict[str, KubeClient], workloads: dict[str, Json], kind: str
) -> None:
    client, obj = accounts["operator"], workloads[f"{kind} held"]
    path = path_of(obj)
    attempts = [
        ("DELETE", path, None),
        ("DELETE", path.rsplit("/", 1)[0], None),
        ("PUT", path_of(obj, "status"), {**obj, "metadata": {**obj["metadata"], "resourceVersion": None}}),
        ("POST", path.rsplit("/", 1)[0], {**obj, "metadata": {"name": "made-by-us"}, "spec": spec_of(kind)}),
    ]
    if kind == "Pod":
        name = {"name": obj["metadata"]["name"]}
        node = {"apiVersion": "v1", "kind": "Node", "name": "n"}
        attempts += [
            (
                "POST",
                path_of(obj, "binding"),
                {"apiVersion": "v1", "kind": "Binding", "metadata": name, "target": node},
            ),
            ("POST", path_of(obj, "eviction"), {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": name}),
        ]
    for method, where, body in attempts:
        with pytest.raises(ApiError, match="embellie-fence") as caught:
            client.request(method, where, body=body)
        assert caught.value.status == 403, (method, where)


def test_nobody_else_is_fenced(workloads: dict[str, Json], kube: KubeClient) -> None:
    changed = kube.json_patch(
        path_of(workloads["Job held"]), [add("/metadata/labels/team", "b"), add("/spec/parallelism", 3)]
    )
    assert changed["spec"]["parallelism"] == 3


def test_the_fence_type_checks(kube: KubeClient) -> None:
    path = object_path("admissionregistration.k8s.io/v1", "validatingadmissionpolicies", "embellie-fence")
    until(lambda: "observedGeneration" in kube.get(path).get("status", {}), "nobody has type-checked the fence", 15.0)
    assert "typeChecking" not in kube.get(path)["status"] or kube.get(path)["status"]["typeChecking"] == {}
