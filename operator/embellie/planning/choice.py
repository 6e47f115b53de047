# SPDX-License-Identifier: Apache-2.0
"""One workload against its policy: the cheapest open start where that saves enough, and the reason in words.

What its site's own power spares a start, and what a heat network would burn otherwise, is taken off its score; nothing
else about a choice changes. Only starts with room inside the bound are looked at.
"""

from collections.abc import Container
from dataclasses import dataclass

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.domain.plan import Decision, Estimate
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Workload, WorkloadKey
from embellie.planning import messages
from embellie.planning.axis.timegrid import cheapest_later
from embellie.planning.decisions import hold, release, start_now
from embellie.planning.ground import Ground, Starts, anywhere
from embellie.planning.why import given_to_others, likely_start, order_ends, taken, why_not_now, would_wait

_SAME = 1e-9
"""Relative differences below this are rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    """What a workload may choose from, where at least one start is open."""

    w: Workload
    starts: Starts
    first: int
    """The first candidate that is open."""
    now_row: int
    """Row of the start at once that it is told of: the cheapest open one, else the cheapest."""
    now: Estimate | None
    """What that emits; None where nobody knows."""
    ends: int | None
    """The last candidate that is worth waiting for; None without a forecast."""
    waiting: FloatArray | None
    """What its tenant's price asks of each candidate, shape (last + 1,); None where nothing."""
    hurried: bool
    """It does not wait for cleaner hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """The start that a workload takes, and what speaks for it."""

    row: int
    """Row of its `Starts`."""
    start: int
    """Candidate."""
    best: Estimate | None
    """What it emits; None where nobody knows."""
    spared_g: tuple[float, float]
    """What heat networks burn less for it, and for the start that it would take without them."""
    for_heat: bool
    """It would take another start without heat networks, for which they burn more."""
    for_own: bool
    """It would take another start by the grid alone, which uses less of the site's own power."""
    cheaper: tuple[int, int, float] | None
    """Heat networks left aside: row, candidate and saving of the best start after the first open one."""


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
        """Take the cheapest open start where that saves enough, else the first one."""
        ground, last = self._ground, self._ground.candidates(w)
        proposed = ground.proposed.pop(w.key, None)
        if proposed is not None:
            ground.capacity.pencil_in(w, *proposed, sign=-1)
        comparable = ground.comparable(rows)
        starts = ground.starts(w, comparable or rows, last)
        if comparable and len(comparable) < len(rows) and not starts.ok.any():
            # Nothing with a known signal has room before the bound: better an unknown one than none.
            starts = ground.starts(w, rows, last)
        open_at, at_once = anywhere(starts.ok), starts.score[:, 0]
        first = int(open_at.argmax())
        now_row = int(np.where(starts.ok[:, 0], at_once, np.inf).argmin()) if open_at[0] else int(at_once.argmin())
        now = ground.estimate(w, starts, now_row, 0)
        if not open_at[first]:
            return self._wait_full(w, starts, now)
        offer = _Offer(
            w=w,
            starts=starts,
            first=first,
            now_row=now_row,
            now=now,
            ends=ground.worth(w, last) if starts.rows == comparable else None,
            waiting=ground.waiting_per_kw(w, last),
            hurried=w.key in self._hurried,
        )
        choice = self._take(offer)
        return self._start(offer, choice) if choice.start == 0 else self._wait(offer, choice)

    def _take(self, offer: _Offer) -> _Choice:
        """Choose a start and take its room."""
        ground, w, starts = self._ground, offer.w, offer.starts
        chosen = row, start, _ = _cheapest(offer, starts.score)
        ground.capacity.reserve(w, starts.rows[row], start)
        alone = _cheapest(offer, starts.plain) if starts.warm else chosen
        spared_g = (starts.spared(row, start) * w.power_kw, starts.spared(*alone[:2]) * w.power_kw)
        for_heat = (row, start) != alone[:2] and spared_g[0] > spared_g[1] * (1.0 + _SAME)
        return _Choice(
            row=row,
            start=start,
            best=ground.estimate(w, starts, row, start),
            spared_g=spared_g,
            for_heat=for_heat,
            for_own=not for_heat and _for_own_power(offer, (row, start)),
            cheaper=alone[2],
        )

    def _start(self, offer: _Offer, choice: _Choice) -> Decision:
        """Start at once, with the reason why it does not wait."""
        ground, w, starts, now = self._ground, offer.w, offer.starts, offer.now
        cell, at = ground.cells[starts.rows[choice.row]].name, ground.snapshot.now
        if now is None:
            return release(w, at, cell, Reason.FORECAST_UNAVAILABLE, messages.forecast_unavailable(cell))
        if choice.for_heat:
            words = messages.heat_now(w, cell, *choice.spared_g)
            return release(w, at, cell, Reason.HEAT_DELIVERY, words, now, now)
        if choice.for_own:
            return release(w, at, cell, Reason.ON_SITE_POWER, messages.on_site_now(w, cell, now), now, now)
        cheaper = choice.cheaper
        if offer.waiting is not None and offer.ends is not None and not offer.hurried:
            plain = np.where(starts.ok, starts.plain, np.inf)
            cheaper = cheapest_later(plain[:, : offer.ends + 1], 0, float(plain[choice.row, 0]))
        better = None
        if cheaper is not None:
            better = ground.estimate(w, starts, *cheaper[:2]) or now, cheaper[2]
        return start_now(w, at, cell, now, better, hurried=offer.hurried, shares=ground.standing.shares)

    def _wait(self, offer: _Offer, choice: _Choice) -> Decision:
        """Hold until the start that was taken, with the reason why it does not start now."""
        ground, w, starts, now, best = self._ground, offer.w, offer.starts, offer.now, choice.best
        row, start = choice.row, choice.start
        cell, when = ground.cells[starts.rows[row]].name, ground.grid.start(start)
        likely = likely_start(ground, w, starts, row, start)
        patient = offer.ends is not None and not offer.hurried
        waits_anyway = patient and would_wait(ground, w, starts, offer.now_row, float(starts.score[row, start]))
        if offer.first == 0 or waits_anyway:
            if choice.for_heat and now is not None and best is not None:
                words = messages.heat_later(w, cell, when, now, best, *choice.spared_g)
                return hold(w, cell, when, likely, Reason.HEAT_DELIVERY, now, best, words=words)
            if choice.for_own and now is not None and best is not None:
                words = messages.on_site_later(w, cell, when, now, best)
                return hold(w, cell, when, likely, Reason.ON_SITE_POWER, now, best, words=words)
            keeps = taken(ground, w, starts, float(starts.plain[row, start])) if offer.ends is not None else None
            return hold(w, cell, when, likely, Reason.CLEANER_WINDOW, now, best, taken=keeps)
        given = given_to_others(ground, w, starts, start)
        if given is not None:
            shares = ground.standing.shares[w.tenant]
            words = messages.others_first(w, cell, when, ground.grid.start(given), shares)
            return hold(w, cell, when, likely, Reason.TENANT_SHARE, now, best, words=words)
        reason = why_not_now(ground, w, starts.rows[offer.now_row])
        ends = None
        if reason is Reason.CONTRACTED_POWER:
            ends = order_ends(ground, starts.rows[offer.now_row], offer.first)
        until = ground.grid.start(offer.first)
        return hold(w, cell, when, likely, reason, now, best, until=until, order_ends=ends)

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


def _cheapest(offer: _Offer, score: FloatArray) -> tuple[int, int, tuple[int, int, float] | None]:
    """Return row and candidate of the start to take, and the best one after the first open start with its saving.

    `score` says by what, shape of `Starts.score`.
    """
    starts, first, waiting = offer.starts, offer.first, offer.waiting
    masked = np.where(starts.ok, score + waiting if waiting is not None else score, np.inf)
    row = int(masked[:, first].argmin())
    if offer.ends is None:
        return row, first, None
    # Its own place is free to it, all others are taken: the cheapest open start is never worse than that.
    spared = starts.spared(row, first) if score is starts.score else 0.0
    cheaper = cheapest_later(masked[:, : offer.ends + 1], first, float(masked[row, first]), spared)
    if cheaper is None or cheaper[2] < offer.w.minimum_saving_percent / 100.0 or offer.hurried:
        return row, first, cheaper
    return cheaper[0], cheaper[1], cheaper


def _for_own_power(offer: _Offer, chosen: tuple[int, int]) -> bool:
    """Return whether the grid alone would choose another start, which uses less of the site's own power."""
    starts = offer.starts
    if starts.on_site is None:
        return False
    grid_alone = _cheapest(offer, starts.by_grid)[:2]
    return chosen != grid_alone and starts.own(*chosen) > starts.own(*grid_alone) * (1.0 + _SAME)
