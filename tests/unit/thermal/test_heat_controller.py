# SPDX-License-Identifier: Apache-2.0
"""What is known about heat reaches the planner and the shield; what contradicts itself is treated as at its worst."""

import math
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from cooled_row import SENSORS, ambient, fresh, settings, state_of

from embellie.control.assembly.zone_settings import settings_of
from embellie.control.heat.heat_desk import HeatDesk
from embellie.domain.heat import ZoneHeatModel
from embellie.domain.limits import HeatBound, heat_room_now, over_hard_inlet, steady_state_limit_kw
from embellie.thermal.controller import HeatController
from embellie.thermal.duties import AHEAD_S
from embellie.thermal.readings import Unit
from embellie.thermal.sensing import ZoneReadings
from embellie.thermal.settings import (
    CoolingSettings,
    DeliverySettings,
    LadderSettings,
    LimitSettings,
    PueSettings,
    Role,
    Row,
    SensorSettings,
    Side,
    highest_kw,
    lowest_kw,
)
from embellie_testbed.views import NOW, thermal_zone


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


@pytest.mark.parametrize(
    ("order_kw", "prefer", "kept"),
    [
        (30.0, (Side.CEILING, Side.ORDER, Side.FLOOR), "keeps the order"),
        (30.0, (Side.FLOOR, Side.CEILING, Side.ORDER), "keeps the floor"),
        (45.0, (Side.CEILING, Side.ORDER, Side.FLOOR), ""),
    ],
)
def test_a_cut_below_what_a_heat_network_is_owed_is_told_with_who_wins(
    order_kw: float, prefer: tuple[Side, ...], kept: str
):
    # It makes 40 kW and owes 50: contracted power that leaves it 45 orders no cut.
    zone = settings(delivery=DeliverySettings(floor=(Row(kw=50.0),)), ladder=LadderSettings(prefer=prefer))
    controller = HeatController([zone])
    controller.observe(NOW, {zone.name: ZoneReadings(by_role={Role.INLET: fresh(24.0)})}, {zone.name: 40.0}, {})
    controller.respond(NOW, (), {zone.name: np.full(AHEAD_S.shape, order_kw)})
    controller.states({zone.name: ambient(10.0)})
    told = "; ".join(str(conflict) for conflict in controller.reports[zone.name].conflicts)
    assert kept in told if kept else told == ""


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


def test_the_predicted_peak_is_never_in_the_past_nor_below_what_is_read_now():
    def peak(inlet_c: float, *p90_c: float) -> tuple[float | None, datetime | None]:
        controller, weather, now = HeatController([settings()]), {"row": ambient(*p90_c)}, NOW + timedelta(minutes=40)
        roles = {Role.INLET: fresh(inlet_c), Role.SUPPLY: fresh(20.0)}
        controller.observe(now, {"row": ZoneReadings(by_role=roles)}, {"row": 40.0}, weather)
        controller.states(weather)
        return controller.reports["row"].peak_c, controller.reports["row"].peak_at

    in_this_hour, later = NOW + timedelta(hours=1), NOW + timedelta(hours=2)
    assert peak(24.0, 26.0, 18.0, 18.0)[1] == in_this_hour
    assert peak(24.0, 18.0, 18.0, 26.0)[1] == later
    assert peak(31.0, 10.0, 10.0, 10.0) == (31.0, in_this_hour)


def test_a_fault_in_the_spec_closes_the_zone_and_says_so():
    state = state_of(settings(fault="spec.limits.inletSoftCelsius must be lower"), 10.0)
    assert not state.admission_open
    assert heat_room_now(state).limit_kw == 0.0
    assert "inletSoftCelsius" in state.closed_because


def test_a_zone_that_nears_its_limit_too_fast_takes_less():
    slow = state_of(settings(), 10.0, inlet=24.0)
    near = state_of(settings(cooling=CoolingSettings(rise_k_per_kw=0.1, tau_s=60.0)), 10.0, inlet=28.9)
    assert slow.barrier_kw > near.barrier_kw


def test_without_prometheus_the_desk_still_gives_every_zone_a_state():
    from embellie.control.assembly.sensors import Readings

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


def test_return_air_over_its_hard_limit_is_over_the_limit():
    hot = settings(
        sensors=(*SENSORS, SensorSettings(name="back", role=Role.RETURN, unit=Unit.CELSIUS)),
        limits=LimitSettings(inlet_hard_c=32.0, return_hard_c=45.0),
    )
    controller = HeatController([hot])
    roles = {Role.INLET: fresh(24.0), Role.SUPPLY: fresh(20.0), Role.RETURN: fresh(45.5)}
    controller.observe(NOW, {"row": ZoneReadings(by_role=roles)}, {"row": 40.0})
    assert over_hard_inlet(controller.states({})[0])
