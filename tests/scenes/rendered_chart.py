# SPDX-License-Identifier: Apache-2.0
"""The chart as helm renders it, and its pods' commands as the kubelet would run them."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.paths import CHART
from embellie_testbed.product import program

HOME = "embellie-system"
RELEASE = ("embellie", CHART, "--namespace", HOME)

Json = dict[str, Any]


def documents(text: str) -> list[Json]:
    return [document for document in yaml.safe_load_all(text) if document]


def rendered(control_plane: ControlPlane, *options: str) -> list[Json]:
    return documents(control_plane.helm("template", *RELEASE, "--kube-version", "1.36.0", *options))


def of_kind(objects: list[Json], kind: str, name: str = "") -> list[Json]:
    return [o for o in objects if o["kind"] == kind and name in ("", o["metadata"]["name"])]


def command(pod: Json, name: str) -> list[str]:
    """The command of a pod's container as the kubelet would run it."""
    (container,) = [c for c in pod["containers"] if c["name"] == name]
    values = {"POD_NAMESPACE": HOME, "POD_NAME": "pod-0"}
    # The forecaster knows nothing of pods; it only needs a place for its models that it may write to.
    assert {e["name"] for e in container.get("env", [])} in (set(), set(values), {"EMBELLIE_CACHE", "EMBELLIE_MODELS"})
    line = [*container["command"], *container["args"]]
    return [re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], word) for word in line]


def run(line: list[str], kubeconfig: Path | None = None, *, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    name, *arguments = line
    environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
    if kubeconfig is not None:
        environment["KUBECONFIG"] = str(kubeconfig)
    return subprocess.run(
        [program(name), *arguments], env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
