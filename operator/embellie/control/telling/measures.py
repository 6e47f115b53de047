# SPDX-License-Identifier: Apache-2.0
"""What a turn tells Prometheus: a pure function from a turn's facts to values, and the few counters that it moves."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from embellie.cluster.plan_objects import PlanRecord
from embellie.control.assembly.assemble import Assembly
from embellie.control.telling.measures_zones import promise_values, report_values, zone_values
from embellie.domain.plan import Plan
from embellie.domain.reasons import BOUND_STATES, BY_CHOICE, Reason, State
from embellie.domain.snapshot import Snapshot
from embellie.telemetry import metrics
from embellie.telemetry.forecaster_health import ForecasterHealth
from embellie.telemetry.metrics import Value, accounts, work
from embellie.telemetry.metrics.bounded import largest
from embellie.thermal.promises import Collision
from embellie.thermal.zone_now import ZoneReport

NAMESPACES_SHOWN = 500
WAIT_LEVELS = (0.5, 0.9, 1.0)
LIMITS = frozenset(
    {
        Reason.CONTRACTED_POWER,
        Reason.HEAT_LIMIT,
        Reason.SENSOR_UNTRUSTED,
        Reason.START_RAMP,
        Reason.LIMIT_READING,
        Reason.HEAT_PAUSE,
    }
)
"""Held because power or heat allows no more."""
_HELD_STATES = (*BOUND_STATES, State.PAUSED)
_ALWAYS_SHOWN = (
    *((State.HELD, r) for r in work.HOLD_REASONS),
    (State.HELD_BY_LIMIT, Reason.LIMIT_READING),
    (State.PAUSED, Reason.HEAT_PAUSE),
)
"""Shown as 0 too, so that a graph falls to the ground when nothing is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a turn knows when it is over."""

    assembly: Assembly
    records: Sequence[PlanRecord]
    """What stands after the writes."""
    standing: Plan
    problems: Mapping[str, str]
    """Sensors that are not trusted, as `Readings.problems` names them."""
    heat: Mapping[str, ZoneReport] = field(default_factory=dict)
    """What the heat controller found out, by ThermalZone."""
    collisions: Sequence[Collision] = ()
    """Promised starts that a zone cannot carry, as foreseen."""


def turn_values(facts: Facts, *, per_workload: bool = False) -> list[Value]:
    """Return every gauge of a turn. Pure."""
    snapshot = facts.assembly.snapshot
    held = [r for r in facts.records if r.state in _HELD_STATES]
    values = [
        *_held_values(held),
        *_bound_values(held, snapshot.now),
        *_wait_values(held, snapshot),
        *_running_values(snapshot),
        *_plan_values(facts.standing),
        *_conflict_values(facts.assembly),
        *zone_values(facts.assembly, facts.problems),
        *report_values(facts.heat),
        *promise_values(snapshot, facts.collisions),
    ]
    if per_workload:
        values += [
            Value(
                work.WORKLOAD_BOUND,
                r.latest_start.timestamp(),
                (r.key.namespace, r.key.kind, r.key.name, r.state, r.reason),
            )
            for r in held
        ]
    return values


def _held_values(held: Sequence[PlanRecord]) -> list[Value]:
    count: dict[tuple[State, Reason], int] = dict.fromkeys(_ALWAYS_SHOWN, 0)
    gpus = dict(count)
    by_namespace: dict[str, float] = defaultdict(float)
    for record in held:
        key = (record.state, record.reason)
        count[key] = count.get(key, 0) + 1
        gpus[key] = gpus.get(key, 0) + record.gpus
        by_namespace[record.key.namespace] += record.gpus
    return [
        *(Value(work.HELD, n, (state, reason)) for (state, reason), n in count.items()),
        *(Value(work.HELD_GPUS, n, (state, reason)) for (state, reason), n in gpus.items()),
        *(Value(work.NAMESPACE_HELD_GPUS, n, (name,)) for name, n in largest(by_namespace, NAMESPACES_SHOWN).items()),
    ]


def _bound_values(held: Sequence[PlanRecord], now: datetime) -> list[Value]:
    bound = [r for r in held if r.state in BOUND_STATES]
    late = [max(0.0, (now - r.latest_start).total_seconds()) for r in bound]
    past = Counter(r.state for r, seconds in zip(bound, late, strict=True) if seconds > 0)
    return [
        Value(work.OVERDUE, max(late, default=0.0)),
        *(Value(work.PAST_BOUND, past[state], (state,)) for state in BOUND_STATES),
    ]


def _wait_values(held: Sequence[PlanRecord], snapshot: Snapshot) -> list[Value]:
    """Return how long held work has waited, in seconds and as a share of the longest that it may."""
    keys = {r.key for r in held}
    waited = [
        ((snapshot.now - w.created_at).total_seconds(), (w.latest_start - w.created_at).total_seconds())
        for w in snapshot.workloads
        if w.key in keys
    ]
    used = [max(0.0, age_s / longest_s) for age_s, longest_s in waited if longest_s > 0]
    found = np.quantile(used, WAIT_LEVELS) if used else np.zeros(len(WAIT_LEVELS))
    return [
        Value(work.LONGEST_HELD, max(0.0, max((age_s for age_s, _ in waited), default=0.0))),
        *(Value(work.WAIT_USED, float(v), (f"{at:g}",)) for at, v in zip(WAIT_LEVELS, found, strict=True)),
    ]


def _running_values(snapshot: Snapshot) -> list[Value]:
    zone_of = {c.name: c.grid_zone for c in snapshot.cells}
    zones = [z.name for z in snapshot.grid_zones]
    gangs, gpus, free = (dict.fromkeys(zones, 0) for _ in range(3))
    for cell in snapshot.cells:
        free[cell.grid_zone] += cell.gpus_free
    for gang in snapshot.running:
        zone = zone_of.get(gang.cell)
        if zone is not None:
            gangs[zone] += 1
            gpus[zone] += gang.gpus
    return [
        *(Value(work.RUNNING, n, (zone,)) for zone, n in gangs.items()),
        *(Value(work.RUNNING_GPUS, n, (zone,)) for zone, n in gpus.items()),
        *(Value(work.FREE_GPUS, n, (zone,)) for zone, n in free.items()),
    ]


def _plan_values(plan: Plan) -> list[Value]:
    values = [Value(work.PLAN_OBJECTIVE, plan.objective_g)]
    if plan.lower_bound_g is not None:
        gap = (plan.objective_g - plan.lower_bound_g) / plan.objective_g if plan.objective_g > 0 else 0.0
        values += [Value(work.PLAN_BOUND, plan.lower_bound_g), Value(work.PLAN_GAP, max(0.0, gap))]
    if plan.jain is not None:
        values.append(Value(work.PLAN_FAIRNESS, plan.jain))
    return values


def _conflict_values(assembly: Assembly) -> list[Value]:
    layout, table = assembly.layout, assembly.table
    kinds = {
        "grid_zone_nodes": len({n for nodes in layout.shared_grid_nodes.values() for n in nodes}),
        "thermal_zone_nodes": len({n for nodes in layout.shared_thermal_nodes.values() for n in nodes}),
        "leaking_cells": sum(1 for cell in layout.cells if cell.leaks),
        "overruled_policies": sum(1 for policy in table.policies if table.overruled_by(policy)),
    }
    return [Value(work.CONFLICTS, n, (kind,)) for kind, n in kinds.items()]


def lost_gpu_seconds(held: Sequence[PlanRecord], free_gpus: int, seconds: float) -> Mapping[str, float]:
    """Return the GPU time that stood free while held work asked for it, by cause; what limits hold comes second.

    >>> lost_gpu_seconds([], 8, 60.0)
    {'Choice': 0.0, 'Limit': 0.0}
    """
    chosen = min(free_gpus, sum(r.gpus for r in held if r.reason in BY_CHOICE))
    limited = min(free_gpus - chosen, sum(r.gpus for r in held if r.reason in LIMITS))
    return {"Choice": chosen * seconds, "Limit": limited * seconds}


@dataclass(slots=True)
class Measures:
    """Tells one leader's turns; remembers what counters need."""

    forecast_dir: Path
    per_workload: bool = False
    keeps_accounts: bool = False
    """Whether energy is accounted, so that its counters may begin at 0 before the first interval is closed."""
    _said: dict[str, tuple[State, Reason]] = field(default_factory=dict)
    """uid -> what was last decided."""
    _told_at: datetime | None = None
    _health: ForecasterHealth = field(init=False)

    def __post_init__(self) -> None:
        """Look for the forecaster's own report beside its forecasts."""
        self._health = ForecasterHealth(self.forecast_dir)

    def tell(self, facts: Facts) -> None:
        """Show a turn, and count what was lost since the last one that was shown."""
        snapshot = facts.assembly.snapshot
        held = [r for r in facts.records if r.state in _HELD_STATES]
        metrics.TABLE.replace("turn", turn_values(facts, per_workload=self.per_workload))
        metrics.TABLE.replace("forecaster", self._health.values(snapshot.now))
        if self.keeps_accounts:
            accounts.expect_zones(zone.name for zone in snapshot.grid_zones)
        now = snapshot.now
        if self._told_at is not None and now > self._told_at:
            free = sum(cell.gpus_free for cell in snapshot.cells)
            lost = lost_gpu_seconds(held, free, (now - self._told_at).total_seconds())
            for cause, seconds in lost.items():
                work.LOST_GPU_SECONDS.labels(cause).inc(seconds)
        self._told_at = now

    def count(self, records: Sequence[PlanRecord]) -> None:
        """Count what a turn decided anew; for every turn, since those in a crowd of releases are not all shown."""
        said = {}
        for record in records:
            now = (record.state, record.reason)
            if self._said.get(record.key.uid) != now:
                work.DECISIONS.labels(*now).inc()
            said[record.key.uid] = now
        self._said = said
