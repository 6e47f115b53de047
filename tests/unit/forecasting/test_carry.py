# SPDX-License-Identifier: Apache-2.0
"""What the model misses of the newest reading carries into the next hours, as far as that helps."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from embellie_forecast.factors import FloatArray
from embellie_forecast.history import hour_of
from embellie_forecast.models.carry import REACH_HOURS, carried
from embellie_forecast.models.inputs import BACK_HOURS, IntArray, Series, outcomes
from embellie_forecast.models.targets import Target
from embellie_forecast.models.walk import Walk, held_in

FIRST = hour_of(datetime(2021, 1, 1, tzinfo=UTC))
ISSUES = FIRST + 24 * np.arange(10, 90, dtype=np.int64)


def series_of(values: FloatArray) -> Series:
    return Series(
        first_hour=FIRST,
        target=Target.LIFECYCLE,
        scaled=values,
        mix={},
        log_total=np.zeros(values.size),
        weather=np.full((values.size, 5), np.nan),
        official_mw=np.full((values.size, 2), np.nan),
    )


def lasting(memory: float) -> Series:
    """Readings around nothing, of which so much is left an hour later."""
    shocks = np.random.default_rng(5).normal(size=24 * 100)
    values = np.zeros(shocks.size)
    for k in range(1, values.size):
        values[k] = memory * values[k - 1] + shocks[k]
    return series_of(values)


def walk_of(series: Series, hours: IntArray = ISSUES) -> Walk:
    """A model that always says 0."""
    nothing = np.zeros((hours.size, 96))
    return Walk(
        issue_hours=hours,
        kernel=nothing,
        before=np.zeros((hours.size, BACK_HOURS)),
        persistence=nothing,
        weekly=nothing,
        week_mean=nothing,
        outcome=outcomes(series, hours),
        fits=0,
    )


def error(walked: Walk, hours: int = 4) -> float:
    return float(np.abs(walked.outcome - walked.kernel)[40:, :hours].mean())


def test_a_miss_that_lasts_is_carried_into_the_next_hours_and_no_further() -> None:
    series = lasting(0.9)
    plain = walk_of(series)
    moved = carried(plain, series, 0)
    assert error(moved) < 0.85 * error(plain)
    np.testing.assert_array_equal(moved.kernel[:, REACH_HOURS:], plain.kernel[:, REACH_HOURS:])


def test_a_miss_that_tells_nothing_of_the_next_hour_is_not_carried() -> None:
    series = lasting(0.0)
    plain = walk_of(series)
    assert error(carried(plain, series, 0)) < 1.01 * error(plain)


@pytest.mark.parametrize("latency", [0, 3, 7])
def test_no_reading_later_than_the_feed_tells_it_is_looked_at(latency: int) -> None:
    series = lasting(0.9)
    said = carried(walk_of(series), series, latency).kernel[-1]
    cut = series.scaled.copy()
    cut[ISSUES[-1] - latency - FIRST :] = 1e6
    np.testing.assert_array_equal(carried(walk_of(series_of(cut)), series_of(cut), latency).kernel[-1], said)
    cut[ISSUES[-1] - latency - 1 - FIRST] += 1.0
    assert (carried(walk_of(series_of(cut)), series_of(cut), latency).kernel[-1] != said)[0]


def test_a_newest_reading_that_is_late_counts_for_less_and_one_of_yesterday_for_nothing() -> None:
    values = lasting(0.9).scaled
    values[ISSUES[-1] - FIRST - BACK_HOURS : ISSUES[-1] - FIRST] = 2.0

    def first_hour(silent_hours: int) -> float:
        told = values.copy()
        told[ISSUES[-1] - FIRST - silent_hours :] = np.nan
        return float(carried(walk_of(series_of(told)), series_of(told), 0).kernel[-1, 0])

    now, late, later = (first_hour(hours) for hours in (0, 2, 6))
    assert now > late > later > 0.0
    assert first_hour(BACK_HOURS) == 0.0


def test_one_mad_reading_moves_the_forecast_no_further_than_a_large_honest_one() -> None:
    series = lasting(0.9)
    honest, mad = series.scaled.copy(), series.scaled.copy()
    for row, (values, size) in enumerate(((honest, 15.0), (mad, 1e6))):
        values[ISSUES[-1] - 1 - FIRST] = size
        values[ISSUES[50] - 1 - FIRST] = size * row
    one, other = (carried(walk_of(series_of(v)), series_of(v), 0).kernel[-1, 0] for v in (honest, mad))
    assert 0.0 < other < 1.5 * one


def test_in_its_first_two_weeks_nothing_is_carried() -> None:
    series = lasting(0.9)
    np.testing.assert_array_equal(carried(walk_of(series), series, 0).kernel[:14], 0.0)


def test_an_hour_of_day_that_never_varies_is_forecast_to_stay_as_it_is() -> None:
    clock = np.arange(24 * 100) % 24
    day = np.random.default_rng(2).normal(1.0, 0.1, clock.size)
    series = series_of(np.where(clock < 6, 0.0, day))
    told = walk_of(series, ISSUES + 5)
    said = held_in(replace(told, kernel=told.kernel + 5.0), series, 2)
    night = (5 + np.arange(96)) % 24 < 6
    np.testing.assert_array_equal(said.kernel[20:, night], 0.0)
    assert (said.kernel[20:, ~night] > 1.1).all()
    assert (said.kernel[20:, ~night] < 2.0).all()


def test_within_reach_of_what_was_seen_and_where_nothing_was_seen_a_forecast_is_left_alone() -> None:
    series = lasting(0.9)
    plain = walk_of(series)
    np.testing.assert_array_equal(held_in(plain, series, 0).kernel, plain.kernel)
    silent = series_of(np.full(series.scaled.size, np.nan))
    np.testing.assert_array_equal(held_in(plain, silent, 0).kernel, plain.kernel)
