# SPDX-License-Identifier: Apache-2.0
"""A control plane of its own for the tests of what is installed: its policies act on the whole cluster."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from embellie.cluster.client import KubeClient
from embellie_testbed.controlplane import ControlPlane

CHART = Path(__file__).parents[3] / "charts" / "embellie"
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
