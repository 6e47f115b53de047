# SPDX-License-Identifier: Apache-2.0
"""Permits and orders to cut are met in time: nothing new, then caps, then pauses, and no more than is needed."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from embellie.control.heat.orders import contract_orders
from embellie.domain.power_orders import PowerOrder
from embellie.domain.snapshot import Cell, GridZoneState, Quality, Reading, Snapshot
from embellie.thermal.controller import HeatController
from embellie.thermal.delivery import HeatTaken
from embellie.thermal.duties import AHEAD_S, Duty, duty_of, share_order
from embellie.thermal.ladder import LadderMemory, respond
from embellie.thermal.readings import Unit
from embellie.thermal.relief import HeatLoad
from embellie.thermal.rungs import Level, ZoneHeat
from embellie.thermal.sensing import ZoneReadings
from embellie.thermal.settings import (
    CoolingSettings,
    DeliverySettings,
    LadderSettings,
    LimitSettings,
    Role,
    Row,
    SensorSettings,
    Side,
    ZoneSettings,
)
from embellie.thermal.shedding import Shed, ShedMemory, shed

NOW = datetime(2026, 7, 1, 21, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
NIGHT = Row(kw=60.0, from_hour=22.0, to_hour=6.0, to_outside=True)


def zone(**changes) -> ZoneSettings:
    made = ZoneSettings(
        name="loop",
        limits=LimitSettings(inlet_hard_c=45.0, margin_k=2.0),
        cooling=CoolingSettings(capacity_kw=200.0),
        sensors=(SensorSettings(name="net", role=Role.HEAT_DELIVERED, unit=Unit.KILOWATT),),
        ceiling=(NIGHT,),
    )
    return replace(made, **changes)


def load(key: str, *, capable: bool = True, pausable: bool = True, power_kw: float = 10.0) -> HeatLoad:
    return HeatLoad(
        key=key, zone="loop", nodes=(), gpus=20, power_kw=power_kw, pausable=pausable, checkpoint_s=60.0,
        started_at=NOW - timedelta(hours=3), rated_w=600.0, knee_w=360.0, idle_w=100.0, capable=capable,
    )  # fmt: skip


def same(kw, _outdoor_c):
    return kw


def answer(memory: ShedMemory, duty: Duty | None, heat_kw: float, loads, now=NOW, leaving=()) -> Shed:
    return shed(memory, duty, heat_kw, loads, leaving, now, may_cap=True, may_pause=True)


@pytest.mark.parametrize(
    ("before_min", "close", "cap", "pause"),
    [(50, None, None, None), (40, 60.0, math.inf, math.inf), (25, 60.0, 60.0, math.inf), (15, 60.0, 60.0, 60.0)],
)
def test_each_measure_begins_as_long_before_a_permit_as_it_takes(before_min, close, cap, pause):
    duty = duty_of(zone(), NOW + timedelta(minutes=60 - before_min), 20.0, None, same)
    if close is None:
        assert duty is None
    else:
        assert (duty.close_kw, duty.cap_kw, duty.pause_kw) == (close, cap, pause)
        assert "a permit for heat to the outside leaves 60 kW of heat from 2" in duty.why


def test_an_order_to_cut_holds_at_once_and_the_lower_of_the_two_counts():
    duty = duty_of(zone(), NOW, 20.0, np.full(AHEAD_S.shape, 80.0), same)
    assert (duty.close_kw, duty.pause_kw) == (80.0, 80.0)
    assert duty.why.startswith("an order to cut leaves 80 kW")
    assert duty_of(zone(), NOW + timedelta(hours=2), 20.0, np.full(AHEAD_S.shape, 80.0), same).pause_kw == 60.0


def test_a_heat_network_that_is_preferred_is_not_cut_below_its_floor():
    owed = DeliverySettings(floor=(Row(kw=72.0),), capture_share=0.9)
    ladder = LadderSettings(prefer=(Side.FLOOR, Side.CEILING, Side.ORDER))
    assert duty_of(zone(delivery=owed, ladder=ladder), NOW + timedelta(hours=2), 20.0, None, same).pause_kw == 80.0
    assert duty_of(zone(delivery=owed), NOW + timedelta(hours=2), 20.0, None, same).pause_kw == 60.0


def test_nothing_comes_in_while_the_heat_of_what_left_still_shows():
    soon = Duty(close_kw=70.0, cap_kw=math.inf, pause_kw=math.inf)
    allowed = {"may_cap": True, "may_pause": True}
    found = [shed(ShedMemory(), soon, 60.0, (), (), NOW, shown_kw=kw, **allowed).admits for kw in (None, 60.0, 75.0)]
    assert found == [True, True, False]


def test_first_the_door_then_caps_then_pauses_and_no_more_than_is_needed():
    loads = [load(f"job-{n}") for n in range(8)]
    soon = Duty(close_kw=70.0, cap_kw=math.inf, pause_kw=math.inf)
    closed = answer(ShedMemory(), soon, 80.0, loads)
    assert (closed.memory.rung, closed.admits, closed.memory.share, closed.pauses) == (1, False, 1.0, ())
    capped = answer(closed.memory, replace(soon, cap_kw=70.0), 80.0, loads)
    # 20 GPUs, 600 W rated, 100 W idle: 66.5 kW of eight jobs are 515.6 W a GPU.
    assert (capped.memory.rung, capped.pauses) == (2, ())
    assert capped.memory.share == pytest.approx(515.6 / 600.0, abs=0.002)
    late = NOW + timedelta(minutes=10)
    fits = answer(capped.memory, Duty(close_kw=70.0, cap_kw=70.0, pause_kw=70.0), 66.5, loads, late)
    assert (fits.pauses, fits.admits) == ((), True)
    over = answer(capped.memory, Duty(close_kw=20.0, cap_kw=20.0, pause_kw=20.0), 66.0, loads, late)
    assert over.memory.share == pytest.approx(0.6, abs=0.01)
    assert over.pauses == ()
    left = answer(
        over.memory, Duty(close_kw=20.0, cap_kw=20.0, pause_kw=20.0), 42.0,
        [replace(one, power_kw=5.2) for one in loads], late + timedelta(minutes=5),
    )  # fmt: skip
    assert len(left.pauses) == math.ceil((42.0 - 19.0) / 5.2)
    assert left.memory.rung == 3


def test_a_measure_has_time_to_show_before_the_next_and_what_leaves_is_not_paused_twice():
    loads = [load(f"job-{n}", capable=False) for n in range(4)]
    duty = Duty(close_kw=25.0, cap_kw=25.0, pause_kw=25.0)
    first = answer(ShedMemory(), duty, 40.0, loads)
    assert len(first.pauses) == 2
    again = answer(first.memory, duty, 40.0, loads, NOW + timedelta(seconds=60))
    assert again.pauses == ()
    gone = {one.key for one in first.pauses}
    later = answer(first.memory, duty, 20.0, loads, NOW + timedelta(seconds=600), leaving=gone)
    assert later.pauses == ()


def test_no_measure_is_lifted_before_the_limit_is_over_and_caps_rise_by_steps_only_into_room_that_is_left():
    held = ShedMemory(rung=3, share=0.7, changed=NOW)
    duty = Duty(close_kw=70.0, cap_kw=70.0, pause_kw=70.0)
    full = answer(held, duty, 66.4, [load("a")], NOW + timedelta(hours=3))
    assert (full.memory.rung, full.memory.share) == (3, 0.7)
    calm = answer(held, duty, 30.0, [load("a")], NOW + timedelta(hours=3))
    assert (calm.memory.rung, calm.memory.share) == (3, 0.75)
    assert answer(calm.memory, duty, 30.0, [load("a")], NOW + timedelta(hours=3, minutes=14)).memory.share == 0.75
    assert calm.admits
    assert answer(held, None, 30.0, [load("a")]).memory == ShedMemory()


def test_the_ladder_pauses_each_job_once_caps_all_and_raises_caps_step_by_step_afterwards():
    policy = {"loop": LadderSettings()}
    loads = [load("a"), load("b", pausable=False)]
    memory, now, paused, watts = LadderMemory(), NOW, [], []
    for turn in range(60):
        duty = Duty(close_kw=9.0, cap_kw=9.0, pause_kw=9.0, why="night") if turn < 30 else None
        cool = Reading(value=30.0, age_s=5.0, quality=Quality.FRESH)
        heat = 20.0 if turn < 6 else 6.0
        seen = ZoneHeat(
            name="loop", temperature=cool, hard_c=45.0, enter_c=42.0, leave_c=40.0, target_kw=None, heat_kw=heat,
            duty=duty,
        )  # fmt: skip
        memory, found = respond(memory, [seen], loads if turn < 6 else loads[1:], policy, now)
        paused += [order.key for order in found.pauses]
        watts.append(found.caps[0].watts_per_gpu if found.caps else None)
        now += timedelta(seconds=30)
        if turn == 29:
            assert found.zones["loop"].level is Level.PAUSING
            assert found.resumes == ("a",)
    assert paused == ["a"]
    assert watts[5] == pytest.approx(360.0)
    rising = [w for w in watts[30:] if w is not None]
    assert rising == sorted(rising)
    assert watts[-1] is None
    assert found.zones["loop"].level is Level.NORMAL


def test_what_was_told_to_pause_for_an_order_is_not_told_otherwise_because_the_rest_fits():
    policy, duty = {"loop": LadderSettings()}, Duty(close_kw=15.0, cap_kw=15.0, pause_kw=15.0, why="an order")
    loads, memory = [load("a", capable=False), load("b", capable=False, pausable=False)], LadderMemory()
    cool = Reading(value=30.0, age_s=5.0, quality=Quality.FRESH)
    for turn, (order, resumes) in enumerate([(duty, ()), (duty, ()), (duty, ()), (None, ("a",))]):
        seen = ZoneHeat(
            name="loop", temperature=cool, hard_c=45.0, enter_c=42.0, leave_c=40.0, target_kw=None, heat_kw=20.0,
            duty=order,
        )  # fmt: skip
        memory, found = respond(memory, [seen], loads, policy, NOW + timedelta(seconds=30 * turn))
        assert [one.key for one in found.pauses] == (["a"] if turn == 0 else [])
        assert found.resumes == resumes


def test_a_paused_job_that_left_sooner_than_thought_is_not_taken_off_what_stays():
    policy, duty = {"loop": LadderSettings()}, Duty(close_kw=5.0, cap_kw=5.0, pause_kw=5.0, why="night")
    loads = [load("a", capable=False), load("b", capable=False, pausable=False)]

    def turn(memory: LadderMemory, heat_kw: float, present, after_s: float):
        seen = ZoneHeat(
            name="loop", temperature=Reading(value=30.0, age_s=5.0, quality=Quality.FRESH), hard_c=45.0, enter_c=42.0,
            leave_c=40.0, target_kw=None, heat_kw=heat_kw, duty=duty,
        )  # fmt: skip
        return respond(memory, [seen], present, policy, NOW + timedelta(seconds=after_s))

    memory, first = turn(LadderMemory(), 20.0, loads, 0.0)
    assert [order.key for order in first.pauses] == ["a"]
    # Gone after a minute, though its heat might have shown for five: the ten that stay are more than the five allowed.
    for idle_kw in (0.0, 10.0):
        _, after = turn(memory, idle_kw + 10.0, loads[1:], 90.0)
        assert not after.zones["loop"].admits


def test_what_the_network_takes_is_added_to_a_permit_once_it_is_known_and_not_when_it_stops():
    taken, heat, mild = HeatTaken([zone()]), np.linspace(80.0, 160.0, 120), np.array([20.0])
    assert taken.allowed_kw(0, np.array([60.0]), mild)[0] == 60.0
    for k, kw in enumerate(heat):
        taken.observe(30.0 * k, np.array([10.0 + 0.4 * kw]), np.array([kw]), mild)
    # P - (10 + 0.4 P) = 60, from the safe side.
    assert 105.0 < taken.allowed_kw(0, np.array([60.0]), mild)[0] <= 70.0 / 0.6
    assert taken.allowed_kw(0, np.array([500.0]), mild)[0] <= 500.0 + 74.0
    taken.observe(4000.0, np.array([np.nan]), np.array([120.0]), mild)
    assert taken.allowed_kw(0, np.array([60.0]), mild)[0] == 60.0
    assert taken.allowed_kw(0, np.array([60.0]), mild, blind=True)[0] > 100.0
    taken.observe(4030.0, np.array([0.0]), np.array([120.0]), mild)
    assert taken.allowed_kw(0, np.array([60.0]), mild, blind=True)[0] == 60.0


def test_a_network_that_takes_more_when_it_is_colder_is_known_to_but_never_beyond_what_was_seen():
    taken = HeatTaken([zone()])
    for hour in np.linspace(0.0, 12.0, 1440):
        outdoor_c = 30.0 + 8.0 * np.sin(np.pi * hour / 12.0)
        heat_kw = 120.0 + 30.0 * np.sin(1.7 * hour)
        takes_kw = 90.0 - 2.0 * (outdoor_c - 20.0)
        taken.observe(3600.0 * hour, np.array([takes_kw]), np.array([heat_kw]), np.array([outdoor_c]))
    permit = np.full(4, 60.0)
    hot, warm, cold, unknown = taken.allowed_kw(0, permit, np.array([38.0, 30.0, 5.0, np.nan]))
    # From the safe side of 60 + 90 - 36 and 60 + 90 - 20.
    assert unknown < 100.0 < hot <= 114.0
    assert hot + 10.0 < warm <= 130.0
    assert cold == pytest.approx(60.0 + 70.0, abs=1.0), "it was never seen to take more than at 30 degrees"


def test_a_permit_reaches_the_ladder_even_where_no_temperature_is_measured():
    controller = HeatController([zone()])
    now = NOW + timedelta(hours=2)
    controller.observe(now, {"loop": ZoneReadings()}, {"loop": 100.0})
    found = controller.respond(now, [load("a"), load("b")])
    assert found.zones["loop"].level is Level.CAPPED
    (state,) = controller.states({})
    assert not state.admission_open
    assert "a permit for heat to the outside leaves 60 kW" in state.closed_because


def test_contracted_power_that_is_less_than_what_is_drawn_is_shared_by_what_each_zone_makes():
    assert share_order(700.0, 1000.0, {"a": 400.0, "b": 200.0}) == pytest.approx({"a": 280.0, "b": 140.0})
    assert share_order(700.0, 0.0, {"a": 400.0}) == {}


def test_a_zone_that_is_long_clear_of_a_lasting_limit_is_eased():
    held, duty = ShedMemory(rung=2, share=0.7, changed=NOW), Duty(close_kw=70.0, cap_kw=70.0, pause_kw=70.0)
    at_once = answer(held, duty, 50.0, [load("a")])
    assert at_once.memory.share == 0.7
    late = answer(at_once.memory, duty, 50.0, [load("a")], NOW + timedelta(hours=1))
    assert (late.memory.rung, late.memory.share) == (0, 1.0)
    warm = answer(at_once.memory, duty, 65.0, [load("a")], NOW + timedelta(hours=1))
    assert (warm.memory.rung, warm.memory.clear_since) == (2, None)


def test_a_measured_draw_over_contracted_power_is_an_order_to_the_zones_of_that_site_only():
    def reading(kw, quality=Quality.FRESH):
        return Reading(value=kw, age_s=5.0, quality=quality)

    def grid(name, meter):
        return GridZoneState(
            name=name, contracted_power_kw=700.0, base_power_kw=0.0, measured_power_kw=meter, forecast=None
        )

    cells = tuple(
        Cell(name=z, grid_zone=g, thermal_zone=z, gpus_total=8, node_free_gpus=(8,), pue=1.2)
        for z, g in (("a", "x"), ("b", "x"), ("c", "y"))
    )
    snapshot = Snapshot(
        now=NOW, turn_s=15.0, workloads=(), cells=cells, thermal_zones=(), running=(),
        grid_zones=(grid("x", reading(1000.0)), grid("y", reading(1000.0, Quality.STALE))),
    )  # fmt: skip
    heat = {"a": 400.0, "b": 200.0, "c": 300.0}
    found = contract_orders(snapshot, heat, NOW)
    assert sorted(found) == ["a", "b"]
    assert (*found["a"], *found["b"]) == pytest.approx((280.0,) * 10 + (140.0,) * 10)
    assert contract_orders(None, heat, NOW) == {}


def test_an_announced_order_shuts_the_door_then_caps_and_pauses_before_it_begins_and_is_over_at_its_end():
    def grid(contract_kw: float | None) -> GridZoneState:
        return GridZoneState(
            name="x", contracted_power_kw=contract_kw, base_power_kw=0.0, forecast=None,
            measured_power_kw=Reading(value=1000.0, age_s=5.0, quality=Quality.FRESH),
            orders=(PowerOrder(begins=NOW + HOUR, ends=NOW + 3 * HOUR, power_kw=700.0),),
        )  # fmt: skip

    def limits(before_min: float, contract_kw: float | None) -> tuple[float, float, float] | None:
        cells = (Cell(name="a", grid_zone="x", thermal_zone="loop", gpus_total=8, node_free_gpus=(8,), pue=1.2),)
        last = Snapshot(
            now=NOW - HOUR, turn_s=15.0, workloads=(), cells=cells, thermal_zones=(), running=(),
            grid_zones=(grid(contract_kw),),
        )  # fmt: skip
        now = NOW + HOUR - timedelta(minutes=before_min)
        kw = contract_orders(last, {"loop": 600.0}, now).get("loop")
        duty = duty_of(replace(zone(), ceiling=()), now, 20.0, kw, same)
        return None if duty is None else (duty.close_kw, duty.cap_kw, duty.pause_kw)

    free = math.inf
    found = [limits(minutes, None) for minutes in (50, 45, 30, 20, 0, -119, -120)]
    assert found == [
        None, (420.0, free, free), (420.0, 420.0, free), (420.0,) * 3, (420.0,) * 3, (420.0,) * 3, None
    ]  # fmt: skip
    assert limits(50, 900.0) == (540.0,) * 3
    assert limits(30, 900.0) == (420.0, 420.0, 540.0)
    assert limits(-120, 900.0) == (540.0,) * 3
