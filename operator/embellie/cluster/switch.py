# SPDX-License-Identifier: Apache-2.0
"""The switch: the ConfigMap that the admission policies read before they hold anything.

It installs off. Only a complete turn turns it on; a locked one (an uninstall is under way) is never turned on.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from embellie.cluster.client import ApiError, KubeClient, object_path

_TRIES = 3
_YES = frozenset({"true", "yes", "on", "y", "1"})

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchState:
    """What the switch says."""

    exists: bool
    enabled: bool
    locked: bool
    namespaces: frozenset[str]
    immutable: bool = False
    """Somebody froze the ConfigMap: nobody can change what it says, and it can only be deleted."""

    @property
    def holds(self) -> bool:
        """Whether admission holds new work now."""
        return self.exists and self.enabled and not self.locked

    def lets_hold(self, namespaces: Iterable[str]) -> bool:
        """Tell whether it is on for these namespaces and no others."""
        return self.enabled and self.namespaces == frozenset(namespaces)


def says_yes(value: object) -> bool:
    """Read a boolean as people write them in YAML, by the rule of the admission policies and of the watchdog.

    >>> says_yes("True"), says_yes(" yes "), says_yes("false"), says_yes(None)
    (True, True, False, False)
    """
    return str(value).strip().lower() in _YES


def encode_namespaces(namespaces: Iterable[str]) -> str:
    """Write the list as the policies look it up, framed by commas so that no name matches a part of another.

    >>> encode_namespaces(["team-b", "team-a"]), encode_namespaces([])
    (',team-a,team-b,', ',')
    """
    return "".join(f",{name}" for name in sorted(set(namespaces))) + ","


def decode_namespaces(text: str) -> frozenset[str]:
    """Read the list back."""
    return frozenset(name for name in text.split(",") if name)


class Switch:
    """Reads and writes the switch. Each write is guarded by what was read before it."""

    def __init__(self, client: KubeClient, namespace: str, name: str = "embellie-switch") -> None:
        self._client = client
        self.where = f"ConfigMap {namespace}/{name}"
        self._path = object_path("v1", "configmaps", name, namespace=namespace)

    def read(self) -> SwitchState:
        """Return what the switch says; off where it is missing."""
        return _state(self._get())

    def enable(self, namespaces: Iterable[str]) -> SwitchState:
        """Hold new work in these namespaces from now on, unless the switch is locked or missing; return its state."""
        return self._write({"enabled": "true", "namespaces": encode_namespaces(namespaces)}, even_locked=False)

    def disable(self) -> SwitchState:
        """Hold nothing new from now on; return what the switch says."""
        return self._write({"enabled": "false"}, even_locked=True)

    def no_uninstall(self) -> bool:
        """Tell whether no uninstall is under way, which locks the switch; what cannot be read allows nothing."""
        try:
            state = self.read()
        except ApiError as error:
            logger.warning("the switch cannot be read, so nothing is capped, tainted or paused: %s", error)
            return False
        return state.exists and not state.locked

    def _get(self) -> Mapping[str, Any] | None:
        try:
            return self._client.get(self._path, timeout_s=5.0)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def _write(self, wanted: Mapping[str, str], *, even_locked: bool) -> SwitchState:
        for left in reversed(range(_TRIES)):
            raw = self._get()
            state = _state(raw)
            data = (raw or {}).get("data") or {}
            if raw is None or (state.locked and not even_locked) or wanted.items() <= data.items():
                return state
            operations: list[dict[str, Any]] = [
                {"op": "test", "path": "/metadata/resourceVersion", "value": raw["metadata"]["resourceVersion"]},
                # The whole map at once also serves a ConfigMap without data; the guard keeps it from losing a key.
                {"op": "add", "path": "/data", "value": {**data, **wanted}},
            ]
            try:
                return _state(self._client.json_patch(self._path, operations, timeout_s=5.0))
            except ApiError as error:
                if not error.conflict or not left:
                    raise
        raise AssertionError("unreachable: the last try returns or raises")


def _state(raw: Mapping[str, Any] | None) -> SwitchState:
    data = (raw or {}).get("data") or {}
    return SwitchState(
        exists=raw is not None,
        enabled=says_yes(data.get("enabled")),
        locked=says_yes(data.get("locked")),
        namespaces=decode_namespaces(str(data.get("namespaces") or "")),
        immutable=(raw or {}).get("immutable") is True,
    )
