# SPDX-License-Identifier: Apache-2.0
"""The taint on the nodes of a zone that heats in spite of everything: nothing new is put there, whoever sends it.

The fence lets us change this one taint of a node and nothing else. What stands is what the watch shows; each write is
guarded by a fresh read, so that a taint that somebody else sets at the same moment is not lost. The watchdog removes
ours when the operator is gone.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime

from embellie.cluster.client import ApiError, KubeClient, object_path
from embellie.domain import names
from embellie.domain.times import format_time

logger = logging.getLogger(__name__)

EFFECT = "NoSchedule"
_WRITES = 100
"""Most nodes of one turn; the rest follows in the next ones."""


class NodeTaints:
    """Sets and removes the taint; `turn` never raises."""

    def __init__(self, client: KubeClient, *, may_write: Callable[[], bool] = lambda: True) -> None:
        """`may_write` is asked before each write: a leader that lost its lease must stop at once."""
        self._client = client
        self._may_write = may_write
        self._trouble = ""

    def turn(self, wanted: Mapping[str, str], standing: Mapping[str, str], now: datetime) -> None:
        """Make what stands what is wanted, both by node with the zone's name; removals come first."""
        gone = [(node, "") for node in sorted(standing) if node not in wanted]
        due = [(node, zone) for node, zone in sorted(wanted.items()) if standing.get(node) != zone]
        for node, zone in [*gone, *due][:_WRITES]:
            if not self._may_write():
                return
            try:
                if self._set(node, zone, now):
                    logger.info(
                        "%s is %s", node, f"tainted, because {zone} is too hot" if zone else "free of our taint"
                    )
                self._trouble = ""
            except ApiError as error:
                if error.conflict or error.status == 404:
                    continue  # it changed under us, or is gone: the next turn sees it anew
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    logger.warning("the taint of %s cannot be written: %s", node, error)
                if not 400 <= error.status < 500 or error.status == 429:
                    return  # nobody answers, and the others would wait as long

    def _set(self, node: str, zone: str, now: datetime) -> bool:
        path = object_path("v1", "nodes", node)
        raw = self._client.get(path)
        before = list((raw.get("spec") or {}).get("taints") or ())
        ours = [taint for taint in before if taint.get("key") == names.OVERHEATED]
        if [(taint.get("value"), taint.get("effect")) for taint in ours] == ([(zone, EFFECT)] if zone else []):
            return False
        after = [taint for taint in before if taint not in ours]
        if zone:
            # How long a taint may stand is counted from here by a later leader too.
            after.append({"key": names.OVERHEATED, "value": zone, "effect": EFFECT, "timeAdded": format_time(now)})
        # Where taints stand they are compared, because heartbeats change a node's version all the time.
        version = {"op": "test", "path": "/metadata/resourceVersion", "value": raw["metadata"]["resourceVersion"]}
        guard = {"op": "test", "path": "/spec/taints", "value": before} if before else version
        change = {"op": "add", "path": "/spec/taints", "value": after} if after else _DROP
        self._client.json_patch(
            path, [{"op": "test", "path": "/metadata/uid", "value": raw["metadata"]["uid"]}, guard, change]
        )
        return True


_DROP = {"op": "remove", "path": "/spec/taints"}
