# SPDX-License-Identifier: Apache-2.0
"""What must be true of every turn, whatever users wrote, whoever else acts, and whatever the sensors say."""

import json
from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from embellie.cluster.plan_objects import plan_object, plan_status
from embellie.cluster.records import WorkloadRecord
from embellie.control.acting.switch_keeper import ON
from embellie.control.assembly.assemble import Assembly, assemble
from embellie.control.assembly.inputs import Inputs
from embellie.control.deciding.turn import Verdicts, decide
from embellie.control.telling.thermal_status import thermal_zone_status
from embellie.control.telling.zone_status import grid_zone_status, policy_status
from embellie.control.work.terms import residency_allows
from embellie.domain.clock import SystemClock
from embellie.domain.reasons import Reason, State
from embellie.domain.snapshot import Quality, Reading
from embellie_testbed.views import (
    NOW,
    ROW,
    ZONE,
    bare_pod,
    forecast,
    grid_zone,
    inputs,
    job,
    known,
    node,
    policy,
    running_pod,
    thermal_zone,
    view,
)

HOUR = timedelta(hours=1)
QUEUE = {"kueue.x-k8s.io/queue-name": "q"}
DELAYS = ["1s", "30s", "1h", "30d", "0s", "soon", "9" * 30]
DEADLINES = ["2026-07-01T13:25:00Z", "2026-07-01T20:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "x"]
DURATIONS = ["1h", "20m", "-3h", "7 bananas", "366d"]
RESIDENCIES = ["US-CA", "FR", "US,FR", ",", "Île-de-France", "us-ca"]
REASONS = ["BestNow", "OperatorLost", "because"]


def notes(draw: st.DrawFn) -> dict[str, str]:
    offered = {
        "max_delay": st.sampled_from(DELAYS),
        "deadline": st.sampled_from(DEADLINES) | st.text(max_size=30),
        "duration": st.sampled_from(DURATIONS) | st.text(max_size=12),
        "residency": st.sampled_from(RESIDENCIES) | st.text(max_size=8),
        "watts_per_gpu": st.sampled_from(["500", "NaN", "1e9", "٣"]),
        "cell": st.sampled_from(["west", "east", "west.west-r1", "nowhere"]),
        "released_at": st.sampled_from(["2026-07-01T13:00:00Z", "x"]),
        "release_reason": st.sampled_from(REASONS),
    }
    return {key: draw(values) for key, values in offered.items() if draw(st.integers(0, 3)) == 0}


@st.composite
def workloads(draw: st.DrawFn, number: int) -> WorkloadRecord:
    held = draw(st.integers(0, 3)) > 0
    common: dict[str, Any] = {
        "namespace": draw(st.sampled_from(["research", "vision", "kube-system"])),
        "flex": draw(st.sampled_from(["patient", "patient", "bonus", "rigid", *[""] * held])),
        "held": held,
        "gpus": draw(st.sampled_from([1, 4, 8, 16])),
        "created": NOW - timedelta(seconds=draw(st.sampled_from([0, 5, 60, 3600, 90_000]))),
        "labels": QUEUE if draw(st.integers(0, 7)) == 0 else {},
        **notes(draw),
    }
    if draw(st.booleans()):
        gates = draw(st.none() | st.sampled_from([[], ["example.com/x"], ["example.com/x", "embellie.io/hold"]]))
        return bare_pod(f"pod-{number}", gates=gates, **common)
    done = {"conditions": [{"type": "Complete", "status": "True"}]}
    return job(
        f"job-{number}",
        suspended=draw(st.sampled_from([None, None, None, True, False])),
        pods=draw(st.integers(1, 4)),
        pod_spec={"nodeSelector": {ZONE: "west"}} if draw(st.integers(0, 4)) == 0 else None,
        status=done if draw(st.integers(0, 9)) == 0 else None,
        **common,
    )


def readings() -> st.SearchStrategy[Reading]:
    quality = st.sampled_from([Quality.FRESH] * 4 + list(Quality))
    value = st.none() | st.sampled_from([20.0, 28.0, 31.9, 32.0, 50.0])
    return st.builds(Reading, value=value, age_s=st.floats(0, 500), quality=quality)


@st.composite
def turns(draw: st.DrawFn) -> tuple[Inputs, dict[str, Any], int]:
    records = [draw(workloads(i)) for i in range(draw(st.integers(0, 7)))]
    on = [node(f"{zone}-{i}", **draw(rows())) for zone in ("west", "east") for i in range(draw(st.integers(0, 3)))]
    pods = [running_pod(f"r{i}", n.name, gpus=draw(st.integers(1, 8))) for i, n in enumerate(on) if draw(st.booleans())]
    states = st.sampled_from([*State])
    bounds = st.sampled_from([-100, -1, 0, 20, 50_000]).map(lambda s: NOW + timedelta(seconds=s))
    plans = {r.key.uid: known(str(draw(states)), bound=draw(bounds)) for r in records if draw(st.booleans())}
    shapes = st.sampled_from([[500.0] * 6 + [100.0] * 42, [100.0] * 48, [0.0] * 48, [300.0, 10.0]])
    zones = [
        grid_zone("west", contractedPowerKilowatts=draw(st.sampled_from([None, 30, 100]))),
        grid_zone("east", jurisdiction="FR"),
    ]
    if draw(st.integers(0, 3)) == 0:
        zones.append(grid_zone("again", created="2026-02-01T00:00:00Z", nodeSelector={ZONE: "west"}))
    policies = [
        policy(
            "act", maxHeldPercent=draw(st.sampled_from([0, 50, 100])), minimumSavingPercent=draw(st.integers(0, 50))
        ),
        policy("watch", mode="shadow", priority=draw(st.integers(-1, 1)), namespaceSelector={"matchNames": ["vision"]}),
    ]
    made = inputs(
        view=view(*records, pods=pods, on=on),
        grid_zones=tuple(zones),
        thermal_zones=(thermal_zone("west-r1", startRampKilowattsPerMinute=draw(st.sampled_from([None, 5]))),)
        if draw(st.booleans())
        else (),
        policies=tuple(p for p in policies if draw(st.integers(0, 5))),
        forecasts={z: forecast(z, draw(shapes)) for z in ("west", "east") if draw(st.integers(0, 3))},
        grid_power={"west": draw(readings())} if draw(st.booleans()) else {},
        inlets={"west-r1": draw(readings())} if draw(st.booleans()) else {},
        supplies={"west-r1": draw(readings())} if draw(st.booleans()) else {},
        bounds={uid: plan.latest_start for uid, plan in plans.items()},
        in_flight={r.key.uid: "west" for r in records if draw(st.integers(0, 9)) == 0},
        max_limit_hold_s=draw(st.sampled_from([0.0, 50.0, 3600.0])),
    )
    return made, plans, draw(st.sampled_from([0, 1, 3, 100]))


def rows() -> st.SearchStrategy[dict[str, str]]:
    return st.sampled_from([{}, {ROW: "elsewhere"}])


def run(made: Inputs, plans: dict[str, Any], most: int) -> tuple[Assembly, Verdicts]:
    assembly = assemble(made, SystemClock(), NOW)
    return assembly, decide(assembly, made.view.workloads, plans, made.in_flight, most)


@settings(max_examples=150, deadline=None)
@given(turns(), turns())
def test_what_the_last_turn_read_changes_nothing_but_the_time_it_takes(one: tuple[Any, ...], other: tuple[Any, ...]):
    # The same objects, though everything around them may have changed meanwhile: bounds, policies, zones, forecasts.
    now = replace(other[0], view=replace(other[0].view, workloads=one[0].view.workloads), bounds=one[0].bounds)
    for changed in (one[0], now, replace(now, bounds=other[0].bounds)):
        before = assemble(one[0], SystemClock(), NOW).subjects
        again = assemble(changed, SystemClock(), NOW, before)
        afresh = assemble(changed, SystemClock(), NOW)
        assert again.subjects == afresh.subjects
        assert again.snapshot.workloads == afresh.snapshot.workloads


@settings(max_examples=150, deadline=None)
@given(turns())
def test_nothing_is_released_that_is_not_ours_or_does_not_wait(turn: tuple[Inputs, dict[str, Any], int]):
    made, plans, most = turn
    records = {r.key: r for r in made.view.workloads}
    _, verdicts = run(made, plans, most)
    assert len(verdicts.releases) <= most
    assert len({d.key for d in verdicts.releases}) == len(verdicts.releases)
    for decision in verdicts.releases:
        record = records[decision.key]
        assert record.held
        assert record.waiting
        assert not record.finished
        assert not record.queued
        assert decision.key.uid not in made.in_flight
    for key in verdicts.to_unmark:
        assert records[key].held
        assert not records[key].waiting or records[key].queued
        assert key not in {d.key for d in verdicts.releases}


@settings(max_examples=150, deadline=None)
@given(turns())
def test_no_bound_moves_later_and_what_has_reached_it_starts_unless_a_fresh_reading_forbids(
    turn: tuple[Inputs, dict[str, Any], int],
):
    made, plans, _ = turn
    assembly, verdicts = run(made, plans, 100)
    released = {d.key for d in verdicts.releases}
    for record in verdicts.records:
        promised = made.bounds.get(record.key.uid)
        assert promised is None or record.latest_start <= promised
        if record.state is State.SHADOW:
            continue
        if record.key in released:
            assert record.state is State.RELEASED
            continue
        if record.latest_start > NOW + timedelta(seconds=made.turn_s):
            continue
        assert (record.state, record.reason) == (State.HELD_BY_LIMIT, Reason.LIMIT_READING)
        assert record.latest_start + timedelta(seconds=made.max_limit_hold_s) > NOW
        hot = [r for r in made.inlets.values() if r.quality is Quality.FRESH and (r.value or 0) >= 32.0]
        contract = [z.contracted_power_kw or 1e9 for z in assembly.snapshot.grid_zones if z.name == "west"]
        full = [r for r in made.grid_power.values() if r.quality is Quality.FRESH and (r.value or 0) >= contract[0]]
        assert hot or full


@settings(max_examples=100, deadline=None)
@given(turns())
def test_what_is_put_off_for_the_rate_is_never_more_urgent_than_what_goes(turn: tuple[Inputs, dict[str, Any], int]):
    made, plans, most = turn
    _, all_of_it = run(made, plans, 1000)
    _, verdicts = run(made, plans, most)
    assert [d.key for d in verdicts.releases] == [d.key for d in all_of_it.releases[:most]]
    waiting = {r.key for r in verdicts.records if r.reason is Reason.RELEASE_RATE}
    assert waiting == {d.key for d in all_of_it.releases[most:]}
    assert verdicts.more_due is bool(waiting)


@settings(max_examples=100, deadline=None)
@given(turns())
def test_no_start_crosses_a_border_or_takes_gpus_that_others_have(turn: tuple[Inputs, dict[str, Any], int]):
    made, plans, _ = turn
    assembly, verdicts = run(made, plans, 100)
    jurisdiction = {z.metadata.name: z.spec.jurisdiction or "" for z in made.grid_zones}
    given_away: dict[str, int] = defaultdict(int)
    for decision in verdicts.releases:
        workload = assembly.subjects[decision.key].workload
        residency = assembly.subjects[decision.key].record.annotations.get("embellie.io/residency")
        if decision.cell is None:
            continue
        assert decision.cell in workload.allowed_cells
        if residency:
            assert residency_allows(residency, jurisdiction[assembly.cells[decision.cell].grid_zone])
        if decision.reason in (Reason.BEST_NOW, Reason.MINIMUM_SAVING, Reason.FORECAST_UNAVAILABLE):
            given_away[decision.cell] += workload.gpus
    free = {c.name: c.gpus_free for c in assembly.snapshot.cells}
    assert all(gpus <= free[cell] for cell, gpus in given_away.items())


@settings(max_examples=100, deadline=None)
@given(turns())
def test_every_verdict_and_every_zone_can_be_written_down(turn: tuple[Inputs, dict[str, Any], int]):
    made, plans, most = turn
    assembly, verdicts = run(made, plans, most)
    for record in (*verdicts.records, *verdicts.hand_offs):
        for part in (plan_object(record), plan_status(record, {}, NOW, None)):
            json.dumps(part)
        assert record.message
    wall: datetime = NOW
    for zone in made.grid_zones:
        json.dumps(grid_zone_status(zone, assembly, {}, wall).to_json_object())
    for thermal in made.thermal_zones:
        json.dumps(thermal_zone_status(thermal, assembly, {}, wall).to_json_object())
    for each in made.policies:
        json.dumps(policy_status(each, assembly.table, verdicts.records, wall, ON).to_json_object())
