# SPDX-License-Identifier: Apache-2.0
"""The files between the operator and the forecaster."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from embellie.domain.reasons import Rung as OperatorRung
from embellie.domain.reasons import SignalKind
from embellie_forecast.documents import neutral
from embellie_forecast.exchange import (
    KEEP_FILES,
    ExchangeError,
    Rung,
    newest_document,
    parse_document,
    write_atomically,
    write_forecast,
)
from embellie_forecast.factors import Scope
from embellie_forecast.zones import parse_zones, read_zones

NOW = datetime(2022, 9, 5, 12, 30, tzinfo=UTC)
ANY_RUNG = frozenset(Rung)


def test_the_words_for_rungs_and_signal_kinds_are_the_operators() -> None:
    assert [rung.value for rung in Rung] == [rung.value for rung in OperatorRung]
    assert {scope.value for scope in Scope} < {kind.value for kind in SignalKind}


def test_a_document_survives_writing_and_reading(tmp_path: Path) -> None:
    written = neutral("west", NOW)
    path = write_forecast(tmp_path, written)
    assert path == tmp_path / "forecasts" / "west" / "20220905T123000Z.json"
    read = parse_document(path.read_text())
    assert read.issued_at == NOW
    assert read.start == NOW.replace(minute=0)
    assert np.array_equal(read.carbon_g_per_kwh, written.carbon_g_per_kwh)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_only_the_newest_files_of_a_zone_are_kept(tmp_path: Path) -> None:
    for hour in range(KEEP_FILES + 3):
        write_forecast(tmp_path, neutral("west", NOW + timedelta(hours=hour)))
    names = sorted(file.name for file in (tmp_path / "forecasts" / "west").iterdir())
    assert len(names) == KEEP_FILES
    assert names[0] == "20220905T153000Z.json"


def test_after_a_clock_that_jumped_back_no_file_from_the_future_stays(tmp_path: Path) -> None:
    write_forecast(tmp_path, neutral("west", NOW + timedelta(days=3)))
    path = write_forecast(tmp_path, neutral("west", NOW))
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, "old")

    def refuse(_handle: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("embellie_forecast.folders.os.fsync", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_newest_document_skips_what_cannot_be_believed_or_is_in_the_future(tmp_path: Path) -> None:
    good = write_forecast(tmp_path, neutral("west", NOW))
    (good.parent / "20220905T130000Z.json").write_text("{ half a fi")
    (good.parent / "20220905T130500Z.json").write_bytes(b"\xff\xfe")
    later = json.dumps(neutral("west", NOW + timedelta(hours=2)).to_json())
    (good.parent / "20220905T143000Z.json").write_text(later)
    found = newest_document(tmp_path, "west", rungs=ANY_RUNG, not_after=NOW + timedelta(hours=1))
    assert found is not None
    assert found.issued_at == NOW
    assert newest_document(tmp_path, "west", rungs=frozenset({Rung.LIVE}), not_after=NOW) is None
    assert newest_document(tmp_path, "east", rungs=ANY_RUNG, not_after=NOW) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("carbonIntensityGramsPerKilowattHour", [[-1.0] * 96] * 3),
        ("carbonIntensityGramsPerKilowattHour", [[5000.0] * 96] * 3),
        ("carbonIntensityGramsPerKilowattHour", [[3.0] * 96, [2.0] * 96, [1.0] * 96]),
        ("carbonIntensityGramsPerKilowattHour", [[1.0] * 95] * 3),
        ("carbonIntensityMeanGramsPerKilowattHour", []),
        ("carbonIntensityMeanGramsPerKilowattHour", ["a"] * 96),
        ("renewableShare", [[1.5] * 96] * 3),
        ("renewableShare", [[float("nan")] * 96] * 3),
        ("ambientTemperatureCelsius", [[400.0] * 96] * 3),
        ("issuedAt", "2022-09-05T12:00:00"),
        ("schema", "embellie.io/forecast/v99"),
        ("rung", "Best"),
        ("stepSeconds", None),
    ],
)
def test_a_document_with_an_unbelievable_field_is_refused(field: str, value: object) -> None:
    raw = neutral("west", NOW).to_json()
    raw[field] = value
    with pytest.raises(ExchangeError):
        parse_document(json.dumps(raw))


def test_a_document_cannot_be_made_with_crossing_quantiles() -> None:
    good = neutral("west", NOW)
    with pytest.raises(ExchangeError, match="cross"):
        replace(good, carbon_g_per_kwh=good.carbon_g_per_kwh * np.array([[1.0], [0.9], [1.0]]))


def test_zones_are_read_with_and_without_a_grid_region() -> None:
    text = (
        '{"zones":[{"name":"west","gridRegion":"US-CISO","latitudeMillidegrees":1},{"name":"lab.a","gridRegion":""}]}'
    )
    zones, skipped = parse_zones(text)
    assert [(zone.name, zone.grid_region) for zone in zones] == [("west", "US-CISO"), ("lab.a", None)]
    assert skipped == []


@pytest.mark.parametrize(
    "entry", ['{"name":"../up"}', '{"name":"a/b"}', '{"name":7}', '"west"', "null", '{"name":"a..b"}']
)
def test_a_zone_that_could_leave_its_folder_or_has_no_name_is_skipped_and_named(entry: str) -> None:
    zones, skipped = parse_zones(f'{{"zones":[{entry},{{"name":"west"}}]}}')
    assert [zone.name for zone in zones] == ["west"]
    assert skipped[0].startswith("zones[0] has no usable name")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"zones":{}}', "[" * 100_000, '{"zones":[1', " " * 2_000_000])
def test_garbage_for_zones_is_refused(text: str) -> None:
    with pytest.raises(ExchangeError, match=r"zones\.json"):
        parse_zones(text)


def test_missing_or_binary_zones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match="cannot be read"):
        read_zones(tmp_path)
    (tmp_path / "zones.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ExchangeError, match="cannot be read"):
        read_zones(tmp_path)
