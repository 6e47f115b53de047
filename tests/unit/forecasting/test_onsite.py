# SPDX-License-Identifier: Apache-2.0
"""On-site solar and wind: weather to power, and what a meter may and may not change."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from embellie_forecast.exchange import Rung
from embellie_forecast.onsite.correction import RATIO_BOUNDS, learn
from embellie_forecast.onsite.forecast import Past, forecast_plant
from embellie_forecast.onsite.plants import SolarPlant, WindPlant

ROOF = SolarPlant(latitude=48.9, longitude=2.4, peak_kw=100.0, tilt_deg=20.0, azimuth_deg=180.0)
HILL = WindPlant(peak_kw=1000.0, hub_height_m=100.0)
START = datetime(2026, 6, 20, tzinfo=UTC)


def days(first: datetime, count: int) -> pd.DatetimeIndex:
    return pd.date_range(first, periods=24 * count, freq="h")


def clear(index: pd.DatetimeIndex) -> pd.DataFrame:
    return ROOF.clear_sky(index, 1.0).assign(wxfc_wind_speed_ms=3.0)


def changing(index: pd.DatetimeIndex) -> pd.DataFrame:
    """Weather of some cloudy and some clear days."""
    sky = 0.55 + 0.35 * np.sin(np.arange(len(index)) // 24 * 1.7)
    wind = 8.0 + 4.0 * np.sin(np.arange(len(index)) / 19.0)
    weather = clear(index)
    return weather.assign(wxfc_dswrf_wm2=weather["wxfc_dswrf_wm2"] * sky, wxfc_wind_speed_ms=wind)


def test_a_clear_midsummer_day_yields_what_is_known_of_such_roofs() -> None:
    power = ROOF.power_kw(clear(days(START, 1)))
    assert power.idxmax().hour in {11, 12}
    assert power.max() <= 100.0
    assert power[power.index.hour < 3].eq(0.0).all()
    # PVGIS: about 6.5 to 7.5 kWh a day per kWp on clear June days near Paris; panels are 15 % larger than the inverter.
    assert 6.3 < power.sum() / (100.0 * 1.15) < 8.0


def test_panels_that_face_east_peak_in_the_morning() -> None:
    east = SolarPlant(latitude=48.9, longitude=2.4, peak_kw=100.0, tilt_deg=35.0, azimuth_deg=90.0)
    assert east.power_kw(clear(days(START, 1))).idxmax().hour < ROOF.power_kw(clear(days(START, 1))).idxmax().hour


def test_wind_power_follows_the_curve_and_stops_in_a_storm() -> None:
    index = days(START, 1)[:6]
    weather = pd.DataFrame({"wxfc_wind_speed_100m_ms": [0.0, 3.0, 8.0, 16.0, 32.0, np.nan]}, index=index)
    still, weak, fair, full, storm, unknown = HILL.power_kw(weather)
    assert still < 0.1
    assert weak < fair < full == pytest.approx(900.0, rel=0.02)
    assert storm < 10.0
    assert np.isnan(unknown)


def test_wind_at_ten_metres_is_raised_to_the_hub() -> None:
    low = pd.DataFrame({"wxfc_wind_speed_ms": [6.0]}, index=days(START, 1)[:1])
    high = pd.DataFrame({"wxfc_wind_speed_100m_ms": [6.0 * 10 ** (1 / 7)]}, index=days(START, 1)[:1])
    assert HILL.power_kw(low).iloc[0] == pytest.approx(HILL.power_kw(high).iloc[0])


def past(plant: SolarPlant | WindPlant, truth: float = 0.7, count: int = 40) -> Past:
    index = days(START - pd.Timedelta(days=count), count)
    weather = changing(index)
    noise = np.random.default_rng(7).normal(1.0, 0.05, len(index))
    metered = (plant.power_kw(weather) * truth * noise).clip(0.0, plant.peak_kw)
    return Past(weather_by_day={1: weather}, metered_kw=metered)


@pytest.mark.parametrize("plant", [ROOF, HILL], ids=["solar", "wind"])
def test_the_meter_corrects_a_plant_that_delivers_less_than_it_should(plant: SolarPlant | WindPlant) -> None:
    weather = changing(days(START, 4))
    truth = plant.power_kw(weather) * 0.7
    found = forecast_plant("p", plant, start=START, slots=96, weather=weather, past=past(plant))
    blind = forecast_plant("p", plant, start=START, slots=96, weather=weather, past=None)
    assert found.rung is Rung.LIVE
    assert blind.rung is Rung.CALENDAR
    assert np.abs(found.power_kw[1] - truth).mean() < 0.3 * np.abs(blind.power_kw[1] - truth).mean()
    assert (np.diff(found.power_kw, axis=0) >= 0.0).all()
    inside = (found.power_kw[0] - 0.5 <= truth) & (truth <= found.power_kw[2] + 0.5)
    assert inside.mean() > 0.7


@pytest.mark.parametrize("lie", [0.0, 1e6, np.nan, -50.0], ids=["dead", "absurd", "silent", "negative"])
def test_a_meter_that_lies_moves_the_forecast_only_within_bounds(lie: float) -> None:
    honest = past(ROOF, truth=1.0)
    lying = honest.metered_kw.copy()
    lying[lying.index >= lying.index[-1] - pd.Timedelta(days=20)] = lie
    lessons = learn({1: ROOF.power_kw(honest.weather_by_day[1])}, lying, ROOF.peak_kw)
    assert (lessons.ratio >= RATIO_BOUNDS[0]).all()
    assert (lessons.ratio <= RATIO_BOUNDS[1]).all()
    weather = changing(days(START, 4))
    found = forecast_plant(
        "p",
        ROOF,
        start=START,
        slots=96,
        weather=weather,
        past=Past(weather_by_day=honest.weather_by_day, metered_kw=lying),
    )
    assert np.isfinite(found.power_kw).all()
    assert found.power_kw.min() >= 0.0
    assert found.power_kw.max() <= ROOF.peak_kw


def test_the_range_holds_four_of_five_hours_with_light_at_dawn_and_dusk_too() -> None:
    index = days(START - pd.Timedelta(days=90), 90)
    sun = np.maximum(0.0, np.sin(2 * np.pi * (index.hour - 6) / 24))
    modelled = pd.Series(100.0 * sun, index=index)
    noise = np.random.default_rng(3).uniform(0.3, 1.0, 90).repeat(24)
    lessons = learn({1: modelled}, modelled * noise, peak_kw=100.0)
    inside = []
    for day in range(62, 90, 3):
        # What lies at and after the day is not looked at for it.
        ahead = slice(24 * day, 24 * day + 24)
        middle = pd.Series(0.65 * modelled.to_numpy()[ahead], index=index[ahead])
        low, _, high = lessons.quantiles_kw(middle, 100.0, 30)
        assert high[:6].max() == 0.0
        truth = (modelled * noise).to_numpy()[ahead]
        inside.append((low <= truth + 1e-9) & (truth <= high + 1e-9))
        # One hour after sunrise and one before sunset.
        assert high[7] - low[7] > 5.0
        assert high[17] - low[17] > 5.0
    assert 0.6 <= np.mean([row[7:18] for row in inside]) <= 0.95


def test_stray_readings_of_a_few_nights_do_not_make_every_night_bright() -> None:
    index = days(START - pd.Timedelta(days=90), 90)
    modelled = pd.Series(100.0 * np.maximum(0.0, np.sin(2 * np.pi * (index.hour - 6) / 24)), index=index)
    metered = modelled * np.random.default_rng(3).uniform(0.3, 1.0, 90).repeat(24)
    # As a real feed did: for three whole nights it said two percent of the peak.
    strayed = metered.where((metered > 0.0) | ~np.isin(np.arange(len(index)) // 24, (40, 55, 70)), 2.0)
    middle = 0.65 * modelled.iloc[24 * 88 : 24 * 89]
    honest, stray = (learn({1: modelled}, known, 100.0).quantiles_kw(middle, 100.0, 30) for known in (metered, strayed))
    assert stray[:, :5].max() <= 0.5
    # What nights err is not what days err.
    np.testing.assert_array_equal(stray[:, 9:16], honest[:, 9:16])
    # A lamp that burns every night is another matter.
    lamp = learn({1: modelled}, metered.where(metered > 0.0, 2.0), 100.0)
    every_night = pd.Series(lamp.middle_kw(modelled.iloc[24 * 88 : 24 * 89], 100.0), index=middle.index)
    assert lamp.quantiles_kw(every_night, 100.0, 30)[0, :5].min() > 1.0


def test_what_a_plant_delivers_by_night_is_taken_from_its_meter_however_good_the_weather_is_by_day() -> None:
    index = days(START - pd.Timedelta(days=40), 40)
    modelled = pd.Series(100.0 * np.maximum(0.0, np.sin(2 * np.pi * (index.hour - 6) / 24)), index=index)
    # Salt that stores heat: more of it every night.
    stored = pd.Series(np.arange(len(index)) / 48.0, index=index)
    by_day = modelled * np.random.default_rng(3).uniform(0.9, 1.1, len(index))
    lessons = learn({1: modelled}, by_day.where(modelled > 0.0, stored).clip(upper=100.0), peak_kw=100.0)
    ahead = modelled.iloc[:24].set_axis(days(START, 1))
    middle = lessons.middle_kw(ahead, 100.0)
    np.testing.assert_allclose(middle[:6], stored.iloc[-24:-18])
    assert np.abs(middle[8:17] - ahead.iloc[8:17]).max() < 8.0


def test_the_future_meter_does_not_move_the_range() -> None:
    index = days(START - pd.Timedelta(days=40), 40)
    modelled = pd.Series(100.0 * np.maximum(0.0, np.sin(2 * np.pi * (index.hour - 6) / 24)), index=index)
    metered = modelled * np.random.default_rng(3).uniform(0.3, 1.0, 40).repeat(24)
    lessons = learn({1: modelled}, metered, peak_kw=100.0)
    past = lessons.guesses_by_day[1]
    later = past.assign(truth=past["truth"].where(past.index < index[24 * 30], 1.0))
    middle = modelled.iloc[24 * 30 : 24 * 31]
    one, two = (replace(lessons, guesses_by_day={1: known}).quantiles_kw(middle, 100.0, 30) for known in (past, later))
    np.testing.assert_array_equal(one, two)


def test_wind_learns_its_range_from_two_months_and_the_sun_from_one() -> None:
    index = days(START - pd.Timedelta(days=60), 60)
    stormy = np.arange(len(index)) < 24 * 30
    error = np.random.default_rng(3).normal(0.0, np.where(stormy, 0.2, 0.02), len(index))
    lessons = learn({1: pd.Series(50.0, index=index)}, pd.Series(50.0 + 0.0 * error, index=index), peak_kw=100.0)
    past = pd.DataFrame({"guess": 0.5, "truth": np.clip(0.5 + error, 0.0, 1.0)}, index=index)
    middle = pd.Series(50.0, index=days(START, 1))
    known = replace(lessons, guesses_by_day={1: past})
    wind, sun = (known.quantiles_kw(middle, 100.0, plant.alike_days) for plant in (HILL, ROOF))
    assert (wind[-1] - wind[0]).mean() > 2.0 * (sun[-1] - sun[0]).mean()


def test_without_weather_the_sun_still_rises_and_the_range_is_wide() -> None:
    roof = forecast_plant("roof", ROOF, start=START, slots=96, weather=None, past=None)
    hill = forecast_plant("hill", HILL, start=START, slots=96, weather=None, past=None)
    assert roof.rung is Rung.CLIMATOLOGY
    assert roof.power_kw[1].reshape(4, 24)[:, 12].min() > 20.0
    assert roof.power_kw[:, 0].max() == 0.0
    assert hill.rung is Rung.NEUTRAL
    assert np.ptp(hill.power_kw[2] - hill.power_kw[0]) == 0.0


def test_weather_that_ends_early_is_followed_by_the_usual_range() -> None:
    found = forecast_plant("roof", ROOF, start=START, slots=96, weather=clear(days(START, 2)), past=None)
    usual = forecast_plant("roof", ROOF, start=START, slots=96, weather=None, past=None)
    assert np.allclose(found.power_kw[:, 48:], usual.power_kw[:, 48:])
    assert not np.allclose(found.power_kw[:, :48], usual.power_kw[:, :48])


def test_hours_without_radiation_are_unknown_not_dark() -> None:
    weather = clear(days(START, 1))
    weather.iloc[12, 0] = np.nan
    power = ROOF.power_kw(weather)
    assert np.isnan(power.iloc[12])
    assert power.iloc[11] > 50.0
