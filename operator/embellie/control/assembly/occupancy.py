# SPDX-License-Identifier: Apache-2.0
"""Who holds which GPUs: bound pods, and work that was released and is still on its way to a node. Pure."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from embellie.api.gridzone import GridZoneSpec
from embellie.cluster.records import PodRecord, WorkloadRecord
from embellie.control.assembly.inputs import Inputs
from embellie.control.assembly.layout import CellNodes, Layout
from embellie.control.work.durations import Duration, expected_ends
from embellie.control.work.terms import read_watts
from embellie.domain import names
from embellie.domain.snapshot import Cell, RunningGang
from embellie.domain.times import parse_time
from embellie.thermal.job_power import WORST_SAMPLES
from embellie.thermal.power import added_power_kw, worst_added_power_kw

_METERED_FOR = timedelta(minutes=WORST_SAMPLES)
"""So long a pod must have run before what was metered under its name can be its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupancy:
    """Cells with what is free in them, and the gangs that hold the rest."""

    cells: tuple[Cell, ...]
    running: tuple[RunningGang, ...]


def expected_kw(gpus: int, watts_per_gpu: float, spec: GridZoneSpec) -> float:
    """IT power that `gpus` working at `watts_per_gpu` add to nodes that idle [kW]."""
    return added_power_kw(gpus, watts_per_gpu, spec.gpu_idle_power_watts, spec.host_overhead_percent)


def worst_kw(gpus: int, spec: GridZoneSpec, learnt_w: float | None = None) -> float:
    """The same at the worst case [kW]: rated, or less where the class of the work is known (`learnt_w` of a GPU)."""
    return worst_added_power_kw(
        gpus,
        spec.gpu_rated_power_watts,
        spec.gpu_idle_power_watts,
        spec.host_overhead_percent,
        learnt_worst_watts_per_gpu=learnt_w,
    )


def watts_or(text: str, default: float) -> float:
    """Read an `embellie.io/watts-per-gpu` annotation [W]; the default for anything absurd."""
    try:
        return read_watts(text)
    except ValueError:
        return default


def occupancy(
    inputs: Inputs,
    layout: Layout,
    from_wall: Callable[[datetime], datetime],
    now: datetime,
    duration_of: Callable[[WorkloadRecord | None], Duration],
) -> Occupancy:
    """Count what is free and what runs, per cell; `now` and the ends are in the operator's clock.

    Pods of a released workload that are not bound yet are taken off the cell that the release named, so that a turn
    never gives the same GPUs away twice. Of releases that the watch has not shown yet the cells are known; for the rest
    the annotation is believed only on workloads that we have planned.
    """
    book = _Book(inputs, layout, from_wall, now, duration_of)
    workloads = {w.key.uid: w for w in inputs.view.workloads}
    bound: dict[str, int] = defaultdict(int)
    for pod in inputs.view.pods:
        if pod.node:
            bound[_owner_uid(pod)] += pod.gpus
            book.take(pod, workloads.get(_owner_uid(pod)))
    for workload in inputs.view.workloads:
        uid = workload.key.uid
        if uid in inputs.in_flight:
            book.reserve(workload, inputs.in_flight[uid], bound[uid])
        elif uid in inputs.bounds and not workload.waiting:
            book.reserve(workload, workload.annotations.get(names.CELL, ""), bound[uid])
    return book.result()


def _owner_uid(pod: PodRecord) -> str:
    return pod.job_uid or pod.uid


@dataclass(slots=True)
class _Gang:
    gpus: int
    watts: float
    started_at: datetime
    duration: Duration
    worst_w: float | None
    """What a GPU may draw at worst, as learnt [W]; None until its class is known."""


class _Book:
    """Free GPUs by node and gangs by (cell, workload uid), while they are counted."""

    def __init__(
        self,
        inputs: Inputs,
        layout: Layout,
        from_wall: Callable[[datetime], datetime],
        now: datetime,
        duration_of: Callable[[WorkloadRecord | None], Duration],
    ) -> None:
        self._learnt = inputs.learnt
        self._layout = layout
        self._cells = {cell.name: cell for cell in layout.cells}
        self._specs = {zone.metadata.name: zone.spec for zone in inputs.grid_zones}
        self._from_wall = from_wall
        self._now = now
        self._duration_of = duration_of
        self._free = {node.name: node.gpus for cell in layout.cells for node in cell.nodes}
        self._gangs: dict[tuple[str, str], _Gang] = {}
        self._full_until: dict[str, int] = {}
        """By cell, how many of its first nodes have nothing left for reservations (these come after all bound pods)."""

    def take(self, pod: PodRecord, owner: WorkloadRecord | None) -> None:
        """Count one bound pod; pods on nodes outside every cell are none of our business."""
        cell = self._layout.cell_of_node.get(pod.node)
        if cell is None:
            return
        self._free[pod.node] -= pod.gpus
        started = self._from_wall(pod.started_at or pod.created_at)
        gang = self._gangs.get((cell, _owner_uid(pod)))
        if gang is None:
            stated = pod.watts_per_gpu or (owner.annotations.get(names.WATTS_PER_GPU, "") if owner else "")
            # A pod of that name that is younger than what was metered is another one.
            metered = pod.name if self._now - started >= _METERED_FOR else ""
            watts, worst_w = self._watts(pod.namespace, pod.name, stated, cell, metered)
            self._gangs[cell, _owner_uid(pod)] = _Gang(pod.gpus, watts, started, self._duration_of(owner), worst_w)
        else:
            gang.gpus += pod.gpus
            gang.started_at = min(gang.started_at, started)

    def reserve(self, workload: WorkloadRecord, cell_name: str, bound_gpus: int) -> None:
        """Take what a released workload still waits for off the cell that its release named."""
        cell = self._cells.get(cell_name)
        waiting_gpus = workload.pods_left * workload.gpus_per_pod - bound_gpus
        if cell is None or workload.finished or waiting_gpus <= 0:
            return
        self._seat(cell, waiting_gpus)
        gang = self._gangs.get((cell.name, workload.key.uid))
        if gang is not None:
            gang.gpus += waiting_gpus
            return
        stated = workload.annotations.get(names.WATTS_PER_GPU, "")
        watts, worst_w = self._watts(workload.key.namespace, workload.key.name, stated, cell.name)
        released_at = parse_time(workload.annotations.get(names.RELEASED_AT)) or self._now
        self._gangs[cell.name, workload.key.uid] = _Gang(
            waiting_gpus, watts, min(released_at, self._now), self._duration_of(workload), worst_w
        )

    def _seat(self, cell: CellNodes, gpus: int) -> None:
        """Take GPUs off the first nodes of a cell that have some free, as many as there are."""
        at = self._full_until.get(cell.name, 0)
        while gpus > 0 and at < len(cell.nodes):
            node = cell.nodes[at]
            seats = min(gpus, max(0, self._free[node.name])) if node.schedulable else 0
            self._free[node.name] -= seats
            gpus -= seats
            at += gpus > 0
        self._full_until[cell.name] = at

    def _watts(
        self, namespace: str, name: str, stated: str, cell: str, metered: str = ""
    ) -> tuple[float, float | None]:
        """Return what a GPU of such work draws, expected and at worst [W]: as learnt, else as declared.

        `metered` is the pod that has run long enough to be known itself.
        """
        known = self._learnt.class_power(namespace, name)
        if known is None:
            return watts_or(stated, self._spec(cell).gpu_rated_power_watts), None
        return known.mean_w, known.worst_w(metered)

    def result(self) -> Occupancy:
        """Return the count."""
        return Occupancy(
            cells=tuple(self._cell(cell) for cell in self._layout.cells),
            running=tuple(self._running(cell, uid, gang) for (cell, uid), gang in self._gangs.items()),
        )

    def _running(self, cell: str, uid: str, gang: _Gang) -> RunningGang:
        p50, p90 = expected_ends(gang.started_at, gang.duration, self._now)
        return RunningGang(
            cell=cell,
            gpus=gang.gpus,
            power_kw=expected_kw(gang.gpus, gang.watts, self._spec(cell)),
            worst_power_kw=worst_kw(gang.gpus, self._spec(cell), gang.worst_w),
            expected_end_p50=p50,
            expected_end_p90=p90,
            started_at=gang.started_at,
            uid=uid,
            length_stated=gang.duration.stated,
            overrun=gang.duration.overrun,
        )

    def _spec(self, cell: str) -> GridZoneSpec:
        return self._specs[self._cells[cell].grid_zone]

    def _cell(self, cell: CellNodes) -> Cell:
        schedulable = [n for n in cell.nodes if n.schedulable]
        return Cell(
            name=cell.name,
            grid_zone=cell.grid_zone,
            thermal_zone=cell.thermal_zone,
            gpus_total=sum(n.gpus for n in schedulable),
            node_free_gpus=tuple(max(0, self._free[n.name]) for n in schedulable),
            pue=self._specs[cell.grid_zone].power_usage_effectiveness_percent / 100.0,
        )
