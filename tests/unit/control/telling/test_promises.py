# SPDX-License-Identifier: Apache-2.0
"""A zone that cannot carry its promised starts says so hours ahead: a thermal zone and a grid zone alike."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from embellie.control.assembly.assemble import Assembly
from embellie.control.deciding.turn import Verdicts, decide
from embellie.control.telling.measures import Facts, turn_values
from embellie.control.telling.thermal_status import thermal_zone_status
from embellie.control.telling.zone_status import grid_zone_status
from embellie.domain.heat import HeatOutlook, ZoneHeatModel
from embellie.domain.plan import Action, Decision, Plan
from embellie.domain.power_orders import PowerOrder
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Quality, Reading, RunningGang, Snapshot
from embellie.telemetry.metrics import grid
from embellie.thermal.promises import foresee
from embellie_testbed.views import NOW, assembled, forecast, grid_zone, job, known, running_pod, thermal_zone, view

HOUR = timedelta(hours=1)
WALL = datetime(2026, 7, 1, 13, 20, tzinfo=UTC)
COOLED = (thermal_zone("west-r1", cooling={"capacityKilowatts": 500}),)


def outlook(*kw: float) -> HeatOutlook:
    return HeatOutlook(start=NOW, step=HOUR, removable_kw=np.array(kw), pue=np.ones(len(kw)))


def at_their_bounds(snapshot: Snapshot) -> Plan:
    cell = next(c.name for c in snapshot.cells if c.thermal_zone == "west-r1" or c.grid_zone == "west")
    return Plan(
        decisions=tuple(
            Decision(
                key=w.key, action=Action.HOLD, reason=Reason.HEAT_LIMIT, message="", cell=cell, start=w.latest_start,
                likely_start_p90=w.latest_start, latest_start=w.latest_start, now=None, best=None,
            )
            for w in snapshot.workloads
        ),
        objective_g=0.0,
    )  # fmt: skip


def with_heat(made: Snapshot, *kw: float, **changes) -> Snapshot:
    zone = replace(made.thermal_zones[0], outlook=outlook(*kw) if kw else None, **changes)
    return replace(made, thermal_zones=(zone,))


def test_heat_that_a_thermal_zone_cannot_carry_at_a_bound_is_foreseen_hours_ahead():
    made = assembled(job(), thermal_zones=COOLED).snapshot
    plan = at_their_bounds(made)
    (collision,) = foresee(with_heat(made, *[1.0] * 48), plan)
    assert (collision.reason, collision.zone) == (Reason.HEAT_LIMIT, "west-r1")
    assert collision.at == made.workloads[0].latest_start
    assert collision.need_kw > collision.limit_kw == 1.0
    assert foresee(with_heat(made, *[500.0] * 48), plan) == ()


def test_a_zone_that_is_closed_now_is_taken_to_stay_closed_for_an_hour_and_no_longer():
    made = assembled(job(), thermal_zones=COOLED).snapshot
    closed = with_heat(made, *[500.0] * 48, admission_open=False)
    assert foresee(closed, at_their_bounds(closed)) == ()
    due = replace(closed, workloads=(replace(closed.workloads[0], latest_start=made.now + timedelta(minutes=50)),))
    (near,) = foresee(due, at_their_bounds(due))
    assert near.limit_kw == 0.0


def test_without_a_forecast_of_the_weather_the_cooling_counts_as_its_spec_says():
    made = assembled(job(), thermal_zones=(thermal_zone("west-r1", cooling={"capacityKilowatts": 1}),)).snapshot
    (collision,) = foresee(with_heat(made), at_their_bounds(made))
    assert collision.limit_kw == 1.0


def test_heat_that_would_reach_a_neighbour_counts_there():
    made = assembled(job(), thermal_zones=(*COOLED, thermal_zone("west-r2", cooling={"capacityKilowatts": 500})))
    near, far = made.snapshot.thermal_zones
    model = ZoneHeatModel(
        own_k_per_kw=0.1, own_sd_k_per_kw=0.0, neighbours_k_per_kw={near.name: 0.05}, tau_s=600.0, margin_k=1.0,
        trusted=True,
    )  # fmt: skip
    (workload,) = made.snapshot.workloads
    half = far.base_power_kw + 0.4 * workload.worst_power_kw
    zones = (replace(near, outlook=outlook(*[500.0] * 48)), replace(far, model=model, outlook=outlook(*[half] * 48)))
    snapshot = replace(made.snapshot, thermal_zones=zones)
    (collision,) = foresee(snapshot, at_their_bounds(snapshot))
    assert collision.zone == "west-r2"


def contracted(kw: float, *, started: float = 10.0, **changes) -> Snapshot:
    """A grid zone with one gang that runs for another five hours and a job that is promised in ten."""
    made = assembled(job(max_delay="10h"), grid_zones=(grid_zone("west"),)).snapshot
    gang = RunningGang(
        cell="west", gpus=8, power_kw=8.0, worst_power_kw=started, expected_end_p50=made.now + 4 * HOUR,
        expected_end_p90=made.now + 5 * HOUR, started_at=made.now - HOUR,
    )  # fmt: skip
    zone = replace(made.grid_zones[0], contracted_power_kw=kw, base_power_kw=20.0, **changes)
    cells = tuple(replace(cell, pue=1.5) for cell in made.cells)
    return replace(made, grid_zones=(zone,), running=(gang,), cells=cells)


def test_contracted_power_that_is_too_little_at_a_bound_is_foreseen_hours_ahead():
    roomy = contracted(1000.0)
    (workload,) = roomy.workloads
    alone_kw = 20.0 + 1.5 * workload.worst_power_kw
    assert foresee(roomy, at_their_bounds(roomy)) == ()
    # What runs now is over by then.
    just = contracted(alone_kw + 0.1, started=500.0)
    assert foresee(just, at_their_bounds(just)) == ()
    short = contracted(alone_kw - 0.1)
    (collision,) = foresee(short, at_their_bounds(short))
    assert (collision.reason, collision.zone) == (Reason.CONTRACTED_POWER, short.grid_zones[0].name)
    assert collision.at == workload.latest_start > short.now + 9 * HOUR
    assert collision.need_kw == pytest.approx(alone_kw)


def test_an_order_that_a_promised_start_would_break_is_foreseen_and_told_once():
    made = contracted(1000.0)
    (workload,) = made.workloads
    run = timedelta(seconds=max(workload.duration_p50_s, workload.duration_p90_s))
    alone_kw = 20.0 + 1.5 * workload.worst_power_kw
    at = workload.latest_start

    def foreseen(begins: datetime, ends: datetime, kw: float, contract_kw: float | None = 1000.0, **changes):
        order = PowerOrder(begins=begins, ends=ends, power_kw=kw)
        zone = replace(made.grid_zones[0], orders=(order,), contracted_power_kw=contract_kw)
        snapshot = replace(made, grid_zones=(zone,), **changes)
        return foresee(snapshot, at_their_bounds(snapshot))

    for contract_kw in (1000.0, None):
        (collision,) = foreseen(at + run / 2, at + run, alone_kw - 0.1, contract_kw)
        assert (collision.at, collision.limit_kw) == (at, alone_kw - 0.1)
        assert collision.order is not None
        assert collision.order.begins == at + run / 2
        assert foreseen(at + run / 2, at + run, alone_kw + 0.1, contract_kw) == ()
        assert foreseen(at + run, at + 2 * run, 1.0, contract_kw) == ()
        assert foreseen(at - HOUR, at, 1.0, contract_kw) == ()
    (both,) = foreseen(at - HOUR, at + HOUR, 1.0, contract_kw=alone_kw - 0.1)
    assert both.limit_kw == 1.0
    assert both.order is not None
    (contract,) = foreseen(at - HOUR, at + HOUR, alone_kw - 0.1, contract_kw=1.0)
    assert (contract.limit_kw, contract.order) == (1.0, None)
    # What runs when it starts, and is over when the order begins, is not in its way.
    (gang,) = made.running
    end = at + run / 4
    beside = replace(gang, started_at=end - HOUR, expected_end_p50=end - HOUR / 2, expected_end_p90=end - HOUR / 2)
    assert foreseen(at + run / 2, at + run, alone_kw + 0.1, running=(beside,)) == ()


def test_load_that_only_the_meter_sees_stays_and_what_runs_past_its_time_still_draws():
    (workload,) = contracted(1.0).workloads
    alone_kw = 20.0 + 1.5 * workload.worst_power_kw
    metered = contracted(alone_kw + 0.1, measured_power_kw=Reading(value=40.0, age_s=1.0, quality=Quality.FRESH))
    # 20 kW idle and 15 kW for the gang leave 5 kW to others.
    (collision,) = foresee(metered, at_their_bounds(metered))
    assert collision.need_kw == pytest.approx(alone_kw + 5.0)
    overdue = contracted(alone_kw + 0.1)
    began = overdue.now - 4 * HOUR
    gangs = tuple(replace(g, started_at=began, expected_end_p90=overdue.now - HOUR) for g in overdue.running)
    overdue = replace(overdue, running=gangs)
    for hours, foreseen in ((1.9, True), (2.1, False)):
        due = replace(overdue, workloads=(replace(workload, latest_start=overdue.now + hours * HOUR),))
        found = foresee(due, at_their_bounds(due))
        assert [c.need_kw for c in found] == ([pytest.approx(alone_kw + 15.0)] if foreseen else [])


def test_a_run_that_is_not_over_at_its_p90_end_is_counted_before_it_is_overdue():
    (workload,) = contracted(1.0).workloads
    tight = contracted(20.0 + 1.5 * workload.worst_power_kw + 0.1)
    # Begun an hour ago and expected for five more, it may take nine.
    for hours, foreseen in ((7.9, 1), (8.1, 0)):
        due = replace(tight, workloads=(replace(workload, latest_start=tight.now + hours * HOUR),))
        assert len(foresee(due, at_their_bounds(due))) == foreseen


def test_of_two_promises_at_one_moment_only_what_no_longer_fits_collides():
    made = assembled(job("a", max_delay="10h"), job("b", max_delay="10h"), grid_zones=(grid_zone("west"),)).snapshot
    one = made.workloads[0].worst_power_kw * made.cells[0].pue
    zone = replace(made.grid_zones[0], contracted_power_kw=1.5 * one, base_power_kw=0.0)
    snapshot = replace(made, grid_zones=(zone,))
    (collision,) = foresee(snapshot, at_their_bounds(snapshot))
    assert collision.key.name == "b"
    # What the plan starts earlier is over by then, or counts: it is no collision of its own.
    plan = at_their_bounds(snapshot)
    early = replace(plan.decisions[1], start=snapshot.now + HOUR)
    assert [c.key.name for c in foresee(snapshot, replace(plan, decisions=(plan.decisions[0], early)))] == ["a"]


def a_full_zone(**spec) -> tuple[Assembly, Verdicts]:
    """A turn in which a zone is so full, for longer than the job may wait, that only its bound will start it."""
    held = job("late", max_delay="3h")
    pods = [running_pod("busy", "west-0")]
    made = assembled(
        held,
        view=view(held, pods=pods),
        forecasts={"west": forecast("west", [500.0] * 48)},
        grid_zones=(grid_zone("west", **spec.pop("grid", {})),),
        **spec,
    )
    return made, decide(made, (held,), {held.key.uid: known()}, (), 100)


def test_a_grid_zone_says_which_promised_starts_its_contract_cannot_carry_in_its_status_to_why_and_in_metrics():
    made, verdicts = a_full_zone(grid={"contractedPowerKilowatts": 14})
    (collision,) = verdicts.collisions
    status = grid_zone_status(made.grid_zones[0], made, {}, WALL, verdicts.collisions)
    (said,) = (c for c in status.conditions if c.type == "PromisesKept")
    assert (str(said.status), said.reason) == ("False", "Collision")
    assert f"{collision.at:%Y-%m-%d %H:%M} UTC" in said.message
    assert "of 14 kW" in said.message
    (record,) = verdicts.records
    assert record.reason is Reason.CONTRACTED_POWER
    assert record.message.endswith("its latest start will take grid zone west over its contracted power.")
    assert record.signature() != replace(record, foreseen="").signature()
    facts = Facts(
        assembly=made, records=verdicts.records, standing=verdicts.standing, problems={}, collisions=verdicts.collisions
    )
    assert {v.labels: v.value for v in turn_values(facts) if v.metric is grid.PROMISES_OVER} == {
        ("GridZone", "west"): 1.0
    }


def test_a_thermal_zone_says_the_same_of_its_cooling():
    made, verdicts = a_full_zone(thermal_zones=(thermal_zone("west-r1", cooling={"capacityKilowatts": 14}),))
    assert {(c.reason, c.zone) for c in verdicts.collisions} == {(Reason.HEAT_LIMIT, "west-r1")}
    status = thermal_zone_status(made.thermal_zones[0], made, {}, WALL, collisions=verdicts.collisions)
    assert next(c.reason for c in status.conditions if c.type == "PromisesKept") == "Collision"
    grid_status = grid_zone_status(made.grid_zones[0], made, {}, WALL, verdicts.collisions)
    assert next(c.reason for c in grid_status.conditions if c.type == "PromisesKept") == "Room"
    (record,) = verdicts.records
    assert record.message.endswith("will take thermal zone west-r1 over what its cooling carries.")
