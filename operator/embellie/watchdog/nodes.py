# SPDX-License-Identifier: Apache-2.0
"""Takes off the nodes what the operator did to them because of heat: its taint, and its PowerCaps."""

from collections.abc import Callable
from functools import partial

from embellie.watchdog import names
from embellie.watchdog.api import Api, ApiError, Object
from embellie.watchdog.log import log

_TOLD = 3
"""So many faults are told; there may be one for each node."""
_SELECTOR = f"{names.MANAGED_BY_LABEL}={names.FIELD_MANAGER}"


def clear_nodes(api: Api) -> str | None:
    """Remove all of our taints and PowerCaps; return what is left and why, None where nothing is.

    A node that changes at the same moment is tried again by the next sweep. Raises UnreachableError.
    """
    faults: list[str] = []
    nodes = _listed(api, "/api/v1/nodes", faults)
    for node in nodes:
        if any(taint.get("key") == names.OVERHEATED for taint in _taints(node)):
            _tried(partial(_untaint, api, node), f"the taint {names.OVERHEATED} may still stand", faults)
    path = f"/apis/{names.GROUP}/{names.VERSION}/powercaps"
    for cap in _listed(api, path, faults, _SELECTOR):
        name = str(cap["metadata"]["name"])
        _tried(partial(api.call, "DELETE", f"{path}/{name}"), "PowerCaps stand until they expire", faults)
    for fault in faults[:_TOLD]:
        log("nodes-not-cleared", error=fault)
    return "; ".join(faults[:_TOLD]) or None


def _listed(api: Api, path: str, faults: list[str], selector: str = "") -> list[Object]:
    try:
        return api.list(path, labelSelector=selector)
    except ApiError as error:
        # Without the kind there are no objects of it.
        if error.status != 404:
            faults.append(f"{path} cannot be listed ({error})")
        return []


def _tried(write: Callable[[], object], what: str, faults: list[str]) -> None:
    try:
        write()
    except ApiError as error:
        if error.status != 404:
            faults.append(f"{what} ({error})")


def _taints(node: Object) -> list[Object]:
    return list((node.get("spec") or {}).get("taints") or ())


def _untaint(api: Api, node: Object) -> None:
    meta = node["metadata"]
    left = [taint for taint in _taints(node) if taint.get("key") != names.OVERHEATED]
    change: Object = {"op": "remove", "path": "/spec/taints"}
    if left:
        change = {"op": "replace", "path": "/spec/taints", "value": left}
    operations: list[Object] = [
        {"op": "test", "path": "/metadata/uid", "value": meta["uid"]},
        # What stood is compared, not the version: a node's heartbeats change that all the time.
        {"op": "test", "path": "/spec/taints", "value": _taints(node)},
        change,
    ]
    api.json_patch(f"/api/v1/nodes/{meta['name']}", operations)
    log("taint-removed", node=meta["name"])
