# SPDX-License-Identifier: Apache-2.0
"""What is done when a zone heats in spite of the shield: a pure state machine, gently first.

Close admission, lower caps evenly inside each job, pause by priority and least lost work, taint. A zone climbs when it
stands at its enter mark, or is about to pass its hard limit sooner than the next rung would work; it comes down one
rung at a time, once it stood under its leave mark for three dwells. Pauses draw on a token bucket, against flapping;
only at or over the hard limit, or when it is minutes away, may they go beyond it. A zone whose sensor cannot be trusted
never comes down and no cap is raised in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import IntEnum

from embellie.domain.snapshot import Quality, Reading
from embellie.thermal.capping import share_lifted, share_needed
from embellie.thermal.duties import Duty
from embellie.thermal.overheated import Overheated, felt_heat
from embellie.thermal.relief import CapOrder, HeatLoad, PauseOrder, pauses_for, worst_kw
from embellie.thermal.settings import LadderSettings, Measure
from embellie.thermal.shedding import ShedMemory, gone_by, shed
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneResponse:
    """Where a zone stands."""

    level: Level
    since: datetime
    reason: str
    admits: bool = True
    """Whether new work may come in; under a permit or an order what is allowed still bounds it."""
    proven_kw: float | None = None
    """Most heat that may come back after the zone overheated [kW]; None where it did not, or long ago."""
    overheats: bool = False
    """Whether its temperature holds it back, and not a permit or an order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What is to be done now, for all zones."""

    zones: Mapping[str, ZoneResponse]
    caps: tuple[CapOrder, ...] = ()
    pauses: tuple[PauseOrder, ...] = ()
    resumes: tuple[str, ...] = ()
    """What we paused and may come back; the shield still decides when."""
    taints: frozenset[str] = frozenset()
    """Zones whose nodes shall take nothing new, whoever sends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
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


@dataclass(frozen=True, slots=True)
class LadderMemory:
    """What the ladder remembers between turns, by zone."""

    zones: Mapping[str, _Memory] = field(default_factory=dict)

    def overheats(self, zone: str) -> bool:
        """Tell whether a zone's temperature holds it back."""
        found = self.zones.get(zone)
        return found is not None and found.overheats

    def paused(self, zone: str) -> tuple[str, ...]:
        """Return what was paused in a zone and has not been let back."""
        found = self.zones.get(zone)
        return found.paused if found else ()

    def resumed(self, key: str) -> "LadderMemory":
        """Return the memory once a paused workload runs again or is gone."""
        return LadderMemory(
            {name: replace(m, paused=tuple(k for k in m.paused if k != key)) for name, m in self.zones.items()}
        )


def respond(
    memory: LadderMemory,
    zones: Sequence[ZoneHeat],
    loads: Sequence[HeatLoad],
    settings: Mapping[str, LadderSettings],
    now: datetime,
) -> tuple[LadderMemory, Response]:
    """Return what is to be done now and what is to be remembered. Equal arguments give equal answers."""
    remembered: dict[str, _Memory] = {}
    answers: dict[str, ZoneResponse] = {}
    caps: list[CapOrder] = []
    pauses: list[PauseOrder] = []
    resumes: list[str] = []
    by_zone: dict[str, list[HeatLoad]] = {}
    for load in loads:
        by_zone.setdefault(load.zone, []).append(load)
    # Whose heat may reach a zone that overheats.
    pressing = {name for zone in zones if memory.overheats(zone.name) for name in zone.neighbours}
    for zone in zones:
        policy = settings[zone.name]
        before = memory.zones.get(zone.name) or _Memory(
            level=Level.NORMAL, since=now, tokens=float(policy.pause_burst), tokens_at=now
        )
        felt = _felt(before, zone, policy, now, presses=zone.name in pressing)
        state = _climb(felt, zone, policy, now)
        inside = by_zone.get(zone.name, [])
        state, chosen, admits = _shed(state, zone, inside, policy, now)
        pauses += chosen
        state, ordered = _cap(state, zone, inside, policy, now)
        caps += ordered
        if state.level >= Level.PAUSING and Measure.PAUSE in policy.measures:
            state, chosen = _pause(state, zone, inside, ordered, now)
            pauses += chosen
        # What runs gets its power back before anything else comes in.
        admits = admits and state.cap_share >= 1.0
        if state.level is Level.NORMAL and admits:
            resumes += state.paused
        remembered[zone.name] = state
        answers[zone.name] = _answer(state, zone, admits=admits)
    tainted = frozenset(
        name
        for name, answer in answers.items()
        if answer.level >= Level.TAINTED and Measure.TAINT in settings[name].measures
    )
    response = Response(zones=answers, caps=tuple(caps), pauses=tuple(pauses), resumes=tuple(resumes), taints=tainted)
    return LadderMemory(remembered), response


def _felt(before: _Memory, zone: ZoneHeat, policy: LadderSettings, now: datetime, *, presses: bool) -> _Memory:
    """Take in the reading: its trend, for how long it has been cool, and the tokens that came back.

    A zone that presses on one that overheats has to prove what it can carry like that one.
    """
    hours = max(0.0, (now - before.tokens_at).total_seconds()) / 3600.0
    tokens = min(float(policy.pause_burst), before.tokens + hours * policy.pauses_per_hour)
    value = _fresh(zone.temperature)
    state = replace(before, tokens=tokens, tokens_at=now)
    if value is None:
        return replace(state, cool_since=None)
    cool_since = (state.cool_since or now) if value <= zone.leave_c else None
    trend = state.trend.felt(now, value, zone.hard_c, URGENT_S)
    hot = felt_heat(
        state.hot,
        zone.heat_kw,
        zone.supply_c,
        now,
        over=value >= zone.enter_c or (presses and state.hot is None),
        cool=value <= zone.leave_c,
        rises=trend.rises,
        held=state.overheats or presses,
        hottest_c=trend.hottest_c,
        leave_c=zone.leave_c,
    )
    return replace(state, trend=trend, cool_since=cool_since, hot=hot)


def _fresh(reading: Reading | None) -> float | None:
    return reading.value if reading is not None and reading.quality is Quality.FRESH else None


def _climb(state: _Memory, zone: ZoneHeat, policy: LadderSettings, now: datetime) -> _Memory:
    value = _fresh(zone.temperature)
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
    if cooled and dwelt and here > 0 and not state.trend.rises:
        below = rungs[here - 1]
        return replace(state, level=below, since=now, reason=f"under {zone.leave_c:.1f} °C for {cool_s:.0f} s")
    return state


def _in_words(seconds: float) -> str:
    if seconds == 0.0:
        return "at or over the limit"
    return f"{seconds:.0f} s short" if seconds < 1e6 else "short"


def _cap(
    state: _Memory, zone: ZoneHeat, loads: Sequence[HeatLoad], policy: LadderSettings, now: datetime
) -> tuple[_Memory, list[CapOrder]]:
    """Lower caps while the zone stands on the rung, keep them while it is closed, let them lapse after."""
    if Measure.CAP not in policy.measures or not any(load.capable for load in loads):
        return (replace(state, cap_share=1.0) if state.level is Level.NORMAL else state), []
    share = state.cap_share
    staying = [load for load in loads if load.key not in state.paused]
    wanted = _wanted_kw(zone)
    if _fresh(zone.temperature) is None:
        found = share
    elif state.level >= Level.CAPPED and wanted is not None:
        found = share_needed(
            share,
            state.capped_at,
            staying,
            wanted - _staying_kw(state, zone, loads),
            now,
            urgent=state.trend.to_limit_s(zone.hard_c) <= URGENT_S,
            falls=state.trend.falls,
            dwell_s=policy.min_dwell_s,
        )
    else:
        cool = (_fresh(zone.temperature) or 0.0) <= (zone.enter_c + zone.leave_c) / 2.0
        found = share_lifted(share, state.capped_at, now) if cool and state.level is Level.NORMAL else share
    if found != share:
        state, share = replace(state, capped_at=now), found
    state = replace(state, cap_share=share)
    share = min(share, state.shed.share)
    if share >= 1.0:
        return state, []
    expires = now + timedelta(seconds=policy.cap_lease_s)
    return state, [
        CapOrder(
            key=load.key,
            nodes=load.nodes,
            watts_per_gpu=max(load.knee_w, share * load.rated_w),
            expires=expires,
            reason=state.reason or (zone.duty.why if zone.duty is not None else ""),
        )
        for load in loads
        if load.capable
    ]


def _wanted_kw(zone: ZoneHeat) -> float | None:
    """Return the heat that the zone shall come down to [kW]."""
    if zone.target_kw is not None:
        return zone.target_kw
    # The gain is not known: a tenth less, and look again after the dwell.
    last = _fresh(zone.temperature)
    return 0.9 * zone.heat_kw if last is not None and last >= zone.leave_c else None


def _pause(
    state: _Memory,
    zone: ZoneHeat,
    loads: Sequence[HeatLoad],
    caps: Sequence[CapOrder],
    now: datetime,
) -> tuple[_Memory, list[PauseOrder]]:
    value = _fresh(zone.temperature)
    if value is None or value <= zone.leave_c:
        return state, []
    urgent = state.trend.to_limit_s(zone.hard_c) <= URGENT_S
    if state.going and not urgent:
        # What is on its way out has time to show first.
        return state, []
    wanted = zone.target_kw if zone.target_kw is not None else 0.8 * zone.heat_kw
    capped = {order.key: order.watts_per_gpu for order in caps}
    running = [load for load in loads if load.key not in state.paused]
    now_kw = _staying_kw(state, zone, loads)
    saved = sum(max(0.0, load.power_kw - worst_kw(load, capped[load.key])) for load in running if load.key in capped)
    most = len(running) if urgent else int(state.tokens)
    chosen = pauses_for(running, now_kw - saved - wanted, most, now)
    if not chosen:
        return state, []
    state = replace(_sent_off(state, chosen, now), tokens=max(0.0, state.tokens - len(chosen)))
    return state, [PauseOrder(key=load.key, reason=state.reason) for load in chosen]


def _sent_off(state: _Memory, chosen: Sequence[HeatLoad], now: datetime) -> _Memory:
    return replace(
        state,
        paused=(*state.paused, *(load.key for load in chosen)),
        going=(*state.going, *((load.key, load.power_kw, gone_by(load, now)) for load in chosen)),
    )


def _staying_kw(state: _Memory, zone: ZoneHeat, loads: Sequence[HeatLoad]) -> float:
    """Return the zone's heat without what was told to pause but still draws or still shows in readings [kW]."""
    drawing = {load.key: load.power_kw for load in loads}
    left = sum(kw for key, kw, _ in state.going if key not in drawing)
    left += sum(drawing[key] for key in state.paused if key in drawing)
    # What left faster than was thought does not show any more: never less than what is known to stay.
    staying = sum(load.power_kw for load in loads if load.key not in state.paused)
    return max(min(staying, zone.heat_kw), zone.heat_kw - left)


def _shed(
    state: _Memory, zone: ZoneHeat, loads: Sequence[HeatLoad], policy: LadderSettings, now: datetime
) -> tuple[_Memory, list[PauseOrder], bool]:
    """Come down to what a permit or an order allows; return also whether new work may come in."""
    state = replace(state, going=tuple(entry for entry in state.going if entry[2] > now))
    found = shed(
        state.shed,
        zone.duty,
        _staying_kw(state, zone, loads),
        loads,
        state.paused,
        now,
        may_cap=Measure.CAP in policy.measures,
        may_pause=Measure.PAUSE in policy.measures,
        shown_kw=zone.heat_kw - sum(load.power_kw for load in loads if load.key in state.paused),
    )
    # When the limit is over, caps are raised step by step like those that heat asked for.
    share = min(state.cap_share, state.shed.share) if found.memory.share > state.shed.share else state.cap_share
    state = _sent_off(replace(state, shed=found.memory, cap_share=share), found.pauses, now)
    why = zone.duty.why if zone.duty is not None else ""
    return state, [PauseOrder(key=load.key, reason=why) for load in found.pauses], found.admits


def _answer(state: _Memory, zone: ZoneHeat, *, admits: bool) -> ZoneResponse:
    level, reason = state.level, state.reason
    if state.shed.rung > level:
        level = Level(state.shed.rung)
        reason = zone.duty.why if zone.duty is not None else reason
    return ZoneResponse(
        level=level,
        since=state.since,
        reason=reason,
        admits=admits and not state.overheats,
        proven_kw=None if state.hot is None else state.hot.proven_kw,
        overheats=state.overheats,
    )
