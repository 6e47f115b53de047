# SPDX-License-Identifier: Apache-2.0
"""What the meter teaches: a ratio by hour of day, how far to trust the weather, and how wrong it still was. Pure.

Shade, soiling, a wrong tilt and a wrong peak all show as a ratio of metered to modelled power that depends on the hour
of day. It is learned recursively, within bounds: a meter that stands still or lies can move the forecast only so far.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pandas as pd

from embellie_forecast.exchange import FORECAST_LEVELS
from embellie_forecast.factors import FloatArray
from embellie_forecast.models.conformal import calibrate
from embellie_forecast.models.targets import QUANTILE_LEVELS, Settings

RATIO_BOUNDS = (0.3, 1.6)
MEMORY_PER_DAY = 0.93
"""What a day counts against the day after it."""
PRIOR_HOURS = 3.0
"""The model itself counts like so many hours of agreement, so that one strange day does not rule."""
MIN_SHARE = 0.02
"""Hours in which the model gives less than this share of the peak say nothing about the ratio."""
MIN_DAYS = 10
HISTORY_DAYS = 60
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
SOFTENING = 0.03
"""Shares of the peak are stretched like log(x / (1 - x)), where errors at rest, in between and at full power are of one
size; softened by so much, because plants do rest and do reach their peak."""
DARK_SHARE = 0.01
"""With less than this forecast it is night or calm; what such hours err says nothing of the others."""
UNMEASURED_SPREAD = (-0.35, 0.0, 0.25)
"""Without a meter: quantiles of the error as a share of the peak at half power; assumed, and wide on purpose."""
DAY = pd.Timedelta(days=1)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lessons:
    """What was learned about one plant. Everything by days ahead (1..4); nothing known: the model as it is."""

    ratio: FloatArray
    """Metered over modelled by UTC hour of day, shape (24,), within RATIO_BOUNDS."""
    hours: int
    """How many metered hours it rests on."""
    weights_by_day: Mapping[int, tuple[float, float]]
    """How much the weather counts against the last metered day, in hours that it says are dark and in others (0..1)."""
    guesses_by_day: Mapping[int, pd.DataFrame]
    """Past hours: `guess`, what would have been forecast so many days before, and `truth`, as shares of the peak."""
    last_day_kw: FloatArray
    """The meter's last known value of each UTC hour of day, shape (24,); NaN where unknown."""

    def middle_kw(self, modelled_kw: "pd.Series[float]", peak_kw: float) -> FloatArray:
        """Return the corrected power of the hours ahead, the first of which is the first hour of day 1."""
        hour = pd.DatetimeIndex(modelled_kw.index).hour
        corrected = np.clip(modelled_kw.to_numpy(dtype=np.float64) * self.ratio[hour], 0.0, peak_kw)
        by_hour = [_of_day(self.weights_by_day, k // 24 + 1, (1.0, 1.0)) for k in range(corrected.size)]
        weight = np.where(corrected < DARK_SHARE * peak_kw, *np.array(by_hour).T)
        before = self.last_day_kw[hour]
        weight = np.where(np.isfinite(before), weight, 1.0)
        return np.asarray(weight * corrected + (1.0 - weight) * np.nan_to_num(before), dtype=np.float64)

    def quantiles_kw(self, middle_kw: "pd.Series[float]", peak_kw: float, alike_days: int) -> FloatArray:
        """Return the power's quantiles, rising, within 0..peak; shape (levels, hours).

        Args:
            middle_kw: The corrected power of the hours ahead, whole days of them.
            peak_kw: The most that the plant can deliver.
            alike_days: How many of the last days erred as the next ones will.
        """
        settings = replace(Settings(), calibration_days=alike_days)
        share = np.asarray(middle_kw / peak_kw, dtype=np.float64)
        # At rest and at full power there is less to err about than in between.
        room = np.clip(4.0 * share * (1.25 - share), 0.0, 1.0)
        out = share + np.array(UNMEASURED_SPREAD)[:, None] * room
        start = pd.DatetimeIndex(middle_kw.index)[0]
        for day in range(share.size // 24):
            past = _of_day(self.guesses_by_day, day + 1, None)
            if past is not None:
                part = slice(24 * day, 24 * day + 24)
                out[:, part] = _from_errors(past, start + day * DAY, share[part], out[:, part], settings)
        return np.sort(np.clip(out, 0.0, 1.0), axis=0) * peak_kw


def _from_errors(
    past: pd.DataFrame, first: pd.Timestamp, share: FloatArray, otherwise: FloatArray, settings: Settings
) -> FloatArray:
    """Return the quantiles of one day that begins at `first`, from what was missed on the days before it.

    By hour of day and its neighbours, stretched by how often the range was missed lately, as for intensities; hours
    that were forecast dark apart from the others.

    Args:
        past: As in Lessons.guesses_by_day.
        first: The first hour.
        share: The forecast, shape (24,).
        otherwise: What holds in an hour of day that the meter says nothing of, shape (levels, 24).
        settings: How many days to learn from.
    """
    n_days = min(HISTORY_DAYS, -(-(first - past.index[0]) // DAY))
    hours = pd.date_range(first - n_days * DAY, periods=24 * n_days, freq="h")
    guess, truth = past.reindex(hours).to_numpy(dtype=np.float64).T.reshape(2, n_days, 24)
    # Only what was known at a forecast may sort its errors: sorted by outcome, one night's stray reading would be all
    # that is learnt of nights.
    dark_before, dark_now = guess < DARK_SHARE, share < DARK_SHARE
    lit_truth, dark_truth = np.where(dark_before, np.nan, truth), np.where(dark_before, truth, np.nan)
    spread = _calibrated(guess, lit_truth, share, settings)
    # Hours of night lie beside hours of dawn: what those err is not theirs.
    silent = ~np.isfinite(lit_truth).any(axis=0)
    spread = np.where(silent, np.where(dark_now, share, otherwise), spread)
    by_night = np.isfinite(dark_truth).sum(axis=0) >= MIN_DAYS
    return np.where(dark_now & by_night, _calibrated(guess, dark_truth, share, settings), spread)


def _calibrated(guess: FloatArray, truth: FloatArray, share: FloatArray, settings: Settings) -> FloatArray:
    """Return the quantiles of one day from the days before it, shapes (levels, 24) and (days, 24)."""
    n_days = len(guess)
    said = _stretched(np.vstack([guess, share]))
    came = np.vstack([_stretched(truth), np.full(24, np.nan)])
    # A day's outcome is known at the next; days ahead are already in the guesses.
    found = calibrate(24 * np.arange(n_days + 1), said, np.where(np.isfinite(said), came, np.nan), 0, settings)[-1]
    soft = np.exp(found[[QUANTILE_LEVELS.index(level) for level in FORECAST_LEVELS]])
    return np.asarray(((1.0 + SOFTENING) * soft - SOFTENING) / (1.0 + soft), dtype=np.float64)


def _stretched(share: FloatArray) -> FloatArray:
    return np.asarray(np.log((share + SOFTENING) / (1.0 + SOFTENING - share)), dtype=np.float64)


def _of_day(by_day: Mapping[int, T], day: int, otherwise: T) -> T:
    known = [d for d in by_day if d <= day]
    return by_day[max(known)] if known else otherwise


def nothing_learned() -> Lessons:
    """Return what is known about a plant without a meter."""
    unknown = np.full(24, np.nan)
    return Lessons(ratio=np.ones(24), hours=0, weights_by_day={}, guesses_by_day={}, last_day_kw=unknown)


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
    weights: dict[int, tuple[float, float]] = {}
    guesses: dict[int, pd.DataFrame] = {}
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
        dark = (table["model"] < DARK_SHARE * peak_kw).to_numpy()
        weights[day] = (_best_weight(table[dark]), _best_weight(table[~dark]))
        weight = np.where(dark, *weights[day])
        guess = weight * table["model"] + (1.0 - weight) * table["repeated"]
        guesses[day] = pd.DataFrame({"guess": guess, "truth": table["truth"]}) / peak_kw
    last = metered[metered.index > metered.index[-1] - 2 * DAY]
    by_hour = last.groupby(pd.DatetimeIndex(last.index).hour).last().reindex(range(24))
    return Lessons(
        ratio=ratios.iloc[-1].to_numpy(dtype=np.float64),
        hours=hours,
        weights_by_day=weights,
        guesses_by_day=guesses,
        last_day_kw=by_hour.to_numpy(dtype=np.float64),
    )


def _best_weight(table: pd.DataFrame) -> float:
    """Return how much the model should count against the day before; 1 where there is nothing to learn from."""
    if table.empty:
        return 1.0
    misses = {w: (w * table["model"] + (1.0 - w) * table["repeated"] - table["truth"]).abs().mean() for w in WEIGHTS}
    return min(misses, key=misses.__getitem__)


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
