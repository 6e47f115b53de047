# SPDX-License-Identifier: Apache-2.0
"""A system operator's own day-ahead wind and solar: it is of use only where it reaches past the present hour."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from embellie_forecast.gathering import Gatherer
from embellie_forecast.history import hour_of
from embellie_forecast.live import LiveFeed
from embellie_forecast.sources.archive import Archive
from embellie_forecast.sources.base import Licence
from embellie_forecast.sources.catalogue import SourceSpec, parse_spec
from embellie_forecast.sources.frame import Rows
from embellie_forecast.sources.transport import Http
from embellie_forecast.zones import Zone
from embellie_testbed import providers
from embellie_testbed.providers import NOW, Server, truth_at

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
THIS_HOUR = NOW.replace(minute=0)


@pytest.fixture
def feed(server: Server, monkeypatch: pytest.MonkeyPatch) -> LiveFeed:
    monkeypatch.setenv("ENTSOE_ENDPOINT_URL", server.url)
    monkeypatch.setenv("ENTSOE_API_KEY", "token")
    monkeypatch.setattr("embellie_forecast.gathering.FIRST_WINDOW", timedelta(days=3))
    server.answer = providers.entsoe
    return LiveFeed(Http(pause=lambda _s: None), None)


def test_a_live_issue_knows_the_official_forecast_of_the_day_ahead_and_no_reading_of_it(feed: LiveFeed) -> None:
    zone = Zone(name="delft", grid_region="NL", primary=SourceSpec(kind="entsoe", area="NL"))
    fed = feed.history(zone, NOW)
    present = hour_of(NOW) - fed.history.first_hour
    ahead = fed.history.official_mw[present : present + 24]
    wind = [truth_at(THIS_HOUR + k * HOUR)["gen_wind_mw"] for k in range(24)]
    assert len(ahead) == 24
    assert ahead[:, 1] == pytest.approx(wind, abs=30.0)
    assert not np.isfinite(fed.history.lifecycle_g_per_kwh[present:]).any()
    assert not np.isfinite(fed.history.generation_mw["wind"][present:]).any()


def test_a_files_forecasts_of_the_hours_ahead_are_known(tmp_path: Path) -> None:
    rows = [
        f"{THIS_HOUR + k * HOUR:%Y-%m-%dT%H:%M:%SZ},{300 + k % 7 if k < 0 else ''},{1000 + k}" for k in range(-72, 24)
    ]
    (tmp_path / "grid.csv").write_text("timestamp_utc,ci_direct_g_per_kwh,dafc_wind_mw\n" + "\n".join(rows))
    _, archive = Gatherer(Http(), None).ask(parse_spec(f"file:path={tmp_path / 'grid.csv'}"), NOW, [])
    assert list(archive.frame["dafc_wind_mw"].loc[THIS_HOUR:]) == [1000.0 + k for k in range(24)]


def told(column: str, first: datetime, hours: int, now: datetime) -> Any:
    rows = Rows(source="t", licence=Licence(name="x", url="", attribution="x"), step=HOUR)
    for k in range(hours):
        rows.add(first + k * HOUR, column, 100.0 + k)
    return rows.tidy(first, first + hours * HOUR, now=now)


def test_what_a_clock_that_ran_ahead_was_told_of_the_far_future_goes() -> None:
    archive, later = Archive(None, "entsoe"), THIS_HOUR + 400 * DAY
    archive.add(told("dafc_wind_mw", later, 24, later), now=later)
    archive.add(told("dafc_wind_mw", THIS_HOUR, 24, NOW), now=NOW)
    assert archive.frame.index.max() == pd.Timestamp(THIS_HOUR + 23 * HOUR)


def test_while_only_forecasts_come_the_readings_that_are_missing_are_still_asked_for() -> None:
    archive = Archive(None, "entsoe")
    archive.add(told("gen_wind_mw", THIS_HOUR - 9 * DAY, 24, NOW), now=NOW)
    archive.add(told("dafc_wind_mw", THIS_HOUR - 9 * DAY, 10 * 24, NOW), now=NOW)
    assert archive.newest == (THIS_HOUR - 8 * DAY - HOUR).astimezone(UTC)
