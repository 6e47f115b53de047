# SPDX-License-Identifier: Apache-2.0
"""The plan of a turn: all free workloads planned together, then each decision with its reason.

What has reached its bound, or must start for another reason, goes first and takes its room; then what may not wait for
cleaner hours because room before the bounds runs short (`rush`), each at the first open start. All others are planned
as one problem (`joint`): prices on GPUs, power and heat share clean hours and scarce room among them. Then, first come
first served, each takes the cheapest start that is open, its own place counting as open, where that saves what its
policy asks against the first open start; else that first one. Hard limits come first: only open starts count. Shadow
workloads come last and take no room from held ones.

A run that would leave the forecast's horizon is valued at the mean of the last day, and a start whose run leaves it is
never preferred for its emissions: hours that nobody has forecast save nothing.

`likely_start_p90` of a held workload is the latest open start whose run could still turn out as good as the planned
one: whose low estimate is not above the planned start's expected emissions. It never lies after `latest_start`.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.domain.limits import bound_reached
from embellie.domain.plan import Decision, Estimate, Plan, PriceBook
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Snapshot, Workload, WorkloadKey
from embellie.planning import messages
from embellie.planning.capacity import Capacity
from embellie.planning.decisions import hold, release, respect_held_fraction, start_now
from embellie.planning.fairness import WAIT_PRICE, standing
from embellie.planning.joint import Joint, plan_together
from embellie.planning.problem import Binding, BoolArray
from embellie.planning.rush import pressing
from embellie.planning.scarcity import REASONS
from embellie.planning.timegrid import NO_SAVING, CostModel, RunCosts, TimeGrid, cheapest_later, time_grid

_MAX_CANDIDATES = 24 * 32
_RETRIES = 3
_MOST_TO_RETRY = 2000
"""With more workloads a second plan would take longer than a turn has."""


def plan(snapshot: Snapshot, before: PriceBook | None = None) -> Plan:
    """Decide for every workload of a snapshot: hold until when, or start now and where.

    `before` are the prices of the last plan, `Plan.prices`; they make this one better for the same work, no more.
    """
    grid = time_grid(snapshot.grid_zones, snapshot.now)
    hurried = pressing(snapshot, grid.step_s / 3600.0)
    turn = _Turn(snapshot, grid, before, before.first if before is not None else frozenset(), hurried)
    found = turn.run()
    best, best_found = turn, found
    for _ in range(_RETRIES if len(snapshot.workloads) <= _MOST_TO_RETRY else 0):
        if not best.no_room:
            break
        # What found nothing before its bound goes first in another plan.
        again = _Turn(snapshot, grid, best_found.prices, best.first | best.no_room, hurried)
        other = again.run()
        if len(again.no_room) >= len(best.no_room):
            break
        best, best_found = again, other
    # Where there is simply too much work, reshuffling for one or two would move everybody in each turn.
    return best_found if 2 * len(best.no_room) <= len(turn.no_room) else found


def _anywhere(ok: BoolArray) -> BoolArray:
    """Return at which candidates any of the cells has room."""
    found: BoolArray = np.logical_or.reduce(ok, axis=0)
    return found


class _Turn:
    """One plan in the making."""

    def __init__(
        self,
        snapshot: Snapshot,
        grid: TimeGrid,
        before: PriceBook | None,
        first: frozenset[WorkloadKey],
        hurried: Sequence[WorkloadKey],
    ) -> None:
        """`first` go before all others where room is short, because they found none otherwise.

        `hurried` do not wait for cleaner hours; in this order, those of `first` before.
        """
        self.first = first & {w.key for w in snapshot.workloads}
        self.no_room: frozenset[WorkloadKey] = frozenset()
        """Workloads for which nothing was free before their bound."""
        self._hurried = dict.fromkeys(sorted(hurried, key=lambda key: key not in self.first))
        self._snapshot, self._cells, self._grid, self._before = snapshot, snapshot.cells, grid, before
        self._rows = {cell.name: row for row, cell in enumerate(snapshot.cells)}
        latest = max((w.latest_start for w in snapshot.workloads), default=snapshot.now)
        longest = max((max(w.duration_p50_s, w.duration_p90_s) for w in snapshot.workloads), default=0.0)
        self._last = min(_MAX_CANDIDATES, max(1, int(self._grid.slots(latest))))
        n_slots = self._n_slots = self._last + math.ceil(longest / self._grid.step_s) + 4
        zones = {zone.name: zone for zone in snapshot.grid_zones}
        self._costs = CostModel(snapshot.cells, zones, self._grid, self._last, n_slots, snapshot.thermal_zones)
        self._capacity = Capacity(snapshot, self._grid, n_slots)
        self._standing = standing(snapshot.tenants)
        self._excess_of = {w.key: self._standing.of(w.tenant) for w in snapshot.workloads}
        # What was free before anything was planned: asked only where tenants stand differently.
        self._at_first = Capacity(snapshot, self._grid, n_slots) if self._standing.excess else self._capacity
        self._joint: Joint | None = None
        self._row_cache: dict[frozenset[str], list[int]] = {}
        self._decisions: dict[WorkloadKey, Decision] = {}
        self._proposed: dict[WorkloadKey, tuple[int, int]] = {}
        self._beyond: set[WorkloadKey] = set()
        """Workloads that are planned over capacity, because nothing is free before their bound."""

    def run(self) -> Plan:
        ordered = sorted(self._snapshot.workloads, key=self._order)
        free = [w for w in ordered if self._is_free(w)]
        at_once = [w for w in ordered if w.enforced and not self._is_free(w)]
        pressed = {w.key: w for w in free if w.key in self._hurried}
        for w in (*at_once, *(pressed[key] for key in self._hurried if key in pressed)):
            self._decisions[w.key] = self._decide(w)
        free = [w for w in free if w.key not in pressed]
        # Shadow workloads join only where there is nothing else to plan.
        joined = [w for w in free if w.enforced] or free
        together = {w.key for w in joined}
        joint = self._joint = self._propose(joined) if joined else None
        for w in ordered:
            if w.key in together or w.key not in self._decisions:
                self._decisions[w.key] = self._decide(w)
        self.no_room = frozenset(self._beyond)
        self._beyond |= respect_held_fraction(self._snapshot, self._decisions)
        decisions = tuple(self._decisions[w.key] for w in self._snapshot.workloads)
        objective = math.fsum(d.best.expected_g for d in decisions if d.best is not None)
        bound = self._bound(joined, joint, objective) if joint is not None else None
        return Plan(
            decisions=decisions,
            objective_g=objective,
            lower_bound_g=bound,
            prices=replace(joint.prices, first=self.first) if joint is not None else None,
            jain=self._standing.jain,
        )

    def _is_free(self, w: Workload) -> bool:
        return w.start_now is None and not self._at_bound(w) and bool(self._allowed(w))

    def _propose(self, workloads: list[Workload]) -> Joint:
        """Plan workloads together, and pencil their places in."""
        rows, last, worth = [], [], []
        for w in workloads:
            mine = self._allowed(w)
            comparable = [row for row in mine if self._costs.known[row]]
            end = self._candidates(w)
            rows.append(comparable or mine)
            last.append(end)
            worth.append(self._worth(w, end) if comparable else 0)
        joint = plan_together(
            workloads,
            rows,
            last,
            worth,
            self._capacity,
            self._costs,
            self._grid,
            self._n_slots,
            self._before,
            [self._excess_of[w.key] for w in workloads],
            [w.key in self.first for w in workloads],
        )
        for i, (row, candidate) in joint.places.items():
            self._proposed[workloads[i].key] = (row, candidate)
            self._capacity.pencil_in(workloads[i], row, candidate)
        return joint

    def _bound(self, workloads: list[Workload], joint: Joint, objective: float) -> float | None:
        """Return a bound of the whole objective: what is not planned together counts as it was decided.

        A workload that found no room waits to its bound, over capacity: in the bound it counts its penalty, here its
        emissions, so the difference is taken off.
        """
        if joint.bound_g is None:
            return None
        mine = math.fsum(best.expected_g for w in workloads if (best := self._decisions[w.key].best) is not None)
        over = math.fsum(joint.penalty_g[i] for i, w in enumerate(workloads) if w.key in self._beyond)
        return max(0.0, objective - mine + joint.bound_g - over)

    def _order(self, w: Workload) -> tuple[bool, int, datetime, datetime, str, str, str, str]:
        at_bound = self._at_bound(w)
        rank = 0 if at_bound else 1 if w.start_now is not None else 2
        first = w.latest_start if at_bound else w.created_at
        return not w.enforced, rank, first, w.created_at, w.key.namespace, w.key.name, w.key.kind, w.key.uid

    def _at_bound(self, w: Workload) -> bool:
        return bound_reached(w.latest_start, self._snapshot.now, self._snapshot.turn_s)

    def _allowed(self, w: Workload) -> list[int]:
        rows = self._row_cache.get(w.allowed_cells)
        if rows is None:
            rows = sorted(self._rows[name] for name in w.allowed_cells if name in self._rows)
            # A cell whose signal is known goes first, then by name, so that ties never depend on the input's order.
            rows.sort(key=lambda row: (not self._costs.known[row], self._cells[row].name))
            self._row_cache[w.allowed_cells] = rows
        return rows

    def _decide(self, w: Workload) -> Decision:
        rows = self._allowed(w)
        if w.start_now is not None and not self._at_bound(w):
            reason = Reason(w.start_now)
            return self._start_regardless(w, rows, reason, w.start_now_message or messages.forced(reason.value))
        if self._at_bound(w):
            reason = Reason(w.start_now) if w.start_now is not None else Reason.BOUND_REACHED
            return self._start_regardless(w, rows, reason, w.start_now_message if w.start_now is not None else "")
        if not rows:
            return release(w, self._snapshot.now, None, Reason.NO_ZONE, messages.no_zone())
        return self._choose(w, rows)

    def _worth(self, w: Workload, last: int) -> int:
        """Return the last candidate whose run stays inside the forecast; at least 0."""
        return max(0, min(last, self._costs.last_inside(w.duration_p50_s)))

    def _candidates(self, w: Workload) -> int:
        return max(0, min(self._last, int(self._grid.slots(w.latest_start))))

    def _tables(self, w: Workload, rows: list[int], last: int) -> tuple[RunCosts, FloatArray, BoolArray]:
        """Return the run's costs, its scores over the allowed cells, and where those cells have room."""
        costs = self._costs.run(w.duration_p50_s, w.weights)
        ok = self._capacity.open_starts(w, last, rows)
        if rows == list(range(len(self._cells))):
            return costs, costs.score[:, : last + 1], ok
        return costs, costs.score[rows, : last + 1], ok[rows]

    def _start_regardless(self, w: Workload, rows: list[int], reason: Reason, message: str) -> Decision:
        """Release whatever the forecast says: where it fits now, else where room comes first, else where cheapest."""
        if not rows:
            text = message or messages.bound_reached(w, None)
            return release(w, self._snapshot.now, None, reason, text)
        costs, mean, ok = self._tables(w, rows, self._last)
        column = int(_anywhere(ok).argmax())
        room = ok[:, column]
        if not room.any():
            # Nothing is free before the horizon; at least never name a cell that is too small for it.
            large = [self._cells[row].gpus_total >= w.gpus for row in rows]
            room = np.array(large if any(large) else [True] * len(rows))
        pick = rows[int(np.where(room, mean[:, 0], np.inf).argmin())]
        self._capacity.reserve(w, pick, 0)
        estimate = self._estimate(w, costs, pick, 0)
        text = message or messages.bound_reached(w, self._cells[pick].name)
        return release(w, self._snapshot.now, self._cells[pick].name, reason, text, estimate, estimate)

    def _choose(self, w: Workload, rows: list[int]) -> Decision:
        last = self._candidates(w)
        proposed = self._proposed.pop(w.key, None)
        if proposed is not None:
            self._capacity.pencil_in(w, *proposed, sign=-1)
        comparable = [row for row in rows if self._costs.known[row]]
        costs, mean, ok = self._tables(w, comparable or rows, last)
        open_at = _anywhere(ok)
        if comparable and len(comparable) < len(rows) and not open_at.any():
            # Nothing with a known signal has room before the bound: better an unknown one than none.
            costs, mean, ok = self._tables(w, rows, last)
            open_at = _anywhere(ok)
        else:
            rows = comparable or rows
        first = int(open_at.argmax())
        now_row = int(np.where(ok[:, 0], mean[:, 0], np.inf).argmin()) if open_at[0] else int(mean[:, 0].argmin())
        now_cost = float(mean[now_row, 0])
        now = self._estimate(w, costs, rows[now_row], 0)
        has_forecast, hurried = all(self._costs.known[row] for row in rows), w.key in self._hurried
        if not open_at[first]:
            return self._wait_full(w, rows, mean, costs, now, last)
        waiting = self._waiting_per_kw(w, last)
        masked = np.where(ok, mean + waiting if waiting is not None else mean, np.inf)
        base_row = int(masked[:, first].argmin())
        row, start = base_row, first
        cheaper = None
        if has_forecast:
            # Its own place is free to it, all others are taken: the cheapest open start is never worse than that.
            cheaper = cheapest_later(masked[:, : self._worth(w, last) + 1], first, float(masked[base_row, first]))
            if cheaper is not None and cheaper[2] >= w.minimum_saving_percent / 100.0 and not hurried:
                row, start = cheaper[0], cheaper[1]
        self._capacity.reserve(w, rows[row], start)
        best = self._estimate(w, costs, rows[row], start)
        if start == 0:
            if waiting is not None and has_forecast and not hurried:
                plain = np.where(ok, mean, np.inf)
                cheaper = cheapest_later(plain[:, : self._worth(w, last) + 1], 0, float(plain[row, 0]))
            return self._start(w, rows, row, costs, now, cheaper)
        likely = self._likely(w, costs.low[rows, : last + 1], ok, start, float(costs.mean[rows[row], start]))
        waits_anyway = (
            has_forecast and not hurried and self._would_wait(w, mean, now_cost, float(mean[row, start]), last)
        )
        cell, when = self._cells[rows[row]].name, self._grid.start(start)
        if open_at[0] or waits_anyway:
            taken = self._taken(w, rows, mean, float(mean[row, start]), last) if has_forecast else None
            return hold(w, cell, when, likely, Reason.CLEANER_WINDOW, now, best, taken=taken)
        given = self._given_to_others(w, rows, start, last)
        if given is not None:
            words = messages.others_first(w, cell, when, self._grid.start(given), self._standing.shares[w.tenant])
            return hold(w, cell, when, likely, Reason.TENANT_SHARE, now, best, words=words)
        reason = self._why_not_now(w, rows[now_row])
        return hold(w, cell, when, likely, reason, now, best, until=self._grid.start(first))

    def _waiting_per_kw(self, w: Workload, last: int) -> FloatArray | None:
        """Return what its tenant's price asks of each start per kW of the workload [g]; None where it asks nothing."""
        excess = self._standing.of(w.tenant)
        if excess >= 0.0:
            return None
        hours = np.maximum(np.arange(last + 1) - self._grid.phase, 0.0) * self._grid.step_s / 3600.0
        priced: FloatArray = -excess * WAIT_PRICE * self._costs.mean_g_per_kwh * hours
        return priced

    def _taken(
        self, w: Workload, rows: list[int], mean: FloatArray, planned: float, last: int
    ) -> tuple[Reason, datetime] | None:
        """Return the row that keeps it from its own cleanest start, and when that is; None where it gets that one."""
        part = mean[:, : self._worth(w, last) + 1]
        if self._joint is None or planned <= float(part.min()) * (1.0 + NO_SAVING):
            return None
        own, column = np.unravel_index(int(part.argmin()), part.shape)
        row = self._joint.scarcity.binding(w, rows[int(own)], int(column))
        if row is Binding.NONE:
            return None
        return REASONS[row], self._grid.start(int(column))

    def _why_not_now(self, w: Workload, row: int) -> Reason:
        """Return what keeps it from starting in a cell now: of all that is full the dearest, by the plan's prices."""
        first = self._capacity.blocked_by(w, row)
        if self._joint is None or first is Reason.SENSOR_UNTRUSTED:
            return first
        dear = REASONS[self._joint.scarcity.binding(w, row, 0)]
        return dear if dear in self._capacity.all_blocking(w, row, 0) else first

    def _given_to_others(self, w: Workload, rows: list[int], start: int, last: int) -> int | None:
        """Return the first start at which there was room before this plan, where it went to a tenant that had less.

        Only where that tenant's work came later: what came earlier goes first whatever tenants had.
        """
        excess = self._standing.of(w.tenant)
        if excess <= 0.0:
            return None
        later = [begin for key, (row, begin) in self._proposed.items() if row in rows and self._excess_of[key] < excess]
        if not later or min(later) >= start:
            return None
        before = _anywhere(self._at_first.open_starts(w, last, rows)[rows])
        free = int(before.argmax())
        return free if before[free] and free < start and min(later) <= free else None

    def _start(
        self,
        w: Workload,
        rows: list[int],
        row: int,
        costs: RunCosts,
        now: Estimate | None,
        cheaper: tuple[int, int, float] | None,
    ) -> Decision:
        cell, at = self._cells[rows[row]].name, self._snapshot.now
        if now is None:
            return release(w, at, cell, Reason.FORECAST_UNAVAILABLE, messages.forecast_unavailable(cell))
        better = None
        if cheaper is not None:
            better = self._estimate(w, costs, rows[cheaper[0]], cheaper[1]) or now, cheaper[2]
        hurried = w.key in self._hurried
        return start_now(w, at, cell, now, better, hurried=hurried, shares=self._standing.shares)

    def _would_wait(self, w: Workload, mean: FloatArray, now_cost: float, planned_cost: float, last: int) -> bool:
        """Return whether carbon alone would make it wait, and the planned start does save enough."""
        end = self._worth(w, last)
        if end <= 0 or now_cost <= 0.0:
            return False
        least = max(NO_SAVING, w.minimum_saving_percent / 100.0)
        return 1.0 - max(planned_cost, float(mean[:, : end + 1].min())) / now_cost >= least

    def _wait_full(
        self, w: Workload, rows: list[int], mean: FloatArray, costs: RunCosts, now: Estimate | None, last: int
    ) -> Decision:
        """Hold to the bound: nothing it may use is free before. It will start then whatever is planned."""
        row = int(mean[:, last].argmin())
        reason = self._capacity.blocked_by(w, rows[int(mean[:, 0].argmin())])
        also = []
        if len(rows) == 1:
            also = [other for other in self._capacity.all_blocking(w, rows[0], last) if other is not reason]
        self._capacity.reserve(w, rows[row], last)
        self._beyond.add(w.key)
        best = self._estimate(w, costs, rows[row], last)
        cell = self._cells[rows[row]].name
        return hold(w, cell, w.latest_start, w.latest_start, reason, now, best, also=also)

    def _likely(self, w: Workload, low: FloatArray, ok: BoolArray, start: int, expected: float) -> datetime:
        could = _anywhere((low <= expected) & ok)
        last = could.shape[0] - 1 - int(could[::-1].argmax())
        return min(self._grid.start(max(start, last)), w.latest_start)

    def _estimate(self, w: Workload, costs: RunCosts, row: int, candidate: int) -> Estimate | None:
        if not self._costs.known[row]:
            return None
        kw = w.power_kw
        return Estimate(
            expected_g=float(costs.mean[row, candidate]) * kw,
            low_g=float(costs.low[row, candidate]) * kw,
            high_g=float(costs.high[row, candidate]) * kw,
        )
