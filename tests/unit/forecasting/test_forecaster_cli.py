# SPDX-License-Identifier: Apache-2.0
"""The command line of the forecaster."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from embellie.domain.clock import parse_clock as operator_clock
from embellie_forecast.cli import main
from embellie_forecast.clock import parse_clock
from embellie_forecast.service import Service

REPLAY = "replay:2022-09-05T00:00:00Z,2026-01-01T00:00:00Z,600"


def test_the_clock_flag_means_the_same_to_both_processes() -> None:
    ours, theirs = parse_clock(REPLAY), operator_clock(REPLAY)
    assert abs(ours.now() - theirs.now()) < timedelta(minutes=30)
    assert theirs.wall_seconds(timedelta(hours=1)) == 3600.0 / ours.factor == 6.0
    assert ours.replay
    system = parse_clock("system")
    assert not system.replay
    assert abs(system.now() - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "utc",
        "replay:",
        "replay:a,b,1",
        "replay:2022-09-05T00:00:00Z,2026-01-01T00:00:00Z,0",
        "replay:2022-09-05T00:00:00Z,2026-01-01T00:00:00Z,nan",
        "replay:2022-09-05T00:00:00,2026-01-01T00:00:00Z,1",
        f"{REPLAY}e99",
    ],
)
def test_a_clock_that_cannot_be_read_is_a_usage_error(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--clock", text])
    assert stopped.value.code == 2
    assert "--clock" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0h", "1", "h", "7 bananas", "-1h", "2d", "30s", "²h"])
def test_a_period_that_cannot_be_read_is_a_usage_error(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", f"--every={text}"])
    assert "--every" in capsys.readouterr().err


def test_train_says_when_there_is_nothing_to_train(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "--cache", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("nothing to train") == 2


def test_an_unknown_region_is_named_and_nothing_is_trained(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "--region", "XX", "--cache", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("XX: nothing to train")


def test_serve_sweeps_what_killed_writers_left_and_nothing_that_is_being_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Service, "run", lambda _: None)
    monkeypatch.setenv("EMBELLIE_MODELS", str(tmp_path / "models"))
    places = ("dir/forecasts/west", "dir/track", "cache/archives", "cache/responses", "models")
    for place in places:
        folder = tmp_path / place
        folder.mkdir(parents=True)
        for name, age_s in (
            (".embellie-left.tmp", 90.0),
            (".embellie-fresh.tmp", 30.0),
            ("kept.json", 90.0),
            (".theirs.tmp", 90.0),
        ):
            (folder / name).write_text("x")
            os.utime(folder / name, (time.time() - age_s,) * 2)
    assert main(["serve", "--dir", str(tmp_path / "dir"), "--cache", str(tmp_path / "cache")]) == 0
    for place in places:
        assert sorted(file.name for file in (tmp_path / place).iterdir()) == [
            ".embellie-fresh.tmp",
            ".theirs.tmp",
            "kept.json",
        ], place
