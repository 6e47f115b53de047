# SPDX-License-Identifier: Apache-2.0
"""What starts in a drilled room: its queue, first come, first served, is proposed to the shield.

What the planner and the API server do in a cluster; what only a bound starts is foreseen as there.
"""

from datetime import datetime

import numpy as np

from embellie.domain.limits import bound_reached, heat_room_now
from embellie.domain.plan import Action, Decision, Plan
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Snapshot, Workload
from embellie.simulation.drill.desk import Desk
from embellie.thermal import shield
from embellie.thermal.promises import foresee
from embellie.thermal.shield import Rises

_RETRY_S = 120.0
_FORESEE_EVERY_S = 300.0
_FORESEE_NEAR_S = 1800.0
"""Promised starts that are nearer than this are looked at whenever anything may start [s]."""


class Starts:
    """The queue of one room."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._site = desk, desk.site
        self.blocked: set[str] = set()
        """Jobs that the shield kept waiting at least once."""
        self.foreseen: dict[str, float] = {}
        """Jobs whose promised start was seen to collide with a limit, and when that was seen first [s]."""
        self._tried: dict[str, int] = {}
        self._ordered: tuple[int, tuple[str, ...], dict[tuple[int, int], tuple[str, ...]]] = (-1, (), {})
        self._version, self._again_s, self._foresaw_s = -1, 0.0, -np.inf

    def ask(self, now_s: float) -> bool:
        """Tell whether anything may start now, so that the zones' states are needed."""
        changed, due = self._site.version != self._version, now_s >= self._again_s
        return bool(self._site.waiting) and (changed or due) and now_s < self._desk.starts_until_s

    def turn(self, now_s: float) -> None:
        """Propose waiting jobs to the shield and start what it lets through."""
        if not self.ask(now_s):
            return
        self._again_s = now_s + _RETRY_S
        self._foresee(now_s)
        self._propose(now_s)
        self._version = self._site.version

    def _propose(self, now_s: float) -> None:
        """Let the shield judge the queue, first come, first served; what does not fit does not keep others waiting."""
        desk, now = self._desk, self._desk.now
        waiting = tuple(desk.jobs.workload(job) for job in self._site.waiting.values())
        due = [w for w in waiting if bound_reached(w.latest_start, now, desk.turn_s)]
        releases = [_decided(w, seats[0], now) for w in due if (seats := self._where(w))]
        snapshot = desk.snapshot(now_s, waiting)
        rises = Rises(snapshot, releases)
        room = {
            z: heat_room_now(s).limit_kw - desk.worst_kw()[s.name]
            for z, s in zip(self._site.zones, desk.states, strict=True)
        }
        refused: dict[str, list[tuple[float, float]]] = {zone: [] for zone in self._site.zones}
        for w in waiting:
            if bound_reached(w.latest_start, now, desk.turn_s):
                continue
            run_s = max(w.duration_p50_s, w.duration_p90_s)
            for zone in (seats := self._where(w)):
                # What the zone takes now spares most questions; less, for a shorter time, was refused before: others.
                if w.worst_power_kw > room[zone] or any(
                    kw <= w.worst_power_kw and least_s <= run_s for kw, least_s in refused[zone]
                ):
                    continue
                if rises.refusal(desk.prefix + zone, w.worst_power_kw, run_s) is None:
                    releases.append(_decided(w, zone, now))
                    room[zone] -= w.worst_power_kw
                    break
                refused[zone].append((w.worst_power_kw, run_s))
            else:
                if seats:
                    self.blocked.add(w.key.name)
        if releases:
            checked = shield(Plan(decisions=tuple(releases), objective_g=0.0), snapshot)
            self._carry_out(checked, snapshot, now_s)

    def _foresee(self, now_s: float) -> None:
        """Ask which of the promised starts collide with a limit, were each to start at its bound."""
        until_s = now_s + _FORESEE_NEAR_S
        if now_s >= self._foresaw_s + _FORESEE_EVERY_S:
            self._foresaw_s, until_s = now_s, np.inf
        # What comes later takes nothing from what comes before it.
        due = [job for job in self._site.waiting.values() if job.latest_start_s <= until_s]
        if not due:
            return
        waiting = tuple(self._desk.jobs.workload(job) for job in due)
        holds = []
        for w in waiting:
            fits = self._where(w, free=False)
            if fits:
                holds.append(_decided(w, fits[0], self._desk.now, Action.HOLD, w.latest_start))
        plan = Plan(decisions=tuple(holds), objective_g=0.0)
        for collision in foresee(self._desk.snapshot(now_s, waiting), plan):
            self.foreseen.setdefault(collision.key.name, now_s)

    def _carry_out(self, checked: Plan, snapshot: Snapshot, now_s: float) -> None:
        desk, site, started = self._desk, self._site, list[Decision]()
        for decision in checked.decisions:
            job = site.waiting.get(decision.key.name)
            if job is None:
                continue
            if decision.action is Action.HOLD or decision.cell is None:
                self._tried[job.id] = self._tried.get(job.id, 0) + 1
                self.blocked.add(job.id)
                continue
            zone = decision.cell.removeprefix(desk.prefix)
            if not site.pools[zone].fits(job.pods, job.gpus_per_pod):
                continue
            forced = False
            if bound_reached(decision.latest_start, snapshot.now, snapshot.turn_s):
                # Would the shield have let it through without its bound, beside what has just started?
                rises = Rises(snapshot, started)
                forced = rises.refusal(decision.cell, desk.jobs.worst_kw(job), job.stated_s) is not None
            if forced and now_s >= desk.no_forced_from_s:
                continue
            if site.start(job, zone, now_s, forced=forced):
                started.append(decision)
                self._again_s = now_s

    def _where(self, w: Workload, *, free: bool = True) -> list[str]:
        """Return the zones to try: with free seats for the gang (or any), another one first after each no."""
        found = self._seats(w.pods, w.gpus_per_pod) if free else self._by_room()
        first = self._tried.get(w.key.name, 0) % len(found) if found else 0
        return [*found[first:], *found[:first]]

    def _by_room(self) -> tuple[str, ...]:
        """Return all zones, the emptiest first."""
        site = self._site
        if self._ordered[0] != site.version:
            order = sorted(site.zones, key=lambda z: -site.pools[z].free_gpus / max(1, site.nodes[z]))
            self._ordered = (site.version, tuple(order), {})
        return self._ordered[1]

    def _seats(self, pods: int, gpus_per_pod: int) -> tuple[str, ...]:
        """Return the zones with free seats for a gang, the emptiest first."""
        zones, key = self._by_room(), (pods, gpus_per_pod)
        known = self._ordered[2]
        if key not in known:
            known[key] = tuple(z for z in zones if self._site.pools[z].fits(pods, gpus_per_pod))
        return known[key]


def _decided(
    w: Workload, zone: str, now: datetime, action: Action = Action.RELEASE, start: datetime | None = None
) -> Decision:
    prefix = next(iter(w.allowed_cells)).partition("-")[0]
    return Decision(
        key=w.key,
        action=action,
        reason=Reason.BOUND_REACHED if w.latest_start <= now else Reason.BEST_NOW,
        message="Starts now.",
        cell=f"{prefix}-{zone}",
        start=start or now,
        likely_start_p90=now,
        latest_start=w.latest_start,
        now=None,
        best=None,
    )
