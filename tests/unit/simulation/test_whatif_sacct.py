# SPDX-License-Identifier: Apache-2.0
"""Slurm's accounting in its many shapes: a right number or a clear word, never a silent wrong number."""

import io
from pathlib import Path

import pytest
from click.testing import CliRunner

from embellie.cli.replay import replay
from embellie.simulation.whatif import sacct
from embellie.simulation.whatif.jobs_file import JobTrace
from embellie_testbed.paths import REPOSITORY

SACCT = REPOSITORY / "docs" / "samples" / "sacct.txt"
HEAD = "JobIDRaw|Account|Submit|ElapsedRaw|AllocTRES|State\n"


def parse_sacct(text: str, name: str, unit: str = "gpus") -> JobTrace:
    return sacct.parse_sacct(io.StringIO(text, newline=None), name, unit)


def left_out(trace: JobTrace) -> dict[int, str]:
    return {row.line: row.why for row in trace.left_out}


def test_slurms_accounting_is_read_and_its_odd_rows_are_named() -> None:
    trace = parse_sacct(SACCT.read_text(), "sacct.txt")
    assert len(trace.jobs) > 100
    assert {job.gpus for job in trace.jobs} >= {1.0, 8.0}
    assert any("never ran" in why for why in trace.reasons())
    assert any("no GPUs" in why for why in trace.reasons())
    with pytest.raises(ValueError, match="AllocTRES"):
        parse_sacct("JobIDRaw|Submit|ElapsedRaw\n", "sacct.txt")


def test_slurms_days_and_kinds_of_gpus_are_understood() -> None:
    text = (
        "JobID|Account|Partition|Submit|Elapsed|AllocTRES\n"
        "7|ml|gpu|2026-01-01T10:30:00|1-02:00:00|billing=8,cpu=64,gres/gpu:a100=8,gres/gpu=8,mem=1T,node=1\n"
        "7.batch|ml|gpu|2026-01-01T10:30:00|1-02:00:00|cpu=64\n"
    )
    (job,) = parse_sacct(text, "x").jobs
    assert (job.gpus, job.duration_s, job.submit_s, job.tenant) == (8.0, 93600.0, 1800.0, "ml")


def test_slurms_other_shapes_are_understood_or_named() -> None:
    head = "State|JobID|JobName|Submit|Start|End|Elapsed|AllocTRES\n"
    rows = [
        "COMPLETED|1|x|1709251200|1709251300|1709254900|01:00:00|cpu=1,gres/gpu:a100=4,gres/gpu:h100=2",
        "CANCELLED by 1001|2_7|x|2024-03-01T01:00:00|x|x|01:00:00|billing=9,gres/gpu:a100=4,gres/gpu=4,gres/gpumem=9G",
        "COMPLETED|3|a|b|2024-03-01T01:00:00|x|x|01:00:00|gres/gpu=4",
        "NODE_FAIL|4|x|2024-03-01T01:00:00|x|x|02:00:00|gres/gpu=4",
        "COMPLETED|4|x|2024-03-01T03:30:00|x|x|20:00:00|gres/gpu=4",
        "COMPLETED|4|x|2024-03-01T03:30:00|x|x|20:00:00|gres/gpu=4",
        "COMPLETED|5|x|Unknown|x|x|20:00:00|gres/gpu=4",
        "COMPLETED|6|x|0001-01-01T00:00:00+14:00|x|x|20:00:00|gres/gpu=4",
    ]
    trace = parse_sacct(head + "\n".join(rows) + "\n", "x")
    assert {job.id: (job.gpus, job.duration_s / 3600.0, job.submit_s / 3600.0) for job in trace.jobs} == {
        "1": (6.0, 1.0, 0.0),
        "2_7": (4.0, 1.0, 1.0),
        "4": (4.0, 2.0, 1.0),
        "4 (requeued 1)": (4.0, 20.0, 3.5),
    }
    why = {row.line: row.why for row in trace.left_out}
    assert "9 fields, and the header has 8" in why[4]
    assert why[7] == "job_id came before in the file"
    assert why[8] == why[9] == "Submit is not a time"


def test_of_a_job_that_two_exports_tell_the_longer_run_counts() -> None:
    rows = [
        "1|a|2024-03-01T00:00:00|600|gres/gpu=1|RUNNING",
        "2|a|2024-03-01T00:00:00|600|gres/gpu=1|COMPLETED",
        "1|a|2024-03-01T00:00:00|7200|gres/gpu=1|COMPLETED",
        "2|a|2024-03-01T00:00:00|600|gres/gpu=1|COMPLETED",
    ]
    trace = parse_sacct(HEAD + "\n".join(rows), "x")
    assert {job.id: job.duration_s for job in trace.jobs} == {"1": 7200.0, "2": 600.0}
    assert left_out(trace) == {2: "it comes again, and ran longer", 5: "job_id came before in the file"}


def test_work_that_waits_for_other_work_counts_from_when_it_could_run() -> None:
    head = "JobIDRaw|Account|Submit|Eligible|Start|ElapsedRaw|AllocTRES|State\n"
    day = "2024-03-01T"
    rows = [
        f"1|a|{day}00:00:00|{day}00:00:00|{day}00:01:00|60|gres/gpu=1|COMPLETED",
        f"2|a|{day}00:10:00|{day}09:00:00|{day}09:01:00|60|gres/gpu=1|COMPLETED",
        f"3|a|{day}01:00:00|Unknown|{day}02:00:00|60|gres/gpu=1|COMPLETED",
        f"4|a|{day}02:00:00|{day}01:00:00|{day}03:00:00|60|gres/gpu=1|COMPLETED",
        f"5|a|{day}03:00:00|{day}09:00:00|{day}04:00:00|60|gres/gpu=1|COMPLETED",
        f"6|a|{day}04:00:00|1709280000|x|60|gres/gpu=1|COMPLETED",
    ]
    trace = parse_sacct(head + "\n".join(rows), "x")
    assert {job.id: job.submit_s / 3600.0 for job in trace.jobs} == {
        "1": 0.0,
        "3": 1.0,
        "4": 2.0,
        "5": 3.0,
        "6": 8.0,
        "2": 9.0,
    }
    assert trace.out_of_order == 0
    (note,) = trace.notes
    assert note.startswith("2 jobs could not run when they were submitted")


def test_a_number_with_a_unit_or_cut_off_is_not_read_as_its_first_digits() -> None:
    tres = ["gres/gpu=4", "gres/gpu=1K", "gres/gpu=1.5", "gres/gpu=1+", "gres/gpu:a100="]
    rows = "\n".join(f"{k}|a|2024-03-01T00:00:00|60|cpu=8,{text}|COMPLETED" for k, text in enumerate(tres))
    trace = parse_sacct(HEAD + rows, "x")
    assert [job.gpus for job in trace.jobs] == [4.0]
    assert set(left_out(trace).values()) == {"it had no GPUs (AllocTRES names no gres/gpu with a number)"}


def test_work_without_gpus_is_counted_in_cpus_where_these_are_asked_for() -> None:
    tres = ["billing=64,cpu=64,mem=1T,node=1", "gres/gpu=4", "mem=4G,cpu=2"]
    rows = "\n".join(f"{k}|a|2024-03-01T00:00:00|60|{text}|COMPLETED" for k, text in enumerate(tres))
    trace = parse_sacct(HEAD + rows, "x", "cpu")
    assert {job.id: job.gpus for job in trace.jobs} == {"0": 64.0, "2": 2.0}
    assert left_out(trace) == {3: "it had no CPUs (AllocTRES names no cpu with a number)"}


def test_a_submission_without_a_time_of_day_or_before_slurm_is_no_time() -> None:
    times = ["2024-03-01", "1970-01-01T00:00:00", "Mar 01 10:00", "None", "2024-03-01T01:00:00+01:00"]
    rows = "\n".join(f"{k}|a|{text}|60|gres/gpu=1|COMPLETED" for k, text in enumerate(times))
    trace = parse_sacct(HEAD + rows, "x")
    assert left_out(trace) == {
        2: "Submit has no time of day",
        3: "Submit is not a time that a job can have",
        4: "Submit is not a time",
        5: "Submit is not a time",
    }
    assert str(trace.anchor) == "2024-03-01 00:00:00+00:00"


def test_names_in_another_code_page_do_not_hide_the_numbers(tmp_path: Path) -> None:
    path = tmp_path / "sacct.txt"
    path.write_bytes((HEAD + "1|Universit\xe9|2024-03-01T00:00:00|60|gres/gpu=1|COMPLETED\n").encode("latin-1"))
    assert [job.gpus for job in sacct.read_sacct(path).jobs] == [1.0]
    path.write_text(HEAD + "1|a|2024-03-01T00:00:00|60|gres/gpu=1|COMPLETED\n", encoding="utf-16")
    with pytest.raises(ValueError, match=r"sacct\.txt is text in UTF-16: save it as CSV in UTF-8"):
        sacct.read_sacct(path)


def test_jobs_of_two_clusters_may_have_one_number() -> None:
    rows = "\n".join(f"1|a|2024-03-01T00:00:00|60|gres/gpu=1|COMPLETED|{name}" for name in ("north", "south", "south"))
    trace = parse_sacct(HEAD.rstrip() + "|Cluster\n" + rows, "x")
    assert [job.id for job in trace.jobs] == ["north/1", "south/1"]
    assert left_out(trace) == {4: "job_id came before in the file"}


def test_slices_of_gpus_are_not_counted_as_whole_ones() -> None:
    tres = ["gres/gpu:1g.10gb=2,gres/gpu=2", "gres/gpu:a100_3g.20gb=1", "gres/gpu:a100=1"]
    rows = "\n".join(f"{k}|a|2024-03-01T00:00:00|60|{text}|COMPLETED" for k, text in enumerate(tres))
    trace = parse_sacct(HEAD + rows, "x")
    assert [job.id for job in trace.jobs] == ["2"]
    assert set(left_out(trace).values()) == {"it had slices of GPUs (MIG): give it in --jobs with its share of a GPU"}


def test_a_clock_that_was_set_while_work_ran_shows_that_times_are_local() -> None:
    head = "JobIDRaw|Submit|Start|End|ElapsedRaw|AllocTRES\n"
    spring = "1|2021-03-14T01:00:00|2021-03-14T01:00:00|2021-03-14T04:00:00|7200|gres/gpu=1\n"
    autumn = "2|2021-11-07T00:00:00|2021-11-07T00:00:00|2021-11-07T03:00:00|14400|gres/gpu=1\n"
    plain = "3|2021-03-15T00:00:00|2021-03-15T00:00:00|2021-03-15T03:00:00|10800|gres/gpu=1\n"
    running = "4|2021-03-15T00:00:00|2021-03-15T00:00:00|Unknown|10800|gres/gpu=1\n"
    (note,) = parse_sacct(head + spring + autumn + plain + running, "x").notes
    assert note.startswith("2 jobs ended an hour more or less after their start than they ran")
    assert parse_sacct(head + plain + running, "x").notes == ()


def test_cpus_do_not_draw_what_gpus_do_unless_somebody_says_so(tmp_path: Path) -> None:
    path = tmp_path / "sacct.txt"
    path.write_text(HEAD + "1|a|2021-03-08T00:00:00|3600|cpu=64|COMPLETED\n")
    asked = ["--sacct", str(path), "--carbon", "US-CISO", "--policy", "fifo", "--units", "cpu"]
    said = CliRunner().invoke(replay, asked).output
    assert "say what a CPU has, with --watts-per-gpu, --embodied-grams-per-gpu-hour" in said
    told = ["--watts-per-gpu", "5", "--embodied-grams-per-gpu-hour", "0.1"]
    page = tmp_path / "page.html"
    said = CliRunner().invoke(replay, [*asked, *told, "--html", str(page)]).output + page.read_text()
    assert "64 CPU-hours" in said
    assert "GPU" not in said.replace("CPU", "")
    assert "with --idle-watts-per-gpu" in CliRunner().invoke(replay, [*asked, *told, "--capacity", "64"]).output
