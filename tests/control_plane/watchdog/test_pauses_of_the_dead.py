# SPDX-License-Identifier: Apache-2.0
"""A pause that was announced by an operator that is gone is taken back, from Job and pods, by whoever is left."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from watched_cluster import beat, events, guard_options, make_switch, watchdog

from embellie.watchdog import names
from embellie.watchdog.api import Api, connect, namespaced
from embellie_testbed.processes import until
from embellie_testbed.product import NAMESPACE, program

pytestmark = pytest.mark.control_plane

BY = "2026-01-01T00:00:00Z"
TOLD = {"metadata": {"annotations": {names.PAUSE_BY: BY}}}


@pytest.fixture
def told(control_plane: Any, api: Api, namespace: str) -> Iterator[str]:
    """Return a namespace with a Job that was told to pause, one whose pods only were, and one that never opted in."""
    for name, labels in (("told", "patient"), ("half", "bonus"), ("stranger", "rigid")):
        notes = {names.CHECKPOINT: "takes=5m"}
        pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "train"}]}
        body = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "labels": {names.FLEX_LABEL: labels}, "annotations": notes},
            "spec": {"parallelism": 2, "template": {"metadata": {"annotations": notes}, "spec": pod}},
        }
        api.create(namespaced("apis/batch/v1", namespace, "jobs"), body)
    until(lambda: len(pods(api, namespace)) == 6, "the Jobs have their pods")
    for pod in pods(api, namespace):
        api.merge_patch(namespaced("api/v1", namespace, "pods", pod["metadata"]["name"]), TOLD)
    for name in ("told", "stranger"):
        api.merge_patch(namespaced("apis/batch/v1", namespace, "jobs", name), TOLD)
    yield namespace
    control_plane.kubectl("delete", "jobs", "--all", "-n", namespace, "--cascade=foreground")


def pods(api: Api, namespace: str) -> list[dict[str, Any]]:
    return api.list(namespaced("api/v1", namespace, "pods"))


def still_told(api: Api, namespace: str) -> list[str]:
    """Return the Jobs and the owners of pods that are still told to pause."""
    found = {
        obj["metadata"]["name"].rpartition("-")[0] or obj["metadata"]["name"]
        for obj in pods(api, namespace) + api.list(namespaced("apis/batch/v1", namespace, "jobs"))
        if names.PAUSE_BY in obj["metadata"]["annotations"]
    }
    return sorted(found)


def test_the_watchdog_takes_it_back_with_its_own_token(
    installed_chart: Any, api: Api, told: str, tmp_path: Path
) -> None:
    token = installed_chart.kubeconfig_for(NAMESPACE, "embellie-watchdog")
    # Admission takes such a note off a Job that opted in, unless the operator writes it.
    operator = connect(installed_chart.kubeconfig_for(NAMESPACE, "embellie-operator"))
    operator.merge_patch(namespaced("apis/batch/v1", told, "jobs", "told"), TOLD)
    with watchdog(installed_chart, tmp_path / "log", "run", NAMESPACE, *guard_options(), kubeconfig=token):
        until(lambda: still_told(api, told) == ["stranger"], (tmp_path / "log").read_text())
        (event,) = until(lambda: events(api, told, "PauseWithdrawn"), "an event tells of it")
    assert event["regarding"]["name"] == "told"


def test_a_living_operator_is_left_to_carry_it_out(control_plane: Any, api: Api, told: str, tmp_path: Path) -> None:
    make_switch(api, told)
    beat(api, told)
    with watchdog(control_plane, tmp_path / "log", "run", told, *guard_options(dead_man=30.0)):
        until(lambda: "leadership-won" in (tmp_path / "log").read_text(), "it leads")
        beat(api, told)
    assert still_told(api, told) == ["half", "stranger", "told"]


@pytest.mark.parametrize("verb", ["uninstall", "release"])
def test_an_uninstall_and_a_release_of_everything_take_it_back(
    control_plane: Any, api: Api, told: str, tmp_path: Path, verb: str
) -> None:
    make_switch(api, told)
    flags = ["--all"] if verb == "release" else []
    with watchdog(control_plane, tmp_path / "log", verb, told, *flags) as process:
        assert process.wait(timeout=60) == 0, (tmp_path / "log").read_text()
    assert still_told(api, told) == ["stranger"]


def test_an_administrators_release_of_everything_takes_it_back(control_plane: Any, api: Api, told: str) -> None:
    command = [program("embellie"), "release", "--all", "--kubeconfig", str(control_plane.kubeconfig)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert still_told(api, told) == ["stranger"]
