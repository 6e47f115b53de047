# SPDX-License-Identifier: Apache-2.0
"""The last check before anything starts, on fresh readings and worst-case power.

Before its bound a release is turned into a hold where it would take a thermal zone over its limit, a grid zone over
its contracted power or what an order leaves it during the run, or power up faster than the zone's ramp; a sensor that
cannot be trusted counts as the worst case. The worst case is the steady state with all running work and the start at
their enforced worst power, under the worst forecast ambient of the start's whole run, with a cooling unit failed and
within the learnt margin; its heat also counts in the neighbours whose inlets it reaches; and on the way there the inlet
may near its limit only so slowly that it can still be answered.

After the bound only a fresh reading over a hard limit holds, proved again each turn and for at most `max_limit_hold_s`:
not a computed worst case, and never a sensor that is stale, frozen, absurd or missing. Such a release moves to another
of its allowed cells first, where that one stands under its limits; so does one whose own cell has no room at worst, to
a cell that has.

The start ramp needs no memory between turns. Each start owes its worst-case power, and a zone works that debt off at
its ramp; the debt is reckoned from when the running gangs started. A release may start when the debt and its own power
stay within one turn's allowance, or when nothing is owed: so a gang that is larger than the allowance starts too, and
the next ones wait until the ramp has caught up.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from embellie.domain.limits import (
    SLACK_KW,
    WORDS,
    HeatBound,
    HeatRoom,
    bound_reached,
    fresh_value,
    heat_room_now,
    hot_return,
    over_hard_inlet,
    steady_state_limit_kw,
)
from embellie.domain.packing import NodeRoom
from embellie.domain.plan import Action, Decision, Plan
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Cell, Snapshot, ThermalZoneState, Workload, WorkloadKey
from embellie.thermal.load_ahead import LoadAhead
from embellie.thermal.power_ahead import PowerAhead, allowed_now


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


def _in_words(bound: str) -> str:
    words = WORDS.get(HeatBound(bound)) if bound else None
    return f": {words}" if words else ""


class Rises:
    """Judges what would make more heat without being planned (resumes, raised caps), one after the other.

    What passes counts for what is asked next, and so do the releases of the same turn.
    """

    def __init__(self, snapshot: Snapshot, releases: Iterable[Decision] = ()) -> None:
        """Begin with what runs and, at its worst, with what is being released now."""
        self._guard = _Guard(snapshot)
        released = tuple(releases)
        workloads = {w.key: w for w in snapshot.workloads} if released else {}
        for decision in released:
            self._guard.begin(decision, workloads.get(decision.key))

    def refusal(self, cell: str, added_worst_kw: float, run_s: float) -> str | None:
        """Return why a cell may not make more heat for so long, in words; None where it may, which is then accounted.

        Args:
            cell: The cell's name; one that is not known has no limits.
            added_worst_kw: Worst-case heat that would be added [kW].
            run_s: For how long [s].
        """
        return self._guard.rise(cell, added_worst_kw, run_s)


def _rise(zone: ThermalZoneState) -> float:
    """Return what a kilowatt of its own warms a zone's inlet by [K/kW]."""
    return zone.model.gain_k_per_kw if zone.model is not None and zone.model.trusted else zone.rise_k_per_kw


def warmed(zones: tuple[ThermalZoneState, ...]) -> dict[str, list[tuple[ThermalZoneState, float]]]:
    """Return by zone which inlets its heat reaches, and for how much of their own heat a kilowatt of it counts.

    A zone that overheats in spite of its model proves that the model does not know all that warms it now: then whatever
    may reach it does, be it for nothing (0).
    """
    found: dict[str, list[tuple[ThermalZoneState, float]]] = {}
    for other in zones:
        shares = dict.fromkeys(other.neighbours, 0.0) if other.overheats else {}
        if other.model is not None and _rise(other) > 0.0:
            shares |= {name: gain / _rise(other) for name, gain in other.model.neighbours_k_per_kw.items()}
        for name, share in shares.items():
            found.setdefault(name, []).append((other, share))
    return found


class _Guard:
    """The loads of all zones, growing with each release that passes."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._cells = {cell.name: cell for cell in snapshot.cells}
        self._grids = {zone.name: zone for zone in snapshot.grid_zones}
        self._thermals = {zone.name: zone for zone in snapshot.thermal_zones}
        self._now = {zone.name: heat_room_now(zone) for zone in snapshot.thermal_zones}
        self._rooms: dict[str, NodeRoom] = {}
        self._power_kw = {zone.name: zone.base_power_kw for zone in snapshot.grid_zones}
        self._heat_kw = {zone.name: zone.base_power_kw for zone in snapshot.thermal_zones}
        self._added_kw = dict.fromkeys(self._heat_kw, 0.0)
        """What this turn started; in the hours ahead it counts for always, whatever its length."""
        self._ahead: dict[str, LoadAhead] = {}
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
        self._power_ahead = PowerAhead(snapshot)
        self._warms = warmed(snapshot.thermal_zones)
        self._proven = [zone for zone in snapshot.thermal_zones if zone.proven_kw]
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

    def begin(self, decision: Decision, w: Workload | None) -> None:
        """Account a release without judging it."""
        cell = self._cells.get(decision.cell or "")
        if w is not None and cell is not None and decision.action is Action.RELEASE:
            self._account(w, cell)

    def rise(self, name: str, added_kw: float, run_s: float) -> str | None:
        """Return why more heat may not be made in a cell, or None; what may be is accounted."""
        cell = self._cells.get(name)
        if cell is None:
            return None
        verdict = self._limits(cell, added_kw, run_s)
        if verdict is None:
            self._add(cell, added_kw)
            return None
        return verdict[1]

    def _allowance_kw(self, ramp_kw_per_min: float) -> float:
        return ramp_kw_per_min * (self._snapshot.period_s or self._snapshot.turn_s) / 60.0

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
        verdict = self._static(w, cell)
        why = reading or (None if verdict is None else verdict[1])
        if why is None or bound_reached(until, self._snapshot.now, self._snapshot.turn_s):
            self._account(w, cell)
            return decision
        other = self._another(w, cell, room_only=reading is None)
        if other is not None:
            self._account(w, other)
            moved = f"{decision.message.rstrip('.')}; moved to {other.name}, because in {cell.name} {why}."
            return replace(decision, cell=other.name, message=moved)
        if reading is None:
            # The promise forces it.
            self._account(w, cell)
            return decision
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

    def _another(self, w: Workload, cell: Cell, *, room_only: bool) -> Cell | None:
        """Return an allowed cell that stands under its limits and seats the whole gang now, with room at worst first.

        `room_only`: or none.
        """
        names = sorted(name for name in w.allowed_cells if name in self._cells and name != cell.name)
        open_cells = [self._cells[name] for name in names if self._reading_over(self._cells[name]) is None]
        for strict in (True,) if room_only else (True, False):
            for other in open_cells:
                if self._room(other).fits(w.pods, w.gpus_per_pod) and (not strict or self._static(w, other) is None):
                    return other
        return None

    def _reading_over(self, cell: Cell) -> str | None:
        """Return which fresh reading stands over a hard limit, in words."""
        grid = self._grids.get(cell.grid_zone)
        if grid is not None:
            measured = fresh_value(grid.measured_power_kw)
            if measured is not None and measured >= grid.limit_kw(self._snapshot.now):
                return f"{grid.name} draws {measured:.0f} kW of {allowed_now(grid, self._snapshot.now)}"
        thermal = self._thermals.get(cell.thermal_zone or "")
        if thermal is None or not over_hard_inlet(thermal):
            return None
        inlet, hot = fresh_value(thermal.inlet), hot_return(thermal)
        if hot is None or (inlet is not None and inlet >= thermal.inlet_limit_c):
            return f"the inlet of {thermal.name} stands at {inlet:.1f} °C of {thermal.inlet_limit_c:.1f} °C"
        what, value, limit_c = hot
        return f"the {what} returns from {thermal.name} at {value:.1f} °C of {limit_c:.1f} °C"

    def _static(self, w: Workload, cell: Cell) -> tuple[Reason, str] | None:
        """Return why a start at worst-case power is forbidden, or None."""
        return self._limits(cell, w.worst_power_kw, max(w.duration_p50_s, w.duration_p90_s))

    def _limits(self, cell: Cell, added_kw: float, run_s: float) -> tuple[Reason, str] | None:
        """Return why a cell cannot take more worst-case heat for so long, or None."""
        thermal = self._thermals.get(cell.thermal_zone or "")
        grid = self._grids.get(cell.grid_zone)
        if thermal is not None:
            verdict = self._heat(thermal, added_kw, run_s)
            if verdict is not None:
                return verdict
        if grid is not None:
            over = self._power_ahead.refusal(grid, self._power_kw[grid.name] + added_kw * cell.pue, run_s)
            if over is not None:
                return Reason.CONTRACTED_POWER, over
        return self._ramp(added_kw, thermal) if thermal is not None else None

    def _heat(self, zone: ThermalZoneState, added_kw: float, run_s: float) -> tuple[Reason, str] | None:
        verdict = self._zone_heat(zone, added_kw, run_s) or self._around(zone, added_kw)
        if verdict is not None:
            return verdict
        for other, share in self._warms.get(zone.name, ()):
            if self._zone_heat(other, share * added_kw, run_s) is not None:
                return Reason.HEAT_LIMIT, f"its heat would reach {other.name}, which has no room for it"
        return None

    def _around(self, zone: ThermalZoneState, added_kw: float) -> tuple[Reason, str] | None:
        """Return why zones that share what cools them may not make more heat together, or None."""
        for other in self._proven:
            if zone.name in (other.name, *other.neighbours) and not any(
                all(
                    self._heat_kw.get(name, 0.0) + (added_kw if name == zone.name else 0.0) <= most_kw + SLACK_KW
                    for name, most_kw in heats.items()
                )
                for heats in other.proven_kw
            ):
                return Reason.HEAT_LIMIT, (
                    f"{other.name} overheated a while ago, and with its neighbours it takes back little more heat than "
                    "they were seen to make together since"
                )
        return None

    def _zone_heat(self, zone: ThermalZoneState, added_kw: float, run_s: float) -> tuple[Reason, str] | None:
        """Return why a zone cannot take more worst-case heat for so long, or None."""
        after = self._heat_kw[zone.name] + added_kw
        room = self._now[zone.name]
        if after > room.limit_kw + SLACK_KW:
            return self._now_full(zone, room, after)
        if zone.outlook is None:
            return None
        now = self._snapshot.now
        if after <= zone.outlook.worst_kw(now, now + timedelta(seconds=run_s))[0] + SLACK_KW:
            return None
        # Not with all that runs now; but with what will still run at each hour?
        if zone.name not in self._ahead:
            self._ahead[zone.name] = LoadAhead.of(zone, zone.outlook, self._snapshot)
        spare = self._ahead[zone.name].least_spare(run_s)
        left_kw = spare.kw - self._added_kw[zone.name]
        if added_kw <= left_kw + SLACK_KW:
            return None
        need_kw = spare.limit_kw - left_kw + added_kw
        carry = f"at worst {zone.name} would carry {need_kw:.0f} kW of {spare.limit_kw:.0f} kW of heat"
        return Reason.HEAT_LIMIT, f"{carry} at the hottest hour of the run{_in_words(spare.bound)}"

    def _now_full(self, zone: ThermalZoneState, room: HeatRoom, after: float) -> tuple[Reason, str]:
        if room.bound is HeatBound.LADDER:
            return Reason.HEAT_LIMIT, f"{zone.name} takes nothing new: {zone.closed_because}"
        if not room.trusted and after <= steady_state_limit_kw(zone, zone.supply_setpoint_c)[0] + SLACK_KW:
            return (
                Reason.SENSOR_UNTRUSTED,
                f"a temperature sensor of {zone.name} cannot be trusted, so it counts at its worst",
            )
        carry = f"at worst {zone.name} would carry {after:.0f} kW of {room.limit_kw:.0f} kW of heat"
        return Reason.HEAT_LIMIT, f"{carry}{_in_words(room.bound)}"

    def _ramp(self, added_kw: float, zone: ThermalZoneState) -> tuple[Reason, str] | None:
        debt = self._debt_kw.get(zone.name)
        ramp = zone.start_ramp_kw_per_min
        if debt is None or ramp is None:
            return None
        allowance = self._allowance_kw(ramp)
        if debt <= SLACK_KW or debt + added_kw <= allowance + SLACK_KW:
            return None
        return Reason.START_RAMP, f"power in {zone.name} may rise by {ramp:g} kW a minute, so starts are spread"

    def _account(self, w: Workload, cell: Cell) -> None:
        self._add(cell, w.worst_power_kw)
        self._room(cell).take(w.pods, w.gpus_per_pod)

    def _add(self, cell: Cell, worst_kw: float) -> None:
        """Count more worst-case heat wherever it shows."""
        if cell.grid_zone in self._power_kw:
            self._power_kw[cell.grid_zone] += worst_kw * cell.pue
        thermal = self._thermals.get(cell.thermal_zone or "")
        if thermal is None:
            return
        for name, share in ((thermal.name, 1.0), *((other.name, s) for other, s in self._warms.get(thermal.name, ()))):
            self._heat_kw[name] += share * worst_kw
            self._added_kw[name] += share * worst_kw
        if thermal.name in self._debt_kw:
            self._debt_kw[thermal.name] += worst_kw

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
