# SPDX-License-Identifier: Apache-2.0
"""How the watch connects, and how it ends."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from embellie.cluster.store import Store
from embellie.cluster.watch import CONNECTS_ANEW_S, Watcher, connection_info
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
