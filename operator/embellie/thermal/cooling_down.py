# SPDX-License-Identifier: Apache-2.0
"""What a rung of the ladder orders: how far caps go down and up, what is paused, what a permit asks for. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from embellie.domain.limits import fresh_value
from embellie.thermal.capping import share_lifted, share_needed
from embellie.thermal.relief import CAP_LEASE_S, CapOrder, HeatLoad, PauseOrder, pauses_for, worst_kw
from embellie.thermal.rungs import URGENT_S, Level, ZoneHeat, ZoneMemory
from embellie.thermal.settings import LadderSettings, Measure
from embellie.thermal.shedding import gone_by, shed


def lower_caps(
    state: ZoneMemory, zone: ZoneHeat, loads: Sequence[HeatLoad], policy: LadderSettings, now: datetime
) -> tuple[ZoneMemory, list[CapOrder]]:
    """Lower caps while the zone stands on the rung, keep them while it is closed, let them lapse after."""
    if Measure.CAP not in policy.measures or not any(load.capable for load in loads):
        return (replace(state, cap_share=1.0) if state.level is Level.NORMAL else state), []
    share = state.cap_share
    staying = [load for load in loads if load.key not in state.paused]
    wanted = _wanted_kw(zone)
    if fresh_value(zone.temperature) is None:
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
        cool = (fresh_value(zone.temperature) or 0.0) <= (zone.enter_c + zone.leave_c) / 2.0
        found = share_lifted(share, state.capped_at, now) if cool and state.level is Level.NORMAL else share
    if found != share:
        state, share = replace(state, capped_at=now), found
    state = replace(state, cap_share=share)
    share = min(share, state.shed.share)
    if share >= 1.0:
        return state, []
    expires = now + timedelta(seconds=CAP_LEASE_S)
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
    last = fresh_value(zone.temperature)
    return 0.9 * zone.heat_kw if last is not None and last >= zone.leave_c else None


def pause(
    state: ZoneMemory,
    zone: ZoneHeat,
    loads: Sequence[HeatLoad],
    caps: Sequence[CapOrder],
    now: datetime,
) -> tuple[ZoneMemory, list[PauseOrder]]:
    """Pause what caps alone do not shed, as far as the token bucket allows or the hard limit's nearness asks."""
    if not zone.is_hot:
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


def _sent_off(state: ZoneMemory, chosen: Sequence[HeatLoad], now: datetime) -> ZoneMemory:
    if not chosen:
        return state
    return replace(
        state,
        paused=(*state.paused, *(load.key for load in chosen)),
        going=(*state.going, *((load.key, load.power_kw, gone_by(load, now)) for load in chosen)),
    )


def _staying_kw(state: ZoneMemory, zone: ZoneHeat, loads: Sequence[HeatLoad]) -> float:
    """Return the zone's heat without what was told to pause but still draws or still shows in readings [kW]."""
    drawing = {load.key: load.power_kw for load in loads}
    left = sum(kw for key, kw, _ in state.going if key not in drawing)
    left += sum(drawing[key] for key in state.paused if key in drawing)
    # What left faster than was thought does not show any more: never less than what is known to stay.
    staying = sum(load.power_kw for load in loads if load.key not in state.paused)
    return max(min(staying, zone.heat_kw), zone.heat_kw - left)


def come_down(
    state: ZoneMemory, zone: ZoneHeat, loads: Sequence[HeatLoad], policy: LadderSettings, now: datetime
) -> tuple[ZoneMemory, list[PauseOrder], bool]:
    """Come down to what a permit or an order allows; return also whether new work may come in."""
    if state.going:
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
