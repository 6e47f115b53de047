# SPDX-License-Identifier: Apache-2.0
"""The switch: the ConfigMap that the admission policies take as their parameter."""

from dataclasses import dataclass

from embellie.watchdog import names
from embellie.watchdog.api import Api, ApiError, namespaced
from embellie.watchdog.log import log

_YES = frozenset({"true", "yes", "on", "y", "1"})
"""What counts as true, as people write booleans in YAML; the admission policies have the same list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """What the ConfigMap says; a missing one says off."""

    enabled: bool
    locked: bool
    exists: bool = True
    immutable: bool = False


def path(namespace: str, name: str) -> str:
    """Return where the API server has the switch of an installation."""
    return namespaced("api/v1", namespace, "configmaps", names.switch_name(name))


def read(api: Api, namespace: str, name: str) -> Switch:
    """Read the switch."""
    try:
        found = api.get(path(namespace, name))
    except ApiError as error:
        if error.status == 404:
            return Switch(enabled=False, locked=False, exists=False)
        raise
    data = found.get("data") or {}
    enabled, locked = (str(data.get(key)).strip().lower() in _YES for key in ("enabled", "locked"))
    return Switch(enabled=enabled, locked=locked, immutable=found.get("immutable") is True)


def turn_off(api: Api, namespace: str, name: str, *, lock: bool = False) -> bool:
    """Switch holding off, and lock it if asked; return whether anything was written.

    A ConfigMap that somebody made immutable is deleted, which is off, and locked: nobody but helm creates it again.
    """
    now = read(api, namespace, name)
    if not now.exists or (not now.enabled and (now.locked or not lock)):
        return False
    data = {"enabled": "false", **({"locked": "true"} if lock else {})}
    try:
        if now.immutable:
            api.call("DELETE", path(namespace, name))
        else:
            api.merge_patch(path(namespace, name), {"data": data})
    except ApiError as error:
        if error.status == 404:  # deleted meanwhile: that is off, too
            return False
        raise
    if now.immutable:
        log("switch-deleted", why="it was immutable", mend="helm upgrade creates it again")
    else:
        log("switched-off", locked=lock)
    return True
