# SPDX-License-Identifier: Apache-2.0
"""Live readings of a zone: asked from its sources, kept in archives, judged, and joined with the weather.

A source that fails costs a note, not the feed: what the archive holds may be fresh enough. Whether it is, the ladder
decides.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from embellie_forecast.feeds import Fed, FeedError, Site
from embellie_forecast.history import HistoryError, ZoneHistory
from embellie_forecast.measured import measured_intensity
from embellie_forecast.sources.archive import Archive
from embellie_forecast.sources.base import Licence, Source, SourceError
from embellie_forecast.sources.catalogue import SourceSpec, make_source
from embellie_forecast.sources.files import Bundle
from embellie_forecast.sources.frame import Readings
from embellie_forecast.sources.guard import believe, believe_weather
from embellie_forecast.sources.openmeteo import OpenMeteo, OpenMeteoPreviousRuns
from embellie_forecast.sources.places import weather_points
from embellie_forecast.sources.transport import Http
from embellie_forecast.zones import Zone

HORIZON = timedelta(hours=97)
FIRST_WINDOW = timedelta(days=35)
"""What the first question covers: enough to judge the newest days against, and to forecast from."""
REVISED = timedelta(days=3)
"""Sources correct themselves for days: each question goes back this far."""
HISTORY = timedelta(days=420)
"""What training would like to have; it is asked for piece by piece, when nothing else is to be done."""
CHUNK = timedelta(days=30)
COMPARED_HOURS = 60 * 24
"""So much of a second source is compared with the first."""
DAYS_AHEAD = (1, 2, 3, 4)
FAILURES_BEFORE_GIVING_UP = 3


@dataclass(slots=True)
class _Backfill:
    """How the question for older history is going."""

    failures: int = 0


class LiveFeed:
    """Reads what zones name as their sources. One object for all zones, so that zones of one grid share readings."""

    def __init__(self, http: Http, folder: Path | None) -> None:
        self._http = http
        self._folder = folder
        self._archives: dict[str, Archive] = {}
        self._backfills: dict[str, _Backfill] = {}
        self._sources: dict[SourceSpec, Source] = {}
        self._asked: dict[str, tuple[datetime, list[str]]] = {}
        """What each archive's source was last asked at, and what came of it: once at a moment is enough."""

    def history(self, zone: Zone, now: datetime) -> Fed:
        """Return what is known about the zone's grid at `now`.

        Raises:
            FeedError: No source is named, or none has ever said anything.
        """
        if zone.primary is None:
            raise FeedError(f"no live feed is named for {zone.name}")
        return self._fed(zone, zone.primary, zone.cross_check, now)

    def stand_in(self, zone: Zone, now: datetime) -> Fed:
        """Return what the zone's second source knows about the grid at `now`, checked against the first.

        Raises:
            FeedError: No second source is named, or it has never said anything.
        """
        if zone.cross_check is None:
            raise FeedError(f"no second source is named for {zone.name}")
        return self._fed(zone, zone.cross_check, zone.primary, now)

    def _fed(self, zone: Zone, spec: SourceSpec, other: SourceSpec | None, now: datetime) -> Fed:
        notes: list[str] = []
        source, archive = self._ask(spec, now, notes)
        if source is None or archive.frame.empty:
            raise FeedError("; ".join(notes) or "the feed has said nothing yet")
        licences: list[Licence] = [source.licence]
        cross = None
        if other is not None:
            second, kept = self._ask(other, now, notes)
            if second is not None and not kept.frame.empty:
                # Hours that the other source itself is not believed in contradict nobody.
                cross = believe(kept.frame.iloc[-COMPARED_HOURS:], now=now).frame
                licences.append(second.licence)
        believed = believe(archive.frame, now=now, cross=cross)
        notes += believed.notes
        if other is not None and not believed.cross_checked:
            notes.append(f"{other.kind} cannot be compared, so {spec.kind} stands alone")
        frame = self._with_weather(zone, believed.frame, now, notes, licences)
        try:
            history = ZoneHistory.from_frame(
                frame.drop(columns=["estimated", "known_at"], errors="ignore"), zone=zone.key_of(spec)
            )
        except HistoryError as error:
            raise FeedError(str(error)) from error
        return Fed(
            history=history,
            usual_delay=source.usual_delay,
            notes=tuple(notes),
            contradicted_hours=believed.contradicted_hours,
            attribution=tuple(dict.fromkeys(licence.attribution for licence in licences)),
            name=spec.kind,
            measured=measured_intensity(believed.frame, now, source=str(spec)),
        )

    def weather(
        self, zone: Zone, points: tuple[tuple[float, float], ...], now: datetime, *, begin: datetime | None = None
    ) -> tuple[pd.DataFrame, Licence]:
        """Return the weather forecast from `begin` (default: this hour) on.

        Raises:
            SourceError: There is none.
        """
        source = self._weather_source(zone, points)
        hour = now.replace(minute=0, second=0, microsecond=0)
        readings = source.read(begin or hour, hour + HORIZON, now=now).hourly()
        return believe_weather(readings.frame).frame, source.licence

    def past_weather(
        self, zone: Zone, points: tuple[tuple[float, float], ...], now: datetime, *, days_ahead: int = 1
    ) -> pd.DataFrame:
        """Return what the weather of the past was forecast to be so many days ahead, as far as it is archived."""
        if zone.weather is None or zone.weather.kind != "openmeteo" or not points:
            return pd.DataFrame(index=pd.DatetimeIndex([], tz="UTC"))
        source = OpenMeteoPreviousRuns(self._http, points, days_ahead=days_ahead)
        archive = self._archive(f"previous-{days_ahead}-{points[0][0]:.2f}-{points[0][1]:.2f}-{len(points)}")
        self._update(source, archive, now, [])
        return archive.frame

    def meter(self, query: str, unit: str, now: datetime, notes: list[str]) -> "pd.Series[float]":
        """Return a meter's hourly means, as far as they are archived and believed [kW]."""
        from embellie_forecast.sources.prometheus import PrometheusMeter

        source = PrometheusMeter(self._http, query, unit=unit)
        archive = self._archive(f"meter-{hashlib.sha256(query.encode()).hexdigest()[:16]}")
        self._update(source, archive, now, notes)
        if "power_kw" not in archive.frame.columns:
            return pd.Series(dtype=np.float64, index=pd.DatetimeIndex([], tz="UTC"))
        return believe(archive.frame, now=now).frame["power_kw"].dropna()

    def site(self, zone: Zone, now: datetime) -> Site:
        """Return the weather over the site and what its meters say; what fails is a note."""
        notes: list[str] = []
        points = () if zone.site is None else (zone.site,)
        weather: pd.DataFrame | None = None
        whose: tuple[str, ...] = ()
        by_day: dict[int, pd.DataFrame] = {}
        if zone.weather is not None and points:
            try:
                weather, licence = self.weather(zone, points, now)
                whose = (licence.attribution,)
                by_day = {day: self.past_weather(zone, points, now, days_ahead=day) for day in DAYS_AHEAD}
            except (SourceError, FeedError) as error:
                notes.append(f"no weather: {error}")
        metered = {}
        for one in zone.on_site:
            if one.meter is not None:
                metered[one.name] = self.meter(one.meter.query, one.meter.unit, now, notes)
        return Site(weather=weather, weather_by_day=by_day, metered_kw=metered, notes=tuple(notes), attribution=whose)

    def backfill(self, zone: Zone, now: datetime) -> bool:
        """Ask for one more piece of older history; tell whether something was learned."""
        learned = False
        for spec in (zone.primary, zone.cross_check):
            if spec is not None:
                learned |= self._older(self._source(spec), self._archive(str(spec)), now)
        points = weather_points(zone.grid_region, zone.site)
        if zone.weather is not None and zone.weather.kind == "openmeteo" and points:
            archive = self._archive(f"previous-1-{points[0][0]:.2f}-{points[0][1]:.2f}-{len(points)}")
            learned |= self._older(OpenMeteoPreviousRuns(self._http, points), archive, now)
        return learned

    # -- asking -----------------------------------------------------------------------------------------------------

    def _source(self, spec: SourceSpec) -> Source:
        if spec not in self._sources:
            self._sources[spec] = make_source(spec, self._http)
        return self._sources[spec]

    def _archive(self, name: str) -> Archive:
        if name not in self._archives:
            self._archives[name] = Archive(self._folder, name)
        return self._archives[name]

    def _ask(self, spec: SourceSpec, now: datetime, notes: list[str]) -> tuple[Source | None, Archive]:
        archive = self._archive(str(spec))
        try:
            source = self._source(spec)
        except SourceError as error:
            notes.append(str(error))
            return None, archive
        self._update(source, archive, now, notes)
        return source, archive

    def _update(self, source: Source, archive: Archive, now: datetime, notes: list[str]) -> None:
        asked = self._asked.get(archive.name)
        if asked is None or asked[0] != now:
            asked = self._asked[archive.name] = (now, [])
            self._read(source, archive, now, asked[1])
        notes += asked[1]

    def _read(self, source: Source, archive: Archive, now: datetime, notes: list[str]) -> None:
        newest = archive.newest
        begin = now - FIRST_WINDOW if newest is None else max(newest - REVISED, now - FIRST_WINDOW)
        begin = begin.replace(minute=0, second=0, microsecond=0)
        try:
            readings = source.read(begin, now, now=now)
        except SourceError as error:
            notes.append(str(error))
            return
        self._take(archive, readings, now, notes)

    def _take(self, archive: Archive, readings: Readings, now: datetime, notes: list[str]) -> None:
        notes += [f"{readings.source}: {note}" for note in readings.notes[:3]]
        archive.add(readings, now=now)
        if archive.problem:
            notes.append(archive.problem)

    def _older(self, source: Source, archive: Archive, now: datetime) -> bool:
        state = self._backfills.setdefault(source.name, _Backfill())
        oldest = archive.oldest
        if oldest is None or oldest <= now - HISTORY or state.failures >= FAILURES_BEFORE_GIVING_UP:
            return False
        begin = max(oldest - CHUNK, now - HISTORY - timedelta(hours=1))
        try:
            readings = source.read(begin, oldest, now=now)
        except SourceError:
            state.failures += 1
            return False
        before = len(archive.frame)
        archive.add(readings, now=now)
        if len(archive.frame) == before:
            # The source has nothing older.
            state.failures = FAILURES_BEFORE_GIVING_UP
        return len(archive.frame) > before

    # -- weather ----------------------------------------------------------------------------------------------------

    def _weather_source(self, zone: Zone, points: tuple[tuple[float, float], ...]) -> Source:
        if zone.weather is None:
            raise FeedError(f"no weather source is named for {zone.name}")
        if zone.weather.kind == "bundle":
            return Bundle(Path(zone.weather.path), zone.weather.area)
        if not points:
            raise FeedError(f"{zone.name} has neither a known gridRegion nor coordinates to ask the weather of")
        return OpenMeteo(self._http, points)

    def _with_weather(
        self, zone: Zone, grid: pd.DataFrame, now: datetime, notes: list[str], licences: list[Licence]
    ) -> pd.DataFrame:
        """Return the grid's readings with weather: of the past what was forecast for it, of the future the newest."""
        if zone.weather is None:
            return grid
        points = weather_points(zone.grid_region, zone.site)
        pieces = [self.past_weather(zone, points, now)]
        try:
            begin = grid.index[0].to_pydatetime() if zone.weather.kind == "bundle" else None
            future, licence = self.weather(zone, points, now, begin=begin)
            pieces.append(future)
            licences.append(licence)
        except (SourceError, FeedError) as error:
            notes.append(f"no weather: {error}")
        wanted = [
            piece[[name for name in piece.columns if name.startswith("wxfc_")]] for piece in pieces if not piece.empty
        ]
        if not wanted:
            return grid
        weather = pd.concat(wanted)
        weather = weather[~weather.index.duplicated(keep="last")].sort_index()
        return grid.join(weather[weather.index >= grid.index[0]], how="outer")
