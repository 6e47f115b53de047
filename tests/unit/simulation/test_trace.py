# SPDX-License-Identifier: Apache-2.0
"""Job traces: what is carried, what a sample holds, and what no trace may hold."""

from pathlib import Path

import pytest

from embellie.simulation import load_trace, sample_trace, shape


def test_the_carried_trace_is_whole() -> None:
    jobs = load_trace()
    assert len(jobs) == 3869
    assert len({j.id for j in jobs}) == 3869
    assert jobs[0].submit_s >= 0
    assert jobs[-1].submit_s < 7 * 86400
    assert {j.gpus for j in jobs} == {1, 2, 4, 8, 16, 32, 64}


def test_a_sample_comes_close_to_its_target_from_below_and_is_always_the_same() -> None:
    trace = load_trace()
    for target in (0.3, 0.55, 0.8):
        found = sample_trace(trace, gpus=256, utilisation=target, max_gpus=32)
        assert target - 0.005 <= found.utilisation <= target
        window = 2 * 86400.0
        load = sum(j.gpus * min(j.duration_s, window - j.submit_s) for j in found.jobs)
        assert load / (256 * window) == pytest.approx(found.utilisation)
    assert sample_trace(trace[::-1], gpus=256, utilisation=0.55) == sample_trace(trace, gpus=256, utilisation=0.55)
    assert sample_trace(trace, gpus=256, utilisation=0.55, seed="x") != sample_trace(trace, gpus=256, utilisation=0.55)


def test_a_sample_counts_its_times_from_the_windows_start() -> None:
    found = sample_trace(
        load_trace(), gpus=256, utilisation=0.5, start_s=86400.0, window_s=86400.0, max_duration_s=7200
    )
    assert all(0 <= j.submit_s < 86400 and j.duration_s <= 7200 for j in found.jobs)


@pytest.mark.parametrize("row", ["a,t,0,-5,1", "a,t,0,nan,1", "a,t,x,5,1", "a,t,0,5,0", "a,t,0,5,1.5", ",t,0,5,1"])
def test_a_row_that_is_no_job_is_refused_with_its_line(tmp_path: Path, row: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(f"job_id,tenant,submit_time_s,duration_s,gpus\nok,t,0,5,1\n{row}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 3"):
        load_trace(path)


def test_a_trace_without_a_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("job_id,gpus\na,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="duration_s"):
        load_trace(path)


@pytest.mark.parametrize(("gpus", "expected"), [(1, (1, 1)), (8, (1, 8)), (16, (2, 8)), (64, (8, 8)), (13, (13, 1))])
def test_a_gangs_shape_is_whole_nodes_where_it_needs_several(gpus: int, expected: tuple[int, int]) -> None:
    assert shape(gpus) == expected
