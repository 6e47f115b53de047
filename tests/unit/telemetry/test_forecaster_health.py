# SPDX-License-Identifier: Apache-2.0
"""The forecaster's report on its feeds and errors is outside data: what cannot be believed is left out."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from embellie.telemetry.forecaster_health import SCHEMA, ForecasterHealth
from embellie.telemetry.metrics import Metric, Value, grid

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
FEED = {"zone": "west", "feed": "eia", "up": True, "lastValueAt": "2026-07-01T11:00:00Z"}
QUALITY = {"zone": "west", "target": "lifecycle", "leadDay": 1, "hours": 700, "mape": 0.12, "coverage80": 0.79}


def written(folder: Path, *, number: int = 0, **changes: Any) -> Path:
    document = {"schema": SCHEMA, "writtenAt": NOW.isoformat(), "feeds": [FEED], "quality": [QUALITY], **changes}
    path = folder / "health.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    os.utime(path, (1e9 + number, 1e9 + number))
    return path


def values(folder: Path, now: datetime = NOW) -> dict[tuple[Metric, tuple[str, ...]], float]:
    found: list[Value] = ForecasterHealth(folder).values(now)
    return {(v.metric, v.labels): v.value for v in found}


def test_a_report_is_told(tmp_path: Path):
    written(tmp_path)
    assert values(tmp_path) == {
        (grid.FEED_UP, ("west", "eia")): 1.0,
        (grid.FEED_AGE, ("west", "eia")): 3600.0,
        (grid.FORECAST_ERROR, ("west", "lifecycle", "1")): 0.12,
        (grid.FORECAST_COVERAGE, ("west", "lifecycle", "1")): 0.79,
    }


def test_a_newer_report_replaces_the_one_before(tmp_path: Path):
    written(tmp_path)
    health = ForecasterHealth(tmp_path)
    assert health.values(NOW)
    written(tmp_path, number=1, feeds=[FEED | {"up": False}])
    assert health.values(NOW)[0].value == 0.0


@pytest.mark.parametrize(
    "bad",
    [
        {"mape": float("nan")},
        {"mape": -0.1},
        {"mape": "0.1"},
        {"mape": None},
        {"target": "marginal"},
        {"leadDay": 9},
        {"leadDay": "1; drop"},
    ],
)
def test_a_row_that_cannot_be_believed_is_left_out_and_the_rest_is_told(tmp_path: Path, bad: dict[str, Any]):
    other = QUALITY | {"zone": "east"}
    written(tmp_path, quality=[QUALITY | bad, other, "not a row", None])
    found = values(tmp_path)
    assert (grid.FORECAST_ERROR, ("east", "lifecycle", "1")) in found
    assert not any(m is grid.FORECAST_ERROR and labels[0] == "west" for m, labels in found)


def test_the_same_series_twice_is_told_once(tmp_path: Path):
    written(tmp_path, feeds=[FEED, FEED | {"up": False}], quality=[QUALITY, QUALITY])
    assert len(ForecasterHealth(tmp_path).values(NOW)) == 4


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": "other/v9"}', "[" * 100_000])
def test_a_report_that_is_none_is_passed_over(tmp_path: Path, text: str):
    (tmp_path / "health.json").write_text(text, encoding="utf-8")
    assert ForecasterHealth(tmp_path).values(NOW) == []


def test_no_report_an_old_one_and_one_from_the_future_tell_nothing(tmp_path: Path):
    assert values(tmp_path) == {}
    written(tmp_path)
    for days in (-3, 3):
        assert values(tmp_path, NOW + timedelta(days=days)) == {}
