# SPDX-License-Identifier: Apache-2.0
"""In a container the operator's user is a number without a name; a person's may be as well."""

import getpass
import threading
from typing import Any, cast

import pytest

from embellie.cli import release
from embellie.cluster.store import Store
from embellie.cluster.watch import Watcher


def test_kopf_is_told_who_it_is_and_need_not_ask_for_the_users_name(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, told = threading.Event(), {}

    async def operator(**options: Any) -> None:
        told.update(options)

    monkeypatch.setattr("kopf.operator", operator)
    Watcher(Store(), cast("Any", None), ended.set).start()
    assert ended.wait(10.0)
    assert told["identity"]


@pytest.mark.parametrize("error", [OSError, KeyError])
def test_a_release_by_hand_is_told_with_the_number_of_a_nameless_user(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def getuser() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", getuser)
    monkeypatch.setattr("os.getuid", lambda: 65532)
    assert release._user() == "65532"
