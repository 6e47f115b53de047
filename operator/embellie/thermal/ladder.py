# SPDX-License-Identifier: Apache-2.0
"""What is done when a zone heats in spite of the shield: a pure state machine, gently first.

Close admission, lower caps evenly inside each job, pause by priority and least lost work, taint. A zone climbs when it
stands at its enter mark, or is about to pass its hard limit sooner than the next rung would work; it comes down one
rung at a time, once it stood under its leave mark for three dwells. Pauses draw on a token bucket, against flapping;
only at or over the hard limit, or when it is minutes away, may they go beyond it. A zone whose sensor cannot be trusted
never comes down and no cap is raised in it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from embellie.thermal.cooling_down import come_down, lower_caps, pause
from embellie.thermal.overheated import Heats
from embellie.thermal.relief import CapOrder, HeatLoad, PauseOrder
from embellie.thermal.rungs import Level, ZoneHeat, ZoneMemory, climb, felt
from embellie.thermal.settings import LadderSettings, Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneResponse:
    """Where a zone stands."""

    level: Level
    since: datetime
    reason: str
    admits: bool = True
    """Whether new work may come in; under a permit or an order what is allowed still bounds it."""
    proven_kw: tuple[Heats, ...] = ()
    """Heat of the zone and its neighbours of which any may come back after it overheated; empty where it did not, or
    long ago."""
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


@dataclass(frozen=True, slots=True)
class LadderMemory:
    """What the ladder remembers between turns, by zone."""

    zones: Mapping[str, ZoneMemory] = field(default_factory=dict)

    def overheats(self, zone: str) -> bool:
        """Tell whether a zone's temperature holds it back."""
        found = self.zones.get(zone)
        return found is not None and found.overheats

    def capped(self, zone: str) -> bool:
        """Tell whether caps that a zone's temperature asked for still stand."""
        found = self.zones.get(zone)
        return found is not None and found.cap_share < 1.0

    def paused(self, zone: str) -> tuple[str, ...]:
        """Return what was paused in a zone and has not been let back."""
        found = self.zones.get(zone)
        return found.paused if found else ()

    def recalled(self, zone: str, keys: Collection[str], level: Level) -> "LadderMemory":
        """Return the memory once it is known what a leader before this one paused in a zone that it has looked at."""
        return LadderMemory({**self.zones, zone: replace(self.zones[zone], level=level, paused=tuple(sorted(keys)))})

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
    back_by: Mapping[str, datetime] | None = None,
) -> tuple[LadderMemory, Response]:
    """Return what is to be done now and what is to be remembered. Equal arguments give equal answers.

    Of what is paused `back_by` tells when it goes on at the latest, whatever its zone shows.
    """
    remembered: dict[str, ZoneMemory] = {}
    answers: dict[str, ZoneResponse] = {}
    caps: list[CapOrder] = []
    pauses: list[PauseOrder] = []
    resumes: list[str] = []
    by_zone: dict[str, list[HeatLoad]] = {}
    for load in loads:
        by_zone.setdefault(load.zone, []).append(load)
    heat_kw = {zone.name: zone.heat_kw for zone in zones}
    # Whose heat may reach a zone that overheats.
    overheating = [zone for zone in zones if memory.overheats(zone.name)]
    pressing = {name for zone in overheating for name in zone.neighbours}
    too_warm = {name for zone in overheating if not zone.is_cool for name in zone.neighbours}
    easing = {name: zone.name for zone in zones if memory.capped(zone.name) for name in zone.neighbours}
    for zone in zones:
        policy = settings[zone.name]
        before = memory.zones.get(zone.name) or ZoneMemory(
            level=Level.NORMAL, since=now, tokens=float(policy.pause_burst), tokens_at=now
        )
        state = felt(
            before,
            zone,
            policy,
            now,
            around_kw={name: heat_kw[name] for name in (zone.name, *zone.neighbours) if name in heat_kw},
            presses=zone.name in pressing,
            warms=zone.name in too_warm,
        )
        back = [back_by[key] for key in state.paused if key in back_by] if back_by else []
        state = climb(state, zone, policy, now, min(back, default=None))
        inside = by_zone.get(zone.name, [])
        state, chosen, admits = come_down(state, zone, inside, policy, now)
        pauses += chosen
        state, ordered = lower_caps(state, zone, inside, policy, now)
        caps += ordered
        if state.level >= Level.PAUSING and Measure.PAUSE in policy.measures:
            state, chosen = pause(state, zone, inside, ordered, now)
            pauses += chosen
        # What runs gets its power back before anything else comes in, here or where its heat reaches here.
        first = zone.name if state.cap_share < 1.0 else easing.get(zone.name)
        admits = admits and first is None
        if state.level is Level.NORMAL and admits:
            # What was told to pause and runs still is taken off the heat that fits: the order for it stands.
            told = {load.key for load in inside} if state.shed.rung >= Level.PAUSING else ()
            resumes += [key for key in state.paused if key not in told]
        remembered[zone.name] = state
        answers[zone.name] = _answer(state, zone, admits=admits, first=first)
    tainted = frozenset(
        name
        for name, answer in answers.items()
        if answer.level >= Level.TAINTED and Measure.TAINT in settings[name].measures
    )
    response = Response(zones=answers, caps=tuple(caps), pauses=tuple(pauses), resumes=tuple(resumes), taints=tainted)
    return LadderMemory(remembered), response


def _answer(state: ZoneMemory, zone: ZoneHeat, *, admits: bool, first: str | None) -> ZoneResponse:
    level, reason = state.level, state.reason
    if level is Level.NORMAL and first is not None:
        reason = f"what runs in {first} gets its power back first"
    if state.shed.rung > level:
        level = Level(state.shed.rung)
        reason = zone.duty.why if zone.duty is not None else reason
    return ZoneResponse(
        level=level,
        since=state.since,
        reason=reason,
        admits=admits and not state.overheats,
        proven_kw=() if state.hot is None else state.hot.proven_kw,
        overheats=state.overheats,
    )
