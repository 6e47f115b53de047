# SPDX-License-Identifier: Apache-2.0
"""Promised starts that a zone will not be able to carry, foreseen while they can still be moved."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from embellie.domain.limits import heat_room_now
from embellie.domain.plan import Action, Plan
from embellie.domain.snapshot import Snapshot, ThermalZoneState, Workload, WorkloadKey

_NOW_HOLDS = timedelta(hours=1)
"""What a zone takes now, it is taken to take for so long: the outlook knows nothing of a lost fan or a closed door."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collision:
    """A start at its latest that needs more heat removed than the zone can."""

    zone: str
    key: WorkloadKey
    at: datetime
    need_kw: float
    """Worst-case heat of the zone with it and all that was promised before it [kW]."""
    removable_kw: float


@dataclass(frozen=True, slots=True)
class _Run:
    start: datetime
    end: datetime
    kw: float


def foresee(snapshot: Snapshot, plan: Plan) -> tuple[Collision, ...]:
    """Return the promised starts that collide with heat, by zone and time.

    Each waiting workload counts from its planned start where the plan holds it there, at the latest from its bound.
    Runs count at their worst case until their P90 end. A start that the plan could only put at its bound, and that
    then needs more than the zone removes in the worst slot of its run, or more than it takes now if it starts within
    the hour, is a collision: the promise forces it.
    """
    cell_zone = {cell.name: cell.thermal_zone for cell in snapshot.cells}
    workloads = {w.key: w for w in snapshot.workloads if w.enforced}
    runs: dict[str, list[_Run]] = {zone.name: [] for zone in snapshot.thermal_zones}
    for gang in snapshot.running:
        zone = cell_zone.get(gang.cell)
        if zone in runs and zone is not None:
            runs[zone].append(_Run(snapshot.now, gang.expected_end_p90, gang.worst_power_kw))
    due: dict[str, list[tuple[datetime, Workload]]] = {name: [] for name in runs}
    for decision in plan.decisions:
        workload = workloads.get(decision.key)
        zone = cell_zone.get(decision.cell or "")
        if workload is None or zone is None or zone not in due:
            continue
        start = snapshot.now if decision.action is Action.RELEASE else min(decision.start, workload.latest_start)
        due[zone].append((max(start, snapshot.now), workload))
    found: list[Collision] = []
    for thermal in snapshot.thermal_zones:
        if thermal.outlook is not None:
            mine = sorted(due[thermal.name], key=lambda d: (d[0], d[1].key))
            found += _in_zone(thermal, runs[thermal.name], mine, snapshot.now)
    return tuple(sorted(found, key=lambda c: (c.zone, c.at, c.key)))


def _in_zone(
    zone: ThermalZoneState, running: list[_Run], due: Iterable[tuple[datetime, Workload]], now: datetime
) -> Iterable[Collision]:
    outlook = zone.outlook
    if outlook is None:
        return
    runs = list(running)
    room_kw = heat_room_now(zone).limit_kw
    for start, workload in due:
        end = start + timedelta(seconds=max(workload.duration_p90_s, workload.duration_p50_s))
        present = sum(run.kw for run in runs if run.start <= start < run.end)
        need = zone.base_power_kw + present + workload.worst_power_kw
        removable, _ = outlook.worst_kw(start, end)
        if start <= now + _NOW_HOLDS:
            removable = min(removable, room_kw)
        if need > removable + 1e-6 and start >= workload.latest_start:
            yield Collision(zone=zone.name, key=workload.key, at=start, need_kw=need, removable_kw=removable)
        runs.append(_Run(start, end, workload.worst_power_kw))
