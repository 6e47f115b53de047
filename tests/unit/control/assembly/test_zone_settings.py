# SPDX-License-Identifier: Apache-2.0
"""From the spec of a ThermalZone to its settings: classes, deratings, and what contradicts itself."""

import re
from dataclasses import replace

import pytest
import yaml
from cooled_row import SENSORS, state_of

from embellie.api.thermalduties import Claim, LadderMeasure
from embellie.api.thermalspec import SensorRole, SensorUnit
from embellie.control.assembly.zone_settings import fault_of, settings_of
from embellie.thermal.duties import duty_of
from embellie.thermal.readings import Unit
from embellie.thermal.settings import Measure, Role, Side
from embellie_testbed.paths import REPOSITORY
from embellie_testbed.views import NOW, thermal_zone


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"limits": {"inletSoftCelsius": 33, "inletHardCelsius": 32}}, "spec.limits.inletSoftCelsius"),
        ({"limits": {"inletSoftCelsius": 32, "inletHardCelsius": 32}}, "spec.limits.inletSoftCelsius"),
        ({"limits": {"equipmentClass": "W17"}, "cooling": {"supplySetpointCelsius": 16}}, "spec.limits.marginKelvin"),
        (
            {"limits": {"inletHardCelsius": 32, "inletSoftCelsius": 24}, "cooling": {"supplySetpointCelsius": 22}},
            "spec.limits.inletSoftCelsius (24) less spec.ladder.leaveMarginKelvin (2)",
        ),
        (
            {"limits": {"inletHardCelsius": 25, "marginKelvin": 2}, "cooling": {"supplySetpointCelsius": 22}},
            "the hard limit (25) less spec.ladder.enterMarginKelvin (1) and spec.ladder.leaveMarginKelvin (2)",
        ),
        (
            {
                "rejectionCeilings": [{"name": "night", "heatKilowatts": 40, "fromHour": 22, "toHour": 6}],
                "heatDelivery": {"floors": [{"name": "all", "heatKilowatts": 50}], "capturePercent": 90},
            },
            "spec.heatDelivery.floors",
        ),
    ],
)
def test_a_spec_that_contradicts_itself_is_named_with_its_mend(spec, field):
    found = fault_of(thermal_zone("row", **spec).spec)
    assert field in found
    assert ":" in found


def test_the_zone_that_the_guide_builds_piece_by_piece_does_not_contradict_itself():
    text = (REPOSITORY / "docs/thermal-setup.md").read_text()
    pieces = re.findall(r"^```yaml\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    spec = yaml.safe_load("".join(pieces))["spec"]
    assert {"limits", "sensors", "rejectionCeilings", "heatDelivery"} <= spec.keys()
    assert fault_of(thermal_zone("row", **spec).spec) == ""


@pytest.mark.parametrize(("ceiling_kw", "fault"), [(50, ""), (49, "asks for 50 kW of power at 0:00 UTC")])
def test_a_floor_asks_for_as_much_power_as_makes_its_heat(ceiling_kw, fault):
    floors = {"floors": [{"name": "all", "heatKilowatts": 45}], "capturePercent": 90}
    ceilings = [{"name": "all", "heatKilowatts": ceiling_kw}]
    found = fault_of(thermal_zone("row", rejectionCeilings=ceilings, heatDelivery=floors).spec)
    assert (fault in found, bool(found)) == (True, bool(fault))


def test_a_cooling_capacity_of_zero_is_refused_and_where_it_gets_in_all_the_same_it_closes_the_zone():
    with pytest.raises(ValueError, match="capacityKilowatts"):
        thermal_zone("row", cooling={"capacityKilowatts": 0})
    past_the_schema = thermal_zone("row", cooling={"capacityKilowatts": 5}).spec
    cooling = past_the_schema.cooling.model_copy(update={"capacity_kilowatts": 0})
    assert "spec.cooling.capacityKilowatts" in fault_of(past_the_schema.model_copy(update={"cooling": cooling}))


def test_a_class_gives_the_limits_that_are_not_written_and_every_number_can_be_overridden():
    of_class = settings_of(thermal_zone("row", limits={"equipmentClass": "A2"})).limits
    assert (of_class.inlet_soft_c, of_class.inlet_hard_c) == (31.0, 35.0)
    both = settings_of(thermal_zone("row", limits={"equipmentClass": "A2", "inletHardCelsius": 30}))
    assert both.limits.inlet_hard_c == 30.0
    assert settings_of(thermal_zone("row")).limits.inlet_hard_c == 32.0
    assert fault_of(thermal_zone("row", limits={"equipmentClass": "A2"}).spec) == ""


def test_a_derating_bounds_hot_hours_and_is_no_permit_that_running_work_must_come_down_to():
    cooling = {
        "capacityKilowatts": 100,
        "riseMillikelvinPerKilowatt": 10,
        "ambientApproachKelvin": -30,
        "deratings": [
            {"outdoorFromCelsius": 42, "capacityKilowatts": 30},
            {"outdoorFromCelsius": 38, "capacityKilowatts": 60},
        ],
    }
    told = settings_of(thermal_zone("row", cooling=cooling))
    zone = replace(told, sensors=SENSORS)
    state = state_of(zone, 30.0, 38.0, 41.9, 45.0)
    assert state.outlook.removable_kw == pytest.approx([100.0, 60.0, 60.0, 30.0])
    assert duty_of(zone, NOW, 45.0, None, lambda kw, _: kw) is None
    assert fault_of(thermal_zone("row", cooling=cooling).spec) == ""


def test_the_words_of_the_api_are_those_of_the_heat_code():
    # Two rooms that may not import each other; what is written in a spec must mean something to the models.
    for theirs, ours in ((SensorRole, Role), (SensorUnit, Unit), (LadderMeasure, Measure), (Claim, Side)):
        assert {str(word) for word in theirs} == {str(word) for word in ours}
