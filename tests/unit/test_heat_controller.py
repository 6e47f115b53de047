# SPDX-License-Identifier: Apache-2.0
"""What is known about heat reaches the planner and the shield; what contradicts itself is treated as at its worst."""

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from embellie.control.heat import HeatDesk
from embellie.control.power import PowerBook
from embellie.control.zone_settings import fault_of, settings_of
from embellie.domain.heat import HeatOutlook, ZoneHeatModel
from embellie.domain.limits import HeatBound, heat_room_now, over_hard_inlet, steady_state_limit_kw
from embellie.domain.plan import Action, Decision, Plan
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Quality, Reading, ThermalZoneState
from embellie.telemetry.exporters import Measurement
from embellie.thermal.controller import HeatController
from embellie.thermal.duties import duty_of
from embellie.thermal.readings import Unit
from embellie.thermal.sensing import SensorBank, ZoneReadings, zone_readings
from embellie.thermal.settings import (
    CoolingSettings,
    DeliverySettings,
    LimitSettings,
    PueSettings,
    Role,
    Row,
    SensorSettings,
    ZoneSettings,
    highest_kw,
    lowest_kw,
)
from embellie.thermal.shield import Rises, check_rise, shield
from embellie.thermal.weather import AmbientForecast
from embellie_testbed.views import NOW, assembled, job, thermal_zone

SENSORS = (
    SensorSettings(name="in", role=Role.INLET, unit=Unit.CELSIUS),
    SensorSettings(name="sup", role=Role.SUPPLY, unit=Unit.CELSIUS),
)


def settings(**changes) -> ZoneSettings:
    made = ZoneSettings(
        name="row",
        limits=LimitSettings(inlet_hard_c=32.0, margin_k=3.0),
        cooling=CoolingSettings(capacity_kw=100.0, rise_k_per_kw=0.1, ambient_approach_k=5.0),
        sensors=SENSORS,
    )
    return replace(made, **changes)


def fresh(value: float | None) -> Reading:
    return Reading(value=value, age_s=5.0, quality=Quality.FRESH if value is not None else Quality.STALE)


def ambient(*p90: float) -> AmbientForecast:
    high = np.array(p90, dtype=np.float64)
    return AmbientForecast(start=NOW, step=timedelta(hours=1), p50_c=high - 3.0, p90_c=high)


def state_of(zone: ZoneSettings, *p90: float, inlet: float | None = 24.0, **known) -> ThermalZoneState:
    controller = HeatController([zone])
    readings = ZoneReadings(by_role={Role.INLET: fresh(inlet), Role.SUPPLY: fresh(20.0)})
    controller.observe(NOW, {"row": readings}, {"row": 40.0}, {"row": ambient(*p90)})
    return controller.states({"row": ambient(*p90)}, **known)[0]


def test_removable_heat_falls_with_the_hottest_hours_and_says_what_binds():
    state = state_of(settings(), 10.0, 18.0, 26.0, 10.0)
    assert state.outlook is not None
    # 32 - 3 - 20 = 9 K over 0.1 K/kW while the setpoint holds; outside 26 + 5 leaves none.
    assert state.outlook.removable_kw == pytest.approx([90.0, 60.0, 0.0, 90.0])
    assert state.outlook.bound[0] == HeatBound.STEADY_STATE
    assert state_of(settings(cooling=CoolingSettings(capacity_kw=50.0)), 10.0).outlook.bound[0] == HeatBound.CAPACITY


def test_a_loop_takes_nothing_new_in_the_hours_before_it_cannot_carry_even_its_idle_load():
    loop = settings(
        cooling=CoolingSettings(capacity_kw=100.0, rise_k_per_kw=0.1, ambient_approach_k=5.0),
        sensors=(SensorSettings(name="in", role=Role.COOLANT_SUPPLY, unit=Unit.CELSIUS),),
        base_power_kw=30.0,
    )
    hours = [10.0] * 3 + [26.0] * 2 + [10.0] * 8 + [26.0]
    found = state_of(loop, *hours).outlook
    assert found is not None
    # Hot at the 4th, 5th and 14th hour: what is made in the six hours before is still in the loop then.
    assert found.removable_kw == pytest.approx([30.0] * 3 + [0.0] * 2 + [90.0] * 2 + [30.0] * 6 + [0.0])
    assert found.bound[0] == HeatBound.STORED
    # Air follows in minutes, and a permit says nothing of what the cooling can.
    assert state_of(replace(loop, sensors=SENSORS), *hours).outlook.removable_kw[0] == pytest.approx(90.0)
    permit = (Row(kw=20.0, from_hour=18, to_hour=20, to_outside=True),)
    assert state_of(replace(loop, ceiling=permit), *[10.0] * 14).outlook.removable_kw.max() == pytest.approx(90.0)


def test_a_permit_binds_in_its_hours_and_at_its_temperatures():
    ceiling = (Row(kw=30.0, from_hour=22.0, to_hour=6.0), Row(kw=10.0, outdoor_from_c=25.0))
    hours, outdoor = np.array([23.0, 3.0, 12.0, 12.0]), np.array([20.0, 20.0, 20.0, 26.0])
    assert list(lowest_kw(ceiling, hours, outdoor)) == [30.0, 30.0, math.inf, 10.0]
    assert list(highest_kw(ceiling, hours, outdoor)) == [30.0, 30.0, 0.0, 10.0]
    state = state_of(settings(ceiling=(Row(kw=30.0),)), 10.0)
    assert state.outlook.bound[0] == HeatBound.CEILING
    assert heat_room_now(state).limit_kw == 30.0


def test_a_permit_that_hangs_on_the_river_holds_while_the_river_is_warm_and_while_nobody_knows():
    river = SensorSettings(name="river", role=Role.RIVER, unit=Unit.CELSIUS)
    zone = settings(
        sensors=(*SENSORS, river), ceiling=(Row(kw=30.0, river_from_c=25.0, to_outside=True),),
        delivery=DeliverySettings(floor=(Row(kw=9.0, river_to_c=10.0),), capture_share=0.9),
    )  # fmt: skip

    def allowed(river_c: float | None) -> tuple[float | None, float, float | None, float | None]:
        controller = HeatController([zone])
        by_role = {Role.INLET: fresh(24.0), Role.SUPPLY: fresh(20.0), Role.RIVER: fresh(river_c)}
        controller.observe(NOW, {"row": ZoneReadings(by_role=by_role)}, {"row": 40.0}, {"row": ambient(10.0)})
        controller.respond(NOW, ())
        (state,) = controller.states({"row": ambient(10.0)})
        report = controller.reports["row"]
        return state.ceiling_kw, state.outlook.removable_kw[0], report.floor_kw, float(report.admits)

    assert allowed(26.0) == (30.0, 30.0, 0.0, 0.0)
    assert allowed(20.0) == (None, pytest.approx(90.0), 0.0, 1.0)
    assert allowed(5.0) == (None, pytest.approx(90.0), pytest.approx(10.0), 1.0)
    assert allowed(None) == (30.0, 30.0, pytest.approx(10.0), 0.0)


def test_a_floor_is_handed_on_as_the_power_that_makes_its_heat():
    delivery = DeliverySettings(floor=(Row(kw=45.0),), capture_share=0.9)
    assert state_of(settings(delivery=delivery), 10.0).outlook.floor_kw == pytest.approx([50.0])


def test_a_kilowatt_hour_of_power_that_is_short_is_worth_the_heat_that_a_network_makes_itself():
    floors = {"floors": [{"name": "all", "heatKilowatts": 45}], "capturePercent": 50}
    gas = settings_of(thermal_zone("row", heatDelivery=floors))
    assert state_of(replace(gas, sensors=SENSORS), 10.0).outlook.floor_g_per_kwh == pytest.approx(112.0)
    pumps = settings_of(thermal_zone("row", heatDelivery=floors | {"replacedGramsPerKilowattHour": 30}))
    assert state_of(replace(pumps, sensors=SENSORS), 10.0).outlook.floor_g_per_kwh == pytest.approx(15.0)
    assert state_of(settings(), 10.0).outlook.floor_g_per_kwh == 0.0


def test_pue_is_a_constant_or_follows_the_outdoor_temperature():
    assert list(PueSettings(points=((0.0, 1.3),)).at(np.array([-5.0, 40.0]))) == [1.3, 1.3]
    curve = PueSettings(points=((10.0, 1.1), (30.0, 1.3)))
    assert curve.at(np.array([0.0, 20.0, np.nan])) == pytest.approx([1.1, 1.2, 1.3])


def test_a_trusted_model_replaces_the_spec_on_the_safe_side_and_a_warm_bias_counts():
    state = state_of(settings(), 10.0)
    model = ZoneHeatModel(
        own_k_per_kw=0.05, own_sd_k_per_kw=0.005, offset_k=1.0, tau_s=600.0, margin_k=2.0, trusted=True
    )
    learnt = replace(state, model=model, cooling_capacity_kw=None)
    assert steady_state_limit_kw(learnt, 20.0)[0] == pytest.approx((32 - 3 - 20 - 1.0) / 0.06)
    warm = replace(learnt, model=replace(model, bias_k=2.0, margin_k=4.0))
    assert steady_state_limit_kw(warm, 20.0)[0] == pytest.approx((32 - 4 - 20 - 1.0 - 2.0) / 0.06)
    learning = replace(learnt, model=replace(model, trusted=False))
    assert steady_state_limit_kw(learning, 20.0)[0] == pytest.approx(90.0)


def test_what_neighbours_send_takes_room():
    state = replace(state_of(settings(), 10.0), arriving_k=4.0)
    assert steady_state_limit_kw(state, 20.0)[0] == pytest.approx(50.0)


def test_a_fault_in_the_spec_closes_the_zone_and_says_so():
    state = state_of(settings(fault="spec.limits.inletSoftCelsius must be lower"), 10.0)
    assert not state.admission_open
    assert heat_room_now(state).limit_kw == 0.0
    assert "inletSoftCelsius" in state.closed_because


def test_a_zone_that_nears_its_limit_too_fast_takes_less():
    slow = state_of(settings(), 10.0, inlet=24.0)
    near = state_of(settings(cooling=CoolingSettings(rise_k_per_kw=0.1, tau_s=60.0)), 10.0, inlet=28.9)
    assert slow.barrier_kw > near.barrier_kw


# --- the shield -------------------------------------------------------------------------------------------------------


def shielded(**changes) -> Decision:
    made = assembled(job(), thermal_zones=(thermal_zone("west-r1", cooling={"capacityKilowatts": 500}),))
    snapshot = made.snapshot
    zone = replace(next(z for z in snapshot.thermal_zones), **changes)
    snapshot = replace(snapshot, thermal_zones=(zone,))
    workload = snapshot.workloads[0]
    cell = next(c.name for c in snapshot.cells if c.thermal_zone == "west-r1")
    decision = Decision(
        key=workload.key, action=Action.RELEASE, reason=Reason.BEST_NOW, message="Starts now.", cell=cell,
        start=snapshot.now, likely_start_p90=snapshot.now, latest_start=workload.latest_start, now=None, best=None,
    )  # fmt: skip
    return shield(Plan(decisions=(decision,), objective_g=0.0), snapshot).decisions[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cooling_capacity_kw": 1.0}, "its cooling carries no more with one unit failed"),
        ({"proven_kw": 1.0}, "it overheated a while ago and takes back little more than it was seen to carry"),
        ({"barrier_kw": 1.0}, "more would warm it faster than can be answered"),
        ({"ceiling_kw": 1.0}, "a ceiling on heat allows no more"),
        ({"inlet": fresh(31.0)}, "its temperature stands inside the margin below its limit"),
        ({"outlook": "Stored"}, "the heat would still be in the loop when it gets too hot for its cooling"),
        ({"outlook": ""}, "at the hottest hour of the run"),
    ],
    ids=["capacity", "proven", "barrier", "ceiling", "margin", "stored", "outlook"],
)
def test_what_waits_for_heat_says_so_in_words(changes, words):
    if "outlook" in changes:
        bound = (str(HeatBound.STORED),) * 48 if changes["outlook"] else ()
        changes = {"outlook": replace(outlook(NOW, *[1.0] * 48), bound=bound)}
    decision = shielded(**changes)
    assert (decision.action, decision.reason) == (Action.HOLD, Reason.HEAT_LIMIT)
    assert words in decision.message
    assert decision.message.startswith("Waits because at worst west-r1 would carry")
    assert "(" not in decision.message


def outlook(snapshot_now, *removable: float) -> HeatOutlook:
    values = np.array(removable, dtype=np.float64)
    return HeatOutlook(
        start=snapshot_now, step=timedelta(hours=1), removable_kw=values, pue=np.ones(values.size), bound=()
    )


def test_a_start_is_judged_by_the_hottest_hour_of_its_run():
    assert shielded().action is Action.RELEASE
    assert shielded(outlook=outlook(NOW, 500.0, 500.0, 500.0)).action is Action.RELEASE
    held = shielded(outlook=outlook(NOW, 500.0, 1.0, 500.0))
    assert held.action is Action.HOLD
    assert "hottest hour" in held.message


def test_a_zone_that_the_ladder_closed_takes_nothing_new_and_says_why():
    held = shielded(admission_open=False, closed_because="31.2 °C is over 31.0 °C")
    assert held.action is Action.HOLD
    assert "31.2 °C" in held.message


def test_resumes_and_raised_caps_are_judged_like_starts():
    snapshot = assembled(thermal_zones=(thermal_zone("west-r1", cooling={"capacityKilowatts": 50}),)).snapshot
    cell = next(c.name for c in snapshot.cells if c.thermal_zone == "west-r1")
    assert check_rise(snapshot, cell, 1.0, 3600.0) is None
    assert "west-r1" in (check_rise(snapshot, cell, 500.0, 3600.0) or "")
    assert check_rise(snapshot, "nowhere", 500.0, 3600.0) is None
    grids = tuple(replace(grid, contracted_power_kw=20.0, base_power_kw=15.0) for grid in snapshot.grid_zones)
    assert "contracted" in (check_rise(replace(snapshot, grid_zones=grids), cell, 10.0, 3600.0) or "")


def test_several_resumes_of_one_turn_count_for_each_other_and_so_do_its_releases():
    made = assembled(job(), thermal_zones=(thermal_zone("west-r1", cooling={"capacityKilowatts": 50}),)).snapshot
    cell = next(c.name for c in made.cells if c.thermal_zone == "west-r1")
    rises = Rises(made)
    left = 50.0 - made.thermal_zones[0].base_power_kw
    assert rises.refusal(cell, 0.6 * left, 3600.0) is None
    assert "of 50 kW of heat" in (rises.refusal(cell, 0.6 * left, 3600.0) or "")
    (workload,) = made.workloads
    release = Decision(
        key=workload.key, action=Action.RELEASE, reason=Reason.BEST_NOW, message="Starts now.", cell=cell,
        start=made.now, likely_start_p90=made.now, latest_start=workload.latest_start, now=None, best=None,
    )  # fmt: skip
    alone = left - workload.worst_power_kw / 2
    assert Rises(made).refusal(cell, alone, 3600.0) is None
    assert Rises(made, [release]).refusal(cell, alone, 3600.0) is not None


# --- bad specs and sensors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"limits": {"inletSoftCelsius": 33, "inletHardCelsius": 32}}, "spec.limits.inletSoftCelsius"),
        ({"limits": {"equipmentClass": "W17"}, "cooling": {"supplySetpointCelsius": 16}}, "spec.limits.marginKelvin"),
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


def test_a_cooling_capacity_of_zero_is_refused_and_where_it_gets_in_all_the_same_it_closes_the_zone():
    with pytest.raises(ValueError, match="capacityKilowatts"):
        thermal_zone("row", cooling={"capacityKilowatts": 0})
    past_the_schema = thermal_zone("row", cooling={"capacityKilowatts": 5}).spec
    cooling = past_the_schema.cooling.model_copy(update={"capacity_kilowatts": 0})
    assert "spec.cooling.capacityKilowatts" in fault_of(past_the_schema.model_copy(update={"cooling": cooling}))


def test_a_class_gives_the_limits_that_are_not_written_and_every_number_can_be_overridden():
    assert settings_of(thermal_zone("row", limits={"equipmentClass": "A2"})).limits.inlet_hard_c == 35.0
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


def judged(values: list[float], *, power: list[float] | None = None, role: Role = Role.INLET, unit=Unit.CELSIUS):
    bank, sensor = SensorBank(), SensorSettings(name="s", role=role, unit=unit)
    for k, value in enumerate(values):
        reading = bank.judge("k", sensor, 15.0 * k, value, 15.0 * k, power[k] if power else 50.0)
    return reading


def test_a_jumping_sensor_is_not_believed_until_a_second_sample_agrees():
    assert judged([22.0, 22.1, 22.0, 45.0]).quality is Quality.JUMPING
    assert judged([22.0, 22.1, 22.0, 45.0, 22.0]).quality is Quality.JUMPING
    assert judged([22.0, 22.1, 22.0, 35.0, 35.2, 35.1]).quality is Quality.FRESH


def test_a_frozen_inlet_is_found_out_while_the_power_moves_and_a_steady_supply_is_not():
    values, power = [24.0] * 70, [50.0 + k for k in range(70)]
    assert judged(values, power=power).quality is Quality.FROZEN
    assert judged(values, power=power, role=Role.SUPPLY).quality is Quality.FRESH
    assert judged(values).quality is Quality.FRESH


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


def test_return_air_over_its_hard_limit_is_over_the_limit():
    hot = settings(
        sensors=(*SENSORS, SensorSettings(name="back", role=Role.RETURN, unit=Unit.CELSIUS)),
        limits=LimitSettings(inlet_hard_c=32.0, return_hard_c=45.0),
    )
    controller = HeatController([hot])
    roles = {Role.INLET: fresh(24.0), Role.SUPPLY: fresh(20.0), Role.RETURN: fresh(45.5)}
    controller.observe(NOW, {"row": ZoneReadings(by_role=roles)}, {"row": 40.0})
    assert over_hard_inlet(controller.states({})[0])


# --- power ------------------------------------------------------------------------------------------------------------


def measured(quantity: str, value: float, node: str, **more) -> Measurement:
    return Measurement(quantity=quantity, unit="watts", value=value, node=node, **more)


def test_a_node_without_a_meter_is_reckoned_by_the_law_of_those_with_one():
    book, random = PowerBook(), np.random.default_rng(0)
    for _ in range(120):
        found = []
        for node in ("a", "b"):
            gpu = random.uniform(500, 5000)
            found += [measured("gpu_power", gpu, node, device="g"), measured("node_power", 2000 + 1.05 * gpu, node)]
        book.take(found)
    assert book.law is not None
    book.take([measured("gpu_power", 1000.0, "c", device="g")])
    assert book.zone_kw(["c"]) == pytest.approx(3.05, rel=0.02)
    assert book.zone_kw(["c", "unknown"]) is None
    assert book.zone_kw([]) is None


def test_jobs_and_idle_nodes_are_learnt_from_what_exporters_say():
    book = PowerBook()
    for _ in range(35):
        book.take(
            [
                measured("gpu_power", 500.0, "a", device="g", namespace="lab", pod="train-1-x7k2p"),
                measured("node_power", 5000.0, "a"),
                measured("gpu_power", 70.0, "b", device="h"),
                measured("node_power", 2100.0, "b"),
            ]
        )
    found = book.class_power("lab", "train-7")
    assert found is not None
    assert found.mean_w == pytest.approx(500.0)
    assert found.worst_w() is None, "half an hour of one run proves no worst case"
    assert book.class_power("lab", "other") is None
    assert book.idle_watts("b") == pytest.approx(2100.0)
    assert book.idle_watts("a") is None


def test_without_prometheus_the_desk_still_gives_every_zone_a_state():
    from embellie.control.sensors import Readings

    desk = HeatDesk()
    zone = thermal_zone("west-r1", cooling={"capacityKilowatts": 50})
    nothing = Readings(grid_power_kw={}, inlets={}, supplies={}, problems={})
    states = desk.turn(NOW, [zone], nothing, {"west-r1": 20.0}, {})
    assert states["west-r1"].cooling_capacity_kw == 50.0
    assert desk.reports["west-r1"].peak_c is None


def test_a_cluster_without_thermal_zones_is_a_turn_like_any_other():
    controller = HeatController(())
    controller.observe(NOW, {}, {})
    assert controller.states({}) == ()
    assert controller.respond(NOW, ()).zones == {}
