# SPDX-License-Identifier: Apache-2.0
"""Wanted power on the plan's axis: what is still short of it, and what starts give.

Running and planned work counts with its expected power over its expected (P50) duration, to the end and not beyond.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.domain.snapshot import Workload
from embellie.planning.axis.timegrid import TimeGrid
from embellie.planning.solving.problem import BoolArray, IntArray

EXPECTED, LOW, HIGH = range(3)
"""Cases: what is expected, and what makes the emissions of a run lowest and highest."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Want:
    """Power that is wanted, beside what nodes draw without work and what runs already. T slots."""

    name: str
    on_site: bool
    """True: it is the site's own, and spares the run itself; False: it spares somebody else."""
    kw: FloatArray
    """By case, shape (3, T); below 0 where there is more than is wanted [kW]."""
    g_per_kwh: FloatArray
    """What each kWh of it spares, by case, shape (3, T)."""
    share: FloatArray
    """By how many kW of it a kW of IT power in each cell counts; 0 where it does not, shape (cells,)."""


def running_share(grid: TimeGrid, n_slots: int, end: float, first: int = 0) -> FloatArray:
    """Return which part of each slot from `first` on lies before an end, shape (n_slots,); the first from now."""
    at = np.arange(n_slots, dtype=np.float64)
    begins = np.where(at == 0, grid.phase, at)
    share = np.clip((end - begins) / (at + 1.0 - begins), 0.0, 1.0)
    share[:first] = 0.0
    return np.asarray(share)


def ends_in(grid: TimeGrid, end: datetime) -> float:
    """Return where on the axis what runs is expected to end; what is overdue ends now."""
    return max(grid.slots(end), grid.phase + 1e-9)


class Wants:
    """What is still short, by row and slot; it only falls while a plan is made."""

    def __init__(self, wants: Sequence[Want], grid: TimeGrid, n_slots: int, n_cells: int) -> None:
        self._grid = grid
        self._hours = np.full(n_slots, grid.step_s / 3600.0)
        self._hours[0] *= 1.0 - grid.phase
        self.names = tuple(want.name for want in wants)
        self._on_site: BoolArray = np.array([want.on_site for want in wants], dtype=bool)
        self._short_kw = np.array([want.kw for want in wants]).reshape(len(wants), 3, n_slots)
        self._g_per_kwh = np.array([want.g_per_kwh for want in wants]).reshape(len(wants), 3, n_slots)
        self.share: FloatArray = np.array([want.share for want in wants]).reshape(len(wants), n_cells)
        """By how many kW a kW of IT power in a cell serves each row, shape (rows, cells)."""
        self._serves = [np.flatnonzero(shares).tolist() for shares in self.share.T]
        self._only_want = [self._wants_by_cell(on_site=kind) for kind in (False, True)]
        self.offered_g = self._total_g(self._on_site)
        """What the site's own power could spare at most [g]."""

    def _wants_by_cell(self, *, on_site: bool) -> tuple[IntArray, FloatArray] | None:
        """Return the row that each cell serves, and by how much; None where none does: one network and one site each.

        A cell without one has a share of 0.
        """
        serves = (self.share > 0.0) & (self._on_site == on_site)[:, None]
        if not serves.any():
            return None
        if (serves.sum(axis=0) > 1).any():
            raise ValueError("a cell serves one heat network and one site at most")
        want: IntArray = serves.argmax(axis=0)
        return want, np.where(serves, self.share, 0.0).sum(axis=0)

    def _total_g(self, rows: BoolArray) -> float:
        short = np.maximum(self._short_kw[rows, EXPECTED], 0.0)
        return math.fsum((short * self._hours * self._g_per_kwh[rows, EXPECTED]).reshape(-1))

    def _end(self, workload: Workload, candidate: int) -> float:
        begin = self._grid.phase if candidate == 0 else float(candidate)
        return begin + workload.duration_p50_s / self._grid.step_s

    def serve(self, workload: Workload, row: int, candidate: int, sign: int = 1) -> None:
        """Give all who want it what a run draws; `sign` -1 takes it back."""
        if self._serves[row]:
            end = self._end(workload, candidate)
            slots = min(self._hours.size, math.ceil(end))
            kw = workload.power_kw * running_share(self._grid, slots, end, candidate)
            for want in self._serves[row]:
                self._short_kw[want, :, candidate:slots] -= (sign * self.share[want, row]) * kw[candidate:]

    def most_spared_g(self, workload: Workload) -> float:
        """Return the most that a workload could spare, wherever and whenever it runs [g]."""
        by_cell = np.tensordot(self.share, self._g_per_kwh[:, EXPECTED], (0, 0))
        return float(by_cell.max(initial=0.0)) * workload.power_kw * workload.duration_p50_s / 3600.0

    def rows(self, cuts: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return what is short between edges of the axis [kW] and its worth [g/kWh], shape (rows, slots) each."""
        first, last = cuts[:-1], cuts[-1]
        hours = np.add.reduceat(self._hours[:last], first)
        short = np.maximum(self._short_kw[:, EXPECTED], 0.0)[:, :last] * self._hours[:last]
        worth = self._g_per_kwh[:, EXPECTED, :last]
        mean = np.add.reduceat(worth, first, axis=1) / np.diff(cuts)
        # The mean of equals is themselves, whatever rounding says.
        least, most = np.minimum.reduceat(worth, first, axis=1), np.maximum.reduceat(worth, first, axis=1)
        return np.asarray(np.add.reduceat(short, first, axis=1) / hours), np.clip(mean, least, most)

    def settled_g(self) -> float:
        """Return what is emitted for want of wanted heat, less what the site's own power spares [g]."""
        return self._total_g(~self._on_site) + (self._total_g(self._on_site) - self.offered_g)

    def spared_g(self, workload: Workload, rows: list[int], last: int, *, on_site: bool) -> FloatArray | None:
        """Return what a run from each start would spare, shape (cases, rows, last + 1) [g]; None where nothing is.

        Args:
            workload: What runs.
            rows: In which cells.
            last: The last start.
            on_site: By the site's own power, in all cases of a `Want`; or else by heat that a network is owed, in the
                expected one.
        """
        only = self._only_want[on_site]
        if only is None:
            return None
        wants, share = only[0][rows], only[1][rows]
        # What comes after the last run's end is not looked at.
        slots = min(self._hours.size, last + math.ceil(workload.duration_p50_s / self._grid.step_s) + 1)
        short = self._short_kw[wants, : 3 if on_site else 1, :slots]
        if short.max() <= 0.0 or not share.any():
            return None
        worth = np.zeros((*short.shape[:2], slots + 1))
        served = worth[..., :-1]
        np.minimum(short, (share * workload.power_kw)[:, None, None], out=served)
        np.maximum(served, 0.0, out=served)
        served *= self._hours[:slots]
        served *= self._g_per_kwh[wants, : short.shape[1], :slots]
        return self._over_runs(worth, workload, last).swapaxes(0, 1)

    def _over_runs(self, worth: FloatArray, workload: Workload, last: int) -> FloatArray:
        """Return the sums of what slots are worth over runs from each start, shape (..., last + 1)."""
        at = np.zeros(worth.shape)
        np.cumsum(worth[..., :-1], axis=-1, out=at[..., 1:])
        ends = np.minimum(np.arange(last + 1) + workload.duration_p50_s / self._grid.step_s, float(self._hours.size))
        ends[0] = min(self._end(workload, 0), float(self._hours.size))
        whole = ends.astype(np.int64)
        part = ends - whole
        if whole[0] == 0:
            # It ends inside the present slot, of which only a part is left.
            part[0] = (ends[0] - self._grid.phase) / (1.0 - self._grid.phase)
        sums = at.take(whole, axis=-1)
        sums -= at[..., : last + 1]
        sums += worth.take(whole, axis=-1) * part
        # To the microgram: rounding of sums shall not choose between equal hours.
        return np.asarray(sums.round(6))
