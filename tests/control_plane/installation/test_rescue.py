# SPDX-License-Identifier: Apache-2.0
"""The kubectl lines of docs/rescue-by-hand.md, run as they stand there."""

import re
import subprocess

import pytest

from embellie.cluster.client import KubeClient, object_path
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.paths import CHART, REPOSITORY

pytestmark = pytest.mark.control_plane

PAGE = REPOSITORY / "docs" / "rescue-by-hand.md"
HELD = {"embellie.io/flex": "patient", "embellie.io/held": "true"}
POD = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "train:1"}]}
SWITCH = object_path("v1", "configmaps", "embellie-switch", namespace="embellie-system")


def test_the_rescue_page_releases_everything_and_only_that(
    control_plane: ControlPlane, kube: KubeClient, namespace: str
) -> None:
    # Other files of this folder leave the switch deleted.
    control_plane.helm("upgrade", "--install", "embellie", CHART, "--namespace", "embellie-system")
    jobs = object_path("batch/v1", "jobs", namespace=namespace)
    pods = object_path("v1", "pods", namespace=namespace)
    for name, labels in (("held", HELD), ("users", {"embellie.io/flex": "patient"})):
        job = {"suspend": True, "template": {"spec": POD}}
        ours = [{"name": "embellie.io/hold"}] if name == "held" else []
        pod = {**POD, "schedulingGates": [{"name": "example.com/data"}, *ours]}
        kube.create(jobs, {"kind": "Job", "metadata": {"name": name, "labels": labels}, "spec": job})
        kube.create(pods, {"kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": pod})
    blocks = re.findall(r"```sh rescue\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 5
    script = "set -eu\n" + "\n".join(blocks)
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        env=control_plane.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    data = kube.get(SWITCH)["data"]
    kube.json_patch(SWITCH, [{"op": "add", "path": "/data/locked", "value": "false"}])
    assert (data["enabled"], data["locked"]) == ("false", "true")
    job, pod = kube.get(f"{jobs}/held"), kube.get(f"{pods}/held")
    assert job["spec"]["suspend"] is False
    assert pod["spec"]["schedulingGates"] == [{"name": "example.com/data"}]
    for obj in (job, pod):
        assert "embellie.io/held" not in obj["metadata"]["labels"]
    assert kube.get(f"{jobs}/users")["spec"]["suspend"] is True
    assert kube.get(f"{pods}/users")["spec"]["schedulingGates"] == [{"name": "example.com/data"}]
