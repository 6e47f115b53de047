# SPDX-License-Identifier: Apache-2.0
"""The shield on what is known about heat: what waits says why, and resumes and raised caps are judged like starts."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from cooled_row import fresh

from embellie.domain.heat import HeatOutlook
from embellie.domain.limits import HeatBound
from embellie.domain.plan import Action, Decision, Plan
from embellie.domain.reasons import Reason
from embellie.thermal.shield import Rises, shield
from embellie_testbed.views import NOW, assembled, job, thermal_zone


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
        (
            {"proven_kw": ({"west-r1": 1.0},)},
            "it overheated a while ago and takes back little more than it was seen to carry",
        ),
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
        changes = {"outlook": replace(outlook(*[1.0] * 48), bound=bound)}
    decision = shielded(**changes)
    assert (decision.action, decision.reason) == (Action.HOLD, Reason.HEAT_LIMIT)
    assert words in decision.message
    assert decision.message.startswith("Waits because at worst west-r1 would carry")
    assert "(" not in decision.message


def test_zones_that_share_their_air_take_back_together_only_what_they_were_seen_to_make_together():
    rows = ("west-r1", "east-r1")
    made = assembled(thermal_zones=tuple(thermal_zone(row, cooling={"capacityKilowatts": 500}) for row in rows))
    one, other = made.snapshot.thermal_zones
    idle = {zone.name: zone.base_power_kw for zone in (one, other)}

    def beside(one_kw: float, other_kw: float) -> dict[str, float]:
        return {one.name: idle[one.name] + one_kw, other.name: idle[other.name] + other_kw}

    one = replace(one, neighbours=(other.name,), proven_kw=(beside(10.0, 2.0), beside(4.0, 6.0)))
    rises = Rises(replace(made.snapshot, thermal_zones=(one, other)))
    cells = {c.thermal_zone: c.name for c in made.snapshot.cells}
    assert rises.refusal(cells[other.name], 5.0, 3600.0) is None
    words = rises.refusal(cells[one.name], 5.0, 3600.0) or ""
    assert "little more heat than they were seen to make together" in words, "10 kW only while the other rests"
    assert rises.refusal(cells[one.name], 3.0, 3600.0) is None
    assert rises.refusal(cells[other.name], 3.0, 3600.0) is not None


def outlook(*removable: float) -> HeatOutlook:
    values = np.array(removable, dtype=np.float64)
    return HeatOutlook(start=NOW, step=timedelta(hours=1), removable_kw=values, pue=np.ones(values.size), bound=())


def test_a_start_is_judged_by_the_hottest_hour_of_its_run():
    assert shielded().action is Action.RELEASE
    assert shielded(outlook=outlook(500.0, 500.0, 500.0)).action is Action.RELEASE
    held = shielded(outlook=outlook(500.0, 1.0, 500.0))
    assert held.action is Action.HOLD
    assert "hottest hour" in held.message


def test_a_zone_that_the_ladder_closed_takes_nothing_new_and_says_why():
    held = shielded(admission_open=False, closed_because="31.2 °C is over 31.0 °C")
    assert held.action is Action.HOLD
    assert "31.2 °C" in held.message


def test_resumes_and_raised_caps_are_judged_like_starts():
    snapshot = assembled(thermal_zones=(thermal_zone("west-r1", cooling={"capacityKilowatts": 50}),)).snapshot
    cell = next(c.name for c in snapshot.cells if c.thermal_zone == "west-r1")
    assert Rises(snapshot).refusal(cell, 1.0, 3600.0) is None
    assert "west-r1" in (Rises(snapshot).refusal(cell, 500.0, 3600.0) or "")
    assert Rises(snapshot).refusal("nowhere", 500.0, 3600.0) is None
    grids = tuple(replace(grid, contracted_power_kw=20.0, base_power_kw=15.0) for grid in snapshot.grid_zones)
    assert "contracted" in (Rises(replace(snapshot, grid_zones=grids)).refusal(cell, 10.0, 3600.0) or "")


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
