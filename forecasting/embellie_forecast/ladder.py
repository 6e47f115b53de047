# SPDX-License-Identifier: Apache-2.0
"""The ladder of signals: Live, LastGood, Calendar, Climatology, Neutral.

Each rung either gives a valid forecast or says why it cannot; then the next one is asked. The last one always answers.
No rung needs a credential, and the way up needs nobody: every issue begins at the top.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from embellie_forecast.climate import (
    Climatology,
    TemperatureClimate,
    ambient_temperature_c,
    climatology,
    month_of,
    temperature_climate,
)
from embellie_forecast.documents import (
    STEP,
    RungUnavailable,
    build,
    envelope_of,
    known_end,
    last_good,
    neutral,
    scope_of,
    series_of,
)
from embellie_forecast.exchange import FORECAST_LEVELS, ExchangeError, ForecastDocument, OnSiteForecast, Rung
from embellie_forecast.factors import FloatArray, Scope
from embellie_forecast.feed_checks import check_feed
from embellie_forecast.feeds import CARRIED_ATTRIBUTION, Fed, Feed, FeedError, Site
from embellie_forecast.finer import learn_shapes, refined
from embellie_forecast.history import HistoryError, ZoneHistory, hour_of, instant_of
from embellie_forecast.history_files import carried_zones, load_carried
from embellie_forecast.models import (
    HORIZON_HOURS,
    MAX_AGE_HOURS,
    CannotIssueError,
    Settings,
    Target,
    TargetForecast,
    ZoneForecast,
    issue,
    issue_calendar,
)
from embellie_forecast.onsite.forecast import forecast_plant
from embellie_forecast.shelf import Shelf
from embellie_forecast.zones import Zone

TARGETS = {Scope.LIFECYCLE: Target.LIFECYCLE, Scope.DIRECT: Target.DIRECT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A forecast, and why it does not stand on a better rung."""

    document: ForecastDocument
    reasons: tuple[str, ...]
    feds: tuple[Fed, ...] = ()
    """What the sources gave, the preferred first; those that failed are missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Usual:
    """What lower rungs know about a grid: its past up to a cutoff."""

    archive: ZoneHistory
    cutoff_hour: int
    climatology: Climatology | None
    temperature: TemperatureClimate | None


class Ladder:
    """Issues forecasts for zones, each on the best rung that can answer."""

    def __init__(
        self, *, feed: Feed, origin: datetime | None, models: Path | None, settings: Settings | None = None,
        own_step: bool = True,
    ) -> None:  # fmt: skip
        """Set up.

        Args:
            feed: The live readings.
            origin: Where a replay starts: nothing after it is ever known before its time. None: real time.
            models: Folder of the model registry; None: keep models in memory only.
            settings: How models are trained; None: as they were chosen.
            own_step: Forecast in 15 or 30 minutes where a source tells them; False: always in hours.
        """
        self.feed = feed
        self._own_step = own_step
        self._origin = origin
        self._shelf = Shelf(folder=models, settings=settings)
        self._usual: dict[str, _Usual] = {}
        self._fed: dict[str, tuple[datetime, list[Fed | FeedError]]] = {}

    # -- models -----------------------------------------------------------------------------------------------------

    def _asked(self, zone: Zone, now: datetime) -> list[Fed | FeedError]:
        """Return what the zone's sources say, the preferred first, asked once for a moment."""
        kept = self._fed.get(zone.name)
        if kept is None or kept[0] != now:
            roles = [self.feed.history] if zone.cross_check is None else [self.feed.history, self.feed.stand_in]
            kept = self._fed[zone.name] = (now, [_said(role, zone, now) for role in roles])
        return kept[1]

    def _feds(self, zone: Zone, now: datetime) -> list[Fed]:
        return [said for said in self._asked(zone, now) if isinstance(said, Fed)]

    def _ask(self, zone: Zone, now: datetime) -> Fed:
        """Return what the first source that answers says; FeedError where none does."""
        for fed in self._feds(zone, now):
            return fed
        raise FeedError("; ".join(str(said) for said in self._asked(zone, now)))

    def backfill(self, zone: Zone, now: datetime) -> bool:
        """Fetch one more piece of older history; tell whether something was learned."""
        learned = self.feed.backfill(zone, now)
        if learned:
            # What was said before knows nothing of it, nor does what is usual.
            self._fed.pop(zone.name, None)
            for source in (zone.primary, zone.cross_check):
                self._usual.pop(zone.key_of(source), None)
        return learned

    def _archive(self, zone: Zone, now: datetime) -> _Usual:
        """Return the carried past of the zone's grid, else what its feed has gathered."""
        region = zone.grid_region or ""
        if region in carried_zones():
            # In a replay the future of the carried data must stay unknown; once a week is soon enough.
            cutoff = hour_of(now) // 168 * 168 if self._origin is not None else hour_of(now)
            known = self._usual.get(region)
            if known is None or (self._origin is not None and known.cutoff_hour != cutoff):
                self._usual[region] = _usual(load_carried(region).known_until(cutoff, cutoff), cutoff)
            return self._usual[region]
        fed = self._ask(zone, now)
        key = fed.history.zone
        known = self._usual.get(key)
        if known is None or hour_of(now) - known.cutoff_hour >= 168:
            self._usual[key] = _usual(fed.history, hour_of(now))
        return self._usual[key]

    def _to_train(self, zone: Zone, now: datetime) -> tuple[ZoneHistory, timedelta] | None:
        """Return what a model that is missing or old may be trained on, and how late that usually is.

        Each source's own past, the preferred first.
        """
        found = [(fed.history, fed.usual_delay) for fed in self._feds(zone, now)]
        found = [(history, delay) for history, delay in found if hour_of(now) - _end(history) <= MAX_AGE_HOURS]
        if not found:
            # Without a feed only the calendar's model is of use, and that one not for ever.
            past = self._carried_past(zone, now)
            found = [] if past is None else [(past, timedelta(0))]
        return next((each for each in found if self._shelf.needs_training(each[0].zone, now)), None)

    def needs_training(self, zone: Zone, now: datetime) -> bool:
        """Tell whether a model could lift this zone's rung, or is old."""
        return self._to_train(zone, now) is not None

    def train(self, zone: Zone, now: datetime) -> bool:
        """Train the models of one of the zone's sources, or of its carried past; tell whether new ones are in use."""
        found = self._to_train(zone, now)
        if found is None:
            return False
        history, usual_delay = found
        return self._shelf.train(history, now, usual_delay=usual_delay, past=self._carried_past(zone, now))

    def _carried_past(self, zone: Zone, now: datetime) -> ZoneHistory | None:
        """Return the past that a model of the calendar may rest on where the feed's own is too short for one."""
        try:
            archive = self._archive(zone, now).archive
        except (HistoryError, FeedError):
            return None
        return archive if hour_of(now) - _end(archive) <= MAX_AGE_HOURS else None

    def prepare(self, zone: Zone, now: datetime) -> None:
        """Train what is missing, for a single forecast here and now."""
        while self.needs_training(zone, now):
            self.train(zone, now)

    def warm(self, zone: Zone, now: datetime, at: datetime) -> None:
        """Work out ahead of time what an issue at `at` will need of the model that the zone stands on."""
        for fed in self._feds(zone, now):
            model = self._shelf.model(fed.history.zone, now)
            if model is not None:
                model.warm(at)
                return

    # -- rungs ------------------------------------------------------------------------------------------------------

    def issue(self, zone: Zone, now: datetime, directory: Path | None = None) -> Issued:
        """Issue a forecast for a zone on the best rung that can answer now."""
        rungs: tuple[tuple[Rung, Callable[[], ForecastDocument]], ...] = (
            (Rung.LIVE, lambda: self._live(zone, now)),
            (Rung.LAST_GOOD, lambda: _last_good(directory, zone, now)),
            (Rung.CALENDAR, lambda: self._calendar(zone, now)),
            (Rung.CLIMATOLOGY, lambda: self._climatology(zone, now)),
        )
        reasons: list[str] = []
        document = None
        for rung, attempt in rungs:
            try:
                document = attempt()
                break
            except (RungUnavailable, FeedError, HistoryError, CannotIssueError, ExchangeError) as error:
                reasons.append(f"not {rung.value}: {error}")
            except Exception as error:  # noqa: BLE001 - whatever breaks a rung must not take the next one with it
                reasons.append(f"not {rung.value}: {type(error).__name__}: {error}")
        document = document or neutral(zone.name, now)
        reasons += document.reasons
        plants, whose = self._on_site(zone, now, document, reasons)
        feds = self._feds(zone, now)
        notes = dict.fromkeys(note for fed in feds for note in fed.notes)
        carried = document.rung in {Rung.CALENDAR, Rung.CLIMATOLOGY} and zone.grid_region in carried_zones()
        document = replace(
            document,
            on_site=plants,
            attribution=tuple(
                dict.fromkeys((*document.attribution, *((CARRIED_ATTRIBUTION,) if carried else ()), *whose))
            ),
            reasons=(*reasons, *notes)[:12],
        )
        return Issued(document=document, reasons=tuple(reasons), feds=tuple(feds))

    def _live(self, zone: Zone, now: datetime) -> ForecastDocument:
        """Return a forecast from the first source that can be built on; the second takes over without a hand."""
        refused: list[str] = []
        for said in self._asked(zone, now):
            try:
                if isinstance(said, FeedError):
                    raise said
                document = self._live_from(zone, now, said)
            except (RungUnavailable, FeedError, HistoryError, CannotIssueError, ExchangeError) as error:
                refused.append(str(error))
                continue
            why = (f"{said.name} stands in for {_first_name(zone)}: {refused[0]}",) if refused else ()
            return replace(document, attribution=said.attribution, reasons=why)
        raise RungUnavailable("; and the second source: ".join(dict.fromkeys(refused)))

    def _live_from(self, zone: Zone, now: datetime, fed: Fed) -> ForecastDocument:
        scope = scope_of(fed.history)
        newest = check_feed(fed, now)
        model = self._shelf.model(fed.history.zone, now)
        if model is None:
            raise RungUnavailable(self._shelf.why_no_model(fed.history.zone, now))
        latency = max(1, hour_of(now) - newest)
        made = issue(model, fed.history, at=now, latency_hours=latency)
        document = self._from_model(zone, now, Rung.LIVE, made, fed.history, envelope_of(fed.history, scope, now))
        shapes = learn_shapes(fed.fine, document.signal_kind) if self._own_step else None
        return document if shapes is None else refined(document, shapes)

    def _from_model(
        self, zone: Zone, now: datetime, rung: Rung, made: ZoneForecast, history: ZoneHistory,
        envelope: tuple[float, float] | None,
    ) -> ForecastDocument:  # fmt: skip
        scope = next((s for s, target in TARGETS.items() if target in made.targets), None)
        if scope is None:
            raise RungUnavailable("its model knows no carbon intensity")
        carbon = made.targets[TARGETS[scope]]
        share = made.targets.get(Target.RENEWABLE_SHARE)
        direct = made.targets.get(Target.DIRECT) if scope is Scope.LIFECYCLE else None
        marginal = made.targets.get(Target.MARGINAL)
        return build(
            zone=zone.name,
            now=now,
            rung=rung,
            model_id=made.model_id,
            scope=scope,
            carbon=_levels(carbon),
            mean=carbon.mean,
            share=_levels(share) if share else _mean_share(history, carbon.mean.size),
            skill=carbon.skill_percent,
            ambient=self._ambient(zone, history, now),
            direct=None if direct is None else _levels(direct),
            marginal=None if marginal is None else _levels(marginal),
            generation_mw=made.generation_mw,
            envelope=envelope,
        )

    def _calendar(self, zone: Zone, now: datetime) -> ForecastDocument:
        usual = self._archive(zone, now)
        if hour_of(now) - _end(usual.archive) > MAX_AGE_HOURS:
            raise RungUnavailable(f"the data end at {instant_of(_end(usual.archive)):%Y-%m-%d}")
        histories = [*(fed.history for fed in self._feds(zone, now)), usual.archive]
        keys = (*(known.zone for known in histories), zone.grid_key)
        calendar = next((found for key in keys if (found := self._shelf.calendar(key)) is not None), None)
        if calendar is None:
            raise RungUnavailable("its model is not trained yet, or there is too little data for one")
        history = histories[0]
        made = issue_calendar(calendar, history, at=now)
        return self._from_model(zone, now, Rung.CALENDAR, made, history, None)

    def _climatology(self, zone: Zone, now: datetime) -> ForecastDocument:
        usual = self._archive(zone, now)
        if usual.climatology is None:
            raise RungUnavailable("too little data for a climatology")
        hours = np.arange(hour_of(now), hour_of(now) + HORIZON_HOURS, dtype=np.int64)
        month, utc = month_of(hours), hours % 24
        return build(
            zone=zone.name,
            now=now,
            rung=Rung.CLIMATOLOGY,
            model_id=f"climatology1-{usual.archive.zone}-until-{instant_of(_end(usual.archive)):%Y%m%dT%HZ}",
            scope=scope_of(usual.archive),
            carbon=usual.climatology.carbon[:, month, utc],
            mean=usual.climatology.carbon_mean[month, utc],
            share=None if usual.climatology.share is None else usual.climatology.share[:, month, utc],
            ambient=self._ambient(zone, usual.archive, now),
        )

    def _ambient(self, zone: Zone, history: ZoneHistory, now: datetime) -> FloatArray | None:
        try:
            climate = self._archive(zone, now).temperature
        except (HistoryError, FeedError):
            climate = None
        return ambient_temperature_c(history, climate, hour_of(now), HORIZON_HOURS)

    # -- on-site ----------------------------------------------------------------------------------------------------

    def _on_site(
        self, zone: Zone, now: datetime, document: ForecastDocument, reasons: list[str]
    ) -> tuple[tuple[OnSiteForecast, ...], tuple[str, ...]]:
        """Return the plants' forecasts; a plant that cannot be forecast is left out, and said."""
        if not zone.on_site:
            return (), ()
        try:
            site = self.feed.site(zone, now)
        except Exception as error:  # noqa: BLE001 - the plants must not cost the grid's forecast
            site = Site(notes=(f"{type(error).__name__}: {error}",))
        reasons += [f"on-site: {note}" for note in site.notes]
        found = []
        parts = STEP // document.step
        slots = document.carbon_mean_g_per_kwh.size // parts
        for one in zone.on_site:
            try:
                hourly = forecast_plant(
                    one.name,
                    one.plant,
                    start=instant_of(hour_of(now)),
                    slots=slots,
                    weather=site.weather,
                    past=site.past_of(one.name),
                )
                found.append(replace(hourly, power_kw=np.repeat(hourly.power_kw, parts, axis=1)))
            except Exception as error:  # noqa: BLE001 - one plant's trouble must not cost the grid's forecast
                reasons.append(f"on-site: {one.name}: {type(error).__name__}: {error}")
        return tuple(found), site.attribution


def _said(role: Callable[[Zone, datetime], Fed], zone: Zone, now: datetime) -> Fed | FeedError:
    try:
        return role(zone, now)
    except FeedError as error:
        return error
    except Exception as error:  # noqa: BLE001 - what breaks one source must not take the other with it
        return FeedError(f"{type(error).__name__}: {error}")


def _last_good(directory: Path | None, zone: Zone, now: datetime) -> ForecastDocument:
    found = last_good(directory, zone.name, now)
    keys = {zone.key_of(source) for source in (zone.primary, zone.cross_check, None)}
    if not any(f"-{key}-" in found.model_id for key in keys):
        # The zone's region or sources were changed since.
        raise RungUnavailable(f"the last one is of another grid ({found.model_id})")
    return found


def _first_name(zone: Zone) -> str:
    return "the first source" if zone.primary is None else zone.primary.kind


def _usual(archive: ZoneHistory, cutoff_hour: int) -> _Usual:
    return _Usual(
        archive=archive,
        cutoff_hour=cutoff_hour,
        climatology=climatology(archive, series_of(archive, scope_of(archive)), cutoff_hour),
        temperature=temperature_climate(archive, cutoff_hour),
    )


def _end(history: ZoneHistory) -> int:
    return known_end(history) or history.first_hour


def _mean_share(history: ZoneHistory, slots: int) -> FloatArray | None:
    told = history.renewable_share[np.isfinite(history.renewable_share)]
    return np.full((len(FORECAST_LEVELS), slots), told.mean()) if told.size else None


def _levels(target: TargetForecast) -> FloatArray:
    """Return the quantiles that are written, shape (3, slots)."""
    rows = [int(np.flatnonzero(np.isclose(target.levels, level))[0]) for level in FORECAST_LEVELS]
    return np.asarray(target.quantiles, dtype=np.float64)[rows]
