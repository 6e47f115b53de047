# SPDX-License-Identifier: Apache-2.0
"""A site with two zones and one policy, whose operator each test starts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from operated_site import Site
from users_work import ZONE

from embellie.cluster.client import KubeClient
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.product import NAMESPACE, dirty_now_clean_later, write_forecast


@pytest.fixture
def site(
    gpu_cluster: ControlPlane, installed_chart: ControlPlane, kube: KubeClient, namespace: str, tmp_path: Path
) -> Iterator[Site]:
    """A site whose operator is not started yet; everything cluster-wide is removed after the test."""
    found = Site(gpu_cluster, kube, tmp_path / "exchange", namespace)
    for zone, region, jurisdiction in (("west", "US-CISO", "US-CA"), ("east", "US-PJM", "US-VA")):
        found.apply("GridZone", zone, nodeSelector={ZONE: zone}, gridRegion=region, jurisdiction=jurisdiction)
        write_forecast(found.exchange, zone, dirty_now_clean_later())
    selector = {"matchNames": [namespace]}
    found.apply("EnergyPolicy", namespace, mode="enforce", namespaceSelector=selector, maxDelaySeconds=86400)
    yield found
    found.stop()
    gpu_cluster.kubectl("delete", "gridzones,energypolicies,thermalzones", "--all", "--wait=true")
    gpu_cluster.kubectl("delete", "jobs,pods", "--all", "-n", namespace, "--wait=false", "--grace-period=0")
    gpu_cluster.kubectl(
        "patch", "configmap", "embellie-switch", "-n", NAMESPACE, "--type=merge",
        "-p", '{"data":{"enabled":"false","locked":"false","namespaces":","}}',
    )  # fmt: skip
