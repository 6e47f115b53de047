# SPDX-License-Identifier: Apache-2.0
"""One replay's question: these arrivals, with these true lengths, on so many GPUs, under this intensity."""

from dataclasses import dataclass

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.simulation.whatif.axis import Axis, BoolArray, IntArray
from embellie.simulation.whatif.onsite import OnSite


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """Jobs, sorted by arrival; every array has shape (jobs,)."""

    ids: tuple[str, ...]
    tenants: tuple[str, ...]
    kinds: tuple[str, ...]
    arrival: IntArray
    """[ticks]"""
    length: IntArray
    """True length, at least 1 [ticks]."""
    wait: IntArray
    """Most waiting in all, before the start and in pauses [ticks]."""
    gpus: FloatArray
    power_kw: FloatArray
    """IT power while it runs, its share of the node included [kW]."""
    pausable: BoolArray

    @property
    def count(self) -> int:
        """How many jobs there are."""
        return int(self.arrival.size)

    def take(self, rows: BoolArray | IntArray) -> "Work":
        """Return some of the jobs."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return Work(
            ids=tuple(self.ids[i] for i in index),
            tenants=tuple(self.tenants[i] for i in index),
            kinds=tuple(self.kinds[i] for i in index),
            arrival=self.arrival[index],
            length=self.length[index],
            wait=self.wait[index],
            gpus=self.gpus[index],
            power_kw=self.power_kw[index],
            pausable=self.pausable[index],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the work runs on."""

    capacity_gpus: float | None = None
    """None: as many GPUs as anybody wants."""
    idle_kw_per_gpu: float = 0.0
    """What a GPU with its share of the node draws without work [kW]; counted where the capacity is known."""
    pue: float = 1.0
    embodied_g_per_gpu_h: float = 0.0
    """Emissions of making the GPU and its share of the node, spread over its service life [g per GPU-hour]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """When jobs ran: parts of runs, by job and time."""

    job: IntArray
    """Row of the job in `Work`, shape (parts,)."""
    start: IntArray
    """[ticks]"""
    end: IntArray
    """[ticks]"""

    def finish(self, count: int) -> IntArray:
        """Return when each job ended [ticks], -1 for jobs that never ran, shape (count,)."""
        finish = np.full(count, -1, dtype=np.int64)
        np.maximum.at(finish, self.job, self.end)
        return finish


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """A replay's whole input."""

    work: Work
    axis: Axis
    site: Site
    on_site: OnSite | None = None
    """Needs a capacity: what idles uses its own power, too."""
