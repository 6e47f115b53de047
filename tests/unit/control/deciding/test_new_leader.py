# SPDX-License-Identifier: Apache-2.0
"""What a new leader does before its forecaster has spoken: what was held stays held, but for bounds that come."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from embellie.control import pace
from embellie.control.deciding.seen import Lead
from embellie.control.deciding.turn import Verdicts, decide
from embellie.domain.reasons import Reason
from embellie_testbed.views import NOW, assembled, forecast, job, known

HOUR = timedelta(hours=1)
CLEAN_NOW = {name: forecast(name, [100.0] * 48) for name in ("west", "east")}


def named(verdicts: Verdicts) -> list[str]:
    return [d.key.name for d in verdicts.releases]


def test_a_forecaster_has_its_time_from_when_its_process_began_to_lead():
    lead, blind, told = Lead(1000.0, NOW), *(SimpleNamespace(forecasts_to_come=is_so) for is_so in (True, False))
    seen: Any
    for seen, after_s, awaited in ((blind, 0.0, True), (blind, pace.FIRST_FORECAST_S, False), (told, 0.0, False)):
        assert lead.awaits_forecasts(seen, 1000.0 + after_s) is awaited


@pytest.mark.parametrize("plan", [None, known("")], ids=["no plan", "a plan without a status"])
def test_a_new_leader_starts_nothing_for_want_of_a_forecast_that_was_held_before_though_nothing_was_written(plan):
    held = job("held", created=NOW - HOUR)
    made = assembled(held, forecasts={})
    plans = {held.key.uid: plan} if plan else {}
    early = decide(made, (held,), plans, (), 100, leads_since=NOW)
    assert (named(early), early.records) == ([], ())
    assert [d.reason for d in decide(made, (held,), plans, (), 100).releases] == [Reason.FORECAST_UNAVAILABLE]


def test_a_new_leader_lets_earlier_plans_stand_until_its_forecaster_has_spoken():
    held, new = job("held"), job("new", created=NOW)
    made = assembled(held, new, forecasts={})
    plans = {held.key.uid: known()}
    early = decide(made, (held, new), plans, (), 100, leads_since=NOW)
    assert named(early) == ["new"]
    assert "held" not in [record.key.name for record in early.records]
    assert sorted(named(decide(made, (held, new), plans, (), 100))) == ["held", "new"]


def test_a_new_leader_that_has_the_forecast_of_one_zone_starts_nothing_that_waits_for_another():
    held = job("held")
    plans = {held.key.uid: known()}
    made = assembled(held, forecasts={"east": CLEAN_NOW["east"]})
    assert "held" in named(decide(made, (held,), plans, (), 100))
    early = decide(made, (held,), plans, (), 100, leads_since=NOW)
    assert (named(early), early.records) == ([], ())
    assert named(decide(made, (held,), plans, (), 100, (), early.standing)) == []


def test_a_new_leader_keeps_a_promised_bound_without_a_forecast():
    due = job("due", max_delay="1h", created=NOW - HOUR)
    made = assembled(due, forecasts={})
    assert named(decide(made, (due,), {due.key.uid: known()}, (), 100, leads_since=NOW)) == ["due"]


def test_work_that_came_in_the_second_in_which_this_process_began_to_lead_is_new():
    new = job("new", created=NOW)
    early = decide(assembled(new, forecasts={}), (new,), {}, (), 100, leads_since=NOW + timedelta(seconds=0.9))
    assert named(early) == ["new"]
