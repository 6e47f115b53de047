# SPDX-License-Identifier: Apache-2.0
"""The plan of a turn: all free workloads planned together, then each decision with its reason.

What has reached its bound, or must start for another reason, goes first and takes its room; then what may not wait for
cleaner hours because room before the bounds runs short (`rush`), each at the first open start. All others are planned
as one problem (`joint`): prices on GPUs, power and heat share clean hours and scarce room among them. Then, first come
first served, each takes the cheapest start that is open, its own place counting as open, where that saves what its
policy asks against the first open start; else that first one. Hard limits come first: only open starts count. Shadow
workloads come last and take no room from held ones.

What a heat network is owed and does not get counts as what it burns instead, and work that uses its site's own sun and
wind as what it then emits, in the plan and in its bound.

A run that would leave the forecast's horizon is valued at the mean of the last day, and a start whose run leaves it is
never preferred for its emissions: hours that nobody has forecast save nothing.

`likely_start_p90` of a held workload is the latest open start whose run could still turn out as good as the planned
one: whose low estimate is not above the planned start's expected emissions. It never lies after `latest_start`.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from embellie.domain.plan import Decision, Estimate, Plan, PriceBook
from embellie.domain.snapshot import Snapshot, Workload, WorkloadKey
from embellie.planning.axis.timegrid import TimeGrid, time_grid
from embellie.planning.choice import Chooser
from embellie.planning.decisions import respect_held_fraction
from embellie.planning.ground import Ground
from embellie.planning.joint import Ask, Joint, plan_together
from embellie.planning.rush import pressing

_RETRIES = 3
_MOST_TO_RETRY = 2000
"""With more workloads a second plan would take longer than a turn has."""


def plan(snapshot: Snapshot, before: PriceBook | None = None) -> Plan:
    """Decide for every workload of a snapshot: hold until when, or start now and where.

    `before` are the prices of the last plan, `Plan.prices`; they make this one better for the same work, no more.
    """
    # Where prices are a tie, which row is called the dearest would else depend on the order in which cells are listed.
    snapshot = replace(snapshot, cells=tuple(sorted(snapshot.cells, key=lambda cell: cell.name)))
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
        self._snapshot, self._grid, self._before = snapshot, grid, before
        self._ground = Ground(snapshot, grid)
        self._chooser = Chooser(self._ground, self._hurried)
        self._decisions: dict[WorkloadKey, Decision] = {}

    def run(self) -> Plan:
        ordered = sorted(self._snapshot.workloads, key=self._order)
        free: list[Workload] = []
        settled: list[Workload] = []
        for w in ordered:
            (free if self._is_free(w) else settled).append(w)
        at_once = [w for w in settled if w.enforced]
        pressed = {w.key: w for w in free if w.key in self._hurried}
        for w in (*at_once, *(pressed[key] for key in self._hurried if key in pressed)):
            self._decisions[w.key] = self._chooser.decide(w)
        free = [w for w in free if w.key not in pressed]
        # Shadow workloads join only where there is nothing else to plan.
        joined = [w for w in free if w.enforced] or free
        together = {w.key for w in joined}
        joint = self._propose(joined) if joined else None
        after = [w for w in ordered if w.key in together or w.key not in self._decisions]
        for w in after:
            self._decisions[w.key] = self._chooser.decide(w)
        self.no_room = frozenset(self._chooser.beyond)
        released = self._release_beyond_the_ceiling()
        decisions = tuple(self._decisions[w.key] for w in self._snapshot.workloads)
        wanted = self._ground.capacity.wants.settled_g()
        objective = math.fsum([*(_by_grid(d.best) for d in decisions if d.best is not None), wanted])
        bound = self._bound(joined, after, joint, objective - wanted, released) if joint is not None else None
        return Plan(
            decisions=decisions,
            objective_g=objective,
            lower_bound_g=bound,
            prices=replace(joint.prices, first=self.first) if joint is not None else None,
            jain=self._ground.standing.jain,
        )

    def _release_beyond_the_ceiling(self) -> set[WorkloadKey]:
        """Release what policies may not hold; its power is drawn now."""
        planned = dict(self._decisions)
        released = respect_held_fraction(self._snapshot, self._decisions)
        wants = self._ground.capacity.wants
        for w in self._snapshot.workloads:
            cell = planned[w.key].cell
            if w.key in released and cell is not None:
                row = self._ground.row_of[cell]
                wants.serve(w, row, round(self._grid.slots(planned[w.key].start)), sign=-1)
                wants.serve(w, row, 0)
        return released

    def _is_free(self, w: Workload) -> bool:
        return w.start_now is None and not self._ground.at_bound(w) and bool(self._ground.allowed(w))

    def _propose(self, workloads: list[Workload]) -> Joint:
        """Plan workloads together, and pencil their places in."""
        ground = self._ground
        asks = []
        for w in workloads:
            rows, bound = ground.allowed(w), ground.candidates(w)
            comparable = ground.comparable(rows)
            asks.append(
                Ask(
                    workload=w,
                    rows=comparable or rows,
                    bound=bound,
                    latest=ground.worth(w, bound) if comparable else 0,
                    excess=ground.excess_of[w.key],
                    first=w.key in self.first,
                )
            )
        joint = plan_together(asks, ground.capacity, ground.costs, self._grid, self._before)
        ground.scarcity = joint.scarcity
        for i, (row, candidate) in joint.places.items():
            ground.proposed[workloads[i].key] = (row, candidate)
            ground.capacity.pencil_in(workloads[i], row, candidate)
        return joint

    def _bound(
        self, workloads: list[Workload], after: list[Workload], joint: Joint, emitted: float, released: set[WorkloadKey]
    ) -> float | None:
        """Return a bound of the whole objective: what is not planned together counts as it was decided.

        A workload that found no room waits to its bound, over capacity: in the bound it counts its penalty, here its
        emissions, so the difference is taken off. So is all that its power could spare where it is wanted, and that of
        what was decided after the joint plan without being part of it, or released after all.
        """
        told = [_by_grid(best) for w in workloads if (best := self._decisions[w.key].best) is not None]
        # Who found room only where the signal is not known has no emissions to compare.
        if joint.bound_g is None or len(told) < len(workloads):
            return None
        mine = math.fsum(told)
        beyond, together = self._chooser.beyond | released, {w.key for w in workloads}
        over = math.fsum(joint.penalty_g[i] for i, w in enumerate(workloads) if w.key in beyond)
        wants = self._ground.capacity.wants
        moved = released | {w.key for w in after if w.key in beyond or w.key not in together}
        over += math.fsum(wants.most_spared_g(w) for w in self._snapshot.workloads if w.key in moved)
        # The solver counts what is left of the site's own power as a cost; the plan counts what is used as a saving.
        return max(0.0, emitted - mine + joint.bound_g - over - wants.offered_g)

    def _order(self, w: Workload) -> tuple[bool, int, datetime, datetime, str, str, str, str]:
        at_bound = self._ground.at_bound(w)
        rank = 0 if at_bound else 1 if w.start_now is not None else 2
        first = w.latest_start if at_bound else w.created_at
        return not w.enforced, rank, first, w.created_at, w.key.namespace, w.key.name, w.key.kind, w.key.uid


def _by_grid(estimate: Estimate) -> float:
    """Return what a run would emit by the grid alone: what its site's own power spares is told by the rows."""
    return estimate.expected_g + estimate.on_site_g
