# SPDX-License-Identifier: Apache-2.0
"""What our own ServiceAccounts may do to workloads, with RBAC out of the way: only the fence stands between."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embellie.cluster.client import ApiError, KubeClient, object_path
from embellie.cluster.patches import release_patch_job, release_patch_pod
from embellie.domain import names
from embellie.domain.clock import SystemClock
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.processes import until

pytestmark = pytest.mark.control_plane

CHART = Path(__file__).parents[3] / "charts" / "embellie"

Json = dict[str, Any]
MARKER = "/metadata/labels/embellie.io~1held"
OURS = ["operator", "watchdog"]
RELEASE = {"Job": release_patch_job, "Pod": release_patch_pod}

ZONE_TERM = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["west"]}]}
USER_TERM = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["fast"]}]}
BOTH_TERM = {"matchExpressions": USER_TERM["matchExpressions"] + ZONE_TERM["matchExpressions"]}
APART = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "train"}}}
USER_AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [USER_TERM]},
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": ZONE_TERM}],
    },
    "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": APART}]},
}
PREFERRED = "/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution"
REQUIRED = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms"


def add(path: str, value: Any) -> Json:
    return {"op": "add", "path": path, "value": value}


def remove(path: str) -> Json:
    return {"op": "remove", "path": path}


@pytest.fixture(scope="module")
def accounts(control_plane: ControlPlane) -> Iterator[dict[str, KubeClient]]:
    """Clients with our ServiceAccounts' tokens, and every right that RBAC can give."""
    subjects = [f"--serviceaccount=embellie-system:embellie-{name}" for name in OURS]
    control_plane.kubectl("create", "clusterrolebinding", "mis-bound", "--clusterrole=cluster-admin", *subjects)
    clients = {
        name: KubeClient.from_environment(control_plane.kubeconfig_for("embellie-system", f"embellie-{name}"))
        for name in OURS
    }
    for client in clients.values():
        until(lambda client=client: stands(client), "the fence does not stand", 15.0)
    yield clients
    for client in clients.values():
        client.close()
    control_plane.kubectl("delete", "clusterrolebinding", "mis-bound")


def stands(client: KubeClient) -> bool:
    """Whether RBAC lets the account through and the fence does not; both take effect a moment later."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": spec_of("Pod")}
    try:
        client.request("POST", object_path("v1", "pods", namespace="default"), body=pod, params={"dryRun": "All"})
    except ApiError as error:
        if error.status != 403:
            raise
        return "embellie-fence" in error.message
    return False


def spec_of(kind: str) -> Json:
    pod = {
        "restartPolicy": "Never",
        "affinity": USER_AFFINITY,
        "containers": [{"name": "main", "image": "train:1"}],
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
    }
    if kind == "Job":
        return {"suspend": True, "parallelism": 1, "template": {"metadata": {"labels": {"app": "train"}}, "spec": pod}}
    return {**pod, "schedulingGates": [{"name": names.GATE}, {"name": "example.com/data"}]}


@pytest.fixture
def workloads(kube: KubeClient, namespace: str) -> dict[str, Json]:
    """One held Job and one held pod, and the same without our marker."""
    made = {}
    for kind, api_version in (("Job", "batch/v1"), ("Pod", "v1")):
        for marker in (True, False):
            metadata = {
                "name": f"{kind.lower()}-{'held' if marker else 'free'}",
                "labels": {names.FLEX_LABEL: "patient", "team": "a", **({names.HELD_LABEL: "true"} if marker else {})},
                "annotations": {"note": "mine", names.DEADLINE: "2030-01-01T00:00:00Z"},
                "finalizers": ["example.com/keep"],
            }
            body = {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec_of(kind)}
            stored = kube.create(object_path(api_version, f"{kind.lower()}s", namespace=namespace), body)
            made[f"{kind} {'held' if marker else 'free'}"] = stored
    yield made
    for obj in made.values():
        kube.json_patch(path_of(obj), [remove("/metadata/finalizers")])


def path_of(obj: Json, subresource: str = "") -> str:
    meta = obj["metadata"]
    plural = f"{obj['kind'].lower()}s"
    return object_path(obj["apiVersion"], plural, meta["name"], namespace=meta["namespace"], subresource=subresource)


def settle(kube: KubeClient, obj: Json) -> None:
    """Wait until the Job controller has written its first condition, so that a fresh read stays fresh."""
    if obj["kind"] == "Job":
        until(
            lambda: bool(kube.get(path_of(obj))["status"].get("conditions")), "the Job controller does not work", 15.0
        )


def pod_path(kind: str, path: str) -> str:
    return f"/spec/template/spec{path}" if kind == "Job" else f"/spec{path}"


def denied(client: KubeClient, obj: Json, operations: list[Json]) -> str:
    """The fence's own words; anything else that is in the way is an error of the test."""
    with pytest.raises(ApiError) as caught:
        client.json_patch(path_of(obj), operations)
    assert caught.value.status == 403, caught.value
    assert "embellie-fence" in caught.value.message, caught.value
    return caught.value.message


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
    node_affinity = pod["affinity"]["nodeAffinity"]
    assert node_affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] == [BOTH_TERM]
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
    ],
    ids=["marker", "our annotation", "remove our annotation"],
)
def test_each_part_of_a_release_passes_alone(
    accounts: dict[str, KubeClient], workloads: dict[str, Json], kind: str, operations: list[Json]
) -> None:
    accounts["operator"].json_patch(path_of(workloads[f"{kind} held"]), operations)


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


METADATA = [
    ([add("/metadata/labels/team", "b")], "no other label"),
    ([add("/metadata/labels/new", "label")], "no other label"),
    ([remove("/metadata/labels/team")], "no other label"),
    ([remove("/metadata/labels/embellie.io~1flex")], "no other label"),
    ([add(MARKER, "false")], "no other label"),
    ([remove("/metadata/labels")], "no other label"),
    ([add("/metadata/annotations/note", "ours")], "annotations that start with"),
    ([add("/metadata/annotations/embellie.io.evil~1x", "y")], "annotations that start with"),
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


# The API server itself refuses some of them (422), before anybody's admission policy is asked: those name no words.
NARROW = "only narrow"
NOTHING_ELSE = "nothing else in its spec"
ONLY_REQUIRED = "only change the required node affinity"
FIELDS = [{"key": "metadata.name", "operator": "In", "values": ["n"]}]
POD_SPEC = [
    ("/containers/0/image", "evil:1", {"Pod": NOTHING_ELSE}),
    ("/tolerations/-", {"key": "any", "operator": "Exists"}, {"Job": NOTHING_ELSE, "Pod": NOTHING_ELSE}),
    ("/nodeSelector", {"zone": "west"}, {"Job": NOTHING_ELSE, "Pod": NOTHING_ELSE}),
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


@pytest.fixture
def without_marker_policy(control_plane: ControlPlane) -> Iterator[None]:
    """The policy that takes the marker off a running Job is away, as if it had failed."""
    control_plane.kubectl("delete", "mutatingadmissionpolicybinding", "embellie-marker")
    yield
    control_plane.helm("upgrade", "embellie", CHART, "--namespace", "embellie-system")


def test_a_running_job_may_not_be_suspended(
    accounts: dict[str, KubeClient],
    workloads: dict[str, Json],
    kube: KubeClient,
    without_marker_policy: None,
) -> None:
    held, free = workloads["Job held"], workloads["Job free"]
    kube.json_patch(path_of(free), [add("/spec/suspend", False)])

    def marker_stays() -> bool:
        stored = kube.json_patch(path_of(free), [add(MARKER, "true")])
        return names.HELD_LABEL in stored["metadata"]["labels"]

    until(marker_stays, "the marker's policy is still there", 15.0)
    assert "only in a pause" in denied(accounts["operator"], free, [add("/spec/suspend", True)])
    accounts["operator"].json_patch(path_of(held), [add("/spec/suspend", False)])


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


CHECKPOINT = "/metadata/annotations/embellie.io~1checkpoint"
PAUSE_BY = "/metadata/annotations/embellie.io~1pause-by"
PAUSED_AT = "/metadata/annotations/embellie.io~1paused-at"
PAUSE = [add(MARKER, "true"), add("/spec/suspend", True), add(PAUSED_AT, "2030-01-01T00:00:00Z"), remove(PAUSE_BY)]


@pytest.fixture
def pausable(workloads: dict[str, Json], kube: KubeClient) -> Json:
    """A Job that runs, and whose owner allows pauses."""
    obj = workloads["Job free"]
    kube.json_patch(path_of(obj), [add("/spec/suspend", False), add(CHECKPOINT, "takes=5m")])

    def marker_goes() -> bool:
        stored = kube.json_patch(path_of(obj), [add(MARKER, "true")])
        return names.HELD_LABEL not in stored["metadata"]["labels"]

    until(marker_goes, "the marker's policy does not act", 15.0)
    return obj


def test_a_job_that_allows_it_may_be_told_and_then_paused(
    accounts: dict[str, KubeClient], pausable: Json, kube: KubeClient
) -> None:
    accounts["operator"].json_patch(path_of(pausable), [add(PAUSE_BY, "2030-01-01T00:00:00Z")])
    assert "only in a pause" in denied(accounts["operator"], pausable, PAUSE[1:3])
    paused = accounts["operator"].json_patch(path_of(pausable), PAUSE)
    assert paused["spec"]["suspend"] is True
    assert paused["metadata"]["labels"][names.HELD_LABEL] == "true", "the marker's policy leaves it"
    released = kube.json_patch(path_of(pausable), [add("/spec/suspend", False)])
    assert names.HELD_LABEL not in released["metadata"]["labels"]


def test_a_job_may_not_be_paused_unannounced_nor_by_the_watchdog_nor_with_anything_else_changed(
    accounts: dict[str, KubeClient], pausable: Json, kube: KubeClient
) -> None:
    unannounced = [add(MARKER, "true"), add("/spec/suspend", True), add(PAUSED_AT, "2030-01-01T00:00:00Z")]
    assert denied(accounts["operator"], pausable, unannounced)
    kube.json_patch(path_of(pausable), [add(PAUSE_BY, "2030-01-01T00:00:00Z")])
    assert "nothing else in its spec" in denied(accounts["operator"], pausable, [*PAUSE, add("/spec/parallelism", 3)])
    assert "no other label" in denied(accounts["operator"], pausable, [*PAUSE, add("/metadata/labels/team", "b")])
    # Without the marker, which its policy takes from anybody but the operator, a pause is none.
    assert denied(accounts["watchdog"], pausable, PAUSE)


def test_work_that_does_not_allow_pauses_may_not_even_be_annotated(
    accounts: dict[str, KubeClient], workloads: dict[str, Json]
) -> None:
    for kind in ("Job", "Pod"):
        operations = [add(PAUSE_BY, "2030-01-01T00:00:00Z")]
        assert "allow pauses" in denied(accounts["operator"], workloads[f"{kind} free"], operations)
