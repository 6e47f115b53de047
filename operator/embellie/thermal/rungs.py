# SPDX-License-Identifier: Apache-2.0
"""On which rung of the ladder a zone stands, from what it shows: when it climbs, and when it comes down. Pure."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum

from embellie.domain.limits import fresh_value
from embellie.domain.snapshot import Reading
from embellie.thermal.duties import Duty
from embellie.thermal.overheated import Heats, Overheated, felt_heat
from embellie.thermal.settings import LadderSettings, Measure
from embellie.thermal.shedding import ShedMemory
from embellie.thermal.trend import Trend

URGENT_S = 300.0
"""A hard limit that is nearer than this leaves no time to try one rung after the other [s]."""
_EASE_DWELLS = 3.0
"""A zone comes down once it was cool for so many dwells: long enough to see that it stays cool."""


class Level(IntEnum):
    """How far up the ladder a zone is."""

    NORMAL = 0
    CLOSED = 1
    CAPPED = 2
    PAUSING = 3
    TAINTED = 4


_LEVEL_OF = {
    Measure.CLOSE: Level.CLOSED,
    Measure.CAP: Level.CAPPED,
    Measure.PAUSE: Level.PAUSING,
    Measure.TAINT: Level.TAINTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneHeat:
    """What the ladder looks at in one zone."""

    name: str
    temperature: Reading | None
    """What is limited: the reading that stands closest to its hard limit."""
    hard_c: float
    enter_c: float
    leave_c: float
    pause_c: float = -float("inf")
    """Below it nothing is paused yet: a soft limit closes and caps, only the hard limit's nearness stops work."""
    target_kw: float | None
    """Heat at which the zone settles halfway between its marks [kW]; None where its gain is not known."""
    heat_kw: float
    duty: Duty | None = None
    """What a permit or an order to cut leaves now and soon; None where neither limits the zone."""
    supply_c: float | None = None
    """What the cooling delivers [degC]; None where nobody knows."""
    neighbours: tuple[str, ...] = ()
    """Zones whose heat may reach it."""

    @property
    def is_cool(self) -> bool:
        """Whether a fresh reading shows it under its leave mark."""
        value = fresh_value(self.temperature)
        return value is not None and value <= self.leave_c

    @property
    def is_hot(self) -> bool:
        """Whether a fresh reading shows it over its leave mark; one that nothing tells of is neither."""
        value = fresh_value(self.temperature)
        return value is not None and value > self.leave_c


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneMemory:
    """What the ladder remembers of one zone."""

    level: Level
    since: datetime
    cool_since: datetime | None = None
    tokens: float
    tokens_at: datetime
    trend: Trend = field(default_factory=Trend)
    cap_share: float = 1.0
    paused: tuple[str, ...] = ()
    reason: str = ""
    capped_at: datetime | None = None
    going: tuple[tuple[str, float, datetime], ...] = ()
    """What was told to pause: key, its power [kW], and until when it may still show in what is measured."""
    shed: ShedMemory = field(default_factory=ShedMemory)
    hot: Overheated | None = None

    @property
    def overheats(self) -> bool:
        """Whether the zone's temperature holds it back."""
        return self.level > Level.NORMAL


def felt(
    before: ZoneMemory,
    zone: ZoneHeat,
    policy: LadderSettings,
    now: datetime,
    *,
    around_kw: Heats,
    presses: bool,
    warms: bool,
) -> ZoneMemory:
    """Take in the reading: its trend, for how long it has been cool, and the tokens that came back.

    It and its neighbours make `around_kw`. A zone that presses on one that overheats has to prove what it can carry
    like that one; what it carries while it warms that one over its leave mark proves nothing.
    """
    hours = max(0.0, (now - before.tokens_at).total_seconds()) / 3600.0
    tokens = min(float(policy.pause_burst), before.tokens + hours * policy.pauses_per_hour)
    value = fresh_value(zone.temperature)
    if value is None:
        return replace(before, tokens=tokens, tokens_at=now, cool_since=None)
    cool_since = (before.cool_since or now) if zone.is_cool else None
    trend = before.trend.felt(now, value, zone.hard_c, URGENT_S)
    hot = felt_heat(
        before.hot,
        around_kw,
        zone.supply_c,
        now,
        over=value >= zone.enter_c or (presses and before.hot is None),
        cool=zone.is_cool and not warms,
        rises=trend.rises,
        held=before.overheats or presses,
        hottest_c=trend.hottest_c,
        leave_c=zone.leave_c,
    )
    return replace(before, tokens=tokens, tokens_at=now, trend=trend, cool_since=cool_since, hot=hot)


def climb(
    state: ZoneMemory, zone: ZoneHeat, policy: LadderSettings, now: datetime, back_at: datetime | None = None
) -> ZoneMemory:
    """Return on which rung the zone stands now; one whose sensor tells nothing stays where it is.

    Nor does one come down that gets heat back at `back_at`, sooner than it would have been seen to stay cool with it.
    """
    value = fresh_value(zone.temperature)
    if value is None:
        # Nobody knows how warm it is: what was done stays done.
        return state
    rungs = [Level.NORMAL, *sorted(_LEVEL_OF[m] for m in policy.measures)]
    top = rungs[-1]
    here = max(i for i, level in enumerate(rungs) if level <= state.level)
    dwelt = (now - state.since).total_seconds() >= policy.min_dwell_s
    to_limit = state.trend.to_limit_s(zone.hard_c)
    near = value >= zone.enter_c or (value > zone.leave_c and to_limit <= URGENT_S)
    if value >= zone.hard_c or (to_limit <= URGENT_S and near):
        # All at once: there is no time to see what one rung does.
        rung = next((level for level in rungs if level >= Level.PAUSING), top)
        if value >= zone.hard_c and dwelt:
            rung = top
        if rung > state.level:
            return replace(
                state, level=rung, since=now, reason=f"{value:.1f} °C, {_in_words(to_limit)} of {zone.hard_c:.1f} °C"
            )
        return state
    up = rungs[here + 1] if here + 1 < len(rungs) else None
    if up is not None and up >= Level.PAUSING and value < zone.pause_c:
        up = None
    if near and up is not None and (dwelt or state.level is Level.NORMAL) and not state.trend.falls:
        return replace(state, level=up, since=now, reason=f"{value:.1f} °C is over {zone.enter_c:.1f} °C")
    cool_s = _EASE_DWELLS * policy.min_dwell_s
    cooled = state.cool_since is not None and (now - state.cool_since).total_seconds() >= cool_s
    soon_back = back_at is not None and 0.0 <= (back_at - now).total_seconds() <= cool_s
    if cooled and dwelt and state.level > Level.NORMAL and not state.trend.rises and not soon_back:
        # A rung that is not allowed any more is left for the next one that is.
        below = rungs[here - 1] if state.level is rungs[here] else rungs[here]
        return replace(state, level=below, since=now, reason=f"under {zone.leave_c:.1f} °C for {cool_s:.0f} s")
    return state


def _in_words(seconds: float) -> str:
    if seconds == 0.0:
        return "at or over the limit"
    return f"{seconds:.0f} s short" if seconds < 1e6 else "short"
