# SPDX-License-Identifier: Apache-2.0
"""The watchdog's command line, its log and its calls."""

import json
import socket
from typing import Any

import pytest
from kubernetes import client

from embellie.watchdog.api import Api, NoAnswerError, UnreachableError
from embellie.watchdog.log import log
from embellie.watchdog.main import main


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--dead-man-seconds", "0"], "must be a number of seconds"),
        (["run", "--dead-man-seconds", "a minute"], "must be a number of seconds"),
        (["run", "--release-seconds", "86401"], "must be a number of seconds"),
        (["release"], "--all"),
    ],
)
def test_nonsense_on_the_command_line_is_refused_in_a_sentence(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


def test_a_missing_kubeconfig_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    assert main(["check", "--kubeconfig", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_log_line_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    log("released", workload="job/team-a/train")
    assert json.loads(capsys.readouterr().err)["event"] == "released"


def test_a_call_that_was_taken_and_not_answered_is_told_from_an_api_server_that_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("embellie.watchdog.api.TIMEOUT_SECONDS", (0.1, 0.1))
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        settings = client.Configuration(host=f"http://127.0.0.1:{port}")
        settings.retries = False
        with pytest.raises(NoAnswerError):
            Api(settings).get("/version")
    with pytest.raises(UnreachableError) as away:
        Api(settings).get("/version")
    assert not isinstance(away.value, NoAnswerError)
