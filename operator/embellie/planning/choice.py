# SPDX-License-Identifier: Apache-2.0
"""One workload against its policy: the cheapest open start where that saves enough, and the reason in words.

What its site's own power spares a start, and what a heat network would burn otherwise, is taken off its score; nothing
else about a choice changes. Only starts with room inside the bound are looked at.
"""

from collections.abc import Container

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.domain.plan import Decision, Estimate
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Workload, WorkloadKey
from embellie.planning import messages
from embellie.planning.axis.timegrid import cheapest_later
from embellie.planning.decisions import hold, release, start_now
from embellie.planning.ground import Ground, Starts, anywhere
from embellie.planning.why import given_to_others, likely_start, taken, why_not_now, would_wait

_SAME = 1e-9
"""Relative differences below this are rounding."""


class Chooser:
    """Decides for one workload after the other, each in the room that those before left."""

    def __init__(self, ground: Ground, hurried: Container[WorkloadKey]) -> None:
        """`hurried` do not wait for cleaner hours."""
        self._ground, self._hurried = ground, hurried
        self.beyond: set[WorkloadKey] = set()
        """Workloads that are planned over capacity, because nothing is free before their bound."""

    def decide(self, w: Workload) -> Decision:
        """Decide, and take the room."""
        ground, rows = self._ground, self._ground.allowed(w)
        if w.start_now is not None and not ground.at_bound(w):
            reason = Reason(w.start_now)
            return self._start_regardless(w, rows, reason, w.start_now_message or messages.forced(reason.value))
        if ground.at_bound(w):
            reason = Reason(w.start_now) if w.start_now is not None else Reason.BOUND_REACHED
            return self._start_regardless(w, rows, reason, w.start_now_message if w.start_now is not None else "")
        if not rows:
            return release(w, ground.snapshot.now, None, Reason.NO_ZONE, messages.no_zone())
        return self._choose(w, rows)

    def _start_regardless(self, w: Workload, rows: list[int], reason: Reason, message: str) -> Decision:
        """Release whatever the forecast says: where it fits now, else where room comes first, else where cheapest."""
        ground, now = self._ground, self._ground.snapshot.now
        if not rows:
            return release(w, now, None, reason, message or messages.bound_reached(w, None, now))
        starts = ground.starts(w, rows, ground.last)
        room = starts.ok[:, int(anywhere(starts.ok).argmax())]
        if not room.any():
            # Nothing is free before the horizon; at least never name a cell that is too small for it.
            large = [ground.cells[row].gpus_total >= w.gpus for row in rows]
            room = np.array(large if any(large) else [True] * len(rows))
        pick = int(np.where(room, starts.score[:, 0], np.inf).argmin())
        ground.capacity.reserve(w, rows[pick], 0)
        estimate, cell = ground.estimate(w, starts, pick, 0), ground.cells[rows[pick]].name
        return release(w, now, cell, reason, message or messages.bound_reached(w, cell, now), estimate, estimate)

    def _choose(self, w: Workload, rows: list[int]) -> Decision:
        ground, last = self._ground, self._ground.candidates(w)
        proposed = ground.proposed.pop(w.key, None)
        if proposed is not None:
            ground.capacity.pencil_in(w, *proposed, sign=-1)
        comparable = ground.comparable(rows)
        starts = ground.starts(w, comparable or rows, last)
        if comparable and len(comparable) < len(rows) and not starts.ok.any():
            # Nothing with a known signal has room before the bound: better an unknown one than none.
            starts = ground.starts(w, rows, last)
        rows, ok, open_at = starts.rows, starts.ok, anywhere(starts.ok)
        first, at_once = int(open_at.argmax()), starts.score[:, 0]
        now_row = int(np.where(ok[:, 0], at_once, np.inf).argmin()) if open_at[0] else int(at_once.argmin())
        now = ground.estimate(w, starts, now_row, 0)
        if not open_at[first]:
            return self._wait_full(w, starts, now)
        has_forecast, hurried = rows == comparable, w.key in self._hurried
        ends = ground.worth(w, last) if has_forecast else None
        waiting = ground.waiting_per_kw(w, last)
        chosen = self._cheapest(w, starts, starts.score, first, ends, waiting)
        row, start, _ = chosen
        ground.capacity.reserve(w, rows[row], start)
        alone = self._cheapest(w, starts, starts.plain, first, ends, waiting) if starts.warm else chosen
        spared_g = (starts.spared(row, start) * w.power_kw, starts.spared(*alone[:2]) * w.power_kw)
        warms = (row, start) != alone[:2] and spared_g[0] > spared_g[1] * (1.0 + _SAME)
        for_own = not warms and self._for_own_power(w, starts, (row, start), first, ends, waiting)
        cell, when = ground.cells[rows[row]].name, ground.grid.start(start)
        best = ground.estimate(w, starts, row, start)
        if start == 0:
            if warms and now is not None:
                words = messages.heat_now(w, cell, *spared_g)
                return release(w, ground.snapshot.now, cell, Reason.HEAT_DELIVERY, words, now, now)
            if for_own and now is not None:
                words = messages.on_site_now(w, cell, now)
                return release(w, ground.snapshot.now, cell, Reason.ON_SITE_POWER, words, now, now)
            cheaper = alone[2]
            if waiting is not None and has_forecast and not hurried:
                plain = np.where(ok, starts.plain, np.inf)
                cheaper = cheapest_later(plain[:, : ground.worth(w, last) + 1], 0, float(plain[row, 0]))
            return self._start(w, starts, row, now, cheaper)
        likely = likely_start(ground, w, starts, row, start)
        planned = float(starts.score[row, start])
        waits_anyway = has_forecast and not hurried and would_wait(ground, w, starts, now_row, planned)
        if open_at[0] or waits_anyway:
            if warms and now is not None and best is not None:
                words = messages.heat_later(w, cell, when, now, best, *spared_g)
                return hold(w, cell, when, likely, Reason.HEAT_DELIVERY, now, best, words=words)
            if for_own and now is not None and best is not None:
                words = messages.on_site_later(w, cell, when, now, best)
                return hold(w, cell, when, likely, Reason.ON_SITE_POWER, now, best, words=words)
            keeps = taken(ground, w, starts, float(starts.plain[row, start])) if has_forecast else None
            return hold(w, cell, when, likely, Reason.CLEANER_WINDOW, now, best, taken=keeps)
        given = given_to_others(ground, w, starts, start)
        if given is not None:
            shares = ground.standing.shares[w.tenant]
            words = messages.others_first(w, cell, when, ground.grid.start(given), shares)
            return hold(w, cell, when, likely, Reason.TENANT_SHARE, now, best, words=words)
        reason = why_not_now(ground, w, rows[now_row])
        return hold(w, cell, when, likely, reason, now, best, until=ground.grid.start(first))

    def _cheapest(
        self, w: Workload, starts: Starts, score: FloatArray, first: int, ends: int | None, waiting: FloatArray | None
    ) -> tuple[int, int, tuple[int, int, float] | None]:
        """Return row and candidate of the start to take, and the best one after the first open start.

        Args:
            w: The workload.
            starts: What it may choose from.
            score: By what, shape of `starts.score`.
            first: The first candidate that is open.
            ends: The last candidate that is worth waiting for; None without a forecast.
            waiting: What its tenant's price asks of each candidate.
        """
        masked = np.where(starts.ok, score + waiting if waiting is not None else score, np.inf)
        row = int(masked[:, first].argmin())
        if ends is None:
            return row, first, None
        # Its own place is free to it, all others are taken: the cheapest open start is never worse than that.
        spared = starts.spared(row, first) if score is starts.score else 0.0
        cheaper = cheapest_later(masked[:, : ends + 1], first, float(masked[row, first]), spared)
        if cheaper is None or cheaper[2] < w.minimum_saving_percent / 100.0 or w.key in self._hurried:
            return row, first, cheaper
        return cheaper[0], cheaper[1], cheaper

    def _for_own_power(
        self,
        w: Workload,
        starts: Starts,
        chosen: tuple[int, int],
        first: int,
        ends: int | None,
        waiting: FloatArray | None,
    ) -> bool:
        """Return whether the grid alone would choose another start, which uses less of the site's own power."""
        if starts.on_site is None:
            return False
        grid_alone = self._cheapest(w, starts, starts.by_grid, first, ends, waiting)[:2]
        return chosen != grid_alone and starts.own(*chosen) > starts.own(*grid_alone) * (1.0 + _SAME)

    def _start(
        self,
        w: Workload,
        starts: Starts,
        row: int,
        now: Estimate | None,
        cheaper: tuple[int, int, float] | None,
    ) -> Decision:
        ground, rows = self._ground, starts.rows
        cell, at = ground.cells[rows[row]].name, ground.snapshot.now
        if now is None:
            return release(w, at, cell, Reason.FORECAST_UNAVAILABLE, messages.forecast_unavailable(cell))
        better = None
        if cheaper is not None:
            better = ground.estimate(w, starts, *cheaper[:2]) or now, cheaper[2]
        return start_now(w, at, cell, now, better, hurried=w.key in self._hurried, shares=ground.standing.shares)

    def _wait_full(self, w: Workload, starts: Starts, now: Estimate | None) -> Decision:
        """Hold to the bound: nothing it may use is free before. It will start then whatever is planned."""
        capacity, rows, last = self._ground.capacity, starts.rows, starts.last
        row = int(starts.score[:, last].argmin())
        reason = capacity.blocked_by(w, rows[int(starts.score[:, 0].argmin())])
        also = []
        if len(rows) == 1:
            also = [other for other in capacity.all_blocking(w, rows[0], last) if other is not reason]
        capacity.reserve(w, rows[row], last)
        self.beyond.add(w.key)
        best = self._ground.estimate(w, starts, row, last)
        cell = self._ground.cells[rows[row]].name
        return hold(w, cell, w.latest_start, w.latest_start, reason, now, best, also=also)
