# SPDX-License-Identifier: Apache-2.0
"""A sensor that jumps, freezes, tells another unit or is silent is not believed, and says why."""

from dataclasses import replace

import pytest
from cooled_row import SENSORS, fresh, settings

from embellie.domain.limits import heat_room_now
from embellie.domain.snapshot import Quality
from embellie.thermal.controller import HeatController
from embellie.thermal.readings import Unit
from embellie.thermal.sensing import SensorBank, ZoneReadings, in_words, zone_readings
from embellie.thermal.settings import Role, SensorSettings
from embellie_testbed.views import NOW


def judged(values: list[float], *, power: list[float] | None = None, role: Role = Role.INLET, unit=Unit.CELSIUS):
    bank, sensor = SensorBank(), SensorSettings(name="s", role=role, unit=unit)
    for k, value in enumerate(values):
        reading = bank.judge("k", sensor, 15.0 * k, value, 15.0 * k, power[k] if power else 50.0)
    return reading


def test_only_a_fresh_value_may_be_acted_upon():
    for quality in Quality:
        readings = ZoneReadings(by_role={Role.INLET: replace(fresh(40.0), quality=quality)})
        assert readings.value(Role.INLET) == (40.0 if quality is Quality.FRESH else None)
    assert ZoneReadings().value(Role.INLET) is None


def test_a_jumping_sensor_is_not_believed_until_a_second_sample_agrees():
    assert judged([22.0, 22.1, 22.0, 45.0]).quality is Quality.JUMPING
    assert judged([22.0, 22.1, 22.0, 45.0, 22.0]).quality is Quality.JUMPING
    assert judged([22.0, 22.1, 22.0, 35.0, 35.2, 35.1]).quality is Quality.FRESH
    assert "the value 45 is further" in in_words(judged([22.0, 22.1, 22.0, 150.0 * (0.1 + 0.2)]))


def test_a_sensor_that_never_said_anything_is_told_of_in_words():
    assert in_words(replace(fresh(20.0), quality=Quality.MISSING, value=None)) == "there is no value"


def test_a_frozen_inlet_is_found_out_while_the_power_moves_and_a_steady_supply_is_not():
    values, power = [24.0] * 70, [50.0 + k for k in range(70)]
    assert judged(values, power=power).quality is Quality.FROZEN
    assert judged(values, power=power, role=Role.SUPPLY).quality is Quality.FRESH
    assert judged(values).quality is Quality.FRESH


def test_a_heat_meter_that_stands_still_while_the_power_moves_is_frozen_unless_nothing_is_taken():
    power = [50.0 + k for k in range(70)]
    meter = {"role": Role.HEAT_DELIVERED, "unit": Unit.KILOWATT}
    assert judged([180.0] * 70, power=power, **meter).quality is Quality.FROZEN
    assert judged([0.0] * 70, power=power, **meter).quality is Quality.FRESH


def test_fahrenheit_where_celsius_was_said_is_absurd_and_names_the_unit():
    reading = judged([72.0, 72.0])
    assert reading.quality is Quality.ABSURD
    zone = settings()
    found = zone_readings(zone, {"in": reading, "sup": fresh(20.0)})
    assert "unit" in found.problems["in"]
    assert judged([72.0], unit=Unit.FAHRENHEIT).value == pytest.approx(22.2, abs=0.1)


def test_one_sensor_that_is_silent_makes_its_role_untrusted_and_other_zones_go_on():
    several = settings(sensors=(*SENSORS, SensorSettings(name="in2", role=Role.INLET, unit=Unit.CELSIUS)))
    found = zone_readings(several, {"in": fresh(24.0), "sup": fresh(20.0)}, {"in2": "the query returned no series"})
    assert found.by_role[Role.INLET].quality is Quality.MISSING
    assert found.problems == {"in2": "the query returned no series"}
    controller = HeatController([several, replace(settings(), name="other")])
    good = ZoneReadings(by_role={Role.INLET: fresh(24.0), Role.SUPPLY: fresh(20.0)})
    controller.observe(NOW, {"row": found, "other": good}, {"row": 40.0, "other": 40.0})
    first, second = controller.states({})
    assert not heat_room_now(first).trusted
    assert heat_room_now(first).limit_kw < heat_room_now(second).limit_kw
    assert heat_room_now(second).trusted
