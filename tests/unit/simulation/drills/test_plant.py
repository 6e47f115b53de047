# SPDX-License-Identifier: Apache-2.0
"""The plant's parts, its file, its sensors and its weather; it is written apart from the operator's models."""

import ast
from pathlib import Path

import numpy as np
import pytest

import embellie.simulation.plant as plant_package
from embellie.simulation.plant import Noise, PlantError, PlantSpec, Rooms, Sensors, parse_plant, read_plant
from embellie.simulation.plant.exchange import counterflow
from embellie.simulation.plant.weather import regional, wet_bulb_c
from embellie_testbed.paths import REPOSITORY


def test_an_exchanger_carries_no_more_than_its_smaller_flow_can_take():
    carried = counterflow(np.array([1e6, 10.0]), np.array([50.0, 50.0]), np.array([80.0, 80.0]))
    assert carried[0] == pytest.approx(50.0, rel=0.05)
    assert carried[1] < 10.0


def test_sensors_are_late_stepped_stuck_silent_or_lying_as_told():
    spec = parse_plant({"sensors": {"delay_s": 60.0, "noise_k": 0.0, "quantum_k": 0.5, "power_noise": 0.0}})
    rooms = Rooms([spec])
    sensors = Sensors(rooms, Noise([(1,)], len(Sensors(rooms, lambda: np.zeros(0)).names)))
    column = sensors.index["outdoor"]
    seen = []
    for k in range(6):
        rooms.time_s = 30.0 * k
        sensors.record(np.array([20.0 + k]), np.array([10.0]))
        seen.append(sensors.read()[0][0, column])
    assert seen == [20.0, 20.0, 20.0, 21.0, 22.0, 23.0]
    sensors.offset[0, column] = -5.0
    assert sensors.read()[0][0, column] == 18.0
    sensors.stuck[0, column] = True
    sensors.offset[0, column] = 0.0
    assert sensors.read()[0][0, column] == 18.0
    sensors.silent[0, column] = True
    assert np.isnan(sensors.read()[0][0, column])


def test_a_room_sees_the_same_noise_whoever_stands_beside_it():
    alone, beside = Noise([(7, 1)], 3), Noise([(9, 9), (7, 1)], 3)
    for _ in range(300):
        assert alone()[0].tolist() == beside()[1].tolist()


def test_rooms_of_other_layouts_do_not_advance_together():
    with pytest.raises(ValueError, match="same layout"):
        Rooms([PlantSpec(), parse_plant({"hall": {"rows": 1}})])


def test_a_room_without_a_loop_has_rows_only():
    rooms = Rooms([parse_plant({"loop": {"nodes": 0}, "hall": {"rows": 1}})])
    rooms.advance(np.zeros((1, 16)), np.full((1, 5), 140.0), np.array([20.0]), np.array([10.0]), 30.0)
    assert rooms.zones == ("row-a",)
    assert rooms.zone_inlet_c().shape == (1, 1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([], "must be a mapping"),
        ({"hall": {"crac_unit": 3}}, "hall.crac_unit: there is no such field"),
        ({"hall": {"crac_units": 0}}, "hall.crac_units"),
        ({"loop": {"coolant_flow_kw_per_k": -1}}, "loop.coolant_flow_kw_per_k"),
        ({"sensors": {"delay_s": float("nan")}}, "sensors.delay_s"),
        ({"limits": {"inlet_soft_c": 33}}, "limits: limits.inlet_soft_c must be below limits.inlet_hard_c"),
        ({"hall": {"supply_setpoint_c": 31}}, "must be above hall.supply_setpoint_c"),
        ({"limits": {"inlet_soft_c": 24}}, "limits.inlet_soft_c must be more than 2 K above hall.supply_setpoint_c"),
        ({"hall": {"rack_airflow_kw_per_k": 0.3}}, "hall.rack_airflow_kw_per_k"),
        ({"node": {"idle_kw": 60}}, "hall.rack_airflow_kw_per_k"),
        ({"hall": {"structure_heat_capacity_kj_per_k": 100}}, "hall.structure_heat_capacity_kj_per_k"),
        ({"control": {"turn_s": "soon"}}, "control.turn_s"),
    ],
)
def test_a_bad_plant_file_is_refused_with_the_name_of_the_field(content: object, says: str):
    with pytest.raises(PlantError, match=says.replace(".", r"\.")):
        parse_plant(content)


def test_a_plant_file_may_be_json_or_yaml_and_says_when_it_is_neither(tmp_path: Path):
    path = tmp_path / "plant"
    path.write_text('{"hall": {"rows": 3}}')
    assert read_plant(path).hall.rows == 3
    path.write_text("hall:\n  rows: 4\n")
    assert read_plant(path).hall.rows == 4
    path.write_text("")
    assert read_plant(path) == PlantSpec()
    path.write_text("hall: [")
    with pytest.raises(PlantError, match="neither JSON nor YAML"):
        read_plant(path)


def test_every_field_of_a_plant_file_is_on_the_page():
    page = (REPOSITORY / "docs" / "drills.md").read_text(encoding="utf-8")
    for section, part in PlantSpec.model_fields.items():
        assert f"`{section}`" in page
        for name in getattr(type(part.default), "model_fields", {}):
            assert f"| `{name}` |" in page, f"{section}.{name}"


def test_the_plant_knows_nothing_of_the_operators_models():
    for path in Path(str(plant_package.__file__)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [n for n in names if n.startswith("embellie.") and "simulation.plant" not in n], path


def test_weather_is_real_and_its_wet_bulb_lies_below_its_dry_bulb():
    weather = regional("US-CISO")
    assert weather.dry_c.size > 30_000
    assert np.isfinite(weather.dry_c).all()
    assert (weather.wet_c <= weather.dry_c + 1e-9).all()
    assert wet_bulb_c(np.array([20.0]), np.array([9.3]))[0] == pytest.approx(13.7, abs=0.2)
