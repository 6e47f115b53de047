# SPDX-License-Identifier: Apache-2.0
"""The model sees nothing that was not known at issue time, learns something, and is stored safely."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
import skops.io

from embellie_forecast import backtest, store
from embellie_forecast.calendar_model import predict_calendar, train_calendar
from embellie_forecast.calibration import ResidualBank, conformal_quantile, skill_percent, spread_at
from embellie_forecast.dataset import History, hour_of, load_carried
from embellie_forecast.features import HORIZON_HOURS, Delays, build, prepare
from embellie_forecast.model import Params, TooLittleDataError, TrainedModel, pairs, predict, train

TINY = Params(max_training_days=70, calibration_days=14, issue_stride_hours=5, max_iter=12, calendar_max_iter=6)
CUTOFF = hour_of(datetime(2021, 6, 30, 23, tzinfo=UTC))


@pytest.fixture(scope="module")
def history() -> History:
    return load_carried("US-PJM").known_until(CUTOFF + 40 * 24, CUTOFF + 40 * 24)


@pytest.fixture(scope="module")
def model(history: History) -> TrainedModel:
    return train(history, CUTOFF, TINY)


def rewritten_from(history: History, generation_hour: int, weather_hour: int) -> History:
    """The same past, and another future."""
    rng = np.random.default_rng(5)

    def scramble(values: np.ndarray, hour: int) -> np.ndarray:
        other = values.copy()
        at = hour - history.first_hour
        other[at:] = rng.permutation(other[at:]) * 0.5
        return other

    return replace(
        history,
        carbon_g_per_kwh=scramble(history.carbon_g_per_kwh, generation_hour),
        renewable_share=scramble(history.renewable_share, generation_hour),
        source_share={name: scramble(values, generation_hour) for name, values in history.source_share.items()},
        total_mw=scramble(history.total_mw, generation_hour),
        weather=scramble(history.weather, weather_hour),
    )


def features_at(history: History, issue: int, delays: Delays) -> np.ndarray:
    leads = np.arange(HORIZON_HOURS)
    return build(prepare(history), np.full(HORIZON_HOURS, issue), leads, delays)[0]


@pytest.mark.parametrize("hour_of_day", [0, 4, 5, 13, 23])
@pytest.mark.parametrize("delays", [Delays(), Delays(generation_hours=0, weather_hours=0), Delays(generation_hours=9)])
def test_features_never_see_what_is_published_after_the_issue(
    history: History, hour_of_day: int, delays: Delays
) -> None:
    issue = CUTOFF + 1 + hour_of_day
    run_day = issue // 24 if hour_of_day >= delays.weather_hours else issue // 24 - 1
    other = rewritten_from(history, issue - delays.generation_hours, (run_day + 1) * 24)
    assert np.array_equal(features_at(history, issue, delays), features_at(other, issue, delays), equal_nan=True)


def test_features_do_see_the_last_published_hour_and_run(history: History) -> None:
    issue = CUTOFF + 1 + 6
    now = features_at(history, issue, Delays())
    hour_less = features_at(rewritten_from(history, issue - 2, issue + 999), issue, Delays())
    run_less = features_at(rewritten_from(history, issue + 999, issue // 24 * 24 + 23), issue, Delays())
    assert not np.array_equal(now, hour_less, equal_nan=True)
    assert not np.array_equal(now, run_less, equal_nan=True)


def test_no_feature_of_days_two_to_four_is_weather_of_the_target_hour(history: History) -> None:
    issue = CUTOFF + 1 + 6
    issues, leads = pairs(np.array([issue]), 1)
    matrix, names = build(prepare(history), issues, leads, Delays())
    now = matrix[:, [names.index(name) for name in ("wx_wind", "wx_temp", "wx_sun", "wx_wind_change", "wx_sun_next")]]
    assert np.isfinite(now[:12]).all()
    assert np.isnan(now[18:]).all()


def test_training_never_sees_anything_from_the_cutoff_on(history: History, model: TrainedModel) -> None:
    other = train(rewritten_from(history, CUTOFF, CUTOFF), CUTOFF, TINY)
    assert np.array_equal(other.bank.log_carbon, model.bank.log_carbon)
    ours, theirs = (predict_at(history, m, CUTOFF + 25) for m in (model, other))
    assert np.array_equal(ours, theirs)


def predict_at(history: History, model: TrainedModel, issue: int) -> np.ndarray:
    issues, leads = pairs(np.array([issue]), 1)
    return predict(model.groups, prepare(history), issues, leads, model.params.delays).log_carbon


def test_calibration_errors_come_from_before_the_cutoff(model: TrainedModel) -> None:
    target = model.bank.issue_hour + model.bank.lead
    assert target.max() < CUTOFF
    assert model.bank.issue_hour.min() >= CUTOFF - 24 * TINY.calibration_days


def test_training_hours_of_day_are_not_skipped() -> None:
    params = Params()
    issues, leads = pairs(np.arange(0, 24 * 60, params.issue_stride_hours), params.lead_stride_hours)
    for first, last in ((0, 24), (24, 96)):
        inside = (leads >= first) & (leads < last)
        counts = np.bincount((issues + leads)[inside] % 24, minlength=24)
        assert counts.min() > 0.5 * counts.mean()


def test_too_little_history_is_refused(history: History) -> None:
    with pytest.raises(TooLittleDataError):
        train(history, history.first_hour + 24 * 50, TINY)
    with pytest.raises(TooLittleDataError):
        train(history, history.first_hour - 24, TINY)


def test_the_model_names_its_region_and_cutoff(model: TrainedModel) -> None:
    assert model.model_id == "hgb1-US-PJM-until-20210630T23Z"


def test_even_a_tiny_backtest_is_deterministic_and_its_quantiles_ordered(history: History) -> None:
    first = CUTOFF + 1
    scores, again = (backtest.run(history, first, first + 24 * 20, TINY) for _ in range(2))
    assert scores == again
    named = {score.name: score.values for score in scores}
    assert all(0 < value < 30 for value in named["MAPE, model"])
    assert all(50 < value <= 100 for value in named["coverage of 0.1-0.9"])
    assert all(value > 0 for value in named["width of 0.1-0.9"])
    assert "MAPE, persistence" in backtest.table(scores)


def test_a_calendar_model_needs_no_feed_and_knows_the_hour_of_day(history: History) -> None:
    calendar = train_calendar(history, CUTOFF, max_iter=30, seed=1)
    assert calendar is not None
    hours = np.arange(CUTOFF, CUTOFF + 24)
    carbon, share = predict_calendar(calendar, prepare(history.known_until(0, 0)), hours, 0)
    assert np.isfinite(carbon).all()
    assert np.isfinite(share).all()
    assert np.ptp(carbon) > 0.02
    assert (calendar.carbon_spread[0] < calendar.carbon_spread[2]).all()
    assert train_calendar(history, history.first_hour + 24 * 100, max_iter=3, seed=1) is None


def test_conformal_quantiles_cover_new_errors_at_least_as_often_as_promised() -> None:
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(2000):
        errors = rng.standard_normal(40)
        inside += conformal_quantile(errors[:39], 0.1) <= errors[39] <= conformal_quantile(errors[:39], 0.9)
    assert 0.78 < inside / 2000 < 0.84


def test_an_hour_with_few_errors_borrows_from_its_neighbours_in_lead() -> None:
    n = 40
    bank = ResidualBank(
        issue_hour=np.zeros(n, dtype=np.int64),
        lead=np.full(n, 5),
        log_carbon=np.linspace(-0.1, 0.1, n),
        logit_share=np.zeros(n),
        carbon_error=np.ones(n),
        persistence_error=np.full(n, 4.0),
    )
    spread = spread_at(bank, 0, np.array([5, 8, 90]))
    assert np.isfinite(spread.log_carbon).all()
    assert skill_percent(bank) == 75
    assert skill_percent(ResidualBank.empty()) is None


def test_a_stored_model_predicts_the_same_and_a_changed_file_is_refused(
    history: History, model: TrainedModel, tmp_path: Path
) -> None:
    key = store.cache_key(history, CUTOFF, TINY)
    path = store.save(tmp_path, key, model, None)
    loaded, calendar = store.load(tmp_path, key, "US-PJM", TINY)
    assert calendar is None
    assert np.array_equal(predict_at(history, loaded, CUTOFF + 5), predict_at(history, model, CUTOFF + 5))
    packed = bytearray(path.read_bytes())
    packed[len(packed) // 2] ^= 1
    path.write_bytes(packed)
    with pytest.raises(store.StoreError, match="differs from the hash"):
        store.load(tmp_path, key, "US-PJM", TINY)
    with pytest.raises(store.StoreError, match="no stored model"):
        store.load(tmp_path, "other", "US-PJM", TINY)


class Foreign:
    """A type that no model of ours holds."""


def test_a_stored_file_with_a_foreign_type_is_never_loaded(
    model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = skops.io.dumps
    monkeypatch.setattr(store.skops.io, "dumps", lambda state: honest({**state, "calendar": Foreign()}))
    store.save(tmp_path, "key", model, None)
    with pytest.raises(store.StoreError, match="cannot be used"):
        store.load(tmp_path, "key", "US-PJM", TINY)


def test_the_cache_key_follows_data_cutoff_and_parameters(history: History) -> None:
    key = store.cache_key(history, CUTOFF, TINY)
    others = {
        store.cache_key(history, CUTOFF + 1, TINY),
        store.cache_key(history, CUTOFF, replace(TINY, seed=1)),
        store.cache_key(replace(history, region="US-CISO"), CUTOFF, TINY),
    }
    assert key not in others
    assert len(others) == 3
    assert key == store.cache_key(history, CUTOFF, TINY)
