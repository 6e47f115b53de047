# SPDX-License-Identifier: Apache-2.0
"""A real control plane for the tests: one per worker process, started when the first test asks for it."""

import itertools
from collections.abc import Iterator

import pytest

from embellie.cluster.client import KubeClient
from embellie.watchdog.api import Api, connect
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.nodes import gpu_nodes
from embellie_testbed.paths import CHART, REPOSITORY

CRDS = REPOSITORY / "manifests" / "crds"
RELEASE_NAMESPACE = "embellie-system"

_namespace_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest) -> Iterator[ControlPlane]:
    """A running control plane with our CRDs, scheduler and kwok, and without nodes and without the chart."""
    with ControlPlane.start(scheduler=True, kwok=True) as plane:
        plane.apply(CRDS)
        yield plane
        if request.session.testsfailed:
            plane.keep_logs()


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A fresh namespace in which pods can be created at once; deleted after the test."""
    name = f"test-{next(_namespace_numbers)}"
    control_plane.kubectl("create", "namespace", name)
    control_plane.wait_for_default_service_account(name)
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def kube(control_plane: ControlPlane) -> Iterator[KubeClient]:
    """The operator's own client, as admin."""
    client = KubeClient.from_environment(control_plane.kubeconfig)
    yield client
    client.close()


@pytest.fixture
def api(control_plane: ControlPlane) -> Api:
    """The watchdog's own client, as admin."""
    return connect(control_plane.kubeconfig)


@pytest.fixture
def fresh_control_plane() -> Iterator[ControlPlane]:
    """A control plane of the test's own, for what would disturb others: without CRDs, nodes and chart."""
    with ControlPlane.start(scheduler=True, kwok=True) as plane:
        yield plane


@pytest.fixture(scope="session")
def gpu_cluster(control_plane: ControlPlane) -> ControlPlane:
    """The control plane with eight simulated nodes of eight GPUs: zones west and east, two rows each."""
    control_plane.add_nodes(*gpu_nodes(8))
    return control_plane


@pytest.fixture(scope="module")
def installed_chart(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """The control plane with the chart installed by helm; no node runs its pods, its RBAC and policies are real.

    Its policies act on the whole cluster, so it goes with the module. Its hooks have no node to run on.
    """
    control_plane.helm(
        "install", "embellie", CHART, "-n", RELEASE_NAMESPACE, "--create-namespace", "--wait=false", "--take-ownership"
    )
    yield control_plane
    control_plane.helm("uninstall", "embellie", "-n", RELEASE_NAMESPACE, "--no-hooks")
    control_plane.kubectl("delete", "leases", "--all", "-n", RELEASE_NAMESPACE)
