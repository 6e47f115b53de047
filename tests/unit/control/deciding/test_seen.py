# SPDX-License-Identifier: Apache-2.0
"""Whether a turn has anything to decide: when something is due, and what changes what was decided."""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from plan_records import NOW, plan_record

from embellie.control.assembly.sensors import Readings
from embellie.control.deciding.seen import Seen, expected_power_kw, next_due
from embellie.domain.reasons import Rung, State
from embellie_testbed.views import assembled, forecast, grid_zone, job, nodes, running_pod, thermal_zone, view

HOUR = timedelta(hours=1)


def due_in(*records: Any) -> timedelta:
    verdicts: Any = SimpleNamespace(records=records)
    return next_due(verdicts, NOW)


def test_what_is_held_is_due_at_its_planned_start_or_its_bound_whichever_is_first():
    early, late = job("early").key, job("late").key
    planned = plan_record(late, planned_start=NOW + 9 * HOUR, latest_start=NOW + 24 * HOUR)
    assert due_in(planned) == 9 * HOUR
    assert due_in(planned, plan_record(early, planned_start=None, latest_start=NOW + 5 * HOUR)) == 5 * HOUR
    assert due_in(planned, plan_record(early, planned_start=NOW + 7 * HOUR, latest_start=NOW + 4 * HOUR)) == 4 * HOUR


def test_what_shadow_would_have_done_is_never_due():
    shadow = plan_record(job().key, state=State.SHADOW, planned_start=NOW + HOUR)
    assert due_in(shadow) == due_in() > 12 * HOUR


def seen(**changes: Any) -> Seen:
    blind = Readings(grid_power_kw={}, inlets={}, supplies={}, problems={})
    found: Any = {
        "version": 1, "view": view(), "grid_zones": (), "thermal_zones": (), "readings": blind,
        "forecasts": {"west": forecast("west", [1.0] * 48)}, "heat": {"row": SimpleNamespace(admission_open=True)},
        "to_pause": frozenset(), "now": NOW,
    }  # fmt: skip
    return Seen(**{**found, **changes})


def test_forecasts_are_to_come_until_each_zone_that_names_a_grid_has_one():
    west, east, dark = grid_zone("west"), grid_zone("east"), grid_zone("dark", gridRegion=None)
    assert seen(grid_zones=(west, east, dark)).forecasts_to_come
    assert not seen(grid_zones=(west, dark)).forecasts_to_come


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"forecasts": {}},
        {"forecasts": {"west": replace(forecast("west", [1.0] * 48), issued_at=NOW)}},
        {"forecasts": {"west": replace(forecast("west", [1.0] * 48), rung=Rung.LAST_GOOD)}},
        {"readings": Readings(grid_power_kw={}, inlets={}, supplies={}, problems={"thermalzone/row/inlet": "stale"})},
        {"heat": {"row": SimpleNamespace(admission_open=False)}},
        {"to_pause": frozenset({"uid"})},
    ],
    ids=["an object", "no forecast", "a new forecast", "a lower rung", "a sensor", "admission", "a pause"],
)
def test_whatever_a_decision_rests_on_makes_a_turn_decide_anew(change: Any):
    assert seen(now=NOW + HOUR).key == seen().key, "time alone changes nothing"
    assert seen(**change).key != seen().key


def test_the_power_of_a_row_is_expected_to_be_that_of_what_runs_in_it():
    rows = (thermal_zone("west-r1"), thermal_zone("east-r1"))
    pods = [running_pod("a", "west-0", gpus=4)]
    quiet, busy = (expected_power_kw(assembled(view=view(pods=p, on=nodes()), thermal_zones=rows)) for p in ((), pods))
    (gang,) = assembled(view=view(pods=pods, on=nodes()), thermal_zones=rows).snapshot.running
    assert busy == {"west-r1": quiet["west-r1"] + gang.power_kw, "east-r1": quiet["east-r1"]}
    assert gang.power_kw > 0.5
