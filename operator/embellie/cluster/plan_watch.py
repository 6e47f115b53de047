# SPDX-License-Identifier: Apache-2.0
"""Hears which WorkloadPlans somebody else wrote or removed, so that they are put right in the next turns.

Nothing rests on it: what it misses, the next full list finds. It reads the plans' metadata only, and not through kopf,
since nearly all that it hears of are our own writes.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from embellie.cluster.client import ApiError, KubeClient, object_path
from embellie.domain import names

LASTS_S = 300
AGAIN_S = 60.0
"""So soon it is tried again where it broke [s]."""
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

logger = logging.getLogger(__name__)


def is_foreign(meta: Mapping[str, Any]) -> bool:
    """Tell whether a plan's words are not all ours; a label or an annotation is anybody's."""
    return any(
        entry.get("manager") != names.FIELD_MANAGER and not _WORDS.isdisjoint(entry.get("fieldsV1") or ())
        for entry in meta.get("managedFields") or ()
    )


_WORDS = frozenset({"f:spec", "f:status"})


class PlanWatch:
    """Watches in a thread of its own while this replica leads."""

    def __init__(
        self, client: KubeClient, on_change: Callable[[str, bool], None], *, leads: Callable[[], bool]
    ) -> None:
        """`on_change` hears a workload's uid, and whether its plan is gone."""
        self._client, self._on_change, self._leads = client, on_change, leads
        self._stop = threading.Event()
        self._trouble = -1
        """The status of what went wrong last: said once."""

    def start(self) -> None:
        """Begin."""
        # Whoever ends does not wait for it: it hangs in a read for minutes.
        threading.Thread(target=self._run, name="plan-watch", daemon=True).start()

    def stop(self) -> None:
        """End with the next event."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            if not self._leads():
                continue
            try:
                self._hear()
            except ApiError as error:
                if not self._stop.is_set() and error.status != self._trouble:
                    logger.warning("plans that others change are put right late, for they cannot be watched: %s", error)
                self._trouble = error.status
                self._stop.wait(AGAIN_S)

    def _hear(self) -> None:
        for event in self._client.watch(object_path(names.API_VERSION, "workloadplans"), METADATA_ONLY, LASTS_S):
            if self._stop.is_set() or event.get("type") == "ERROR":
                return
            meta = (event.get("object") or {}).get("metadata") or {}
            gone = event.get("type") == "DELETED"
            if gone or is_foreign(meta):
                for owner in meta.get("ownerReferences") or ():
                    self._on_change(str(owner.get("uid")), gone)
