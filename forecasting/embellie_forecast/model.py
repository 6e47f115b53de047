# SPDX-License-Identifier: Apache-2.0
"""The model behind the rung Live: gradient-boosted trees on the ratio to the last 24 hours.

Two groups of leads (the first day, which has weather; the days after it) times two targets: life-cycle carbon
intensity, as the logarithm of its ratio to the last-24-h level, and renewable share, as the difference of log odds.
Quantiles do not come from the trees, whose raw quantiles cover far too little, but from the model's own errors on
issues that it was not trained on (see `calibration`).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from embellie_forecast.calibration import ResidualBank
from embellie_forecast.dataset import History, instant_of
from embellie_forecast.factors import FloatArray
from embellie_forecast.features import (
    HORIZON_HOURS,
    Delays,
    IntArray,
    Series,
    build,
    expit,
    levels,
    prepare,
)

LEAD_GROUPS = ((0, 24), (24, HORIZON_HOURS))
WARM_UP_HOURS = 28 * 24
"""Rows whose lags would reach before the data are not trained on [h]."""
MIN_TRAINING_ROWS = 2_000


class TooLittleDataError(ValueError):
    """There is not enough believed history before the cutoff to train on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What a trained model depends on besides the data; chosen on January to June 2021, see docs/forecaster.md."""

    delays: Delays = field(default_factory=Delays)
    issue_stride_hours: int = 7
    """Hours between training issues; 7 and 24 share no divisor, so every hour of day is trained on."""
    lead_stride_hours: int = 8
    max_training_days: int = 1096
    calibration_days: int = 60
    calibration_stride_hours: int = 3
    max_iter: int = 150
    learning_rate: float = 0.08
    max_leaf_nodes: int = 31
    min_samples_leaf: int = 60
    l2_regularization: float = 1.0
    max_features: float = 0.2
    calendar_max_iter: int = 80
    seed: int = 20221


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LeadGroupModel:
    """The two regressors for one group of leads, and the columns that they look at."""

    first_lead: int
    end_lead: int
    columns: IntArray
    carbon: Any
    share: Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedModel:
    """Everything that an issue needs besides the history."""

    region: str
    cutoff_hour: int
    """Nothing from this hour on was trained on (hours since 1970)."""
    params: Params
    groups: tuple[LeadGroupModel, ...]
    bank: ResidualBank
    """Errors before the cutoff, of a model that had not seen those hours."""

    @property
    def model_id(self) -> str:
        """Say which model this is, and how recent its training data is."""
        return f"hgb1-{self.region}-until-{instant_of(self.cutoff_hour):%Y%m%dT%HZ}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PointForecast:
    """Predictions for pairs of issue and lead."""

    log_carbon: FloatArray
    logit_share: FloatArray
    persistence_log_carbon: FloatArray
    """The same hour of the last known day: the baseline that skill is measured against."""
    weekly_log_carbon: FloatArray


def predict(
    groups: tuple[LeadGroupModel, ...], series: Series, issue_hours: IntArray, leads: IntArray, delays: Delays
) -> PointForecast:
    """Predict pairs of issue hour and lead from what was known at each issue."""
    matrix, names = build(series, issue_hours, leads, delays)
    issues, where = np.unique(issue_hours, return_inverse=True)
    level = levels(series, issues, delays)
    log_carbon, logit_share = level.log_carbon[where], level.logit_share[where]
    base = log_carbon.copy()
    for group in groups:
        rows = (leads >= group.first_lead) & (leads < group.end_lead)
        if rows.any():
            part = matrix[rows][:, group.columns]
            log_carbon[rows] += group.carbon.predict(part)
            logit_share[rows] += group.share.predict(part)
    return PointForecast(
        log_carbon=log_carbon,
        logit_share=logit_share,
        persistence_log_carbon=base + matrix[:, names.index("carbon_day1")],
        weekly_log_carbon=base + matrix[:, names.index("carbon_week1")],
    )


def pairs(issue_hours: IntArray, lead_stride: int) -> tuple[IntArray, IntArray]:
    """Return pairs of issue and lead; with a stride above 1 each issue starts at a lead of its own."""
    # Drawn, not rotated: a rotation keeps step with the stride of the issues and skips most hours of the day.
    starts = np.random.default_rng(0).integers(0, lead_stride, size=issue_hours.size)
    leads = [np.arange(start, HORIZON_HOURS, lead_stride, dtype=np.int64) for start in starts]
    issues = [np.full(lead.size, hour, dtype=np.int64) for hour, lead in zip(issue_hours, leads, strict=True)]
    return np.concatenate(issues), np.concatenate(leads)


def _fit_groups(series: Series, cutoff_hour: int, params: Params) -> tuple[LeadGroupModel, ...]:
    """Train on issues whose last target hour lies before the cutoff."""
    first = max(series.first_hour + WARM_UP_HOURS, cutoff_hour - 24 * params.max_training_days)
    issue_range = np.arange(first, cutoff_hour - HORIZON_HOURS + 1, params.issue_stride_hours, dtype=np.int64)
    if issue_range.size == 0:
        raise TooLittleDataError(f"no history before {instant_of(cutoff_hour):%Y-%m-%dT%HZ}")
    issues, leads = pairs(issue_range, params.lead_stride_hours)
    matrix, _ = build(series, issues, leads, params.delays)
    unique, where = np.unique(issues, return_inverse=True)
    level = levels(series, unique, params.delays)
    target = issues + leads - series.first_hour
    carbon = series.log_carbon[target] - level.log_carbon[where]
    share = series.logit_share[target] - level.logit_share[where]
    usable = np.isfinite(carbon) & np.isfinite(share)
    if usable.sum() < MIN_TRAINING_ROWS:
        raise TooLittleDataError(
            f"only {usable.sum()} usable training rows before {instant_of(cutoff_hour):%Y-%m-%dT%HZ}"
        )
    groups = []
    for first_lead, end_lead in LEAD_GROUPS:
        rows = usable & (leads >= first_lead) & (leads < end_lead)
        part = matrix[rows]
        # A column without two known values tells nothing, and the trees cannot bin it.
        columns = np.flatnonzero(np.isfinite(part).sum(axis=0) > 1)
        part = part[:, columns]
        groups.append(
            LeadGroupModel(
                first_lead=first_lead,
                end_lead=end_lead,
                columns=columns,
                carbon=_regressor(params).fit(part, carbon[rows]),
                share=_regressor(params).fit(part, share[rows]),
            )
        )
    return tuple(groups)


def _regressor(params: Params) -> Any:
    return HistGradientBoostingRegressor(
        loss="absolute_error",
        max_iter=params.max_iter,
        learning_rate=params.learning_rate,
        max_leaf_nodes=params.max_leaf_nodes,
        min_samples_leaf=params.min_samples_leaf,
        l2_regularization=params.l2_regularization,
        max_features=params.max_features,
        early_stopping=False,
        random_state=params.seed,
    )


def residuals(
    groups: tuple[LeadGroupModel, ...],
    series: Series,
    first_hour: int,
    end_hour: int,
    delays: Delays,
    stride_hours: int,
) -> ResidualBank:
    """Return the errors of issues in [first_hour, end_hour) at targets that the series knows."""
    # Aligned to the stride, so that banks that are extended piece by piece equal banks made at once.
    begin = -(-first_hour // stride_hours) * stride_hours
    issue_range = np.arange(begin, end_hour, stride_hours, dtype=np.int64)
    if issue_range.size == 0:
        return ResidualBank.empty()
    issues, leads = pairs(issue_range, 1)
    inside = issues + leads < series.first_hour + series.log_carbon.size
    issues, leads = issues[inside], leads[inside]
    if issues.size == 0:
        return ResidualBank.empty()
    point = predict(groups, series, issues, leads, delays)
    target = issues + leads - series.first_hour
    truth, share = series.log_carbon[target], series.logit_share[target]
    known = np.isfinite(truth - point.log_carbon) & np.isfinite(share - point.logit_share)
    return ResidualBank(
        issue_hour=issues[known],
        lead=leads[known],
        log_carbon=(truth - point.log_carbon)[known],
        logit_share=(share - point.logit_share)[known],
        carbon_error=np.abs(np.exp(truth) - np.exp(point.log_carbon))[known],
        persistence_error=np.abs(np.exp(truth) - np.exp(point.persistence_log_carbon))[known],
    )


def train(history: History, cutoff_hour: int, params: Params | None = None) -> TrainedModel:
    """Train on what lies before `cutoff_hour`; deterministic for the same data, parameters and library version.

    Raises:
        TooLittleDataError: The history before the cutoff is too short or too broken.
    """
    params = params or Params()
    known = history.known_until(cutoff_hour, cutoff_hour)
    series = prepare(known)
    fold_hour = cutoff_hour - 24 * params.calibration_days
    fold = _fit_groups(series, fold_hour, params)
    bank = residuals(fold, series, fold_hour, cutoff_hour, params.delays, params.calibration_stride_hours)
    return TrainedModel(
        region=history.region,
        cutoff_hour=cutoff_hour,
        params=params,
        groups=_fit_groups(series, cutoff_hour, params),
        bank=bank,
    )


def share_of(odds: FloatArray) -> FloatArray:
    """Return renewable share from log odds, within 0..1."""
    return np.clip(expit(odds), 0.0, 1.0)
