# SPDX-License-Identifier: Apache-2.0
"""What a container of a pod becomes as an ordinary process: its command line and its environment; pure.

There is no file system of its own: where a container would see a volume at its mount path, the path is rewritten to
the folder that the volume really is. A declared container port becomes a free port in the same way, since two replicas
share this machine.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start one container as a process."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    wants_token: bool
    """Whether the container mounts a ServiceAccount token."""


def launch_of(
    pod: Mapping[str, Any], container: Mapping[str, Any], *, volumes: Mapping[str, Path], ports: Mapping[int, int]
) -> Launch:
    """Return the process that stands for a container.

    Args:
        pod: the Pod object.
        container: one of its containers.
        volumes: the folder of each volume by its name.
        ports: the free port that stands for each declared container port.
    """
    environment = {entry["name"]: _value(pod, entry) for entry in container.get("env", [])}
    mounts = [(mount["mountPath"], volumes[mount["name"]]) for mount in container.get("volumeMounts", [])]
    # The longest first: /var/lib/embellie is not /var/lib.
    mounts.sort(key=lambda mount: -len(mount[0]))
    arguments = [
        _with_port(_with_mounts(_expand(text, environment), mounts), ports)
        for text in (*container.get("command", []), *container.get("args", []))
    ]
    environment = {name: _with_mounts(value, mounts) for name, value in environment.items()}
    tokens = token_volumes(pod)
    wants_token = any(mount["name"] in tokens for mount in container.get("volumeMounts", []))
    return Launch(argv=tuple(arguments), environment=environment, wants_token=wants_token)


def links_of(container: Mapping[str, Any], volumes: Mapping[str, Path]) -> dict[Path, Path]:
    """Return where a volume that is mounted inside of another shows in the other's folder, and its own folder."""
    mounts = [(Path(mount["mountPath"]), volumes[mount["name"]]) for mount in container.get("volumeMounts", [])]
    return {
        around / inner.relative_to(outer): folder
        for inner, folder in mounts
        for outer, around in mounts
        if outer in inner.parents
    }


def token_volumes(pod: Mapping[str, Any]) -> set[str]:
    """Return the names of volumes that carry a ServiceAccount token."""
    return {
        volume["name"]
        for volume in pod["spec"].get("volumes", [])
        if any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", []))
    }


def mounted_object(volume: Mapping[str, Any]) -> str:
    """Return the path of the ConfigMap or Secret that a volume holds, within its namespace; empty for other volumes."""
    if name := volume.get("configMap", {}).get("name"):
        return f"configmaps/{name}"
    name = volume.get("secret", {}).get("secretName")
    return f"secrets/{name}" if name else ""


def files_of(found: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files that a ConfigMap or a Secret mounts, by name."""
    text, binary = (found.get("data") or {}, found.get("binaryData") or {})
    if found.get("kind") == "Secret":
        text, binary = {}, text
    return {name: value.encode() for name, value in text.items()} | {
        name: base64.b64decode(value) for name, value in binary.items()
    }


def declared_ports(pod: Mapping[str, Any]) -> list[int]:
    """Return the ports that the containers of a pod declare."""
    containers = pod["spec"]["containers"]
    return [int(port["containerPort"]) for container in containers for port in container.get("ports", [])]


def probe_target(container: Mapping[str, Any], ports: Mapping[int, int]) -> tuple[int, str] | None:
    """Return port and path of a container's HTTP readiness probe; None where it has none."""
    probe = container.get("readinessProbe", {}).get("httpGet")
    if probe is None:
        return None
    named = {port.get("name"): int(port["containerPort"]) for port in container.get("ports", [])}
    port = named[probe["port"]] if probe["port"] in named else int(probe["port"])
    return ports.get(port, port), probe.get("path", "/")


def _value(pod: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    if "valueFrom" not in entry:
        return str(entry.get("value", ""))
    found: Any = pod
    for key in entry["valueFrom"].get("fieldRef", {}).get("fieldPath", "").split("."):
        found = found.get(key, {})
    return found if isinstance(found, str) else ""


def _expand(text: str, environment: Mapping[str, str]) -> str:
    return _REFERENCE.sub(lambda match: environment.get(match.group(1), match.group(0)), text)


def _with_mounts(text: str, mounts: list[tuple[str, Path]]) -> str:
    for mount_path, folder in mounts:
        replaced = re.sub(rf"(?<![\w/.-]){re.escape(mount_path)}(?![\w.-])", str(folder), text)
        if replaced != text:
            return replaced
    return text


def _with_port(text: str, ports: Mapping[int, int]) -> str:
    found = re.fullmatch(r"(--[\w-]*port[\w-]*=)(\d+)", text)
    if found is None or int(found.group(2)) not in ports:
        return text
    return f"{found.group(1)}{ports[int(found.group(2))]}"
