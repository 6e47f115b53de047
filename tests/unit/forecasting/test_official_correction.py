# SPDX-License-Identifier: Apache-2.0
"""Official day-ahead wind and solar that began to come only weeks ago: used as far as they help, and no further."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from embellie_forecast.factors import FloatArray
from embellie_forecast.history import ZoneHistory, hour_of
from embellie_forecast.history_files import load_carried
from embellie_forecast.models.inputs import prepare
from embellie_forecast.models.official import corrected
from embellie_forecast.models.series import issue_at
from embellie_forecast.models.targets import Kernel, Settings, Target, WeatherUse
from embellie_forecast.models.walk import Conditions, Walk, walk
from embellie_forecast.models.zone import usable_weather

MIDNIGHT = hour_of(datetime(2021, 6, 1, tzinfo=UTC))
PAST = load_carried("US-CISO").since(MIDNIGHT - 120 * 24).known_until(MIDNIGHT + 40 * 24, MIDNIGHT + 40 * 24)
ISSUES = MIDNIGHT + 24 * np.arange(-20, 36, dtype=np.int64)
BEGAN = MIDNIGHT - 20 * 24
LATENCY = 6
FAST = Settings(kernels=(Kernel(gamma=0.005, alpha=0.1),), max_training_days=90, refit_days=28)


@pytest.fixture(scope="module")
def walked() -> Walk:
    conditions = Conditions(weather=WeatherUse.NONE, latency_hours=LATENCY)
    return walk(prepare(PAST, Target.DIRECT), ISSUES, conditions, FAST)


def telling(values: Callable[[FloatArray], FloatArray]) -> ZoneHistory:
    """The past with an official forecast that begins late, made of what was really generated."""
    came = np.stack([PAST.generation_mw["solar"], PAST.generation_mw["wind"]], axis=1)
    official = values(came)
    official[: BEGAN - PAST.first_hour] = np.nan
    return replace(PAST, official_mw=official)


def first_day(walked: Walk, history: ZoneHistory, weather: WeatherUse = WeatherUse.DAY1) -> FloatArray:
    return corrected(walked, prepare(history, Target.DIRECT), weather, LATENCY).kernel[:, :24]


def error(walked: Walk, said: FloatArray, first: int = 20) -> float:
    """Of the issues from one on, by default after the first weeks [%]."""
    return 100.0 * float(np.nanmean(np.abs(np.expm1(said - walked.outcome[:, :24])[first:])))


def test_an_official_forecast_that_has_come_for_three_weeks_lowers_the_error_of_the_day_ahead(walked: Walk) -> None:
    rng = np.random.default_rng(1)
    said = first_day(walked, telling(lambda came: came * rng.normal(1.0, 0.05, came.shape)))
    assert error(walked, said) < 0.9 * error(walked, walked.kernel[:, :24])


def test_one_that_tells_nothing_adds_next_to_nothing(walked: Walk) -> None:
    said = first_day(walked, telling(lambda came: np.random.default_rng(1).permutation(came)))
    assert error(walked, said) < 1.02 * error(walked, walked.kernel[:, :24])


def test_one_absurd_day_moves_the_forecast_no_further_than_a_large_honest_change(walked: Walk) -> None:
    def absurd(came: FloatArray) -> FloatArray:
        out = came.copy()
        out[int(ISSUES[40]) - PAST.first_hour :] = 250_000.0
        return out

    plain, honest, said = (
        walked.kernel[:, :24],
        *(first_day(walked, telling(how)) for how in (lambda came: came.copy(), absurd)),
    )
    np.testing.assert_array_equal(said[:40], honest[:40])
    assert np.abs(said[40] - plain[40]).max() < 3.0 * np.abs(honest - plain).max()


def test_where_there_is_no_weather_the_official_forecast_is_learnt_from_all_the_same() -> None:
    told = replace(PAST, weather=np.full_like(PAST.weather, np.nan), official_mw=telling(lambda came: came).official_mw)
    assert usable_weather(told) is WeatherUse.DAY1
    assert usable_weather(replace(told, official_mw=np.full_like(told.official_mw, np.nan))) is WeatherUse.NONE
    late = ISSUES[-10:]
    seeing, blind = (
        walk(prepare(told, Target.DIRECT), late, Conditions(weather=weather), FAST)
        for weather in (WeatherUse.DAY1, WeatherUse.NONE)
    )
    assert error(seeing, seeing.kernel[:, :24], 0) < error(blind, blind.kernel[:, :24], 0)


def test_a_source_that_is_told_only_later_changes_no_earlier_forecast(walked: Walk) -> None:
    wind, both = (telling(lambda came: came.copy()) for _ in range(2))
    wind.official_mw[:, 0] = np.nan
    both.official_mw[: int(ISSUES[41]) - PAST.first_hour, 0] = np.nan
    said = first_day(walked, wind)
    assert (said[40] != walked.kernel[40, :24]).any()
    np.testing.assert_array_equal(said[:40], first_day(walked, both)[:40])


def test_hours_that_it_does_not_reach_stay_as_they_were(walked: Walk) -> None:
    history = telling(lambda came: came.copy())
    history.official_mw[int(ISSUES[40]) - PAST.first_hour + 8 :] = np.nan
    said = first_day(walked, history)
    assert (said[40, :8] != walked.kernel[40, :8]).any()
    np.testing.assert_array_equal(said[40, 8:], walked.kernel[40, 8:24])


def test_in_its_first_two_weeks_and_without_any_forecast_allowed_nothing_is_added(walked: Walk) -> None:
    history = telling(lambda came: came.copy())
    np.testing.assert_array_equal(first_day(walked, history)[:14], walked.kernel[:14, :24])
    np.testing.assert_array_equal(first_day(walked, history, WeatherUse.NONE), walked.kernel[:, :24])


def test_a_model_that_is_never_refitted_is_not_corrected_either() -> None:
    conditions = Conditions(weather=WeatherUse.DAY1, latency_hours=LATENCY, refit=False, frozen_hour=BEGAN)
    silent = telling(lambda came: np.full_like(came, np.nan))
    told, untold = (
        issue_at(prepare(history, Target.DIRECT), ISSUES[-10:], conditions, FAST).point
        for history in (telling(lambda came: came.copy()), silent)
    )
    np.testing.assert_array_equal(told, untold)
