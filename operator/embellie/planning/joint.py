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

from embellie.domain.plan import PriceBook
from embellie.domain.snapshot import Workload
from embellie.planning.axis.capacity import Capacity
from embellie.planning.axis.scarcity import Scarcity
from embellie.planning.axis.timegrid import CostModel, TimeGrid
from embellie.planning.fairness import WAIT_PRICE
from embellie.planning.solving.bound import lower_bound
from embellie.planning.solving.inputs import make_jobs, no_prices, shifted
from embellie.planning.solving.problem import IntArray, Prices, Problem
from embellie.planning.solving.solver import Effort, solve

_FINE, _DOUBLE_AFTER = 192, 24
_QUARTER = 4.0
_NO_PLACE = 4.0
"""A workload without a place pays so many times its dearest hours: room is never left to emit less."""
_SMALL, _MIDDLE = 300, 2000


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
    workloads: Sequence[Workload],
    rows: Sequence[Sequence[int]],
    candidates: Sequence[int],
    latest: Sequence[int],
    capacity: Capacity,
    costs: CostModel,
    grid: TimeGrid,
    n_slots: int,
    before: PriceBook | None,
    excess: Sequence[float],
    first: Sequence[bool],
) -> Joint:
    """Propose a place for each workload.

    Args:
        workloads: In the order in which they came.
        rows: Cells that each may use.
        candidates: Last start of each inside its bound.
        latest: Last start of each that is worth waiting for (inside the forecast); at most `candidates`.
        capacity: What is free.
        costs: What hours emit.
        grid: The axis.
        n_slots: Its length.
        before: Prices of the last plan.
        excess: What the tenant of each got beyond its waiting (`fairness`), -1..1.
        first: Which go first where room is short.
    """
    cuts = slot_edges(n_slots)
    hours = grid.step_s / 3600.0
    edges_h = (np.maximum(cuts, grid.phase) - grid.phase) * hours
    rates = costs.rates(cuts)
    others = sorted({w.weights for w in workloads if not w.weights.carbon_only}, key=astuple)
    weighings = np.stack([costs.rates(cuts, weights) for weights in others]) if others else None
    kind_of = {weights: 1 + i for i, weights in enumerate(others)}
    zones = capacity.zones(rates, cuts)
    n_zones = rates.shape[0]
    allowed = np.zeros((len(workloads), n_zones), dtype=bool)
    for i, mine in enumerate(rows):
        allowed[i, list(mine)] = True
    p50 = np.array([w.duration_p50_s for w in workloads]) / grid.step_s
    p90 = np.maximum(np.array([w.duration_p90_s for w in workloads]) / grid.step_s, p50)
    power = np.array([w.power_kw for w in workloads])
    # Slots from `cuts`: the last one that does not begin after the bound.
    last = np.searchsorted(cuts, np.array(latest), side="right") - 1
    bound_last = np.searchsorted(cuts, np.array(candidates), side="right") - 1
    ahead = np.array(excess, dtype=np.float64)
    delay = np.maximum(-ahead, 0.0) * WAIT_PRICE * costs.mean_g_per_kwh * power
    dearest = max(1.0, *(float(np.abs(part).max()) for part in (rates, weighings) if part is not None))
    penalty = delay * float(edges_h[-1]) + _NO_PLACE * power * np.maximum(p50, 1.0) * hours * dearest
    jobs = make_jobs(
        gpus=[w.gpus for w in workloads],
        power_kw=power,
        duration_h=_up(p50) * hours,
        limit_h=_up(p90) * hours,
        limit_kw=[w.worst_power_kw for w in workloads],
        unplaced_cost=penalty,
        n_zones=n_zones,
        n_slots=cuts.size - 1,
        latest_start=last,
        zones=allowed,
        priority=[float(w.enforced) + 2.0 * ahead_of for w, ahead_of in zip(workloads, first, strict=True)],
        tenant_rank=np.maximum(ahead, 0.0),
        delay_cost_per_h=delay,
        weighing=[kind_of.get(w.weights, 0) for w in workloads],
    )
    problem = Problem(edges_h=edges_h, zones=zones, jobs=jobs, weighings=weighings)
    warm = _from_book(before, problem, grid, costs.names, capacity.wants.names)
    found = solve(
        problem,
        budget_s=math.inf,
        clock=lambda: 0.0,
        warm=warm,
        effort=effort_for(len(workloads), warm=warm is not None),
    )
    bound = None
    # Slots taken together hide starts and hours from the problem, so that nothing is proved about them.
    if n_slots <= _FINE and all(costs.known[row] for mine in rows for row in mine):
        # Rounded down a run costs less, but also gives less: where that counts, its length is the true one.
        rounded = (lambda lengths: lengths) if zones.wanted_kw.size else _down
        short = replace(
            jobs,
            duration_h=np.maximum(rounded(p50), _TINY_SLOTS) * hours,
            limit_h=np.maximum(rounded(p90), _TINY_SLOTS) * hours,
            latest_start=bound_last,
            # The bound is about emissions alone.
            delay_cost_per_h=np.zeros(len(workloads)),
            weighing=np.zeros(len(workloads), dtype=np.int64),
        )
        # At its bound work is placed where nothing is free, too.
        bound = lower_bound(replace(problem, jobs=short), found.prices, overbooked=True)
    placed = np.flatnonzero(found.zone >= 0)
    return Joint(
        places={int(i): (int(found.zone[i]), int(cuts[found.start[i]])) for i in placed},
        prices=_to_book(found.prices, problem, grid, costs.names, capacity.wants.names),
        bound_g=bound,
        penalty_g=tuple(penalty.tolist()),
        scarcity=Scarcity(found.prices, zones, cuts, grid),
    )


_TINY_SLOTS = 1e-3


def _up(slots: np.ndarray) -> np.ndarray:
    """Round up to quarters of a slot: few distinct lengths make few tables."""
    return np.maximum(np.ceil(slots * _QUARTER - 1e-9), 1.0) / _QUARTER


def _down(slots: np.ndarray) -> np.ndarray:
    return np.asarray(np.floor(slots * _QUARTER + 1e-9) / _QUARTER)


def _leaders(group: IntArray, names: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for zone, row in enumerate(group):
        if row >= 0 and int(row) not in found.values():
            found[names[zone]] = int(row)
    return found


def _to_book(prices: Prices, problem: Problem, grid: TimeGrid, names: Sequence[str], wants: Sequence[str]) -> PriceBook:
    return PriceBook(
        now=grid.now,
        edges_h=problem.edges_h,
        gpu={name: prices.gpu[z] for z, name in enumerate(names)},
        power={name: prices.power[row] for name, row in _leaders(problem.zones.power_group, names).items()},
        heat={name: prices.heat[row] for name, row in _leaders(problem.zones.heat_group, names).items()},
        wanted=dict(zip(wants, prices.wanted, strict=True)),
    )


def _from_book(
    book: PriceBook | None, problem: Problem, grid: TimeGrid, names: Sequence[str], wants: Sequence[str]
) -> Prices | None:
    """Return the last plan's prices on today's axis; None where there are none or they are of another day."""
    elapsed_h = (grid.now - book.now).total_seconds() / 3600.0 if book is not None else math.inf
    if book is None or not 0.0 <= elapsed_h < float(book.edges_h[-1]):
        return None
    blank = no_prices(problem)
    slots = book.edges_h.size - 1
    old = Prices(
        gpu=np.zeros((len(names), slots)),
        power=np.zeros((blank.power.shape[0], slots)),
        heat=np.zeros((blank.heat.shape[0], slots)),
        wanted=np.zeros((blank.wanted.shape[0], slots)),
    )
    for rows, told, places in (
        (old.gpu, book.gpu, dict(zip(names, range(len(names)), strict=True))),
        (old.power, book.power, _leaders(problem.zones.power_group, names)),
        (old.heat, book.heat, _leaders(problem.zones.heat_group, names)),
        (old.wanted, book.wanted, {name: row for row, name in enumerate(wants)}),
    ):
        for name, row in places.items():
            if name in told:
                rows[row] = told[name]
    moved = shifted(old, book.edges_h, problem.edges_h, elapsed_h)
    zones = problem.zones
    return Prices(
        gpu=moved.gpu,
        power=np.where(np.isfinite(zones.power_kw), moved.power, 0.0),
        heat=np.where(np.isfinite(zones.heat_kw), moved.heat, 0.0),
        wanted=moved.wanted,
    )
