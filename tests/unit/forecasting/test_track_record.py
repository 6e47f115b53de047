# SPDX-License-Identifier: Apache-2.0
"""What the forecaster tells about its own errors is what came of the forecasts that it issued."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from embellie.telemetry.forecaster_health import ForecasterHealth
from embellie.telemetry.metrics import grid
from embellie_forecast.exchange import ForecastDocument, Rung
from embellie_forecast.feeds import Fed
from embellie_forecast.history import ZoneHistory
from embellie_forecast.track_record import TrackRecord

START = datetime(2026, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def truth(hours: int, *, value: float = 200.0) -> ZoneHistory:
    index = pd.date_range(START, periods=hours, freq="h")
    columns = {"ci_lifecycle_g_per_kwh": value, "ci_direct_g_per_kwh": value / 2, "re_pct": 40.0}
    # A series that never moves would be taken for frozen.
    wave = 1.0 + 0.001 * np.sin(np.arange(hours))
    return ZoneHistory.from_frame(pd.DataFrame({n: v * wave for n, v in columns.items()}, index=index), zone="XX")


def fed(hours: int, **changes: Any) -> Fed:
    return Fed(history=truth(hours, **changes), usual_delay=HOUR)


def said(at: datetime, *, median: float = 220.0, low: float = 180.0, high: float = 260.0) -> ForecastDocument:
    rows = np.array([[low], [median], [high]]) * np.ones((1, 96))
    return ForecastDocument(
        zone="west",
        issued_at=at,
        start=at,
        step=HOUR,
        signal_kind="AverageLifecycle",
        rung=Rung.LIVE,
        model_id="m",
        skill_percent=None,
        quantile_levels=(0.1, 0.5, 0.9),
        carbon_g_per_kwh=rows,
        carbon_mean_g_per_kwh=rows[1],
        renewable_share=np.array([[0.1], [0.205], [0.3]]) * np.ones((1, 96)),
        ambient_temperature_c=None,
    )


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "health.json").read_text(encoding="utf-8"))
    return found


def rows(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    return {(row["target"], row["leadDay"]): row for row in report(folder)["quality"]}


def run(folder: Path, hours: int, **changes: Any) -> TrackRecord:
    """Issue every six hours, for so many hours."""
    track = TrackRecord(folder)
    for hour in range(0, hours, 6):
        now = START + hour * HOUR
        track.note(said(now, **changes), {"eia": fed(max(hour, 1)) if hour else None}, now)
    return track


def test_errors_and_coverage_are_those_of_what_came(tmp_path: Path):
    run(tmp_path, 72)
    first = rows(tmp_path)["lifecycle", 1]
    assert first["mape"] == pytest.approx(0.1, abs=0.002)
    assert first["mae"] == pytest.approx(20.0, abs=0.3)
    assert first["coverage80"] == 1.0
    share = rows(tmp_path)["renewable_share", 1]
    # 40 % came, and 10 to 30 % was said.
    assert share["coverage80"] == 0.0
    assert share["mape"] is None
    # A restart must not find a share of 20 % rounded away.
    kept = json.loads((tmp_path / "track" / "west.json").read_text())["issues"][0]["said"]
    assert kept["renewable_share"][1][0] == 0.205
    # Of one issue in six hours, only what has come: 4 whole first days and parts of others, none of the fourth.
    assert 96 <= first["hours"] <= 12 * 24
    assert ("lifecycle", 4) not in rows(tmp_path)


def test_an_interval_that_is_too_narrow_shows(tmp_path: Path):
    run(tmp_path, 48, low=219.0, high=221.0)
    assert rows(tmp_path)["lifecycle", 1]["coverage80"] == 0.0


def test_nothing_is_told_before_a_day_has_come(tmp_path: Path):
    run(tmp_path, 8)
    assert report(tmp_path)["quality"] == []


def test_a_restart_goes_on_with_what_was_remembered(tmp_path: Path):
    run(tmp_path, 60)
    before = rows(tmp_path)["lifecycle", 1]["hours"]
    now = START + 60 * HOUR
    TrackRecord(tmp_path).note(said(now), {"eia": fed(60)}, now)
    assert rows(tmp_path)["lifecycle", 1]["hours"] >= before


@pytest.mark.parametrize(
    "text", ["", "{}", '{"issues": [1]}', '{"issues": [{"firstHour": 1, "said": {"lifecycle": [[1]]}}]}']
)
def test_a_memory_that_cannot_be_read_is_begun_anew(tmp_path: Path, text: str):
    (tmp_path / "track").mkdir()
    (tmp_path / "track" / "west.json").write_text(text, encoding="utf-8")
    TrackRecord(tmp_path).note(said(START), {"eia": None}, START)
    assert report(tmp_path)["quality"] == []


def test_a_clock_that_jumps_back_forgets_what_lies_ahead(tmp_path: Path):
    track = run(tmp_path, 48)
    back = START + 6 * HOUR
    track.note(said(back), {"eia": fed(6)}, back)
    kept = json.loads((tmp_path / "track" / "west.json").read_text(encoding="utf-8"))["issues"]
    assert [entry["firstHour"] for entry in kept] == sorted({entry["firstHour"] for entry in kept})
    assert kept[-1]["firstHour"] == int(back.timestamp() // 3600)


def test_a_feed_that_fails_is_down_and_the_errors_stand(tmp_path: Path):
    track = run(tmp_path, 48)
    now = START + 48 * HOUR
    track.note(said(now), {"eia": None}, now)
    assert report(tmp_path)["feeds"] == [{"zone": "west", "feed": "eia", "up": False, "lastValueAt": None}]
    assert rows(tmp_path)["lifecycle", 1]["hours"] > 0
    track.note(said(now), {"eia": fed(48)}, now)
    (feed,) = report(tmp_path)["feeds"]
    assert (feed["up"], feed["lastValueAt"]) == (True, now.isoformat())


@pytest.mark.parametrize(("silent_h", "up"), [(46, True), (47, False), (24 * 400, False)])
def test_a_feed_that_has_told_nothing_for_two_days_is_down(silent_h: int, up: bool, tmp_path: Path):
    end = START + 48 * HOUR
    now = end + silent_h * HOUR
    TrackRecord(tmp_path).note(said(now), {"file": fed(48)}, now)
    (feed,) = report(tmp_path)["feeds"]
    assert (feed["up"], feed["lastValueAt"]) == (up, end.isoformat() if up else None)


def test_a_zone_that_is_gone_is_told_no_more(tmp_path: Path):
    track = run(tmp_path, 48)
    track.forget_all_but({"east"})
    now = START + 48 * HOUR
    other = said(now)
    track.note(ForecastDocument(**{**{f: getattr(other, f) for f in other.__slots__}, "zone": "east"}), {}, now)
    assert report(tmp_path)["feeds"] == []
    assert report(tmp_path)["quality"] == []


def test_the_operator_reads_what_the_forecaster_writes(tmp_path: Path):
    run(tmp_path, 60)
    values = {(v.metric, v.labels): v.value for v in ForecasterHealth(tmp_path).values(START + 60 * HOUR)}
    assert values[grid.FORECAST_ERROR, ("west", "lifecycle", "1")] == pytest.approx(0.1, abs=0.002)
    assert values[grid.FORECAST_COVERAGE, ("west", "lifecycle", "1")] == 1.0
    assert values[grid.FEED_UP, ("west", "eia")] == 1.0
