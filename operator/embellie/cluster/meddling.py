# SPDX-License-Identifier: Apache-2.0
"""How soon what others write into our own objects is put right: at once, and ever more seldom where they go on."""

import time
from collections.abc import Callable, Iterator

FIRST_S = 30.0
MOST_S = 600.0


class Meddling:
    """Collects what others changed, by uid, and tells what is due."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._noted: dict[str, bool] = {}
        self._not_before: dict[str, tuple[float, float]] = {}
        """uid -> when it may be put right again, and how long it waits the time after [monotonic s, s]."""

    def note(self, uid: str, gone: bool) -> None:
        """Take note of a change by somebody else; `gone`: the object was removed."""
        self._noted[uid] = gone

    def due(self) -> Iterator[tuple[str, bool]]:
        """Yield what is to be put right now, once."""
        if not self._noted:
            return
        now = self._monotonic()
        for uid, gone in list(self._noted.items()):
            after, wait = self._not_before.get(uid, (now, FIRST_S))
            if now < after:
                continue
            if now - after > MOST_S:
                wait = FIRST_S
            self._not_before[uid] = (now + wait, min(2 * wait, MOST_S))
            del self._noted[uid]
            yield uid, gone
        self._not_before = {uid: (at, wait) for uid, (at, wait) in self._not_before.items() if now - at <= MOST_S}
