# SPDX-License-Identifier: Apache-2.0
"""The certificate of a plan: confirmed by a checker of its own; its instances survive their file or are refused."""

import json
import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from small_problems import answer, instance

from embellie.cli.main import cli
from embellie.planning.solving.certificate import certificate_to_dict, instance_from_dict, instance_to_dict


def check_certificate(data: dict[str, dict[str, dict[str, list[float]]]]) -> tuple[float, float]:
    """Recompute (objective, bound) by plain loops, sharing nothing with the planner but the file."""
    plan, prices = data["plan"], data["prices"]
    jobs, zones = data["instance"]["jobs"], data["instance"]["zones"]
    slots = len(data["instance"]["edges_h"]) - 1
    n_zones, count = len(zones["gpus"]), len(jobs["gpus"])
    rate = np.array(zones["cost_per_kwh"])
    price_gpu, price_heat = np.array(prices["gpu"]), np.array(prices["heat"])
    gpus, heat = np.zeros((n_zones, slots)), np.zeros((n_zones, slots))
    share, short = np.array(zones["wanted_share"]).reshape(-1, n_zones), np.array(zones["wanted_kw"]).reshape(-1, slots)
    value, price_wanted = (
        np.array(rows).reshape(-1, slots) for rows in (zones["wanted_cost_per_kwh"], prices["wanted"])
    )
    worth_of_wanted = (price_wanted * short).sum()
    objective, worked = [], np.zeros(count)
    for j, first, last in zip(plan["part_job"], plan["part_start"], plan["part_end"], strict=True):
        z = plan["zone"][j]
        assert jobs["zones"][j][z]
        assert first >= jobs["release"][j]
        assert last <= jobs["deadline"][j]
        worked[j] += last - first
        gpus[z, first:last] += jobs["gpus"][j]
        heat[z, first:last] += jobs["limit_kw"][j]
        for row in range(len(short)):
            short[row, first:last] -= share[row, z] * jobs["power_kw"][j]
        objective.append(jobs["power_kw"][j] * rate[z, first:last].sum())
    assert (gpus <= np.array(zones["gpus"]) + 1e-6).all()
    assert (heat <= np.array(zones["heat_kw"]) + 1e-6).all()
    terms = []
    for j in range(count):
        length = round(jobs["duration_h"][j])
        assert worked[j] == (length if plan["zone"][j] >= 0 else 0)
        if plan["zone"][j] < 0:
            objective.append(jobs["unplaced_cost"][j])
        best = jobs["unplaced_cost"][j]
        for z in range(n_zones):
            if not jobs["zones"][j][z]:
                continue
            slot_price = jobs["power_kw"][j] * rate[z] + jobs["gpus"][j] * price_gpu[z]
            slot_price = slot_price + jobs["limit_kw"][j] * price_heat[z]
            for row in range(len(short)):
                slot_price = slot_price - jobs["power_kw"][j] * share[row, z] * price_wanted[row]
            too_small = jobs["gpus"][j] > np.array(zones["gpus"][z]) + 1e-6
            too_small |= jobs["limit_kw"][j] > np.array(zones["heat_kw"][z]) + 1e-6
            slot_price = np.where(too_small, np.inf, slot_price)
            if jobs["pausable"][j]:
                window = slot_price[jobs["release"][j] : jobs["deadline"][j]]
                best = min(best, np.sort(window)[:length].sum())
            else:
                starts = range(jobs["release"][j], jobs["latest_start"][j] + 1)
                best = min(best, *(slot_price[s : s + length].sum() for s in starts))
        terms.append(best)
    worth = (price_gpu * np.array(zones["gpus"])).sum() + (price_heat * np.array(zones["heat_kw"])).sum()
    assert price_gpu.min() >= 0
    assert price_heat.min() >= 0
    assert price_wanted.min(initial=0.0) >= 0
    assert (price_wanted <= value).all()
    objective.append((value * np.maximum(short, 0.0)).sum())
    return math.fsum(objective), math.fsum(terms) - worth + worth_of_wanted


def test_an_independent_checker_confirms_a_certificate_with_wanted_power() -> None:
    # A heat network of zone 0, one of zones 1 and 2, and sun over zones 0 and 1, worth what the grid is dirtier.
    plain = instance(60, 2, hours=36)
    sun = 0.5 * plain.zones.gpus[0] * np.maximum(0.0, np.sin((np.arange(36) - 6.0) * np.pi / 12.0))
    wanted = {
        "wanted_share": np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [1.2, 1.5, 0.0]]),
        "wanted_kw": np.stack([*(np.linspace(0.0, 0.6, 2 * 36).reshape(2, 36) * plain.zones.gpus[:2]), sun]),
        "wanted_cost_per_kwh": np.stack(
            [np.full(36, 90.0), np.full(36, 350.0), np.maximum(plain.zones.cost_per_kwh[0] - 45.0, 0.0)]
        ),
    }
    problem = replace(plain, zones=replace(plain.zones, **wanted))
    plan = answer(problem)
    objective, bound = check_certificate(json.loads(json.dumps(certificate_to_dict(problem, plan))))
    assert objective == pytest.approx(plan.objective, rel=1e-9)
    assert bound == pytest.approx(plan.lower_bound, rel=1e-6)
    assert plan.prices.wanted.max() > 0.0
    assert plan.shortfall_cost > 0.0


def test_an_independent_checker_confirms_the_certificate(tmp_path: Path) -> None:
    out, certificate = tmp_path / "out.json", tmp_path / "certificate.json"
    told = ["plan", "bench", "--jobs", "100", "--zones", "3", "--hours", "72", "--load", "0.5", "--future", "0.2"]
    told += ["--seed", "4", "--budget", "1", "--certificate", str(certificate), "--json", str(out)]
    result = CliRunner().invoke(cli, told)
    assert result.exit_code == 0, result.output
    numbers = json.loads(out.read_text())
    objective, bound = check_certificate(json.loads(certificate.read_text()))
    assert objective == pytest.approx(numbers["objective"], rel=1e-9)
    assert bound == pytest.approx(numbers["lower_bound"], rel=1e-6)
    assert numbers["gap"] == pytest.approx((objective - bound) / bound, rel=1e-4)
    assert numbers["violations"] == 0
    assert numbers["unplaced"] <= numbers["fifo_unplaced"]
    assert {"greedy_seconds", "greedy_gap", "seconds", "peak_rss_mib"} <= numbers.keys()
    again = CliRunner().invoke(cli, ["plan", "bench", "--instance", str(certificate), "--budget", "1"])
    assert json.loads(again.output)["jobs"] == 100


def test_a_certificate_without_a_budget_of_time_is_the_same_whatever_the_clock_says(tmp_path: Path) -> None:
    drawn = ["--jobs", "150", "--zones", "1", "--hours", "48", "--load", "2"]

    def certified(name: str, *told: str) -> Path:
        path = tmp_path / name
        result = CliRunner().invoke(cli, ["plan", "bench", *told, "--restarts", "2", "--certificate", str(path)])
        assert json.loads(result.output)["restarts"] == 2
        return path

    first = certified("first.json", *drawn)
    for name, told in {"cpu.json": [*drawn, "--clock", "cpu"], "audit.json": ["--instance", str(first)]}.items():
        assert certified(name, *told).read_bytes() == first.read_bytes()
    result = CliRunner().invoke(cli, ["plan", "bench", "--restarts", "2", "--budget", "5"])
    assert result.exit_code == 2
    assert "give --budget or --restarts" in result.output


def test_an_instance_that_cannot_be_read_says_which_field(tmp_path: Path) -> None:
    path = tmp_path / "instance.json"
    data = instance_to_dict(instance(3, 0))
    del data["jobs"]["gpus"]
    path.write_text(json.dumps(data))
    result = CliRunner().invoke(cli, ["plan", "bench", "--instance", str(path)])
    assert result.exit_code == 1
    assert "no field gpus" in result.output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no JSON", "cannot be read as JSON"),
        ("[1, 2]", "must be an instance or a certificate"),
        ('{"instance": 3}', "the instance's format is None"),
        ('{"format": "embellie-plan/1", "zones": {"gpus": 3}}', "no field"),
    ],
)
def test_a_file_that_is_no_instance_says_what_one_is(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "instance.json"
    path.write_text(text)
    result = CliRunner().invoke(cli, ["plan", "bench", "--instance", str(path)])
    assert result.exit_code == 1
    assert says in result.output


@pytest.mark.parametrize("value", [3, -1.5, "x", None, [], [[]], [None], {}, [float("nan")], [10**400]], ids=repr)
def test_a_field_of_an_instance_that_is_something_else_is_refused_or_read(value: object) -> None:
    whole = instance_to_dict(instance(3, 0))
    for part in (whole, whole["zones"], whole["jobs"]):
        for name in part:
            kept, part[name] = part[name], value
            # What is no ValueError fails the test, and so does an instance that is another one when it is read again.
            with suppress(ValueError):
                read = instance_to_dict(instance_from_dict(whole))
                assert instance_to_dict(instance_from_dict(read)) == read
            part[name] = kept


def test_instances_survive_the_file() -> None:
    problem = instance(5, 0)
    problem = replace(problem, zones=replace(problem.zones, heat_kw=np.full_like(problem.zones.heat_kw, np.inf)))
    again = instance_from_dict(json.loads(json.dumps(instance_to_dict(problem))))
    assert np.array_equal(again.zones.heat_kw, problem.zones.heat_kw)
    assert np.array_equal(again.jobs.zones, problem.jobs.zones)
    plan = answer(problem)
    assert answer(again).objective == plan.objective
    assert certificate_to_dict(problem, plan)["plan"]["zone"] == plan.zone.tolist()
