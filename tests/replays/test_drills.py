# SPDX-License-Identifier: Apache-2.0
"""Whole drills of a small room with slow turns: alone and beside others, rerun, blind, and from the command line."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from embellie.cli.thermal_drill import drill as drill_command
from embellie.simulation.drill import count
from embellie.simulation.drill.baselines import Off, Threshold
from embellie.simulation.drill.operator import OperatorPolicy
from embellie.simulation.drill.rig import Rig, prepare
from embellie.simulation.drill.run import Result
from embellie.simulation.plant import PlantSpec, parse_plant

SMALL: dict[str, Any] = {
    "hall": {
        "rows": 1,
        "racks_per_row": 2,
        "crac_airflow_kw_per_k": 1.5,
        "crac_coil_kw_per_k": 3.0,
        "chiller_kw": 90.0,
        "economiser_kw_per_k": 3.0,
        "air_heat_capacity_kj_per_k": 900.0,
        "chilled_water_heat_capacity_kj_per_k": 3000.0,
    },
    "loop": {"nodes": 0},
    "control": {"turn_s": 60.0},
    "sensors": {"scrape_s": 60.0},
}


@pytest.fixture(scope="module")
def small() -> PlantSpec:
    return parse_plant(SMALL)


@pytest.mark.parametrize("policy", [Off, Threshold, OperatorPolicy])
def test_a_drill_is_the_same_alone_and_beside_others(small: PlantSpec, policy: Any):
    mine, other = prepare("loss-of-crac", 1, small), prepare("lying-sensor", 2, small)
    logs = []
    for drills in ([mine], [other, mine]):
        rig = Rig(drills)
        logs.append(rig.run(policy(rig), 1500.0))
    assert np.array_equal(logs[0].inlet_c[:, 0], logs[1].inlet_c[:, 1])
    assert logs[0].heat_kw.max() > 30.0


def test_a_rerun_without_later_starts_starts_nothing_later(small: PlantSpec):
    rig = Rig([prepare("heatwave", 1, small)])
    rig.run(OperatorPolicy(rig, starts_until_s=[0.0]), 1200.0)
    assert rig.sites[0].busy == 0
    assert rig.sites[0].waiting


def test_without_telemetry_the_operator_starts_nothing_that_the_worst_case_would_not_allow(small: PlantSpec):
    drill = prepare("no-telemetry", 1, small)
    trouble = replace(drill.course.troubles[0], begin_s=0.0, end_s=3600.0)
    drill = replace(drill, course=replace(drill.course, troubles=(trouble,)))
    rig = Rig([drill])
    log = rig.run(OperatorPolicy(rig), 3600.0)
    assert not count.violations(drill, log, 0, rig.zones)


def test_the_command_writes_exactly_the_fields_of_a_result(tmp_path: Path):
    plant, out = tmp_path / "plant.json", tmp_path / "out.json"
    plant.write_text(json.dumps(SMALL | {"control": {"turn_s": 300.0}, "sensors": {"scrape_s": 300.0}}))
    done = CliRunner().invoke(
        drill_command,
        ["--scenario", "gang-512", "--policy", "off", "--seed", "2", "--plant", str(plant), "--json", str(out)],
    )
    assert done.exit_code == 0, done.output
    assert "gang-512" in done.output
    assert "1 drill under off: " in done.output
    assert "useful GPU-hours" in done.output, "the columns are explained"
    (row,) = json.loads(out.read_text())
    assert list(row) == [f.name for f in fields(Result)]
    assert (row["scenario"], row["seed"], row["policy"]) == ("gang-512", 2, "off")
    assert 0.0 < row["utilisation"] <= 1.0


def test_a_rerun_without_later_forced_starts_is_the_same_before_them(small: PlantSpec):
    logs, forced = [], []
    middle_s = 1140.0
    for later_s in (np.inf, middle_s, 0.0):
        # Promises collide with the contract from the beginning on.
        drill = prepare("heatwave", 1, small)
        drill = replace(drill, contract_kw=0.5 * drill.contract_kw)
        due = tuple(replace(job, latest_start_s=job.submit_s + 600.0) for job in drill.jobs)
        rig = Rig([replace(drill, jobs=due)])
        logs.append(rig.run(OperatorPolicy(rig, no_forced_from_s=[later_s]), 1800.0))
        forced.append([at_s for at_s, _, _ in rig.sites[0].tally.forced])
    before = round(middle_s / logs[0].turn_s)
    assert np.array_equal(logs[0].heat_kw[:before], logs[1].heat_kw[:before])
    assert forced[1] == [at_s for at_s in forced[0] if at_s < middle_s]
    assert max(forced[0]) >= middle_s > max(forced[1])
    assert not forced[2]
