# SPDX-License-Identifier: Apache-2.0
"""Event-driven replay of a job trace through a policy.

`fifo`: what a cluster does by itself. Every job may start at once, in the order of submission, in any allowed cell
with room for the whole gang (the emptiest first); a gang that does not fit is overtaken by those that do.

`embellie`: jobs that are not rigid are held at submission; each turn makes a snapshot, plans, shields and releases,
with the operator's own code. What is released then starts as under `fifo`, in its cell.
"""

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from embellie.accounting import Run
from embellie.domain.forecast import Forecast
from embellie.domain.plan import Action
from embellie.domain.snapshot import Flex
from embellie.planning import plan
from embellie.simulation.model import SimJob, SimResult, SimSite
from embellie.simulation.nodes import NodePool
from embellie.simulation.view import SiteView, perfect_forecast
from embellie.thermal import shield

ForecastAt = Callable[[str, datetime], Forecast | None]
POLICIES = ("fifo", "embellie")

_END, _SUBMIT, _TURN = 0, 1, 2


def simulate(
    jobs: Sequence[SimJob],
    site: SimSite,
    policy: str = "fifo",
    *,
    turn_s: float = 900.0,
    forecast_at: ForecastAt | None = None,
) -> SimResult:
    """Replay jobs on a site and return what ran when and where.

    Args:
        jobs: The trace, in any order; equal submission times are served by id.
        site: The cluster and its grids.
        policy: `fifo` or `embellie`.
        turn_s: Time between two turns [s]; an arrival also brings a turn. Only for `embellie`.
        forecast_at: What was known of a grid zone at a time; None gives perfect foresight, 48 hours ahead.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    return _Replay(jobs, site, policy == "embellie", turn_s, forecast_at or perfect_forecast(site)).run()


class _Replay:
    """The state of a replay: time is in seconds since the first submission."""

    def __init__(
        self, jobs: Sequence[SimJob], site: SimSite, plans: bool, turn_s: float, forecast_at: ForecastAt
    ) -> None:
        self._jobs = sorted(jobs, key=lambda job: (job.submit, job.id))
        self._plans = plans
        self._turn_s = turn_s
        self._origin = self._jobs[0].submit if self._jobs else datetime.min.replace(tzinfo=UTC)
        self._view = SiteView(site, forecast_at, turn_s)
        self._pools = {cell.name: NodePool(cell.nodes, cell.gpus_per_node) for cell in site.cells}
        self._empty = {cell.name: NodePool(cell.nodes, cell.gpus_per_node) for cell in site.cells}
        self._grid_zone = {cell.name: cell.grid_zone for cell in site.cells}
        self._events: list[tuple[float, int, int]] = []
        self._queues: dict[tuple[int, int, tuple[str, ...]], deque[tuple[int, int]]] = {}
        self._sequence = 0
        self._held: dict[str, int] = {}
        self._running: dict[int, tuple[str, float, list[int]]] = {}
        self._next_turn: float | None = None
        self._started: list[tuple[int, str, float]] = []
        self._never: list[str] = []
        self._turns = 0

    def run(self) -> SimResult:
        for index, job in enumerate(self._jobs):
            heapq.heappush(self._events, (self._seconds(job.submit), _SUBMIT, index))
        while self._events:
            now_s = self._events[0][0]
            turn_due = False
            while self._events and self._events[0][0] == now_s:
                _, kind, index = heapq.heappop(self._events)
                if kind == _END:
                    cell, _, seats = self._running.pop(index)
                    self._pools[cell].give_back(seats, self._jobs[index].gpus_per_pod)
                elif kind == _SUBMIT:
                    turn_due |= self._submit(index)
                else:
                    turn_due = True
            self._drain(now_s)
            if turn_due and self._held:
                self._turn(now_s)
                self._drain(now_s)
        return self._result()

    def _seconds(self, moment: datetime) -> float:
        return (moment - self._origin).total_seconds()

    def _moment(self, seconds: float) -> datetime:
        return self._origin + timedelta(seconds=seconds)

    def _submit(self, index: int) -> bool:
        """Take a job in; return whether it is held and so wants a turn."""
        job = self._jobs[index]
        cells = self._cells_for(job, job.allowed_cells)
        if not cells:
            self._never.append(job.id)
            return False
        if self._plans and job.flex is not Flex.RIGID:
            self._held[job.id] = index
            return True
        self._enqueue(index, cells)
        return False

    def _cells_for(self, job: SimJob, allowed: frozenset[str] | None) -> tuple[str, ...]:
        """Return the allowed cells that could seat the whole gang when empty."""
        names = sorted(self._pools if allowed is None else allowed & self._pools.keys())
        return tuple(name for name in names if self._empty[name].fits(job.pods, job.gpus_per_pod))

    def _enqueue(self, index: int, cells: tuple[str, ...]) -> None:
        job = self._jobs[index]
        queue = self._queues.setdefault((job.pods, job.gpus_per_pod, cells), deque())
        queue.append((self._sequence, index))
        self._sequence += 1

    def _drain(self, now_s: float) -> None:
        """Start what fits, oldest first; a shape that did not fit cannot fit again before something ends."""
        heads = [(queue[0][0], shape) for shape, queue in self._queues.items() if queue]
        heapq.heapify(heads)
        while heads:
            _, shape = heapq.heappop(heads)
            pods, gpus_per_pod, cells = shape
            open_cells = [name for name in cells if self._pools[name].fits(pods, gpus_per_pod)]
            if not open_cells:
                continue
            queue = self._queues[shape]
            _, index = queue.popleft()
            self._start(index, max(open_cells, key=lambda name: (self._pools[name].free_gpus, name)), now_s)
            if queue:
                heapq.heappush(heads, (queue[0][0], shape))
            else:
                del self._queues[shape]

    def _start(self, index: int, cell: str, now_s: float) -> None:
        job = self._jobs[index]
        seats = self._pools[cell].take(job.pods, job.gpus_per_pod)
        self._running[index] = (cell, now_s, seats)
        self._started.append((index, cell, now_s))
        heapq.heappush(self._events, (now_s + max(0.0, job.duration_s), _END, index))

    def _turn(self, now_s: float) -> None:
        self._turns += 1
        now = self._moment(now_s)
        held = [self._jobs[index] for index in self._held.values()]
        running = [
            (self._jobs[index], cell, self._moment(start_s)) for index, (cell, start_s, _) in self._running.items()
        ]
        free = {name: pool.node_free_gpus for name, pool in self._pools.items()}
        snapshot = self._view.snapshot(now, held, running, free)
        for decision in shield(plan(snapshot), snapshot).decisions:
            if decision.action is Action.HOLD:
                continue
            index = self._held.pop(decision.key.name)
            job = self._jobs[index]
            cells = self._cells_for(job, frozenset({decision.cell}) if decision.cell else job.allowed_cells)
            self._enqueue(index, cells or self._cells_for(job, job.allowed_cells))
        coming = now_s + self._turn_s
        if self._held and (self._next_turn is None or self._next_turn <= now_s):
            self._next_turn = coming
            heapq.heappush(self._events, (coming, _TURN, -1))

    def _result(self) -> SimResult:
        runs = []
        for index, cell, start_s in self._started:
            job = self._jobs[index]
            start = self._moment(start_s)
            runs.append(
                Run(
                    job=job.id,
                    zone=self._grid_zone[cell],
                    submitted_at=job.submit,
                    start=start,
                    end=start + timedelta(seconds=max(0.0, job.duration_s)),
                    gpus=job.gpus,
                    power_kw=job.power_kw,
                    latest_start=None if job.flex is Flex.RIGID else job.latest_start,
                )
            )
        return SimResult(
            runs=tuple(runs),
            cells=tuple(cell for _, cell, _ in self._started),
            never_started=tuple(self._never),
            turns=self._turns,
        )
