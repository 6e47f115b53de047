# SPDX-License-Identifier: Apache-2.0
"""The drill of an order to draw less that is known ahead: who knows of it when, and what counts as over it."""

from datetime import timedelta

import numpy as np
import pytest

from embellie.simulation.drill.ahead import orders_told
from embellie.simulation.drill.count import CONTRACTED, Violation, later_than_s
from embellie.simulation.drill.desk import Desk
from embellie.simulation.drill.operator import OperatorPolicy
from embellie.simulation.drill.oracle import Limits
from embellie.simulation.drill.rig import Drill, Rig, prepare
from embellie.simulation.drill.scenarios import HOUR_S, NAMES, ORDER, SCENARIOS
from embellie.simulation.plant import PlantSpec
from embellie.thermal.duties import AHEAD_S, CLOSE_AHEAD_S

BEGINS_S, ENDS_S, TOLD_S = 13 * HOUR_S, 16 * HOUR_S, 7 * HOUR_S
"""18:00 and 21:00 of a drill that begins at 05:00, and six hours before."""


@pytest.fixture(scope="module")
def drill() -> Drill:
    return prepare(ORDER, 101, PlantSpec())


@pytest.fixture(scope="module")
def desk(drill: Drill) -> Desk:
    rig = Rig([drill])
    operator = OperatorPolicy(rig)
    rig.run(operator, until_s=2.0 * rig.turn_s)
    return operator.rooms[0]


def test_it_is_asked_for_by_name_and_changes_nothing_that_all_means() -> None:
    assert ORDER not in SCENARIOS
    assert NAMES[: len(SCENARIOS)] == SCENARIOS


@pytest.mark.parametrize(
    ("at_s", "share"), [(TOLD_S, 1.0), (BEGINS_S - 1.0, 1.0), (BEGINS_S, 0.7), (ENDS_S - 1.0, 0.7), (ENDS_S, 1.0)]
)
def test_the_order_holds_from_six_to_nine_in_the_evening(drill: Drill, at_s: float, share: float) -> None:
    assert drill.contract_now_kw(at_s) == pytest.approx(share * drill.contract_kw)
    assert drill.contract_now_kw(at_s, announced=True) == drill.contract_kw


def test_the_operator_finds_it_in_its_grid_zone_from_its_notice_on(drill: Drill, desk: Desk) -> None:
    assert desk.snapshot(TOLD_S - 1.0).grid_zones[0].orders == ()
    zone, begin = desk.snapshot(TOLD_S).grid_zones[0], drill.course.weather.start
    (order,) = zone.orders
    assert order.begins - begin == timedelta(seconds=BEGINS_S)
    assert order.ends - order.begins == timedelta(hours=3)
    assert order.power_kw == pytest.approx(0.7 * drill.contract_kw)
    assert zone.contracted_power_kw == drill.contract_kw
    assert orders_told(drill, begin, ENDS_S + 1.0) == (order,)


def test_the_ladder_hears_of_it_as_long_ahead_as_in_a_cluster(desk: Desk) -> None:
    assert desk.orders(BEGINS_S - CLOSE_AHEAD_S - 1.0) == {}
    told = desk.orders(BEGINS_S - CLOSE_AHEAD_S)
    assert set(told) == {zone.name for zone in desk.settings}
    for left_kw in told.values():
        assert left_kw.shape == AHEAD_S.shape
        assert left_kw[-1] == pytest.approx(0.7 * left_kw[0])
        assert np.ptp(left_kw[:-1]) == 0.0
    assert desk.orders(ENDS_S) == {}


def test_the_oracle_keeps_it_too(drill: Drill) -> None:
    limits = Limits(drill.room, drill.course, contract_kw=drill.contract_kw, ceiling_kw=drill.ceiling_kw)
    before_kw, under_kw = limits.site_kw(BEGINS_S - 1.0), limits.site_kw(BEGINS_S)
    assert under_kw < 0.75 * before_kw


def test_for_power_over_it_starts_since_its_notice_are_blamed_and_for_heat_all(drill: Drill) -> None:
    over = {
        what: Violation(what=what, begin_s=BEGINS_S + 900.0, end_s=BEGINS_S + 1800.0) for what in ("loop", CONTRACTED)
    }
    assert later_than_s(drill, over[CONTRACTED]) == TOLD_S
    assert later_than_s(drill, over["loop"]) == 0.0
