# SPDX-License-Identifier: Apache-2.0
"""What a turn tells Prometheus: the values are those of the turn, and what is gone is not told."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embellie.cluster.plan_objects import PlanRecord
from embellie.control.assembly.assemble import Assembly
from embellie.control.deciding.turn import decide
from embellie.control.telling.measures import Facts, Measures, lost_gpu_seconds, turn_values
from embellie.domain.heat import HeatOutlook
from embellie.domain.plan import Plan
from embellie.domain.reasons import Reason, Rung, State
from embellie.domain.snapshot import Quality, Reading
from embellie.telemetry.metrics import TABLE, Metric, Value, grid, heat, work
from embellie_testbed.views import NOW, assembled, forecast, grid_zone, job, policy, running_pod, thermal_zone, view

Told = Mapping[tuple[str, ...], float]


def facts(*workloads: Any, problems: Mapping[str, str] | None = None, **changes: Any) -> Facts:
    made = assembled(*workloads, **changes)
    verdicts = decide(made, workloads, {}, frozenset(), 100)
    return Facts(assembly=made, records=verdicts.records, standing=verdicts.standing, problems=problems or {})


def told(values: list[Value], metric: Metric) -> Told:
    return {v.labels: v.value for v in values if v.metric is metric}


def records(found: Facts, **changes: Any) -> Facts:
    return replace(found, records=tuple(replace(r, **changes) for r in found.records))


def test_held_work_is_told_by_reason_and_namespace_and_known_reasons_are_told_as_nought():
    values = turn_values(facts(job("a"), job("b"), job("c", namespace="vision")))
    held = told(values, work.HELD)
    assert held["Held", "CleanerWindow"] == 3
    assert held["Held", "HeatLimit"] == 0
    assert told(values, work.HELD_GPUS)["Held", "CleanerWindow"] == 24
    assert sorted(told(values, work.NAMESPACE_HELD_GPUS).values()) == [8, 16]
    assert told(values, work.WORKLOAD_BOUND) == {}


def test_a_series_for_each_workload_only_where_it_is_asked_for():
    values = turn_values(facts(job("a"), job("b")), per_workload=True)
    bounds = told(values, work.WORKLOAD_BOUND)
    assert {(labels[1], labels[2], labels[3], labels[4]) for labels in bounds} == {
        ("Job", "a", "Held", "CleanerWindow"),
        ("Job", "b", "Held", "CleanerWindow"),
    }
    assert all(value > NOW.timestamp() for value in bounds.values())


def test_ten_thousand_namespaces_become_a_bounded_number_of_series():
    found = facts(job("a"))
    (record,) = found.records
    many = tuple(replace(record, key=replace(record.key, namespace=f"ns-{n:05}", uid=f"u-{n}")) for n in range(10_000))
    values = told(turn_values(replace(found, records=many)), work.NAMESPACE_HELD_GPUS)
    assert len(values) == 501
    assert sum(values.values()) == 80_000
    assert values["_other_",] == 8 * 9500


def test_what_is_past_its_bound_is_told_by_state():
    late = records(facts(job("a")), latest_start=NOW - timedelta(minutes=2))
    values = turn_values(late)
    assert told(values, work.PAST_BOUND) == {("Held",): 1, ("HeldByLimit",): 0}
    assert told(values, work.OVERDUE) == {(): 120}
    limited = turn_values(records(late, state=State.HELD_BY_LIMIT, reason=Reason.LIMIT_READING))
    assert told(limited, work.PAST_BOUND) == {("Held",): 0, ("HeldByLimit",): 1}


def test_used_up_waits_are_shares_of_each_workloads_own_bound():
    values = turn_values(facts(job("a", created=NOW - timedelta(hours=6))))
    assert told(values, work.WAIT_USED)["1",] == pytest.approx(6 / 24)
    assert told(values, work.LONGEST_HELD) == {(): 6 * 3600}
    assert told(turn_values(facts()), work.WAIT_USED) == {("0.5",): 0, ("0.9",): 0, ("1",): 0}


def test_running_and_free_gpus_add_up_to_the_zone():
    values = turn_values(facts(view=view(pods=(running_pod("p", "west-0", gpus=3),))))
    running, free = told(values, work.RUNNING_GPUS), told(values, work.FREE_GPUS)
    assert running == {("west",): 3, ("east",): 0}
    assert {zone: running[zone] + free[zone] for zone in running} == {("west",): 32, ("east",): 32}
    assert told(values, work.RUNNING) == {("west",): 1, ("east",): 0}


def test_a_gap_is_told_only_where_a_bound_was_proved():
    found = facts(job("a"))
    without = turn_values(replace(found, standing=Plan(decisions=(), objective_g=200.0)))
    assert told(without, work.PLAN_OBJECTIVE) == {(): 200}
    assert told(without, work.PLAN_GAP) == {}
    proved = turn_values(replace(found, standing=Plan(decisions=(), objective_g=200.0, lower_bound_g=190.0)))
    assert told(proved, work.PLAN_GAP) == {(): pytest.approx(0.05)}
    nothing = turn_values(replace(found, standing=Plan(decisions=(), objective_g=0.0, lower_bound_g=0.0)))
    assert told(nothing, work.PLAN_GAP) == {(): 0}


def test_the_rung_is_told_for_each_zone_that_wants_a_forecast_and_for_no_other():
    zones = (grid_zone("west"), grid_zone("east", gridRegion=None))
    known = {"west": replace(forecast("west"), rung=Rung.CALENDAR)}
    rungs = told(turn_values(facts(grid_zones=zones, forecasts=known)), grid.FORECAST_RUNG)
    assert {labels for labels, value in rungs.items() if value} == {("west", "Calendar")}
    assert not any(zone == "east" for zone, _ in rungs)
    none = told(turn_values(facts(grid_zones=zones, forecasts={})), grid.FORECAST_RUNG)
    assert {labels for labels, value in none.items() if value} == {("west", "None")}


def test_a_forecast_is_told_as_far_as_it_reaches_with_its_quantiles():
    short = forecast("west", [100.0, 200.0, 300.0, 400.0, 500.0])
    values = turn_values(facts(forecasts={"west": short}))
    ahead = told(values, grid.CARBON_FORECAST)
    slot = int((NOW - short.start) / short.step)
    assert ahead["west", "AverageLifecycle", "0", "0.5"] == short.carbon_intensity_g_per_kwh[short.median, slot]
    assert (
        ahead["west", "AverageLifecycle", "3", "0.9"]
        == short.carbon_intensity_g_per_kwh[short.quantile_levels.index(0.9), slot + 3]
    )
    assert not any(labels[2] in ("6", "12", "24", "48", "72") for labels in ahead)
    assert told(values, heat.AMBIENT) == {}


def test_only_fresh_readings_are_told_as_temperatures_and_power():
    fresh = Reading(value=21.5, age_s=1.0, quality=Quality.FRESH)
    stale = Reading(value=99.0, age_s=900.0, quality=Quality.STALE)
    zone = thermal_zone("west-r1")
    values = turn_values(facts(thermal_zones=(zone,), inlets={"west-r1": stale}, supplies={"west-r1": fresh}))
    assert told(values, heat.INLET) == {}
    assert told(values, heat.SUPPLY) == {("west-r1",): 21.5}
    metered = turn_values(facts(grid_power={"west": Reading(value=40.0, age_s=1.0, quality=Quality.FRESH)}))
    assert told(metered, grid.ZONE_POWER)["west", "measured"] == 40_000
    unread = turn_values(facts(grid_power={"west": replace(stale, value=40.0)}))
    assert ("west", "measured") not in told(unread, grid.ZONE_POWER)


def test_a_zone_without_a_limit_tells_no_headroom_rather_than_infinity():
    values = turn_values(facts(thermal_zones=(thermal_zone("west-r1"),)))
    assert all(np.isfinite(v.value) for v in values)


def test_a_heat_outlook_is_told_hour_by_hour():
    made = assembled(thermal_zones=(thermal_zone("west-r1"),))
    hours = np.arange(48.0)
    outlook = HeatOutlook(start=NOW, step=timedelta(hours=1), removable_kw=100 + hours, pue=np.full(48, 1.2))
    (zone,) = made.snapshot.thermal_zones
    snapshot = replace(made.snapshot, thermal_zones=(replace(zone, outlook=outlook),))
    found = Facts(
        assembly=replace(made, snapshot=snapshot), records=(), standing=Plan(decisions=(), objective_g=0.0), problems={}
    )
    removable = told(turn_values(found), heat.REMOVABLE)
    assert removable["west-r1", "0"] == 100_000
    assert removable["west-r1", "24"] == 124_000
    assert ("west-r1", "48") not in removable


def test_a_sensor_that_is_not_trusted_is_told():
    meter = {"query": "q", "unit": "Watt"}
    zones = (grid_zone("west", powerSensor=meter), grid_zone("east", powerSensor=meter))
    values = turn_values(facts(grid_zones=zones, problems={"gridzone/west/power": "there is no value"}))
    assert told(values, heat.SENSOR_TRUSTED) == {("GridZone", "west", "power"): 0, ("GridZone", "east", "power"): 1}


def test_conflicts_of_zones_and_policies_are_counted():
    shared = (grid_zone("west"), grid_zone("twin", nodeSelector={"topology.kubernetes.io/zone": "west"}))
    values = turn_values(facts(grid_zones=shared, policies=(policy("a", priority=1), policy("b"))))
    conflicts = told(values, work.CONFLICTS)
    assert conflicts["grid_zone_nodes",] == 4
    assert conflicts["overruled_policies",] == 1
    assert conflicts["thermal_zone_nodes",] == conflicts["leaking_cells",] == 0


def held(gpus: int, reason: Reason) -> PlanRecord:
    (record,) = facts(job("a")).records
    return replace(record, gpus=gpus, reason=reason)


@pytest.mark.parametrize(
    ("choice", "limit", "free", "expected"),
    [(8, 0, 64, (8, 0)), (80, 16, 64, (64, 0)), (40, 40, 64, (40, 24)), (8, 8, 0, (0, 0))],
)
def test_gpu_time_is_lost_only_where_gpus_stood_free(choice: int, limit: int, free: int, expected: tuple[int, int]):
    standing = [held(choice, Reason.CLEANER_WINDOW), held(limit, Reason.HEAT_LIMIT), held(99, Reason.WAITING_FOR_GPUS)]
    lost = lost_gpu_seconds(standing, free, 10.0)
    assert (lost["Choice"], lost["Limit"]) == (10.0 * expected[0], 10.0 * expected[1])


def count(state: str, reason: str) -> float:
    return work.DECISIONS.labels(state, reason)._value.get()


def test_a_decision_counts_when_it_is_made_and_not_while_it_stands(tmp_path: Path):
    measures = Measures(tmp_path)
    found = facts(job("a"), job("b"))
    before = count("Held", "CleanerWindow")
    for _ in range(3):
        measures.count(found.records)
    assert count("Held", "CleanerWindow") == before + 2
    measures.count([replace(r, reason=Reason.HEAT_LIMIT) for r in found.records])
    measures.count(found.records)
    assert count("Held", "CleanerWindow") == before + 4


def later(made: Assembly, by: timedelta) -> Assembly:
    return replace(made, snapshot=replace(made.snapshot, now=made.snapshot.now + by))


def test_lost_gpu_time_grows_with_the_clock_and_never_when_it_jumps_back(tmp_path: Path):
    measures = Measures(tmp_path)
    found = facts(job("a"))
    lost = work.LOST_GPU_SECONDS.labels("Choice")._value
    before = lost.get()
    for minutes in (0, 1, -60, -59):
        measures.tell(replace(found, assembly=later(found.assembly, timedelta(minutes=minutes))))
    assert lost.get() == before + 2 * 60 * 8


def test_a_zone_that_is_gone_is_gone_at_the_next_scrape(tmp_path: Path):
    measures = Measures(tmp_path)

    def zones() -> set[str]:
        return {
            s.labels["zone"] for f in TABLE.collect() if f.name == "embellie_zone_worst_case_watts" for s in f.samples
        }

    for names in (("west", "east"), ("west",)):
        found = facts(grid_zones=tuple(grid_zone(n) for n in names))
        measures.tell(found)
        assert zones() == set(names)
