# SPDX-License-Identifier: Apache-2.0
"""What all decisions of a turn rest on: where and when each workload could start, and what that costs."""

import math
from dataclasses import dataclass

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.domain.limits import bound_reached
from embellie.domain.plan import Estimate
from embellie.domain.snapshot import Snapshot, Workload, WorkloadKey
from embellie.planning.axis.capacity import Capacity
from embellie.planning.axis.onsite import on_site_left
from embellie.planning.axis.scarcity import Scarcity
from embellie.planning.axis.timegrid import CostModel, RunCosts, TimeGrid
from embellie.planning.axis.wants import EXPECTED, HIGH, LOW
from embellie.planning.fairness import WAIT_PRICE, standing
from embellie.planning.solving.problem import BoolArray

_MAX_CANDIDATES = 24 * 32


def anywhere(ok: BoolArray) -> BoolArray:
    """Return at which candidates any of the cells has room."""
    found: BoolArray = np.logical_or.reduce(ok, axis=0)
    return found


@dataclass(frozen=True, slots=True)
class Starts:
    """Where and when a workload could start: rows are some of the cells, columns candidates up to its bound."""

    rows: list[int]
    """Which cells."""
    at: list[int] | slice
    """The same as an index of arrays of all cells: a slice, which copies nothing, where they are all of them."""
    last: int
    """Its last candidate inside its bound."""
    costs: RunCosts
    """Of all cells."""
    by_grid: FloatArray
    """What a start scores per kW of the workload by the grid, shape (rows, last + 1) [g, or as much as so many g]."""
    on_site: FloatArray | None
    """What the site's own power spares of it, by case (`wants`), shape (3, rows, last + 1) [g]; None where nothing."""
    plain: FloatArray
    """The grid's score less that: what a start scores by itself."""
    score: FloatArray
    """The same, less what a heat network would burn otherwise."""
    ok: BoolArray
    """Where there is room for the whole run."""

    @property
    def warm(self) -> bool:
        """Whether a heat network needs anything of these starts."""
        return self.score is not self.plain

    def spared(self, row: int, candidate: int) -> float:
        """Return what heat networks burn less for a start, per kW of the workload [g]."""
        return float(self.plain[row, candidate] - self.score[row, candidate]) if self.warm else 0.0

    def own(self, row: int, candidate: int, case: int = EXPECTED) -> float:
        """Return what the site's own power spares of a start, per kW of the workload [g]."""
        return float(self.on_site[case, row, candidate]) if self.on_site is not None else 0.0


class Ground:
    """A snapshot on the plan's axis. Only its capacity, its proposals and the scarcity change while a plan is made."""

    def __init__(self, snapshot: Snapshot, grid: TimeGrid) -> None:
        self.snapshot, self.cells, self.grid = snapshot, snapshot.cells, grid
        self.row_of = {cell.name: row for row, cell in enumerate(snapshot.cells)}
        latest = max((w.latest_start for w in snapshot.workloads), default=snapshot.now)
        longest = max((max(w.duration_p50_s, w.duration_p90_s) for w in snapshot.workloads), default=0.0)
        self.last = min(_MAX_CANDIDATES, max(1, int(grid.slots(latest))))
        n_slots = self.last + math.ceil(longest / grid.step_s) + 4
        self.zones = {zone.name: zone for zone in snapshot.grid_zones}
        self.costs = CostModel(snapshot.cells, self.zones, grid, self.last, n_slots, snapshot.thermal_zones)
        on_site = on_site_left(snapshot, grid, n_slots, self.costs)
        self.capacity = Capacity(snapshot, grid, n_slots, on_site)
        self.standing = standing(snapshot.tenants)
        self.excess_of = {w.key: self.standing.of(w.tenant) for w in snapshot.workloads}
        # What was free before anything was planned: asked only where tenants stand differently.
        self.at_first = Capacity(snapshot, grid, n_slots) if self.standing.excess else self.capacity
        self.proposed: dict[WorkloadKey, tuple[int, int]] = {}
        """Row of the cell and candidate that the joint plan proposes, for whom nothing is decided yet."""
        self.scarcity: Scarcity | None = None
        """What room is worth in the joint plan."""
        self._every_row = list(range(len(snapshot.cells)))
        self._rows_of: dict[frozenset[str], list[int]] = {}

    def at_bound(self, w: Workload) -> bool:
        """Return whether waiting one more turn could pass a workload's bound."""
        return bound_reached(w.latest_start, self.snapshot.now, self.snapshot.turn_s)

    def allowed(self, w: Workload) -> list[int]:
        """Return the rows of the cells that a workload may use."""
        rows = self._rows_of.get(w.allowed_cells)
        if rows is None:
            rows = [row for row, cell in enumerate(self.cells) if cell.name in w.allowed_cells]
            # A cell whose signal is known goes first; the plan has the cells by name.
            rows.sort(key=lambda row: not self.costs.known[row])
            self._rows_of[w.allowed_cells] = rows
        return rows

    def comparable(self, rows: list[int]) -> list[int]:
        """Return those of some cells whose signal is known."""
        return [row for row in rows if self.costs.known[row]]

    def worth(self, w: Workload, last: int) -> int:
        """Return the last candidate whose run stays inside the forecast; at least 0."""
        return max(0, min(last, self.costs.last_inside(w.duration_p50_s)))

    def candidates(self, w: Workload) -> int:
        """Return the last candidate inside a workload's bound."""
        return max(0, min(self.last, int(self.grid.slots(w.latest_start))))

    def starts(self, w: Workload, rows: list[int], last: int) -> Starts:
        """Return what a workload may choose from in these cells."""
        costs = self.costs.run(w.duration_p50_s, w.weights)
        ok = self.capacity.open_starts(w, last, rows)
        at = slice(None) if rows == self._every_row else rows
        by_grid = costs.score[at, : last + 1]
        on_site, heat = self._on_site(w, rows, last), self._heat(w, rows, last)
        plain = by_grid if on_site is None else by_grid - on_site[EXPECTED]
        score = plain if heat is None else plain - heat
        return Starts(rows, at, last, costs, by_grid, on_site, plain, score, ok[at])

    def _heat(self, w: Workload, rows: list[int], last: int) -> FloatArray | None:
        spared = self.capacity.wants.spared_g(w, rows, last, on_site=False) if w.power_kw > 0.0 else None
        return None if spared is None else np.asarray(spared[EXPECTED] / w.power_kw)

    def _on_site(self, w: Workload, rows: list[int], last: int) -> FloatArray | None:
        """Return what the site's own power spares of starts per kW of a workload, by case."""
        wants = self.capacity.wants
        if w.power_kw <= 0.0 or wants.offered_g <= 0.0:
            return None
        spared = wants.spared_g(w, rows, last, on_site=True)
        return None if spared is None else np.asarray(spared / w.power_kw)

    def waiting_per_kw(self, w: Workload, last: int) -> FloatArray | None:
        """Return what its tenant's price asks of each start per kW of the workload [g]; None where it asks nothing."""
        excess = self.standing.of(w.tenant)
        if excess >= 0.0:
            return None
        hours = np.maximum(np.arange(last + 1) - self.grid.phase, 0.0) * self.grid.step_s / 3600.0
        priced: FloatArray = -excess * WAIT_PRICE * self.costs.mean_g_per_kwh * hours
        return priced

    def estimate(self, w: Workload, starts: Starts, row: int, candidate: int) -> Estimate | None:
        """Return what a start in a row of `starts` is expected to emit; None where its signal is not known."""
        cell, costs, kw = starts.rows[row], starts.costs, w.power_kw
        if not self.costs.known[cell]:
            return None
        by_grid = [float(emitted[cell, candidate]) * kw for emitted in (costs.mean, costs.low, costs.high)]
        expected, low, high = (
            max(0.0, grams - starts.own(row, candidate, case) * kw)
            for case, grams in zip((EXPECTED, LOW, HIGH), by_grid, strict=True)
        )
        return Estimate(expected_g=expected, low_g=low, high_g=high, on_site_g=by_grid[0] - expected)
