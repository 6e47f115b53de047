# SPDX-License-Identifier: Apache-2.0
"""What must be true of every plan, whatever the cluster, the forecasts and the sensors say."""

import math
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta

from drawn_turns import NOW, TURN_S, snapshots
from hypothesis import given, settings
from hypothesis import strategies as st

from embellie.domain.packing import NodeRoom
from embellie.domain.plan import Action, Plan
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import (
    Cell,
    Quality,
    Reading,
    Snapshot,
    Workload,
)
from embellie.planning import plan
from embellie.thermal import shield

UNPLANNED = {Reason.BOUND_REACHED, Reason.HELD_FRACTION, Reason.NO_ZONE, Reason.INVALID_ANNOTATION, Reason.NO_POLICY}


def turn(snapshot: Snapshot) -> Plan:
    return shield(plan(snapshot), snapshot)


def at_bound(w: Workload) -> bool:
    return w.latest_start <= NOW + timedelta(seconds=2 * TURN_S)


def fresh(reading: Reading | None) -> float | None:
    return reading.value if reading is not None and reading.quality is Quality.FRESH else None


@given(snapshots())
@settings(max_examples=150, deadline=None)
def test_every_workload_gets_one_decision_with_a_sentence(snapshot: Snapshot) -> None:
    decisions = turn(snapshot).decisions
    assert [d.key for d in decisions] == [w.key for w in snapshot.workloads]
    for w, d in zip(snapshot.workloads, decisions, strict=True):
        assert d.latest_start == w.latest_start
        assert d.message.endswith(".")
        assert "nan" not in d.message
        assert (d.action is Action.HOLD) or d.start == NOW
        for estimate in (d.now, d.best):
            assert estimate is None or math.isfinite(estimate.expected_g)


@given(snapshots())
@settings(max_examples=200, deadline=None)
def test_nothing_is_held_past_its_bound_except_by_a_fresh_reading_over_a_hard_limit(snapshot: Snapshot) -> None:
    grids = {g.name: g for g in snapshot.grid_zones}
    thermals = {t.name: t for t in snapshot.thermal_zones}
    cells = {c.name: c for c in snapshot.cells}
    for w, d in zip(snapshot.workloads, turn(snapshot).decisions, strict=True):
        if d.action is Action.RELEASE:
            continue
        if not at_bound(w):
            assert d.start <= w.latest_start
            assert d.start <= d.likely_start_p90 <= w.latest_start
            assert not d.over_limit
            continue
        assert d.over_limit
        assert d.reason is Reason.LIMIT_READING
        assert w.latest_start + timedelta(seconds=snapshot.max_limit_hold_s) > NOW
        cell = cells[d.cell or ""]
        meter, limit_kw = fresh(grids[cell.grid_zone].measured_power_kw), grids[cell.grid_zone].limit_kw(NOW)
        inlet = fresh(thermals[cell.thermal_zone].inlet) if cell.thermal_zone else None
        assert (meter is not None and meter >= limit_kw) or (inlet is not None and inlet >= 32)


@given(snapshots())
@settings(max_examples=200, deadline=None)
def test_no_release_before_its_bound_takes_anything_over_a_limit(snapshot: Snapshot) -> None:
    decisions = turn(snapshot).decisions
    cells = {c.name: c for c in snapshot.cells}
    power = {g.name: g.base_power_kw for g in snapshot.grid_zones}
    heat = {t.name: t.base_power_kw for t in snapshot.thermal_zones}
    touched_power, touched_heat = set(), set()

    def add(cell: Cell, kw: float) -> None:
        power[cell.grid_zone] += kw * cell.pue
        if cell.thermal_zone:
            heat[cell.thermal_zone] += kw

    for gang in snapshot.running:
        add(cells[gang.cell], gang.worst_power_kw)
    for w, d in zip(snapshot.workloads, decisions, strict=True):
        if d.action is Action.RELEASE and d.cell is not None and w.enforced and d.reason is not Reason.NO_POLICY:
            add(cells[d.cell], w.worst_power_kw)
            if not at_bound(w):
                touched_power.add(cells[d.cell].grid_zone)
                touched_heat.add(cells[d.cell].thermal_zone)
    for grid in snapshot.grid_zones:
        if grid.name in touched_power:
            assert power[grid.name] <= grid.limit_kw(NOW) + 1e-3
    for zone in snapshot.thermal_zones:
        if zone.name not in touched_heat:
            continue
        trusted = all(r is None or fresh(r) is not None for r in (zone.supply, zone.inlet))
        told = fresh(zone.supply)
        supply = told if trusted and told is not None else zone.supply_worst_c
        assert supply + zone.rise_k_per_kw * heat[zone.name] <= zone.inlet_limit_c - zone.margin_c + 1e-3
        assert zone.cooling_capacity_kw is None or heat[zone.name] <= zone.cooling_capacity_kw + 1e-3
        inlet = fresh(zone.inlet)
        assert inlet is None or inlet <= zone.inlet_limit_c - zone.margin_c


@given(snapshots())
@settings(max_examples=200, deadline=None)
def test_planned_releases_seat_whole_gangs_on_the_nodes_that_are_free(snapshot: Snapshot) -> None:
    free = {c.name: list(c.node_free_gpus) for c in snapshot.cells}
    gpus: dict[str, int] = defaultdict(int)
    seats: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for w, d in zip(snapshot.workloads, turn(snapshot).decisions, strict=True):
        if d.action is Action.RELEASE and d.cell is not None and w.enforced and d.reason not in UNPLANNED:
            gpus[d.cell] += w.gpus
            seats[d.cell][w.gpus_per_pod] += w.pods
    for name, used in gpus.items():
        assert used <= sum(free[name])
        for per_pod, pods in seats[name].items():
            assert pods <= NodeRoom(free[name]).seats(per_pod)


@given(snapshots())
@settings(max_examples=150, deadline=None)
def test_work_stays_inside_its_allowed_cells(snapshot: Snapshot) -> None:
    for w, d in zip(snapshot.workloads, turn(snapshot).decisions, strict=True):
        assert d.cell is None or d.cell in w.allowed_cells
        usable = w.allowed_cells & {c.name for c in snapshot.cells}
        assert (d.cell is None) == (not usable)


@given(snapshots(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_equal_snapshots_in_any_order_give_equal_decisions(snapshot: Snapshot, shuffler: object) -> None:
    expected = {d.key: d for d in turn(snapshot).decisions}
    assert {d.key: d for d in turn(snapshot).decisions} == expected
    mixed = []
    for part in (snapshot.workloads, snapshot.cells, snapshot.grid_zones, snapshot.thermal_zones, snapshot.running):
        listed = list(part)
        shuffler.shuffle(listed)  # type: ignore[attr-defined]
        mixed.append(tuple(listed))
    other = replace(
        snapshot,
        workloads=mixed[0],
        cells=mixed[1],
        grid_zones=mixed[2],
        thermal_zones=mixed[3],
        running=mixed[4],
    )
    found = {d.key: d for d in turn(other).decisions}
    for key, decision in expected.items():
        # Sums in another order may differ in the last digit of an estimate, never in what is done.
        assert (found[key].action, found[key].cell, found[key].start, found[key].reason) == (
            decision.action,
            decision.cell,
            decision.start,
            decision.reason,
        )


@given(snapshots())
@settings(max_examples=100, deadline=None)
def test_the_shield_changes_nothing_the_second_time(snapshot: Snapshot) -> None:
    once = turn(snapshot)
    assert shield(once, snapshot) is once


@given(snapshots())
@settings(max_examples=100, deadline=None)
def test_the_shield_never_starts_what_the_plan_holds(snapshot: Snapshot) -> None:
    before = plan(snapshot)
    for was, now in zip(before.decisions, shield(before, snapshot).decisions, strict=True):
        if was.action is Action.HOLD:
            assert now is was


@given(snapshots())
@settings(max_examples=100, deadline=None)
def test_no_plan_undercuts_its_bound(snapshot: Snapshot) -> None:
    found = plan(snapshot)
    assert found.lower_bound_g is None or found.lower_bound_g <= found.objective_g * (1 + 1e-6) + 1e-6


@given(snapshots())
@settings(max_examples=60, deadline=None)
def test_estimates_lie_in_their_interval_whatever_the_sites_own_power_spares(snapshot: Snapshot) -> None:
    for decision in plan(snapshot).decisions:
        for told in filter(None, (decision.now, decision.best)):
            assert 0.0 <= told.low_g <= told.expected_g + 1e-6
            assert told.expected_g <= told.high_g + 1e-6
            assert told.on_site_g >= 0.0


@given(snapshots())
@settings(max_examples=100, deadline=None)
def test_a_policy_never_plans_to_hold_more_than_it_may(snapshot: Snapshot) -> None:
    decisions = plan(snapshot).decisions
    held = sum(
        w.gpus for w, d in zip(snapshot.workloads, decisions, strict=True) if w.enforced and d.action is Action.HOLD
    )
    assert held <= snapshot.max_held_gpus.get("p", math.inf)


@given(
    st.lists(st.integers(0, 16), max_size=12),
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), max_size=8),
)
def test_seating_a_gang_takes_exactly_its_gpus(nodes: list[int], gangs: list[tuple[int, int]]) -> None:
    room, free = NodeRoom(nodes), sum(nodes)
    for pods, per_pod in gangs:
        if not room.fits(pods, per_pod):
            continue
        taken = sum(count for _, count in room.take(pods, per_pod))
        assert taken == pods
        free -= pods * per_pod
        assert room.seats(1) == free
