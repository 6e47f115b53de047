# SPDX-License-Identifier: Apache-2.0
"""Where belief in a feed ends: how long it may stand still, repeat a day, or leave the level of its last weeks."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from embellie_forecast.sources.guard import Believed, believe, believe_weather

NOW = datetime(2026, 6, 20, 12, 10, tzinfo=UTC)
JUDGED_HOURS = 71
"""Of the last 72 h, the hours that had begun and ended."""
DAYS = 20
HOURS = np.arange(24 * DAYS)
INDEX = pd.date_range(end=pd.Timestamp(NOW).floor("h") - pd.Timedelta(hours=1), periods=HOURS.size, freq="h")
WAVE = 300.0 + 50.0 * np.sin(HOURS / 4.1) + HOURS % 7 + HOURS / 997.0

LEVEL = (300.0 + HOURS % 7) / 30.0
"""Of a grid so clean that no change is a jump."""


def single(values: np.ndarray = WAVE) -> pd.DataFrame:
    return pd.DataFrame({"ci_direct_g_per_kwh": values}, index=INDEX)


def mix(**changes: np.ndarray) -> pd.DataFrame:
    columns = {"gen_natgas_mw": 9.0 * WAVE, "gen_hydro_mw": 3.0 * WAVE[::-1], "gen_oil_mw": 0.0 * WAVE}
    return pd.DataFrame(columns | changes, index=INDEX)


def held(values: np.ndarray, hours: int, ago: int = 0) -> np.ndarray:
    """The values, of which so many equal the first of them."""
    out = values.copy()
    stop = out.size - ago
    out[stop - hours : stop] = out[stop - hours]
    return out


def unknown(believed: Believed) -> int:
    return int(believed.frame.iloc[:, :2].isna().any(axis=1).sum())


@pytest.mark.parametrize(("hours", "refused"), [(11, 0), (12, 11)])
def test_one_number_may_stand_still_for_eleven_hours(hours: int, refused: int) -> None:
    found = believe(single(held(WAVE, hours)), now=NOW)
    assert unknown(found) == refused
    assert found.notes == ((f"the feed is frozen in {refused} of the last 72 h",) if refused else ())


@pytest.mark.parametrize(("hours", "refused"), [(3, 0), (4, 3)])
def test_a_mix_of_which_everything_that_moves_stands_still_is_frozen_after_four_hours(hours: int, refused: int) -> None:
    frame = mix()
    still = {name: held(frame[name].to_numpy(), hours) for name in frame}
    assert unknown(believe(mix(**still), now=NOW)) == refused
    one = {"gen_natgas_mw": still["gen_natgas_mw"]}
    assert unknown(believe(mix(**one), now=NOW)) == 0, "one of two that move may rest"


def test_hours_that_nobody_knows_end_a_run_of_equal_ones() -> None:
    gap = held(WAVE, 16)
    gap[-9] = np.nan
    assert believe(single(gap), now=NOW).notes == ()


def test_what_froze_before_the_last_three_days_is_left_alone() -> None:
    assert unknown(believe(single(held(WAVE, 30, ago=72)), now=NOW)) == 0
    # Of what began before them, the last three days only.
    assert unknown(believe(single(held(WAVE, 100)), now=NOW)) == JUDGED_HOURS


@pytest.mark.parametrize(("equal", "refused"), [(19, 0), (20, 20), (24, 24)])
def test_a_day_is_told_again_where_twenty_of_its_hours_equal_the_day_before(equal: int, refused: int) -> None:
    again = WAVE.copy()
    again[-equal:] = again[-24 - equal : -24]
    found = believe(single(again), now=NOW)
    assert unknown(found) == refused
    assert found.notes == ((f"the feed repeats the day before in {refused} of the last 72 h",) if refused else ())


def test_a_plant_that_rests_all_day_repeats_honestly() -> None:
    resting = WAVE - WAVE.min()
    resting[-60:] = 0.0
    assert believe(pd.DataFrame({"power_kw": resting}, index=INDEX), now=NOW).notes == ()


@pytest.mark.parametrize(("times", "believed"), [(1.9, True), (2.2, False), (0.6, True), (0.4, False)])
def test_an_hour_may_be_twice_or_half_of_what_the_weeks_before_were(times: float, believed: bool) -> None:
    moved = LEVEL.copy()
    moved[-1] *= times
    assert unknown(believe(single(moved), now=NOW)) == (0 if believed else 1)


@pytest.mark.parametrize(("times", "believed"), [(1.5, True), (1.7, False), (0.68, True), (0.58, False)])
def test_a_days_mean_may_be_one_and_six_tenths_of_what_the_weeks_before_were(times: float, believed: bool) -> None:
    moved = LEVEL.copy()
    moved[-48:] *= times
    found = believe(single(moved), now=NOW)
    if believed:
        assert found.notes == ()
    else:
        assert found.frame.iloc[-24:].isna().all(axis=None), "before a day has come it cannot be told"
        assert found.frame.iloc[:-48].notna().all(axis=None), "the hours before it are innocent"


def test_the_hours_after_an_absurd_day_are_innocent() -> None:
    moved = LEVEL.copy()
    moved[-27:-3] *= 1.9
    found = believe(single(moved), now=NOW).frame
    assert found.iloc[-3:].notna().all(axis=None)
    assert found.iloc[-8:-3].isna().all(axis=None), "once enough of the day was known"


def test_a_day_of_which_half_is_known_is_judged_and_an_hour_alone_is_no_measure() -> None:
    moved = LEVEL.copy()
    moved[-48:] *= 1.7
    moved[-48::2] = np.nan
    alone = slice(-200, -150)
    moved[alone] = np.nan
    moved[-175] = 1.6 * LEVEL[-175]
    assert believe(single(moved), now=NOW).frame.iloc[-24:].isna().all(axis=None)


def test_a_level_is_judged_by_two_weeks_at_least() -> None:
    moved = LEVEL.copy()
    moved[-1] = 25.0
    short = single(moved).iloc[-(JUDGED_HOURS + 14 * 24 - 1) :]
    assert unknown(believe(short, now=NOW)) == 0
    assert unknown(believe(single(moved).iloc[-(JUDGED_HOURS + 14 * 24) :], now=NOW)) == 1


def test_a_mix_whose_total_is_absurd_is_not_believed_though_its_intensity_is_usual() -> None:
    frame = mix()
    frame.iloc[-5:] *= 4.0
    found = believe(frame, now=NOW)
    assert unknown(found) == 5
    assert "the level is absurd against the weeks before in 5 of the last 72 h" in found.notes


def test_an_hour_that_lacks_a_source_has_no_absurd_total_and_the_others_are_believed() -> None:
    frame = mix()
    frame.loc[frame.index[-3], "gen_natgas_mw"] = np.nan
    found = believe(frame, now=NOW)
    assert found.notes == ()
    assert found.frame["gen_hydro_mw"].notna().all()


def test_what_the_last_day_is_contradicted_in_counts_that_day_only() -> None:
    ours, theirs = single(), single()
    ours.iloc[-60:-30] *= 1.5
    found = believe(ours, now=NOW, cross=theirs)
    assert (unknown(found), found.contradicted_hours) == (30, 0)


def test_weather_that_stands_still_for_four_hours_is_unknown() -> None:
    sky = pd.DataFrame({"wxfc_temp_c": WAVE / 20.0, "wxfc_wind_speed_ms": WAVE / 60.0}, index=INDEX)
    assert believe_weather(sky).notes == ()
    sky.iloc[100:104] = sky.iloc[100].to_numpy()
    found = believe_weather(sky)
    assert np.flatnonzero(found.frame.isna().all(axis=1)).tolist() == [101, 102, 103]
    assert found.notes == ("the weather forecast is frozen in 3 h",)


def test_a_frame_without_a_measurement_is_returned_as_it_is() -> None:
    sky = pd.DataFrame({"wxfc_temp_c": WAVE}, index=INDEX)
    found = believe(sky, now=NOW, cross=single())
    assert found.frame is sky
    assert not found.cross_checked
