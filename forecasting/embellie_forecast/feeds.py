# SPDX-License-Identifier: Apache-2.0
"""What the ladder asks: a replay of the carried data, live sources, or nothing at all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import numpy as np
import pandas as pd

from embellie_forecast.history import WEATHER_COLUMNS, HistoryError, ZoneHistory, hour_of, instant_of
from embellie_forecast.history_files import load_carried
from embellie_forecast.measured import measured_of_history
from embellie_forecast.onsite.forecast import Past
from embellie_forecast.zones import Zone

CARRIED_ATTRIBUTION = "U.S. EIA (Form EIA-930) and NOAA GFS, carried with the product, public domain"
GENERATION_DELAY = timedelta(hours=1)
"""A replay publishes an hour's generation so long after its end."""
WEATHER_DELAY_HOURS = 5
"""A replay publishes the 00Z weather run at 05Z, as NOAA does."""


class FeedError(ValueError):
    """The feed gives nothing now; the sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fed:
    """What a feed gives for a zone."""

    history: ZoneHistory
    """What is known; hours from now on carry weather only."""
    usual_delay: timedelta
    """How late this feed's newest hour usually is."""
    notes: tuple[str, ...] = ()
    """What of it failed or was not believed."""
    attribution: tuple[str, ...] = ()
    contradicted_hours: int = 0
    """In how many of the last 24 hours a second source says something else."""
    name: str = ""
    """Who speaks: the source's kind, or `replay`."""
    measured: pd.DataFrame | None = None
    """The intensity that was, as `measured.measured_intensity` gives it; None where nobody measured."""
    fine: pd.DataFrame | None = None
    """Believed readings of the last weeks in the source's own step; None where it tells hours only."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Site:
    """What is known about the zone's own place: the weather over its roof, and its meters."""

    weather: pd.DataFrame | None = None
    weather_by_day: Mapping[int, pd.DataFrame] = field(default_factory=dict)
    metered_kw: "Mapping[str, pd.Series[float]]" = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    attribution: tuple[str, ...] = ()

    def past_of(self, plant: str) -> Past | None:
        """Return what there is to learn from about a plant."""
        metered = self.metered_kw.get(plant)
        return None if metered is None else Past(weather_by_day=self.weather_by_day, metered_kw=metered)


class Feed(Protocol):
    """Gives what is known about a zone at a moment, and never more."""

    def history(self, zone: Zone, now: datetime) -> Fed:
        """Return what is known at `now`; FeedError where there is nothing."""
        ...

    def stand_in(self, zone: Zone, now: datetime) -> Fed:
        """Return what the zone's second source knows at `now`; FeedError where there is nothing."""
        ...

    def site(self, zone: Zone, now: datetime) -> Site:
        """Return what is known about the site at `now`; never raises."""
        ...

    def backfill(self, zone: Zone, now: datetime) -> bool:
        """Fetch one more piece of older history; tell whether something was learned."""
        ...


class ReplayFeed:
    """Plays the carried data as if it were live: generation up to the delay, weather runs as they were published."""

    def __init__(self) -> None:
        self._archives: dict[str, ZoneHistory] = {}

    def history(self, zone: Zone, now: datetime) -> Fed:
        """Return the part of the carried data that had been published at `now`."""
        region = zone.grid_region or ""
        if region not in self._archives:
            try:
                self._archives[region] = load_carried(region)
            except HistoryError as error:
                raise FeedError(str(error)) from error
        hour = hour_of(now)
        # A day's run tells of the day after it.
        weather_end = ((hour - WEATHER_DELAY_HOURS) // 24 + 2) * 24
        history = self._archives[region].known_until(hour_of(now - GENERATION_DELAY), weather_end)
        return Fed(
            history=history,
            usual_delay=GENERATION_DELAY,
            attribution=(CARRIED_ATTRIBUTION,),
            name="replay",
            measured=measured_of_history(history, now, delay=GENERATION_DELAY),
        )

    def stand_in(self, zone: Zone, now: datetime) -> Fed:  # noqa: ARG002 - the protocol's
        """Raise: a replay plays one past."""
        raise FeedError("a replay has no second source")

    def site(self, zone: Zone, now: datetime) -> Site:
        """Return the grid's own weather, as far as it is known: a replay has none of the site."""
        try:
            history = self.history(zone, now).history
        except FeedError:
            return Site()
        first = hour_of(now) - history.first_hour
        rows = history.weather[max(0, first) :]
        if not np.isfinite(rows).any():
            return Site()
        index = pd.date_range(pd.Timestamp(instant_of(hour_of(now))), periods=len(rows), freq="h")
        return Site(weather=pd.DataFrame(rows, columns=list(WEATHER_COLUMNS), index=index))

    def backfill(self, zone: Zone, now: datetime) -> bool:  # noqa: ARG002 - the protocol's
        """Everything is there from the beginning."""
        return False
