# SPDX-License-Identifier: Apache-2.0
"""How a zone comes down to what a permit or an order to cut allows, in time and gently first. Pure.

A permit's hours are known long before, so the zone is down when they begin: first nothing new comes in, then caps are
lowered, then work is paused, each as long before as it takes to work. What is left over after all of it is what the
promises forced. While the limit holds, nothing is lifted, so that nothing flaps; only caps are raised, by small steps,
where the zone has stayed well below. All is lifted once the limit is over, or once the zone has long been clear of it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from embellie.thermal.capping import SETTLE_S, STEP, step_kw
from embellie.thermal.duties import Duty
from embellie.thermal.relief import HeatLoad, caps_for, pauses_for

_EASE = 0.85
"""Below this share of what is allowed, for `_EASE_S`, measures are lifted."""
_EASE_S = 1800.0
_NEAR = 0.98
"""Above this share of what is allowed something is done."""
_AIM = 0.95
"""To this share of it."""
_RAISE_EVERY_S = 900.0
"""Caps go up by one step, and so far apart, where the zone would still stay at its aim [s]."""
_GRACE_S = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShedMemory:
    """What was done about a permit or an order."""

    rung: int = 0
    """0 nothing, 1 closed, 2 capped, 3 pausing."""
    share: float = 1.0
    """Caps, as a share of the rated power."""
    changed: datetime | None = None
    clear_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shed:
    """What is to be done now."""

    memory: ShedMemory
    admits: bool
    pauses: tuple[HeatLoad, ...] = ()


def shed(
    memory: ShedMemory,
    duty: Duty | None,
    heat_kw: float,
    loads: Sequence[HeatLoad],
    leaving: Collection[str],
    now: datetime,
    *,
    may_cap: bool,
    may_pause: bool,
    shown_kw: float | None = None,
) -> Shed:
    """Return what a permit or an order asks for now.

    Args:
        memory: What was done before.
        duty: What is allowed; None where nothing limits the zone.
        heat_kw: Heat that the zone makes, without what is already on its way out [kW].
        loads: What runs in the zone.
        leaving: Of that, what was told to pause.
        now: The present.
        may_cap: Whether the zone's ladder has caps.
        may_pause: Whether it has pauses.
        shown_kw: The same heat as far as it shows: what left may still be in it, so that nothing comes in on a guess;
            None: no other.
    """
    if duty is None or duty.close_kw == float("inf"):
        return Shed(memory=ShedMemory(), admits=True)
    clear = heat_kw <= _EASE * duty.close_kw
    state = replace(memory, clear_since=(memory.clear_since or now) if clear else None)
    if state.clear_since is not None and now - state.clear_since >= timedelta(seconds=_EASE_S):
        state = ShedMemory(clear_since=state.clear_since)
    if heat_kw > _NEAR * duty.close_kw:
        state = replace(state, rung=max(state.rung, 1))
    staying = [load for load in loads if load.key not in leaving]
    settled = state.changed is None or now - state.changed >= timedelta(seconds=SETTLE_S)
    if may_cap and heat_kw > _NEAR * duty.cap_kw and settled:
        beside = max(0.0, heat_kw - sum(load.power_kw for load in staying))
        share = caps_for(staying, _AIM * duty.cap_kw - beside, overshoot=1.0)
        if share < state.share - 0.005:
            state = replace(state, rung=max(state.rung, 2), share=share, changed=now)
            settled = False
    elif state.share < 1.0 and _has_room(state, duty, heat_kw, staying, now):
        state = replace(state, share=min(1.0, state.share + STEP), changed=now)
    chosen: list[HeatLoad] = []
    if may_pause and heat_kw > _NEAR * duty.pause_kw and settled:
        chosen = pauses_for(staying, heat_kw - _AIM * duty.pause_kw, len(staying), now)
        if chosen:
            state = replace(state, rung=3, changed=now)
    return Shed(memory=state, admits=max(heat_kw, shown_kw or 0.0) <= _NEAR * duty.close_kw, pauses=tuple(chosen))


def _has_room(state: ShedMemory, duty: Duty, heat_kw: float, staying: Sequence[HeatLoad], now: datetime) -> bool:
    """Tell whether caps may go up a step under a limit that lasts."""
    if state.changed is not None and now - state.changed < timedelta(seconds=_RAISE_EVERY_S):
        return False
    return heat_kw + step_kw(staying) <= _AIM * duty.close_kw


def gone_by(load: HeatLoad, now: datetime) -> datetime:
    """Return until when a paused load may still show in what is measured."""
    return now + timedelta(seconds=load.checkpoint_s + _GRACE_S)
