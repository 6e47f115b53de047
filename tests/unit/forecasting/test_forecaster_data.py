# SPDX-License-Identifier: Apache-2.0
"""The carried grid data, its validation, and what is computed from it."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from embellie_forecast import history_files
from embellie_forecast.believable import Problem
from embellie_forecast.climate import climatology
from embellie_forecast.factors import (
    DIRECT_EIA,
    LIFECYCLE_AR5,
    RENEWABLE_SOURCES,
    SOURCES,
    Scope,
    carbon_intensity_g_per_kwh,
    renewable_share,
)
from embellie_forecast.feeds import ReplayFeed
from embellie_forecast.history import WEATHER_COLUMNS, HistoryError, ZoneHistory, hour_of, instant_of
from embellie_forecast.history_files import load_carried, read_history
from embellie_forecast.zones import Zone

REGIONS = ("US-CISO", "US-PJM")


def frame(hours: int = 24 * 40) -> pd.DataFrame:
    """A plausible grid: gas follows the day, wind wanders."""
    index = pd.date_range("2022-03-01", periods=hours, freq="h", tz="UTC")
    day = np.sin(2 * np.pi * np.arange(hours) / 24)
    return pd.DataFrame(
        {
            "gen_natgas_mw": 5000 + 1000 * day + np.arange(hours) % 7,
            "gen_wind_mw": 2000 + np.arange(hours) % 11,
            "wxfc_temp_c": 15 + 5 * day,
        },
        index=index,
    )


def test_every_source_has_a_factor_in_both_sets() -> None:
    assert set(LIFECYCLE_AR5.grams_per_kwh) == set(DIRECT_EIA.grams_per_kwh) == set(SOURCES)
    assert set(SOURCES) > RENEWABLE_SOURCES


def test_intensity_of_half_coal_half_wind_is_the_mean_of_their_factors() -> None:
    mix = {"coal": np.array([10.0]), "wind": np.array([10.0])}
    assert carbon_intensity_g_per_kwh(mix, LIFECYCLE_AR5)[0] == pytest.approx((820 + 11) / 2)
    assert carbon_intensity_g_per_kwh(mix, DIRECT_EIA)[0] == pytest.approx(380)
    assert renewable_share(mix)[0] == pytest.approx(0.5)


def test_nothing_generated_is_unknown_not_clean() -> None:
    dark = {"coal": np.array([0.0]), "wind": np.array([0.0])}
    assert np.isnan(carbon_intensity_g_per_kwh(dark, LIFECYCLE_AR5)[0])
    assert np.isnan(renewable_share(dark)[0])


@pytest.mark.parametrize("region", REGIONS)
def test_carried_history_is_hourly_utc_without_a_jump_at_daylight_saving(region: str) -> None:
    history = load_carried(region)
    assert instant_of(history.first_hour) == datetime(2019, 1, 1, tzinfo=UTC)
    assert history.n_hours == hour_of(datetime(2023, 1, 3, tzinfo=UTC)) - history.first_hour
    assert np.isfinite(history.lifecycle_g_per_kwh).mean() > 0.999
    assert np.nanmin(history.lifecycle_g_per_kwh) > 11
    assert np.nanmax(history.lifecycle_g_per_kwh) < 820
    assert 0 <= np.nanmin(history.renewable_share) <= np.nanmax(history.renewable_share) <= 1


def test_ciso_solar_noon_stays_in_its_hour_across_the_label_change() -> None:
    history = load_carried("US-CISO")

    def solar_noon(first: str, days: int) -> float:
        begin = hour_of(datetime.fromisoformat(first).replace(tzinfo=UTC)) + 10 - history.first_hour
        share = history.generation_mw["solar"]
        block = np.nan_to_num(share[begin : begin + 24 * days].reshape(days, 24))
        return float((block * np.arange(10, 34)).sum() / block.sum())

    # Unshifted, the labels jump by 0.7 h; whole hours bring that down to 0.3 h.
    before = solar_noon("2022-06-01", 13)
    assert solar_noon("2022-06-16", 14) == pytest.approx(before, abs=0.35)
    assert solar_noon("2022-06-14", 1) == pytest.approx(before, abs=0.35)


@pytest.mark.parametrize("region", REGIONS)
def test_carried_weather_stands_at_the_hour_that_it_describes(region: str) -> None:
    history = load_carried(region)
    sun = history.weather[:, WEATHER_COLUMNS.index("wxfc_dswrf_wm2")]
    year = slice(365 * 24, 2 * 365 * 24)
    solar = pd.Series(history.generation_mw["solar"][year])
    agreement = {k: solar.corr(pd.Series(np.roll(sun, k)[year])) for k in (-25, -24, -23, -1, 0, 1, 23, 24, 25)}
    assert max(agreement, key=lambda moved: agreement[moved]) == 0
    at_night = (history.first_hour + np.arange(history.n_hours)) % 24 == {"US-CISO": 7, "US-PJM": 4}[region]
    assert np.nanmax(sun[at_night]) < 5.0


def test_a_replay_knows_the_weather_of_the_runs_that_were_out_and_no_later() -> None:
    feed, zone = ReplayFeed(), Zone(name="east", grid_region="US-PJM")

    def known_until(moment: datetime) -> datetime:
        history = feed.history(zone, moment).history
        return instant_of(history.first_hour + int(np.flatnonzero(np.isfinite(history.weather).all(axis=1))[-1]) + 1)

    day = datetime(2022, 8, 3, tzinfo=UTC)
    assert known_until(day + timedelta(hours=4, minutes=59)) == day + timedelta(days=1)
    assert known_until(day + timedelta(hours=5)) == day + timedelta(days=2)


def test_carried_data_hold_no_column_under_foreign_terms() -> None:
    folder = Path(history_files.__file__).parent / "data"
    for region in REGIONS:
        columns = pd.read_csv(folder / f"{region}.csv.gz", nrows=1).columns
        assert all(column.startswith(("timestamp_utc", "gen_", "wxfc_")) for column in columns)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4 * 2**20


@pytest.mark.skipif(not os.environ.get("EMBELLIE_DATA"), reason="EMBELLIE_DATA does not name the project's data folder")
@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize(("scope", "column"), [(Scope.LIFECYCLE, "lifecycle"), (Scope.DIRECT, "direct")])
def test_factors_reproduce_the_published_series(region: str, scope: Scope, column: str) -> None:
    path = Path(os.environ["EMBELLIE_DATA"]) / "grid" / f"{region}.csv.gz"
    published = pd.read_csv(path, index_col="timestamp_utc", parse_dates=True)[f"ci_{column}_g_per_kwh"]
    ours = load_carried(region)
    values = ours.lifecycle_g_per_kwh if scope is Scope.LIFECYCLE else ours.direct_g_per_kwh
    end = hour_of(datetime(2022, 6, 14, tzinfo=UTC)) - ours.first_hour
    difference = np.abs(values[:end] - published.to_numpy()[:end])
    assert np.nanmax(difference) < 0.05


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (np.nan, Problem.MISSING),
        (-500.0, Problem.NEGATIVE),
        (-1.7e308, Problem.NEGATIVE),
        (1e9, Problem.ABSURD),
        (1.7e308, Problem.ABSURD),
        (np.inf, Problem.MISSING),
    ],
)
def test_an_unbelievable_hour_is_flagged_and_unknown(value: float, problem: Problem) -> None:
    data = frame()
    data.iloc[100, 0] = value
    history = ZoneHistory.from_frame(data, zone="test")
    assert history.problems[100] == problem.value
    assert np.isnan(history.lifecycle_g_per_kwh[100])
    assert np.isfinite(history.lifecycle_g_per_kwh[99])


def test_numbers_as_large_as_they_get_are_unknown_in_every_source_at_once() -> None:
    data = frame(96).astype(float)
    data.iloc[10:80, 0:2] = 1.7e308
    history = ZoneHistory.from_frame(data, zone="test")
    assert set(history.problems[10:13]) == {Problem.ABSURD.value}
    assert np.isnan(history.lifecycle_g_per_kwh[10:80]).all()
    assert np.isfinite(history.lifecycle_g_per_kwh[80:]).all()


def test_a_frozen_feed_is_flagged_from_its_fourth_equal_hour() -> None:
    data = frame()
    data.iloc[200:210, 0:2] = (5000.0, 2000.0)
    flags = ZoneHistory.from_frame(data, zone="test").problems[198:212]
    assert flags == ("",) * 5 + (Problem.FROZEN.value,) * 7 + ("",) * 2


def test_a_frozen_hour_is_flagged_by_what_had_been_told_then_and_by_nothing_later() -> None:
    data = frame()
    data.iloc[200:210, 0:2] = (5000.0, 2000.0)
    data.iloc[:60] = data.iloc[0].to_numpy()
    whole = ZoneHistory.from_frame(data, zone="test").problems
    for hours in (50, 62, 201, 203, 204, 209, 211):
        assert ZoneHistory.from_frame(data.iloc[:hours], zone="test").problems == whole[:hours]


def test_a_source_that_will_move_one_day_does_not_tell_of_hours_in_which_one_alone_moved() -> None:
    data = frame()
    data.iloc[:150, 1] = 2000.0
    data.iloc[100:106, 0] = 5000.0
    assert set(ZoneHistory.from_frame(data, zone="test").problems) == {""}


@pytest.mark.parametrize(("times", "problem"), [(0.15, Problem.ABSURD), (0.25, ""), (4.0, ""), (6.0, Problem.ABSURD)])
def test_a_total_may_be_a_fifth_or_five_times_of_what_is_usual(times: float, problem: str) -> None:
    data = frame().astype(float)
    data.iloc[900, :2] *= times
    assert ZoneHistory.from_frame(data, zone="test").problems[899:902] == ("", problem, "")


def test_the_only_source_that_moves_may_stand_still_for_eleven_hours() -> None:
    data = frame()[["gen_natgas_mw"]].assign(gen_hydro_mw=500.0)
    for hours, flagged in ((11, 0), (12, 1)):
        data.iloc[200 : 200 + hours, 0] = 5000.0
        assert ZoneHistory.from_frame(data, zone="test").problems.count(Problem.FROZEN.value) == flagged


def test_a_source_that_is_told_no_more_or_not_yet_costs_no_hour_and_a_hole_does() -> None:
    data = frame().assign(gen_nuclear_mw=900.0, gen_geothermal_mw=300.0)
    data.iloc[-200:, data.columns.get_loc("gen_nuclear_mw")] = np.nan
    data.iloc[:700, data.columns.get_loc("gen_geothermal_mw")] = np.nan
    data.iloc[400:472, data.columns.get_loc("gen_wind_mw")] = np.nan
    data.iloc[500:600] = np.nan
    history = ZoneHistory.from_frame(data, zone="test")
    assert history.problems[399:473] == ("", *[Problem.MISSING.value] * 72, "")
    assert history.problems[:400] == ("",) * 400, "before the geothermal plant was built"
    assert history.problems[-200:] == ("",) * 200, "after the nuclear plant was closed"
    assert (history.generation_mw["nuclear"][-200:] == 0.0).all()
    assert np.isnan(history.lifecycle_g_per_kwh[500:600]).all(), "where no source is told, none counts as closed"
    assert any("gen_nuclear_mw" in note and "gen_geothermal_mw" in note for note in history.notes)


def test_a_large_source_that_nothing_replaces_is_missing_or_renamed_and_not_closed() -> None:
    data = frame().assign(gen_nuclear_mw=900.0)
    data.iloc[-200:, data.columns.get_loc("gen_natgas_mw")] = np.nan
    assert np.isnan(ZoneHistory.from_frame(data, zone="test").lifecycle_g_per_kwh[-200:]).all()


def test_station_use_at_night_counts_as_zero() -> None:
    data = frame().assign(gen_solar_mw=-12.0)
    assert np.isfinite(ZoneHistory.from_frame(data, zone="test").lifecycle_g_per_kwh).all()


def test_absurd_weather_is_unknown() -> None:
    data = frame()
    data.iloc[7, 2] = 999.0
    assert np.isnan(ZoneHistory.from_frame(data, zone="test").weather[7, 1])


@pytest.mark.parametrize(
    "index",
    [
        pd.date_range("2022-03-01", periods=48, freq="h"),
        pd.date_range("2022-03-01", periods=48, freq="h", tz="Europe/Paris"),
        pd.date_range("2022-03-01", periods=48, freq="30min", tz="UTC"),
        pd.DatetimeIndex(["2022-03-01T00:00Z"] * 48),
    ],
)
def test_an_index_that_is_not_whole_utc_hours_is_refused(index: pd.DatetimeIndex) -> None:
    with pytest.raises(HistoryError, match="timestamp_utc"):
        ZoneHistory.from_frame(frame(48).set_axis(index, axis=0), zone="test")


def test_an_unknown_region_is_refused_by_name() -> None:
    with pytest.raises(HistoryError, match="'XX'; carried: US-CISO, US-PJM"):
        load_carried("XX")


def test_a_carried_file_that_differs_from_its_manifest_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = dict(history_files.manifest()["US-PJM"], sha256="0" * 64)
    monkeypatch.setattr(history_files, "manifest", lambda: {"US-PJM": entry})
    with pytest.raises(HistoryError, match="differs from its manifest"):
        load_carried("US-PJM")


def test_history_known_until_an_hour_knows_nothing_after_it() -> None:
    history = ZoneHistory.from_frame(frame(), zone="test")
    cut = history.known_until(history.first_hour + 100, history.first_hour + 120)
    assert cut.n_hours == 120
    assert np.isfinite(cut.lifecycle_g_per_kwh[:100]).all()
    assert np.isnan(cut.lifecycle_g_per_kwh[100:]).all()
    assert np.isnan(cut.total_mw[100:]).all()
    assert all(np.isnan(values[100:]).all() for values in cut.generation_mw.values())
    assert np.isfinite(cut.weather[:120, 1]).all()
    assert set(cut.problems[100:]) == {Problem.MISSING.value}


def test_what_is_usual_at_a_moment_knows_nothing_after_it() -> None:
    history = load_carried("US-CISO")
    cutoff = history.first_hour + 2 * 8766
    known = history.known_until(cutoff, cutoff)
    one, two = (climatology(h, h.lifecycle_g_per_kwh, cutoff) for h in (history, known))
    assert one is not None
    assert two is not None
    np.testing.assert_array_equal(one.carbon, two.carbon)


def test_hours_since_1970_and_instants_are_inverse() -> None:
    moment = datetime(2022, 9, 5, 13, 59, tzinfo=UTC)
    assert instant_of(hour_of(moment)) == moment - timedelta(minutes=59)


def test_a_file_may_be_csv_or_parquet_and_both_mean_the_same(tmp_path: Path) -> None:
    data = frame(72).rename_axis("timestamp_utc").reset_index()
    data.to_parquet(tmp_path / "XX-A.parquet")
    data.assign(timestamp_utc=data["timestamp_utc"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")).to_csv(tmp_path / "XX-A.csv.gz")
    one, two = read_history(tmp_path / "XX-A.parquet"), read_history(tmp_path / "XX-A.csv.gz")
    assert one.zone == two.zone == "XX-A"
    np.testing.assert_allclose(one.lifecycle_g_per_kwh, two.lifecycle_g_per_kwh)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hour,gen_natgas_mw\n1,2\n", "timestamp_utc is missing"),
        ("timestamp_utc,gen_natgas_mw\n2021-01-01T00:00:00,2\n", "has no time zone"),
        ("timestamp_utc,gen_natgas_mw\nyesterdayZ,2\n", "is no date"),
        ("timestamp_utc,price\n2021-01-01T00:00:00Z,2\n", "no usable column"),
        ("timestamp_utc,gen_natgas_mw\n", "no rows"),
        ("", "is empty: its first line must name the columns"),
        ("timestamp_utc,gen_natgas_mw\n1021-01-01T00:00:00Z,2\n2021-01-01T00:00:00Z,2\n", "mistyped year"),
        ("timestamp_utc,gen_natgas_mw\n2021-01-01T00:00:00Z,2\n2021-01-01T00:00:00Z,3\n", "occurs twice.*local times"),
    ],
)
def test_a_broken_file_is_refused_with_what_to_mend(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "XX.csv").write_text(text)
    with pytest.raises(HistoryError, match=said):
        read_history(tmp_path / "XX.csv")


def test_what_can_be_mended_is_mended_and_said() -> None:
    data = frame(96)
    shuffled = pd.concat([data.iloc[50:], data.iloc[:40], data.iloc[:3]]).assign(gen_fusion_mw=1.0)
    history = ZoneHistory.from_frame(shuffled, zone="test")
    assert history.n_hours == 96
    assert np.isnan(history.lifecycle_g_per_kwh[40:50]).all()
    text = " ".join(history.notes)
    assert all(word in text for word in ("repeated", "out of order", "10 hours are missing", "gen_fusion_mw"))


def test_an_intensity_that_cannot_be_is_unknown_and_counted() -> None:
    data = frame(96).assign(ci_lifecycle_g_per_kwh=300.0)
    data.iloc[5:8, -1] = (0.0, -5.0, 1e9)
    history = ZoneHistory.from_frame(data, zone="test")
    assert np.isnan(history.lifecycle_g_per_kwh[5:8]).all()
    assert any("3 values" in note for note in history.notes)


@pytest.mark.parametrize("column", ["ci_lifecycle_g_per_kwh", "ci_direct_g_per_kwh"])
def test_an_intensity_that_its_own_generation_does_not_make_is_asked_about(column: str) -> None:
    told = ZoneHistory.from_frame(frame(96), zone="test")
    computed = told.direct_g_per_kwh if column == "ci_direct_g_per_kwh" else told.lifecycle_g_per_kwh
    for factor, asked in ((1.0, False), (0.6, False), (2.2046, True), (0.001, True)):
        notes = " ".join(ZoneHistory.from_frame(frame(96).assign(**{column: factor * computed}), zone="test").notes)
        assert ("another unit" in notes) is asked, notes


def test_an_intensity_that_stands_still_for_days_is_told() -> None:
    index = pd.date_range("2021-01-01", periods=240, freq="h", tz="UTC")
    values = 300.0 + 50.0 * np.sin(np.arange(240) / 3.0)
    values[20:40], values[100:172] = 312.0, 280.0
    values[130] = np.nan
    history = ZoneHistory.from_frame(pd.DataFrame({"ci_direct_g_per_kwh": values}, index=index), zone="x")
    assert any("stands still" in note and " 71 " in note for note in history.notes), history.notes
    np.testing.assert_array_equal(history.direct_g_per_kwh, values)


def test_an_intensity_that_is_the_same_before_and_after_hours_that_nobody_knows_did_not_stand_still() -> None:
    index = pd.date_range("2021-01-01", periods=240, freq="h", tz="UTC")
    values = 300.0 + 50.0 * np.sin(np.arange(240) / 3.0)
    values[40:160] = np.nan
    values[28:40] = values[160:172] = 312.0
    assert not ZoneHistory.from_frame(pd.DataFrame({"ci_direct_g_per_kwh": values}, index=index), zone="x").notes


def test_a_renewable_share_that_is_told_as_a_fraction_is_asked_about() -> None:
    index = pd.date_range("2021-01-01", periods=48, freq="h", tz="UTC")
    said = {
        scale: ZoneHistory.from_frame(
            pd.DataFrame({"re_pct": scale * np.linspace(0.1, 0.9, 48)}, index=index), zone="x"
        )
        for scale in (1.0, 100.0)
    }
    assert any("re_pct is never over 1 %" in note for note in said[1.0].notes)
    assert not said[100.0].notes


def test_a_year_of_zeros_amid_good_years_is_unknown_and_spoils_neither() -> None:
    data = frame(3 * 8760)
    year = slice(8760, 2 * 8760)
    data.iloc[year] = 0.0
    history = ZoneHistory.from_frame(
        data.assign(ci_direct_g_per_kwh=np.where(data.any(axis=1), 200.0, 0.0)), zone="test"
    )
    for series in (history.lifecycle_g_per_kwh, history.direct_g_per_kwh, history.renewable_share):
        assert np.isnan(series[year]).all()
        assert np.isfinite(series[:8760]).all()
        assert np.isfinite(series[2 * 8760 :]).all()
    assert any("8760 values" in note for note in history.notes)


def test_a_marginal_intensity_is_read_apart_and_may_be_zero() -> None:
    data = frame(96).assign(ci_marginal_g_per_kwh=700.0)
    data.iloc[5:8, -1] = (0.0, -5.0, 1e9)
    history = ZoneHistory.from_frame(data, zone="test")
    assert history.marginal_g_per_kwh is not None
    assert history.marginal_g_per_kwh[5] == 0.0
    assert np.isnan(history.marginal_g_per_kwh[6:8]).all()
    assert any("ci_marginal_g_per_kwh: 2 values" in note for note in history.notes)
    np.testing.assert_array_equal(
        history.lifecycle_g_per_kwh, ZoneHistory.from_frame(frame(96), zone="test").lifecycle_g_per_kwh
    )


def test_a_marginal_intensity_alone_is_read_and_says_nothing_of_averages() -> None:
    history = ZoneHistory.from_frame(frame(96)[[]].assign(ci_marginal_g_per_kwh=700.0), zone="test")
    assert history.marginal_g_per_kwh is not None
    assert (history.marginal_g_per_kwh == 700.0).all()
    for series in (history.lifecycle_g_per_kwh, history.direct_g_per_kwh, history.renewable_share):
        assert np.isnan(series).all()
