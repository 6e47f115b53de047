# SPDX-License-Identifier: Apache-2.0
"""Live readings of a zone: asked from its sources, kept in archives, judged, and joined with the weather.

A source that fails costs a note, not the feed: what the archive holds may be fresh enough. Whether it is, the ladder
decides.
"""

import contextlib
import hashlib
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from embellie_forecast.believable import without_closed
from embellie_forecast.factors import MIX_COLUMNS
from embellie_forecast.feeds import Fed, FeedError, Site
from embellie_forecast.gathering import Gatherer
from embellie_forecast.history import LEAD_DAYS, HistoryError, ZoneHistory, ahead_column
from embellie_forecast.measured import measured_intensity
from embellie_forecast.sources.archive import Archive
from embellie_forecast.sources.base import Licence, SourceError
from embellie_forecast.sources.catalogue import SourceSpec
from embellie_forecast.sources.files import Bundle
from embellie_forecast.sources.guard import believe, believe_weather, measured_columns
from embellie_forecast.sources.openmeteo import OpenMeteo, OpenMeteoPreviousRuns
from embellie_forecast.sources.places import weather_points
from embellie_forecast.sources.source import Source
from embellie_forecast.sources.transport import Http
from embellie_forecast.zones import Zone

HORIZON = timedelta(hours=97)
HISTORY = timedelta(days=420)
"""What training would like to have; it is asked for piece by piece, when nothing else is to be done."""
COMPARED_HOURS = 60 * 24
"""So much of a second source is compared with the first."""
DAY = timedelta(days=1)
DAYS_AHEAD = (1, *LEAD_DAYS)


class LiveFeed:
    """Reads what zones name as their sources. One object for all zones, so that zones of one grid share readings."""

    def __init__(self, http: Http, folder: Path | None) -> None:
        self._gathered = Gatherer(http, folder)

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
        source, archive = self._gathered.ask(spec, now, notes)
        if source is None or archive.frame.empty:
            raise FeedError("; ".join(notes) or "the feed has said nothing yet")
        licences: list[Licence] = [source.licence]
        cross = None
        if other is not None:
            second, kept = self._gathered.ask(other, now, notes)
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
            fine=_believed_slots(self._gathered.fine(spec).frame, believed.frame),
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
        source, archive = self._previous(points, days_ahead)
        self._gathered.update(source, archive, now, [])
        return archive.frame

    def meter(self, query: str, unit: str, now: datetime, notes: list[str]) -> "pd.Series[float]":
        """Return a meter's hourly means, as far as they are archived and believed [kW]."""
        from embellie_forecast.sources.prometheus import PrometheusMeter

        source = PrometheusMeter(self._gathered.http, query, unit=unit)
        archive = self._gathered.archive(f"meter-{hashlib.sha256(query.encode()).hexdigest()[:16]}")
        self._gathered.update(source, archive, now, notes)
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
                source, archive = self._gathered.source(spec), self._gathered.archive(str(spec))
                learned |= self._gathered.older(source, archive, now, HISTORY)
        points = weather_points(zone.grid_region, zone.site)
        for day in DAYS_AHEAD if zone.weather is not None and zone.weather.kind == "openmeteo" and points else ():
            runs, archive = self._previous(points, day)
            learned |= self._gathered.older(runs, archive, now, HISTORY)
        return learned

    def _previous(self, points: tuple[tuple[float, float], ...], day: int) -> tuple[Source, Archive]:
        """Return the source of what was forecast so many days ahead, and its archive."""
        name = f"previous-{day}-{points[0][0]:.2f}-{points[0][1]:.2f}-{len(points)}"
        return OpenMeteoPreviousRuns(self._gathered.http, points, days_ahead=day), self._gathered.archive(name)

    # -- weather ----------------------------------------------------------------------------------------------------

    def _weather_source(self, zone: Zone, points: tuple[tuple[float, float], ...]) -> Source:
        if zone.weather is None:
            raise FeedError(f"no weather source is named for {zone.name}")
        if zone.weather.kind == "bundle":
            return Bundle(Path(zone.weather.path), zone.weather.area)
        if not points:
            raise FeedError(f"{zone.name} has neither a known gridRegion nor coordinates to ask the weather of")
        return OpenMeteo(self._gathered.http, points)

    def _with_weather(
        self, zone: Zone, grid: pd.DataFrame, now: datetime, notes: list[str], licences: list[Licence]
    ) -> pd.DataFrame:
        """Return the grid's readings with weather: of the past what was forecast for it, of the future the newest."""
        if zone.weather is None:
            return grid
        points = weather_points(zone.grid_region, zone.site)
        future = pd.DataFrame(index=pd.DatetimeIndex([], tz="UTC"))
        try:
            begin = grid.index[0].to_pydatetime() if zone.weather.kind == "bundle" else None
            future, licence = self.weather(zone, points, now, begin=begin)
            licences.append(licence)
        except (SourceError, FeedError) as error:
            notes.append(f"no weather: {error}")
        weather = _joined([self.past_weather(zone, points, now), future])
        if weather.empty:
            return grid
        if zone.weather.kind == "openmeteo" and points:
            weather = weather.join([self._by_lead(zone, points, now, day, future) for day in LEAD_DAYS], how="outer")
        # A file may hold weather too; the zone has named another source of it.
        grid = grid.drop(columns=weather.columns, errors="ignore")
        return grid.join(weather[weather.index >= grid.index[0]], how="outer")

    def _by_lead(
        self, zone: Zone, points: tuple[tuple[float, float], ...], now: datetime, day: int, newest: pd.DataFrame
    ) -> pd.DataFrame:
        """Return the weather as it was forecast `day` days ahead: for the hours so far ahead, the newest forecast.

        The hours between now and then were forecast that long ago too: earlier issues are judged by those, never by
        what is known of them today.
        """
        present = now.replace(minute=0, second=0, microsecond=0)
        border = present + (day - 1) * DAY
        source, archive = self._previous(points, day)
        pieces = [archive.frame]
        # While the service does not answer, it is not asked six times more.
        if not newest.empty:
            pieces = [self.past_weather(zone, points, now, days_ahead=day)]
            # Missing hours cost the past issues a little skill; the forecast itself rests on the newest.
            with contextlib.suppress(SourceError):
                pieces.append(believe_weather(source.read(present, border, now=now).hourly().frame).frame)
            pieces.append(newest[newest.index >= pd.Timestamp(border)])
        found = _joined(pieces)
        return found.rename(columns={name: ahead_column(name, day) for name in found.columns})


def _joined(pieces: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the weather of all pieces; where two have an hour, the later one's."""
    known = [piece[[name for name in piece.columns if name.startswith("wxfc_")]] for piece in pieces if not piece.empty]
    if not known:
        return pd.DataFrame(index=pd.DatetimeIndex([], tz="UTC"))
    joined = pd.concat(known)
    return joined[~joined.index.duplicated(keep="last")].sort_index()


def _believed_slots(fine: pd.DataFrame, hours: pd.DataFrame) -> pd.DataFrame | None:
    """Return the slots of the hours that are believed; None where the source tells hours only."""
    if fine.empty:
        return None
    known = hours[measured_columns(hours)].notna().any(axis=1)
    fine, _ = without_closed(fine, MIX_COLUMNS)
    return fine[known.reindex(fine.index.floor("h"), fill_value=False).to_numpy()]  # type: ignore[attr-defined]
