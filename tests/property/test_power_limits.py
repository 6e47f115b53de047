# SPDX-License-Identifier: Apache-2.0
"""No plan takes a grid zone over what it may draw, at any time."""

from dataclasses import replace
from datetime import datetime, timedelta

from drawn_turns import NOW, snapshots
from hypothesis import given, settings
from hypothesis import strategies as st

from embellie.domain.power_orders import PowerOrder
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Snapshot
from embellie.planning import plan


@st.composite
def ordered(draw: st.DrawFn) -> Snapshot:
    """A turn in which nothing has to start, with orders that leave little more than what stands idle."""
    drawn = draw(snapshots())
    hours = st.integers(0, 20)
    grids = []
    for grid in drawn.grid_zones:
        begins = [NOW + timedelta(hours=at) - timedelta(minutes=20) for at in draw(st.lists(hours, max_size=3))]
        orders = tuple(
            PowerOrder(
                begins=begin,
                ends=begin + timedelta(minutes=draw(st.integers(1, 400))),
                power_kw=grid.base_power_kw + draw(st.integers(0, 15)),
            )
            for begin in begins
        )
        grids.append(replace(grid, orders=orders, measured_power_kw=None))
    works = tuple(
        replace(w, enforced=True, start_now=None, latest_start=w.latest_start + timedelta(hours=12))
        for w in drawn.workloads
    )
    return replace(drawn, grid_zones=tuple(grids), workloads=works, max_held_gpus={}, thermal_zones=())


@given(ordered())
@settings(max_examples=200, deadline=None)
def test_no_plan_takes_a_zone_over_its_contract_or_an_order_at_any_time(snapshot: Snapshot) -> None:
    cells = {c.name: c for c in snapshot.cells}
    draws: dict[str, list[tuple[datetime, datetime, float]]] = {grid.name: [] for grid in snapshot.grid_zones}
    for w, d in zip(snapshot.workloads, plan(snapshot).decisions, strict=True):
        # What finds no room before its bound is planned there, over any limit; what is at its bound starts.
        if d.cell is not None and d.reason is not Reason.BOUND_REACHED and d.start != w.latest_start:
            end = d.start + timedelta(seconds=w.duration_p90_s)
            draws[cells[d.cell].grid_zone].append((d.start, end, w.worst_power_kw * cells[d.cell].pue))
    for grid in snapshot.grid_zones:
        running = [
            (NOW, g.expected_end_p90, g.worst_power_kw * cells[g.cell].pue)
            for g in snapshot.running
            if cells[g.cell].grid_zone == grid.name
        ]
        planned = draws[grid.name]
        for at in {*(order.begins for order in grid.orders), *(start for start, _, _ in planned)}:
            if any(start <= at < end for start, end, _ in planned):
                kw = sum(kw for start, end, kw in (*running, *planned) if start <= at < end)
                assert grid.base_power_kw + kw <= grid.limit_kw(at) + 1e-3
