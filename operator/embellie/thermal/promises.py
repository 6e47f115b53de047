# SPDX-License-Identifier: Apache-2.0
"""Promised starts that a zone will not be able to carry, foreseen while they can still be moved. Pure.

A thermal zone and a grid zone are asked the same: what will all that runs and all that was promised before it come to
at a start's latest moment, at its worst, and is there a limit under that for as long as it runs?
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
    order: PowerOrder | None = None
    """The order that leaves it no more than that; None: its contract, or the cooling."""


@dataclass(frozen=True, slots=True)
class _Promise:
    """A start as the plan has it, at the latest at its bound."""

    start: datetime
    end: datetime
    cell: str
    workload: Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    """What a zone carries, always or for a while."""

    least_kw: float
    """The least that it carries while it holds [kW]: what needs less is not looked at more closely."""
    carries: Callable[[datetime, datetime], float] | None = None
    """What it carries from one moment to another [kW]; None: that least."""
    order: PowerOrder | None = None
    """The only time in which it holds; None: always."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limited:
    """One zone whose load has limits."""

    reason: Reason
    name: str
    base_kw: float
    """What it draws whatever runs [kW]."""
    runs: Mapping[str, float]
    """By cell, how much of a kilowatt that runs there counts."""
    starts: Mapping[str, float]
    """The same for what is still to start: heat that reaches a neighbour is in the neighbour's readings only then."""
    limits: tuple[_Limit, ...]


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
    return tuple(sorted(found, key=lambda c: (c.reason, c.zone, c.at, c.key)))


def _limited(snapshot: Snapshot) -> list[_Limited]:
    found = [
        _power(zone, snapshot) for zone in snapshot.grid_zones if zone.contracted_power_kw is not None or zone.orders
    ]
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
        limits=(_Limit(least_kw=min(least_kw, room_kw), carries=carries),),
    )


def _power(zone: GridZoneState, snapshot: Snapshot) -> _Limited:
    limits = [_Limit(least_kw=order.power_kw, order=order) for order in zone.orders]
    if zone.contracted_power_kw is not None:
        limits.append(_Limit(least_kw=zone.contracted_power_kw))
    pue = {cell.name: cell.pue for cell in snapshot.cells if cell.grid_zone == zone.name}
    running_kw = sum(gang.worst_power_kw * pue.get(gang.cell, 0.0) for gang in snapshot.running)
    measured_kw = fresh_value(zone.measured_power_kw) or 0.0
    return _Limited(
        reason=Reason.CONTRACTED_POWER,
        name=zone.name,
        # What only the meter sees is nobody's work, and is taken to stay.
        base_kw=zone.base_power_kw + max(0.0, measured_kw - zone.base_power_kw - running_kw),
        runs=pue,
        starts=pue,
        limits=tuple(limits),
    )


def _in_zone(
    zone: _Limited, running: Sequence[tuple[float, RunningGang]], due: Sequence[_Promise], now: datetime
) -> list[Collision]:
    """Return the collisions of one zone: under several limits a start is told of once, where it goes furthest over.

    Args:
        zone: The zone.
        running: In how many seconds it is over at the latest, and what runs.
        due: Its promises in order of their starts.
        now: The present.
    """

    def seconds(moments: Iterable[datetime]) -> FloatArray:
        return np.array([(moment - now).total_seconds() for moment in moments])

    start_s, end_s = seconds(promise.start for promise in due), seconds(promise.end for promise in due)
    promised = start_s >= seconds(promise.workload.latest_start for promise in due)
    run_kw = np.array([gang.worst_power_kw * zone.runs[gang.cell] for _, gang in running])
    due_kw = np.array([promise.workload.worst_power_kw * zone.starts[promise.cell] for promise in due])
    run_ended = _Ended(np.array([over_s for over_s, _ in running]), run_kw)
    due_ended = _Ended(start_s + OVERRUN * (end_s - start_s), due_kw)
    all_run_kw, begun_kw = run_kw.sum(), np.cumsum(due_kw)
    need_kw, limit_kw = np.zeros(len(due)), np.full(len(due), np.inf)
    binds = np.zeros(len(due), dtype=np.intp)
    for number, limit in enumerate(zone.limits):
        at_s, meets = start_s, promised
        if limit.order is not None:
            from_s, until_s = seconds((limit.order.begins, limit.order.ends))
            # A run is judged when both have begun.
            at_s = np.maximum(start_s, from_s)
            meets = promised & (start_s < until_s) & (from_s < end_s)
        # All that ever began before a start, less what has ended by then.
        kw = (
            zone.base_kw
            + np.maximum(0.0, all_run_kw - run_ended.by(at_s))
            + np.maximum(due_kw, begun_kw - due_ended.by(at_s))
        )
        near = np.flatnonzero(meets & (kw > limit.least_kw + SLACK_KW))
        carried_kw = np.full(near.size, limit.least_kw)
        if limit.carries is not None:
            carried_kw = np.array([limit.carries(due[i].start, due[i].end) for i in near.tolist()])
        over_kw = kw[near] - carried_kw
        further = (kw[near] > carried_kw + SLACK_KW) & (over_kw >= need_kw[near] - limit_kw[near])
        binds[near[further]] = number
        need_kw[near[further]], limit_kw[near[further]] = kw[near[further]], carried_kw[further]
    return [
        Collision(
            reason=zone.reason, zone=zone.name, key=due[i].workload.key, at=due[i].start, need_kw=float(need_kw[i]),
            limit_kw=float(limit_kw[i]),
            order=zone.limits[binds[i]].order,
        )
        for i in np.flatnonzero(np.isfinite(limit_kw)).tolist()
    ]  # fmt: skip


class _Ended:
    """How much of some load has ended by when."""

    def __init__(self, end_s: FloatArray, kw: FloatArray) -> None:
        order = np.argsort(end_s, kind="stable")
        self._end_s, self._kw = end_s[order], np.concatenate([[0.0], np.cumsum(kw[order])])

    def by(self, at_s: FloatArray) -> FloatArray:
        """Return how much has ended at each moment [kW], shape of `at_s`."""
        found: FloatArray = self._kw[np.searchsorted(self._end_s, at_s, side="right")]
        return found
