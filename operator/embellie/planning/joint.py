# SPDX-License-Identifier: Apache-2.0
"""A turn's free workloads as one problem: where and when each starts best when all are looked at together.

Slots are those of the plan's axis, fine for the next `_FINE` and ever coarser after. What a run of rounded-up length
takes is never less than what it really takes, so that the plan fits; the bound is proved with lengths rounded down and
with the whole window of each workload, so that it holds for what is really done.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.domain.plan import PriceBook
from embellie.domain.snapshot import Workload
from embellie.planning.axis.capacity import Capacity
from embellie.planning.axis.price_book import prices_of, written
from embellie.planning.axis.scarcity import Scarcity
from embellie.planning.axis.timegrid import CostModel, TimeGrid
from embellie.planning.fairness import WAIT_PRICE
from embellie.planning.solving.bound import lower_bound
from embellie.planning.solving.inputs import make_jobs
from embellie.planning.solving.problem import BoolArray, IntArray, Prices, Problem
from embellie.planning.solving.solver import Effort, solve

_FINE, _DOUBLE_AFTER = 192, 24
_QUARTER = 4.0
_NO_PLACE = 4.0
"""A workload without a place pays so many times its dearest hours: room is never left to emit less."""
_SMALL, _MIDDLE = 300, 2000
_TINY_SLOTS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A workload that is planned together with others, and what it may have."""

    workload: Workload
    rows: Sequence[int]
    """Cells that it may use."""
    bound: int
    """Last start inside its bound."""
    latest: int
    """Last start that is worth waiting for (inside the forecast); at most `bound`."""
    excess: float
    """What its tenant got beyond its waiting (`fairness`), -1..1."""
    first: bool
    """Whether it goes first where room is short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """What the solver proposes."""

    places: dict[int, tuple[int, int]]
    """Row of the workload -> (row of the cell, candidate)."""
    prices: PriceBook
    bound_g: float | None
    """Proved for these workloads: no plan emits less, where each that gets no place counts `penalty_g`; what wanted
    power that is short costs is included."""
    penalty_g: tuple[float, ...]
    scarcity: Scarcity
    """What room is worth, by cell and start."""


def slot_edges(count: int) -> IntArray:
    """Return edges of slots on an axis of `count` base slots: single ones near, then 2, 4, 8... of them together."""
    edges, width = list(range(min(count, _FINE) + 1)), 1
    while edges[-1] < count:
        width *= 2
        for _ in range(_DOUBLE_AFTER):
            if edges[-1] >= count:
                break
            edges.append(min(count, edges[-1] + width))
    return np.array(edges, dtype=np.int64)


def effort_for(count: int, *, warm: bool) -> Effort:
    """Return how much work a turn spends: counts, not time, so that equal snapshots give equal plans."""
    if count <= _SMALL:
        return Effort(iterations=25 if warm else 60, rounds=3, prove=False)
    if count <= _MIDDLE:
        return Effort(iterations=15 if warm else 40, rounds=1, prove=False)
    return Effort(first_iterations=4 if warm else 12, improve=False, prove=False)


def plan_together(
    asks: Sequence[Ask], capacity: Capacity, costs: CostModel, grid: TimeGrid, before: PriceBook | None
) -> Joint:
    """Propose a place for each workload.

    Args:
        asks: The workloads, in the order in which they came.
        capacity: What is free.
        costs: What hours emit.
        grid: The axis of both.
        before: Prices of the last plan.
    """
    draft = _drafted(asks, capacity, costs, grid)
    names = (costs.names, capacity.wants.names)
    warm = prices_of(before, draft.problem, grid, *names)
    found = solve(
        draft.problem,
        budget_s=math.inf,
        clock=lambda: 0.0,
        warm=warm,
        effort=effort_for(len(asks), warm=warm is not None),
    )
    # Slots taken together hide starts and hours from the problem, so that nothing is proved about them.
    provable = capacity.n_slots <= _FINE and all(costs.known[row] for ask in asks for row in ask.rows)
    placed = np.flatnonzero(found.zone >= 0)
    return Joint(
        places={int(i): (int(found.zone[i]), int(draft.cuts[found.start[i]])) for i in placed},
        prices=written(found.prices, draft.problem, grid, *names),
        bound_g=_bound(draft, asks, found.prices, grid) if provable else None,
        penalty_g=tuple(draft.problem.jobs.unplaced_cost.tolist()),
        scarcity=Scarcity(found.prices, draft.problem.zones, draft.cuts, grid),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Draft:
    """A turn's problem, in slots that are taken together and lengths that are rounded up."""

    problem: Problem
    cuts: IntArray
    """Edges of its slots on the plan's axis, shape (T + 1,)."""
    p50: FloatArray
    """Expected lengths as they are, shape (J,) [slots of the axis]."""
    p90: FloatArray
    """Lengths at P90 as they are, at least `p50`, shape (J,) [slots of the axis]."""


def _drafted(asks: Sequence[Ask], capacity: Capacity, costs: CostModel, grid: TimeGrid) -> _Draft:
    cuts, hours = slot_edges(capacity.n_slots), grid.step_s / 3600.0
    edges_h = (np.maximum(cuts, grid.phase) - grid.phase) * hours
    works = [ask.workload for ask in asks]
    rates = costs.rates(cuts)
    others = sorted({w.weights for w in works if not w.weights.carbon_only}, key=astuple)
    weighings = np.stack([costs.rates(cuts, weights) for weights in others]) if others else None
    kind_of = {weights: 1 + i for i, weights in enumerate(others)}
    p50 = np.array([w.duration_p50_s for w in works]) / grid.step_s
    p90 = np.maximum(np.array([w.duration_p90_s for w in works]) / grid.step_s, p50)
    power = np.array([w.power_kw for w in works])
    excess = np.array([ask.excess for ask in asks], dtype=np.float64)
    delay = np.maximum(-excess, 0.0) * WAIT_PRICE * costs.mean_g_per_kwh * power
    dearest = max(1.0, *(float(np.abs(part).max()) for part in (rates, weighings) if part is not None))
    jobs = make_jobs(
        gpus=[w.gpus for w in works],
        power_kw=power,
        duration_h=_up(p50) * hours,
        limit_h=_up(p90) * hours,
        limit_kw=[w.worst_power_kw for w in works],
        unplaced_cost=delay * float(edges_h[-1]) + _NO_PLACE * power * np.maximum(p50, 1.0) * hours * dearest,
        n_zones=rates.shape[0],
        n_slots=cuts.size - 1,
        latest_start=_slots_of([ask.latest for ask in asks], cuts),
        zones=_allowed(asks, rates.shape[0]),
        priority=[float(ask.workload.enforced) + 2.0 * ask.first for ask in asks],
        tenant_rank=np.maximum(excess, 0.0),
        delay_cost_per_h=delay,
        weighing=[kind_of.get(w.weights, 0) for w in works],
    )
    problem = Problem(edges_h=edges_h, zones=capacity.zones(rates, cuts), jobs=jobs, weighings=weighings)
    return _Draft(problem=problem, cuts=cuts, p50=p50, p90=p90)


def _allowed(asks: Sequence[Ask], n_zones: int) -> BoolArray:
    """Return which cells each may use, shape (J, Z)."""
    allowed = np.zeros((len(asks), n_zones), dtype=bool)
    for i, ask in enumerate(asks):
        allowed[i, list(ask.rows)] = True
    return allowed


def _slots_of(starts: Sequence[int], cuts: IntArray) -> IntArray:
    """Return the slots from `cuts` that starts on the axis fall in: the last one that does not begin after each."""
    found: IntArray = np.searchsorted(cuts, np.array(starts), side="right") - 1
    return found


def _bound(draft: _Draft, asks: Sequence[Ask], prices: Prices, grid: TimeGrid) -> float:
    """Return what no plan of this work emits less than, by prices that the solver found."""
    problem, hours = draft.problem, grid.step_s / 3600.0
    # Rounded down a run costs less, but also gives less: where that counts, its length is the true one.
    rounded = (lambda lengths: lengths) if problem.zones.wanted_kw.size else _down
    jobs = replace(
        problem.jobs,
        duration_h=np.maximum(rounded(draft.p50), _TINY_SLOTS) * hours,
        limit_h=np.maximum(rounded(draft.p90), _TINY_SLOTS) * hours,
        latest_start=_slots_of([ask.bound for ask in asks], draft.cuts),
        # The bound is about emissions alone.
        delay_cost_per_h=np.zeros(len(asks)),
        weighing=np.zeros(len(asks), dtype=np.int64),
    )
    # At its bound work is placed where nothing is free, too.
    return lower_bound(replace(problem, jobs=jobs), prices, overbooked=True)


def _up(slots: np.ndarray) -> np.ndarray:
    """Round up to quarters of a slot: few distinct lengths make few tables."""
    return np.maximum(np.ceil(slots * _QUARTER - 1e-9), 1.0) / _QUARTER


def _down(slots: np.ndarray) -> np.ndarray:
    return np.asarray(np.floor(slots * _QUARTER + 1e-9) / _QUARTER)
