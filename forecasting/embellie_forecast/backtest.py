# SPDX-License-Identifier: Apache-2.0
"""`embellie-forecast backtest`: how good would the forecasts have been, by the protocol of the CarbonCast paper?

One issue a day, 96 hours, trained only on data before the test. Score: the mean over issues of each day's MAPE.
"""

from dataclasses import dataclass

import numpy as np

from embellie_forecast.calibration import QUANTILE_LEVELS, ResidualBank, spread_at
from embellie_forecast.dataset import History
from embellie_forecast.factors import FloatArray
from embellie_forecast.features import HORIZON_HOURS, IntArray, expit, prepare
from embellie_forecast.ladder import CALIBRATION_HOURS
from embellie_forecast.model import Params, pairs, predict, residuals, train

DAYS = HORIZON_HOURS // 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One line of the result; one entry per day ahead."""

    name: str
    values: tuple[float, ...]
    unit: str


def run(
    history: History, first_hour: int, last_hour: int, params: Params, *, issue_every_hours: int = 24
) -> list[Score]:
    """Score the issues from `first_hour` to `last_hour`, with one model trained on what was known at the first."""
    delays = params.delays
    cutoff = int(delays.generation_end(first_hour))
    model = train(history, cutoff, params)
    series = prepare(history)
    issue_range = np.arange(first_hour, last_hour + 1, issue_every_hours, dtype=np.int64)
    issues, leads = pairs(issue_range, 1)
    target = issues + leads - series.first_hour
    inside = target < series.log_carbon.size
    issues, leads, target = issues[inside], leads[inside], target[inside]
    point = predict(model.groups, series, issues, leads, delays)
    truth = np.exp(series.log_carbon[target])
    bank = model.bank.joined(
        residuals(model.groups, series, cutoff, last_hour + 1, delays, params.calibration_stride_hours)
    )
    spread, share_spread = _rolling_spread(bank, issues, leads, params)
    carbon = np.exp(point.log_carbon + spread)
    share = expit(point.logit_share + share_spread)
    share_truth = expit(series.logit_share[target])

    def by_day(values: FloatArray) -> tuple[float, ...]:
        return tuple(_mean_of_days(values, issues, leads, day) for day in range(DAYS))

    def mape(forecast: FloatArray) -> tuple[float, ...]:
        return by_day(100.0 * np.abs(forecast - truth) / truth)

    outer = (carbon[0] <= truth) & (truth <= carbon[-1])
    share_outer = (share[0] <= share_truth) & (share_truth <= share[-1])
    known = np.where(np.isfinite(truth), 1.0, np.nan)
    low, high = QUANTILE_LEVELS[0], QUANTILE_LEVELS[-1]
    return [
        Score(name="MAPE, model", values=mape(carbon[1]), unit="%"),
        Score(name="MAPE, persistence", values=mape(np.exp(point.persistence_log_carbon)), unit="%"),
        Score(name="MAPE, same hour last week", values=mape(np.exp(point.weekly_log_carbon)), unit="%"),
        Score(name=f"coverage of {low:g}-{high:g}", values=by_day(100.0 * outer * known), unit="%"),
        Score(name=f"width of {low:g}-{high:g}", values=by_day((carbon[-1] - carbon[0]) * known), unit="g/kWh"),
        Score(name="MAE, renewable share", values=by_day(100.0 * np.abs(share[1] - share_truth)), unit="points"),
        Score(name="coverage, renewable share", values=by_day(100.0 * share_outer * known), unit="%"),
    ]


def _rolling_spread(
    bank: ResidualBank, issues: IntArray, leads: IntArray, params: Params
) -> tuple[FloatArray, FloatArray]:
    """Return the calibrated spread of every row, each issue from the errors that were known at it."""
    carbon = np.empty((len(QUANTILE_LEVELS), issues.size))
    share = np.empty_like(carbon)
    for issue in np.unique(issues):
        rows = np.flatnonzero(issues == issue)
        end = int(params.delays.generation_end(int(issue)))
        spread = spread_at(bank.window(end - CALIBRATION_HOURS, end), int(issue), leads[rows])
        carbon[:, rows], share[:, rows] = spread.log_carbon, spread.logit_share
    return carbon, share


def _mean_of_days(values: FloatArray, issues: IntArray, leads: IntArray, day: int) -> float:
    """Return the mean over issues of the mean over the hours of a day ahead."""
    rows = (leads // 24 == day) & np.isfinite(values)
    _, where = np.unique(issues[rows], return_inverse=True)
    if where.size == 0:
        return float("nan")
    sums, counts = np.bincount(where, weights=values[rows]), np.bincount(where)
    return float((sums / counts).mean())


def table(scores: list[Score]) -> str:
    """Return the scores as text, one line each."""
    head = f"{'':28}" + "".join(f"{f'day {day + 1}':>9}" for day in range(DAYS))
    lines = [
        f"{score.name:28}" + "".join(f"{value:9.2f}" for value in score.values) + f"  {score.unit}" for score in scores
    ]
    return "\n".join([head, *lines])
