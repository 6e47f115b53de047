# SPDX-License-Identifier: Apache-2.0
"""When events are written; what they say is tested on a real API server."""

import threading
from typing import Any

import pytest

from embellie.cluster import catalogue
from embellie.cluster.events import EventRecorder
from embellie.domain.snapshot import WorkloadKey, WorkloadKind
from embellie_testbed.processes import until

KEY = WorkloadKey(namespace="team", name="train", kind=WorkloadKind.JOB, uid="u")


class Server:
    """Keeps whether each event came while a turn decided."""

    def __init__(self) -> None:
        self.deciding = threading.Event()
        self.came_while_deciding: list[bool] = []

    def create(self, *_: Any, **__: Any) -> None:
        self.came_while_deciding.append(self.deciding.is_set())


@pytest.mark.parametrize("starts_are_due", [False, True])
def test_events_wait_while_a_turn_decides_and_then_go_on_as_before(starts_are_due: bool) -> None:
    server: Any = Server()
    recorder = EventRecorder(server, "pod-1")
    recorder.give_way(to_releases=starts_are_due)
    with recorder.still():
        server.deciding.set()
        recorder.record(catalogue.held(KEY, "For 9 hours."))
        until(recorder._queue.empty, "it is about to be written", 10.0)
        server.deciding.clear()
    assert recorder._may_go.is_set() is not starts_are_due
    recorder.close(10.0)
    assert server.came_while_deciding == [False]
