# SPDX-License-Identifier: Apache-2.0
"""When our own ServiceAccounts may pause a running Job: only announced, only where its owner allows it."""

from collections.abc import Iterator

import pytest
from fenced_workloads import MARKER, Json, add, denied, path_of, remove

from embellie.cluster.client import KubeClient
from embellie.domain import names
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.paths import CHART
from embellie_testbed.processes import until

pytestmark = pytest.mark.control_plane

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
    accounts: dict[str, KubeClient], pausable: Json
) -> None:
    unannounced = [add(MARKER, "true"), add("/spec/suspend", True), add(PAUSED_AT, "2030-01-01T00:00:00Z")]
    assert denied(accounts["operator"], pausable, unannounced)
    accounts["operator"].json_patch(path_of(pausable), [add(PAUSE_BY, "2030-01-01T00:00:00Z")])
    assert "nothing else in its spec" in denied(accounts["operator"], pausable, [*PAUSE, add("/spec/parallelism", 3)])
    assert "no other label" in denied(accounts["operator"], pausable, [*PAUSE, add("/metadata/labels/team", "b")])
    assert "no other label" in denied(accounts["operator"], pausable, [*PAUSE, remove("/metadata/labels/team")])
    # Without the marker, which its policy takes from anybody but the operator, a pause is none.
    assert denied(accounts["watchdog"], pausable, PAUSE)


def test_work_that_does_not_allow_pauses_may_not_even_be_annotated(
    accounts: dict[str, KubeClient], workloads: dict[str, Json]
) -> None:
    for kind in ("Job", "Pod"):
        operations = [add(PAUSE_BY, "2030-01-01T00:00:00Z")]
        assert "allow pauses" in denied(accounts["operator"], workloads[f"{kind} free"], operations)


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
