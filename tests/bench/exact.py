# SPDX-License-Identifier: Apache-2.0
"""The planner's problem as a mixed-integer program for HiGHS: for instances of `random_instance` (whole slots).

A column for each run, each slot of pausable work in a zone, and each job without a place. A job's own polytope is the
hull of its runs, or of its slots by zone, so that the LP lies between the Lagrangian bound and the MILP. What is short
of wanted power is a column for each row and slot, and load and shortfall together reach it. One thing that the bound
knows beyond the LP: a gang never runs in a slot whose room is too small for it alone; such columns are left out.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_matrix

from embellie.planning.solving.problem import Problem


class Answer(NamedTuple):
    """What HiGHS found."""

    cost: float
    bound: float
    """No solution costs less."""
    slots: dict[int, tuple[int, np.ndarray]]
    """By job: its zone and its slots; jobs without a place are missing."""


class _Program:
    """Costs, rows and columns in the making."""

    def __init__(self, problem: Problem, room: np.ndarray) -> None:
        self.problem = problem
        self.cost: list[float] = []
        self.what: list[tuple[int, int, int, int]] = []
        """By column: job, zone, first slot, slot after the last; the job is -1 where nothing runs."""
        self.entries: list[tuple[int, int, float]] = []
        self.low, self.high = [-np.inf] * room.size, room.reshape(-1).tolist()
        self.most: list[float] = []
        zones, self.serves = problem.zones, problem.zones.serves()
        self.wanted = {where: self.row(float(kw), np.inf) for where, kw in np.ndenumerate(zones.wanted_kw)}
        for where, row in self.wanted.items():
            at = self.column(float(zones.wanted_cost_per_kwh[where]))
            self.most[at] = float(zones.wanted_kw[where])
            self.entries.append((row, at, 1.0))

    def row(self, least: float, most: float) -> int:
        self.low.append(least)
        self.high.append(most)
        return len(self.low) - 1

    def column(self, value: float, job: int = -1, zone: int = 0, first: int = 0, last: int = 0) -> int:
        mine, zones, slots = self.problem.jobs, self.problem.n_zones, self.problem.n_slots
        at = len(self.cost)
        self.cost.append(value)
        self.most.append(1.0)
        self.what.append((job, zone, first, last))
        for slot in range(first, last):
            self.entries.append((zone * slots + slot, at, mine.gpus[job]))
            self.entries.append(((zones + zone) * slots + slot, at, mine.limit_kw[job]))
            for row, share in self.serves[zone]:
                self.entries.append((self.wanted[row, slot], at, share * mine.power_kw[job]))
        return at

    def add(self, job: int) -> None:
        mine, zones = self.problem.jobs, self.problem.zones
        length, once = round(mine.duration_h[job]), self.row(1.0, 1.0)
        self.entries.append((once, self.column(mine.unplaced_cost[job]), 1.0))
        open_slots = (mine.gpus[job] <= zones.gpus) & (mine.limit_kw[job] <= zones.heat_kw)
        for zone in np.flatnonzero(mine.zones[job] & open_slots.any(axis=1)).tolist():
            rate = mine.power_kw[job] * zones.cost_per_kwh[zone]
            if mine.pausable[job]:
                filled, chosen = self.row(0.0, 0.0), self.column(0.0)
                self.entries += [(once, chosen, 1.0), (filled, chosen, -float(length))]
                for slot in range(mine.release[job], mine.deadline[job]):
                    if not open_slots[zone, slot]:
                        continue
                    link, at = self.row(-np.inf, 0.0), self.column(rate[slot], job, zone, slot, slot + 1)
                    self.entries += [(filled, at, 1.0), (link, at, 1.0), (link, chosen, -1.0)]
            else:
                for start in range(mine.release[job], mine.latest_start[job] + 1):
                    if not open_slots[zone, start : start + length].all():
                        continue
                    at = self.column(rate[start : start + length].sum(), job, zone, start, start + length)
                    self.entries.append((once, at, 1.0))


def solve_exactly(
    problem: Problem,
    *,
    integral: bool = True,
    gap: float = 1e-6,
    jobs: np.ndarray | None = None,
    free: np.ndarray | None = None,
    most_s: float = float("inf"),
) -> Answer | None:
    """Solve for all jobs, or for some in the room that others leave; None where time ran out without a solution.

    Args:
        problem: The instance.
        integral: False: the LP.
        gap: Relative gap at which the MILP may end.
        jobs: Rows of the jobs to place.
        free: What they may use: GPUs and heat, shape (2, Z, T).
        most_s: Wall time to end at.
    """
    room = np.stack([problem.zones.gpus, problem.zones.heat_kw]) if free is None else free
    program = _Program(problem, room)
    for job in range(problem.jobs.count) if jobs is None else jobs.tolist():
        program.add(job)
    rows, columns, values = zip(*program.entries, strict=True)
    shape = (len(program.low), len(program.cost))
    matrix = coo_matrix((values, (rows, columns)), shape=shape).tocsr()
    integrality = np.full(shape[1], int(integral))
    integrality[: len(program.wanted)] = 0
    found = milp(
        program.cost,
        constraints=LinearConstraint(matrix, program.low, program.high),
        integrality=integrality,
        bounds=Bounds(0.0, np.array(program.most)),
        options={"mip_rel_gap": gap} | ({"time_limit": most_s} if most_s < float("inf") else {}),
    )
    if found.x is None:
        return None
    slots: dict[int, tuple[int, list[int]]] = {}
    for at in np.flatnonzero(found.x > 0.5).tolist():
        job, zone, first, last = program.what[at]
        if job >= 0:
            slots.setdefault(job, (zone, []))[1].extend(range(first, last))
    bound = found.fun if not integral else found.mip_dual_bound
    return Answer(float(found.fun), float(bound), {j: (z, np.sort(np.array(s))) for j, (z, s) in slots.items()})
