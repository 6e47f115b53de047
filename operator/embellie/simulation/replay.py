# SPDX-License-Identifier: Apache-2.0
"""Event-driven replay of a job trace, first come first served: what a cluster does by itself.

Every job may start at once, in the order of submission, in any allowed cell with room for the whole gang (the emptiest
first); a gang that does not fit is overtaken by those that do.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from embellie.accounting import Run
from embellie.domain.snapshot import Flex
from embellie.simulation.model import SimJob, SimResult, SimSite
from embellie.simulation.nodes import NodePool

END, SUBMIT = 0, 1
"""Events of one instant are taken in this order; any other, of a replay built on this one, only asks what may start."""


def simulate(jobs: Sequence[SimJob], site: SimSite) -> SimResult:
    """Replay jobs on a site and return what ran when and where.

    Args:
        jobs: The trace, in any order; equal submission times are served by id.
        site: The cluster and its grids.
    """
    return Replay(jobs, site).run()


class Replay:
    """The state of a replay: time is in seconds since the first submission."""

    def __init__(self, jobs: Sequence[SimJob], site: SimSite) -> None:
        self.jobs = sorted(jobs, key=lambda job: (job.submit, job.id))
        self.pools = {cell.name: NodePool(cell.nodes, cell.gpus_per_node) for cell in site.cells}
        self.running: dict[int, tuple[str, float, list[int]]] = {}
        """Job -> its cell, its start and its seats."""
        self.events: list[tuple[float, int, int]] = []
        """A heap of (time, kind, job)."""
        self._origin = self.jobs[0].submit if self.jobs else datetime.min.replace(tzinfo=UTC)
        self._empty = {cell.name: NodePool(cell.nodes, cell.gpus_per_node) for cell in site.cells}
        self._grid_zone = {cell.name: cell.grid_zone for cell in site.cells}
        self._queues: dict[tuple[int, int, tuple[str, ...]], deque[tuple[int, int]]] = {}
        self._sequence = 0
        self._started: list[tuple[int, str, float]] = []
        self._never: list[str] = []

    def run(self) -> SimResult:
        """Let everything happen."""
        for index, job in enumerate(self.jobs):
            heapq.heappush(self.events, ((job.submit - self._origin).total_seconds(), SUBMIT, index))
        while self.events:
            now_s = self.events[0][0]
            while self.events and self.events[0][0] == now_s:
                _, kind, index = heapq.heappop(self.events)
                if kind == END:
                    cell, _, seats = self.running.pop(index)
                    self.pools[cell].give_back(seats, self.jobs[index].gpus_per_pod)
                elif kind == SUBMIT:
                    self.submit(index)
            self.drain(now_s)
        return self._result()

    def moment(self, seconds: float) -> datetime:
        """Return an instant of the replay as a time."""
        return self._origin + timedelta(seconds=seconds)

    def submit(self, index: int) -> None:
        """Take a job in."""
        job = self.jobs[index]
        cells = self.cells_for(job, job.allowed_cells)
        if cells:
            self.enqueue(index, cells)
        else:
            self._never.append(job.id)

    def cells_for(self, job: SimJob, allowed: frozenset[str] | None) -> tuple[str, ...]:
        """Return the allowed cells that could seat the whole gang when empty."""
        names = sorted(self.pools if allowed is None else allowed & self.pools.keys())
        return tuple(name for name in names if self._empty[name].fits(job.pods, job.gpus_per_pod))

    def enqueue(self, index: int, cells: tuple[str, ...]) -> None:
        """Let a job start as soon as one of these cells has room for it."""
        job = self.jobs[index]
        queue = self._queues.setdefault((job.pods, job.gpus_per_pod, cells), deque())
        queue.append((self._sequence, index))
        self._sequence += 1

    def drain(self, now_s: float) -> None:
        """Start what fits, oldest first; a shape that did not fit cannot fit again before something ends."""
        heads = [(queue[0][0], shape) for shape, queue in self._queues.items() if queue]
        heapq.heapify(heads)
        while heads:
            _, shape = heapq.heappop(heads)
            pods, gpus_per_pod, cells = shape
            open_cells = [name for name in cells if self.pools[name].fits(pods, gpus_per_pod)]
            if not open_cells:
                continue
            queue = self._queues[shape]
            _, index = queue.popleft()
            self._start(index, max(open_cells, key=lambda name: (self.pools[name].free_gpus, name)), now_s)
            if queue:
                heapq.heappush(heads, (queue[0][0], shape))
            else:
                del self._queues[shape]

    def _start(self, index: int, cell: str, now_s: float) -> None:
        job = self.jobs[index]
        seats = self.pools[cell].take(job.pods, job.gpus_per_pod)
        self.running[index] = (cell, now_s, seats)
        self._started.append((index, cell, now_s))
        heapq.heappush(self.events, (now_s + max(0.0, job.duration_s), END, index))

    def _result(self) -> SimResult:
        runs = []
        for index, cell, start_s in self._started:
            job = self.jobs[index]
            start = self.moment(start_s)
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
        )
