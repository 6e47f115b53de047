# SPDX-License-Identifier: Apache-2.0
"""The desk asks every sensor each turn, keeps what it said for a while, and believes nothing that cannot be."""

from collections.abc import Mapping, Sequence

import pytest

from embellie.control.assembly.sensors import Readings, SensorDesk
from embellie.control.deciding.seen import expected_facility_kw
from embellie.domain.snapshot import Quality
from embellie.telemetry.prometheus import Query, Sample
from embellie.thermal.sensing import HISTORY
from embellie_testbed.views import assembled, grid_zone, running_pod, thermal_zone, view

INLET = {"name": "inlet", "role": "Inlet", "query": "max(inlet)", "unit": "Celsius", "maxAgeSeconds": 60}
SUPPLY = {"name": "supply", "role": "Supply", "query": "max(supply)", "unit": "Celsius", "maxAgeSeconds": 60}


class Script:
    """A source that says what it is told, at the time that it is told."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.values: dict[str, float | None] = {}
        self.asked: list[Sequence[Query]] = []

    def read(self, queries: Sequence[Query]) -> Mapping[str, Sample]:
        self.asked.append(queries)
        return {
            q.key: Sample(at_s=self.now_s, value=value, problem="" if value is not None else "no series")
            for q in queries
            for value in (self.values.get(q.key.rsplit("/", 1)[1]),)
        }


class Room:
    """One thermal zone, one desk."""

    def __init__(self, *sensors: dict, limit: int = 32) -> None:
        self.source = Script()
        self.desk = SensorDesk(self.source)
        self.zone = thermal_zone("hall", sensors=list(sensors) or [INLET, SUPPLY], limits={"inletHardCelsius": limit})
        self.power_kw = 20.0

    def says(self, after_s: float = 15.0, **values: float | None) -> Readings:
        self.source.now_s += after_s
        self.source.values = values
        return self.desk.read((), (self.zone,), {"hall": self.power_kw}, {})


def test_fresh_values_are_read_and_nothing_is_wrong():
    readings = Room().says(inlet=24.0, supply=20.0)
    assert readings.inlets["hall"].value == 24.0
    assert readings.supplies["hall"].value == 20.0
    assert readings.problems == {}


def test_a_zone_without_sensors_has_no_reading_and_no_problem():
    desk = SensorDesk(Script())
    readings = desk.read((grid_zone("west"),), (thermal_zone("hall"),), {}, {})
    assert readings == Readings(grid_power_kw={}, inlets={}, supplies={}, problems={})


def test_a_sensor_that_never_spoke_is_missing_in_the_words_of_the_source():
    readings = Room().says(inlet=24.0)
    assert readings.supplies["hall"].quality is Quality.MISSING
    assert readings.problems == {"thermalzone/hall/supply": "no series"}


def test_a_sensor_that_falls_silent_is_believed_for_its_age_and_not_longer():
    room = Room()
    room.says(inlet=24.0, supply=20.0)
    assert room.says(60.0, supply=20.0).inlets["hall"].quality is Quality.FRESH
    stale = room.says(1.0, supply=20.0)
    assert stale.inlets["hall"].quality is Quality.STALE
    assert list(stale.problems) == ["thermalzone/hall/inlet"]
    assert room.says(inlet=25.0, supply=20.0).inlets["hall"].quality is Quality.FRESH


@pytest.mark.parametrize("value", [900.0, -90.0, 295.0])
def test_a_value_that_cannot_be_is_absurd_at_once_and_named(value: float):
    room = Room()
    room.says(inlet=24.0, supply=20.0)
    readings = room.says(inlet=value, supply=20.0)
    assert readings.inlets["hall"].quality is Quality.ABSURD
    assert f"the value {value:g} is" in readings.problems["thermalzone/hall/inlet"]


def test_each_sensor_speaks_its_own_unit():
    room = Room({**INLET, "unit": "Fahrenheit"}, {**SUPPLY, "unit": "Kelvin"})
    readings = room.says(inlet=77.0, supply=293.15)
    assert readings.inlets["hall"].value == pytest.approx(25.0)
    assert readings.supplies["hall"].value == pytest.approx(20.0)


def test_a_value_that_does_not_move_while_the_power_does_is_frozen_after_a_while():
    room = Room()
    for turn in range(61):
        room.power_kw = 20.0 + turn
        readings = room.says(inlet=24.0, supply=20.0 + 0.001 * turn)
        assert (readings.inlets["hall"].quality is Quality.FROZEN) is (turn >= 60)
    assert "does not move" in readings.problems["thermalzone/hall/inlet"]
    assert readings.supplies["hall"].quality is Quality.FRESH


def test_a_quiet_room_may_stay_at_one_temperature():
    room = Room()
    for _ in range(HISTORY + 5):
        readings = room.says(inlet=24.0, supply=20.0)
    assert readings.problems == {}


def test_a_frozen_sensor_is_believed_again_when_it_moves():
    room = Room()
    for turn in range(70):
        room.power_kw = 20.0 + turn
        room.says(inlet=24.0, supply=20.0 + 0.001 * turn)
    assert room.says(inlet=24.2, supply=20.0).inlets["hall"].quality is Quality.FRESH


def test_of_several_fresh_sensors_of_a_role_the_hottest_counts():
    room = Room({**INLET, "name": "a"}, {**INLET, "name": "b"})
    assert room.says(a=24.0, b=27.0).inlets["hall"].value == 27.0


def test_one_untrusted_sensor_makes_its_role_untrusted():
    room = Room({**INLET, "name": "a"}, {**INLET, "name": "b"})
    readings = room.says(a=24.0, b=500.0)
    assert readings.inlets["hall"].quality is Quality.ABSURD
    assert list(readings.problems) == ["thermalzone/hall/b"]


def test_a_fresh_inlet_over_the_hard_limit_speaks_whatever_the_others_do():
    room = Room({**INLET, "name": "a"}, {**INLET, "name": "b"}, limit=30)
    readings = room.says(a=30.0, b=None)
    assert readings.inlets["hall"].value == 30.0
    assert readings.inlets["hall"].quality is Quality.FRESH
    assert list(readings.problems) == ["thermalzone/hall/b"]


def test_a_power_meter_is_read_in_kilowatts_and_may_stand_still():
    source = Script()
    desk = SensorDesk(source)
    zone = grid_zone("west", powerSensor={"query": "sum(watts)", "unit": "Watt"})
    for _ in range(HISTORY):
        source.now_s += 15.0
        source.values = {"power": 450_000.0}
        readings = desk.read((zone,), (), {}, {})
    assert readings.grid_power_kw["west"].value == 450.0
    assert readings.problems == {}
    source.now_s += 15.0
    source.values = {"power": -1.0}
    readings = desk.read((zone,), (), {}, {})
    assert readings.grid_power_kw["west"].quality is Quality.ABSURD
    assert list(readings.problems) == ["gridzone/west/power"]


def test_a_power_meter_that_stands_still_while_work_comes_and_goes_is_frozen():
    source = Script()
    desk = SensorDesk(source)
    zone = grid_zone("west", contractedPowerKilowatts=100, powerSensor={"query": "watts", "unit": "Kilowatt"})
    for turn in range(HISTORY):
        source.now_s += 15.0
        source.values = {"power": 99.0}
        readings = desk.read((zone,), (), {}, {"west": 90.0 if turn < 40 else 60.0})
    assert readings.grid_power_kw["west"].quality is Quality.FROZEN
    assert "does not move while the power does" in readings.problems["gridzone/west/power"]


def test_what_a_site_is_expected_to_draw_follows_what_runs_in_it():
    pods = [running_pod("train", "west-0")]
    quiet, busy = (expected_facility_kw(assembled(view=view(pods=p))) for p in ((), pods))
    assert busy["west"] > 1.05 * quiet["west"]
    assert busy["east"] == quiet["east"]


def test_zones_of_one_name_and_two_kinds_are_told_apart():
    source = Script()
    source.values = {"power": 5.0, "inlet": 24.0}
    zones = (
        (grid_zone("hall", powerSensor={"query": "w", "unit": "Kilowatt"}),),
        (thermal_zone("hall", sensors=[INLET]),),
    )
    readings = SensorDesk(source).read(*zones, {}, {})
    assert (readings.grid_power_kw["hall"].value, readings.inlets["hall"].value) == (5.0, 24.0)
    assert len({q.key for q in source.asked[0]}) == 2


def test_a_sensor_that_goes_away_is_forgotten():
    room = Room()
    room.says(inlet=24.0, supply=20.0)
    both, room.zone = room.zone, thermal_zone("hall", sensors=[SUPPLY])
    room.says(1.0, supply=20.0)
    room.zone = both
    assert room.says(1.0, supply=20.0).inlets["hall"].quality is Quality.MISSING
