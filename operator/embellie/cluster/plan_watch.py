# SPDX-License-Identifier: Apache-2.0
"""Hears which WorkloadPlans somebody else wrote or removed, so that they are put right in the next turns.

Nothing rests on it: what it misses, the next full list finds. It reads the plans' metadata only, and not through kopf,
since nearly all that it hears of are our own writes. A watch that ended is taken up where it ended: all plans once more
would cost as much as a list.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from embellie.cluster.client import ApiError, KubeClient, object_path
from embellie.domain import names

LASTS_S = 300
SOON_S = 1.0
"""So soon a watch that ended is taken up [s]."""
AGAIN_S = 60.0
"""So soon it is tried again where it was refused [s]."""
ENDS_AT_ONCE_S = 10.0
"""Where watches end or break sooner (a proxy may cut them all), each is taken up twice as late as the last one [s]."""
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
        self._version = ""
        """Where a watch goes on; empty where all that is there comes first."""
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
        wait_s = SOON_S
        while not self._stop.wait(wait_s):
            if not self._leads():
                continue
            began = time.monotonic()
            try:
                self.hear()
            except ApiError as error:
                if not self._stop.is_set() and error.status != self._trouble:
                    logger.warning("plans that others change may be put right late: their watch broke: %s", error)
                self._trouble = error.status
                if error.status:
                    wait_s = AGAIN_S
                    continue
            wait_s = taken_up_after(time.monotonic() - began, wait_s)

    def hear(self) -> None:
        """Watch once, until the API server ends it. Raises ApiError where it breaks."""
        path = object_path(names.API_VERSION, "workloadplans")
        try:
            for event in self._client.watch(path, METADATA_ONLY, LASTS_S, since=self._version):
                if self._stop.is_set():
                    return
                if event.get("type") == "ERROR":
                    self._version = ""  # mostly 410: what happened since is forgotten
                    return
                self._take_in(event)
        except ApiError as error:
            if error.status:
                self._version = ""
            raise

    def _take_in(self, event: Mapping[str, Any]) -> None:
        meta = (event.get("object") or {}).get("metadata") or {}
        bookmark, gone = event.get("type") == "BOOKMARK", event.get("type") == "DELETED"
        # What is there comes first and in no order: the bookmark that follows at once says that all of it has come.
        if bookmark or self._version:
            self._version = str(meta.get("resourceVersion") or self._version)
        if not bookmark and (gone or is_foreign(meta)):
            for owner in meta.get("ownerReferences") or ():
                self._on_change(str(owner.get("uid")), gone)


def taken_up_after(lasted_s: float, waited_s: float) -> float:
    """Return how long to wait after a watch that ended or broke [s].

    >>> taken_up_after(300.0, 60.0), taken_up_after(0.1, 1.0), taken_up_after(0.1, 60.0)
    (1.0, 2.0, 60.0)
    """
    return SOON_S if lasted_s >= ENDS_AT_ONCE_S else min(2.0 * waited_s, AGAIN_S)
