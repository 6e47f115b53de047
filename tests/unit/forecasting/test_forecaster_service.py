# SPDX-License-Identifier: Apache-2.0
"""When the forecaster's service issues, learns and works ahead, and what it survives. Its ladder here only notes it."""

import json
import os
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from embellie_forecast.clock import ForecastClock
from embellie_forecast.documents import neutral
from embellie_forecast.exchange import ForecastDocument, parse_document
from embellie_forecast.feeds import Fed, ReplayFeed
from embellie_forecast.history import ZoneHistory
from embellie_forecast.ladder import Issued, Ladder
from embellie_forecast.service import Service, describe, stop_on_signals
from embellie_forecast.zones import Zone

NOW = datetime(2026, 7, 2, 6, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Noting(Ladder):
    """Issues flat forecasts, notes what it is asked, and has as much to learn as it is given."""

    def __init__(self) -> None:
        super().__init__(feed=ReplayFeed(), origin=None, models=None)
        self.asked: list[tuple[object, ...]] = []
        self.older = 0
        self.untrained: set[str] = set()
        self.feds: tuple[Fed, ...] = ()
        self.breaks: set[str] = set()

    def _note(self, what: str, zone: Zone, *more: object) -> None:
        self.asked.append((what, zone.name, *more))
        if what in self.breaks:
            raise RuntimeError("boom")

    def issue(self, zone: Zone, now: datetime, directory: Path | None = None) -> Issued:  # noqa: ARG002
        self._note("issue", zone)
        return Issued(document=neutral(zone.name, now), reasons=(), feds=self.feds)

    def backfill(self, zone: Zone, now: datetime) -> bool:
        self._note("backfill", zone, now)
        self.older -= 1
        return self.older >= 0

    def needs_training(self, zone: Zone, now: datetime) -> bool:  # noqa: ARG002
        return zone.name in self.untrained

    def train(self, zone: Zone, now: datetime) -> bool:
        self._note("train", zone, now)
        self.untrained.discard(zone.name)
        return True

    def warm(self, zone: Zone, now: datetime, at: datetime) -> None:
        self._note("warm", zone, now, at)

    def did(self, *kinds: str) -> list[tuple[object, ...]]:
        """What of these kinds it was asked since the last time."""
        found = [entry for entry in self.asked if entry[0] in kinds]
        self.asked.clear()
        return found


def clock_at(moment: datetime) -> ForecastClock:
    """A clock that stands still, but for a millionth."""
    return ForecastClock(origin=moment, wall_origin=datetime.now(UTC), factor=1e-6, replay=True)


def service_in(directory: Path, *zones: dict[str, object], moment: datetime = NOW) -> tuple[Service, Noting]:
    (directory / "zones.json").write_text(json.dumps({"zones": list(zones)}))
    ladder = Noting()
    return Service(directory=directory, clock=clock_at(moment), ladder=ladder, every=HOUR), ladder


def forecasts_of(directory: Path, zone: str) -> list[ForecastDocument]:
    return [parse_document(path.read_text()) for path in sorted((directory / "forecasts" / zone).glob("*.json"))]


def test_everybody_has_a_forecast_before_anything_is_learnt_and_history_comes_before_training(tmp_path: Path) -> None:
    service, ladder = service_in(tmp_path, {"name": "east", "gridRegion": "US-PJM"}, {"name": "lab"})
    ladder.older, ladder.untrained = 1, {"east"}
    assert service.turn() == 2
    assert [entry[:2] for entry in ladder.did("issue", "backfill", "train", "warm")] == [
        ("issue", "east"),
        ("issue", "lab"),
        ("backfill", "east"),
    ]
    assert service.turn() == 1
    assert [entry[:2] for entry in ladder.did("issue", "train", "warm")] == [("train", "east"), ("issue", "east")]


def test_what_a_grids_model_has_learnt_is_told_to_all_zones_of_that_grid_at_once(tmp_path: Path) -> None:
    region = {"gridRegion": "US-PJM"}
    fed = {**region, "sources": {"primary": {"kind": "NESO"}}}
    names = {"east": region, "south": region, "west": {"gridRegion": "US-CISO"}, "fed": fed}
    service, ladder = service_in(tmp_path, *({"name": name, **more} for name, more in names.items()))
    service.turn()
    ladder.untrained = {"east"}
    ladder.asked.clear()
    assert service.turn() == 2
    assert [entry[1] for entry in ladder.did("issue")] == ["east", "south"]


def test_learning_asks_for_the_moment_of_the_last_issue_so_that_feeds_need_not_be_asked_again(tmp_path: Path) -> None:
    service, ladder = service_in(tmp_path, {"name": "east"})
    service.turn()
    moment = ladder.did("backfill")[0][2]
    service._clock = clock_at(NOW + timedelta(minutes=20))
    service.turn()
    assert ladder.did("backfill")[0][2] == moment


@pytest.mark.parametrize("what", ["backfill", "train"])
def test_a_zone_whose_learning_breaks_is_left_in_peace_until_its_next_issue_and_the_others_learn(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service, ladder = service_in(tmp_path, {"name": "east"})
    ladder.breaks, ladder.untrained = {what}, {"east"}
    for _ in range(3):
        service.turn()
    assert len(ladder.did(what)) == 1
    assert capsys.readouterr().out.count("east: training failed: RuntimeError: boom") == 1
    ladder.breaks = set()
    service._clock = clock_at(NOW + HOUR)
    assert service.turn() == 2
    assert len(ladder.did("train")) == 1


def test_with_nothing_to_learn_it_works_ahead_for_one_zone_a_turn_and_once_for_each_issue(tmp_path: Path) -> None:
    service, ladder = service_in(tmp_path, {"name": "east"}, {"name": "lab"})
    for _ in range(4):
        service.turn()
    coming = datetime(2026, 7, 2, 7, tzinfo=UTC)
    assert [(entry[1], entry[3]) for entry in ladder.did("warm")] == [("east", coming), ("lab", coming)]
    service._clock = clock_at(NOW + HOUR)
    service.turn()
    assert [(entry[1], entry[3]) for entry in ladder.did("warm")] == [("east", coming + HOUR)]


def test_that_working_ahead_breaks_is_said_and_costs_no_forecast(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service, ladder = service_in(tmp_path, {"name": "east"})
    ladder.breaks = {"warm"}
    assert [service.turn() for _ in range(3)] == [1, 0, 0]
    assert capsys.readouterr().out.count("east: its next issue will take longer: RuntimeError: boom") == 1


def fed(name: str, value: float) -> Fed:
    index = pd.date_range(end=pd.Timestamp(NOW).floor("h") - pd.Timedelta(hours=1), periods=72, freq="h")
    frame = pd.DataFrame({"ci_direct_g_per_kwh": value + np.arange(72.0) % 5}, index=index)
    measured = frame.assign(
        ci_lifecycle_g_per_kwh=np.nan, ci_marginal_g_per_kwh=np.nan, estimated=False, known_at=index, source=name
    )
    return Fed(history=ZoneHistory.from_frame(frame, zone="x"), usual_delay=HOUR, name=name, measured=measured)


def test_the_feeds_of_a_zone_are_told_the_named_ones_first_and_also_where_one_said_nothing(tmp_path: Path) -> None:
    sources = {"primary": {"kind": "NESO"}, "crossCheck": {"kind": "ElectricityMaps", "area": "GB"}}
    service, ladder = service_in(tmp_path, {"name": "east", "sources": sources}, {"name": "lab"})
    ladder.feds = (fed("electricitymaps", 300.0),)
    service.turn()
    told = json.loads((tmp_path / "health.json").read_text())["feeds"]
    assert [(row["zone"], row["feed"], row["up"]) for row in told] == [
        ("east", "neso", False),
        ("east", "electricitymaps", True),
        ("lab", "electricitymaps", True),
    ]
    assert (tmp_path / "intensity" / "east.csv").read_text().count("electricitymaps") > 24
    (tmp_path / "zones.json").write_text('{"zones":[{"name":"lab"}]}')
    service._clock = clock_at(NOW + HOUR)
    service.turn()
    assert {row["zone"] for row in json.loads((tmp_path / "health.json").read_text())["feeds"]} == {"lab"}


def test_that_measured_intensities_are_written_by_somebody_else_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service, ladder = service_in(tmp_path, {"name": "east"})
    ladder.feds = (fed("neso", 300.0),)
    (tmp_path / "intensity").mkdir()
    (tmp_path / "intensity" / "east.csv").write_text("timestamp_utc,mine\n")
    for hour in range(3):
        service._clock = clock_at(NOW + hour * HOUR)
        assert service.turn() == 1
    assert capsys.readouterr().out.count("written by somebody else") == 1


def test_a_disk_that_takes_forecasts_and_no_records_costs_no_forecast(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service, ladder = service_in(tmp_path, {"name": "east"})
    ladder.feds = (fed("neso", 300.0),)
    (tmp_path / "intensity").write_text("a file where a folder belongs")
    assert service.turn() == 1
    assert "east: what was measured cannot be written" in capsys.readouterr().out


@pytest.mark.parametrize("parts", [1, 4])
def test_what_was_issued_is_said_with_the_cleanest_hour_of_the_next_two_days(parts: int) -> None:
    document = neutral("east", NOW)
    levels = np.repeat(400.0 + np.arange(96.0), parts)
    levels[[9 * parts, 60 * parts]] = 90.0, 10.0
    shown = replace(
        document,
        step=HOUR / parts,
        carbon_g_per_kwh=np.stack([levels - 1.0, levels, levels + 1.0]),
        carbon_mean_g_per_kwh=levels,
        skill_percent=31,
    )
    said = describe(Issued(document=shown, reasons=("not Live: 503", "more")))
    assert said == "Neutral neutral1: 400 g/kWh now, 90 in 9 h, skill 31 % (not Live: 503)"


def test_it_makes_its_directory_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    service = Service(directory=folder, clock=clock_at(NOW), ladder=Noting(), every=HOUR)
    service.stop.set()
    service.run()
    assert folder.is_dir()


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_the_middle_of_whatever_it_does(which: signal.Signals, tmp_path: Path) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    service, _ = service_in(tmp_path)
    try:
        stop_on_signals(service)
        with pytest.raises(SystemExit):
            signal.raise_signal(which)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert service.stop.is_set()


def test_garbage_for_zones_keeps_the_zones_known_so_far(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service, _ = service_in(tmp_path)
    (tmp_path / "zones.json").unlink()
    assert service.turn() == 0
    (tmp_path / "zones.json").write_text('{"zones":[{"name":"lab"}]}')
    assert service.turn() == 1
    (tmp_path / "zones.json").write_bytes(b'{"zones": [{"na\xff')
    service._clock = clock_at(NOW + timedelta(hours=2))
    assert service.turn() == 1
    assert service.turn() == 0
    assert capsys.readouterr().out.count("going on with the 1 zones known so far") == 1


def test_a_zone_that_cannot_be_written_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "forecasts").mkdir()
    (tmp_path / "forecasts" / "east").write_text("a file where a folder belongs")
    service, ladder = service_in(tmp_path, {"name": "east"}, {"name": "lab"})
    assert service.turn() == 1
    assert "east: no forecast written" in capsys.readouterr().out
    assert len(forecasts_of(tmp_path, "lab")) == 1
    ladder.asked.clear()
    service.turn()
    assert ladder.did("issue") == [], "it is tried at the next issue, not twice a second"


def test_a_full_disk_is_said_and_the_last_file_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, _ = service_in(tmp_path, {"name": "lab"})
    assert service.turn() == 1

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    service._clock = clock_at(NOW + HOUR)
    assert service.turn() == 0
    assert "No space left on device" in capsys.readouterr().out
    assert len(forecasts_of(tmp_path, "lab")) == 1
    assert not list(tmp_path.rglob("*.tmp"))
