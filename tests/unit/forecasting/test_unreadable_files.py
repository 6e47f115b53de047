# SPDX-License-Identifier: Apache-2.0
"""Files as people have them: what is no table says what it is and what to do, to `backtest` and to a feed alike."""

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from embellie_forecast.history import HistoryError
from embellie_forecast.history_files import read_history
from embellie_forecast.sources.base import SourceError
from embellie_forecast.sources.files import FileSource
from embellie_forecast.sources.guard import believe

END = datetime(2026, 6, 20, 12, tzinfo=UTC)
HOURS = pd.date_range(end=END - timedelta(hours=1), periods=200, freq="h")
TABLE = pd.DataFrame(
    {"timestamp_utc": HOURS.strftime("%Y-%m-%dT%H:%M:%SZ"), "ci_lifecycle_g_per_kwh": 300.5 + np.arange(200) % 24}
)
TEXT = TABLE.to_csv(index=False)


def both_say(path: Path) -> tuple[str, str]:
    """What `backtest` and a feed say about a file."""
    with pytest.raises(HistoryError) as by_backtest:
        read_history(path)
    with pytest.raises(SourceError) as by_feed:
        FileSource(path).read(END - timedelta(days=3), END, now=END)
    return str(by_backtest.value), str(by_feed.value)


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("grid.csv", TEXT.encode("utf-16"), "is text in UTF-16: save it as CSV in UTF-8"),
        ("grid.csv", TEXT.encode("utf-16-be").join([b"\xfe\xff", b""]), "is text in UTF-16: save it as CSV in UTF-8"),
        ("grid.csv", TEXT.replace("ci_", "é_").encode("latin-1"), "is not text in UTF-8: save it as CSV in UTF-8"),
        ("grid.csv", gzip.compress(TEXT.encode()), "is compressed: let its name end in .csv.gz"),
        ("grid.csv", b"PAR1\x15\x04\x15\xff", "is a Parquet file: let its name end in .parquet"),
        ("grid.xlsx", b"PK\x03\x04\x14\x00\xff", "is a spreadsheet or an archive: export the table as CSV"),
        ("grid.csv", b"", "is empty: its first line must name the columns"),
        ("grid.csv", TEXT.replace("301.5\n", "301.5,5,x\n", 1).encode(), "line 3 has 4 fields, and 2 are named"),
        ("grid.csv", TEXT.replace("301.5\n", '"301.5\n', 1).encode(), "a quote is opened in line 3 and not closed"),
        ("grid.csv", TEXT.replace(".5\n", ",5\n").encode(), "no row may have more fields"),
        ("grid.csv", b"# EIA\n# public domain\n" + TEXT.encode(), "its first line must name the columns"),
        ("grid.csv", TABLE.assign(again=0.0).to_csv(index=False).replace("again", "ci_lifecycle_g_per_kwh").encode(),
         "two columns ci_lifecycle_g_per_kwh"),
    ],
)  # fmt: skip
def test_what_is_no_table_says_what_it_is_and_what_to_do(name: str, body: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(body)
    for sentence in both_say(path):
        assert said in sentence
        assert name.removesuffix(".csv") in sentence


def test_a_table_that_was_copied_out_of_a_spreadsheet_is_read_with_its_tabs(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    TABLE.to_csv(path, index=False, sep="\t")
    history = read_history(path)
    assert history.lifecycle_g_per_kwh.tolist() == TABLE["ci_lifecycle_g_per_kwh"].tolist()
    assert history.notes == ()
    told = FileSource(path).read(END - timedelta(days=3), END, now=END).hourly().frame
    assert told["ci_lifecycle_g_per_kwh"].tolist() == TABLE["ci_lifecycle_g_per_kwh"].tolist()[-72:]


def test_commas_at_the_end_of_all_rows_move_no_value_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    path.write_text("\n".join(line if k == 0 else f"{line}," for k, line in enumerate(TEXT.splitlines())))
    assert read_history(path).lifecycle_g_per_kwh.tolist() == TABLE["ci_lifecycle_g_per_kwh"].tolist()


@pytest.mark.parametrize("zone", ["+00", "+0000", "+00:00", "z", " UTC", ".000Z"])
def test_a_time_is_utc_however_that_is_written(zone: str, tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    path.write_text(TEXT.replace(":00Z,", f":00{zone},"))
    assert read_history(path).lifecycle_g_per_kwh.tolist() == TABLE["ci_lifecycle_g_per_kwh"].tolist()
    told = FileSource(path).read(END - timedelta(days=3), END, now=END).hourly().frame
    assert told["ci_lifecycle_g_per_kwh"].tolist() == TABLE["ci_lifecycle_g_per_kwh"].tolist()[-72:]


@pytest.mark.parametrize("time", ["2026-06-01", "2026-06-01T08", "2026-06-01T08:00:00"])
def test_a_day_or_a_time_without_a_zone_is_none_with_an_offset(time: str, tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    path.write_text(f"timestamp_utc,ci_lifecycle_g_per_kwh\n{time},300\n")
    for sentence in both_say(path):
        assert "has no" in sentence


def test_thousands_with_commas_are_numbers_or_unknown_and_never_a_source_that_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    wind = 2000.0 + 10.0 * (np.arange(200) % 24)
    mix = TABLE[["timestamp_utc"]].assign(gen_coal_mw=3000.0 + np.arange(200) % 7, gen_wind_mw=wind)
    mix.assign(gen_wind_mw=[f"{mw:,.1f}" for mw in wind]).to_csv(path, index=False)
    assert read_history(path).generation_mw["wind"].tolist() == wind.tolist()
    # 2,010 could be two thousand, or two: but it is not nothing.
    said = [f"{mw:,.0f}" if k < 150 else f"{mw:.1f}" for k, mw in enumerate(wind)]
    mix.assign(gen_coal_mw=9.0 * mix["gen_coal_mw"], gen_wind_mw=said).to_csv(path, index=False)
    history = read_history(path)
    assert np.isnan(history.generation_mw["wind"][:150]).all()
    assert np.isnan(history.lifecycle_g_per_kwh[:150]).all()
    assert history.notes[0] == "gen_wind_mw: 150 values are no numbers and count as unknown, such as '2,000'"


def test_a_number_that_cannot_be_read_is_no_silence_in_rows_of_a_quarter_hour_either(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    times = pd.date_range(HOURS[0], periods=800, freq="15min").strftime("%Y-%m-%dT%H:%MZ")
    wind = 2000.0 + 10.0 * (np.arange(800) // 4 % 24) + np.arange(800) % 4
    said = [f"{mw:,.0f}" if k < 600 else f"{mw:.1f}" for k, mw in enumerate(wind)]
    mix = {"timestamp_utc": times, "gen_coal_mw": 27000.0 + np.arange(800) % 7, "gen_wind_mw": said}
    pd.DataFrame(mix).to_csv(path, index=False)
    history = read_history(path)
    assert np.isnan(history.lifecycle_g_per_kwh[:150]).all()
    assert history.generation_mw["wind"][150:].tolist() == [np.mean(wind[k : k + 4]) for k in range(600, 800, 4)]


def test_to_a_feed_too_a_source_whose_numbers_cannot_be_read_is_not_closed(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    wind = 2000.0 + 10.0 * (np.arange(200) % 24) + np.arange(200) % 7
    said = [f"{mw:.1f}" if k < 80 else f"{mw:,.0f}" for k, mw in enumerate(wind)]
    mix = TABLE[["timestamp_utc"]].assign(gen_coal_mw=27000.0 + 13.0 * (np.arange(200) % 7), gen_wind_mw=said)
    mix.to_csv(path, index=False)
    read = FileSource(path).read(END - timedelta(days=9), END, now=END)
    believed = believe(read.hourly().frame, now=END)
    assert believed.frame[["gen_coal_mw", "gen_wind_mw"]][80:].isna().all(axis=None)
    assert believed.frame["gen_wind_mw"][:80].tolist() == wind[:80].tolist()
    assert any("is not a number" in note for note in read.notes)
    mix.assign(gen_wind_mw=[text if k < 80 else "n/e" for k, text in enumerate(said)]).to_csv(path, index=False)
    silent = believe(FileSource(path).read(END - timedelta(days=9), END, now=END).hourly().frame, now=END)
    assert set(silent.frame["gen_wind_mw"][80:]) == {0.0}, "a word is no number"


def test_where_points_part_thousands_no_number_is_read_as_a_thousandth_of_it(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    said = [("1.466,5", "1.466", "987", "1,5")[k % 4] for k in range(200)]
    TABLE.assign(ci_lifecycle_g_per_kwh=said).to_csv(path, index=False, sep=";")
    wanted = [1466.5, None, 987.0, 1.5] * 2
    told = FileSource(path).read(END - timedelta(days=3), END, now=END).hourly().frame["ci_lifecycle_g_per_kwh"]
    for found in (read_history(path).lifecycle_g_per_kwh, told.to_numpy()):
        assert [None if np.isnan(value) else float(value) for value in found[-8:]] == wanted
    TABLE.assign(ci_lifecycle_g_per_kwh="301.466").to_csv(path, index=False, sep=";")
    assert set(read_history(path).lifecycle_g_per_kwh) == {301.466}, "where nothing speaks for it, a point is a point"


@pytest.mark.parametrize("kind", ["category", "object"])
def test_numbers_that_parquet_has_as_text_are_read_whatever_its_kind(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "grid.parquet"
    text = TABLE["ci_lifecycle_g_per_kwh"].astype(str).where(np.arange(200) > 0)
    TABLE.assign(ci_lifecycle_g_per_kwh=text.astype(kind)).to_parquet(path)
    assert read_history(path).lifecycle_g_per_kwh[1:].tolist() == TABLE["ci_lifecycle_g_per_kwh"].tolist()[1:]


def test_a_column_of_ones_own_may_end_in_a_number(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    TABLE.assign(**{"meter": 1.0, "meter.1": 2.0, "ci_mine.1": 3.0}).to_csv(path, index=False)
    assert len(read_history(path).lifecycle_g_per_kwh) == 200


def test_a_cell_that_is_a_page_long_does_not_fill_the_error(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    path.write_bytes(TEXT.encode()[:3000] + b"\0" * 5000)
    for sentence in both_say(path):
        assert len(sentence) < 400
