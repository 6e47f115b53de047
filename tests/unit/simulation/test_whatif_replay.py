# SPDX-License-Identifier: Apache-2.0
"""Replays by hand: what runs when, what the cluster draws, and what nobody can go below."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from embellie.cli.replay import replay as command
from embellie.simulation.whatif.ahead import Ahead
from embellie.simulation.whatif.axis import Axis
from embellie.simulation.whatif.case import Site
from embellie.simulation.whatif.jobs_file import JobRow
from embellie.simulation.whatif.oracle import oracle
from embellie.simulation.whatif.outlook import Issued, Noisy, Perfect
from embellie.simulation.whatif.page import page
from embellie.simulation.whatif.report import fields, lines
from embellie.simulation.whatif.slack import Slack
from embellie.simulation.whatif.study import POLICIES, How, Power, Result, Setup, make_setup
from embellie.simulation.whatif.study import replay as replayed

DAY = [400.0] * 18 + [100.0] * 6
HOUR_S = 3600.0


def job(name: str, submit_h: float, hours: float, gpus: float = 1.0, tenant: str = "") -> JobRow:
    return JobRow(id=name, tenant=tenant, kind="", submit_s=submit_h * HOUR_S, duration_s=hours * HOUR_S, gpus=gpus)


def setup(
    *jobs: JobRow, capacity: float | None = None, pausable: float = 1.0, idle_kw: float = 0.0, slack_h: float = 24.0
) -> Setup:
    return make_setup(
        sorted(jobs, key=lambda j: j.submit_s),
        Axis(values=np.array(DAY * 10), tick_s=1.0, ticks_per_slot=3600),
        Site(capacity_gpus=capacity, idle_kw_per_gpu=idle_kw),
        slack=Slack(short_h=slack_h, long_h=slack_h),
        power=Power(watts_per_gpu=1000.0),
        pausable=pausable,
        anchor=None,
        past=np.array(DAY * 7),
    )


def run(policy: str, case: Setup, lengths: str = "true") -> Result:
    return replayed(How(policy=policy, lengths=lengths), case, Perfect(case.case.axis))


def starts_h(result: Result) -> list[float]:
    return (result.schedule.start / HOUR_S).tolist()


def test_first_come_first_served_starts_what_fits_and_lets_small_gangs_overtake() -> None:
    case = setup(job("a", 0, 2, 4), job("b", 0.1, 2, 8), job("c", 0.2, 2, 4), capacity=8)
    result = run("fifo", case)
    assert starts_h(result) == pytest.approx([0.0, 2.2, 0.2])
    assert result.normalised_carbon == 1.0


def test_work_that_may_wait_moves_into_the_clean_hours() -> None:
    for policy in ("embellie", "lowest-window", "lowest-slot", "wait-awhile"):
        result = run(policy, setup(job("a", 0, 2), pausable=0.0))
        assert starts_h(result) == pytest.approx([18.0]), policy
        assert result.outcome.carbon_kg == pytest.approx(0.2)
        assert result.share_of_bound == pytest.approx(1.0)


def on(case: Setup, *hours: float) -> Setup:
    return replace(case, case=replace(case.case, axis=Axis(values=np.array(hours), tick_s=1.0, ticks_per_slot=3600)))


def test_work_that_may_not_be_paused_starts_inside_an_hour_so_that_it_ends_with_a_clean_one() -> None:
    case = on(setup(job("a", 0, 1.5), pausable=0.0), *[400.0] * 5, 200.0, 100.0, *[400.0] * 60)
    assert starts_h(run("embellie", case)) == [5.5]


@pytest.mark.parametrize("lengths", ["true", "queue-mean"])
def test_the_last_moment_that_a_job_may_wait_for_is_a_start_too(lengths: str) -> None:
    case = on(setup(job("a", 0.2, 0.4), pausable=0.0, slack_h=2.5), 400.0, 300.0, 200.0, *[100.0] * 60)
    result = run("embellie", case, lengths)
    assert starts_h(result) == pytest.approx([2.7])
    assert result.outcome.past_bound == 0


@pytest.mark.parametrize(
    ("past", "slack_taken", "costs"),
    [([50.0, 350.0], 1.0, 0.02 * 200.0), ([400.0, 404.0], 0.0, 0.01 * 2.0), ([400.0, 404.0], 1.0, 0.05 * 2.0)],
)
def test_where_hours_are_much_alike_an_hours_wait_must_save_less(
    past: list[float], slack_taken: float, costs: float
) -> None:
    axis = setup().case.axis
    ahead = Ahead(axis, Perfect(axis), horizon_h=24.0, past=np.array(past * 24))
    assert ahead.wait_price(0.02, slack_taken) == pytest.approx(costs)


@pytest.mark.parametrize(("gangs", "start"), [(0, 5.0), (1, 5.0), (2, 0.0)])
def test_the_less_slack_is_left_the_more_a_wait_must_save(gangs: int, start: float) -> None:
    large = [job(f"large-{i}", 0.0, 17.0, 6.0) for i in range(gangs)]
    case = on(setup(job("small", 0.0, 1.0), *large, capacity=8.0), *[300.0] * 5, 288.0, *[300.0] * 90)
    case = replace(case, past=np.array([200.0, 400.0] * 84))
    result = run("embellie", case)
    row = result.work.ids.index("small")
    assert starts_h(result)[result.schedule.job.tolist().index(row)] == start


@pytest.mark.parametrize("lengths", ["true", "queue-mean", "predicted"])
@pytest.mark.parametrize("pausable", [0.0, 1.0])
def test_nothing_waits_or_is_paused_where_all_hours_are_alike(lengths: str, pausable: float) -> None:
    jobs = [job(f"j{i}", 0.7 * i, 0.3 + 1.9 * (i % 7)) for i in range(20)]
    case = setup(*jobs, pausable=pausable)
    flat = replace(case.case, axis=Axis(values=np.full(240, 250.1), tick_s=1.0, ticks_per_slot=3600))
    for past in (np.full(168, 250.1), np.zeros(0)):
        result = run("embellie", replace(case, case=flat, past=past), lengths)
        assert (result.outcome.max_delay_h, result.outcome.pauses) == (0.0, 0)


def test_what_a_wait_must_save_is_known_though_no_forecast_was_issued_yet() -> None:
    axis = setup().case.axis
    nobody_knows = Issued(axis, {0: np.zeros(96)})
    assert Ahead(axis, nobody_knows, horizon_h=24.0, past=np.zeros(0)).wait_price(0.01) == pytest.approx(0.01 * 325.0)


def test_a_gang_larger_than_the_cluster_is_counted_and_the_rest_runs() -> None:
    result = run("embellie", setup(job("big", 0, 1, 99), job("a", 0, 1), capacity=8))
    assert result.refused == 1
    assert result.outcome.finished == 1


def test_a_full_cluster_shows_the_illusion_of_the_sum_over_jobs() -> None:
    # Two days of work for every GPU: whoever waits lets another one run.
    jobs = [job(f"j{i}", 0, 12.0) for i in range(8)]
    result = run("lowest-window", setup(*jobs, capacity=2, slack_h=24.0, pausable=0.0))
    assert result.naive_saving_pct > 100.0 * (1.0 - result.normalised_carbon) + 5.0


def test_idle_gpus_draw_power_whenever_they_do_not_work() -> None:
    result = run("fifo", setup(job("a", 0, 2, 1), capacity=4, idle_kw=0.5))
    assert result.outcome.energy_kwh == pytest.approx(2.0 + 2 * 3 * 0.5)
    assert result.outcome.idle_kwh == pytest.approx(3.0)
    assert result.outcome.idle_gpu_hours == pytest.approx(6.0)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("capacity", [None, 6.0])
def test_every_policy_runs_all_work_within_the_capacity_and_above_the_bound(
    policy: str, capacity: float | None
) -> None:
    rng = np.random.default_rng(3)
    jobs = [
        job(f"j{i}", float(rng.uniform(0, 20)), float(rng.exponential(3) + 0.1), float(rng.integers(1, 4)), f"t{i % 3}")
        for i in range(24)
    ]
    case = setup(*jobs, capacity=capacity, pausable=0.5)
    for lengths in ("true", "predicted"):
        result = run(policy, case, lengths)
        assert result.outcome.finished == 24
        done = np.bincount(
            result.schedule.job, weights=(result.schedule.end - result.schedule.start).astype(float), minlength=24
        )
        assert done.tolist() == case.case.work.length.tolist()
        assert result.bound_carbon_kg <= result.outcome.carbon_kg * (1 + 1e-9)
        assert result.bound_carbon_kg <= result.fifo_outcome.carbon_kg * (1 + 1e-9)
        parts = np.bincount(result.schedule.job, minlength=24)
        assert np.all(parts[~case.case.work.pausable] == 1)
        if capacity is None:
            assert result.outcome.past_bound == 0
        else:
            ticks = np.sort(np.unique(result.schedule.start))
            inside = (result.schedule.start[None] <= ticks[:, None]) & (result.schedule.end[None] > ticks[:, None])
            assert (inside @ case.case.work.gpus[result.schedule.job]).max() <= capacity


def test_the_same_question_has_the_same_answer() -> None:
    case = setup(*[job(f"j{i}", i * 0.3, 1 + i % 5, 1 + i % 3) for i in range(20)], capacity=9, pausable=0.5)
    first, second = (run("embellie", case, "predicted") for _ in range(2))
    assert first.schedule.start.tolist() == second.schedule.start.tolist()
    assert first.bound_carbon_kg == second.bound_carbon_kg


def test_noise_is_drawn_by_its_seed() -> None:
    axis = setup(job("a", 0, 1)).case.axis
    assert Noisy(axis, 0.05, 1).ahead(0, 24).tolist() == Noisy(axis, 0.05, 1).ahead(0, 24).tolist()
    assert Noisy(axis, 0.05, 1).ahead(0, 24).tolist() != Noisy(axis, 0.05, 2).ahead(0, 24).tolist()


def test_the_oracle_by_hand() -> None:
    hourly = np.array([3.0, 1.0, 2.0, 1.0, 4.0])
    cell = oracle(hourly, 2, 1)
    assert cell.n_starts == 4
    assert cell.baseline == pytest.approx((4 + 3 + 3 + 5) / 4)
    assert cell.contiguous == pytest.approx((3 + 3 + 3 + 5) / 4)
    assert cell.split == pytest.approx((3 + 2 + 3 + 5) / 4)


def test_the_oracle_saves_nothing_where_nothing_is_emitted() -> None:
    cell = oracle(np.zeros(10), 2, 3)
    assert (cell.baseline, cell.contiguous_saving_pct, cell.split_saving_pct) == (0.0, 0.0, 0.0)


def test_the_command_reads_a_trace_with_bad_rows_and_writes_numbers_and_a_page(tmp_path: Path) -> None:
    trace, carbon = tmp_path / "jobs.csv", tmp_path / "zone.csv"
    lines = [f"j{i},t{i % 2},{i * 900},{600 + 700 * (i % 9)},{1 + i % 4}" for i in range(30)]
    trace.write_text("job_id,tenant,submit_time_s,duration_s,gpus\n" + "\n".join([*lines, "x,t,,5,1", "j0,t,1,5,1"]))
    hours = [f"2026-01-{1 + h // 24:02d}T{h % 24:02d}:00Z,{DAY[h % 24]}" for h in range(240)]
    carbon.write_text("utc,ci_lifecycle_g_per_kwh\n" + "\n".join(hours))
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    done = CliRunner().invoke(
        command,
        ["--jobs", str(trace), "--carbon", str(carbon), "--capacity", "12", "--slack", "24h", "--lengths", "predicted",
         "--interruptible", "0.5", "--seeds", "0..1", "--json", str(out), "--html", str(page)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "line 32 left out: submit_time_s is empty" in done.output
    found = json.loads(out.read_text())
    wanted = (
        "policy jobs carbon_kg normalised_carbon naive_saving_pct mean_wait_gaia_h mean_delay_h p95_delay_h "
        "max_delay_h past_bound bound_carbon_kg share_of_bound peak_kw energy_kwh idle_kwh jain_delay seconds"
    )
    assert set(wanted.split()) <= set(found)
    assert (found["jobs"], found["rows_left_out"], len(found["seeds"])) == (30, 2, 2)
    html = page.read_text()
    assert html.count("<svg") >= 3
    assert "http" not in html.replace("http-equiv", "")
    assert "This page shows the last of 2 seeds" in html
    assert f"<b>{found['seeds'][-1]['saving_pct']:.1f} %</b>" in html


def test_what_was_emitted_more_is_called_more_and_late_jobs_are_compared_where_there_are_any() -> None:
    case = setup(job("a", 0, 2, 4), capacity=8)
    result = run("embellie", case)
    found = fields(result, 0.0) | {"saving_pct": -3.21}
    assert "3.21 % more than first come first served" in lines(found)[1]
    assert "<b>3.2 %</b>more CO2e" in page(result, case, found)
    assert lines(found)[4].endswith("0 past their bound (first come first served: 0)")
    late = found | {"past_bound": 2, "past_bound_as_fifo": 1}
    assert lines(late)[4].endswith("2 past their bound (first come first served: 0, 1 of them the same jobs)")


def test_no_amount_is_written_as_a_power_of_ten(tmp_path: Path) -> None:
    trace, carbon, page = tmp_path / "jobs.csv", tmp_path / "zone.csv", tmp_path / "out.html"
    trace.write_text(
        "job_id,tenant,submit_time_s,duration_s,gpus\n" + "".join(f"j{i},t{i},0,7200,999\n" for i in range(13))
    )
    hours = [f"2026-01-{1 + h // 24:02d}T{h % 24:02d}:00Z,{DAY[h % 24]}" for h in range(96)]
    carbon.write_text("utc,ci_lifecycle_g_per_kwh\n" + "\n".join(hours))
    done = CliRunner().invoke(command, ["--jobs", str(trace), "--carbon", str(carbon), "--html", str(page)])
    assert done.exit_code == 0, done.output
    assert not re.search(r"\de\+\d", done.output + page.read_text())
    assert "Mean delay of the 12 tenants with most jobs" in page.read_text()


def test_a_trace_that_begins_within_a_step_of_the_history_keeps_its_minutes(tmp_path: Path) -> None:
    trace, carbon, out = tmp_path / "jobs.csv", tmp_path / "zone.csv", tmp_path / "out.json"
    trace.write_text("job_id,submit_time_s,duration_s,gpus\na,0,3600,1\n")
    carbon.write_text("utc,ci_g_per_kwh\n2026-01-01T00:00Z,100\n2026-01-01T01:00Z,200\n2026-01-01T02:00Z,400\n")
    args = ["--policy", "fifo", "--watts-per-gpu", "1000", "--pue", "1", "--json", str(out)]
    done = CliRunner().invoke(
        command, ["--jobs", str(trace), "--carbon", str(carbon), "--anchor", "2026-01-01T00:45Z", *args]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text())["carbon_kg"] == pytest.approx(0.25 * 0.1 + 0.75 * 0.2)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--wait", "6h"], "--wait: '6h' must be two numbers of hours, such as 6x24"),
        (["--slack", "-3h"], "--slack: '-3h' is not a duration"),
        (["--wait", "6x24", "--slack", "24h"], "only one of"),
        (["--interruptible", "2"], "--interruptible"),
        (["--forecast", "magic"], "--forecast"),
        (["--seeds", "9..0"], "--seeds"),
        (["--step", "soon"], "--step must be a length of time such as 5s, 30min or 1h"),
        (["--horizon", "soon"], "--horizon must be a length of time"),
        (["--anchor", "2026-03-08T00:00Z"], "or say with --anchor which moment of it the trace begins at"),
        (["--carbon", "us-ciso"], "there is no file us-ciso (did you mean US-CISO?)"),
        (["--carbon", "FR"], "there is no file FR, and carried grids are US-CISO, US-PJM"),
        (["--start-hour", "9999"], "--start-hour must lie within the 3 h of the carbon file"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(tmp_path: Path, args: list[str], words: str) -> None:
    trace, carbon = tmp_path / "jobs.csv", tmp_path / "zone.csv"
    trace.write_text("job_id,submit_time_s,duration_s,gpus\na,0,3600,1\n")
    carbon.write_text("utc,ci_g_per_kwh\n2026-01-01T00:00Z,1\n2026-01-01T01:00Z,2\n2026-01-01T02:00Z,2\n")
    done = CliRunner().invoke(command, ["--jobs", str(trace), "--carbon", str(carbon), *args])
    assert done.exit_code != 0
    assert words in done.output


def test_the_oracle_is_told_in_words_and_units(tmp_path: Path) -> None:
    carbon, numbers = tmp_path / "zone.csv", tmp_path / "oracle.json"
    hours = "".join(f"2026-01-01T{h:02}:00Z,{400 - 100 * (h % 2)}\n" for h in range(4))
    carbon.write_text(f"utc,ci_g_per_kwh\n{hours}")
    asked = ["oracle", "--carbon", str(carbon), "--job-hours", "1", "--slack-hours", "1", "--json", str(numbers)]
    done = CliRunner().invoke(command, asked)
    # At 300 and 400 g/kWh by turns, a job of an hour that may wait another one always finds 300.
    assert "at once                    350.0 g/kWh" in done.output
    assert "in one piece, at its best  300.0 g/kWh, 14.29 % less" in done.output
    assert json.loads(numbers.read_text())["n_starts"] == 4


def test_the_command_says_which_hours_it_replayed(tmp_path: Path) -> None:
    trace, carbon = tmp_path / "jobs.csv", tmp_path / "zone.csv"
    trace.write_text("job_id,submit_time_s,duration_s,gpus\na,0,3600,1\n")
    carbon.write_text("utc,ci_g_per_kwh\n" + "".join(f"2026-01-01T{h:02}:00Z,300\n" for h in range(24)))
    done = CliRunner().invoke(command, ["--jobs", str(trace), "--carbon", str(carbon), "--slack", "4h"])
    assert "1 GPU-hours, 1 kWh, 01 January 2026 to 01 January 2026 (UTC)" in done.output
