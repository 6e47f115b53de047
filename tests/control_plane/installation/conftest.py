# SPDX-License-Identifier: Apache-2.0
"""A control plane of its own for the tests of what is installed: its policies act on the whole cluster."""

import itertools
from collections.abc import Iterator

import pytest
from fenced_workloads import OURS, Json, path_of, remove, spec_of

from embellie.cluster.client import ApiError, KubeClient, object_path
from embellie.domain import names
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.paths import CHART
from embellie_testbed.processes import until

RELEASE_NAMESPACE = "embellie-system"

_numbers = itertools.count(1)


@pytest.fixture(scope="package")
def control_plane() -> Iterator[ControlPlane]:
    """A running control plane without scheduler and nodes, on which the chart is installed by helm."""
    with ControlPlane.start() as plane:
        plane.helm("install", "embellie", CHART, "--namespace", RELEASE_NAMESPACE, "--create-namespace")
        yield plane


@pytest.fixture(scope="package")
def kube(control_plane: ControlPlane) -> Iterator[KubeClient]:
    """The operator's own client, as admin."""
    client = KubeClient.from_environment(control_plane.kubeconfig)
    yield client
    client.close()


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A fresh namespace."""
    name = f"team-{next(_numbers)}"
    control_plane.kubectl("create", "namespace", name)
    control_plane.wait_for_default_service_account(name)
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


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


@pytest.fixture
def workloads(kube: KubeClient, namespace: str) -> Iterator[dict[str, Json]]:
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
            spec = spec_of(kind)
            if kind == "Pod" and not marker:  # one with our gate gets our marker
                spec["schedulingGates"] = [gate for gate in spec["schedulingGates"] if gate["name"] != names.GATE]
            body = {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}
            stored = kube.create(object_path(api_version, f"{kind.lower()}s", namespace=namespace), body)
            made[f"{kind} {'held' if marker else 'free'}"] = stored
    yield made
    for obj in made.values():
        kube.json_patch(path_of(obj), [remove("/metadata/finalizers")])
