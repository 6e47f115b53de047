# SPDX-License-Identifier: Apache-2.0
"""The model learns, blends, knows how sure it is, and answers for a zone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from embellie_forecast.history import ZoneHistory, hour_of
from embellie_forecast.history_files import load_carried
from embellie_forecast.models import (
    CannotIssueError,
    Settings,
    Target,
    TooLittleDataError,
    WeatherUse,
    better_on_recent,
    is_due,
    issue,
    issue_calendar,
    issue_points,
    train_calendar,
    train_zone,
)
from embellie_forecast.models.blend import PRIOR, weights_for
from embellie_forecast.models.conformal import calibrate
from embellie_forecast.models.inputs import BACK_HOURS, prepare
from embellie_forecast.models.kernels import fit
from embellie_forecast.models.series import issue_at
from embellie_forecast.models.splice import spliced
from embellie_forecast.models.targets import Kernel
from embellie_forecast.models.walk import Conditions, Walk, walk
from embellie_forecast.models.zone import ZoneModel, predict, same_clock, usable_weather

UNTIL = datetime(2021, 7, 1, tzinfo=UTC)
SMALL = Settings(
    kernels=(Kernel(gamma=0.005, alpha=0.1),), max_training_days=80, warm_up_days=30, calibration_days=30, refit_days=30
)


@pytest.fixture(scope="module")
def history() -> ZoneHistory:
    end = hour_of(UNTIL) + 40 * 24
    return load_carried("US-CISO").known_until(end, end).since(hour_of(UNTIL) - 180 * 24)


@pytest.fixture(scope="module")
def model(history: ZoneHistory) -> ZoneModel:
    return train_zone(history, until=UNTIL, settings=SMALL)


def truth_after(history: ZoneHistory, moment: datetime) -> np.ndarray:
    first = hour_of(moment) - history.first_hour
    return history.lifecycle_g_per_kwh[first : first + 96]


def test_a_forecast_is_nearer_to_the_truth_than_persistence(history: ZoneHistory) -> None:
    hours = hour_of(UNTIL) + 24 * np.arange(15)
    conditions = Conditions(weather=usable_weather(history))
    issued = issue_at(prepare(history, Target.LIFECYCLE), hours, conditions, Settings(refit_days=28))
    error, base = np.abs(issued.point - issued.truth), np.abs(issued.persistence - issued.truth)
    assert error[:, :24].mean() < 0.9 * base[:, :24].mean()
    assert error.mean() < base.mean()
    assert (np.diff(issued.quantiles, axis=1) >= 0.0).all()
    # Without quantiles, and of several hours of day at once, the forecasts are the same.
    mixed = np.sort(np.concatenate([hours[:2], hours[:2] + 12]))
    np.testing.assert_array_equal(issue_points(history, Target.LIFECYCLE, mixed)[::2], issued.point[:2])


def test_a_zone_forecast_holds_every_target_within_its_limits(history: ZoneHistory, model: ZoneModel) -> None:
    at = UNTIL + timedelta(days=3, hours=13)
    forecast = issue(model, history, at=at)
    assert forecast.start == at
    assert set(forecast.targets) == {Target.LIFECYCLE, Target.DIRECT, Target.RENEWABLE_SHARE}
    for target, each in forecast.targets.items():
        assert each.quantiles.shape == (len(each.levels), 96)
        assert np.isfinite(each.quantiles).all()
        assert (np.diff(each.quantiles, axis=0) >= 0.0).all()
        assert (each.mean >= each.quantiles[0]).all()
        assert each.skill_percent is not None
        assert each.quantiles.max() <= (820.0 if target.is_carbon else 1.0)
    error = np.abs(forecast.targets[Target.LIFECYCLE].median - truth_after(history, at))
    assert error[:24].mean() < 40.0
    noon_in_california = 20 - 13
    assert forecast.generation_mw["solar"][noon_in_california] > 3_000.0 > forecast.generation_mw["solar"][20]


def test_the_same_data_give_the_same_forecast(history: ZoneHistory, model: ZoneModel) -> None:
    at = UNTIL + timedelta(days=1)
    again = train_zone(history, until=UNTIL, targets=(Target.LIFECYCLE,), settings=SMALL)
    one, two = (issue(m, history, at=at).targets[Target.LIFECYCLE].quantiles for m in (model, again))
    np.testing.assert_array_equal(one, two)


def test_nothing_after_the_issue_is_looked_at(history: ZoneHistory) -> None:
    at = UNTIL + timedelta(days=2, hours=7)
    cut = history.known_until(hour_of(at) - 1, hour_of(at) + 24)
    full, blind = (
        issue(train_zone(h, until=UNTIL, targets=(Target.LIFECYCLE,), settings=SMALL), h, at=at).targets[
            Target.LIFECYCLE
        ]
        for h in (history, cut)
    )
    np.testing.assert_array_equal(full.quantiles, blind.quantiles)


def test_a_short_live_history_is_joined_with_what_the_model_remembers(history: ZoneHistory, model: ZoneModel) -> None:
    at = UNTIL + timedelta(days=3)
    recent = history.known_until(hour_of(at), hour_of(at) + 96).since(hour_of(UNTIL) - 24)
    whole = issue(model, history, at=at).targets[Target.LIFECYCLE].median
    np.testing.assert_allclose(issue(model, recent, at=at).targets[Target.LIFECYCLE].median, whole, rtol=0.02)


def test_a_reading_that_was_corrected_since_the_training_is_what_a_forecast_begins_at(
    history: ZoneHistory, model: ZoneModel
) -> None:
    corrected = history.lifecycle_g_per_kwh.copy()
    corrected[hour_of(UNTIL) - history.first_hour - 24 :] *= 1.3
    now = replace(history, lifecycle_g_per_kwh=corrected)
    before, after = (issue(model, known, at=UNTIL).targets[Target.LIFECYCLE].median for known in (history, now))
    assert after[:24].mean() > 1.05 * before[:24].mean()


def test_a_feed_that_is_silent_for_two_days_is_refused(history: ZoneHistory, model: ZoneModel) -> None:
    dead = history.known_until(hour_of(UNTIL), hour_of(UNTIL) + 10 * 24)
    with pytest.raises(CannotIssueError, match="fewer than 12 believable readings"):
        issue(model, dead, at=UNTIL + timedelta(days=3))


def test_a_feed_later_than_in_training_is_forecast_as_of_when_it_was_on_time(
    history: ZoneHistory, model: ZoneModel
) -> None:
    at, late = UNTIL + timedelta(days=3, hours=9), 5
    now = issue(model, history, at=at, latency_hours=model.latency_hours + late)
    then = issue(model, history, at=at - timedelta(hours=late))
    assert now.start == at
    ahead, repeated = np.arange(late, 96), np.arange(72, 72 + late)
    expected = np.concatenate([ahead, repeated])
    for target, each in now.targets.items():
        np.testing.assert_array_equal(each.quantiles, then.targets[target].quantiles[:, expected])
        np.testing.assert_allclose(each.mean, then.targets[target].mean[expected])
    np.testing.assert_array_equal(now.generation_mw["solar"], then.generation_mw["solar"][expected])


def test_missing_weather_is_answered_without_it(history: ZoneHistory, model: ZoneModel) -> None:
    at = UNTIL + timedelta(days=1)
    blind = replace(history, weather=np.full(history.weather.shape, np.nan)).since(hour_of(UNTIL) - 48)
    forecast = issue(model, blind, at=at).targets[Target.LIFECYCLE]
    assert np.abs(forecast.median - truth_after(history, at)).mean() < 80.0


def test_where_the_weather_ahead_has_stopped_coming_a_model_answers_that_never_looked_at_any(
    history: ZoneHistory, model: ZoneModel
) -> None:
    present = hour_of(UNTIL)
    series = prepare(history.known_until(present, present), Target.LIFECYCLE)
    now = np.array([present], dtype=np.int64)
    without = train_zone(history, until=UNTIL, weather=WeatherUse.NONE, settings=SMALL, targets=(Target.LIFECYCLE,))
    assert model.weather is WeatherUse.DAY1
    np.testing.assert_array_equal(predict(model, *(ask := (Target.LIFECYCLE, series, now))), predict(without, *ask))
    issues = present + 24 * np.arange(-8, 8, dtype=np.int64)
    told = history.weather.copy()
    told[present - history.first_hour :] = np.nan
    stopped = prepare(replace(history, weather=told), Target.LIFECYCLE)
    seeing, blind = (
        walk(stopped, hours, Conditions(weather=weather), SMALL)
        for hours, weather in ((issues, WeatherUse.DAY1), (issues[8:], WeatherUse.NONE))
    )
    np.testing.assert_array_equal(seeing.kernel[8:], blind.kernel)


def test_too_little_data_is_said_and_never_trained_on(history: ZoneHistory) -> None:
    short = history.since(hour_of(UNTIL) - 20 * 24)
    with pytest.raises(TooLittleDataError, match="28 are needed"):
        train_zone(short, until=UNTIL)
    assert train_calendar(short, until=UNTIL) is None
    with pytest.raises(TooLittleDataError, match="no data"):
        train_zone(history, until=UNTIL - timedelta(days=400))


def test_a_zone_with_an_intensity_alone_is_forecast(history: ZoneHistory) -> None:
    bare = replace(
        history,
        generation_mw={},
        direct_g_per_kwh=np.full(history.n_hours, np.nan),
        renewable_share=np.full(history.n_hours, np.nan),
        weather=np.full(history.weather.shape, np.nan),
    )
    made = train_zone(bare, until=UNTIL, settings=SMALL)
    assert made.targets == (Target.LIFECYCLE,)
    assert made.weather is WeatherUse.NONE
    assert issue(made, bare, at=UNTIL).generation_mw == {}


def test_a_marginal_intensity_is_forecast_from_its_own_past_and_touches_nothing_else(history: ZoneHistory) -> None:
    clock = (history.first_hour + np.arange(history.n_hours)) % 24
    marginal = np.where((clock >= 18) & (clock < 21), 0.0, history.direct_g_per_kwh * 1.6)
    told = replace(history, marginal_g_per_kwh=marginal)
    both = (Target.LIFECYCLE, Target.MARGINAL)
    with_it, without = (train_zone(h, until=UNTIL, targets=both, settings=SMALL) for h in (told, history))
    assert without.targets == (Target.LIFECYCLE,)
    made, plain = issue(with_it, told, at=UNTIL), issue(without, history, at=UNTIL)
    np.testing.assert_array_equal(made.targets[Target.LIFECYCLE].quantiles, plain.targets[Target.LIFECYCLE].quantiles)
    found = made.targets[Target.MARGINAL]
    assert found.median[18:21].max() < 100.0
    assert found.median[6:12].min() > 200.0
    assert found.quantiles.min() >= 0.0


def test_of_later_days_it_learns_from_weather_that_was_forecast_as_long_before(history: ZoneHistory) -> None:
    seen = replace(history, weather_ahead=np.repeat(history.weather[:, None, :], 3, axis=1))
    assert train_zone(seen, until=UNTIL, targets=(Target.LIFECYCLE,), settings=SMALL).weather is WeatherUse.LEADS
    few = seen.weather_ahead.copy() if seen.weather_ahead is not None else np.empty(0)
    few[: int(0.6 * len(few))] = np.nan
    model = train_zone(replace(history, weather_ahead=few), until=UNTIL, targets=(Target.LIFECYCLE,), settings=SMALL)
    assert model.weather is WeatherUse.DAY1


def test_the_first_day_is_said_by_a_model_that_looks_at_no_weather_of_later_ones() -> None:
    rng = np.random.default_rng(19)
    near = {"recent": rng.normal(size=(60, 48))}
    all_days = near | {"wx_wind_ahead": rng.normal(size=(60, 24))}
    outcome = rng.normal(size=(60, BACK_HOURS + 96))
    blind, seeing = (fit(groups, outcome, SMALL).predict(groups) for groups in (near, all_days))
    same = np.isclose(blind, seeing).all(axis=0)
    assert same.tolist() == [True] * (BACK_HOURS + 24) + [False] * 72


def test_a_model_is_due_after_four_weeks_and_a_fresh_one_is_no_worse(history: ZoneHistory, model: ZoneModel) -> None:
    assert not is_due(model, UNTIL + timedelta(days=27))
    assert is_due(model, UNTIL + timedelta(days=28))
    now = UNTIL + timedelta(days=30)
    broken = train_zone(history, until=now, targets=(Target.LIFECYCLE,), settings=SMALL)
    bank = broken.banks[Target.LIFECYCLE]
    worse = replace(broken, banks={**broken.banks, Target.LIFECYCLE: replace(bank, kernel=bank.kernel + 0.5)})
    assert not better_on_recent(worse, model, history, at=now)
    assert better_on_recent(model, worse, history, at=now)


def test_the_calendar_answers_without_a_feed(history: ZoneHistory) -> None:
    calendar = train_calendar(load_carried("US-CISO").since(hour_of(UNTIL) - 800 * 24), until=UNTIL)
    assert calendar is not None
    blind, seeing = (issue_calendar(calendar, h, at=UNTIL).targets[Target.LIFECYCLE] for h in (None, history))
    for each in (blind, seeing):
        assert (np.diff(each.quantiles, axis=0) >= 0.0).all()
        assert np.abs(each.median - truth_after(history, UNTIL)).mean() < 90.0
    assert not np.array_equal(blind.median[:24], seeing.median[:24])


def walk_of(kernel_error: float, persistence_error: float, issues: int = 60) -> Walk:
    rng = np.random.default_rng(3)
    outcome = rng.normal(size=(issues, 96))
    hours = np.arange(issues, dtype=np.int64) * 24
    return Walk(
        issue_hours=hours,
        kernel=outcome + kernel_error * rng.normal(size=outcome.shape),
        before=np.full((issues, BACK_HOURS), np.nan),
        persistence=outcome + persistence_error * rng.normal(size=outcome.shape),
        weekly=outcome,
        week_mean=outcome + rng.normal(size=outcome.shape),
        outcome=outcome,
        fits=1,
    )


def test_the_blend_trusts_the_model_until_persistence_has_proved_better() -> None:
    settings = Settings()
    assert weights_for(walk_of(0.1, 1.0), 60 * 24, 0, settings)[:, 0].min() > 0.9
    assert weights_for(walk_of(1.0, 0.1), 60 * 24, 0, settings)[:, 1].min() > 0.15
    np.testing.assert_array_equal(weights_for(walk_of(1.0, 0.1), 24, 0, settings), np.tile(PRIOR, (96, 1)))


def test_one_broken_day_does_not_decide_whom_the_blend_trusts() -> None:
    walked = walk_of(0.1, 1.0)
    kernel = walked.kernel.copy()
    kernel[40] += 100.0
    assert weights_for(replace(walked, kernel=kernel), 60 * 24, 0, Settings())[:, 0].min() > 0.8


def test_persistence_takes_a_day_over_within_weeks_of_doing_better_and_gives_it_back_as_soon() -> None:
    walked = walk_of(0.1, 1.0, 150)
    # From issue 80 to issue 119 the third day is the other way round: a drought, and its end.
    turned = (np.arange(150)[:, None] // 40 == 2) & (np.arange(96) // 24 == 2)
    kernel, persistence = walked.kernel.copy(), walked.persistence.copy()
    kernel[turned], persistence[turned] = walked.persistence[turned], walked.kernel[turned]
    walked = replace(walked, kernel=kernel, persistence=persistence)

    def persistence_at(issue: int) -> np.ndarray:
        return weights_for(walked, 24 * issue, 0, Settings())[:, 1].reshape(4, 24)

    for at in (82, 138, 149):
        assert persistence_at(at).max() < 0.3, at
    for at in range(101, 122, 5):
        assert persistence_at(at)[2].min() > 0.8, at
        assert persistence_at(at)[[0, 1, 3]].max() < 0.1, at


def test_the_blend_trusts_persistence_in_the_hours_of_day_in_which_it_is_never_wrong() -> None:
    walked = walk_of(0.5, 1.0)
    by_night = np.arange(96) % 24 < 6
    always_right = np.where(by_night, walked.outcome, walked.persistence)
    weights = weights_for(replace(walked, persistence=always_right), 60 * 24, 0, Settings())
    assert weights[by_night, 1].min() > 0.2
    assert weights[~by_night, 1].max() < 0.2
    # Five hours later it is still night at the same hours of day.
    later = weights_for(replace(walked, persistence=always_right), 60 * 24 + 5, 0, Settings())
    np.testing.assert_allclose(later, np.roll(weights.reshape(4, 24, 3), -5, axis=1).reshape(96, 3))


def test_quantiles_cover_what_they_claim_also_after_the_errors_have_doubled() -> None:
    rng = np.random.default_rng(11)
    scale = np.where(np.arange(240) < 140, 0.1, 0.2)[:, None]
    outcome = scale * rng.normal(size=(240, 96))
    hours = np.arange(240, dtype=np.int64) * 24
    bands = calibrate(hours, np.zeros((240, 96)), outcome, 0, Settings())
    inside = (bands[:, 1] <= outcome) & (outcome <= bands[:, 9])
    assert inside[60:140].mean() == pytest.approx(0.8, abs=0.03)
    assert inside[190:].mean() == pytest.approx(0.8, abs=0.06)


def test_the_width_of_a_range_is_judged_only_by_days_whose_range_was_learnt() -> None:
    errors = np.random.default_rng(13).normal(size=(40, 24))
    hours = np.arange(40, dtype=np.int64) * 24
    # Before there are errors to learn from the range is one that suits no unit.
    small, large = (calibrate(hours, 0.0 * errors, unit * errors, 0, Settings())[-1] for unit in (0.01, 10.0))
    np.testing.assert_allclose(large, 1000.0 * small)


def test_errors_tell_of_their_own_hour_of_day_and_of_two_to_either_side() -> None:
    outcome = np.full((40, 24), np.nan)
    outcome[:, 12] = np.random.default_rng(17).normal(size=40)
    # Each of these hours knows one error of its own, above the forecast.
    outcome[0, [9, 10, 14, 15]] = 1.0
    bands = calibrate(np.arange(40, dtype=np.int64) * 24, np.zeros((40, 24)), outcome, 0, Settings())[-1]
    assert np.flatnonzero(bands[0] < 0.0).tolist() == [10, 12, 14]
    assert np.isfinite(bands).all()


def test_past_errors_are_those_of_the_same_hours_of_day_drawn_to_how_soon_they_are() -> None:
    walked = walk_of(1.0, 1.0, issues=400)
    # Issued at 12 UTC, now at 15 UTC: noons err ten times as much as the other hours, and the first three hours half.
    clock, soon = (12 + np.arange(96)) % 24, np.arange(96) < 3
    error = (walked.kernel - walked.outcome) * np.where(clock == 16, 10.0, 1.0) * np.where(soon, 0.5, 1.0)
    hours = walked.issue_hours + 12
    hours[-1] += 3
    said, came = same_clock(replace(walked, issue_hours=hours), walked.outcome + error)
    size = np.sqrt(np.mean((said - came)[:-1] ** 2, axis=0))
    np.testing.assert_allclose(
        size, np.where((15 + np.arange(96)) % 24 == 16, 10.0, 1.0) * np.where(soon, 0.5, 1.0), rtol=0.2
    )
    np.testing.assert_array_equal(said[-1], (walked.outcome + error)[-1])
    # At an hour of day that past issues have, theirs are as they were.
    said, came = same_clock(replace(walked, issue_hours=walked.issue_hours), walked.kernel)
    np.testing.assert_allclose(said, walked.kernel)
    np.testing.assert_allclose(came, walked.outcome)


def test_where_two_histories_overlap_the_newer_one_holds(history: ZoneHistory) -> None:
    old = history.known_until(hour_of(UNTIL), hour_of(UNTIL)).since(hour_of(UNTIL) - 48)
    new = replace(
        history.known_until(hour_of(UNTIL) + 24, hour_of(UNTIL) + 24).since(hour_of(UNTIL) - 24),
        lifecycle_g_per_kwh=np.full(48, 7.0),
        weather=np.full((48, 5), np.nan),
    )
    both = spliced(old, new)
    assert (both.first_hour, both.n_hours) == (old.first_hour, 72)
    assert (both.lifecycle_g_per_kwh[24:] == 7.0).all()
    assert np.isfinite(both.lifecycle_g_per_kwh[:24]).all()
    assert np.isfinite(both.weather[:48, 0]).all()
