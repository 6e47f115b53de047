# SPDX-License-Identifier: Apache-2.0
"""Replays under a power cap: work draws less and runs longer, and no bound moves."""

import numpy as np
import pytest
from click.testing import CliRunner
from two_priced_days import setup

from embellie.cli.replay import replay as command
from embellie.simulation.whatif.capping import Cap, capped, make_cap
from embellie.simulation.whatif.outlook import Perfect
from embellie.simulation.whatif.page import page
from embellie.simulation.whatif.report import fields, lines
from embellie.simulation.whatif.study import POLICIES, How, Result, Setup, replay

HALF = Cap(percent=60.0, speed=0.8, power=0.5)
SAMPLE = ["--sacct", "docs/samples/sacct.txt", "--carbon", "US-PJM", "--anchor", "2021-03-08T00:00Z"]


def run(policy: str, case: Setup, cap: Cap | None = HALF, lengths: str = "true") -> Result:
    return replay(How(policy=policy, lengths=lengths, cap=cap), case, Perfect(case.case.axis))


def test_capped_work_takes_longer_and_draws_idle_power_and_a_part_of_the_rest() -> None:
    result = run("fifo", setup((4.0, 2.0)))
    assert result.outcome.energy_kwh == pytest.approx(5.0 * 2.0 * (0.4 + 0.5 * 0.5) * 1.2)
    assert result.fifo_outcome.energy_kwh == pytest.approx(4.0 * 2.0 * 0.9 * 1.2)
    assert (result.outcome.mean_delay_h, result.fifo_outcome.mean_delay_h) == (pytest.approx(1.0), 0.0)
    assert (result.outcome.gpu_hours, result.capped_jobs) == (pytest.approx(8.0), 1)
    assert result.outcome.embodied_kg == pytest.approx(5.0 * 2.0 * 4.0 / 1000.0)


def test_idle_gpus_are_counted_beside_capped_work_as_beside_any() -> None:
    result = run("fifo", setup((4.0, 2.0), capacity=8.0))
    hours = (result.span[1] - result.span[0]) / 3600.0
    busy = 5.0 * 2.0
    assert result.outcome.energy_kwh == pytest.approx(1.2 * (8.0 * hours * 0.4 + busy * 0.5 * 0.5))


def test_work_that_would_come_past_its_bound_under_a_cap_runs_without() -> None:
    result = run("fifo", setup((4.0, 1.0), (8.0, 1.0), slack_h=1.5))
    assert result.capped_jobs == 1
    ran_h = (result.schedule.end - result.schedule.start) / 3600.0
    assert ran_h.tolist() == pytest.approx([5.0, 8.0])
    assert result.outcome.past_bound == 0


def test_no_bound_moves_and_what_runs_longer_may_wait_less_to_the_last_second() -> None:
    case = setup((4.0, 1.0), (8.0, 1.0), slack_h=1.0)
    work = capped(case.case.work, case.case.site, HALF)
    assert (work.length / 3600.0).tolist() == [5.0, 8.0]
    assert (work.wait / 3600.0).tolist() == [0.0, 1.0]
    for policy in POLICIES:
        assert run(policy, case).outcome.past_bound == 0, policy


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("capacity", [None, 8.0])
def test_no_cap_and_a_cap_that_changes_nothing_are_one(policy: str, capacity: float | None) -> None:
    case = setup((3.0, 2.0), (1.5, 4.0), (7.0, 4.0), capacity=capacity)
    nothing = run(policy, case, Cap(percent=100.0, speed=1.0, power=1.0))
    without = run(policy, case, None)
    assert nothing.outcome == without.outcome
    assert nothing.bound_carbon_kg == without.bound_carbon_kg


def test_a_full_cluster_under_a_cap_keeps_its_capacity_and_its_bound() -> None:
    case = setup(*[(2.0 + i % 5, 1.0 + i % 4) for i in range(40)], capacity=8.0)
    for policy in POLICIES:
        result = run(policy, case)
        used = np.zeros(int(result.schedule.end.max()))
        for j, start, end in zip(result.schedule.job, result.schedule.start, result.schedule.end, strict=True):
            used[start:end] += case.case.work.gpus[j]
        assert used.max() <= 8.0, policy
        assert result.outcome.carbon_kg >= result.bound_carbon_kg * (1.0 - 1e-9), policy


def test_between_the_measured_tenths_speed_and_power_lie_on_a_line_and_what_is_told_counts() -> None:
    assert make_cap(75.0) == Cap(percent=75.0, speed=pytest.approx(0.953), power=pytest.approx(0.824))
    assert make_cap(40.0, 0.7, 0.5) == Cap(percent=40.0, speed=0.7, power=0.5)
    with pytest.raises(ValueError, match=r"--power-cap 40: .* give --cap-speed and --cap-power"):
        make_cap(40.0, speed=0.7)


def test_a_report_says_that_work_ran_under_a_cap_and_first_come_first_served_did_not() -> None:
    case = setup((4.0, 2.0), (2.0, 1.0))
    result = run("embellie", case)
    found = fields(result, 0.1)
    assert (found["power_cap_percent"], found["capped_jobs"]) == (60.0, 2)
    text = "\n".join(lines(found))
    assert "power cap                  60 %, for 2 jobs" in text
    assert "the most with this cap" in text
    assert "2 jobs at a power cap of 60 %" in page(result, case, found)
    plain = fields(run("embellie", case, None), 0.1)
    assert (plain["power_cap_percent"], plain["capped_jobs"]) == (100.0, 0)
    assert "cap" not in "\n".join(lines(plain))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--power-cap", "40"], "give --cap-speed and --cap-power as you measured them"),
        (["--cap-speed", "0.9"], "give --power-cap too"),
        (["--power-cap", "0"], "--power-cap"),
        (["--power-cap", "nan"], "--power-cap"),
        (["--power-cap", "70", "--cap-speed", "1.2"], "--cap-speed"),
        (["--power-cap", "70", "--cap-power", "-1"], "--cap-power"),
    ],
)
def test_a_cap_that_cannot_be_is_refused_by_its_option(options: list[str], told: str) -> None:
    found = CliRunner().invoke(command, [*SAMPLE, *options])
    assert found.exit_code != 0
    assert told in found.output


def test_a_cap_of_all_the_power_is_none() -> None:
    found = CliRunner().invoke(command, [*SAMPLE, "--policy", "fifo", "--power-cap", "100"])
    assert found.exit_code == 0
    assert "cap" not in found.output
