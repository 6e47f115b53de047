# SPDX-License-Identifier: Apache-2.0
"""What a kubelet knows of the pods that it runs as processes, and what it reports of them; pure."""

from dataclasses import dataclass, field
from typing import Any

from embellie_testbed.pods import Launch


@dataclass(slots=True, kw_only=True)
class RunningContainer:
    """One container and the process that stands for it."""

    name: str
    program: str
    launch: Launch
    environment: dict[str, str]
    probe: tuple[int, str] | None
    pid: int = 0
    starts: int = 0
    started: str = ""
    exit_code: int | None = None
    retry_at: float = 0.0
    ready: bool = False


@dataclass(slots=True, kw_only=True)
class RunningPod:
    """One pod that this kubelet has taken on."""

    path: str
    restart_policy: str
    containers: list[RunningContainer]
    started: str
    stop_by: float | None = None
    reported: dict[str, Any] = field(default_factory=dict)


def should_start(container: RunningContainer, policy: str) -> bool:
    """Tell whether a container is to be started, or started again, under its pod's restart policy."""
    if container.starts == 0:
        return True
    if container.exit_code is None or policy == "Never":
        return False
    return policy == "Always" or container.exit_code != 0


def status_of(running: RunningPod) -> dict[str, Any]:
    """Return the status that the API server is told."""
    containers = running.containers
    ended = all(each.starts and each.exit_code is not None for each in containers)
    good = all(each.exit_code == 0 for each in containers)
    phase = "Running"
    if ended and running.restart_policy != "Always" and (good or running.restart_policy == "Never"):
        phase = "Succeeded" if good else "Failed"
    ready = phase == "Running" and all(each.ready for each in containers)
    return {
        "phase": phase,
        "startTime": running.started,
        "podIP": "127.0.0.1",
        "podIPs": [{"ip": "127.0.0.1"}],
        "conditions": [
            condition("Initialized", on=True),
            condition("ContainersReady", on=ready),
            condition("Ready", on=ready),
        ],
        "containerStatuses": [_container_status(each) for each in containers],
    }


def condition(kind: str, *, on: bool, reason: str = "") -> dict[str, str]:
    """Return one condition of a pod or node."""
    return {"type": kind, "status": "True" if on else "False", **({"reason": reason} if reason else {})}


def _container_status(container: RunningContainer) -> dict[str, Any]:
    state: dict[str, Any] = {"running": {"startedAt": container.started}}
    if container.exit_code is not None:
        state = {
            "terminated": {
                # A process that a signal ended has a negative code here; containers say 128 and more.
                "exitCode": container.exit_code if container.exit_code >= 0 else 128 - container.exit_code,
                "startedAt": container.started,
                "reason": "Completed" if container.exit_code == 0 else "Error",
            }
        }
    return {
        "name": container.name,
        "image": "process",
        "imageID": "",
        "containerID": f"process://{container.pid}",
        "ready": container.ready,
        "restartCount": max(0, container.starts - 1),
        "state": state,
    }
