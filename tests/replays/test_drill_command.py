# SPDX-License-Identifier: Apache-2.0
"""A whole drill from the command line, of a small room with slow turns."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from embellie.cli.thermal_drill import drill as drill_command
from embellie.simulation.drill.run import Result

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


def test_the_command_writes_exactly_the_fields_of_a_result(tmp_path: Path):
    plant, out = tmp_path / "plant.json", tmp_path / "out.json"
    plant.write_text(json.dumps(SMALL | {"control": {"turn_s": 300.0}, "sensors": {"scrape_s": 300.0}}))
    done = CliRunner().invoke(
        drill_command,
        ["--scenario", "gang-512", "--policy", "off", "--seed", "2", "--plant", str(plant), "--json", str(out)],
    )
    assert done.exit_code == 0, done.output
    assert "gang-512" in done.output
    (row,) = json.loads(out.read_text())
    assert list(row) == [f.name for f in fields(Result)]
    assert (row["scenario"], row["seed"], row["policy"]) == ("gang-512", 2, "off")
    assert 0.0 < row["utilisation"] <= 1.0
