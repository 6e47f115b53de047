# SPDX-License-Identifier: Apache-2.0
"""The ladder of signals: Live, LastGood, Calendar, Climatology, Neutral.

Each rung either gives a valid forecast or says why it cannot; then the next one is asked. The last one always answers.
No rung needs a credential.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from embellie_forecast.calendar_model import MAX_AGE_HOURS, CalendarModel, predict_calendar, train_calendar
from embellie_forecast.calibration import QUANTILE_LEVELS, ResidualBank, skill_percent, spread_at
from embellie_forecast.climate import (
    Climatology,
    TemperatureClimate,
    ambient_temperature_c,
    climatology,
    month_of,
    temperature_climate,
)
from embellie_forecast.dataset import DatasetError, History, hour_of, instant_of, load_carried
from embellie_forecast.exchange import ExchangeError, ForecastDocument, Rung, newest_document
from embellie_forecast.factors import LIFECYCLE_AR5, FloatArray, Scope
from embellie_forecast.features import HORIZON_HOURS, expit, prepare
from embellie_forecast.feeds import Feed, FeedError
from embellie_forecast.model import Params, TooLittleDataError, TrainedModel, predict, residuals, train
from embellie_forecast.store import StoreError, cache_key, load, save

STEP = timedelta(hours=1)
MAX_FEED_AGE_HOURS = 6
MIN_KNOWN_OF_24 = 18
MAX_OUTAGE_HOURS = 3
"""The newest known hour may be this much older than the feed's usual delay explains [h]."""
MIN_LAST_GOOD_SLOTS = 48
CALIBRATION_HOURS = 60 * 24
SKILL_HOURS = 30 * 24
RETRAIN_HOURS = 30 * 24
NEUTRAL_CARBON_G_PER_KWH = 480.0
"""About the world's mean; any constant does, because a flat forecast gives no reason to wait."""
NEUTRAL_SHARE = 0.3
CARBON_LIMITS = (min(LIFECYCLE_AR5.grams_per_kwh.values()), max(LIFECYCLE_AR5.grams_per_kwh.values()))
"""No mix of sources lies outside its cheapest and dearest source [g/kWh]."""


class RungUnavailable(Exception):  # noqa: N818 - it is an answer, not a fault
    """This rung cannot answer; the sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A forecast, and why it does not stand on a better rung."""

    document: ForecastDocument
    reasons: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class _Region:
    """What is kept in memory for one grid region."""

    archive: History
    """Carried data before `cutoff_hour`: what the lower rungs may know."""
    cutoff_hour: int
    climatology: Climatology | None
    temperature: TemperatureClimate | None
    model: TrainedModel | None = None
    calendar: CalendarModel | None = None
    trained: bool = False
    bank: ResidualBank
    bank_end_hour: int


class Ladder:
    """Issues forecasts for zones, each on the best rung that can answer."""

    def __init__(self, *, feed: Feed, origin: datetime | None, params: Params, cache: Path | None) -> None:
        """Set up.

        Args:
            feed: The live readings.
            origin: Where a replay starts: nothing at or after it is ever trained on. None: no limit.
            params: The model's parameters.
            cache: Folder of trained models; None: keep them in memory only.
        """
        self._feed = feed
        self._origin = origin
        self._params = params
        self._cache = cache
        self._regions: dict[str, _Region] = {}

    # -- models -----------------------------------------------------------------------------------------------------

    def _cutoff_hour(self, now: datetime, archive: History) -> int:
        """Return the training cutoff that holds at `now`: the replay's origin, moved on every 30 days."""
        if self._origin is None:
            return archive.end_hour
        first = hour_of(self._origin)
        steps = max(0, (hour_of(now) - first) // RETRAIN_HOURS)
        return int(self._params.delays.generation_end(first + steps * RETRAIN_HOURS))

    def _region(self, name: str, now: datetime) -> _Region:
        region = self._regions.get(name)
        if region is not None and region.cutoff_hour == self._cutoff_hour(now, region.archive):
            return region
        archive = load_carried(name)
        cutoff = self._cutoff_hour(now, archive)
        known = archive.known_until(cutoff, cutoff)
        region = _Region(
            archive=known,
            cutoff_hour=cutoff,
            climatology=climatology(known, cutoff),
            temperature=temperature_climate(known, cutoff),
            bank=ResidualBank.empty(),
            bank_end_hour=cutoff,
        )
        self._regions[name] = region
        return region

    def needs_training(self, name: str, now: datetime) -> bool:
        """Tell whether a model could lift this region's rung and is not in memory yet."""
        try:
            region = self._region(name, now)
        except DatasetError:
            return False
        # Without a feed only the calendar's model is of use, and that one not for ever.
        useful = self._origin is not None or hour_of(now) - region.archive.end_hour <= MAX_AGE_HOURS
        return useful and not region.trained

    def load_or_train(self, name: str, now: datetime, *, may_train: bool = True) -> bool:
        """Bring a region's models into memory, from the cache or by training; tell whether they are there."""
        region = self._region(name, now)
        if region.trained:
            return True
        key = cache_key(region.archive, region.cutoff_hour, self._params)
        if self._cache is not None:
            try:
                region.model, region.calendar = load(self._cache, key, name, self._params)
                region.trained = True
            except StoreError:
                pass
        if not region.trained and may_train:
            self._train(region, key)
        if region.trained and region.model is not None:
            region.bank = region.model.bank
        return region.trained

    def _train(self, region: _Region, key: str) -> None:
        region.calendar = train_calendar(
            region.archive, region.cutoff_hour, max_iter=self._params.calendar_max_iter, seed=self._params.seed
        )
        try:
            region.model = train(region.archive, region.cutoff_hour, self._params)
        except TooLittleDataError:
            region.model = None
        region.trained = True
        if self._cache is not None and region.model is not None:
            try:
                save(self._cache, key, region.model, region.calendar)
            except OSError as error:
                print(f"the model cache {self._cache} cannot be written ({error}); going on without", flush=True)

    # -- rungs ------------------------------------------------------------------------------------------------------

    def issue(self, zone: str, grid_region: str | None, now: datetime, directory: Path | None = None) -> Issued:
        """Issue a forecast for a zone on the best rung that can answer now."""
        rungs: tuple[tuple[Rung, Callable[[], ForecastDocument]], ...] = (
            (Rung.LIVE, lambda: self._live(zone, self._known_region(grid_region, now), now)),
            (Rung.LAST_GOOD, lambda: _last_good(directory, zone, now)),
            (Rung.CALENDAR, lambda: self._calendar(zone, self._known_region(grid_region, now), now)),
            (Rung.CLIMATOLOGY, lambda: self._climatology(zone, self._known_region(grid_region, now), now)),
        )
        reasons: list[str] = []
        for rung, attempt in rungs:
            try:
                return Issued(document=attempt(), reasons=tuple(reasons))
            except (RungUnavailable, FeedError, DatasetError, ExchangeError) as error:
                reasons.append(f"{rung.value}: {error}")
            except Exception as error:  # noqa: BLE001 - whatever breaks a rung must not take the next one with it
                reasons.append(f"{rung.value}: {type(error).__name__}: {error}")
        return Issued(document=neutral(zone, now), reasons=tuple(reasons))

    def _known_region(self, grid_region: str | None, now: datetime) -> _Region:
        if grid_region is None:
            raise RungUnavailable("the zone names no gridRegion")
        return self._region(grid_region, now)

    def _live(self, zone: str, region: _Region, now: datetime) -> ForecastDocument:
        history = self._feed.history(region.archive.region, now)
        check_feed(history, now, self._params)
        if region.model is None:
            raise RungUnavailable("its model is not trained yet" if not region.trained else "too little data to train")
        issue, delays = hour_of(now), self._params.delays
        end = int(delays.generation_end(issue))
        series = prepare(history)
        self._extend_bank(region, history, issue)
        leads = np.arange(HORIZON_HOURS, dtype=np.int64)
        point = predict(region.model.groups, series, np.full(HORIZON_HOURS, issue, dtype=np.int64), leads, delays)
        bank = region.bank.window(end - CALIBRATION_HOURS, end)
        if bank.lead.size == 0:
            raise RungUnavailable("no recent errors to calibrate with")
        spread = spread_at(bank, issue, leads)
        return _document(
            zone=zone,
            now=now,
            rung=Rung.LIVE,
            model_id=region.model.model_id,
            skill=skill_percent(region.bank.window(end - SKILL_HOURS, end)),
            carbon=np.exp(point.log_carbon + spread.log_carbon),
            mean=np.exp(point.log_carbon) * spread.mean_factor,
            share=expit(point.logit_share + spread.logit_share),
            ambient=_ambient(history, region, issue),
        )

    def _extend_bank(self, region: _Region, history: History, issue: int) -> None:
        """Add the errors that have become known since the last issue; the model never saw those hours."""
        delays = self._params.delays
        end = int(delays.generation_end(issue))
        if region.model is None or end <= region.bank_end_hour:
            return
        first = max(region.cutoff_hour, region.bank_end_hour - HORIZON_HOURS, end - CALIBRATION_HOURS)
        fresh = residuals(
            region.model.groups, prepare(history), first, issue, delays, self._params.calibration_stride_hours
        ).window(region.bank_end_hour, end)
        region.bank = region.bank.window(end - CALIBRATION_HOURS, end).joined(fresh)
        region.bank_end_hour = end

    def _calendar(self, zone: str, region: _Region, now: datetime) -> ForecastDocument:
        model, issue = region.calendar, hour_of(now)
        if issue - region.archive.end_hour > MAX_AGE_HOURS:
            raise RungUnavailable(f"the carried data end at {instant_of(region.archive.end_hour):%Y-%m-%d}")
        if model is None:
            raise RungUnavailable("its model is not trained yet" if not region.trained else "too little data to train")
        hours = np.arange(issue, issue + HORIZON_HOURS, dtype=np.int64)
        history = self._weather_history(region, now)
        weather_end = int(self._params.delays.weather_end(issue))
        carbon, share = predict_calendar(model, prepare(history), hours, weather_end)
        utc = hours % 24
        return _document(
            zone=zone,
            now=now,
            rung=Rung.CALENDAR,
            model_id=f"calendar1-{region.archive.region}-until-{instant_of(model.cutoff_hour):%Y%m%dT%HZ}",
            skill=None,
            carbon=np.exp(carbon + model.carbon_spread[:, utc]),
            mean=np.exp(carbon) * model.mean_factor[utc],
            share=expit(share + model.share_spread[:, utc]),
            ambient=_ambient(history, region, issue),
        )

    def _weather_history(self, region: _Region, now: datetime) -> History:
        """Return the feed's history for its weather, or the archive where the feed is silent."""
        try:
            history = self._feed.history(region.archive.region, now)
        except FeedError:
            return region.archive
        return history if history.n_hours > 0 else region.archive

    def _climatology(self, zone: str, region: _Region, now: datetime) -> ForecastDocument:
        usual, issue = region.climatology, hour_of(now)
        if usual is None:
            raise RungUnavailable("too little data for a climatology")
        hours = np.arange(issue, issue + HORIZON_HOURS, dtype=np.int64)
        month, utc = month_of(hours), hours % 24
        return _document(
            zone=zone,
            now=now,
            rung=Rung.CLIMATOLOGY,
            model_id=f"climatology1-{region.archive.region}-until-{instant_of(region.archive.end_hour):%Y%m%dT%HZ}",
            skill=None,
            carbon=usual.carbon[:, month, utc],
            mean=usual.carbon_mean[month, utc],
            share=usual.share[:, month, utc],
            ambient=_ambient(region.archive, region, issue),
        )


def check_feed(history: History, now: datetime, params: Params) -> None:
    """Refuse a feed that is silent, late, full of holes or constant."""
    known = np.flatnonzero(np.isfinite(history.carbon_g_per_kwh))
    if known.size == 0:
        raise FeedError("the feed has no believable hour")
    end = int(params.delays.generation_end(hour_of(now)))
    newest = history.first_hour + int(known[-1]) + 1
    if end - newest > MAX_OUTAGE_HOURS:
        wrong = next((p for p in reversed(history.problems) if p), "Missing")
        raise FeedError(f"the newest believable hour is {end - newest} h older than usual ({wrong})")
    recent = history.carbon_g_per_kwh[max(0, end - 24 - history.first_hour) : max(0, end - history.first_hour)]
    believed = recent[np.isfinite(recent)]
    if believed.size < MIN_KNOWN_OF_24:
        raise FeedError(f"only {believed.size} of the last 24 hours can be believed")
    if float(np.ptp(believed)) == 0.0:
        raise FeedError("the feed has been constant for 24 hours")


def neutral(zone: str, now: datetime) -> ForecastDocument:
    """Return the flat forecast that gives nobody a reason to wait."""
    shape = (len(QUANTILE_LEVELS), HORIZON_HOURS)
    return _document(
        zone=zone,
        now=now,
        rung=Rung.NEUTRAL,
        model_id="neutral1",
        skill=None,
        carbon=np.full(shape, NEUTRAL_CARBON_G_PER_KWH),
        mean=np.full(HORIZON_HOURS, NEUTRAL_CARBON_G_PER_KWH),
        share=np.full(shape, NEUTRAL_SHARE),
        ambient=None,
    )


def _last_good(directory: Path | None, zone: str, now: datetime) -> ForecastDocument:
    """Return what is still ahead in the last good forecast of the zone."""
    rungs = frozenset({Rung.LIVE, Rung.LAST_GOOD})
    last = None if directory is None else newest_document(directory, zone, rungs=rungs, not_after=now)
    if last is None or last.step != STEP or last.quantile_levels != QUANTILE_LEVELS:
        raise RungUnavailable("there is none")
    gone = hour_of(now) - hour_of(last.start)
    left = last.carbon_mean_g_per_kwh.size - gone
    if gone < 0 or left < MIN_LAST_GOOD_SLOTS:
        raise RungUnavailable(f"the last one covers only {max(0, left)} h more")
    ambient = last.ambient_temperature_c
    return replace(
        last,
        issued_at=now,
        start=instant_of(hour_of(now)),
        rung=Rung.LAST_GOOD,
        carbon_g_per_kwh=last.carbon_g_per_kwh[:, gone:],
        carbon_mean_g_per_kwh=last.carbon_mean_g_per_kwh[gone:],
        renewable_share=last.renewable_share[:, gone:],
        ambient_temperature_c=None if ambient is None else ambient[:, gone:],
    )


def _ambient(history: History, region: _Region, issue: int) -> FloatArray | None:
    if region.temperature is None:
        return None
    return ambient_temperature_c(history, region.temperature, issue, HORIZON_HOURS)


def _document(
    *,
    zone: str,
    now: datetime,
    rung: Rung,
    model_id: str,
    skill: int | None,
    carbon: FloatArray,
    mean: FloatArray,
    share: FloatArray,
    ambient: FloatArray | None,
) -> ForecastDocument:
    """Order the quantiles, keep everything in its bounds and build the document, which refuses what is not finite."""
    carbon = np.sort(np.clip(carbon, *CARBON_LIMITS), axis=0)
    return ForecastDocument(
        zone=zone,
        issued_at=now.replace(microsecond=0),
        start=instant_of(hour_of(now)),
        step=STEP,
        signal_kind=Scope.LIFECYCLE.value,
        rung=rung,
        model_id=model_id,
        skill_percent=skill,
        quantile_levels=QUANTILE_LEVELS,
        carbon_g_per_kwh=carbon,
        carbon_mean_g_per_kwh=np.clip(mean, carbon[0], carbon[-1]),
        renewable_share=np.sort(np.clip(share, 0.0, 1.0), axis=0),
        ambient_temperature_c=None if ambient is None else np.sort(ambient, axis=0),
    )
