# SPDX-License-Identifier: Apache-2.0
"""What a thermal zone will carry in the hours ahead at its worst: what runs now does not run for ever. Pure.

A start is judged by the hottest hour of its run; what will be over by then takes no room of it. Only work whose user
said how long it runs is ever over by then (`limits.counted_until`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from embellie.domain.heat import HeatOutlook
from embellie.domain.limits import counted_until
from embellie.domain.snapshot import Snapshot, ThermalZoneState

_NOW_S = 1.0
"""Whatever is there counts now, though it were over [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spare:
    """What may be added to a zone's heat in the worst hour of a run."""

    kw: float
    """Negative where it is over already [kW]."""
    limit_kw: float
    """What the zone carries then [kW]."""
    bound: str
    """Which limit that is."""


class LoadAhead:
    """One zone's worst-case heat in each slot of its outlook."""

    def __init__(
        self, outlook: HeatOutlook, base_kw: float, loads: Iterable[tuple[datetime, float]], now: datetime
    ) -> None:
        """Begin with what runs.

        Args:
            outlook: The zone's.
            base_kw: What it makes whatever runs [kW].
            loads: Until when it counts, and worst-case heat [kW], of all that runs.
            now: The present.
        """
        self._outlook, self._now = outlook, now
        count = outlook.removable_kw.size
        first_s, step_s = (outlook.start - now).total_seconds(), outlook.step.total_seconds()
        # Slots that have begun count from now on; the last edge is the end of the outlook.
        self._begins_s = np.maximum(0.0, first_s + step_s * np.arange(count + 1))
        self._kw = np.full(count + 1, base_kw)
        table = np.array([((until - now).total_seconds(), kw) for until, kw in loads]).reshape(-1, 2)
        ends = np.searchsorted(self._begins_s, np.maximum(_NOW_S, table[:, 0]), side="left")
        ended = np.bincount(ends, weights=table[:, 1], minlength=count + 2)
        self._kw += np.cumsum(ended[::-1])[::-1][1:]

    @classmethod
    def of(cls, zone: ThermalZoneState, outlook: HeatOutlook, snapshot: Snapshot) -> "LoadAhead":
        """Return what a zone of a snapshot will carry of what runs in it now."""
        inside = {cell.name for cell in snapshot.cells if cell.thermal_zone == zone.name}
        loads = [(counted_until(g, snapshot.now), g.worst_power_kw) for g in snapshot.running if g.cell in inside]
        return cls(outlook, zone.base_power_kw, loads, snapshot.now)

    def least_spare(self, run_s: float) -> Spare:
        """Return where, in a run of so many seconds from now on, the least heat may be added."""
        outlook = self._outlook
        within, beyond = outlook.slots(self._now, self._now + timedelta(seconds=run_s))
        spare_kw = (outlook.removable_kw - self._kw[:-1])[within]
        slots = np.arange(within.start, within.stop)
        if beyond.start < beyond.stop:
            # Beyond the outlook the last day's weather comes back, over what will still run then.
            spare_kw = np.concatenate([spare_kw, outlook.removable_kw[beyond] - self._kw[-1]])
            slots = np.concatenate([slots, np.arange(beyond.start, beyond.stop)])
        least = int(np.argmin(spare_kw))
        slot = int(slots[least])
        return Spare(
            kw=float(spare_kw[least]),
            limit_kw=float(outlook.removable_kw[slot]),
            bound=outlook.bound[slot] if outlook.bound else "",
        )
