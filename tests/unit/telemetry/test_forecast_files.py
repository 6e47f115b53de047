# SPDX-License-Identifier: Apache-2.0
"""Forecast files: the newest that can be believed counts, and nothing that lies in the directory stops a turn."""

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from embellie.domain.reasons import Rung
from embellie.telemetry.forecasts import ForecastDirectory, parse_forecast

NOW = datetime(2026, 7, 1, 13, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)


def document(issued: datetime = NOW, zone: str = "west", slots: int = 48, **changes: Any) -> dict[str, Any]:
    start = issued.replace(minute=0, second=0)
    made: dict[str, Any] = {
        "schema": "embellie.io/forecast/v1",
        "zone": zone,
        "issuedAt": issued.isoformat(),
        "start": start.isoformat(),
        "stepSeconds": 3600,
        "signalKind": "AverageLifecycle",
        "rung": "Live",
        "modelId": "m",
        "skillPercent": 12,
        "quantileLevels": [0.1, 0.5, 0.9],
        "carbonIntensityGramsPerKilowattHour": [[90.0] * slots, [100.0] * slots, [110.0] * slots],
        "carbonIntensityMeanGramsPerKilowattHour": [100.0] * slots,
        "renewableShare": [[0.2] * slots, [0.3] * slots, [0.4] * slots],
        "ambientTemperatureCelsius": None,
    }
    return {**made, **changes}


def put(directory: Path, content: dict[str, Any] | str | bytes, issued: datetime = NOW, zone: str = "west") -> Path:
    folder = directory / "forecasts" / zone
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{issued:%Y%m%dT%H%M%SZ}.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_newest_issue_counts(tmp_path: Path):
    for hours in (3, 1, 2):
        put(tmp_path, document(NOW - hours * HOUR), NOW - hours * HOUR)
    found = ForecastDirectory(tmp_path).latest("west", NOW)
    assert found is not None
    assert found.issued_at == NOW - HOUR
    assert found.rung is Rung.LIVE


def test_a_newer_issue_is_taken_up_by_the_next_look(tmp_path: Path):
    directory = ForecastDirectory(tmp_path)
    put(tmp_path, document(NOW - HOUR), NOW - HOUR)
    first = directory.latest("west", NOW)
    put(tmp_path, document(NOW), NOW)
    second = directory.latest("west", NOW)
    assert first is not None
    assert second is not None
    assert (first.issued_at, second.issued_at) == (NOW - HOUR, NOW)


def test_what_a_model_trained_within_the_second_says_takes_the_place_of_what_was_said_before_it(tmp_path: Path):
    directory = ForecastDirectory(tmp_path)
    put(tmp_path, document(rung="Climatology"))
    before = directory.latest("west", NOW)
    put(tmp_path, document())
    after = directory.latest("west", NOW)
    assert before is not None
    assert after is not None
    assert (before.rung, after.rung) == (Rung.CLIMATOLOGY, Rung.LIVE)


def test_prices_of_one_currency_reach_the_planner_with_the_forecast(tmp_path: Path):
    directory = ForecastDirectory(tmp_path)
    put(tmp_path, document())
    (tmp_path / "prices").mkdir()
    rows = "".join(f"{(NOW.replace(minute=0) + k * HOUR).isoformat()},{10 * k}\n" for k in range(24))
    (tmp_path / "prices" / "west.csv").write_text(f"timestamp_utc,price_eur_per_mwh\n{rows}")
    found = directory.latest("west", NOW)
    assert found is not None
    assert found.price_per_mwh is not None
    assert found.price_per_mwh[[0, 23, 24]].tolist() == [0.0, 230.0, 0.0]
    (tmp_path / "prices" / "east.csv").write_text(f"timestamp_utc,price_usd_per_mwh\n{rows}")
    found = directory.latest("west", NOW)
    assert found is not None
    assert found.price_per_mwh is None


def test_no_directory_and_no_file_are_no_forecast(tmp_path: Path):
    assert ForecastDirectory(tmp_path).latest("west", NOW) is None
    (tmp_path / "forecasts" / "west").mkdir(parents=True)
    assert ForecastDirectory(tmp_path).latest("west", NOW) is None


FLAT = [1.0] * 48
BAD_ROW = [100.0] * 47
GARBAGE: dict[str, Any] = {
    "empty": "",
    "cut off": json.dumps(document())[:500],
    "a list": "[]",
    "null": "null",
    "binary": b"\xff\xfe\x00\x01",
    "deep": "[" * 100_000,
    "another schema": document(schema="embellie.io/forecast/v2"),
    "another zone": document(zone="east"),
    "NaN": json.dumps(document(carbonIntensityMeanGramsPerKilowattHour=[float("nan"), *BAD_ROW])),
    "infinity": json.dumps(document(carbonIntensityMeanGramsPerKilowattHour=[float("inf"), *BAD_ROW])),
    "negative": document(carbonIntensityMeanGramsPerKilowattHour=[-1.0, *BAD_ROW]),
    "absurd": document(carbonIntensityMeanGramsPerKilowattHour=[1e9, *BAD_ROW]),
    "text for numbers": document(carbonIntensityMeanGramsPerKilowattHour=["clean"] * 48),
    "null for numbers": document(carbonIntensityMeanGramsPerKilowattHour=None),
    "ragged": document(carbonIntensityGramsPerKilowattHour=[FLAT, FLAT, BAD_ROW]),
    "one quantile too few": document(renewableShare=[FLAT, FLAT]),
    "no slots": document(slots=0),
    "share above one": document(renewableShare=[[0.1] * 48, [0.2] * 48, [1.1] * 48]),
    "no median": document(quantileLevels=[0.1, 0.4, 0.9]),
    "a step of nothing": document(stepSeconds=0),
    "a step of a millisecond": document(stepSeconds=0.001),
    "a step of a year": document(stepSeconds=31_536_000),
    "an endless step": document(stepSeconds=1e300),
    "a step that is none": json.dumps(document(stepSeconds=float("nan"))),
    "more than a year": document(slots=8800),
    "a time without a zone": document(issuedAt="2026-07-01T13:20:00"),
    "no time": document(start="yesterday"),
    "before the calendar": document(issuedAt="0001-01-01T00:00:00+12:00"),
    "an end after the calendar": document(start="9999-12-31T23:00:00Z"),
    "an unknown rung": document(rung="Best"),
    "an unknown signal": document(signalKind="Vibes"),
    "skill in words": document(skillPercent="good"),
    "endless skill": json.dumps(document(skillPercent=float("inf"))),
    "ambient of another shape": document(ambientTemperatureCelsius=[[20.0] * 48]),
    "ambient NaN": json.dumps(document(ambientTemperatureCelsius=[[float("nan")] * 48] * 3)),
    "ambient of a furnace": document(ambientTemperatureCelsius=[[900.0] * 48] * 3),
    "a library": " " * (5 << 20),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_passed_over_named_once_and_the_issue_before_it_serves(tmp_path: Path, caplog, garbage: Any):
    put(tmp_path, document(NOW - HOUR), NOW - HOUR)
    bad = put(tmp_path, garbage, NOW)
    directory = ForecastDirectory(tmp_path)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            found = directory.latest("west", NOW)
            assert found is not None
            assert found.issued_at == NOW - HOUR
    named = [record for record in caplog.records if str(bad) in record.getMessage()]
    assert len(named) == 1


def test_a_share_that_nobody_tells_is_none():
    assert parse_forecast(document(renewableShare=None)).renewable_share is None


def test_a_missing_field_is_named():
    broken = document()
    del broken["rung"]
    with pytest.raises(ValueError, match="rung"):
        parse_forecast(broken)


def test_a_directory_named_like_a_forecast_is_passed_over(tmp_path: Path):
    put(tmp_path, document(NOW - HOUR), NOW - HOUR)
    (tmp_path / "forecasts" / "west" / "99999999T000000Z.json").mkdir()
    found = ForecastDirectory(tmp_path).latest("west", NOW)
    assert found is not None


def test_an_issue_from_the_future_waits_for_its_time(tmp_path: Path):
    put(tmp_path, document(NOW - HOUR), NOW - HOUR)
    put(tmp_path, document(NOW + HOUR), NOW + HOUR)
    directory = ForecastDirectory(tmp_path)
    now, later = directory.latest("west", NOW), directory.latest("west", NOW + HOUR)
    assert now is not None
    assert later is not None
    assert (now.issued_at, later.issued_at) == (NOW - HOUR, NOW + HOUR)


def test_clocks_may_differ_by_some_minutes(tmp_path: Path):
    put(tmp_path, document(NOW + timedelta(minutes=5)), NOW + timedelta(minutes=5))
    assert ForecastDirectory(tmp_path).latest("west", NOW) is not None


def test_a_newest_issue_about_another_time_does_not_hide_the_one_before_it(tmp_path: Path):
    put(tmp_path, document(NOW - HOUR), NOW - HOUR)
    directory = ForecastDirectory(tmp_path)
    put(tmp_path, document(NOW, start=(NOW + 30 * HOUR).isoformat()), NOW)
    found = directory.latest("west", NOW)
    assert found is not None
    assert found.issued_at == NOW - HOUR
    put(tmp_path, document(NOW + timedelta(seconds=1), start="2020-01-01T00:00:00Z"), NOW + timedelta(seconds=1))
    found = directory.latest("west", NOW)
    assert found is not None
    assert found.issued_at == NOW - HOUR


def test_an_old_live_forecast_steps_down_to_last_good_and_is_dropped_at_its_end(tmp_path: Path):
    put(tmp_path, document(NOW, slots=12), NOW)
    directory = ForecastDirectory(tmp_path)
    rungs = {
        hours: found.rung if (found := directory.latest("west", NOW + hours * HOUR)) else None
        for hours in (0, 6.9, 7.1, 11, 12)
    }
    assert rungs == {0: Rung.LIVE, 6.9: Rung.LIVE, 7.1: Rung.LAST_GOOD, 11: Rung.LAST_GOOD, 12: None}


def test_a_lower_rung_is_not_lifted_by_its_age(tmp_path: Path):
    put(tmp_path, document(NOW, rung="Climatology"), NOW)
    found = ForecastDirectory(tmp_path).latest("west", NOW + 20 * HOUR)
    assert found is not None
    assert found.rung is Rung.CLIMATOLOGY


def test_zones_are_written_whole_and_only_on_change(tmp_path: Path):
    directory = ForecastDirectory(tmp_path / "exchange")
    target = tmp_path / "exchange" / "zones.json"
    directory.write_zones([{"name": "west", "gridRegion": "US-CISO"}])
    first = target.stat()
    directory.write_zones(iter([{"gridRegion": "US-CISO", "name": "west"}]))
    assert target.stat().st_ino == first.st_ino
    directory.write_zones([{"name": "west", "gridRegion": "US-PJM"}])
    assert target.stat().st_ino != first.st_ino
    assert json.loads(target.read_text()) == {"zones": [{"name": "west", "gridRegion": "US-PJM"}]}
    assert [p.name for p in target.parent.iterdir()] == ["zones.json"]


def test_zones_that_somebody_removed_are_written_again(tmp_path: Path):
    directory = ForecastDirectory(tmp_path)
    directory.write_zones([])
    (tmp_path / "zones.json").unlink()
    directory.write_zones([])
    assert (tmp_path / "zones.json").exists()


def test_a_directory_that_cannot_be_written_is_told_once_and_stops_no_turn(tmp_path: Path, caplog):
    (tmp_path / "file").write_text("")
    directory = ForecastDirectory(tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        for name in ("west", "east", "north"):
            directory.write_zones([{"name": name}])
    assert len([r for r in caplog.records if "cannot be written" in r.getMessage()]) == 1
    assert directory.latest("west", NOW) is None


def test_a_write_that_fails_half_way_leaves_no_draft(tmp_path: Path):
    (tmp_path / "zones.json").mkdir()
    (tmp_path / "zones.json" / "in-the-way").touch()
    ForecastDirectory(tmp_path).write_zones([{"name": "west"}])
    assert [p.name for p in tmp_path.iterdir()] == ["zones.json"]


PLANT = {"name": "roof", "kind": "Solar", "rung": "Live", "powerKilowatts": [[1.0] * 48, [2.0] * 48, [3.0] * 48]}


def test_plants_attribution_and_reasons_are_read():
    told = document(onSite=[PLANT], attribution=["RTE"], reasons=["eia\n stands\x1b in", " "])
    found = parse_forecast(told)
    assert [(plant.name, plant.rung, plant.power_kw.shape) for plant in found.on_site] == [("roof", Rung.LIVE, (3, 48))]
    assert found.attribution == ("RTE",)
    assert found.reasons == ("eia stands in",), "one line each, and nothing that a terminal would obey"
    assert parse_forecast(document()).on_site == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"onSite": [{**PLANT, "powerKilowatts": [[1.0] * 47] * 3}]},
        {"onSite": [{**PLANT, "powerKilowatts": [[-1.0] * 48] * 3}]},
        {"onSite": [{**PLANT, "powerKilowatts": [[1e9] * 48] * 3}]},
        {"onSite": [{**PLANT, "rung": "Best"}]},
        {"onSite": [{"name": "roof"}]},
        {"onSite": ["roof"]},
        {"onSite": "roof"},
        {"reasons": ["x"] * 1000},
    ],
)
def test_plants_that_cannot_be_are_refused(changes: dict[str, Any]):
    with pytest.raises(ValueError, match=r"onSite|reasons|missing|Best|indices"):
        parse_forecast(document(**changes))
