# SPDX-License-Identifier: Apache-2.0
"""Traces of a million rows, and cells with line breaks: rows are read one by one, and none swallows another."""

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from embellie.cli.grid_history import read_grid
from embellie.simulation.whatif.jobs_file import JobTrace, read_jobs
from embellie.simulation.whatif.sacct import read_sacct

JOBS = "job_id,tenant,submit_time_s,duration_s,gpus,note\n"
SACCT = "JobIDRaw|Submit|ElapsedRaw|AllocTRES|JobName\n"
ROWS = 5_000
NOTE = "x" * 2_000


def jobs_of(path: Path, text: str) -> JobTrace:
    path.write_text(text, encoding="utf-8")
    return read_jobs(path)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (read_jobs, JOBS + "".join(f"{k},t,{k},60,1,{NOTE}\n" for k in range(ROWS))),
        (read_sacct, SACCT + "".join(f"{k}|1709251200|60|gres/gpu=1|{NOTE}\n" for k in range(ROWS))),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_trace_is_never_held_whole(tmp_path: Path, read: Callable[[Path], JobTrace], text: str, packed: bool) -> None:
    path, raw = tmp_path / "trace", text.encode()
    path.write_bytes(gzip.compress(raw, compresslevel=1) if packed else raw)
    tracemalloc.start()
    try:
        assert len(read(path).jobs) == ROWS
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < len(raw) / 3


def test_a_cell_in_quotes_may_hold_line_breaks_and_lines_are_still_those_of_the_file(tmp_path: Path) -> None:
    rows = ['a,t,0,60,1,"first\nsecond, ""third""\n"', "b,t,x,60,1,", '"c","t","5","60","2",""', "d,t,6,-1,1,"]
    trace = jobs_of(tmp_path / "t.csv", JOBS + "\n".join(rows) + "\n")
    assert [job.id for job in trace.jobs] == ["a", "c"]
    assert {row.line: row.why for row in trace.left_out} == {
        5: "submit_time_s is not a number",
        7: "duration_s is negative",
    }
    zone = tmp_path / "zone.csv"
    zone.write_text('time,"g",note\n2024-03-01T00:00Z,300,"a\nb"\n2024-03-01T01:00Z,310,\n')
    assert read_grid(zone, "g").g_per_kwh.tolist() == [300.0, 310.0]


@pytest.mark.parametrize("later", [0, 3, 30_000])
def test_a_quote_that_stays_open_costs_its_own_line_alone(tmp_path: Path, later: int) -> None:
    rows = ['a,"t,0,60,1,', *(f"{k},t,{k},60,1," for k in range(later)), 'z,"t",7,60,1,', '"y,t,8,60,1,']
    trace = jobs_of(tmp_path / "t.csv", JOBS + "\n".join(rows) + "\n")
    assert len(trace.jobs) == later + 1
    said = "a quote is opened in it and not closed"
    assert [(row.line, row.why) for row in trace.left_out] == [(2, said), (later + 4, said)]


def test_a_file_of_open_quotes_is_read_as_fast_as_any(tmp_path: Path) -> None:
    # Each looks ahead for its end: that must not be to the end of the file each time.
    text = JOBS + "".join(f'{k},"t,{k},60,1,{NOTE}\n' for k in range(ROWS))
    assert len(jobs_of(tmp_path / "t.csv", text).left_out) == ROWS
