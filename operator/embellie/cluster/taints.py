# SPDX-License-Identifier: Apache-2.0
"""Taints and tolerations: which nodes turn a pod away. Pure; follows the scheduler's own rules."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from embellie.domain import names
from embellie.domain.times import parse_time

_TURNS_AWAY = ("NoSchedule", "NoExecute")
_MOMENTARY = ("node.kubernetes.io/", names.OVERHEATED)
"""Prefixes of what the node controller sets while a node is unwell or cordoned, and ours while its zone is too hot:
`NodeRecord.schedulable` tells that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """What keeps pods that do not tolerate it off a node."""

    key: str
    value: str = ""
    effect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    """A pod's leave to run in spite of a taint."""

    key: str = ""
    """Empty with `exists`: any key."""
    exists: bool = False
    """Operator `Exists`; else `Equal`."""
    value: str = ""
    effect: str = ""
    """Empty: any effect."""

    def tolerates(self, taint: Taint) -> bool:
        """Tell whether this toleration covers the taint."""
        if self.effect and self.effect != taint.effect:
            return False
        if self.exists:
            return self.key in ("", taint.key)
        return self.key == taint.key and self.value == taint.value


def parse_taints(node_spec: Mapping[str, Any]) -> tuple[Taint, ...]:
    """Read the lasting taints that turn pods away; those that come and go would make a cell unusable for a moment."""
    return tuple(
        Taint(key=key, value=str(raw.get("value") or ""), effect=str(raw["effect"]))
        for raw in node_spec.get("taints") or ()
        if raw.get("effect") in _TURNS_AWAY and not (key := str(raw.get("key") or "")).startswith(_MOMENTARY)
    )


def overheated_zone(node_spec: Mapping[str, Any]) -> tuple[str, datetime | None]:
    """Return the thermal zone that our taint on a node names and since when it stands; empty without one."""
    for raw in node_spec.get("taints") or ():
        if raw.get("key") == names.OVERHEATED:
            return str(raw.get("value") or "?"), parse_time(raw.get("timeAdded"))
    return "", None


def parse_tolerations(pod_spec: Mapping[str, Any]) -> tuple[Toleration, ...]:
    """Read the tolerations that can matter: the two for momentary taints that every pod gets would say nothing."""
    return tuple(
        Toleration(
            key=key,
            exists=raw.get("operator") == "Exists",
            value=str(raw.get("value") or ""),
            effect=str(raw.get("effect") or ""),
        )
        for raw in pod_spec.get("tolerations") or ()
        if raw.get("operator") in (None, "", "Equal", "Exists")
        and not (key := str(raw.get("key") or "")).startswith(_MOMENTARY)
    )


def tolerated(taints: Iterable[Taint], tolerations: Iterable[Toleration], *, uses_gpus: bool) -> bool:
    """Tell whether a pod with these tolerations may be put on a node with these taints."""
    own = tuple(tolerations)
    return all((uses_gpus and _added(taint)) or any(t.tolerates(taint) for t in own) for taint in taints)


def _added(taint: Taint) -> bool:
    """Tell whether the admission plugin ExtendedResourceToleration gives pods with GPUs leave for the taint.

    It does so when a pod is created, so a Job's template does not show it, and whether the API server runs it cannot be
    seen. Many do; taking the taint for a barrier there would close every cell to work that runs well.
    """
    return taint.key == names.GPU_RESOURCE and taint.effect == "NoSchedule"
