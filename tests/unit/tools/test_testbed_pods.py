# SPDX-License-Identifier: Apache-2.0
"""How a container becomes an ordinary process."""

from pathlib import Path
from typing import Any

import pytest

from embellie_testbed.pods import (
    declared_ports,
    files_of,
    launch_of,
    links_of,
    mounted_object,
    probe_target,
    token_volumes,
)
from embellie_testbed.processes import Processes, ProgramError

CONTAINER: dict[str, Any] = {
    "name": "operator",
    "command": ["embellie"],
    "args": [
        "--as=$(POD_NAME)",
        "--dir=/var/lib/embellie",
        "--metrics-port=8080",
        "--seconds=8080",
        "--x=$(NO)",
        "/varlib",
    ],
    "env": [
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "PLACE", "value": "/var/lib/embellie/a:/var/lib/embellie-other"},
    ],
    "ports": [{"name": "metrics", "containerPort": 8080}],
    "readinessProbe": {"httpGet": {"path": "/readyz", "port": "metrics"}},
    "volumeMounts": [
        {"name": "all", "mountPath": "/var"},
        {"name": "forecasts", "mountPath": "/var/lib/embellie"},
        {"name": "token", "mountPath": "/var/run/secrets"},
    ],
}
FORECASTER: dict[str, Any] = {"name": "forecaster", "command": ["embellie-forecast"]}
POD: dict[str, Any] = {
    "metadata": {"name": "operator-1"},
    "spec": {
        "nodeName": "host-1",
        "containers": [CONTAINER, FORECASTER],
        "volumes": [
            {"name": "all", "emptyDir": {}},
            {"name": "forecasts", "emptyDir": {}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        ],
    },
}
VOLUMES = {name: Path("/tmp/pod") / name for name in ("all", "forecasts", "token")}  # noqa: S108 - only a name


def test_arguments_know_their_fields_folders_and_ports() -> None:
    launch = launch_of(POD, CONTAINER, volumes=VOLUMES, ports={8080: 20001})
    assert launch.argv == (
        "embellie",
        "--as=operator-1",
        "--dir=/tmp/pod/forecasts",
        "--metrics-port=20001",
        "--seconds=8080",
        "--x=$(NO)",
        "/varlib",
    )
    assert launch.environment["NODE"] == "host-1"
    assert launch.environment["PLACE"] == "/tmp/pod/forecasts/a:/var/lib/embellie-other"  # noqa: S108


def test_a_volume_that_is_mounted_inside_of_another_is_seen_there() -> None:
    pod = Path("/tmp/pod")  # noqa: S108 - only a name
    assert links_of(CONTAINER, VOLUMES) == {
        pod / "all/lib/embellie": pod / "forecasts",
        pod / "all/run/secrets": pod / "token",
    }
    assert links_of(FORECASTER, VOLUMES) == {}


def test_only_a_container_that_mounts_a_token_gets_one() -> None:
    assert token_volumes(POD) == {"token"}
    assert launch_of(POD, CONTAINER, volumes=VOLUMES, ports={}).wants_token
    assert not launch_of(POD, FORECASTER, volumes=VOLUMES, ports={}).wants_token


def test_the_readiness_probe_asks_the_port_that_stands_for_the_declared_one() -> None:
    assert declared_ports(POD) == [8080]
    assert probe_target(CONTAINER, {8080: 20001}) == (20001, "/readyz")
    assert probe_target(FORECASTER, {}) is None


def test_a_variable_from_elsewhere_than_a_field_is_empty() -> None:
    source = {"configMapKeyRef": {"name": "settings", "key": "rate"}}
    container = {"name": "train", "command": ["train"], "env": [{"name": "RATE", "valueFrom": source}]}
    assert launch_of(POD, container, volumes={}, ports={}).environment == {"RATE": ""}


def test_a_container_without_a_command_fails_alone() -> None:
    processes = Processes()
    try:
        processes.start("other", ["sleep", "60"])
        with pytest.raises(ProgramError, match="start image"):
            processes.start("image", [])
        assert processes.exit_code("other") is None
    finally:
        processes.close()


def test_a_volume_of_a_configmap_or_secret_has_its_files() -> None:
    volumes = ({"configMap": {"name": "grid"}}, {"secret": {"secretName": "feeds"}}, {"emptyDir": {}})
    assert [mounted_object(volume) for volume in volumes] == ["configmaps/grid", "secrets/feeds", ""]
    grid = {"kind": "ConfigMap", "data": {"SHA256SUMS": "ab  FR.csv"}, "binaryData": {"FR.csv": "AAE="}}
    assert files_of(grid) == {"SHA256SUMS": b"ab  FR.csv", "FR.csv": b"\x00\x01"}
    assert files_of({"kind": "Secret", "data": {"EIA_API_KEY": "a2V5"}}) == {"EIA_API_KEY": b"key"}
    assert files_of({}) == {}
