# SPDX-License-Identifier: Apache-2.0
"""What is free over time: GPUs by cell, what contracts and orders leave by grid zone, heat by thermal zone.

GPUs are planned on the expected (P50) duration, limits on worst-case power over the P90 duration; the heat of what runs
counts for as long as the shield counts it. A run takes every slot that it touches whole, so that rounding never
overbooks.
"""

import math
from collections.abc import Sequence
from datetime import datetime

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.domain.limits import counted_until, fresh_value, heat_room_now, steady_state_limit_kw
from embellie.domain.packing import NodeRoom
from embellie.domain.power_orders import least_limits_kw
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import GridZoneState, Snapshot, ThermalZoneState, Workload
from embellie.planning.axis.owed import heat_owed
from embellie.planning.axis.timegrid import TimeGrid, ambient_p90_c
from embellie.planning.axis.wants import Want, Wants
from embellie.planning.solving.problem import BoolArray, IntArray, Zones

_MOST_KW = 1e9
_SLACK = 1e-6
"""Sums of powers are compared with this much tolerance [kW]."""


class Capacity:
    """Free room by cell and slot; it only shrinks while a plan is made."""

    def __init__(self, snapshot: Snapshot, grid: TimeGrid, n_slots: int, on_site: Sequence[Want] = ()) -> None:
        """`on_site` is what is left of the site's own power."""
        self.n_slots = n_slots
        """Length of the axis."""
        self._grid = grid
        self._phase = grid.phase
        self._spans: dict[float, tuple[int, int]] = {}
        cells = snapshot.cells
        self._rows = {cell.name: row for row, cell in enumerate(cells)}
        count = len(cells)
        self._count = count
        # One array, GPUs on top and limits [kW of IT power] below, so that one comparison serves both.
        self._free = np.full((2 * count, n_slots), np.inf)
        self._gpus, self._limit = self._free[:count], self._free[count:]
        self._power = np.full((count, n_slots), np.inf)
        self._heat = np.full((count, n_slots), np.inf)
        self._most_start = np.full((count, n_slots), np.inf)
        self._pue = [cell.pue for cell in cells]
        self._same_grid = [[j for j, o in enumerate(cells) if o.grid_zone == c.grid_zone] for c in cells]
        self._same_heat = [
            [j for j, o in enumerate(cells) if c.thermal_zone is not None and o.thermal_zone == c.thermal_zone]
            for c in cells
        ]
        self._nodes = [NodeRoom(cell.node_free_gpus) for cell in cells]
        self._untrusted = [False] * count
        self._counted = np.zeros((2 * count, n_slots + 1), dtype=np.int32)
        self.wants = Wants([*heat_owed(snapshot, grid, n_slots), *on_site], grid, n_slots, count)
        grids = {zone.name: zone for zone in snapshot.grid_zones}
        thermals = {zone.name: zone for zone in snapshot.thermal_zones}
        for row, cell in enumerate(cells):
            self._gpus[row] = cell.gpus_free
            self._power[row] = self._power_room(snapshot, grids.get(cell.grid_zone), n_slots) / cell.pue
            if cell.thermal_zone in thermals:
                zone = thermals[cell.thermal_zone]
                ambient_zone = grids.get(zone.ambient_grid_zone or "")
                self._heat[row] = self._heat_room(snapshot, zone, ambient_zone, n_slots)
                self._untrusted[row] = not heat_room_now(zone).trusted
                if zone.start_ramp_kw_per_min is not None:
                    self._most_start[row] = zone.start_ramp_kw_per_min * grid.step_s / 60.0
                    # The rest of this slot; a single gang is never too large, the shield spreads starts within it.
                    self._most_start[row, 0] *= 1.0 - grid.phase
        self._start = self._most_start.copy()
        self._has_ramps = bool(np.isfinite(self._most_start).any())
        for gang in snapshot.running:
            row_of = self._rows.get(gang.cell)
            if row_of is not None:
                self._gpus[row_of, self._after(gang.expected_end_p50) :] += gang.gpus
        for row, cell in enumerate(cells):
            np.minimum(self._gpus[row], max(cell.gpus_total, cell.gpus_free), out=self._gpus[row])
        np.minimum(self._power, self._heat, out=self._limit)
        # Where no contract limits power, runs take nothing of it.
        contracted = np.isfinite(self._power).any(axis=1)
        self._same_contract = [same if contracted[row] else [] for row, same in enumerate(self._same_grid)]
        self._affected = [sorted({*p, *h}) for p, h in zip(self._same_contract, self._same_heat, strict=True)]

    def zones(self, cost_per_kwh: FloatArray, cuts: IntArray) -> Zones:
        """Return what is free as a problem's zones, over slots between these edges of the plan's axis."""
        first = cuts[:-1]

        def least(rows: FloatArray) -> FloatArray:
            tightest: FloatArray = np.minimum.reduceat(rows[:, : cuts[-1]], first, axis=1)
            return tightest

        def grouped(rows: FloatArray, peers: list[list[int]]) -> tuple[IntArray, FloatArray]:
            leaders = [min(same) if same and np.isfinite(rows[r]).any() else -1 for r, same in enumerate(peers)]
            names = sorted({leader for leader in leaders if leader >= 0})
            group = np.array([names.index(i) if i >= 0 else -1 for i in leaders], dtype=np.int64)
            return group, np.maximum(least(rows[names]) if names else np.zeros((0, first.size)), -_MOST_KW)

        # Rows are in kW of the leader's IT power: a cell with another PUE draws in proportion.
        power_group, power = grouped(self._power, self._same_grid)
        heat_group, heat = grouped(self._heat, self._same_heat)
        ramp_group, _ = grouped(self._start, self._same_heat)
        leading = [int(np.flatnonzero(ramp_group == row)[0]) for row in range(int(ramp_group.max(initial=-1)) + 1)]
        ramp = np.add.reduceat(np.maximum(self._start[leading][:, : cuts[-1]], 0.0), first, axis=1)
        leaders = [min(same) for same in self._same_grid]
        wanted_kw, worth = self.wants.rows(cuts)
        return Zones(
            cost_per_kwh=cost_per_kwh,
            gpus=least(self._gpus),
            power_group=power_group,
            power_kw=power,
            power_factor=np.array([self._pue[r] / self._pue[lead] for r, lead in enumerate(leaders)]),
            heat_group=heat_group,
            heat_kw=heat,
            ramp_group=ramp_group,
            ramp_kw=ramp,
            wanted_share=self.wants.share,
            wanted_kw=wanted_kw,
            wanted_cost_per_kwh=worth,
        )

    def _after(self, end: datetime) -> int:
        """Return the first slot that an end leaves free; a run that is overdue still takes the present one."""
        return max(1, math.ceil(self._grid.slots(end) - 1e-9))

    def _power_room(self, snapshot: Snapshot, zone: GridZoneState | None, n_slots: int) -> FloatArray:
        """Return facility power that contract and orders still leave, by slot [kW]."""
        if zone is None or (zone.contracted_power_kw is None and not zone.orders):
            return np.full(n_slots, np.inf)
        cells = {cell.name: cell.pue for cell in snapshot.cells if cell.grid_zone == zone.name}
        # Under orders what runs counts as long as the shield counts it: what it would refuse is not worth planning.
        used, ordered = np.full((2, n_slots), zone.base_power_kw)
        for gang in snapshot.running:
            if gang.cell in cells:
                worst_kw = gang.worst_power_kw * cells[gang.cell]
                used[: self._after(gang.expected_end_p90)] += worst_kw
                if zone.orders:
                    ordered[: self._after(counted_until(gang, snapshot.now))] += worst_kw
        measured = fresh_value(zone.measured_power_kw)
        if measured is not None:
            # Load that is nobody's gang is seen by the meter only, and is taken to stay.
            unseen_kw = max(0.0, measured - float(used[0]))
            used += unseen_kw
            ordered += unseen_kw
        room: FloatArray = (np.inf if zone.contracted_power_kw is None else zone.contracted_power_kw) - used
        if not zone.orders:
            return room
        edges_s: FloatArray = np.arange(n_slots + 1, dtype=np.float64) * self._grid.step_s
        # What ended earlier in the slot that has begun holds no more.
        edges_s[0] = (self._grid.now - self._grid.origin).total_seconds()
        limits_kw = least_limits_kw(None, zone.orders, self._grid.origin, edges_s[:-1], edges_s[1:])
        np.minimum(room, limits_kw - ordered, out=room)
        return room

    def _heat_room(
        self, snapshot: Snapshot, zone: ThermalZoneState, ambient_zone: GridZoneState | None, n_slots: int
    ) -> FloatArray:
        """Return heat that the cooling can still carry, by slot [kW of IT power]."""
        cells = {cell.name for cell in snapshot.cells if cell.thermal_zone == zone.name}
        used = np.full(n_slots, zone.base_power_kw)
        for gang in snapshot.running:
            if gang.cell in cells:
                # Beside an outlook as long as the shield counts it: what it would refuse is not worth planning.
                end = gang.expected_end_p90 if zone.outlook is None else counted_until(gang, snapshot.now)
                used[: self._after(end)] += gang.worst_power_kw
        now_kw = heat_room_now(zone).limit_kw
        limit = np.full(n_slots, now_kw)
        ambient = ambient_p90_c(ambient_zone.forecast if ambient_zone is not None else None, self._grid, n_slots)
        if ambient is not None:
            supply = np.maximum(zone.supply_setpoint_c, ambient + zone.ambient_approach_k)
            limit[1:] = [steady_state_limit_kw(zone, float(c))[0] for c in supply[1:]]
        if zone.outlook is not None:
            # What the learnt model says holds as far as it looks.
            at = (self._grid.origin - zone.outlook.start).total_seconds() + np.arange(n_slots) * self._grid.step_s
            first = np.floor(at / zone.outlook.step.total_seconds()).astype(np.int64)
            last = np.floor((at + self._grid.step_s - 1.0) / zone.outlook.step.total_seconds()).astype(np.int64)
            known = (first >= 0) & (first < zone.outlook.removable_kw.size)
            known[0] = False
            row = np.clip(np.stack([first, last]), 0, zone.outlook.removable_kw.size - 1)
            limit = np.where(known, zone.outlook.removable_kw[row].min(axis=0), limit)
        room: FloatArray = limit - used
        return room

    def _span(self, duration_s: float) -> tuple[int, int]:
        """Return how many slots a run touches: from now, and from a slot's edge."""
        found = self._spans.get(duration_s)
        if found is None:
            length = max(0.0, duration_s) / self._grid.step_s
            found = max(1, math.ceil(self._phase + length - 1e-9)), max(1, math.ceil(length - 1e-9))
            self._spans[duration_s] = found
        return found

    def open_starts(self, workload: Workload, candidates: int, rows: list[int]) -> BoolArray:
        """Return where a gang has room for its whole run, shape (all cells, candidates 0..candidates)."""
        gpu_now, gpu_later = self._span(workload.duration_p50_s)
        lim_now, lim_later = self._span(max(workload.duration_p90_s, workload.duration_p50_s))
        count, last = self._count, candidates
        width = max(gpu_now, lim_now, last + max(gpu_later, lim_later)) + 1
        need = np.empty((2 * count, 1))
        need[:count] = workload.gpus
        need[count:] = workload.worst_power_kw - _SLACK
        counted = self._counted[:, : width + 1]
        (self._free[:, :width] < need).cumsum(axis=1, out=counted[:, 1:])
        ok = np.empty((count, last + 1), dtype=bool)
        top, low = counted[:count], counted[count:]
        ok[:, 1:] = top[:, 1 + gpu_later : last + 1 + gpu_later] == top[:, 1 : last + 1]
        ok[:, 1:] &= low[:, 1 + lim_later : last + 1 + lim_later] == low[:, 1 : last + 1]
        ok[:, 0] = (top[:, gpu_now] == 0) & (low[:, lim_now] == 0)
        if self._has_ramps:
            ok &= self._may_start(workload, slice(0, last + 1))
        for row in rows:
            if ok[row, 0] and not self._nodes[row].fits(workload.pods, workload.gpus_per_pod):
                ok[row, 0] = False
        return ok

    def _may_start(self, workload: Workload, starts: slice) -> BoolArray:
        """Return where a zone's ramp leaves a start to a gang, by cell and slot; one that is too large takes it all."""
        need = np.minimum(workload.worst_power_kw, self._most_start[:, starts])
        open_: BoolArray = self._start[:, starts] >= need - _SLACK
        return open_

    def blocked_by(self, workload: Workload, row: int) -> Reason:
        """Return what keeps a gang from starting in a cell now."""
        if not self._nodes[row].fits(workload.pods, workload.gpus_per_pod):
            return Reason.WAITING_FOR_GPUS
        gpu_now, _ = self._span(workload.duration_p50_s)
        if self._gpus[row, :gpu_now].min() < workload.gpus:
            return Reason.WAITING_FOR_GPUS
        lim_now, _ = self._span(max(workload.duration_p90_s, workload.duration_p50_s))
        need = workload.worst_power_kw - _SLACK
        if self._power[row, :lim_now].min() < need:
            return Reason.CONTRACTED_POWER
        if self._heat[row, :lim_now].min() >= need and not self._may_start(workload, slice(0, 1))[row, 0]:
            return Reason.START_RAMP
        return Reason.SENSOR_UNTRUSTED if self._untrusted[row] else Reason.HEAT_LIMIT

    def all_blocking(self, workload: Workload, row: int, last: int) -> list[Reason]:
        """Return every row that is too full for a gang at each start up to `last`, or even when it is alone."""
        span = self._span(workload.duration_p50_s)[1]
        limit_span = self._span(max(workload.duration_p90_s, workload.duration_p50_s))[1]
        need = workload.worst_power_kw - _SLACK
        found = []
        for reason, rows, least, width in (
            (Reason.WAITING_FOR_GPUS, self._gpus, float(workload.gpus), span),
            (Reason.CONTRACTED_POWER, self._power, need, limit_span),
            (Reason.HEAT_LIMIT, self._heat, need, limit_span),
        ):
            counted = np.concatenate([[0], np.cumsum(rows[row] < least)])
            starts = np.arange(last + 1)
            if np.all(counted[np.minimum(starts + width, counted.size - 1)] > counted[starts]):
                found.append(reason)
        return found

    def reserve(self, workload: Workload, row: int, candidate: int) -> None:
        """Take a gang's room for its whole run, and its seats where it starts now."""
        if candidate == 0:
            self._nodes[row].take(workload.pods, workload.gpus_per_pod)
        self.pencil_in(workload, row, candidate)

    def pencil_in(self, workload: Workload, row: int, candidate: int, sign: int = 1) -> None:
        """Take a gang's room without seating it; `sign` -1 gives it back."""
        now = 0 if candidate == 0 else 1
        gpu_end = candidate + self._span(workload.duration_p50_s)[now]
        lim_end = candidate + self._span(workload.duration_p90_s)[now]
        self._gpus[row, candidate:gpu_end] -= sign * workload.gpus
        self.wants.serve(workload, row, candidate, sign)
        worst = sign * workload.worst_power_kw
        for other in self._same_contract[row]:
            self._power[other, candidate:lim_end] -= worst * self._pue[row] / self._pue[other]
        rising = sign * min(workload.worst_power_kw, float(self._most_start[row, candidate]))
        for other in self._same_heat[row]:
            self._heat[other, candidate:lim_end] -= worst
            self._start[other, candidate] -= rising if math.isfinite(rising) else 0.0
        for other in self._affected[row]:
            part = slice(candidate, lim_end)
            np.minimum(self._power[other, part], self._heat[other, part], out=self._limit[other, part])
