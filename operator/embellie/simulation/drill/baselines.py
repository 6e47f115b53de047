# SPDX-License-Identifier: Apache-2.0
"""What clusters do without the operator: nothing at all, or thresholds on the newest reading.

`off` starts each job when its GPUs are free. `threshold` is a reactive controller as Intel's Telemetry Aware Scheduling
or a taint by metric: no start in a zone whose reading stands over its soft limit (`dontschedule`), one eviction of the
least important gang while it stands over its hard limit (`deschedule`), and the same for the contracted power. It
believes every value that it gets, and keeps the last one when none comes.
"""

import numpy as np

from embellie.simulation.drill.rig import Rig, Seen
from embellie.simulation.drill.site import Site

_EVICT_EVERY_S = 60.0
_MOST_STARTS = 64


def start_what_fits(site: Site, now_s: float, closed: frozenset[str] = frozenset()) -> None:
    """Start waiting jobs first come, first served, each in the open zone with the most free GPUs."""
    for job in [*(run.job for run in site.paused.values()), *site.waiting.values()][:_MOST_STARTS]:
        zones = sorted((z for z in site.zones if z not in closed), key=lambda z: -site.pools[z].free_gpus)
        any(site.start(job, zone, now_s, forced=False) for zone in zones)


class Off:
    """No limit checks: every job starts as soon as its GPUs are free."""

    def __init__(self, rig: Rig, *, starts_until_s: list[float] | None = None) -> None:
        self._rig = rig
        self._until_s = starts_until_s or [np.inf] * len(rig.sites)
        self._seen = [-1] * len(rig.sites)
        self._none = np.zeros((len(rig.sites), len(rig.zones)), dtype=np.int8)

    def turn(self, now_s: float, seen: Seen) -> None:
        """Start what fits."""
        del seen
        for b, site in enumerate(self._rig.sites):
            if site.version != self._seen[b] and now_s < self._until_s[b]:
                start_what_fits(site, now_s)
                self._seen[b] = site.version

    def level(self) -> np.ndarray:
        """Return that nothing is held back."""
        return self._none

    def blocked_starts(self, b: int) -> int:
        """Return that nothing is held back."""
        del b
        return 0

    def foresaw_s(self, b: int, job: str, at_s: float) -> float:
        """Return that nothing is foreseen."""
        del b, job, at_s
        return 0.0


class Threshold:
    """Thresholds on the newest reading."""

    def __init__(self, rig: Rig, *, starts_until_s: list[float] | None = None) -> None:
        self._rig = rig
        self._until_s = starts_until_s or [np.inf] * len(rig.sites)
        self._blocked: list[set[str]] = [set() for _ in rig.sites]
        self._done = [(-1, frozenset[str]())] * len(rig.sites)
        rooms, zones = len(rig.sites), rig.zones
        self._level = np.zeros((rooms, len(zones)), dtype=np.int8)
        self._columns = [rig.sensors.index["loop/supply" if z == "loop" else f"{z}/inlet"] for z in zones]
        self._facility = rig.sensors.index["facility/power"]
        soft, hard = [], []
        for drill in rig.drills:
            limits = drill.room.limits
            soft.append([limits.coolant_supply_hard_c - 3.0 if z == "loop" else limits.inlet_soft_c for z in zones])
            hard.append([limits.coolant_supply_hard_c if z == "loop" else limits.inlet_hard_c for z in zones])
        self._soft, self._hard = np.array(soft), np.array(hard)
        self._last = np.full((rooms, len(zones)), -np.inf)
        self._last_kw = np.zeros(rooms)
        self._evicted_s = np.full((rooms, len(zones)), -np.inf)

    def turn(self, now_s: float, seen: Seen) -> None:
        """Compare, hold, evict."""
        values = seen.values[:, self._columns]
        self._last = np.where(np.isnan(values), self._last, values)
        power = seen.values[:, self._facility]
        self._last_kw = np.where(np.isnan(power), self._last_kw, power)
        contract = np.array([drill.contract_now_kw(now_s) for drill in self._rig.drills])
        over = self._last_kw > contract
        close = (self._last > self._soft) | over[:, None]
        evict = (self._last > self._hard) | over[:, None]
        self._level = close.astype(np.int8) + 2 * evict.astype(np.int8)
        for b, site in enumerate(self._rig.sites):
            for k, zone in enumerate(site.zones):
                if evict[b, k] and now_s - self._evicted_s[b, k] >= _EVICT_EVERY_S:
                    self._evict(site, zone, now_s)
                    self._evicted_s[b, k] = now_s
            closed = frozenset(z for k, z in enumerate(site.zones) if close[b, k])
            if (site.waiting or site.paused) and now_s < self._until_s[b] and self._done[b] != (site.version, closed):
                start_what_fits(site, now_s, closed)
                if closed:
                    self._blocked[b].update(site.waiting)
                self._done[b] = (site.version, closed)

    def blocked_starts(self, b: int) -> int:
        """Return how many jobs waited while a zone was closed."""
        return len(self._blocked[b])

    def foresaw_s(self, b: int, job: str, at_s: float) -> float:
        """Return that nothing is foreseen."""
        del b, job, at_s
        return 0.0

    def level(self) -> np.ndarray:
        """Return 1 where starts are held, 3 where gangs are evicted."""
        return self._level

    @staticmethod
    def _evict(site: Site, zone: str, now_s: float) -> None:
        gangs = [run for run in site.zone_gangs(zone) if run.drawing and not run.pausing]
        if gangs:
            least = min(gangs, key=lambda run: (run.job.priority, -run.start_s))
            site.pause(least.job.id, now_s, orderly=False)
