# SPDX-License-Identifier: Apache-2.0
"""Promised starts that a zone will not be able to carry, foreseen while they can still be moved. Pure.

A thermal zone and a grid zone are asked the same: what will all that runs and all that was promised before it come to
at a start's latest moment, at its worst, and is there a limit under that for as long as it runs?
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from embellie.domain.durations import OVERRUN
from embellie.domain.forecast import FloatArray
from embellie.domain.limits import SLACK_KW, fresh_value, heat_room_now, overrun_end, steady_state_limit_kw
from embellie.domain.plan import Action, Plan
from embellie.domain.power_orders import PowerOrder
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import GridZoneState, RunningGang, Snapshot, ThermalZoneState, Workload, WorkloadKey
from embellie.thermal.shield import warmed

_NOW_HOLDS = timedelta(hours=1)
"""What a zone takes now, it is taken to take for so long: the outlook knows nothing of a lost fan or a closed door."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collision:
    """A start at its latest that needs more than its zone may give."""

    reason: Reason
    """`HEAT_LIMIT` of a thermal zone, `CONTRACTED_POWER` of a grid zone."""
    zone: str
    key: WorkloadKey
    at: datetime
    need_kw: float
    """The zone's heat, or its facility power, at worst with it and all that was promised before it [kW]."""
    limit_kw: float


@dataclass(frozen=True, slots=True)
class _Promise:
    """A start as the plan has it, at the latest at its bound."""

    start: datetime
    end: datetime
    cell: str
    workload: Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limited:
    """One zone whose load has a limit."""

    reason: Reason
    name: str
    base_kw: float
    """What it draws whatever runs [kW]."""
    runs: Mapping[str, float]
    """By cell, how much of a kilowatt that runs there counts."""
    starts: Mapping[str, float]
    """The same for what is still to start: heat that reaches a neighbour is in the neighbour's readings only then."""
    least_kw: float
    """The least that it carries at any time [kW]: what needs less is not looked at more closely."""
    carries: Callable[[datetime, datetime], float]
    """What it carries from one moment to another [kW]."""
    order: PowerOrder | None = None
    """The only time in which the limit holds; None: always."""


def foresee(snapshot: Snapshot, plan: Plan) -> tuple[Collision, ...]:
    """Return the promised starts that collide with heat or contracted power, by limit, zone and time.

    Each waiting workload counts from its planned start where the plan holds it there, at the latest from its bound.
    All counts at its worst case for half as long again as it is expected to run: one run in ten is not over at its P90
    end, and what is foreseen has to hold with these. A start that the plan could only put at its bound, and that
    then needs more than its zone can carry at the worst of its run, is a collision: the promise forces it.
    """
    limited = _limited(snapshot)
    if not limited:
        return ()
    workloads = {w.key: w for w in snapshot.workloads if w.enforced}
    promises: dict[str, list[_Promise]] = {}
    for decision in plan.decisions:
        workload = workloads.get(decision.key)
        if workload is None or decision.cell is None:
            continue
        planned = snapshot.now if decision.action is Action.RELEASE else min(decision.start, workload.latest_start)
        start = max(planned, snapshot.now)
        run_s = max(workload.duration_p90_s, workload.duration_p50_s)
        promise = _Promise(start, start + timedelta(seconds=run_s), decision.cell, workload)
        promises.setdefault(decision.cell, []).append(promise)
    running: dict[str, list[tuple[float, RunningGang]]] = {}
    for gang in snapshot.running:
        end_s = (overrun_end(gang, snapshot.now) - snapshot.now).total_seconds()
        running.setdefault(gang.cell, []).append((end_s, gang))
    found: list[Collision] = []
    for zone in limited:
        due = sorted(
            (promise for cell in zone.starts for promise in promises.get(cell, ())),
            key=lambda p: (p.start, p.workload.key),
        )
        if due:
            found += _in_zone(zone, [run for cell in zone.runs for run in running.get(cell, ())], due, snapshot.now)
    # Under a contract and orders a start is told of once, with where it goes furthest over.
    furthest = {(c.reason, c.zone, c.key): c for c in sorted(found, key=lambda c: c.need_kw - c.limit_kw)}
    return tuple(sorted(furthest.values(), key=lambda c: (c.reason, c.zone, c.at, c.key)))


def _limited(snapshot: Snapshot) -> list[_Limited]:
    found = [limit for zone in snapshot.grid_zones for limit in _power(zone, snapshot)]
    reached = warmed(snapshot.thermal_zones)
    cells: dict[str, dict[str, float]] = {zone.name: {} for zone in snapshot.thermal_zones}
    warms: dict[str, dict[str, float]] = {zone.name: {} for zone in snapshot.thermal_zones}
    for cell in snapshot.cells:
        if cell.thermal_zone in cells:
            cells[cell.thermal_zone][cell.name] = 1.0
            for other, share in reached.get(cell.thermal_zone, ()):
                warms[other.name][cell.name] = share
    return found + [_heat(zone, snapshot.now, cells[zone.name], warms[zone.name]) for zone in snapshot.thermal_zones]


def _heat(zone: ThermalZoneState, now: datetime, cells: Mapping[str, float], warms: Mapping[str, float]) -> _Limited:
    room_kw = heat_room_now(zone).limit_kw
    told_kw = steady_state_limit_kw(zone, zone.supply_setpoint_c)[0]

    def carries(begin: datetime, end: datetime) -> float:
        # Without a forecast of the weather the cooling is taken to hold its setpoint.
        ahead_kw = told_kw if zone.outlook is None else zone.outlook.worst_kw(begin, end)[0]
        return min(ahead_kw, room_kw) if begin <= now + _NOW_HOLDS else ahead_kw

    least_kw = told_kw if zone.outlook is None else float(zone.outlook.removable_kw.min())
    return _Limited(
        reason=Reason.HEAT_LIMIT,
        name=zone.name,
        base_kw=zone.base_power_kw,
        runs=cells,
        starts={**warms, **cells},
        least_kw=min(least_kw, room_kw),
        carries=carries,
    )


def _power(zone: GridZoneState, snapshot: Snapshot) -> list[_Limited]:
    """Return the contract and the orders, each as a limit of its own; no start meets one that is past."""
    limits: list[tuple[float, PowerOrder | None]] = [(order.power_kw, order) for order in zone.orders]
    if zone.contracted_power_kw is not None:
        limits.append((zone.contracted_power_kw, None))
    if not limits:
        return []
    pue = {cell.name: cell.pue for cell in snapshot.cells if cell.grid_zone == zone.name}
    running_kw = sum(gang.worst_power_kw * pue.get(gang.cell, 0.0) for gang in snapshot.running)
    measured_kw = fresh_value(zone.measured_power_kw) or 0.0
    # What only the meter sees is nobody's work, and is taken to stay.
    base_kw = zone.base_power_kw + max(0.0, measured_kw - zone.base_power_kw - running_kw)

    def under(limit_kw: float, order: PowerOrder | None) -> _Limited:
        return _Limited(
            reason=Reason.CONTRACTED_POWER,
            name=zone.name,
            base_kw=base_kw,
            runs=pue,
            starts=pue,
            least_kw=limit_kw,
            carries=lambda begin, end: (
                limit_kw if order is None or (begin < order.ends and order.begins < end) else np.inf
            ),
            order=order,
        )

    return [under(*limit) for limit in limits]


def _in_zone(
    zone: _Limited, running: Sequence[tuple[float, RunningGang]], due: Sequence[_Promise], now: datetime
) -> list[Collision]:
    """Return the collisions of one zone.

    Args:
        zone: The zone.
        running: In how many seconds it is over at the latest, and what runs.
        due: Its promises in order of their starts.
        now: The present.
    """

    def seconds(moments: Sequence[datetime]) -> FloatArray:
        return np.array([(moment - now).total_seconds() for moment in moments])

    run_end_s = np.array([end_s for end_s, _ in running])
    run_kw = np.array([gang.worst_power_kw * zone.runs[gang.cell] for _, gang in running])
    due_kw = np.array([promise.workload.worst_power_kw * zone.starts[promise.cell] for promise in due])
    start_s, end_s = seconds([promise.start for promise in due]), seconds([promise.end for promise in due])
    over_s = start_s + OVERRUN * (end_s - start_s)
    # Under an order a run is judged when both have begun.
    at_s = start_s if zone.order is None else np.maximum(start_s, (zone.order.begins - now).total_seconds())
    # All that ever began before a start, less what has ended by then.
    need_kw = (
        zone.base_kw
        + np.maximum(0.0, run_kw.sum() - _ended_kw(run_end_s, run_kw, at_s))
        + np.maximum(due_kw, np.cumsum(due_kw) - _ended_kw(over_s, due_kw, at_s))
    )
    found = []
    for i in np.flatnonzero(need_kw > zone.least_kw + SLACK_KW).tolist():
        start, end, workload = due[i].start, due[i].end, due[i].workload
        limit_kw = zone.carries(start, end) if start >= workload.latest_start else np.inf
        if need_kw[i] > limit_kw + SLACK_KW:
            collision = Collision(
                reason=zone.reason, zone=zone.name, key=workload.key, at=start, need_kw=float(need_kw[i]),
                limit_kw=limit_kw,
            )  # fmt: skip
            found.append(collision)
    return found


def _ended_kw(end_s: FloatArray, kw: FloatArray, at_s: FloatArray) -> FloatArray:
    """Return how much of `kw` has ended at each moment [kW], shape of `at_s`."""
    order = np.argsort(end_s, kind="stable")
    ended = np.concatenate([[0.0], np.cumsum(kw[order])])
    found: FloatArray = ended[np.searchsorted(end_s[order], at_s, side="right")]
    return found
