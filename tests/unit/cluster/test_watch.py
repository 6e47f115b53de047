# SPDX-License-Identifier: Apache-2.0
"""How the watch connects, and how it ends."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from embellie.cluster.client import ApiError
from embellie.cluster.plans import PlanList
from embellie.cluster.store import Resource, Store
from embellie.cluster.watch import (
    CONNECTS_ANEW_S,
    LISTED_WITHIN_S,
    RELIST_AGAIN_S,
    RELIST_S,
    Relists,
    Watcher,
    connection_info,
)
from embellie_testbed.processes import until

CLIENT: Any = SimpleNamespace(
    host="https://10.0.0.1",
    authorization=lambda: "Bearer token",
    configuration=SimpleNamespace(ssl_ca_cert="/ca.crt", verify_ssl=True, cert_file=None, key_file=None),
)


def expires_in_s(monkeypatch: pytest.MonkeyPatch, now: float) -> float:
    monkeypatch.setattr("time.time", lambda: now)
    expiration = connection_info(CLIENT).expiration
    assert expiration is not None
    return expiration.timestamp() - now


def test_the_watch_connects_anew_every_few_minutes_so_that_a_ca_that_was_changed_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for now in (0.0, 1.5, CONNECTS_ANEW_S - 0.5, 1.7e9):
        assert 0 < expires_in_s(monkeypatch, now) <= CONNECTS_ANEW_S


def test_a_connection_that_was_refused_is_not_offered_again_as_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 600.0)
    refused = connection_info(CLIENT)
    monkeypatch.setattr("time.time", lambda: 601.0)
    assert connection_info(CLIENT) == refused


@pytest.mark.parametrize("asked_to", [False, True])
def test_the_end_of_the_watch_is_told_as_it_begins_for_it_may_take_for_ever(
    asked_to: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleanups: list[Any] = []
    told, cleaned = threading.Event(), threading.Event()

    async def operator(*, stop_flag: Any, **_: Any) -> None:
        if asked_to:
            await stop_flag.wait()
        for cleanup in cleanups:
            await cleanup()
        cleaned.set()
        await stop_flag.wait()

    monkeypatch.setattr("kopf.on.cleanup", lambda **_: cleanups.append)
    monkeypatch.setattr("kopf.operator", operator)
    watcher = Watcher(Store(), CLIENT, told.set)
    watcher.start()
    if asked_to:
        until(lambda: watcher._stop_flag, "it runs", 10.0)
    else:
        assert cleaned.wait(10.0)
        assert told.is_set()
    watcher.stop(10.0)
    assert cleaned.is_set()
    assert told.is_set() is not asked_to


LISTS = len(Resource) + 1
"""WorkloadPlans are listed, and not watched."""


class _Lists:
    """An API server that holds one namespace, and a clock; lists of `broken` fail."""

    def __init__(self) -> None:
        self.now, self.asked, self.broken = 0.0, 0, ""
        self.may_answer = threading.Event()
        self.may_answer.set()

    def list_all(self, path: str) -> list[dict[str, Any]]:
        assert self.may_answer.wait(10.0)
        self.asked += 1
        if self.broken and path.endswith(self.broken):
            raise ApiError(500, "InternalError", "try later")
        return []

    def relists(self, store: Store) -> Relists:
        client: Any = self
        return Relists(client, store, self.read_plans, monotonic=lambda: self.now)

    def read_plans(self) -> PlanList:
        return PlanList(before={}, found={}, bounds={}, orphans=tuple(self.list_all("workloadplans")))


def stepped(lists: Relists) -> int | None:
    """What a step says once the list that it began, if it began one, has ended."""
    said = lists.step()
    until(lambda: all(thread.name != "relist" for thread in threading.enumerate()), "a list never ends", 10.0)
    said = said or lists.step()
    return None if said is None else said.pruned


def test_a_full_list_now_and_then_prunes_what_is_gone() -> None:
    server, store = _Lists(), Store()
    lists = server.relists(store)
    store.apply(Resource.NAMESPACES, "ADDED", {"metadata": {"uid": "u", "name": "team"}})
    server.now = RELIST_S - 1
    assert stepped(lists) is None
    assert not server.asked
    server.now = RELIST_S
    assert stepped(lists) == 1
    assert store.view().namespaces == ()
    assert stepped(lists) is None, "and not before it is time again"


def test_a_list_that_takes_long_keeps_no_turn_waiting() -> None:
    server = _Lists()
    lists = server.relists(Store())
    server.now = RELIST_S
    server.may_answer.clear()
    assert lists.step() is None
    assert lists.step() is None, "nor is a second one begun"
    server.may_answer.set()
    assert stepped(lists) == 0
    assert server.asked == LISTS


def test_a_list_that_fails_for_some_minutes_stops_no_turn_and_one_that_fails_for_long_does() -> None:
    server = _Lists()
    lists = server.relists(Store())
    server.now, server.broken = RELIST_S, "thermalzones"
    while server.now <= LISTED_WITHIN_S:
        before = server.asked
        assert stepped(lists) is None
        asked = server.asked
        assert asked > before
        assert stepped(lists) is None
        assert server.asked == asked, "an API server that is busy is not asked again at once"
        server.now += RELIST_AGAIN_S
    for _ in range(3):
        with pytest.raises(ApiError):
            stepped(lists)
    server.broken, server.now = "", server.now + RELIST_AGAIN_S
    server.may_answer.clear()
    with pytest.raises(ApiError):
        lists.step()  # nor is anything decided while the next list is under way
    server.may_answer.set()
    until(lambda: all(thread.name != "relist" for thread in threading.enumerate()), "a list never ends", 10.0)
    assert stepped(lists) == 0


def test_a_list_of_plans_that_fails_however_long_stops_no_turn_and_does_not_age_the_others() -> None:
    server = _Lists()
    lists = server.relists(Store())
    server.now, server.broken = RELIST_S, "workloadplans"
    while server.now <= 2 * LISTED_WITHIN_S:
        assert stepped(lists) == 0, "all else was listed"
        server.now += RELIST_AGAIN_S
    server.broken = "thermalzones"
    assert stepped(lists) is None, "and is fresh"
