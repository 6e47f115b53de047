# SPDX-License-Identifier: Apache-2.0
"""How old what a rung stands on may be, and how late readings count as."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest

from embellie_forecast import ladder as ladder_module
from embellie_forecast.climate import climatology
from embellie_forecast.documents import known_end
from embellie_forecast.exchange import Rung
from embellie_forecast.feeds import Fed, ReplayFeed
from embellie_forecast.history import hour_of, instant_of
from embellie_forecast.history_files import load_carried
from embellie_forecast.ladder import Ladder
from embellie_forecast.models import MAX_AGE_HOURS, Settings, ZoneForecast
from embellie_forecast.models.targets import Kernel
from embellie_forecast.zones import Zone

TINY = Settings(
    kernels=(Kernel(gamma=0.005, alpha=0.1),), max_training_days=60, refit_days=90, warm_up_days=20, calibration_days=15
)
NOW = datetime(2021, 7, 2, 6, 20, tzinfo=UTC)
EAST = Zone(name="east", grid_region="US-PJM")


class LateFeed(ReplayFeed):
    """Replays, but its last hours are not known yet."""

    late_h = 0

    def history(self, zone: Zone, now: datetime) -> Fed:
        fed = super().history(zone, now)
        told = fed.history.known_until(hour_of(now) - self.late_h, hour_of(now) + 96)
        return replace(fed, history=told, usual_delay=timedelta(hours=6))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    Ladder(feed=ReplayFeed(), origin=NOW, models=folder, settings=TINY).train(EAST, NOW)
    return folder


@pytest.mark.parametrize(("late_h", "counts_as"), [(0, 1), (1, 1), (2, 2), (5, 5)])
def test_readings_count_as_late_as_they_are_and_by_an_hour_at_least(
    late_h: int, counts_as: int, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, real = [], ladder_module.issue

    def issue(*arguments: Any, latency_hours: int, **more: Any) -> ZoneForecast:
        told.append(latency_hours)
        return real(*arguments, latency_hours=latency_hours, **more)

    monkeypatch.setattr(ladder_module, "issue", issue)
    feed = LateFeed()
    feed.late_h = late_h
    made = Ladder(feed=feed, origin=NOW, models=models, settings=TINY).issue(EAST, NOW)
    assert made.document.rung is Rung.LIVE, made.reasons
    assert told == [counts_as]


def test_a_model_of_the_calendar_is_believed_for_two_years_after_its_data_and_no_hour_longer(models: Path) -> None:
    end = known_end(load_carried("US-PJM"))
    assert end is not None
    ladder = Ladder(feed=ReplayFeed(), origin=None, models=models, settings=TINY)
    last, after = (ladder.issue(EAST, instant_of(end + MAX_AGE_HOURS + hours)) for hours in (0, 1))
    assert last.document.rung is Rung.CALENDAR, last.reasons
    assert after.document.rung is Rung.CLIMATOLOGY
    assert f"not Calendar: the data end at {instant_of(end):%Y-%m-%d}" in after.reasons


def test_a_climatology_of_intensity_alone_has_no_share() -> None:
    past = load_carried("US-PJM")
    alone = replace(past, renewable_share=np.full(past.n_hours, np.nan))
    both, one = (climatology(each, each.lifecycle_g_per_kwh, each.end_hour) for each in (past, alone))
    assert both is not None
    assert one is not None
    assert both.share is not None
    assert one.share is None
    assert np.array_equal(one.carbon, both.carbon)
