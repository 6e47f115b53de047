# SPDX-License-Identifier: Apache-2.0
"""After it overheated a zone takes back little more heat than it was seen to carry, and so do its neighbours."""

from datetime import timedelta

import pytest
from heated_zone import NOW, POLICY, Zone, load

from embellie.domain.snapshot import Quality, Reading
from embellie.thermal.ladder import LadderMemory, Response, respond
from embellie.thermal.overheated import Overheated, felt_heat
from embellie.thermal.relief import HeatLoad
from embellie.thermal.rungs import Level, ZoneHeat


def test_after_it_overheated_a_zone_takes_back_little_more_than_it_was_seen_to_carry():
    zone = Zone()
    zone.heat_kw = 60.0
    assert zone.shows(28.0) is Level.NORMAL
    assert zone.proven_kw is None
    zone.shows(30.6)
    assert zone.proven_kw is None
    zone.heat_kw = 40.0
    zone.stays(26.0, 900)
    assert zone.proven_kw == pytest.approx(50.0, rel=0.01)
    # More heat that does not warm it past its leave mark is believed within minutes, more that does never is.
    zone.heat_kw = 48.0
    zone.stays(26.0, 1200)
    assert 58.0 < zone.proven_kw <= 60.0
    zone.heat_kw = 100.0
    zone.stays(29.0, 1200)
    assert zone.proven_kw <= 60.0
    zone.stays(26.0, 3600)
    assert zone.proven_kw is None


def test_what_it_was_seen_to_carry_is_not_forgotten_while_it_stands_over_its_lower_mark():
    zone = Zone()
    zone.shows(30.6)
    zone.heat_kw = 40.0
    zone.stays(26.0, 1500)
    assert zone.stays(29.0, 2.0 * 3600.0) is Level.NORMAL
    assert zone.proven_kw == pytest.approx(50.0, rel=0.01)
    zone.heat_kw = 60.0
    zone.stays(26.0, 3000.0)
    assert zone.proven_kw == pytest.approx(75.0, rel=0.01)
    zone.stays(26.0, 600.0)
    assert zone.proven_kw is None


def test_a_zone_that_nobody_filled_since_is_not_believed_an_hour_later_and_then_may_take_larger_steps():
    zone = Zone()
    zone.heat_kw, zone.supply_c = 80.0, 22.0
    zone.shows(30.6)
    zone.heat_kw = 40.0
    zone.stays(26.0, 2.0 * 3600.0)
    # Nothing between 40 and 80 kW was seen since: 4 K over the supply may become 6.5 K at its lower mark.
    assert zone.proven_kw == pytest.approx(40.0 * 1.135 * (6.5 / 4.0) ** 0.5, rel=0.01)
    zone.heat_kw = 74.0
    zone.stays(27.0, 600.0)
    assert zone.proven_kw is None, "it carries what overheated it"


def test_a_zone_that_nobody_filled_for_a_day_since_it_overheated_is_left_to_its_model():
    zone = Zone()
    zone.shows(30.6)
    zone.heat_kw = 40.0
    zone.stays(26.0, 24.0 * 3600.0)
    assert zone.proven_kw == pytest.approx(50.0, rel=0.01)
    zone.stays(26.0, 2.0 * 3600.0)
    assert zone.proven_kw is None


def test_at_its_lower_mark_it_takes_back_no_more_than_it_was_seen_to_carry():
    proven_kw = []
    for celsius in (28.5, 28.0, 26.0):
        zone = Zone()
        zone.heat_kw, zone.supply_c = 60.0, 22.0
        zone.shows(30.6)
        zone.heat_kw = 40.0
        zone.stays(celsius, 1500)
        proven_kw.append(zone.proven_kw)
    # Worst case over measured, and at most a tenth more: 4 K over the supply may become 6.5 K, by far.
    assert proven_kw == pytest.approx([40.0 * 1.135, 40.0 * 1.135 * (6.5 / 6.0) ** 0.5, 40.0 * 1.135 * 1.1], rel=0.01)


def borne(known: Overheated, heat_kw: dict[str, float], seconds: float) -> Overheated:
    """What is known of a cool zone that makes so much heat for so long."""
    felt = felt_heat(
        known, heat_kw, None, NOW + timedelta(seconds=seconds),
        over=False, cool=True, rises=False, held=True, hottest_c=26.0, leave_c=28.5,
    )  # fmt: skip
    assert felt is not None
    return felt


def test_until_it_was_seen_for_minutes_what_it_carries_a_zone_takes_back_no_more_than_it_bears_now():
    felt = borne(Overheated(overheated_kw={"row": 60.0}, until=NOW + timedelta(hours=1)), {"row": 40.0}, 0.0)
    assert felt.proven_kw == (pytest.approx({"row": 40.0 * 1.135}),)


def test_of_what_neighbours_carried_together_the_newest_few_are_kept():
    known = Overheated(overheated_kw={"row": 200.0, "other": 200.0}, until=NOW + timedelta(hours=1))
    for i in range(80):
        known = borne(known, {"row": 100.0 + i, "other": 200.0 - i}, 400.0 * i)
    assert len(known.proven_kw) == 32
    assert known.proven_kw[-1]["row"] == max(heats["row"] for heats in known.proven_kw)


class Pair:
    """Two zones under the ladder: the heat of `far` may reach `near`."""

    def __init__(self, *loads: HeatLoad) -> None:
        self.loads, self.memory, self.now = loads, LadderMemory(), NOW
        self.answer = Response(zones={})

    def shows(self, near_c: float, seconds: float, *, near_kw: float = 40.0, far_kw: float = 40.0) -> Response:
        for _ in range(int(seconds // 30)):
            self.now += timedelta(seconds=30)
            zones = [
                ZoneHeat(
                    name=name, temperature=Reading(value=celsius, age_s=5.0, quality=Quality.FRESH), hard_c=32.0,
                    enter_c=30.5, leave_c=28.5, target_kw=30.0, heat_kw=heat_kw, neighbours=neighbours,
                )
                for name, celsius, heat_kw, neighbours in (
                    ("far", 25.0, far_kw, ()), ("near", near_c, near_kw, ("far",)),
                )
            ]  # fmt: skip
            policies = dict.fromkeys(("far", "near"), POLICY)
            self.memory, self.answer = respond(self.memory, zones, self.loads, policies, self.now)
        return self.answer


def test_a_zone_whose_heat_may_reach_one_that_overheats_takes_back_little_more_too():
    shows = Pair().shows
    assert shows(26.0, 600).zones["far"].proven_kw == ()
    # Warm by itself it is not, and it overheats nobody by what is known of it: it proves what it carries all the same.
    assert shows(31.0, 900).zones["near"].overheats
    far = shows(26.0, 330).zones["far"]
    assert (far.level, far.overheats) == (Level.NORMAL, False)
    assert far.proven_kw == (pytest.approx({"far": 50.0}, rel=0.01),)
    assert not shows(26.0, 4800).zones["near"].overheats
    assert shows(26.0, 3900).zones["far"].proven_kw == ()


def test_what_a_zone_carried_while_the_one_that_it_warms_was_hot_proves_nothing():
    shows = Pair().shows
    shows(31.0, 900, far_kw=60.0)
    assert shows(29.0, 600, far_kw=60.0).zones["far"].proven_kw == (), "near is over its lower mark still"
    assert shows(26.0, 330, far_kw=40.0).zones["far"].proven_kw == (pytest.approx({"far": 50.0}, rel=0.01),)


def test_what_a_zone_carried_while_its_neighbour_rested_proves_nothing_of_both():
    shows = Pair().shows
    assert shows(31.0, 900).zones["near"].proven_kw == ()
    shows(26.0, 600, far_kw=20.0)
    (heats,) = shows(28.5, 600, far_kw=20.0).zones["near"].proven_kw
    assert heats == pytest.approx({"near": 50.0, "far": 25.0}, rel=0.01)
    several = shows(28.5, 900, near_kw=30.0, far_kw=60.0).zones["near"].proven_kw
    assert {(round(h["near"]), round(h["far"])) for h in several} == {(50, 25), (37, 75)}


def test_what_may_warm_a_zone_takes_nothing_new_until_that_zones_work_has_its_power_back():
    pair = Pair(load("a", zone="near", capable=True, gpus=64))
    assert pair.shows(30.6, 360).caps
    while pair.shows(26.0, 30).zones["near"].overheats:
        continue
    assert pair.answer.caps
    while pair.answer.caps:
        for zone in pair.answer.zones.values():
            assert (zone.admits, zone.reason) == (False, "what runs in near gets its power back first")
        pair.shows(26.0, 30)
    assert all(zone.admits for zone in pair.shows(26.0, 60).zones.values())


def test_a_supply_that_cooled_with_the_heat_that_went_does_not_prove_that_the_zone_carries_it_again():
    zone = Zone()
    zone.heat_kw, zone.supply_c = 60.0, 24.0
    zone.shows(30.6)
    zone.heat_kw = 40.0
    zone.stays(26.0, 1200)
    zone.supply_c = 22.5
    assert zone.shows(26.0) is Level.NORMAL
    assert zone.proven_kw == pytest.approx(50.0, rel=0.01)
