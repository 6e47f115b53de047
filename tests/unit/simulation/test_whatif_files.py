# SPDX-License-Identifier: Apache-2.0
"""Traces and histories as people have them: bad rows are named and counted, the rest goes on."""

import gzip
import io
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from embellie.cli.grid_history import GridFile, read_grid
from embellie.cli.replay import replay
from embellie.simulation.whatif import jobs_file
from embellie.simulation.whatif.carbon_file import make_axis
from embellie.simulation.whatif.slack import Slack, next_workday, parse_slack, parse_wait, semi_weekly
from embellie_forecast.history_files import carried_zones

HEADER = "job_id,tenant,submit_time_s,submit_time_utc,duration_s,gpus\n"


def parse_jobs(text: str, name: str) -> jobs_file.JobTrace:
    return jobs_file.parse_jobs(io.StringIO(text, newline=None), name)


def test_bad_rows_are_named_by_line_and_the_rest_goes_on() -> None:
    rows = [
        "a,t,10,,100,1",
        "b,t,,,100,1",
        "c,t,20,,-5,1",
        "a,t,30,,100,1",
        "d,t,5,,100,2",
        "e,t,40,,nan,1",
        "f,t,50,,100,0",
        "g,t,60,,x,1",
        ",t,60,,7,1",
        "h,t,70",
        "i,t,80,,0,1",
        "j,t,-1,,10,1",
        "k,t,90,,inf,1",
    ]
    trace = parse_jobs(HEADER + "\n".join(rows) + "\n", "trace.csv")
    assert [job.id for job in trace.jobs] == ["d", "a"]
    assert {row.line: row.why for row in trace.left_out} == {
        3: "submit_time_s is empty",
        4: "duration_s is negative",
        5: "job_id came before in the file",
        7: "duration_s is not a number that a job can have",
        8: "gpus is zero",
        9: "duration_s is not a number",
        10: "job_id is empty",
        11: "duration_s is empty",
        12: "duration_s is zero",
        13: "submit_time_s is negative",
        14: "duration_s is not a number that a job can have",
    }
    assert trace.rows == 13
    assert trace.out_of_order == 1


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match="no column duration_s"):
        parse_jobs("job_id,submit_time_s,gpus\n", "trace.csv")


def test_a_header_that_is_no_csv_is_said_to_be_none() -> None:
    with pytest.raises(ValueError, match=r"line 1 of trace\.csv is no header of a CSV"):
        parse_jobs('"job_id,submit_time_s,duration_s,gpus\n' + "a,10,60,1\n" * 20_000, "trace.csv")


def test_a_row_with_more_fields_than_names_or_an_open_quote_is_left_out() -> None:
    # A tenant with a comma in it would move the submission under the name of the duration.
    text = 'job_id,tenant,submit_time_s,duration_s,gpus\na,t,0,60,1\nb,t,x,10,60,2\n\nc,t,20,60,4,\nd,"t,30,60,1\n'
    trace = parse_jobs(text, "trace.csv")
    assert [job.id for job in trace.jobs] == ["a", "c"]
    assert {row.line: row.why.partition(":")[0] for row in trace.left_out} == {
        3: "it has more fields than the header has names",
        6: "a quote is opened in it and not closed",
    }


def test_a_trace_may_have_decimal_commas_and_blanks_around_its_names() -> None:
    for text in (
        "job_id;submit_time_s;duration_s;gpus\na;5,25;60,5;0,5\n",
        'job_id, submit_time_s, duration_s, gpus\na, "5,25", 60.5, 0.5\n',
        "job_id,submit_time_s,duration_s,gpus\ra,5.25,60.5,0.5\r",
    ):
        (job,) = parse_jobs(text, "t.csv").jobs
        assert (job.id, job.submit_s, job.duration_s, job.gpus) == ("a", 5.25, 60.5, 0.5)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_trace_may_come_from_a_spreadsheet(separator: str) -> None:
    text = "gpus,job_id,note,duration_s,submit_time_s\n2,a,x,60,5\n".replace(",", separator)
    (job,) = parse_jobs(text, "t.csv").jobs
    assert (job.id, job.gpus, job.submit_s, job.duration_s) == ("a", 2.0, 5.0, 60.0)


def test_the_calendar_of_a_trace_is_the_moment_of_submit_time_zero() -> None:
    trace = parse_jobs(HEADER + "a,t,3600,2022-01-01T01:00:00Z,100,1\n", "trace.csv")
    assert trace.anchor == datetime(2022, 1, 1, tzinfo=UTC)


def test_gaps_twice_told_hours_and_absurd_values_of_a_history_are_bridged_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "zone.csv.gz"
    rows = [
        "2022-01-01T00:00Z,100",
        "2022-01-01T01:00Z,-7",
        "2022-01-01T03:00Z,400",
        "2022-01-01T03:00Z,9",
        "2022-01-01T04:00Z,500",
    ]
    path.write_bytes(gzip.compress(("utc,ci_lifecycle_g_per_kwh\n" + "\n".join(rows)).encode()))
    history = read_grid(path)
    assert history.g_per_kwh.tolist() == [100.0, 200.0, 300.0, 400.0, 500.0]
    assert history.filled == 2


def test_a_damaged_history_and_a_wrong_column_say_what_to_do(tmp_path: Path) -> None:
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(b"utc,a\n" + b"2022-01-01T00:00Z,1\n" * 500)[:-20])
    with pytest.raises(ValueError, match="cut off or damaged"):
        read_grid(cut)
    plain = tmp_path / "plain.csv"
    plain.write_text("utc,AU,DE\n2022-01-01T00:00Z,1,2\n2022-01-01T01:00Z,1,2\n")
    with pytest.raises(ValueError, match="no column 'FR'"):
        read_grid(plain, "FR")
    with pytest.raises(ValueError, match="choose one with --column"):
        read_grid(plain)


def test_steps_under_a_minute_are_ticks_and_longer_ones_slots(tmp_path: Path) -> None:
    path = tmp_path / "zone.csv"
    path.write_text("utc,DE\n" + "".join(f"2022-01-01T{h:02d}:00Z,{100 + h}\n" for h in range(4)))
    history = read_grid(path, "DE")
    fine = make_axis(history, step=timedelta(seconds=5))
    assert (fine.tick_s, fine.ticks_per_slot, fine.n_slots) == (5.0, 720, 4)
    halves = make_axis(history, step=timedelta(minutes=30), first_row=1)
    assert halves.values.tolist() == [101.0, 101.0, 102.0, 102.0, 103.0, 103.0]
    double = make_axis(history, step=timedelta(hours=2))
    assert double.values.tolist() == [100.5, 102.5]
    assert float(fine.grams(360, 1080)) == pytest.approx(0.5 * 100 + 0.5 * 101)


def test_waiting_is_bounded_by_length_or_by_calendar() -> None:
    assert parse_wait("6x24") == Slack(short_h=6.0, long_h=24.0)
    assert parse_slack("0h").short_h == 0.0
    with pytest.raises(ValueError, match="6x24"):
        parse_wait("6h")
    friday_evening = datetime(2020, 1, 3, 18, tzinfo=UTC)
    assert next_workday(friday_evening) == datetime(2020, 1, 4, 9, tzinfo=UTC)
    assert next_workday(datetime(2020, 1, 4, 12, tzinfo=UTC)) == datetime(2020, 1, 6, 9, tzinfo=UTC)
    assert next_workday(datetime(2020, 1, 6, 12, tzinfo=UTC)) == datetime(2020, 1, 6, 12, tzinfo=UTC)
    assert semi_weekly(datetime(2020, 1, 2, 9, tzinfo=UTC)) == datetime(2020, 1, 2, 9, tzinfo=UTC)
    assert semi_weekly(datetime(2020, 1, 2, 9, 30, tzinfo=UTC)) == datetime(2020, 1, 6, 9, tzinfo=UTC)


HOURS = [f"2024-03-01T{hour:02d}:00" for hour in range(20)]


def test_a_history_may_come_from_a_spreadsheet_or_with_seconds_since_1970(tmp_path: Path) -> None:
    wanted = [100.5 + hour for hour in range(20)]
    commas = [(time, str(value).replace(".", ",")) for time, value in zip(HOURS, wanted, strict=True)]
    files = {
        "semicolons.csv": "time;g\n" + "".join(f"{t}Z;{v}\n" for t, v in commas),
        "quoted.csv": "time,g\n" + "".join(f'{t}Z,"{v}"\n' for t, v in commas),
        # The word "date" is in "updated": the column of times is one that holds times.
        "epoch.csv": "updated_by,at,g\n" + "".join(f"x,{1709251200 + 3600 * k},{v}\n" for k, v in enumerate(wanted)),
        "millis.csv": "at,g\n" + "".join(f"{1000 * (1709251200 + 3600 * k)},{v}\n" for k, v in enumerate(wanted)),
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        history = read_grid(tmp_path / name, "g")
        assert history.start == datetime(2024, 3, 1, tzinfo=UTC)
        assert history.g_per_kwh.tolist() == wanted
        assert history.notes == []


def test_a_history_says_what_was_bridged_and_that_its_unit_looks_wrong(tmp_path: Path) -> None:
    path = tmp_path / "zone.csv"
    path.write_text("time,g\n" + "".join(f"{t}Z,{'' if 3 <= k < 9 or k == 12 else 0.3}\n" for k, t in enumerate(HOURS)))
    bridged, unit = read_grid(path).notes
    assert bridged.startswith("7 of 20 steps of g have no usable value")
    assert "6 h at once" in bridged
    assert "another unit" in unit


def test_a_column_that_is_mostly_no_intensity_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "zone.csv"
    path.write_text("time,g\n" + "".join(f"{t}Z,{300 if k < 8 else 'high'}\n" for k, t in enumerate(HOURS)))
    with pytest.raises(ValueError, match=r"12 of 20 values .* line 10: 'high'"):
        read_grid(path)
    path.write_text("time\n" + "".join(f"{t}Z\n" for t in HOURS))
    with pytest.raises(ValueError, match="no column of g/kWh beside its times"):
        read_grid(path)


def test_a_number_that_its_commas_part_is_not_read_as_its_first_part(tmp_path: Path) -> None:
    path = tmp_path / "zone.csv"
    path.write_text("time,g\n" + "".join(f"{t}Z,1,466.7\n" for t in HOURS))
    with pytest.raises(ValueError, match=r"20 of 20 values .* line 2: '1' \(it has more fields"):
        read_grid(path)
    path.write_text("time,g\n" + "".join(f"{t}Z,300{',5' if k == 4 else ''}\n" for k, t in enumerate(HOURS)))
    assert read_grid(path).notes[0].startswith("1 of 20 steps of g have no usable value")


def test_what_is_wrong_with_a_history_is_said_with_its_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "zone.csv"
    for text, said in (
        ("time,g\n2024-03-01T00:00Z,300\n\nnoon,300\n", "line 4 of zone.csv: time is 'noon'"),
        ("time,g\n" + "".join(f'{t}Z,{chr(34) if k == 3 else ""}300\n' for k, t in enumerate(HOURS)),
         "line 5 of zone.csv: a quote is opened in it and not closed"),
        ("time,g\n" + "".join(f"20240301{h:02},300\n" for h in range(20)), "zone.csv: its rows are 1 s apart"),
        ("time,g\n2024-03-01T00:00Z,300\n", "zone.csv: a history of carbon intensity needs at least two rows"),
    ):  # fmt: skip
        path.write_text(text)
        with pytest.raises(ValueError, match=re.escape(said)):
            read_grid(path)
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(ValueError, match=r"zone.csv is text in UTF-16: save it as CSV in UTF-8"):
        read_grid(path)


def test_blanks_around_the_names_of_a_history_do_not_hide_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "zone.csv"
    path.write_text("time, ci_lifecycle_g_per_kwh, price\n" + "".join(f"{t}Z, 300, 7\n" for t in HOURS))
    assert read_grid(path).column == "ci_lifecycle_g_per_kwh"
    assert read_grid(path, "price").g_per_kwh.tolist() == [7.0] * 20


def test_the_oracle_takes_the_mean_of_an_hour_of_finer_rows_and_refuses_longer_ones(tmp_path: Path) -> None:
    def saving(minutes: int) -> str:
        path, start = tmp_path / f"{minutes}.csv", datetime(2024, 3, 1, tzinfo=UTC)
        rows = [start + timedelta(minutes=minutes * k) for k in range(96 * 60 // minutes)]
        path.write_text("time,g\n" + "".join(f"{t:%Y-%m-%dT%H:%MZ},{100 + t.hour}\n" for t in rows))
        asked = ["oracle", "--carbon", str(path), "--job-hours", "4", "--slack-hours", "20"]
        return CliRunner().invoke(replay, asked).output

    assert "the mean of 93 start hours" in saving(60)
    assert saving(15) == saving(30) == saving(60)
    assert "needs rows every hour, or as often as divides it" in saving(120)


def test_the_intensity_of_a_file_of_generation_by_source_is_computed(tmp_path: Path) -> None:
    path = tmp_path / "mix.csv"
    rows = [f"2026-03-01T{h:02}:00Z,{500 if h < 6 else 0},{500 if h < 6 else 1000}" for h in range(12)]
    path.write_text("\n".join(["timestamp_utc,gen_coal_mw,gen_wind_mw", *rows]), encoding="utf-8")
    for column, of_coal, of_wind in ((None, 820.0, 11.0), ("ci_direct_g_per_kwh", 760.0, 0.0)):
        history = read_grid(path, column, "auto")
        assert history.g_per_kwh[7] == pytest.approx(of_wind, abs=1.0)
        assert history.g_per_kwh[0] == pytest.approx((of_coal + of_wind) / 2, rel=0.1)
        assert "computed from its generation by source" in history.notes[0]
    with pytest.raises(ValueError, match="leave --column out"):
        read_grid(path, "gen_coal_mw", "auto")
    with pytest.raises(ValueError, match="leave --time-column out"):
        read_grid(path, None, "hour")


def test_generation_by_source_that_says_little_is_refused_and_says_why(tmp_path: Path) -> None:
    path = tmp_path / "frozen.csv"
    rows = [f"2026-03-01T{h:02}:00Z,500,1000" for h in range(24)]
    path.write_text("\n".join(["timestamp_utc,Gen_Coal_MW,gen_wind_mw", *rows]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"of 24 hours only.*frozen"):
        read_grid(path, None, "auto")


def test_an_intensity_that_a_file_tells_is_read_though_it_tells_its_generation_too(tmp_path: Path) -> None:
    path = tmp_path / "both.csv"
    rows = [f"2026-03-01T{h:02}:00Z,500,{h}" for h in range(12)]
    path.write_text("\n".join(["timestamp_utc,gen_coal_mw,ci_lifecycle_g_per_kwh", *rows]), encoding="utf-8")
    assert read_grid(path, None, "auto").g_per_kwh.tolist() == list(range(12))


def test_a_grid_that_the_product_carries_needs_no_file() -> None:
    says = CliRunner().invoke(replay, ["--help"], terminal_width=300, max_content_width=300).output
    assert all(zone in says for zone in carried_zones())
    path = GridFile().convert("US-CISO", None, None)
    history = read_grid(path, None, "auto")
    assert str(history.start).startswith("2019-01-01")
    assert 100.0 < float(history.g_per_kwh.mean()) < 400.0


def test_seconds_since_1970_are_a_calendar() -> None:
    rows = "a,1709251800,60,1\nb,1709255400,60,1\n"
    trace = parse_jobs("job_id,submit_time_s,duration_s,gpus\n" + rows, "t.csv")
    assert [job.submit_s for job in trace.jobs] == [600.0, 4200.0]
    assert trace.anchor == datetime(2024, 3, 1, tzinfo=UTC)


def test_a_moment_that_does_not_go_with_its_seconds_is_told() -> None:
    rows = "a,t,0,2024-03-01T00:00Z,60,1\nb,t,3600,2024-03-01T01:00Z,60,1\nc,t,7200,2024-03-02T02:00Z,60,1\n"
    (note,) = parse_jobs(HEADER + rows, "t.csv").notes
    assert note.startswith("1 jobs have a submit_time_utc that does not go with submit_time_s")


def test_rows_of_several_grids_or_hours_in_a_column_of_their_own_are_no_history(tmp_path: Path) -> None:
    path = tmp_path / "zone.csv"
    for text in (
        "time,zone,g\n" + "".join(f"{t}Z,{zone},300\n" for zone in "AB" for t in HOURS),
        "date,hour,g\n" + "".join(f"2024-03-0{day},{hour},300\n" for day in (1, 2, 3) for hour in range(24)),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match="is a time that came before: are there rows of several grids"):
            read_grid(path, "g")
    path.write_text("time,g\n" + "".join(f"{t}Z,300\n" for t in [*HOURS, HOURS[-1]]))
    assert read_grid(path).notes == [
        "1 rows have a time that came before, and the first counts: are these local times?"
    ]


def test_of_two_columns_of_times_the_one_in_utc_counts(tmp_path: Path) -> None:
    path = tmp_path / "zone.csv"
    path.write_text("local_time,utc,g\n" + "".join(f"2024-03-01T{2 + k:02d}:00,{t},300\n" for k, t in enumerate(HOURS)))
    assert read_grid(path, "g").start == datetime(2024, 3, 1, tzinfo=UTC)


def test_what_is_no_intensity_by_its_name_or_has_no_times_is_told_and_no_moment_is_sought_in_it(tmp_path: Path) -> None:
    path, trace = tmp_path / "zone.csv", tmp_path / "trace.csv"
    path.write_text("Datum,MOER (lbs/MWh)\n" + "".join(f"0{1 + k // 24}.03.2024,900\n" for k in range(48)))
    unit, times = read_grid(path, "MOER (lbs/MWh)").notes
    assert unit.startswith("is MOER (lbs/MWh) an intensity in g/kWh?")
    assert times.startswith("it has no column of times")
    trace.write_text("job_id,submit_time_s,duration_s,gpus\na,0,3600,1\n")
    asked = ["--jobs", str(trace), "--carbon", str(path), "--column", "MOER (lbs/MWh)", "--policy", "fifo"]
    assert "policy fifo: 1 jobs" in CliRunner().invoke(replay, asked).output
    said = CliRunner().invoke(replay, [*asked, "--anchor", "2024-03-01T05:00Z"]).output
    assert "--anchor is a moment, and the carbon file has no column of times" in said
    path.write_text("time,g,g\n" + "".join(f"{t}Z,300,1\n" for t in HOURS))
    with pytest.raises(ValueError, match="has 2 columns 'g'"):
        read_grid(path, "g")
