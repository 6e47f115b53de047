# SPDX-License-Identifier: Apache-2.0
"""What heat networks are owed on the plan's axis, and what starts give them.

A network's floor, less what its nodes draw without work and what runs already, is still short. Running and planned work
counts with its expected power over its expected (P50) duration, to the end and not beyond. Hours that the outlook does
not tell of owe nothing.
"""

import math

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.domain.snapshot import Snapshot, Workload
from embellie.planning.problem import IntArray
from embellie.planning.timegrid import TimeGrid


class HeatOwed:
    """Heat that is still owed, by floor and slot; it only falls while a plan is made."""

    def __init__(self, snapshot: Snapshot, grid: TimeGrid, n_slots: int) -> None:
        self._grid = grid
        self._hours = np.full(n_slots, grid.step_s / 3600.0)
        self._hours[0] *= 1.0 - grid.phase
        cells, group = snapshot.cells, dict[str, int]()
        short, worth = list[FloatArray](), list[float]()
        for zone in sorted(snapshot.thermal_zones, key=lambda z: z.name):
            outlook = zone.outlook
            mine = {cell.name for cell in cells if cell.thermal_zone == zone.name}
            if outlook is None or outlook.floor_kw is None or outlook.floor_g_per_kwh <= 0.0 or not mine:
                continue
            middle_s = (grid.origin - outlook.start).total_seconds() + (np.arange(n_slots) + 0.5) * grid.step_s
            slot = np.floor(middle_s / outlook.step.total_seconds()).astype(np.int64)
            known = (slot >= 0) & (slot < outlook.floor_kw.size)
            need = np.zeros(n_slots)
            need[known] = outlook.floor_kw[slot[known]] - zone.base_power_kw
            for gang in snapshot.running:
                if gang.cell in mine:
                    need -= gang.power_kw * self._share(0, max(grid.slots(gang.expected_end_p50), grid.phase + 1e-9))
            # What all work together could not give is no part of any plan's cost.
            most = math.fsum(w.power_kw for w in snapshot.workloads if not mine.isdisjoint(w.allowed_cells))
            group[zone.name] = len(short)
            short.append(np.minimum(need, most))
            worth.append(outlook.floor_g_per_kwh)
        self.group: IntArray = np.array([group.get(cell.thermal_zone or "", -1) for cell in cells], dtype=np.int64)
        """Floor that each cell's heat serves, -1 for none."""
        self._short_kw = np.array(short).reshape(len(short), n_slots)
        self.g_per_kwh: FloatArray = np.array(worth, dtype=np.float64)
        """What the network burns instead, by floor [gCO2e/kWh of IT energy]."""

    def _share(self, first: int, end: float) -> FloatArray:
        """Return which part of each slot lies before an end, from a slot on, shape (slots,); the first from now."""
        at = np.arange(self._hours.size, dtype=np.float64)
        begins = np.where(at == 0, self._grid.phase, at)
        share = np.clip((end - begins) / (at + 1.0 - begins), 0.0, 1.0)
        share[:first] = 0.0
        return np.asarray(share)

    def _end(self, workload: Workload, candidate: int) -> float:
        begin = self._grid.phase if candidate == 0 else float(candidate)
        return begin + workload.duration_p50_s / self._grid.step_s

    def serve(self, workload: Workload, row: int, candidate: int, sign: int = 1) -> None:
        """Give a network what a run makes of heat; `sign` -1 takes it back."""
        if self.group[row] >= 0:
            kw = workload.power_kw * self._share(candidate, self._end(workload, candidate))
            self._short_kw[self.group[row]] -= sign * kw

    def most_spared_g(self, workload: Workload) -> float:
        """Return the most that networks could burn less for a workload, wherever and whenever it runs [g]."""
        return float(self.g_per_kwh.max(initial=0.0)) * workload.power_kw * workload.duration_p50_s / 3600.0

    def rows(self, cuts: IntArray) -> FloatArray:
        """Return what is short between edges of the axis, in the mean, shape (floors, slots) [kW]."""
        hours = np.add.reduceat(self._hours[: cuts[-1]], cuts[:-1])
        short = np.maximum(self._short_kw, 0.0)[:, : cuts[-1]] * self._hours[: cuts[-1]]
        return np.asarray(np.add.reduceat(short, cuts[:-1], axis=1) / hours)

    def burnt_g(self) -> float:
        """Return what networks burn for all that is still short [g]."""
        return math.fsum((np.maximum(self._short_kw, 0.0) * self._hours * self.g_per_kwh[:, None]).reshape(-1))

    def spared_g(self, workload: Workload, rows: list[int], last: int) -> FloatArray | None:
        """Return what networks would burn less for a run from each start, shape (rows, last + 1) [g].

        None where no network needs anything of these cells.
        """
        if not self.g_per_kwh.size:
            return None
        groups = self.group[rows]
        if not np.any(self._short_kw[groups[groups >= 0]] > 0.0):
            return None
        worth = np.zeros((len(rows), self._hours.size + 1))
        for i, group in enumerate(groups):
            if group >= 0:
                served = np.clip(self._short_kw[group], 0.0, workload.power_kw)
                worth[i, :-1] = served * self._hours * self.g_per_kwh[group]
        at = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(worth, axis=1)], axis=1)
        starts = np.arange(last + 1)
        ends = np.minimum(starts + workload.duration_p50_s / self._grid.step_s, float(self._hours.size))
        ends[0] = min(self._end(workload, 0), float(self._hours.size))
        whole = ends.astype(np.int64)
        part = ends - whole
        if whole[0] == 0:
            # It ends inside the present slot, of which only a part is left.
            part[0] = (ends[0] - self._grid.phase) / (1.0 - self._grid.phase)
        # To the microgram: rounding of sums shall not choose between equal hours.
        return np.asarray(np.round(at[:, whole] - at[:, starts] + worth[:, whole] * part, 6))
