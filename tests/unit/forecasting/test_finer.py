# SPDX-License-Identifier: Apache-2.0
"""Quarters of an hour: learnt where a source tells them, used only where they beat the flat hour."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from embellie.telemetry.forecasts import parse_forecast
from embellie_forecast.documents import build, last_good
from embellie_forecast.exchange import FORECAST_LEVELS, ForecastDocument, Rung, parse_document, write_forecast
from embellie_forecast.factors import FloatArray, Scope
from embellie_forecast.finer import MARK, hourly, learn_shapes, refined
from embellie_forecast.models.targets import Target
from embellie_forecast.models.within_hour import learn_within_hour, own_step

NOW = datetime(2026, 6, 20, 12, 10, tzinfo=UTC)
QUARTER, HALF = timedelta(minutes=15), timedelta(minutes=30)


def quarters(days: int = 35, seed: int = 1) -> "pd.Series[float]":
    """An intensity that falls with the sun and steps up at every half past six, with noise."""
    index = pd.date_range(end=NOW.replace(minute=0) - QUARTER, periods=96 * days, freq="15min")
    h = np.asarray(index.hour + index.minute / 60.0, dtype=np.float64)
    noise = np.random.default_rng(seed).normal(size=len(index))
    values = 300.0 - 120.0 * np.maximum(0.0, np.sin(np.pi * (h - 6.0) / 12.0)) + 25.0 * (h >= 18.5)
    return pd.Series(values + noise, index=index)


def readings(values: "pd.Series[float]") -> pd.DataFrame:
    return pd.DataFrame({"ci_direct_g_per_kwh": values, "re_pct": 60.0 - values / 10.0, "estimated": False})


def document() -> ForecastDocument:
    """An hourly forecast of such a grid."""
    index = pd.date_range(NOW.replace(minute=0), periods=96 * 4, freq="15min")
    h = np.asarray(index.hour + index.minute / 60.0, dtype=np.float64)
    truth = 300.0 - 120.0 * np.maximum(0.0, np.sin(np.pi * (h - 6.0) / 12.0)) + 25.0 * (h >= 18.5)
    middle = truth.reshape(-1, 4).mean(axis=1)
    share = 0.6 - middle / 1000.0
    return build(
        zone="west",
        now=NOW,
        rung=Rung.LIVE,
        model_id="m",
        scope=Scope.DIRECT,
        carbon=np.stack([middle * 0.9, middle, middle * 1.15]),
        mean=middle * 1.01,
        share=np.stack([share - 0.05, share, share + 0.05]),
        ambient=np.stack([middle * 0 + 10, middle * 0 + 12, middle * 0 + 14]),
        marginal=np.stack([middle * 0, middle + 200, middle + 300]),
        generation_mw={"solar": 500.0 - middle},
    )


def test_the_step_is_the_one_in_which_a_source_really_tells() -> None:
    values = quarters(3)
    assert own_step(values) == QUARTER
    half_empty = values.where(np.asarray(values.index.minute) % 30 == 0)
    assert own_step(half_empty) == HALF
    assert own_step(values.resample("h").mean()) is None
    assert own_step(values.iloc[:0]) is None


def test_a_shape_takes_error_off_days_that_it_was_not_learnt_from() -> None:
    shape = learn_within_hour(quarters(), Target.DIRECT, QUARTER)
    assert shape is not None
    assert shape.gain > 0.5
    later = quarters(seed=2)
    hours = later.to_numpy().reshape(-1, 4).mean(axis=1)
    slots = shape.spread_out(hours, int(later.index[0].timestamp()) // 3600)
    assert slots.reshape(-1, 4).mean(axis=1) == pytest.approx(hours)
    assert np.abs(slots - later).mean() < 0.5 * np.abs(np.repeat(hours, 4) - later).mean()
    # What strays around the shape was nearly all noise of 1 g/kWh around 300: an 80 % range of 1.28 of it.
    assert shape.spread == pytest.approx(1.28 / 260.0, rel=0.4)


@pytest.mark.parametrize(
    "values",
    [
        quarters(10),
        quarters().resample("h").transform("mean"),
        pd.Series(np.random.default_rng(3).normal(300.0, 20.0, 96 * 35), index=quarters().index),
        quarters() * np.nan,
    ],
    ids=["ten days", "hours, repeated", "noise", "nothing"],
)
def test_without_something_to_gain_the_forecast_stays_hourly(values: "pd.Series[float]") -> None:
    assert learn_shapes(readings(values), "AverageDirect") is None


def test_a_hole_in_the_readings_teaches_no_slope() -> None:
    values = quarters()
    holed = values.drop(values.index[40 * 24 : 40 * 24 + 40])
    whole, rest = (learn_within_hour(v, Target.DIRECT, QUARTER) for v in (values, holed))
    assert whole is not None
    assert rest is not None
    assert rest.slope == pytest.approx(whole.slope, abs=0.02)


def test_refined_hours_keep_their_means_their_order_and_what_the_operator_reads() -> None:
    shapes = learn_shapes(readings(quarters()), "AverageDirect")
    assert shapes is not None
    made, whole = refined(document(), shapes), document()
    assert made.model_id == f"m{MARK}"
    read = parse_forecast(parse_document_again(made).to_json())
    assert (read.step, read.n_slots, read.end) == (QUARTER, 384, whole.start + timedelta(hours=96))
    assert hourly(made.carbon_g_per_kwh[1], QUARTER) == pytest.approx(whole.carbon_g_per_kwh[1], rel=1e-6)
    assert hourly(made.carbon_mean_g_per_kwh, QUARTER) == pytest.approx(whole.carbon_mean_g_per_kwh, rel=1e-3)
    # A quarter is less sure than its hour, and the marginal intensity has no part in the average.
    width, was = (one.carbon_g_per_kwh[2] - one.carbon_g_per_kwh[0] for one in (made, whole))
    assert (hourly(width, QUARTER) >= was - 1e-6).all()
    assert made.marginal_g_per_kwh is not None
    assert hourly(made.marginal_g_per_kwh[1], QUARTER) == pytest.approx(document().carbon_g_per_kwh[1] + 200)
    assert "carbonIntensityMarginalGramsPerKilowattHour" in made.to_json()


def parse_document_again(made: ForecastDocument) -> ForecastDocument:
    import json

    return parse_document(json.dumps(made.to_json()))


def test_what_is_left_of_a_forecast_in_quarters_is_still_good(tmp_path) -> None:  # type: ignore[no-untyped-def]
    shapes = learn_shapes(readings(quarters()), "AverageDirect")
    assert shapes is not None
    made = refined(document(), shapes)
    write_forecast(tmp_path, made)
    rest = last_good(tmp_path, "west", NOW + timedelta(hours=7))
    assert rest.step == QUARTER
    assert rest.carbon_mean_g_per_kwh.size == 4 * 89
    assert rest.carbon_mean_g_per_kwh[0] == pytest.approx(made.carbon_mean_g_per_kwh[28], abs=0.01)
    assert rest.marginal_g_per_kwh is not None
    assert rest.marginal_g_per_kwh.shape == (len(FORECAST_LEVELS), 4 * 89)


def test_a_calm_grid_near_zero_stays_in_its_limits() -> None:
    shapes = learn_shapes(readings(quarters()), "AverageDirect")
    assert shapes is not None
    low: FloatArray = np.full((3, 96), 0.5)
    made = refined(replace(document(), carbon_g_per_kwh=low, carbon_mean_g_per_kwh=low[0]), shapes)
    assert made.carbon_g_per_kwh.min() >= 0.0
    none: FloatArray = np.zeros((3, 96))
    empty = refined(replace(document(), carbon_g_per_kwh=none, carbon_mean_g_per_kwh=none[0]), shapes)
    assert empty.carbon_g_per_kwh.max() < 0.1
    full = refined(replace(document(), renewable_share=np.stack([none[0], none[0] + 0.5, none[0] + 1.0])), shapes)
    assert 0.0 <= full.renewable_share.min() <= full.renewable_share.max() <= 1.0
