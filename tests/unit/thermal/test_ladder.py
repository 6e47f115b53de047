# SPDX-License-Identifier: Apache-2.0
"""A zone that heats in spite of everything is answered gently first, never twice in a hurry, never on stale data."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from heated_zone import NOW, POLICY, Zone, load

from embellie.thermal.conflicts import reconcile
from embellie.thermal.ladder import Response
from embellie.thermal.relief import caps_for, pauses_for, worst_kw
from embellie.thermal.rungs import Level
from embellie.thermal.settings import Measure, Side
from embellie.thermal.trend import Trend


def test_a_cool_zone_is_left_alone():
    zone = Zone(loads=(load("a", capable=True),))
    assert zone.stays(25.0, 1200) is Level.NORMAL
    assert zone.answer == Response(zones=zone.answer.zones)


def test_it_climbs_one_rung_at_a_time_and_dwells_on_each():
    zone = Zone()
    assert zone.shows(30.6) is Level.CLOSED
    assert zone.stays(30.6, 270) is Level.CLOSED
    assert zone.stays(30.6, 60) is Level.CAPPED
    assert zone.stays(30.6, 330) is Level.PAUSING
    assert zone.stays(30.6, 330) is Level.TAINTED
    assert zone.answer.taints == {"row"}


def test_a_soft_limit_closes_and_caps_and_only_a_hard_one_that_is_near_pauses():
    zone = Zone(loads=(load("a", capable=True),))
    zone.pause_c = 31.0
    assert zone.stays(30.6, 3600) is Level.CAPPED
    assert zone.memory.paused("row") == ()
    assert zone.shows(31.1) is Level.PAUSING


def test_it_comes_down_only_after_it_was_cool_for_the_dwell():
    zone = Zone()
    zone.shows(30.6)
    zone.stays(29.5, 1200)
    assert zone.answer.zones["row"].level is Level.CLOSED
    assert zone.stays(28.4, 840) is Level.CLOSED
    assert zone.stays(28.4, 120) is Level.NORMAL


@pytest.mark.parametrize(("target_kw", "paused"), [(50.0, 2), (None, 3)], ids=["known", "a fifth where it is not"])
def test_at_the_hard_limit_there_is_no_time_for_rungs_and_as_much_is_paused_as_has_to_go(target_kw, paused):
    zone = Zone(loads=tuple(load(f"job-{n}") for n in range(9)))
    assert zone.shows(32.1, target_kw=target_kw) is Level.PAUSING
    assert len(zone.memory.paused("row")) == paused


def test_a_zone_that_will_pass_its_limit_in_minutes_is_paused_at_once():
    zone = Zone(loads=(load("a"),))
    for celsius in (28.0, 29.0, 30.0):
        zone.shows(celsius)
    assert zone.shows(31.0) is Level.PAUSING
    assert zone.memory.paused("row") == ("a",)


def test_one_step_of_a_coarse_sensor_is_no_rush():
    zone = Zone(loads=(load("a", capable=True),))
    zone.stays(28.0, 300)
    for celsius in (29.0, 30.0):
        assert zone.shows(celsius) is Level.NORMAL
        assert zone.stays(celsius, 300) is Level.NORMAL
    flicker = Zone()
    assert {flicker.shows(29.5 + 0.5 * (turn % 2)) for turn in range(60)} == {Level.NORMAL}


def test_when_another_temperature_stands_closer_to_its_limit_that_is_no_rise():
    trend, at = Trend(), NOW
    for k in range(24):
        # The supply at first, then the return: each stands still.
        value_c, hard_c = (37.0, 45.0) if k < 12 else (49.0, 56.0)
        at += timedelta(seconds=15)
        trend = trend.felt(at, value_c, hard_c, 300.0)
        assert trend.to_limit_s(hard_c) == float("inf")


def test_a_rise_is_seen_in_time_whatever_the_steps_of_the_sensor():
    for step in (0.1, 0.5, 1.0):
        trend, at = Trend(), NOW
        while trend.to_limit_s(32.0) > 300.0:
            at += timedelta(seconds=15)
            celsius = 27.0 + (at - NOW).total_seconds() / 60.0
            trend = trend.felt(at, round(celsius / step) * step, 32.0, 300.0)
        # A kelvin a minute: the limit is two minutes away at the latest when it is seen.
        assert 27.0 < celsius <= 30.0, step
    assert not trend.falls
    for k in range(12):
        trend = trend.felt(at + timedelta(seconds=15 * (k + 1)), celsius - 0.5 * k, 32.0, 300.0)
    assert trend.falls
    assert trend.to_limit_s(32.0) == float("inf")


def test_caps_that_are_deeper_than_needed_come_up_by_steps_while_the_zone_is_still_on_its_rung():
    zone = Zone(loads=(load("a", capable=True), load("b", capable=True)))
    zone.shows(30.6)
    zone.stays(30.6, 330)
    deep = zone.answer.caps[0].watts_per_gpu
    for _ in range(40):
        assert zone.shows(29.5, target_kw=70.0) is Level.CAPPED
    assert zone.answer.caps[0].watts_per_gpu == pytest.approx(deep + 4 * 35.0)


def test_a_sensor_that_cannot_be_trusted_eases_nothing():
    zone = Zone(loads=(load("a", capable=True),))
    zone.shows(30.6)
    zone.stays(30.6, 330)
    caps = zone.answer.caps
    assert caps
    assert zone.stays(None, 3600) is Level.CAPPED
    assert [c.watts_per_gpu for c in zone.answer.caps] == [c.watts_per_gpu for c in caps]


def test_caps_are_even_expire_and_never_go_below_the_knee():
    zone = Zone(loads=(load("a", capable=True), load("b", capable=True)))
    zone.shows(30.6)
    zone.stays(30.6, 330)
    watts = {order.watts_per_gpu for order in zone.answer.caps}
    assert len(watts) == 1
    assert 420.0 <= watts.pop() < 700.0
    assert all(order.expires > zone.now for order in zone.answer.caps)
    deep = Zone(loads=(load("a", capable=True),))
    deep.shows(30.6, target_kw=0.0)
    deep.stays(30.6, 330)
    deep.shows(30.6, target_kw=0.0)
    assert min(order.watts_per_gpu for order in deep.answer.caps) == 420.0


def test_caps_are_lifted_step_by_step_once_the_zone_is_normal():
    zone = Zone(loads=(load("a", capable=True),))
    zone.shows(30.6)
    zone.stays(30.6, 330)
    while zone.shows(25.0) is not Level.NORMAL:
        pass
    shares = []
    for _ in range(60):
        zone.shows(25.0)
        shares.append(zone.answer.caps[0].watts_per_gpu if zone.answer.caps else 700.0)
    assert shares == sorted(shares)
    assert shares[-1] == 700.0
    assert max(b - a for a, b in pairwise(shares)) <= 71.0


def test_everything_works_without_caps():
    zone = Zone(loads=(load("a"), load("b")))
    zone.shows(30.6)
    zone.stays(30.6, 700)
    assert zone.answer.caps == ()
    assert zone.memory.paused("row")


def test_pauses_go_by_priority_then_by_least_lost_work():
    fresh = NOW - timedelta(minutes=1)
    loads = [
        load("dear", priority=5),
        load("long-ago", checkpoint_s=0.0, last_checkpoint=NOW - timedelta(hours=5)),
        load("just-saved", checkpoint_s=0.0, last_checkpoint=fresh),
        load("rigid", pausable=False),
    ]
    assert [x.key for x in pauses_for(loads, 10.0, 9, NOW)] == ["just-saved", "long-ago"]
    assert [x.key for x in pauses_for(loads, 99.0, 9, NOW)] == ["just-saved", "long-ago", "dear"]
    assert [x.key for x in pauses_for(loads, 99.0, 1, NOW)] == ["just-saved"]
    assert pauses_for(loads, 0.0, 9, NOW) == []


def test_below_the_hard_limit_the_bucket_bounds_pauses():
    zone = Zone(loads=tuple(load(f"job-{n}") for n in range(9)))
    zone.heat_kw = 100.0
    zone.shows(30.6, target_kw=10.0)
    while zone.answer.zones["row"].level < Level.PAUSING:
        zone.shows(30.6, target_kw=10.0)
    assert len(zone.memory.paused("row")) == 2
    for _ in range(20):
        zone.shows(30.6, target_kw=10.0)
    assert len(zone.memory.paused("row")) == 2
    for _ in range(20):
        zone.shows(30.6, target_kw=10.0)
    assert len(zone.memory.paused("row")) == 3


def test_what_was_paused_may_come_back_once_the_zone_is_normal_and_is_then_forgotten():
    zone = Zone(loads=(load("a"),))
    zone.shows(32.5)
    assert zone.memory.paused("row") == ("a",)
    while zone.shows(25.0) is not Level.NORMAL:
        assert zone.answer.resumes == ()
    assert zone.answer.resumes == ("a",)
    zone.memory = zone.memory.resumed("a")
    zone.shows(25.0)
    assert zone.answer.resumes == ()


def test_a_zone_does_not_come_down_just_before_what_it_paused_goes_on_whatever_it_shows():
    zone = Zone(loads=(load("a"),))
    zone.shows(32.5)
    zone.back_by = {"a": zone.now + timedelta(minutes=20)}
    assert zone.stays(25.0, 1170) is Level.PAUSING
    assert zone.stays(25.0, 1200) is Level.NORMAL
    early = Zone(loads=(load("a"),))
    early.shows(32.5)
    early.back_by = {"a": early.now + timedelta(hours=1)}
    assert early.stays(25.0, 1170) is Level.CAPPED


def test_a_reading_that_swings_around_the_mark_does_not_make_it_flap():
    zone = Zone()
    levels = [zone.shows(30.5 + (0.4 if turn % 2 else -0.4)) for turn in range(240)]
    assert sum(a is not b for a, b in pairwise(levels)) <= len(Level)


def test_a_zone_that_warms_again_is_not_eased_and_one_that_stands_still_is():
    zone = Zone()
    zone.shows(30.6)
    zone.stays(28.0, 900)
    assert zone.stays(28.0, 30) is Level.NORMAL
    other = Zone()
    other.shows(30.6)
    other.stays(27.0, 870)
    for celsius in (27.5, 27.5, 28.0, 28.0, 28.5, 28.5):
        assert other.shows(celsius) is Level.CLOSED
    assert other.stays(28.0, 300) is Level.NORMAL


def test_a_measure_that_the_zone_does_not_allow_is_left_out():
    zone = Zone(replace(POLICY, measures=(Measure.CLOSE, Measure.TAINT)), loads=(load("a", capable=True),))
    zone.shows(32.5)
    zone.stays(32.5, 400)
    assert zone.answer.caps == ()
    assert zone.memory.paused("row") == ()
    assert zone.answer.taints == {"row"}


def test_a_rung_that_the_zone_does_not_allow_any_more_is_left_once_it_cooled():
    zone = Zone()
    assert zone.shows(30.6) is Level.CLOSED
    zone.policy = replace(POLICY, measures=(Measure.PAUSE,))
    assert zone.stays(29.0, 300) is Level.CLOSED
    assert zone.stays(26.0, 960) is Level.NORMAL
    assert zone.answer.zones["row"].admits


def test_a_cap_counts_a_tenth_more_than_it_says():
    assert worst_kw(load("a"), 500.0) == pytest.approx(8 * (550.0 - 70.0) / 1000.0)
    assert caps_for([load("a", capable=True)], 1e9) == 1.0


@pytest.mark.parametrize(
    ("ceiling", "order", "floor", "most", "least", "lost"),
    [
        (None, None, None, float("inf"), 0.0, []),
        (100.0, 80.0, 50.0, 80.0, 50.0, []),
        (40.0, None, 50.0, 40.0, 40.0, [Side.FLOOR]),
        (100.0, 30.0, 50.0, 30.0, 30.0, [Side.FLOOR]),
    ],
)
def test_the_policy_says_which_constraint_wins_and_what_is_given_up(ceiling, order, floor, most, least, lost):
    target = reconcile(ceiling, order, floor, tuple(Side))
    assert (target.at_most_kw, target.at_least_kw) == (most, least)
    assert [c.given_up for c in target.conflicts] == lost


def test_a_heat_network_that_is_preferred_wins_over_an_order_to_cut():
    target = reconcile(None, 30.0, 50.0, (Side.FLOOR, Side.CEILING, Side.ORDER))
    assert (target.at_most_kw, target.at_least_kw) == (50.0, 50.0)
    (conflict,) = target.conflicts
    assert (conflict.kept, conflict.given_up) == (Side.FLOOR, Side.ORDER)
    assert "30 kW" in str(conflict)
    assert "50 kW" in str(conflict)
