# SPDX-License-Identifier: Apache-2.0
"""What the chart's ServiceAccounts and roles may do, as the API server's own authorizer says."""

from collections.abc import Iterator

import pytest

from embellie.cluster.client import KubeClient
from embellie_testbed.controlplane import ControlPlane

pytestmark = pytest.mark.control_plane

HOME = "embellie-system"
ELSEWHERE = "default"
OPERATOR = f"system:serviceaccount:{HOME}:embellie-operator"
WATCHDOG = f"system:serviceaccount:{HOME}:embellie-watchdog"
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")

# (group, resource, subresource, name, namespace): the verbs. Whatever is not named must be refused.
Where = tuple[str, str, str, str, str]
GRANTED: dict[str, dict[Where, set[str]]] = {
    OPERATOR: {
        ("", "pods", "", "", ELSEWHERE): {"list", "watch", "get", "patch"},
        ("batch", "jobs", "", "", ELSEWHERE): {"list", "watch", "get", "patch"},
        ("", "nodes", "", "", ""): {"get", "list", "watch", "patch"},
        ("", "namespaces", "", "", ""): {"list", "watch"},
        ("embellie.io", "gridzones", "", "", ""): {"list", "watch"},
        ("embellie.io", "thermalzones", "", "", ""): {"list", "watch"},
        ("embellie.io", "energypolicies", "", "", ""): {"list", "watch"},
        ("embellie.io", "workloadplans", "", "", ELSEWHERE): {"get", "list", "watch", "create", "patch", "delete"},
        ("embellie.io", "powercaps", "", "", ""): {"list", "create", "patch", "delete"},
        ("embellie.io", "gridzones", "status", "", ""): {"patch"},
        ("embellie.io", "thermalzones", "status", "", ""): {"patch"},
        ("embellie.io", "energypolicies", "status", "", ""): {"patch"},
        ("embellie.io", "workloadplans", "status", "", ELSEWHERE): {"patch"},
        ("events.k8s.io", "events", "", "", ELSEWHERE): {"create"},
        ("", "configmaps", "", "embellie-switch", HOME): {"get", "patch"},
        ("coordination.k8s.io", "leases", "", "", HOME): {"create"},
        ("coordination.k8s.io", "leases", "", "embellie-leader", HOME): {"get", "update", "create"},
        ("coordination.k8s.io", "leases", "", "embellie-heartbeat", HOME): {"patch", "create"},
        ("coordination.k8s.io", "leases", "", "embellie-watchdog", HOME): {"create"},
        ("coordination.k8s.io", "leases", "", "somebody-elses", HOME): {"create"},
    },
    WATCHDOG: {
        ("", "pods", "", "", ELSEWHERE): {"list", "patch"},
        ("batch", "jobs", "", "", ELSEWHERE): {"list", "patch"},
        ("embellie.io", "workloadplans", "", "", ELSEWHERE): {"list"},
        ("embellie.io", "gridzones", "", "", ""): {"list"},
        ("embellie.io", "powercaps", "", "", ""): {"list", "delete"},
        ("", "nodes", "", "", ""): {"list", "patch"},
        ("events.k8s.io", "events", "", "", ELSEWHERE): {"create"},
        ("", "configmaps", "", "embellie-switch", HOME): {"get", "patch", "delete"},
        ("coordination.k8s.io", "leases", "", "", HOME): {"create"},
        ("coordination.k8s.io", "leases", "", "embellie-watchdog", HOME): {"get", "update", "create"},
        ("coordination.k8s.io", "leases", "", "embellie-heartbeat", HOME): {"get", "create"},
        ("coordination.k8s.io", "leases", "", "embellie-leader", HOME): {"create"},
    },
}

NOBODYS: list[Where] = [
    ("", "secrets", "", "", HOME),
    ("", "secrets", "", "", ELSEWHERE),
    ("", "configmaps", "", "", HOME),
    ("", "configmaps", "", "", ELSEWHERE),
    ("", "configmaps", "", "embellie-switch", ELSEWHERE),
    ("", "serviceaccounts", "token", "", HOME),
    ("", "pods", "exec", "", ELSEWHERE),
    ("", "pods", "binding", "", ELSEWHERE),
    ("", "pods", "eviction", "", ELSEWHERE),
    ("", "pods", "status", "", ELSEWHERE),
    ("batch", "jobs", "status", "", ELSEWHERE),
    ("batch", "cronjobs", "", "", ELSEWHERE),
    ("apps", "deployments", "", "", ELSEWHERE),
    ("", "nodes", "status", "", ""),
    ("", "nodes", "proxy", "", ""),
    ("coordination.k8s.io", "leases", "", "", "kube-system"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies", "", "", ""),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings", "", "", ""),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies", "", "", ""),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations", "", "", ""),
    ("apiextensions.k8s.io", "customresourcedefinitions", "", "", ""),
    ("rbac.authorization.k8s.io", "clusterroles", "", "", ""),
    ("rbac.authorization.k8s.io", "clusterrolebindings", "", "", ""),
    ("rbac.authorization.k8s.io", "roles", "", "", HOME),
]


def allowed(kube: KubeClient, who: str, where: Where, groups: list[str] | None = None) -> set[str]:
    """The verbs that the authorizer grants."""
    group, resource, subresource, name, namespace = where
    attributes = {
        "group": group,
        "resource": resource,
        "subresource": subresource,
        "name": name,
        "namespace": namespace,
        "version": "*",
    }
    found = set()
    for verb in VERBS:
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": who, "groups": groups or [], "resourceAttributes": {**attributes, "verb": verb}},
        }
        answer = kube.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body=body)
        if answer["status"]["allowed"]:
            found.add(verb)
    return found


@pytest.mark.parametrize(("who", "where"), [(w, r) for w, rules in GRANTED.items() for r in rules], ids=str)
def test_our_accounts_have_just_these_rights(kube: KubeClient, who: str, where: Where) -> None:
    assert allowed(kube, who, where) == GRANTED[who][where]


@pytest.mark.parametrize("who", [OPERATOR, WATCHDOG])
@pytest.mark.parametrize("where", NOBODYS, ids=str)
def test_our_accounts_have_no_other_rights(kube: KubeClient, who: str, where: Where) -> None:
    assert allowed(kube, who, where) == set()


def test_the_roles_hold_no_wildcard(control_plane: ControlPlane) -> None:
    manifest = control_plane.helm("get", "manifest", "embellie", "--namespace", HOME)
    rbac = [part for part in manifest.split("---\n") if "kind: ClusterRole\n" in part or "kind: Role\n" in part]
    assert len(rbac) >= 6
    assert not any("*" in line for part in rbac for line in part.splitlines() if not line.startswith("#"))


@pytest.fixture(scope="module")
def people(control_plane: ControlPlane) -> Iterator[None]:
    """A researcher with `view`, one with `edit` in one namespace, and an admin of zones in the whole cluster."""
    for name, role, scope in (
        ("viewer", "view", "rolebinding"),
        ("editor", "edit", "rolebinding"),
        ("facility", "edit", "clusterrolebinding"),
    ):
        where = ["--namespace", ELSEWHERE] if scope == "rolebinding" else []
        control_plane.kubectl("create", scope, name, f"--clusterrole={role}", f"--user={name}", *where)
    yield
    control_plane.kubectl("delete", "rolebinding", "viewer", "editor", "--namespace", ELSEWHERE)
    control_plane.kubectl("delete", "clusterrolebinding", "facility")


READ = {"get", "list", "watch"}
WRITE = {"create", "update", "patch", "delete", "deletecollection"}


@pytest.mark.parametrize(
    ("who", "where", "verbs"),
    [
        ("viewer", ("embellie.io", "workloadplans", "", "", ELSEWHERE), READ),
        ("editor", ("embellie.io", "workloadplans", "", "", ELSEWHERE), READ),
        ("editor", ("embellie.io", "workloadplans", "", "", "kube-system"), set()),
        ("editor", ("embellie.io", "energypolicies", "", "", ""), set()),
        ("facility", ("embellie.io", "gridzones", "", "", ""), READ | WRITE),
        ("facility", ("embellie.io", "thermalzones", "", "", ""), READ | WRITE),
        ("facility", ("embellie.io", "energypolicies", "", "", ""), READ | WRITE),
        ("facility", ("embellie.io", "energypolicies", "status", "", ""), set()),
        ("facility", ("embellie.io", "powercaps", "", "", ""), READ),
        ("facility", ("embellie.io", "workloadplans", "", "", ELSEWHERE), READ),
    ],
)
def test_peoples_roles_read_all_and_write_zones_and_policies(
    people: None, kube: KubeClient, who: str, where: Where, verbs: set[str]
) -> None:
    assert allowed(kube, who, where) == verbs
