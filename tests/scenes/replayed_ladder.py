# SPDX-License-Identifier: Apache-2.0
"""A forecaster's ladder on replayed history, with models that train in a moment."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from embellie_forecast.feeds import Fed, FeedError, ReplayFeed
from embellie_forecast.history import ZoneHistory
from embellie_forecast.ladder import Ladder
from embellie_forecast.models import Settings
from embellie_forecast.models.targets import Kernel
from embellie_forecast.zones import Zone

TINY = Settings(
    kernels=(Kernel(gamma=0.005, alpha=0.1),),
    max_training_days=120,
    refit_days=90,
    warm_up_days=30,
    calibration_days=20,
)
ORIGIN = datetime(2021, 7, 1, tzinfo=UTC)
NOW = ORIGIN + timedelta(hours=30, minutes=20)
EAST = Zone(name="east", grid_region="US-PJM")


class GivenFeed(ReplayFeed):
    """Replays, but spoils or refuses what it is told to."""

    def __init__(self, change: Callable[[ZoneHistory], ZoneHistory | None]) -> None:
        super().__init__()
        self._change = change

    def history(self, zone: Zone, now: datetime) -> Fed:
        fed = super().history(zone, now)
        changed = self._change(fed.history)
        if changed is None:
            raise FeedError("503")
        return replace(fed, history=changed)


def replay(models: Path | None, change: Callable[[ZoneHistory], ZoneHistory | None] | None = None) -> Ladder:
    feed = ReplayFeed() if change is None else GivenFeed(change)
    return Ladder(feed=feed, origin=ORIGIN, models=models, settings=TINY)
