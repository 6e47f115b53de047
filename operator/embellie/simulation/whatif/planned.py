# SPDX-License-Identifier: Apache-2.0
"""The policy `embellie` where GPUs are scarce: every slot the planner of the operator plans all work together.

What waits, what may be paused and what is expected to come is one problem of `planning.solve`. Work runs in this slot
if the plan says so. What comes between two plans takes what they left free, at their prices.

Nothing is held unless all known work would still start in time if it were (`planning.slack`), with a part of every
bound to spare. Where not all can be in time, what is late already and the largest jobs go last.
"""

import math
from dataclasses import dataclass

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.planning.slack import KEPT, KEPT_PAUSABLE, Queue, give_way, slack_of
from embellie.planning.solving.inputs import make_jobs, make_zones, shifted
from embellie.planning.solving.problem import Prices, Problem, Solution
from embellie.planning.solving.solver import Effort, solve
from embellie.simulation.whatif.ahead import Ahead
from embellie.simulation.whatif.axis import BoolArray, IntArray
from embellie.simulation.whatif.case import Case
from embellie.simulation.whatif.engine import Engine, EveryJob
from embellie.simulation.whatif.known import Known
from embellie.simulation.whatif.lengths import Lengths
from embellie.simulation.whatif.waiting import pause_gain_known, start_gain_known

_COLD = Effort(first_iterations=60, improve=False, prove=False)
WARM = Effort(first_iterations=8, improve=False, prove=False)
"""Of a plan that begins with the prices of the last one."""
_FIRST, _LAST = 1e12, 1e12
"""Ranks of what must run, and of what runs only in room that nobody else wants."""
_LENGTH_LEVEL = 0.5
"""Quantile of unknown lengths that the guard reckons with."""
_KEEP_FREE = 0.97
"""Part of the cluster that is planned with: gangs do not fill the last GPUs."""
_PARTS = 4.0
"""Into so many parts what is left of the site's own power for a job is rounded down: few price vectors."""
_NO_PLACE = 4.0
"""Work without a place pays so many times its dearest hours: room is never left to emit less."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Items:
    """What is planned together: jobs, or parcels of work; slots count from now."""

    gpus: FloatArray
    power_kw: FloatArray
    slots: FloatArray
    """How long it takes."""
    release: IntArray
    latest: IntArray
    """Last start."""
    deadline: IntArray
    pausable: BoolArray

    def and_then(self, others: "Items") -> "Items":
        """Return these and others."""
        pairs = {f: np.concatenate((getattr(self, f), getattr(others, f))) for f in self.__slots__}
        return Items(**pairs)


class Planned(EveryJob):
    """Runs what the planner puts into this slot."""

    turns = True

    def __init__(self, case: Case, ahead: Ahead, lengths: Lengths, *, wait_price: float, warm: Effort = WARM) -> None:
        """Prepare.

        Args:
            case: The replay, with a capacity.
            ahead: What is expected of the intensity.
            lengths: What is known of lengths.
            wait_price: What an hour of one job's wait must save, as a share of what a GPU-hour emits on average.
            warm: How much work goes into each plan but the first.
        """
        super().__init__(case.work.count)
        work, site = case.work, case.site
        self._case, self._ahead, self._lengths = case, ahead, lengths
        self._per = case.axis.ticks_per_slot
        self._capacity = _KEEP_FREE * float(site.capacity_gpus or 0.0)
        self._net_kw = np.maximum(0.0, work.power_kw - work.gpus * site.idle_kw_per_gpu)
        self._kw_per_gpu = float(work.power_kw.sum() / work.gpus.sum()) or 1.0
        self._wait_price, self._wait_g_per_h = wait_price, 0.0
        self._known = Known(case, lengths)
        self._warm = warm
        self._prices: Prices | None = None
        self._slot = -1
        self._edges = np.arange(ahead.slots + 1, dtype=np.float64) * case.axis.slot_h
        self._costs = np.zeros(0)
        self._free = np.zeros(0)
        on_site = case.on_site
        self._own_g = on_site.most_g_per_kwh if on_site is not None else 0.0
        self._idle_kw = float(site.capacity_gpus or 0.0) * site.idle_kw_per_gpu
        self._own_left_kw = 0.0
        """What the plan leaves of the site's own power in this slot, as IT power."""

    def arrive(self, job: int, now: int, engine: Engine) -> None:
        """Start it, or leave it to the next plan."""
        if now % self._per == 0:
            # The plan of this slot is still to come, and will have it.
            return
        if self._slot != now // self._per:
            self.turn(now // self._per * self._per, engine)
        one = np.array([job])
        self.rank[job] = self._last_start(one)[0]
        slots = self._known.rest(one, engine, now) / self._per + 1.0 - (now % self._per) / self._per
        room = self._free[: max(1, math.ceil(float(slots[0])))]
        if room.min() >= self._case.work.gpus[job] and self._gains(one, now, engine)[0]:
            self.wants[job] = True
            room -= self._case.work.gpus[job]
            self._own_left_kw -= self._net_kw[job]

    def _gains(self, jobs: IntArray, now: int, engine: Engine) -> BoolArray:
        """Return which jobs would rather run now, in room that is left, than later at the plan's prices."""
        work, slot_h = self._case.work, self._case.axis.slot_h
        part = 1.0 - (now % self._per) / self._per
        rest = self._known.rest(jobs, engine, now) / self._per
        left = engine.left_to_wait(jobs, now) / self._per
        price = self._prices.gpu[0] if self._prices is not None else np.zeros(self._ahead.slots)
        # Room that the plan leaves in this slot is lost if nobody takes it: only later slots have a price for work that
        # can leave them again.
        later = np.concatenate(([0.0], price[1:]))
        kw = np.maximum(self._net_kw[jobs], 1e-9)
        grid, own_g = self._costs * slot_h, 0.0
        if self._prices is not None and self._prices.wanted.size:
            # A kW gets the price of the site's own power in later slots; now, as far as the plan leaves some.
            grid = grid - np.concatenate(([0.0], self._prices.wanted[0, 1:]))
            own_g = max(0.0, self._costs[0] - self._own_g) * slot_h
        own = np.floor(_PARTS * np.clip(self._own_left_kw / kw, 0.0, 1.0)) / _PARTS
        # GPUs per kW are alike but for jobs of their own power: few price vectors.
        per_kw = np.round(work.gpus[jobs] / kw, 3)
        gain = np.zeros(jobs.size)
        for level, part_own in np.unique(np.stack((per_kw, own)), axis=1).T.tolist():
            for pausable, paid in ((True, later), (False, price)):
                rows = np.flatnonzero((per_kw == level) & (own == part_own) & (work.pausable[jobs] == pausable))
                if not rows.size:
                    continue
                told = (rest[rows], left[rows], part, self._wait_g_per_h * slot_h / kw[rows])
                costs = grid + paid * level
                costs[0] -= own_g * part_own
                gain[rows] = (
                    pause_gain_known(costs, *told) if pausable else start_gain_known(costs, *told, within=False)[0]
                )
        result: BoolArray = gain >= 0.0
        return result

    def turn(self, now: int, engine: Engine) -> None:
        """Plan everything that waits or may be paused, with what is expected to come."""
        slot, work = now // self._per, self._case.work
        self._costs = self._ahead.costs(slot)
        flexible = engine.active()
        queue = self._queue(flexible, now, engine)
        slack = slack_of(queue, self._latest_h(flexible, now, engine), self._case.axis.slot_h)
        must = slack.must_start
        self._wait_g_per_h = self._ahead.wait_price(self._wait_price, slack.taken) * self._kw_per_gpu
        self.last[flexible] = self._give_way(queue, flexible, now, engine) if must.any() else False
        # With slack left a large gang gets its room; without, it would make many others late.
        self.reserves = not must.any()
        found = self._plan(flexible, must, slot, engine)
        self._prices, self._slot = found.prices, slot
        if flexible.size == 0:
            return
        runs = np.zeros(flexible.size, dtype=bool)
        runs[found.part_job[found.part_start == 0]] = True
        mine = must | runs | (found.zone[: flexible.size] < 0)
        # Who would rather run now as well takes what others leave, in the course of the slot too.
        spare = ~mine & work.pausable[flexible] & self._gains(flexible, now, engine)
        self.wants[flexible] = mine | spare
        # By the last start that each had when it came: how much it still may wait changes while it does. Where slack
        # has run out the least work goes first, so that the fewest are late.
        pressing = must | (engine.left_to_wait(flexible, now) <= 0)
        work_left = work.gpus[flexible] * self._known.rest(flexible, engine, now)
        small = np.where(pressing, work_left - _FIRST, 0.0)
        self.rank[flexible] = self._last_start(flexible) + small + np.where(spare, _LAST, 0.0)

    def _last_start(self, jobs: IntArray) -> FloatArray:
        """Return when each must begin at the latest, had it done nothing yet [slots]."""
        result: FloatArray = (self._case.work.arrival[jobs] + self._case.work.wait[jobs]) / self._per
        return result

    def _latest_h(self, jobs: IntArray, now: int, engine: Engine) -> FloatArray:
        """Return the latest start of each from now, what is kept of its bound taken off [h]."""
        work, axis = self._case.work, self._case.axis
        kept = np.where(work.pausable[jobs], KEPT_PAUSABLE, KEPT) * work.wait[jobs]
        # Whose waiting ends before the next look starts then of itself.
        latest_h: FloatArray = np.maximum((engine.left_to_wait(jobs, now) - kept) * axis.tick_h, axis.slot_h)
        return latest_h

    def _give_way(self, queue: Queue, jobs: IntArray, now: int, engine: Engine) -> BoolArray:
        """Return which jobs go last where not all can be in time: those that are late, and the largest."""
        work = self._case.work
        may_wait = work.wait[jobs] - (now - work.arrival[jobs] - engine.done(jobs, now))
        last: BoolArray = may_wait < 0
        rows = np.flatnonzero(~last)
        last[rows] = give_way(queue.only(rows), may_wait[rows] * self._case.axis.tick_h)
        return last

    def _queue(self, jobs: IntArray, now: int, engine: Engine) -> Queue:
        work, fixed, tick_h = self._case.work, engine.fixed(), self._case.axis.tick_h
        return Queue(
            gpus=work.gpus[jobs],
            hours=np.asarray(self._known.rest(jobs, engine, now, _LENGTH_LEVEL) * tick_h, dtype=np.float64),
            capacity_gpus=float(self._case.site.capacity_gpus or 0.0),
            busy_gpus=work.gpus[fixed],
            busy_h=np.asarray(self._known.rest(fixed, engine, now, _LENGTH_LEVEL) * tick_h, dtype=np.float64),
        )

    def ended(self, job: int, now: int, engine: Engine) -> None:
        """Learn its length."""
        del now
        self._lengths.learn(job, int(engine.ran[job]))

    def _plan(self, flexible: IntArray, must: BoolArray, slot: int, engine: Engine) -> Solution:
        work, per, now = self._case.work, self._per, slot * self._per
        size, slot_h = self._ahead.slots, self._case.axis.slot_h
        rest = self._known.rest(flexible, engine, now) / per
        left = engine.left_to_wait(flexible, now) / per
        slots = np.maximum(1.0, np.round(rest))
        # Less than a slot's work takes as much of the GPUs in the mean of the slot.
        share = np.minimum(1.0, rest / slots)
        mine = Items(
            gpus=work.gpus[flexible] * share,
            power_kw=self._net_kw[flexible] * share,
            slots=slots,
            release=np.zeros(flexible.size, dtype=np.int64),
            latest=np.where(must, 0, np.floor(left + 1e-9)).astype(np.int64),
            deadline=np.where(must, slots, np.maximum(slots, np.floor(rest + left + 1e-9))).astype(np.int64),
            pausable=work.pausable[flexible],
        )
        items, count = mine.and_then(self.coming(now)), flexible.size
        # What would end past the horizon is planned up to there.
        room = np.maximum(1, size - np.where(items.pausable, items.release, items.latest))
        slots = np.minimum(items.slots, room)
        real = np.arange(items.gpus.size) < count
        free = self._unused(now, engine)
        dearest = max(float(np.abs(self._costs).max()), 1.0)
        most = np.maximum(items.power_kw, 1e-3) * slots * slot_h * dearest + 1.0
        own = self._own_kw(slot, engine)
        problem = Problem(
            edges_h=self._edges,
            zones=make_zones(
                cost_per_kwh=self._costs[None],
                gpus=free[None],
                wanted_kw=own,
                wanted_cost_per_kwh=np.maximum(self._costs - self._own_g, 0.0)[None],
            ),
            jobs=make_jobs(
                gpus=items.gpus,
                power_kw=items.power_kw,
                duration_h=slots * slot_h,
                unplaced_cost=np.where(real, _NO_PLACE, 1.0) * most,
                n_zones=1,
                n_slots=size,
                release=np.minimum(items.release, size - 1),
                latest_start=np.minimum(items.latest, size - 1),
                deadline=np.minimum(items.deadline, size),
                pausable=items.pausable,
                delay_cost_per_h=_alike(self._wait_g_per_h, items.gpus * np.where(items.pausable, slots * slot_h, 1.0)),
                priority=real.astype(np.float64) + np.concatenate((must, np.zeros(real.size - count))),
            ),
        )
        warm = None
        if self._prices is not None:
            warm = shifted(self._prices, self._edges, self._edges, float(slot - self._slot) * slot_h)
        effort = self._warm if warm is not None else _COLD
        found = solve(problem, budget_s=math.inf, clock=lambda: 0.0, warm=warm, effort=effort, sought=real)
        used = np.zeros(size + 1)
        taken = items.gpus[found.part_job]
        np.add.at(used, found.part_start, taken)
        np.add.at(used, found.part_end, -taken)
        self._free = problem.zones.gpus[0] - np.cumsum(used)[:size]
        if own is not None:
            self._own_left_kw = float(own[0, 0] - items.power_kw[found.part_job[found.part_start == 0]].sum())
        return found

    def _own_kw(self, slot: int, engine: Engine) -> FloatArray | None:
        """Return what the site's own plants leave beside what idles and running work that may not be paused.

        As IT power above idle, shape (1, slots); None where the site has none.
        """
        told = self._ahead.own_kw(slot)
        if told is None:
            return None
        left: FloatArray = told / self._case.site.pue - self._idle_kw
        fixed = engine.fixed()
        if fixed.size:
            rest = self._known.rest(fixed, engine, slot * self._per) / self._per
            left -= self._net_kw[fixed] @ np.clip(rest[:, None] - np.arange(left.size), 0.0, 1.0)
        return np.maximum(left, 0.0)[None]

    def _unused(self, now: int, engine: Engine) -> FloatArray:
        """Return the GPUs that running work leaves, which may not be paused, in the mean of each slot."""
        ahead, fixed = np.arange(self._ahead.slots), engine.fixed()
        free = np.full(ahead.size, self._capacity)
        if fixed.size:
            rest = self._known.rest(fixed, engine, now) / self._per
            free -= self._case.work.gpus[fixed] @ np.clip(rest[:, None] - ahead, 0.0, 1.0)
        left: FloatArray = np.maximum(free, 0.0)
        return left

    def coming(self, now: int) -> "Items":
        """Return what is expected to come: the work of the last day, once more, together by hour and length.

        It takes part in the prices. It may be divided at will, since nobody starts it by this plan.
        """
        work, per = self._case.work, self._per
        jobs, day, more = self._known.last_day(now)
        rest, left = self._known.length(jobs) / per, work.wait[jobs] // per
        release = -(-(work.arrival[jobs] + day - now) // per)
        slots = np.maximum(1, np.round(2.0 ** (np.round(2.0 * np.log2(np.maximum(rest, 1.0))) / 2.0))).astype(np.int64)
        keys, row = np.unique(np.stack((release, slots, left, work.pausable[jobs])), axis=1, return_inverse=True)
        share = rest / slots * more
        release, slots, left = keys[0], keys[1], keys[2]
        return Items(
            gpus=np.bincount(row, work.gpus[jobs] * share, release.size).astype(np.float64),
            power_kw=np.bincount(row, self._net_kw[jobs] * share, release.size).astype(np.float64),
            slots=slots.astype(np.float64),
            release=release,
            latest=release + left,
            deadline=release + slots + left,
            pausable=keys[3] > 0,
        )


def _alike(cost: float, size: FloatArray) -> FloatArray:
    """Return about the same cost for all jobs, so rounded that few differ per unit of size: one table serves those."""
    if cost <= 0.0:
        return np.zeros(size.size)
    result: FloatArray = 2.0 ** np.round(np.log2(cost / size)) * size
    return result
