# SPDX-License-Identifier: Apache-2.0
"""What keeps new work from being held is said, and stops no turn."""

from types import SimpleNamespace
from typing import Any

import pytest

from embellie.cluster.client import ApiError
from embellie.cluster.switch import Switch
from embellie.control.acting.switch_keeper import NOT_YET, ON, SwitchKeeper
from embellie.telemetry import metrics


class Server:
    """Holds one ConfigMap; `refuses` is the status with which it answers writes."""

    def __init__(self, refuses: int = 0, **data: str) -> None:
        self.data, self.refuses = data, refuses

    def get(self, _path: str, **_how: Any) -> dict[str, Any]:
        return {"metadata": {"resourceVersion": "1"}, "data": self.data}

    def json_patch(self, _path: str, operations: list[dict[str, Any]], **_how: Any) -> dict[str, Any]:
        if self.refuses:
            raise ApiError(self.refuses, "Refused", "no")
        self.data = operations[-1]["value"]
        return self.get(_path)


def keeper(server: Any) -> SwitchKeeper:
    return SwitchKeeper(Switch(server, "embellie-system"))


@pytest.mark.parametrize("locked", ["true", "True", "yes", "ON", " true "])
def test_a_lock_as_people_write_it_is_a_lock(locked: str):
    server = Server(enabled="false", locked=locked, namespaces=",")
    minded = keeper(server)
    minded.mind(["a"])
    assert (server.data["enabled"], minded.holding.reason) == ("false", "SwitchLocked")


@pytest.mark.parametrize("locked", ["false", "False", "no", "", "perhaps"])
def test_what_does_not_say_yes_is_no_lock(locked: str):
    server = Server(enabled="false", locked=locked, namespaces=",")
    minded = keeper(server)
    assert minded.holding == NOT_YET
    minded.mind(["a"])
    assert (server.data["enabled"], minded.holding) == ("true", ON)


def test_an_account_that_may_not_write_the_switch_goes_on_and_says_so():
    minded = keeper(Server(refuses=403, enabled="false", namespaces=","))
    minded.mind(["a"])
    assert (minded.holding.good, minded.holding.reason) == (False, "SwitchRefused")
    assert "helm upgrade mends its Role" in minded.holding.message


def test_a_missing_switch_says_how_it_comes_back():
    def get(_path: str, **_how: Any) -> Any:
        raise ApiError(404, "NotFound", "no such thing")

    minded = keeper(SimpleNamespace(get=get))
    minded.mind(["a"])
    assert minded.holding.reason == "SwitchMissing"


def test_an_api_server_that_gives_no_answer_fails_the_turn():
    with pytest.raises(ApiError):
        keeper(Server(refuses=503, enabled="false", namespaces=",")).mind(["a"])


def shown() -> float | None:
    return metrics.REGISTRY.get_sample_value("embellie_holding_enabled")


def test_whether_new_work_is_held_is_shown_as_the_switch_was_read_and_not_at_all_where_it_cannot_be():
    def get(_path: str, **_how: Any) -> Any:
        raise ApiError(403, "Forbidden", "no")

    frozen = keeper(Server(refuses=403, enabled="true", namespaces=",a,"))
    frozen.mind(["a", "b"])
    assert shown() == 1.0, "that nobody may write it turns nothing off"
    keeper(SimpleNamespace(get=get)).mind(["a"])
    assert shown() is None
    frozen.mind(["a"])
    with pytest.raises(ApiError):
        keeper(Server(refuses=503, enabled="true", namespaces=",a,")).mind(["a", "b"])
    assert shown() is None, "an API server that gives no answer tells nothing either"
    keeper(Server(enabled="false", namespaces=",")).mind([])
    assert shown() == 0.0
