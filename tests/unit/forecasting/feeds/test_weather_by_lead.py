# SPDX-License-Identifier: Apache-2.0
"""Weather of days 2 to 4: learned from forecasts that were as old as today's forecast of those days is."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from embellie_forecast.history import LEAD_DAYS, WEATHER_COLUMNS, hour_of, instant_of
from embellie_forecast.live import LiveFeed
from embellie_forecast.models import WeatherUse
from embellie_forecast.models.zone import usable_weather
from embellie_forecast.sources.catalogue import SourceSpec
from embellie_forecast.sources.transport import Http
from embellie_forecast.zones import Zone
from embellie_testbed.providers import NOW, Behaviour, Server, everything, truth_at

HOUR = timedelta(hours=1)
FRANCE = Zone(name="paris", grid_region="FR", primary=SourceSpec(kind="eco2mix"), weather=SourceSpec(kind="openmeteo"))
TEMP = WEATHER_COLUMNS.index("wxfc_temp_c")


@pytest.fixture
def feed(server: Server, monkeypatch: pytest.MonkeyPatch) -> LiveFeed:
    for name in ("ODRE", "OPENMETEO", "OPENMETEO_PREVIOUS"):
        monkeypatch.setenv(f"EMBELLIE_{name}_URL", server.url)
    monkeypatch.setattr("embellie_forecast.gathering.FIRST_WINDOW", timedelta(days=3))
    server.answer = everything
    server.behaviour = Behaviour(too_warm_k=lambda days: days)
    return LiveFeed(Http(pause=lambda _s: None), None)


def test_each_day_ahead_has_the_forecast_that_was_or_is_so_old(feed: LiveFeed) -> None:
    history = feed.history(FRANCE, NOW).history
    present = hour_of(NOW)
    assert history.weather_ahead is not None
    assert usable_weather(history) is WeatherUse.LEADS
    hours = np.arange(history.first_hour, history.end_hour)
    really = np.array([truth_at(instant_of(int(hour)))["wxfc_temp_c"] for hour in hours])
    newest = np.maximum(0.0, (hours - present) / 24.0)
    for k, day in enumerate(LEAD_DAYS):
        found = history.weather_ahead[:, k, TEMP] - really
        border = present + 24 * (day - 1)
        # Before the day begins: as it was forecast that many days before, also for hours still to come.
        assert found[hours < border] == pytest.approx(float(day), abs=1e-2)
        # In the day itself and after it: the newest forecast there is.
        ahead = (hours >= border) & (hours < present + 96)
        assert found[ahead] == pytest.approx(newest[ahead], abs=1e-2)
    first = history.weather[:, TEMP] - really
    assert first[hours < present] == pytest.approx(1.0, abs=1e-2)


def test_without_previous_runs_a_days_weather_is_all_that_is_used(server: Server, feed: LiveFeed) -> None:
    server.behaviour = Behaviour(
        reply=lambda s, _n: (
            (503, {}, b"")
            if any(f"previous_day{d}" in s.requests[-1][1].get("hourly", [""])[0] for d in LEAD_DAYS)
            else None
        )
    )
    feed._gathered.http.patience = type(feed._gathered.http.patience)(attempts=1)
    history = feed.history(FRANCE, NOW).history
    assert usable_weather(history) is WeatherUse.DAY1


def test_a_file_that_has_weather_too_gives_way_to_the_source_that_the_zone_names(
    feed: LiveFeed, tmp_path: Path
) -> None:
    first = NOW.replace(minute=0) - timedelta(hours=72)
    rows = [f"{first + k * HOUR:%Y-%m-%dT%H:%M:%SZ},{300 + k % 7},-40" for k in range(72)]
    (tmp_path / "grid.csv").write_text("timestamp_utc,ci_direct_g_per_kwh,wxfc_temp_c\n" + "\n".join(rows))
    zone = replace(FRANCE, primary=SourceSpec(kind="file", path=str(tmp_path / "grid.csv")))
    history = feed.history(zone, NOW).history
    assert np.nanmin(history.weather[:, TEMP]) > 0.0
