# SPDX-License-Identifier: Apache-2.0
"""Judging: scores with known answers, protocols on their windows, and files that nobody should have sent."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from embellie.cli.main import cli
from embellie_forecast.history import HistoryError, ZoneHistory, instant_of
from embellie_forecast.history_files import read_history
from embellie_forecast.judging import Protocol, ProtocolError, Request, judge
from embellie_forecast.judging.placement import hours_chosen, judge_placement
from embellie_forecast.judging.protocols import Plan, plan
from embellie_forecast.judging.run import _scores
from embellie_forecast.judging.scores import by_day, concordance, crps, interval_score, percentage_error
from embellie_forecast.models import Settings, Target, WeatherUse
from embellie_forecast.models.series import IssuedSeries
from embellie_forecast.models.targets import QUANTILE_LEVELS, Kernel

FAST = Settings(kernels=(Kernel(gamma=0.005, alpha=0.1),), max_training_days=60, refit_days=60, warm_up_days=20)
FIELDS = {"zone", "target", "protocol", "weather", "refit", "issues", "skipped_hours", "concordance", "crps",
          "regret_pct", "saving_share_pct", "saving_share_pooled_pct", "saving_share_by_case_pct",
          "saving_share_any_hour_pct", "carbon_optimality_pct", "slack_24h_optimality_pct",
          "persistence_saving_share_pct", "train_seconds", "predict_seconds_per_issue", "peak_rss_mib",
          "model_id"}  # fmt: skip
BY_DAY = ("mape", "mae", "coverage80", "width80", "interval_score", "persistence_mape", "persistence_interval_score",
          "weekly_mape")  # fmt: skip


def grid(days: int = 70, first: str = "2021-03-01") -> pd.DataFrame:
    """A grid whose gas follows the day and whose wind comes in spells."""
    hours = np.arange(24 * days)
    rng = np.random.default_rng(4)
    spell = np.convolve(rng.normal(size=hours.size + 47), np.ones(48) / 7.0, mode="valid")
    wind = 3000.0 * np.exp(0.4 * spell)
    gas = 5000.0 + 1500.0 * np.sin(2 * np.pi * (hours % 24) / 24) + rng.normal(size=hours.size)
    return pd.DataFrame(
        {
            "timestamp_utc": pd.date_range(first, periods=hours.size, freq="h", tz="UTC").strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            ),
            "gen_natgas_mw": gas,
            "gen_wind_mw": wind,
            "wxfc_wind_speed_ms": wind / 500.0,
            "wxfc_temp_c": 15.0 + 0.0 * hours,
            "wxfc_dswrf_wm2": 200.0 + 0.0 * hours,
            "wxfc_precip_kgm2": 0.0 * hours,
        }
    )


def saved(frame: pd.DataFrame, folder: Path, name: str = "XX-TEST") -> Path:
    path = folder / f"{name}.csv.gz"
    frame.to_csv(path, index=False)
    return path


def request(target: Target = Target.LIFECYCLE, **more: object) -> Request:
    return Request(target=target, protocol=Protocol.ROLLING, weather=WeatherUse.DAY1, settings=FAST, **more)  # type: ignore[arg-type]


def test_a_day_counts_the_same_however_many_of_its_hours_are_known() -> None:
    values = np.full((2, 96), np.nan)
    values[0, :24], values[1, :6] = 10.0, 20.0
    assert by_day(values, 4) == [15.0, None, None, None]


def test_scores_have_their_textbook_values() -> None:
    assert percentage_error(np.array([110.0]), np.array([100.0]))[0] == pytest.approx(10.0)
    assert interval_score(np.array([1.0]), np.array([3.0]), np.array([2.0]))[0] == 2.0
    assert interval_score(np.array([1.0]), np.array([3.0]), np.array([4.0]))[0] == pytest.approx(2.0 + 10.0)
    truth = np.arange(96.0)[None]
    assert concordance(truth, truth) == 1.0
    assert concordance(-truth, truth) == 0.0
    assert concordance(np.zeros((1, 96)), truth) == 0.5
    certain = np.repeat(truth[:, None, :], 3, axis=1)
    assert crps(certain, (0.1, 0.5, 0.9), truth) == 0.0
    assert crps(certain + 2.0, (0.1, 0.5, 0.9), truth) == pytest.approx(2.0)


def test_the_range_that_is_scored_is_the_one_from_10_to_90_percent() -> None:
    levels = np.repeat(100.0 + 100.0 * np.array(QUANTILE_LEVELS)[None, :, None], 96, axis=2)
    truth = np.full((1, 96), np.nan)
    truth[0, :24], truth[0, 24:48] = 115.0, 107.0
    # A grid whose intensity never moves is forecast exactly, but for the last digit of a logarithm.
    truth[0, 72:] = 110.0 - 1e-12
    flat = np.full((1, 96), 150.0)
    issued = IssuedSeries(
        target=Target.LIFECYCLE, issue_hours=np.array([400_000]), point=flat, quantiles=levels, levels=QUANTILE_LEVELS,
        truth=truth, persistence=flat, weekly=flat, persistence_quantiles=levels, fits=1,
    )  # fmt: skip
    todo = Plan(
        issue_hours=issued.issue_hours, truth=truth[0], truth_name="", horizon_days=4, train_from_hour=None,
        frozen_hour=0,
    )  # fmt: skip
    scores = _scores(issued, todo, Target.LIFECYCLE)
    assert [scores[f"coverage80_day{day}"] for day in (1, 2, 3, 4)] == [100.0, 0.0, None, 100.0]
    assert scores["width80_day1"] == pytest.approx(80.0)
    assert scores["interval_score_day2"] == pytest.approx(80.0 + 2.0 / 0.2 * 3.0)


def test_the_cheapest_hours_are_chosen_in_one_piece_or_split() -> None:
    values = np.array([[5.0, 1.0, 9.0, 2.0, 2.0, 8.0]])
    assert np.flatnonzero(hours_chosen(values, 2, True)[0]).tolist() == [3, 4]
    assert np.flatnonzero(hours_chosen(values, 3, False)[0]).tolist() == [1, 3, 4]


def test_placing_by_the_truth_keeps_all_of_the_saving_and_by_its_opposite_less_than_none() -> None:
    truth = 300.0 + 100.0 * np.cos(2 * np.pi * np.arange(96) / 24)[None] + np.arange(96)[None] / 10.0
    best, worst = (judge_placement(f, truth, minimise=True) for f in (truth, -truth))
    for name, perfect in (("regret_pct", 0.0), ("saving_share_pct", 100.0), ("saving_share_any_hour_pct", 100.0),
                          ("optimality_pct", 100.0)):  # fmt: skip
        assert best.mean(name) == pytest.approx(perfect)
    for name, low, high in (("regret_pct", 5.0, 500.0), ("saving_share_pct", -500.0, 50.0),
                            ("saving_share_any_hour_pct", -500.0, 0.0), ("optimality_pct", 30.0, 95.0)):  # fmt: skip
        found = worst.mean(name)
        assert found is not None
        assert low < found < high
    assert judge_placement(truth / 1000, truth / 1000, minimise=False).mean("saving_share_pct") == pytest.approx(100.0)
    # The line rises: a day in one piece starts best at once, and there is no saving to keep.
    shares = [case.saving_share_pct for case in best.cases if case is not None]
    assert shares[2] is None
    assert [share for share in shares if share is not None] == pytest.approx([100.0] * 3)
    assert best.pooled_pct == pytest.approx(100.0)


def test_optimality_is_the_clairvoyant_emissions_over_ours_and_one_hour_has_no_pieces() -> None:
    truth = np.full((1, 96), 100.0)
    truth[0, 10], truth[0, 20] = 50.0, 80.0
    said = np.full((1, 96), 100.0)
    said[0, 20] = 60.0
    whole, split = judge_placement(said, truth, minimise=True).later[:2]
    assert whole == split
    assert whole is not None
    assert whole.optimality_pct == pytest.approx(100.0 * 50.0 / 80.0)
    assert whole.saving_share_pct == pytest.approx(100.0 * 20.0 / 50.0)
    assert whole.any_hour_g == pytest.approx((23 * 100.0 + 50.0 + 80.0) / 25.0)


def test_pooled_a_large_saving_counts_for_more_than_a_small_one() -> None:
    # Nothing to win within a day for the short job but much over two for the long one, which the forecast misses half.
    truth = np.full((1, 96), 100.0)
    truth[0, 20:24], truth[0, 30:48] = 99.0, 50.0
    said = np.full((1, 96), 100.0)
    said[0, 20:24], said[0, 30:39] = 99.0, 50.0
    found = judge_placement(said, truth, minimise=True)
    short, _, _, long = (None if case is None else case.saving_share_pct for case in found.cases)
    assert short == pytest.approx(100.0)
    assert long is not None
    assert long < 100.0
    mean = found.mean("saving_share_pct")
    assert found.pooled_pct is not None
    assert mean is not None
    assert found.pooled_pct < mean
    day = judge_placement(said, np.where(np.arange(96) < 24, truth, np.nan), minimise=True)
    assert day.cases[2:] == (None, None)


@pytest.mark.parametrize(
    ("protocol", "zone", "first", "last", "issues"),
    [
        (Protocol.CARBONCAST, "DE", "2021-07-01", "2021-12-28", 181),
        (Protocol.ENSEMBLECI, "DE", "2021-07-03", "2021-12-27", 178),
        (Protocol.ENSEMBLECI, "US-CISO", "2022-07-06", "2022-12-30", 178),
        (Protocol.DACF, "DE", "2021-07-01", "2021-12-31", 184),
        (Protocol.ROLLING, "DE", "2022-01-02", "2023-01-01", 365),
    ],
)
def test_a_protocol_tests_its_published_window(
    protocol: Protocol, zone: str, first: str, last: str, issues: int
) -> None:
    hours = pd.date_range("2020-01-01", "2023-01-04T23:00", freq="h", tz="UTC")
    frame = pd.DataFrame({"ci_direct_g_per_kwh": 300.0 + np.arange(len(hours)) % 24}, index=hours)
    found = plan(protocol, Target.DIRECT, ZoneHistory.from_frame(frame, zone=zone))
    days = [f"{instant_of(int(hour)):%Y-%m-%d}" for hour in found.issue_hours]
    assert (days[0], days[-1], len(days)) == (first, last, issues)
    assert found.horizon_days == (1 if protocol is Protocol.DACF else 4)


def test_the_benchmark_series_is_the_truth_where_it_covers_the_test() -> None:
    hours = pd.date_range("2020-01-01", "2022-12-31T23:00", freq="h", tz="UTC")
    frame = pd.DataFrame({"ci_lifecycle_g_per_kwh": 300.0, "ci_lifecycle_benchmark_g_per_kwh": 290.0}, index=hours)
    frame.loc[hours >= "2022-01-01", "ci_lifecycle_benchmark_g_per_kwh"] = np.nan
    history = ZoneHistory.from_frame(frame, zone="US-CISO")
    assert "benchmark" in plan(Protocol.CARBONCAST, Target.LIFECYCLE, history).truth_name
    assert "benchmark" not in plan(Protocol.ENSEMBLECI, Target.LIFECYCLE, history).truth_name
    with pytest.raises(ProtocolError, match="--target direct"):
        plan(Protocol.DACF, Target.LIFECYCLE, history)


def test_a_file_never_seen_before_is_scored_with_every_field(tmp_path: Path) -> None:
    result = judge(saved(grid(), tmp_path), request())
    assert set(result) >= FIELDS | {f"{name}_day{day}" for name in BY_DAY for day in range(1, 5)}
    assert result["mape_day1"] < result["persistence_mape_day1"]
    assert result["skipped_hours"] == 0
    assert not any("are not scored" in note for note in result["notes"])
    json.dumps(result, allow_nan=False)
    share = judge(saved(grid(), tmp_path), request(Target.RENEWABLE_SHARE))
    assert "mape_day1" not in share
    assert 0.0 < share["mae_day1"] < share["persistence_mae_day1"] < 100.0


def test_hours_without_a_truth_are_skipped_and_counted(tmp_path: Path) -> None:
    frame = grid().assign(ci_direct_g_per_kwh=lambda f: 200.0 + f["gen_wind_mw"] / 100.0)
    frame.loc[1500:1511, "ci_direct_g_per_kwh"] = (0.0, -3.0, np.nan) * 4
    result = judge(saved(frame, tmp_path), request(Target.DIRECT))
    assert result["skipped_hours"] == 4 * 12
    assert any(note.startswith("48 of ") and "are not scored" in note for note in result["notes"])
    assert 0.0 < result["mape_day1"] < 20.0


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.drop(columns=[c for c in f if c.startswith("wxfc")]),
        lambda f: f.assign(wxfc_wind_speed_ms=f["wxfc_wind_speed_ms"].where(f.index > 1200)),
        lambda f: f.drop(index=range(700, 800)),
        lambda f: f[["timestamp_utc", "gen_natgas_mw"]],
        lambda f: f.assign(gen_fusion_mw=1.0),
        lambda f: pd.concat([f, f.iloc[:30]]),
        lambda f: f.assign(gen_wind_mw=f["gen_wind_mw"].where(f.index % 50 > 0)),
    ],
    ids=["no weather", "weather without history", "a gap", "one source", "unknown source", "repeated rows", "holes"],
)
def test_an_imperfect_file_still_gives_finite_scores(change: object, tmp_path: Path) -> None:
    result = judge(saved(change(grid(60)), tmp_path), request())  # type: ignore[operator]
    assert "error" not in result
    assert all(np.isfinite(result[f"mape_day{day}"]) for day in range(1, 5))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.iloc[:10], "too little data"),
        (lambda f: f[["timestamp_utc", "wxfc_temp_c"]], "no usable column"),
        (lambda _: grid(366).assign(gen_natgas_mw=0.0, gen_wind_mw=0.0), "no usable value"),
        (
            lambda _: grid(366)[["timestamp_utc"]].assign(ci_lifecycle_g_per_kwh=0.0),
            "8784 values at 0, below it, or over",
        ),
        (lambda f: f[["timestamp_utc"]].assign(ci_lifecycle_g_per_kwh=-1.0), "no usable value"),
        (
            lambda _: grid(420)[["timestamp_utc"]].assign(gen_coal_mw=9.0),
            "test window. Found: generation by source is not",
        ),
        (lambda f: f.assign(timestamp_utc=f["timestamp_utc"].str.removesuffix("Z")), "no time zone"),
        (lambda f: f.drop(columns="timestamp_utc"), "timestamp_utc is missing"),
    ],
)
def test_a_file_that_cannot_be_scored_says_why(change: object, said: str, tmp_path: Path) -> None:
    assert said in judge(saved(change(grid(30)), tmp_path), request())["error"]  # type: ignore[operator]


def test_a_marginal_intensity_alone_is_scored_as_such_and_as_nothing_else(tmp_path: Path) -> None:
    wave = 400.0 + 100.0 * np.sin(2.0 * np.pi * np.arange(60 * 24) / 24.0) + np.arange(60 * 24) % 37
    file = saved(grid(60)[["timestamp_utc"]].assign(ci_marginal_g_per_kwh=wave), tmp_path)
    assert judge(file, request(Target.MARGINAL))["mape_day1"] < 20.0
    assert "--target marginal" in judge(file, request())["error"]


def test_a_grid_that_never_emits_cannot_be_scored_in_percent(tmp_path: Path) -> None:
    clean = saved(grid(40).drop(columns="gen_natgas_mw"), tmp_path)
    assert "no usable value of the target direct" in judge(clean, request(Target.DIRECT))["error"]
    assert "error" not in judge(clean, request(Target.RENEWABLE_SHARE))


def test_rows_of_a_quarter_hour_are_averaged_to_hours(tmp_path: Path) -> None:
    hours = grid(40)
    quarters = hours.loc[hours.index.repeat(4)].reset_index(drop=True)
    begins = pd.date_range("2021-03-01", periods=len(quarters), freq="15min", tz="UTC")
    quarters["timestamp_utc"] = begins.strftime("%Y-%m-%dT%H:%M:%SZ")
    quarters["gen_natgas_mw"] += 40.0 * (begins.minute // 15 - 1.5)
    whole = read_history(saved(hours, tmp_path, "A"))
    mean = read_history(saved(quarters.drop(index=[5, 9, 10, 11]).sample(frac=1.0, random_state=1), tmp_path, "B"))
    assert any("every 15 minutes were averaged" in note for note in mean.notes)
    same = np.isclose(mean.lifecycle_g_per_kwh, whole.lifecycle_g_per_kwh)
    # Of hour 1 a quarter is missing, which its mean shows; of hour 2 most, so it is unknown.
    assert np.flatnonzero(~same).tolist() == [1, 2]
    assert np.isnan(mean.lifecycle_g_per_kwh[2])
    odd = saved(quarters.iloc[::3], tmp_path, "C")
    with pytest.raises(HistoryError, match="whole hours"):
        read_history(odd)


def test_a_column_without_any_value_takes_nothing_from_the_others(tmp_path: Path) -> None:
    frame = grid(40)
    empty = frame.assign(gen_geothermal_mw=np.nan, ci_direct_g_per_kwh=np.nan)
    got, wanted = (read_history(saved(each, tmp_path)) for each in (empty, frame))
    assert np.array_equal(got.renewable_share, wanted.renewable_share)
    assert np.array_equal(got.direct_g_per_kwh, wanted.direct_g_per_kwh)
    assert any("gen_geothermal_mw" in note for note in got.notes)
    assert any("ci_direct_g_per_kwh" in note for note in got.notes)


def test_a_spreadsheets_file_is_read_and_text_that_is_no_number_is_named(tmp_path: Path) -> None:
    frame = grid(40)
    path = tmp_path / "XX-SHEET.csv"
    frame.rename(columns=lambda name: f" {name.upper()}").to_csv(path, index=False, sep=";", decimal=",")
    assert np.allclose(read_history(path).renewable_share, read_history(saved(frame, tmp_path)).renewable_share)
    text = frame[["timestamp_utc"]].assign(ci_lifecycle_g_per_kwh="312,6")
    assert set(read_history(saved(text, tmp_path)).lifecycle_g_per_kwh) == {312.6}
    text = text.assign(ci_lifecycle_g_per_kwh="312,6 g")
    told = judge(saved(text, tmp_path), request())["error"]
    assert "960 values are no numbers" in told
    assert "'312,6 g'" in told
    # A source whose values cannot be read is not a source that is absent: without it the mix would look cleaner.
    unread = frame.assign(gen_natgas_mw=frame["gen_natgas_mw"].map("{:.0f} MW".format))
    assert " MW'" in judge(saved(unread, tmp_path), request())["error"]


def test_notes_name_hours_that_are_not_believed_another_unit_and_issues_without_a_model(tmp_path: Path) -> None:
    frame = grid(40).assign(ci_lifecycle_g_per_kwh=0.3)
    frame.loc[100:119, "gen_wind_mw"] = -900.0
    notes = "; ".join(judge(saved(frame, tmp_path), request())["notes"])
    assert "unknown in 20 hours: 20 negative" in notes
    assert "another unit" in notes
    assert "36 of 36 issues had too little before them" in notes


def test_a_constant_intensity_is_forecast_as_constant(tmp_path: Path) -> None:
    frame = grid(50)[["timestamp_utc"]].assign(ci_lifecycle_g_per_kwh=400.0)
    result = judge(saved(frame, tmp_path), request())
    assert result["mape_day4"] == pytest.approx(0.0, abs=1e-6)
    assert result["concordance"] is None
    assert result["saving_share_pct"] is None


def test_latency_withholds_readings_and_a_frozen_model_is_fitted_once(tmp_path: Path) -> None:
    path = saved(grid(), tmp_path)
    strict, frozen = judge(path, request(latency_hours=6)), judge(path, request(refit=False))
    assert strict["latency_hours"] == 6
    assert strict["mape_day1"] > judge(path, request())["mape_day1"]
    assert frozen["refit"] == "none"
    assert frozen["fits"] <= 1
    assert strict["train_seconds"] > 0.0


def test_the_command_scores_the_good_file_and_names_the_bad_one(tmp_path: Path) -> None:
    good, bad, out = saved(grid(50), tmp_path), saved(grid(50).iloc[:10], tmp_path, "XX-BAD"), tmp_path / "out.json"
    files = [str(good), str(bad), str(tmp_path / "none.csv")]
    arguments = ["backtest", *files, "--weather", "optimistic", "--json", str(out)]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert "OPTIMISTIC" in done.output
    results = json.loads(out.read_text())
    assert [set(result) == {"file", "error"} for result in results] == [False, True, True]
    assert results[0]["weather"] == "optimistic"
    assert f"\n{tmp_path / 'none.csv'}: there is no such file\n" in done.output
    assert CliRunner().invoke(cli, ["backtest", str(bad)]).exit_code == 1


@pytest.mark.parametrize("latency", ["-1h", "3 bananas", "30m", "49h"])
def test_a_latency_that_makes_no_sense_is_a_usage_error(latency: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["backtest", str(tmp_path / "x.csv"), f"--latency={latency}"])
    assert done.exit_code == 2
    assert "--latency" in done.output
