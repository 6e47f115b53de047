# SPDX-License-Identifier: Apache-2.0
"""What turns have to record and the ledger's thread has not written yet; safe between the two threads."""

import threading
from collections import deque
from collections.abc import Sequence

from embellie.ledger import Draft


class Outbox:
    """Drafts in the order in which they came. Where too many wait the oldest are lost, and counted."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._drafts: deque[Draft] = deque()
        self._lock = threading.Lock()
        self._lost = 0
        self._lost_and_said = 0

    @property
    def lost(self) -> int:
        """Drafts that were lost, and of which the ledger does not say so yet."""
        return self._lost

    @property
    def lost_ever(self) -> int:
        """All drafts that were lost."""
        return self._lost_and_said + self._lost

    def lose(self, count: int) -> None:
        """Count drafts that cannot be written."""
        with self._lock:
            self._lost += count

    def said(self, count: int) -> None:
        """Note that the ledger says of so many that they were lost."""
        with self._lock:
            self._lost_and_said += count
            self._lost -= count

    def put(self, drafts: Sequence[Draft]) -> None:
        """Add drafts behind all others."""
        with self._lock:
            self._drafts.extend(drafts)
            while len(self._drafts) > self._most:
                self._drafts.popleft()
                self._lost += 1

    def take(self, most: int) -> list[Draft]:
        """Take the oldest drafts out, at most so many; none where nothing waits."""
        with self._lock:
            return [self._drafts.popleft() for _ in range(min(most, len(self._drafts)))]

    def put_back(self, drafts: Sequence[Draft]) -> None:
        """Put drafts that could not be written before all others again."""
        with self._lock:
            self._drafts.extendleft(reversed(drafts))
