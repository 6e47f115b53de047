# SPDX-License-Identifier: Apache-2.0
"""Where live readings come from: a replay of the carried data, or nothing at all (yet)."""

from datetime import datetime
from typing import Protocol

from embellie_forecast.dataset import DatasetError, History, hour_of, load_carried
from embellie_forecast.features import Delays


class FeedError(ValueError):
    """The feed gives nothing now; the sentence says why."""


class Feed(Protocol):
    """Gives what is known about a region at a moment, and never more."""

    def history(self, region: str, now: datetime) -> History:
        """Return the history that is known at `now`; FeedError where there is none."""
        ...


class NoFeed:
    """No live feed is configured: forecasts come from the calendar or from climatology."""

    def history(self, region: str, now: datetime) -> History:
        """Refuse."""
        raise FeedError(f"no live feed for {region} at {now:%Y-%m-%dT%H:%MZ}")


class ReplayFeed:
    """Plays the carried data as if it were live: generation up to the delay, weather runs as they were published."""

    def __init__(self, delays: Delays) -> None:
        self._delays = delays
        self._archives: dict[str, History] = {}

    def history(self, region: str, now: datetime) -> History:
        """Return the part of the carried data that had been published at `now`."""
        if region not in self._archives:
            try:
                self._archives[region] = load_carried(region)
            except DatasetError as error:
                raise FeedError(str(error)) from error
        issue = hour_of(now)
        known_to = self._delays.generation_end(issue)
        return self._archives[region].known_until(known_to, self._delays.weather_end(issue))
