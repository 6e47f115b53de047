# SPDX-License-Identifier: Apache-2.0
"""The plan of a turn: all free workloads planned together, then each decision with its reason.

What has reached its bound, or must start for another reason, goes first and takes its room. All others are planned as
one problem (`joint`): prices on GPUs, power and heat share clean hours and scarce room among them. Then, first come
first served, each takes the cheapest start that is open, its own place counting as open, where that saves what its
policy asks against the first open start; else that first one. Hard limits come first: only open starts count. Shadow
workloads come last and take no room from held ones.

A run that would leave the forecast's horizon is valued at the mean of the last day, and a start whose run leaves it is
never preferred for its emissions: hours that nobody has forecast save nothing.

`likely_start_p90` of a held workload is the latest open start whose run could still turn out as good as the planned
one: whose low estimate is not above the planned start's expected emissions. It never lies after `latest_start`.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.domain.limits import bound_reached
from embellie.domain.plan import Action, Decision, Estimate, Plan, PriceBook
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Snapshot, Workload, WorkloadKey
from embellie.planning import messages
from embellie.planning.capacity import Capacity
from embellie.planning.joint import Joint, plan_together
from embellie.planning.problem import BoolArray
from embellie.planning.timegrid import CostModel, RunCosts, TimeGrid, time_grid

_MAX_CANDIDATES = 24 * 32
_NO_SAVING = 1e-6
"""Relative differences below this are rounding, not savings."""


def plan(snapshot: Snapshot, before: PriceBook | None = None) -> Plan:
    """Decide for every workload of a snapshot: hold until when, or start now and where.

    `before` are the prices of the last plan, `Plan.prices`; they make this one better for the same work, no more.
    """
    return _Turn(snapshot, before).run()


def _anywhere(ok: BoolArray) -> BoolArray:
    """Return at which candidates any of the cells has room."""
    found: BoolArray = np.logical_or.reduce(ok, axis=0)
    return found


class _Turn:
    """One plan in the making."""

    def __init__(self, snapshot: Snapshot, before: PriceBook | None) -> None:
        self._snapshot, self._before = snapshot, before
        self._cells = snapshot.cells
        self._rows = {cell.name: row for row, cell in enumerate(snapshot.cells)}
        self._grid: TimeGrid = time_grid(snapshot.grid_zones, snapshot.now)
        latest = max((w.latest_start for w in snapshot.workloads), default=snapshot.now)
        longest = max((max(w.duration_p50_s, w.duration_p90_s) for w in snapshot.workloads), default=0.0)
        self._last = min(_MAX_CANDIDATES, max(1, int(self._grid.slots(latest))))
        n_slots = self._n_slots = self._last + math.ceil(longest / self._grid.step_s) + 4
        zones = {zone.name: zone for zone in snapshot.grid_zones}
        self._costs = CostModel(snapshot.cells, zones, self._grid, self._last, n_slots)
        self._capacity = Capacity(snapshot, self._grid, n_slots)
        self._row_cache: dict[frozenset[str], list[int]] = {}
        self._decisions: dict[WorkloadKey, Decision] = {}
        self._proposed: dict[WorkloadKey, tuple[int, int]] = {}
        self._beyond: set[WorkloadKey] = set()
        """Workloads that are planned over capacity, because nothing is free before their bound."""

    def run(self) -> Plan:
        ordered = sorted(self._snapshot.workloads, key=self._order)
        free = [w for w in ordered if self._is_free(w)]
        # Shadow workloads join only where there is nothing else to plan.
        joined = [w for w in free if w.enforced] or free
        together = {w.key for w in joined}
        forced = [w for w in ordered if w.enforced and not self._is_free(w)]
        for w in forced:
            self._decisions[w.key] = self._decide(w)
        joint = self._propose(joined) if joined else None
        for w in ordered:
            if w.key in together or w.key not in self._decisions:
                self._decisions[w.key] = self._decide(w)
        self._respect_held_fraction()
        decisions = tuple(self._decisions[w.key] for w in self._snapshot.workloads)
        objective = math.fsum(d.best.expected_g for d in decisions if d.best is not None)
        bound = self._bound(joined, joint, objective) if joint is not None else None
        return Plan(
            decisions=decisions,
            objective_g=objective,
            lower_bound_g=bound,
            prices=joint.prices if joint is not None else None,
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
            has_forecast = bool(comparable)
            inside = int(self._costs.horizon_slots - w.duration_p50_s / self._grid.step_s + 1e-9) if has_forecast else 0
            rows.append(comparable or mine)
            last.append(end)
            worth.append(max(0, min(end, inside)))
        joint = plan_together(
            workloads, rows, last, worth, self._capacity, self._costs, self._grid, self._n_slots, self._before
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
            return self._release(w, None, Reason.NO_ZONE, messages.no_zone(), None, None)
        return self._choose(w, rows)

    def _candidates(self, w: Workload) -> int:
        return max(0, min(self._last, int(self._grid.slots(w.latest_start))))

    def _tables(self, w: Workload, rows: list[int], last: int) -> tuple[RunCosts, FloatArray, BoolArray]:
        """Return the run's costs, their means over the allowed cells, and where those cells have room."""
        costs = self._costs.run(w.duration_p50_s)
        ok = self._capacity.open_starts(w, last, rows)
        if rows == list(range(len(self._cells))):
            return costs, costs.mean[:, : last + 1], ok
        return costs, costs.mean[rows, : last + 1], ok[rows]

    def _start_regardless(self, w: Workload, rows: list[int], reason: Reason, message: str) -> Decision:
        """Release whatever the forecast says: where it fits now, else where room comes first, else where cheapest."""
        if not rows:
            text = message or messages.bound_reached(w, None)
            return self._release(w, None, reason, text, None, None)
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
        return self._release(w, pick, reason, text, estimate, estimate)

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
        has_forecast = all(self._costs.known[row] for row in rows)
        if not open_at[first]:
            return self._wait_full(w, rows, mean, costs, now, last)
        masked = np.where(ok, mean, np.inf)
        base_row = int(masked[:, first].argmin())
        row, start = base_row, first
        cheaper = None
        if has_forecast:
            # Its own place is free to it, all others are taken: the cheapest open start is never worse than that.
            cheaper = self._cheaper(masked, w.duration_p50_s, first, float(masked[base_row, first]), last)
            if cheaper is not None and cheaper[2] >= w.minimum_saving_percent / 100.0:
                row, start = cheaper[0], cheaper[1]
        self._capacity.reserve(w, rows[row], start)
        best = self._estimate(w, costs, rows[row], start)
        if start == 0:
            return self._start(w, rows, row, costs, now, cheaper)
        likely = self._likely(w, costs.low[rows, : last + 1], ok, start, float(mean[row, start]))
        waits_anyway = has_forecast and self._would_wait(w, mean, now_cost, float(mean[row, start]), last)
        reason = Reason.CLEANER_WINDOW if open_at[0] or waits_anyway else self._capacity.blocked_by(w, rows[now_row])
        return self._hold(w, rows[row], self._grid.start(start), likely, reason, now, best)

    def _start(
        self,
        w: Workload,
        rows: list[int],
        row: int,
        costs: RunCosts,
        now: Estimate | None,
        cheaper: tuple[int, int, float] | None,
    ) -> Decision:
        cell = self._cells[rows[row]].name
        if now is None:
            return self._release(
                w, rows[row], Reason.FORECAST_UNAVAILABLE, messages.forecast_unavailable(cell), None, None
            )
        if cheaper is None:
            return self._release(w, rows[row], Reason.BEST_NOW, messages.best_now(cell, now), now, now)
        other = self._estimate(w, costs, rows[cheaper[0]], cheaper[1]) or now
        text = messages.minimum_saving(w, cell, now, other)
        return self._release(w, rows[row], Reason.MINIMUM_SAVING, text, now, now)

    def _cheaper(
        self, masked: FloatArray, duration_s: float, first: int, base: float, last: int
    ) -> tuple[int, int, float] | None:
        """Return (row, candidate, saving) of the least start after `first` whose run stays inside the forecast."""
        end = min(last, int(self._costs.horizon_slots - duration_s / self._grid.step_s + 1e-9))
        if end <= first or base <= 0.0:
            return None
        part = masked[:, first + 1 : end + 1]
        per_row = part.argmin(axis=1)
        row, column = min(((i, int(k)) for i, k in enumerate(per_row)), key=lambda rk: (float(part[rk]), rk[1], rk[0]))
        saving = 1.0 - float(part[row, column]) / base
        return (row, first + 1 + column, saving) if saving > _NO_SAVING else None

    def _would_wait(self, w: Workload, mean: FloatArray, now_cost: float, planned_cost: float, last: int) -> bool:
        """Return whether carbon alone would make it wait, and the planned start does save enough."""
        end = min(last, int(self._costs.horizon_slots - w.duration_p50_s / self._grid.step_s + 1e-9))
        if end <= 0 or now_cost <= 0.0:
            return False
        least = max(_NO_SAVING, w.minimum_saving_percent / 100.0)
        return 1.0 - max(planned_cost, float(mean[:, : end + 1].min())) / now_cost >= least

    def _wait_full(
        self, w: Workload, rows: list[int], mean: FloatArray, costs: RunCosts, now: Estimate | None, last: int
    ) -> Decision:
        """Hold to the bound: nothing it may use is free before. It will start then whatever is planned."""
        row = int(mean[:, last].argmin())
        reason = self._capacity.blocked_by(w, rows[int(mean[:, 0].argmin())])
        full = self._capacity.all_blocking(w, rows[int(mean[:, 0].argmin())], last)
        self._capacity.reserve(w, rows[row], last)
        self._beyond.add(w.key)
        best = self._estimate(w, costs, rows[row], last)
        also = [other for other in full if other is not reason] if len(rows) == 1 else []
        return self._hold(w, rows[row], w.latest_start, w.latest_start, reason, now, best, also)

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

    def _release(
        self, w: Workload, row: int | None, reason: Reason, message: str, now: Estimate | None, best: Estimate | None
    ) -> Decision:
        moment = self._snapshot.now
        return Decision(
            key=w.key,
            action=Action.RELEASE,
            reason=reason,
            message=message,
            cell=self._cells[row].name if row is not None else None,
            start=moment,
            likely_start_p90=moment,
            latest_start=w.latest_start,
            now=now,
            best=best,
        )

    def _hold(
        self,
        w: Workload,
        row: int,
        start: datetime,
        likely: datetime,
        reason: Reason,
        now: Estimate | None,
        best: Estimate | None,
        also: Sequence[Reason] = (),
    ) -> Decision:
        cell = self._cells[row].name
        if reason is Reason.CLEANER_WINDOW and now is not None and best is not None:
            message = messages.cleaner_window(w, cell, start, now, best)
        else:
            message = messages.blocked(w, (reason, *also), cell, start)
        return Decision(
            key=w.key,
            action=Action.HOLD,
            reason=reason,
            message=message,
            cell=cell,
            start=start,
            likely_start_p90=likely,
            latest_start=w.latest_start,
            now=now,
            best=best,
        )

    def _respect_held_fraction(self) -> None:
        """Release the oldest of what a policy holds beyond its ceiling."""
        held: dict[str, list[Workload]] = defaultdict(list)
        for w in self._snapshot.workloads:
            ours = w.enforced and w.policy in self._snapshot.max_held_gpus
            if ours and self._decisions[w.key].action is Action.HOLD:
                held[w.policy].append(w)
        for policy, workloads in held.items():
            most = self._snapshot.max_held_gpus[policy]
            excess = sum(w.gpus for w in workloads) - most
            for w in sorted(workloads, key=lambda w: (w.created_at, w.key)):
                if excess <= 0:
                    break
                excess -= w.gpus
                self._beyond.add(w.key)
                self._decisions[w.key] = replace(
                    self._decisions[w.key],
                    action=Action.RELEASE,
                    reason=Reason.HELD_FRACTION,
                    message=messages.held_fraction(w, most),
                    start=self._snapshot.now,
                    likely_start_p90=self._snapshot.now,
                    best=self._decisions[w.key].now,
                )
