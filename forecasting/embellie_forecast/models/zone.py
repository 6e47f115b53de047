# SPDX-License-Identifier: Apache-2.0
"""The model of a zone, as the service uses it: what it was trained on, how it has done lately, and how to issue.

A kernel method learns by keeping its examples, so a zone's model is the history that it may learn from, the settings,
and the errors that it made on recent days which it had not seen. The regressions of an hour of day are solved for at
the first issue at that hour (about 0.1 s) and kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from embellie_forecast.factors import FloatArray
from embellie_forecast.history import ZoneHistory, hour_of, instant_of
from embellie_forecast.models.blend import blended
from embellie_forecast.models.carry import carried
from embellie_forecast.models.conformal import calibrate
from embellie_forecast.models.forecasts import TargetForecast, ZoneForecast, mean_of
from embellie_forecast.models.inputs import (
    BACK_HOURS,
    IntArray,
    Series,
    level_at,
    outcomes,
    prepare,
    sees_ahead,
    vectors,
)
from embellie_forecast.models.kernels import KernelModel, TooLittleDataError
from embellie_forecast.models.mix import MixModel, fit_mix, predict_mix
from embellie_forecast.models.official import corrected
from embellie_forecast.models.splice import spliced
from embellie_forecast.models.targets import HORIZON_HOURS, QUANTILE_LEVELS, Settings, Target, WeatherUse
from embellie_forecast.models.walk import DAYS, Conditions, Walk, fit_at, held_in, naive, walk

ALL_TARGETS = (Target.LIFECYCLE, Target.DIRECT, Target.RENEWABLE_SHARE, Target.MARGINAL)
MODEL_VERSION = "krr2"
BANK_PHASE_HOURS = 6
"""Past issues are kept for every sixth hour of day; an issue uses those of the nearest one before it."""
MAX_LEVEL_AGE_HOURS = 48
"""With nothing newer than this the model has no level to start from [h]."""
MAX_FITTED = 24
"""Regressions kept in memory: eight hours of day times three targets, some 80 MiB."""
MAX_MIXES = 4
SKILL_DAYS = 30
NEAREST = 0.1
"""No hour of the first day counts as erring less than this beside the same hour of later days."""
KEEP_EXTRA_DAYS = 130
"""Days before the training window that its first inputs and the past issues' fits look back to."""


class CannotIssueError(ValueError):
    """The model cannot forecast from what is known now; the sentence says why."""


def hours_later(rows: FloatArray, hours: int) -> FloatArray:
    """Return rows of 96 hours from some hours after their first on; behind their end the last day is repeated."""
    at = np.arange(HORIZON_HOURS) + hours
    return rows[..., np.where(at < HORIZON_HOURS, at, HORIZON_HOURS - 24 + at % 24)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bank:
    """Past issues of a target that were forecast without having seen their outcome."""

    issue_hours: IntArray
    kernel: FloatArray
    """Shape (issues, BACK_HOURS + 96), from BACK_HOURS before each issue on."""


@dataclass(slots=True, kw_only=True, eq=False)
class ZoneModel:
    """A trained model; see the module."""

    zone: str
    until_hour: int
    history: ZoneHistory
    """What was known before `until_hour`; nothing later is ever trained on."""
    targets: tuple[Target, ...]
    weather: WeatherUse
    settings: Settings
    latency_hours: int
    banks: Mapping[Target, Bank]
    data_sources: tuple[Mapping[str, str], ...] = ()
    """Where the history came from: name, licence, attribution, hash."""
    _fitted: dict[tuple[Target, int, WeatherUse], KernelModel] = field(default_factory=dict)
    _extended: dict[Target, Bank] = field(default_factory=dict)
    _mixes: dict[int, MixModel | None] = field(default_factory=dict)

    @property
    def until(self) -> datetime:
        """Nothing at or after this instant was trained on."""
        return instant_of(self.until_hour)

    @property
    def model_id(self) -> str:
        """Say which model this is, and how recent its training data is."""
        return f"{MODEL_VERSION}-{self.zone}-{self.weather.value}-until-{self.until:%Y%m%dT%HZ}"

    def conditions(self) -> Conditions:
        """Return what the model may know at an issue."""
        return Conditions(weather=self.weather, latency_hours=self.latency_hours)

    def fitted(self, target: Target, phase: int, *, blind: bool = False) -> KernelModel:
        """Return the regressions of a target for issues at hour of day `phase` (UTC); `blind`: without weather."""
        conditions = replace(self.conditions(), weather=WeatherUse.NONE) if blind else self.conditions()
        key = (target, phase, conditions.weather)
        if key not in self._fitted:
            series = prepare(self.history, target)
            fresh = fit_at(series, self.until_hour, phase, conditions, self.settings)
            while len(self._fitted) >= MAX_FITTED:
                self._fitted.pop(next(iter(self._fitted)))
            self._fitted[key] = fresh
        # The newest last: what has not been asked for the longest goes first.
        self._fitted[key] = self._fitted.pop(key)
        return self._fitted[key]

    def warm(self, at: datetime) -> None:
        """Solve now what an issue at `at` will need, so that it takes 0.2 s and not 1 s."""
        phase = hour_of(at) % 24
        for target in self.targets:
            self.fitted(target, phase)
        self.mix(phase)

    def mix(self, phase: int) -> MixModel | None:
        """Return the regressions of the sources for issues at hour of day `phase`; None where there are none."""
        if phase not in self._mixes:
            series = prepare(self.history, self.targets[0])
            while len(self._mixes) >= MAX_MIXES:
                self._mixes.pop(next(iter(self._mixes)))
            try:
                self._mixes[phase] = fit_mix(series, self.until_hour, phase, self.conditions(), self.settings)
            except TooLittleDataError:
                self._mixes[phase] = None
        return self._mixes[phase]

    def bank(self, target: Target, series: Series, at_hour: int) -> Bank:
        """Return the past issues that an issue is blended and calibrated with, up to date; at most one a day."""
        bank = self._extended.get(target, self.banks[target])
        newest = int(bank.issue_hours[-1]) if bank.issue_hours.size else at_hour - 24 * self.settings.warm_up_days
        first = max(newest, self.until_hour) + 1
        fresh = np.arange(first + (-first) % BANK_PHASE_HOURS, at_hour, BANK_PHASE_HOURS, dtype=np.int64)
        fresh = fresh[fresh >= at_hour - 24 * self.settings.warm_up_days]
        if fresh.size:
            rows = np.full((fresh.size, BACK_HOURS + HORIZON_HOURS), np.nan)
            for phase in np.unique(fresh % 24).tolist():
                at = np.flatnonzero(fresh % 24 == phase)
                rows[at] = predict(self, target, series, fresh[at])
            bank = Bank(
                issue_hours=np.concatenate([bank.issue_hours, fresh]), kernel=np.concatenate([bank.kernel, rows])
            )
            self._extended[target] = bank
        phase = (at_hour % 24) // BANK_PHASE_HOURS * BANK_PHASE_HOURS
        keep = (bank.issue_hours % 24 == phase) & (bank.issue_hours < at_hour)
        keep &= bank.issue_hours >= at_hour - 24 * self.settings.warm_up_days
        return Bank(issue_hours=bank.issue_hours[keep], kernel=bank.kernel[keep])


def predict(model: ZoneModel, target: Target, series: Series, issue_hours: IntArray) -> FloatArray:
    """Return what the fitted model says of issues that share an hour of day; shape (issues, BACK_HOURS + 96).

    Where the weather ahead is not known, a model says it that never looks at any.
    """
    seen = sees_ahead(series, issue_hours) | (model.weather is WeatherUse.NONE)
    out = np.empty((issue_hours.size, BACK_HOURS + HORIZON_HOURS))
    for blind, rows in ((False, seen), (True, ~seen)):
        if rows.any():
            out[rows] = _predict(model, target, series, issue_hours[rows], blind=blind)
    return out


def _predict(model: ZoneModel, target: Target, series: Series, issue_hours: IntArray, *, blind: bool) -> FloatArray:
    fitted = model.fitted(target, int(issue_hours[0] % 24), blind=blind)
    groups = vectors(series, issue_hours, WeatherUse.NONE if blind else model.weather, model.latency_hours)
    groups |= {
        name: np.full((issue_hours.size, mean.size), np.nan)
        for name, mean in fitted.scaling.mean.items()
        if name not in groups
    }
    return level_at(series, issue_hours, model.latency_hours)[:, None] + fitted.predict(groups)


def train_zone(
    history: ZoneHistory,
    *,
    until: datetime,
    targets: tuple[Target, ...] = ALL_TARGETS,
    weather: WeatherUse | None = None,
    settings: Settings | None = None,
    latency_hours: int = 1,
    data_sources: tuple[Mapping[str, str], ...] = (),
) -> ZoneModel:
    """Train on what lies before `until`; deterministic.

    Targets without data are left out.

    Raises:
        TooLittleDataError: No target has enough history before `until`.
    """
    settings = settings or Settings(refit_days=30)
    cutoff = hour_of(until)
    # Only what it may learn from is kept: a model is its examples.
    known = history.known_until(cutoff, cutoff).since(cutoff - 24 * (settings.max_training_days + KEEP_EXTRA_DAYS))
    if weather is None:
        weather = usable_weather(known)
    conditions = Conditions(weather=weather, latency_hours=latency_hours)
    banks, reasons = {}, []
    for target in targets:
        series = prepare(known, target)
        if not np.isfinite(series.scaled).any():
            reasons.append(f"{target.value}: no data")
            continue
        try:
            fit_at(series, cutoff, 0, conditions, settings)
        except TooLittleDataError as error:
            reasons.append(f"{target.value}: {error}")
            continue
        banks[target] = _past_issues(series, cutoff, conditions, settings)
    if not banks:
        raise TooLittleDataError(f"{history.zone}, before {until:%Y-%m-%dT%HZ}: {'; '.join(reasons)}")
    return ZoneModel(
        zone=history.zone,
        until_hour=cutoff,
        history=known,
        targets=tuple(banks),
        weather=weather,
        settings=settings,
        latency_hours=latency_hours,
        banks=banks,
        data_sources=data_sources,
    )


def usable_weather(history: ZoneHistory) -> WeatherUse:
    """Return how much weather a history lets a model honestly learn from."""
    if not history.has_forecasts():
        return WeatherUse.NONE
    return WeatherUse.LEADS if history.has_weather_by_lead() else WeatherUse.DAY1


def _past_issues(series: Series, cutoff_hour: int, conditions: Conditions, settings: Settings) -> Bank:
    """Return what models of their time would have said on the days before the cutoff."""
    hours, rows = [], []
    for phase in range(0, 24, BANK_PHASE_HOURS):
        last = cutoff_hour - 24 + (phase - cutoff_hour) % 24
        first = max(last - 24 * (settings.warm_up_days - 1), series.first_hour + 24 * 8)
        issues = np.arange(first + (phase - first) % 24, last + 1, 24, dtype=np.int64)
        if issues.size:
            hours.append(issues)
            walked = walk(series, issues, conditions, settings)
            rows.append(np.concatenate([walked.before, walked.kernel], axis=1))
    if not hours:
        return Bank(issue_hours=np.empty(0, dtype=np.int64), kernel=np.empty((0, BACK_HOURS + HORIZON_HOURS)))
    order = np.argsort(np.concatenate(hours), kind="stable")
    return Bank(issue_hours=np.concatenate(hours)[order], kernel=np.concatenate(rows)[order])


def issue(model: ZoneModel, history: ZoneHistory, *, at: datetime, latency_hours: int | None = None) -> ZoneForecast:
    """Forecast the 96 hours from the hour of `at` on.

    Readings that come later than those that the model was trained on are what it would have known some hours ago: the
    forecast is the one of then, read on from `at`.

    Args:
        model: A trained model.
        history: What is known now, with forecast weather after `at` where there is some. Grid readings at and after
            `at` less the latency are not looked at. It may be shorter than the model's own history: the two are joined.
        at: When the forecast is issued.
        latency_hours: How late readings arrive; None: as in training.

    Raises:
        CannotIssueError: There is no believable reading of the last two days, or too little to fit.
    """
    at_hour = hour_of(at)
    late = max(0, (latency_hours or 0) - model.latency_hours)
    as_of = at_hour - late
    joined = spliced(model.history, history).known_until(as_of - model.latency_hours, at_hour + HORIZON_HOURS)
    forecasts: dict[Target, TargetForecast] = {}
    for target in model.targets:
        series = prepare(joined, target)
        recent = series.scaled[max(0, at_hour - MAX_LEVEL_AGE_HOURS - series.first_hour) : at_hour - series.first_hour]
        if np.isfinite(recent).sum() < 12:
            continue
        try:
            forecasts[target] = _issue_target(model, target, series, as_of, late)
        except TooLittleDataError as error:
            raise CannotIssueError(f"{model.zone}: {error}") from error
    if not forecasts:
        raise CannotIssueError(
            f"{model.zone}: fewer than 12 believable readings in the {MAX_LEVEL_AGE_HOURS} h before {at:%Y-%m-%dT%HZ}"
        )
    generation = _generation(model, joined, as_of)
    return ZoneForecast(
        zone=model.zone,
        start=instant_of(at_hour),
        model_id=model.model_id,
        targets=forecasts,
        generation_mw={name: hours_later(values, late) for name, values in generation.items()},
    )


def _generation(model: ZoneModel, joined: ZoneHistory, at_hour: int) -> dict[str, FloatArray]:
    mix = model.mix(at_hour % 24)
    series = prepare(joined, model.targets[0])
    return {} if mix is None else predict_mix(mix, series, at_hour, model.conditions())


def _issue_target(model: ZoneModel, target: Target, series: Series, at_hour: int, late: int) -> TargetForecast:
    bank = model.bank(target, series, at_hour)
    now = np.array([at_hour], dtype=np.int64)
    hours = np.concatenate([bank.issue_hours, now])
    kernel = np.concatenate([bank.kernel, predict(model, target, series, now)])
    walked = as_walk(model, series, hours, kernel)
    row = hours.size - 1
    blended_rows = np.where(np.isfinite(walked.kernel), walked.kernel, walked.week_mean)
    blended_rows[row] = blended(walked, row, model.latency_hours, model.settings)
    quantiles = calibrate(hours, *same_clock(walked, blended_rows), model.latency_hours, model.settings)[row]
    values = hours_later(np.sort(target.from_scale(quantiles), axis=0), late)
    if not np.isfinite(values).all():
        raise TooLittleDataError("too many recent readings are missing to forecast from")
    return TargetForecast(
        levels=QUANTILE_LEVELS,
        quantiles=values,
        mean=mean_of(values),
        skill_percent=_skill(target, walked, blended_rows, at_hour),
    )


def as_walk(model: ZoneModel, series: Series, hours: IntArray, kernel: FloatArray) -> Walk:
    """Return what a model said, corrected, together with the naive ones and with what came true."""
    persistence, weekly, week_mean = naive(series, hours, model.latency_hours)
    walked = Walk(
        issue_hours=hours,
        kernel=kernel[:, BACK_HOURS:],
        before=kernel[:, :BACK_HOURS],
        persistence=persistence,
        weekly=weekly,
        week_mean=week_mean,
        outcome=outcomes(series, hours),
        fits=0,
    )
    walked = carried(corrected(walked, series, model.weather, model.latency_hours), series, model.latency_hours)
    return held_in(walked, series, model.latency_hours)


def same_clock(walked: Walk, forecast: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return forecasts and outcomes, those of past issues at the hours of day that the last issue speaks of.

    Nights and noons err differently, and past issues were made up to five hours earlier in the day. What they missed so
    many hours later is drawn to the size of errors that soon after an issue.
    """
    shift = int(walked.issue_hours[-1] - walked.issue_hours[0]) % 24
    missed = walked.outcome - forecast
    known = np.isfinite(missed)
    squares = np.where(known, missed, 0.0) ** 2
    size = np.sqrt(squares.sum(axis=0) / np.maximum(known.sum(axis=0), 1))
    # How little each hour of the first day errs beside the same hour of day later on.
    later = np.sqrt((size.reshape(DAYS, 24)[1:] ** 2).mean(axis=0))
    nearness = np.concatenate([np.clip(size[:24] / (later + 1e-9), NEAREST, 1.0), np.ones(HORIZON_HOURS - 24)])
    drawn = hours_later(missed, shift) * (nearness / hours_later(nearness, shift))
    said = hours_later(forecast, shift)
    said[-1] = forecast[-1]
    return said, said + drawn


def _skill(target: Target, walked: Walk, point: FloatArray, at_hour: int) -> int | None:
    """Return how much smaller the errors of the last 30 days are than those of persistence [%]."""
    rows = walked.issue_hours >= at_hour - 24 * SKILL_DAYS
    truth = target.from_scale(walked.outcome[rows])
    error = np.abs(target.from_scale(point[rows]) - truth)
    base = np.abs(target.from_scale(walked.persistence[rows]) - truth)
    both = np.isfinite(error) & np.isfinite(base)
    if both.sum() < 24 * 7 or base[both].sum() <= 0.0:
        return None
    return round(100.0 * (1.0 - float(error[both].sum()) / float(base[both].sum())))
