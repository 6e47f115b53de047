# SPDX-License-Identifier: Apache-2.0
"""Which row keeps a run from a start, told by the prices: the one that asks most for it."""

from collections.abc import Mapping

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Workload
from embellie.planning.axis.timegrid import TimeGrid
from embellie.planning.solving.binding import dearest
from embellie.planning.solving.problem import Binding, IntArray, Prices, Zones

REASONS: Mapping[Binding, Reason] = {
    Binding.NONE: Reason.BEST_NOW,
    Binding.CHEAPER: Reason.CLEANER_WINDOW,
    Binding.GPUS: Reason.WAITING_FOR_GPUS,
    Binding.POWER: Reason.CONTRACTED_POWER,
    Binding.HEAT: Reason.HEAT_LIMIT,
    Binding.UNPLACED: Reason.WAITING_FOR_GPUS,
    Binding.RAMP: Reason.START_RAMP,
}
"""What a binding row is called outside of the solver."""


class Scarcity:
    """What a plan's prices ask of runs, by cell and start."""

    def __init__(self, prices: Prices, zones: Zones, cuts: IntArray, grid: TimeGrid) -> None:
        """`cuts` are the edges of the prices' slots on the axis of `grid`."""
        self._cuts, self._step_s = cuts, grid.step_s
        self._gpu, power, heat = (_sums(rows) for rows in (prices.gpu, prices.power, prices.heat))
        none = np.zeros(cuts.size)
        self._power = [
            power[g] * factor if g >= 0 else none
            for g, factor in zip(zones.power_group, zones.power_factor, strict=True)
        ]
        self._heat = [heat[g] if g >= 0 else none for g in zones.heat_group]

    def binding(self, w: Workload, row: int, candidate: int) -> Binding:
        """Return the row that asks most of a run from a start in a cell; NONE where all of them are free."""
        first = int(np.searchsorted(self._cuts, candidate, side="right")) - 1
        end, limit_end = (
            int(np.searchsorted(self._cuts, candidate + seconds / self._step_s - 1e-9))
            for seconds in (w.duration_p50_s, max(w.duration_p50_s, w.duration_p90_s))
        )
        end, limit_end = (
            min(max(end, first + 1), self._cuts.size - 1),
            min(max(limit_end, first + 1), self._cuts.size - 1),
        )
        kw = w.worst_power_kw
        gpu = w.gpus * float(self._gpu[row, end] - self._gpu[row, first])
        power = kw * float(self._power[row][limit_end] - self._power[row][first])
        heat = kw * float(self._heat[row][limit_end] - self._heat[row][first])
        return dearest(gpu, power, heat) if max(gpu, power, heat) > 0.0 else Binding.NONE


def _sums(rows: FloatArray) -> FloatArray:
    sums = np.zeros((rows.shape[0], rows.shape[1] + 1))
    np.cumsum(rows, axis=1, out=sums[:, 1:])
    return sums
