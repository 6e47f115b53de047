# SPDX-License-Identifier: Apache-2.0
"""What the meter teaches: a ratio by hour of day, how far to trust the weather, and how wrong it still was. Pure.

Shade, soiling, a wrong tilt and a wrong peak all show as a ratio of metered to modelled power that depends on the hour
of day. It is learned recursively, within bounds: a meter that stands still or lies can move the forecast only so far.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd

from embellie_forecast.exchange import FORECAST_LEVELS
from embellie_forecast.factors import FloatArray

RATIO_BOUNDS = (0.3, 1.6)
MEMORY_PER_DAY = 0.93
"""What a day counts against the day after it."""
PRIOR_HOURS = 3.0
"""The model itself counts like so many hours of agreement, so that one strange day does not rule."""
MIN_SHARE = 0.02
"""Hours in which the model gives less than this share of the peak say nothing about the ratio."""
LEVEL_EDGES = (0.03, 0.25, 0.6)
"""Errors are kept apart by the forecast's share of the peak between these edges."""
MIN_ERRORS = 40
MIN_DAYS = 10
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
UNMEASURED_SPREAD = (-0.35, 0.0, 0.25)
"""Without a meter: quantiles of the error as a share of the peak at half power; assumed, and wide on purpose."""
DAY = pd.Timedelta(days=1)
T = TypeVar("T")
NO_ERRORS: FloatArray = np.empty((0, 0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lessons:
    """What was learned about one plant. Everything by days ahead (1..4); nothing known: the model as it is."""

    ratio: FloatArray
    """Metered over modelled by UTC hour of day, shape (24,), within RATIO_BOUNDS."""
    hours: int
    """How many metered hours it rests on."""
    weight_by_day: Mapping[int, float]
    """How much the weather counts against the last metered day; 1: the weather alone."""
    errors_by_day: Mapping[int, FloatArray]
    """Quantiles of (metered - forecast) / peak, shape (levels, 4)."""
    last_day_kw: FloatArray
    """The meter's last known value of each UTC hour of day, shape (24,); NaN where unknown."""

    def middle_kw(self, modelled_kw: "pd.Series[float]", peak_kw: float) -> FloatArray:
        """Return the corrected power of the hours ahead, the first of which is the first hour of day 1."""
        hour = pd.DatetimeIndex(modelled_kw.index).hour
        corrected = np.clip(modelled_kw.to_numpy(dtype=np.float64) * self.ratio[hour], 0.0, peak_kw)
        weight = np.array([_of_day(self.weight_by_day, k // 24 + 1, 1.0) for k in range(corrected.size)])
        before = self.last_day_kw[hour]
        weight = np.where(np.isfinite(before), weight, 1.0)
        return np.asarray(weight * corrected + (1.0 - weight) * np.nan_to_num(before), dtype=np.float64)

    def quantiles_kw(self, middle_kw: FloatArray, peak_kw: float) -> FloatArray:
        """Return the power's quantiles, rising, within 0..peak; shape (levels, hours)."""
        share = middle_kw / peak_kw
        bucket = np.searchsorted(LEVEL_EDGES, share, side="right")
        out = np.empty((len(FORECAST_LEVELS), middle_kw.size))
        for k in range(middle_kw.size):
            table = _of_day(self.errors_by_day, k // 24 + 1, NO_ERRORS)
            if table.size == 0:
                # At rest and at full power there is less to err about than in between.
                errors = np.array(UNMEASURED_SPREAD) * max(0.0, min(1.0, 4.0 * share[k] * (1.25 - share[k])))
            else:
                errors = table[:, bucket[k]]
            out[:, k] = middle_kw[k] + errors * peak_kw
        return np.sort(np.clip(out, 0.0, peak_kw), axis=0)


def _of_day(by_day: Mapping[int, T], day: int, otherwise: T) -> T:
    known = [d for d in by_day if d <= day]
    return by_day[max(known)] if known else otherwise


def nothing_learned() -> Lessons:
    """Return what is known about a plant without a meter."""
    unknown = np.full(24, np.nan)
    return Lessons(ratio=np.ones(24), hours=0, weight_by_day={}, errors_by_day={}, last_day_kw=unknown)


def learn(
    modelled_kw_by_day: "Mapping[int, pd.Series[float]]", metered_kw: "pd.Series[float]", peak_kw: float
) -> Lessons:
    """Learn from past hours.

    Args:
        modelled_kw_by_day: Days ahead -> the model's power for past hours, from weather forecast so long before.
        metered_kw: Hourly means of the meter, UTC, hour-beginning.
        peak_kw: The most that the plant can deliver.
    """
    metered = metered_kw[(metered_kw >= -0.01 * peak_kw) & (metered_kw <= 1.2 * peak_kw)].dropna().clip(0.0, peak_kw)
    if metered.empty or not modelled_kw_by_day:
        return nothing_learned()
    nearest = modelled_kw_by_day[min(modelled_kw_by_day)]
    ratios, hours = _ratios(nearest, metered, peak_kw)
    weights: dict[int, float] = {}
    errors: dict[int, FloatArray] = {}
    for day, modelled in modelled_kw_by_day.items():
        # Each past hour is corrected by what was known so many days before it, or the errors would flatter.
        index = pd.DatetimeIndex(modelled.index)
        before = ratios.reindex(index.floor("D") - (day - 1) * DAY, method="ffill").to_numpy()
        known = np.where(np.isfinite(before).all(axis=1, keepdims=True), before, 1.0)
        corrected: pd.Series[float] = (modelled * known[np.arange(len(index)), index.hour]).clip(0.0, peak_kw)
        repeated = metered.set_axis(metered.index + day * DAY)
        table = pd.concat([corrected, repeated, metered], axis=1, keys=["model", "repeated", "truth"]).dropna()
        if len(table) < 24 * MIN_DAYS:
            continue
        misses = {
            w: (w * table["model"] + (1.0 - w) * table["repeated"] - table["truth"]).abs().mean() for w in WEIGHTS
        }
        weights[day] = min(misses, key=misses.__getitem__)
        guess = weights[day] * table["model"] + (1.0 - weights[day]) * table["repeated"]
        errors[day] = _error_quantiles(guess.to_numpy() / peak_kw, (table["truth"] - guess).to_numpy() / peak_kw)
    last = metered[metered.index > metered.index[-1] - 2 * DAY]
    by_hour = last.groupby(pd.DatetimeIndex(last.index).hour).last().reindex(range(24))
    return Lessons(
        ratio=ratios.iloc[-1].to_numpy(dtype=np.float64),
        hours=hours,
        weight_by_day=weights,
        errors_by_day=errors,
        last_day_kw=by_hour.to_numpy(dtype=np.float64),
    )


def _ratios(modelled: "pd.Series[float]", metered: "pd.Series[float]", peak_kw: float) -> tuple[pd.DataFrame, int]:
    """Return the ratios by hour of day (columns) as known when each day began (rows), and the hours they rest on."""
    pairs = pd.concat([modelled, metered], axis=1, keys=["modelled", "metered"]).dropna().sort_index()
    pairs = pairs[pairs["modelled"] > MIN_SHARE * peak_kw]
    # The prior is weighed at a tenth of the peak, about the mean of a solar plant.
    prior = PRIOR_HOURS * 0.1 * peak_kw
    above, below = np.zeros(24), np.zeros(24)
    days = pd.date_range(metered.index[0].floor("D"), metered.index[-1].floor("D") + DAY, freq="D")
    by_day = dict(tuple(pairs.groupby(pd.DatetimeIndex(pairs.index).floor("D"))))
    rows = []
    for day in days:
        rows.append(np.clip((above + prior) / (below + prior), *RATIO_BOUNDS))
        above, below = above * MEMORY_PER_DAY, below * MEMORY_PER_DAY
        if day in by_day:
            hour = pd.DatetimeIndex(by_day[day].index).hour
            np.add.at(above, hour, by_day[day]["metered"].to_numpy())
            np.add.at(below, hour, by_day[day]["modelled"].to_numpy())
    return pd.DataFrame(np.stack(rows), index=days), len(pairs)


def _error_quantiles(share: FloatArray, error: FloatArray) -> FloatArray:
    bucket = np.searchsorted(LEVEL_EDGES, share, side="right")
    table = np.empty((len(FORECAST_LEVELS), len(LEVEL_EDGES) + 1))
    for level in range(table.shape[1]):
        own = error[bucket == level]
        table[:, level] = np.quantile(own if own.size >= MIN_ERRORS else error, FORECAST_LEVELS)
    return table
