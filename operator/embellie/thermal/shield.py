# SPDX-License-Identifier: Apache-2.0
"""The last check before anything starts, on fresh readings and worst-case power.

Before its bound a release is turned into a hold where it would take a thermal zone over its limit, a grid zone over
its contracted power, or power up faster than the zone's ramp; a sensor that cannot be trusted counts as the worst
case. After the bound only a fresh reading over a hard limit holds, proved again each turn and for at most
`max_limit_hold_s`: not a computed worst case, and never a sensor that is stale, frozen, absurd or missing. Such a
release moves to another of its allowed cells first, where that one stands under its limits.

The start ramp needs no memory between turns. Each start owes its worst-case power, and a zone works that debt off at
its ramp; the debt is reckoned from when the running gangs started. A release may start when the debt and its own power
stay within one turn's allowance, or when nothing is owed: so a gang that is larger than the allowance starts too, and
the next ones wait until the ramp has caught up.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from embellie.domain.limits import bound_reached, fresh_value, heat_room_now, over_hard_inlet, steady_state_limit_kw
from embellie.domain.packing import NodeRoom
from embellie.domain.plan import Action, Decision, Plan
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Cell, GridZoneState, Snapshot, ThermalZoneState, Workload, WorkloadKey

_SLACK_KW = 1e-6


def shield(plan: Plan, snapshot: Snapshot) -> Plan:
    """Return the plan with every release that a hard limit forbids turned into a hold."""
    workloads = {w.key: w for w in snapshot.workloads}
    releases = [d for d in plan.decisions if d.action is Action.RELEASE and d.key in workloads]
    checked: dict[WorkloadKey, Decision] = {}
    guard = _Guard(snapshot)
    for decision in sorted(releases, key=lambda d: _order(workloads[d.key], snapshot)):
        checked[decision.key] = guard.check(decision, workloads[decision.key])
    if all(checked[d.key] is d for d in releases):
        return plan
    return replace(plan, decisions=tuple(checked.get(d.key, d) for d in plan.decisions))


def _order(w: Workload, snapshot: Snapshot) -> tuple[bool, bool, datetime, datetime, WorkloadKey]:
    """Real releases first, then what is merely observed; in each, bounds first, then first come first served."""
    past = bound_reached(w.latest_start, snapshot.now, snapshot.turn_s)
    return not w.enforced, not past, w.latest_start if past else w.created_at, w.created_at, w.key


def ramp_debt_kw(starts: list[tuple[datetime, float]], now: datetime, ramp_kw_per_min: float) -> float:
    """Return what a zone still owes its ramp, from when and with how much power its gangs started [kW]."""
    debt, last = 0.0, None
    for at, power_kw in sorted(starts):
        moment = min(at, now)
        if last is not None:
            debt = max(0.0, debt - ramp_kw_per_min * (moment - last).total_seconds() / 60.0)
        debt += power_kw
        last = moment
    if last is None:
        return 0.0
    return max(0.0, debt - ramp_kw_per_min * (now - last).total_seconds() / 60.0)


class _Guard:
    """The loads of all zones, growing with each release that passes."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._cells = {cell.name: cell for cell in snapshot.cells}
        self._grids = {zone.name: zone for zone in snapshot.grid_zones}
        self._thermals = {zone.name: zone for zone in snapshot.thermal_zones}
        self._rooms: dict[str, NodeRoom] = {}
        self._power_kw = {zone.name: zone.base_power_kw for zone in snapshot.grid_zones}
        self._heat_kw = {zone.name: zone.base_power_kw for zone in snapshot.thermal_zones}
        starts: dict[str, list[tuple[datetime, float]]] = {zone.name: [] for zone in snapshot.thermal_zones}
        for gang in snapshot.running:
            cell = self._cells.get(gang.cell)
            if cell is None:
                continue
            if cell.grid_zone in self._power_kw:
                self._power_kw[cell.grid_zone] += gang.worst_power_kw * cell.pue
            if cell.thermal_zone in self._heat_kw:
                self._heat_kw[cell.thermal_zone] += gang.worst_power_kw
                starts[cell.thermal_zone].append((gang.started_at, gang.worst_power_kw))
        self._debt_kw: dict[str, float] = {}
        for zone in snapshot.thermal_zones:
            ramp = zone.start_ramp_kw_per_min
            if ramp is not None:
                self._debt_kw[zone.name] = ramp_debt_kw(starts[zone.name], snapshot.now, ramp)
        for grid in snapshot.grid_zones:
            measured = fresh_value(grid.measured_power_kw)
            if measured is not None:
                # The meter also sees what is nobody's gang.
                self._power_kw[grid.name] = max(self._power_kw[grid.name], measured)

    def check(self, decision: Decision, w: Workload) -> Decision:
        """Return the decision itself, a move, or a hold."""
        cell = self._cells.get(decision.cell or "")
        if cell is None or decision.reason is Reason.NO_POLICY:
            # Nowhere named, or not ours to hold: nothing to check it against.
            return decision
        if bound_reached(w.latest_start, self._snapshot.now, self._snapshot.turn_s):
            return self._check_past_bound(decision, w, cell)
        verdict = self._static(w, cell)
        if verdict is None:
            self._account(w, cell)
            return decision
        return self._hold(decision, w, *verdict)

    def _check_past_bound(self, decision: Decision, w: Workload, cell: Cell) -> Decision:
        reading = self._reading_over(cell)
        until = w.latest_start + timedelta(seconds=self._snapshot.max_limit_hold_s)
        if reading is None or bound_reached(until, self._snapshot.now, self._snapshot.turn_s):
            self._account(w, cell)
            return decision
        other = self._another(w, cell)
        if other is not None:
            self._account(w, other)
            moved = f"{decision.message.rstrip('.')}; moved to {other.name}, because in {cell.name} {reading}."
            return replace(decision, cell=other.name, message=moved)
        text = (
            f"Held at its bound because {reading}; "
            f"it starts once that is under the limit, at the latest {until:%Y-%m-%d %H:%M} UTC."
        )
        return replace(
            decision,
            action=Action.HOLD,
            reason=Reason.LIMIT_READING,
            message=text,
            start=until,
            likely_start_p90=until,
            over_limit=True,
        )

    def _another(self, w: Workload, cell: Cell) -> Cell | None:
        """Return an allowed cell that stands under its limits and seats the whole gang now."""
        names = sorted(name for name in w.allowed_cells if name in self._cells and name != cell.name)
        open_cells = [self._cells[name] for name in names if self._reading_over(self._cells[name]) is None]
        for strict in (True, False):
            for other in open_cells:
                if self._room(other).fits(w.pods, w.gpus_per_pod) and (not strict or self._static(w, other) is None):
                    return other
        return None

    def _reading_over(self, cell: Cell) -> str | None:
        """Return which fresh reading stands over a hard limit, in words."""
        grid = self._grids.get(cell.grid_zone)
        if grid is not None and grid.contracted_power_kw is not None:
            measured = fresh_value(grid.measured_power_kw)
            if measured is not None and measured >= grid.contracted_power_kw:
                return f"{grid.name} draws {measured:.0f} kW of {grid.contracted_power_kw:.0f} kW contracted"
        thermal = self._thermals.get(cell.thermal_zone or "")
        if thermal is not None and over_hard_inlet(thermal) and thermal.inlet is not None:
            return (
                f"the inlet of {thermal.name} stands at {thermal.inlet.value:.1f} °C of {thermal.inlet_limit_c:.1f} °C"
            )
        return None

    def _static(self, w: Workload, cell: Cell) -> tuple[Reason, str] | None:
        """Return why a start at worst-case power is forbidden, or None."""
        thermal = self._thermals.get(cell.thermal_zone or "")
        grid = self._grids.get(cell.grid_zone)
        if thermal is not None:
            verdict = self._heat(w, thermal)
            if verdict is not None:
                return verdict
        if grid is not None:
            verdict = self._power(w, grid, cell)
            if verdict is not None:
                return verdict
        return self._ramp(w, thermal) if thermal is not None else None

    def _power(self, w: Workload, grid: GridZoneState, cell: Cell) -> tuple[Reason, str] | None:
        if grid.contracted_power_kw is None:
            return None
        after = self._power_kw[grid.name] + w.worst_power_kw * cell.pue
        if after <= grid.contracted_power_kw + _SLACK_KW:
            return None
        return Reason.CONTRACTED_POWER, (
            f"at worst {grid.name} would draw {after:.0f} kW of {grid.contracted_power_kw:.0f} kW contracted"
        )

    def _heat(self, w: Workload, zone: ThermalZoneState) -> tuple[Reason, str] | None:
        room = heat_room_now(zone)
        after = self._heat_kw[zone.name] + w.worst_power_kw
        if after <= room.limit_kw + _SLACK_KW:
            return None
        if not room.trusted and after <= steady_state_limit_kw(zone, zone.supply_setpoint_c)[0] + _SLACK_KW:
            return (
                Reason.SENSOR_UNTRUSTED,
                f"a temperature sensor of {zone.name} cannot be trusted, so it counts at its worst",
            )
        return Reason.HEAT_LIMIT, f"at worst {zone.name} would carry {after:.0f} kW of {room.limit_kw:.0f} kW of heat"

    def _ramp(self, w: Workload, zone: ThermalZoneState) -> tuple[Reason, str] | None:
        debt = self._debt_kw.get(zone.name)
        ramp = zone.start_ramp_kw_per_min
        if debt is None or ramp is None:
            return None
        allowance = ramp * (self._snapshot.period_s or self._snapshot.turn_s) / 60.0
        if debt <= _SLACK_KW or debt + w.worst_power_kw <= allowance + _SLACK_KW:
            return None
        return Reason.START_RAMP, f"power in {zone.name} may rise by {ramp:g} kW a minute, so starts are spread"

    def _account(self, w: Workload, cell: Cell) -> None:
        if cell.grid_zone in self._power_kw:
            self._power_kw[cell.grid_zone] += w.worst_power_kw * cell.pue
        if cell.thermal_zone in self._heat_kw:
            self._heat_kw[cell.thermal_zone] += w.worst_power_kw
        if cell.thermal_zone in self._debt_kw:
            self._debt_kw[cell.thermal_zone] += w.worst_power_kw
        self._room(cell).take(w.pods, w.gpus_per_pod)

    def _room(self, cell: Cell) -> NodeRoom:
        if cell.name not in self._rooms:
            self._rooms[cell.name] = NodeRoom(cell.node_free_gpus)
        return self._rooms[cell.name]

    def _hold(self, decision: Decision, w: Workload, reason: Reason, what: str) -> Decision:
        """Hold until the next turn asks again; the bound stands."""
        start = min(self._snapshot.now + timedelta(seconds=self._snapshot.turn_s), w.latest_start)
        text = (
            f"Waits because {what}; tried again every turn, starts at the latest {w.latest_start:%Y-%m-%d %H:%M} UTC."
        )
        return replace(
            decision,
            action=Action.HOLD,
            reason=reason,
            message=text,
            start=start,
            likely_start_p90=w.latest_start,
        )
