# SPDX-License-Identifier: Apache-2.0
"""The switch: the ConfigMap that the admission policies take as their parameter."""

from dataclasses import dataclass

from embellie.watchdog import names
from embellie.watchdog.api import Api, ApiError, namespaced
from embellie.watchdog.log import log


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """What the ConfigMap says; a missing one says off."""

    enabled: bool
    locked: bool
    exists: bool = True


def path(namespace: str, name: str) -> str:
    """Return where the API server has the switch of an installation."""
    return namespaced("api/v1", namespace, "configmaps", names.switch_name(name))


def read(api: Api, namespace: str, name: str) -> Switch:
    """Read the switch."""
    try:
        data = api.get(path(namespace, name)).get("data") or {}
    except ApiError as error:
        if error.status == 404:
            return Switch(enabled=False, locked=False, exists=False)
        raise
    return Switch(enabled=data.get("enabled") == "true", locked=data.get("locked") == "true")


def turn_off(api: Api, namespace: str, name: str, *, lock: bool = False) -> bool:
    """Switch holding off, and lock it if asked; return whether anything was written."""
    now = read(api, namespace, name)
    if not now.exists or (not now.enabled and (now.locked or not lock)):
        return False
    data = {"enabled": "false", **({"locked": "true"} if lock else {})}
    try:
        api.merge_patch(path(namespace, name), {"data": data})
    except ApiError as error:
        if error.status == 404:  # deleted meanwhile: that is off, too
            return False
        raise
    log("switched-off", locked=lock)
    return True
