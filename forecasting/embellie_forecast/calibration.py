# SPDX-License-Identifier: Apache-2.0
"""Split-conformal quantiles: how wrong has the model been lately, at this lead and this hour of day?

Angelopoulos and Bates, "A Gentle Introduction to Conformal Prediction" (2021), section 1, with the recent window of
Barber et al. (2023) instead of all history, because grids drift.
"""

from dataclasses import dataclass

import numpy as np

from embellie_forecast.factors import FloatArray
from embellie_forecast.features import HORIZON_HOURS, IntArray

QUANTILE_LEVELS = (0.1, 0.5, 0.9)
LEAD_BUCKETS = (0, 3, 12, 24, 48, 72, HORIZON_HOURS)
"""Leads between two neighbours share one calibration; the first day is split, because errors grow fast there."""
MIN_RESIDUALS = 30
"""With fewer errors than this in an hour of day, all hours of the bucket are used."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResidualBank:
    """Errors (truth minus point forecast) of issues whose targets are known; arrays of one length."""

    issue_hour: IntArray
    lead: IntArray
    log_carbon: FloatArray
    logit_share: FloatArray
    carbon_error: FloatArray
    """Absolute error of the point forecast [g/kWh]."""
    persistence_error: FloatArray
    """Absolute error of persistence [g/kWh]."""

    @classmethod
    def empty(cls) -> "ResidualBank":
        """Return a bank without errors."""
        hours, values = np.empty(0, dtype=np.int64), np.empty(0)
        return cls(
            issue_hour=hours,
            lead=hours,
            log_carbon=values,
            logit_share=values,
            carbon_error=values,
            persistence_error=values,
        )

    def joined(self, other: "ResidualBank") -> "ResidualBank":
        """Return the errors of both."""
        return ResidualBank(
            issue_hour=np.concatenate([self.issue_hour, other.issue_hour]),
            lead=np.concatenate([self.lead, other.lead]),
            log_carbon=np.concatenate([self.log_carbon, other.log_carbon]),
            logit_share=np.concatenate([self.logit_share, other.logit_share]),
            carbon_error=np.concatenate([self.carbon_error, other.carbon_error]),
            persistence_error=np.concatenate([self.persistence_error, other.persistence_error]),
        )

    def window(self, first_target_hour: int, end_target_hour: int) -> "ResidualBank":
        """Return the errors at targets in [first_target_hour, end_target_hour)."""
        target = self.issue_hour + self.lead
        rows = (target >= first_target_hour) & (target < end_target_hour)
        return ResidualBank(
            issue_hour=self.issue_hour[rows],
            lead=self.lead[rows],
            log_carbon=self.log_carbon[rows],
            logit_share=self.logit_share[rows],
            carbon_error=self.carbon_error[rows],
            persistence_error=self.persistence_error[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spread:
    """What to add to point forecasts, for the quantile levels and every lead; shape (3, leads)."""

    log_carbon: FloatArray
    logit_share: FloatArray
    mean_factor: FloatArray
    """The mean of exp(error): turns a median into a mean; shape (leads,)."""


def conformal_quantile(values: FloatArray, level: float) -> float:
    """Return the finite-sample quantile: at least a share `level` of exchangeable values lies on its inner side.

    >>> conformal_quantile(np.arange(9.0), 0.9), conformal_quantile(np.arange(9.0), 0.1)
    (8.0, 0.0)
    """
    n = values.size
    if level == 0.5:
        return float(np.median(values))
    if level > 0.5:
        rank = min(int(np.ceil((n + 1) * level - 1e-9)), n) - 1
    else:
        rank = max(int(np.floor((n + 1) * level + 1e-9)), 1) - 1
    return float(np.partition(values, rank)[rank])


def spread_at(bank: ResidualBank, issue_hour: int, leads: IntArray) -> Spread:
    """Return the calibrated spread of an issue from a bank of recent errors, which must not be empty."""
    bucket = np.searchsorted(LEAD_BUCKETS, bank.lead, side="right")
    hour = (bank.issue_hour + bank.lead) % 24
    wanted = np.searchsorted(LEAD_BUCKETS, leads, side="right")
    carbon = np.empty((len(QUANTILE_LEVELS), leads.size))
    share = np.empty_like(carbon)
    factor = np.empty(leads.size)
    done: dict[tuple[int, int], int] = {}
    for i, lead in enumerate(leads):
        key = (int(wanted[i]), int(issue_hour + lead) % 24)
        if key in done:
            carbon[:, i], share[:, i], factor[i] = carbon[:, done[key]], share[:, done[key]], factor[done[key]]
            continue
        done[key] = i
        rows = _cell(bucket, hour, *key)
        for q, level in enumerate(QUANTILE_LEVELS):
            carbon[q, i] = conformal_quantile(bank.log_carbon[rows], level)
            share[q, i] = conformal_quantile(bank.logit_share[rows], level)
        factor[i] = float(np.exp(np.clip(bank.log_carbon[rows], -2.0, 2.0)).mean())
    return Spread(log_carbon=carbon, logit_share=share, mean_factor=factor)


def _cell(bucket: IntArray, hour: IntArray, wanted_bucket: int, wanted_hour: int) -> IntArray:
    """Return the rows of a bucket within an hour of the wanted hour of day, or of the whole bucket, or all."""
    in_bucket = bucket == wanted_bucket
    distance = np.abs((hour - wanted_hour + 12) % 24 - 12)
    for rows in (in_bucket & (distance <= 1), in_bucket):
        found = np.flatnonzero(rows)
        if found.size >= MIN_RESIDUALS:
            return found
    return np.arange(bucket.size)


def skill_percent(bank: ResidualBank) -> int | None:
    """Return how much smaller the errors are than those of persistence [%]; None where persistence is unknown."""
    both = np.isfinite(bank.carbon_error) & np.isfinite(bank.persistence_error)
    base = float(bank.persistence_error[both].sum())
    if both.sum() < MIN_RESIDUALS or base <= 0.0:
        return None
    return round(100.0 * (1.0 - float(bank.carbon_error[both].sum()) / base))
