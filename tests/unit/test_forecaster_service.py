# SPDX-License-Identifier: Apache-2.0
"""The service that writes forecasts: when it issues, what it trains, and what does not stop it."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from replayed_ladder import NOW, replay

from embellie_forecast import shelf as shelf_module
from embellie_forecast.clock import ForecastClock
from embellie_forecast.exchange import ForecastDocument, Rung, parse_document
from embellie_forecast.service import Service

pytestmark = pytest.mark.usefixtures("carried_once")


def clock_at(moment: datetime) -> ForecastClock:
    """A clock that stands still, but for a millionth."""
    return ForecastClock(origin=moment, wall_origin=datetime.now(UTC), factor=1e-6, replay=True)


def service_in(directory: Path, models: Path | None, moment: datetime = NOW) -> Service:
    return Service(directory=directory, clock=clock_at(moment), ladder=replay(models), every=timedelta(hours=1))


def forecasts_of(directory: Path, zone: str) -> list[ForecastDocument]:
    return [parse_document(path.read_text()) for path in sorted((directory / "forecasts" / zone).glob("*.json"))]


def test_the_service_issues_each_zone_once_a_period_and_new_zones_at_once(models: Path, tmp_path: Path) -> None:
    service = service_in(tmp_path, models)
    (tmp_path / "zones.json").write_text('{"zones":[{"name":"east","gridRegion":"US-PJM"}]}')
    assert service.turn() == 1
    assert service.turn() == 0
    (tmp_path / "zones.json").write_text('{"zones":[{"name":"east","gridRegion":"US-PJM"},{"name":"lab"}]}')
    assert service.turn() == 1
    service._clock = clock_at(NOW + timedelta(hours=1))
    assert service.turn() == 2
    assert [document.rung for document in forecasts_of(tmp_path, "east")] == [Rung.LIVE, Rung.LIVE]
    service._clock = clock_at(NOW - timedelta(hours=12))
    assert service.turn() == 2


def test_the_service_answers_from_below_before_it_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service = service_in(tmp_path, tmp_path / "models")
    (tmp_path / "zones.json").write_text('{"zones":[{"name":"east","gridRegion":"US-PJM"}]}')
    assert service.turn() == 2
    said = capsys.readouterr().out
    assert said.index("Climatology") < said.index("models trained") < said.index("Live ")
    assert forecasts_of(tmp_path, "east")[-1].rung is Rung.LIVE


def test_garbage_for_zones_keeps_the_zones_known_so_far(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service = service_in(tmp_path, None)
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
    (tmp_path / "zones.json").write_text('{"zones":[{"name":"east"},{"name":"lab"}]}')
    assert service_in(tmp_path, None).turn() == 1
    assert "east: no forecast written" in capsys.readouterr().out
    assert len(forecasts_of(tmp_path, "lab")) == 1


def test_a_full_disk_is_said_and_the_last_file_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zones.json").write_text('{"zones":[{"name":"lab"}]}')
    service = service_in(tmp_path, None)
    assert service.turn() == 1

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    service._clock = clock_at(NOW + timedelta(hours=1))
    assert service.turn() == 0
    assert "No space left on device" in capsys.readouterr().out
    assert len(forecasts_of(tmp_path, "lab")) == 1
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_training_that_fails_leaves_the_lower_rung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_arguments: object, **_more: object) -> None:
        raise MemoryError

    monkeypatch.setattr(shelf_module, "train_zone", explode)
    monkeypatch.setattr(shelf_module, "train_calendar", explode)
    (tmp_path / "zones.json").write_text('{"zones":[{"name":"east","gridRegion":"US-PJM"}]}')
    assert service_in(tmp_path, None).turn() == 1
    assert forecasts_of(tmp_path, "east")[-1].rung is Rung.CLIMATOLOGY
