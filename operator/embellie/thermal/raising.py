# SPDX-License-Identifier: Apache-2.0
"""How far caps go up: power that comes back is judged like a start, at its worst case and on fresh readings. Pure.

The ladder asks for it by what it measures; here it is asked whether the zone would carry what the cap held back. Closed
admission does not count: it is about what comes in, and what runs gets its power back first.

A start has to fit the hottest hour of its whole run, since nobody takes it back. A cap goes down again within minutes,
and where nobody is there to lower it, it lapses anyway: one that is kept low for tomorrow guards nothing then.
So what comes back has to fit the next hours (`BACK_S`), and so has what goes on after a pause.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from embellie.domain.snapshot import RunningGang, Snapshot
from embellie.thermal.capping import STEP
from embellie.thermal.relief import CAP_LEASE_S, CapOrder, HeatLoad, worst_kw
from embellie.thermal.shield import Rises

BACK_S = 4 * 3600.0
"""For how long a zone has to carry power that comes back to what ran before [s]."""


def let_up(orders: Sequence[CapOrder], loads: Sequence[HeatLoad], snapshot: Snapshot) -> tuple[CapOrder, ...]:
    """Return the orders to carry out: a cap that may not go up as far as is asked goes up by one step, or stays.

    Args:
        orders: What the ladder asks for; a load without an order is to be capped no more.
        loads: What runs, with the caps that stand (`cap_w`).
        snapshot: The zones as they are now, and what runs at its worst without caps; its `uid` is the load's key.
    """
    asked = {order.key: order for order in orders}
    capped = {load.key: load for load in loads if load.cap_w is not None}
    rising = [load for load in capped.values() if _asked_w(load, asked) > _standing_w(load)]
    if not rising:
        return tuple(orders)
    gangs = {gang.uid: gang for gang in snapshot.running}
    rises = Rises(_as_capped(snapshot, capped))
    for load in rising:
        asked_w = _asked_w(load, asked)
        watts, why = _up_to(asked_w, load, gangs[load.key], rises, snapshot)
        if watts < asked_w:
            expires = snapshot.now + timedelta(seconds=CAP_LEASE_S)
            asked[load.key] = CapOrder(
                key=load.key, nodes=load.nodes, watts_per_gpu=watts, expires=expires, reason=why
            )  # fmt: skip
    return tuple(asked.values())


def _up_to(asked_w: float, load: HeatLoad, gang: RunningGang, rises: Rises, snapshot: Snapshot) -> tuple[float, str]:
    """Return how far a load's cap goes up [W], and why no further."""
    left_s = max(0.0, (gang.expected_end_p90 - snapshot.now).total_seconds())
    run_s = min(left_s, BACK_S)
    now_kw, why = _worst_kw(gang, load, _standing_w(load)), ""
    for watts in (asked_w, min(asked_w, _standing_w(load) + STEP * load.rated_w)):
        refused = rises.refusal(gang.cell, _worst_kw(gang, load, watts) - now_kw, run_s)
        if refused is None:
            return watts, why
        why = refused
    return _standing_w(load), why


def _standing_w(load: HeatLoad) -> float:
    return load.rated_w if load.cap_w is None else load.cap_w


def _asked_w(load: HeatLoad, asked: Mapping[str, CapOrder]) -> float:
    return asked[load.key].watts_per_gpu if load.key in asked else load.rated_w


def _worst_kw(gang: RunningGang, load: HeatLoad, cap_w: float) -> float:
    return min(gang.worst_power_kw, worst_kw(load, cap_w))


def _as_capped(snapshot: Snapshot, capped: Mapping[str, HeatLoad]) -> Snapshot:
    """Return the snapshot with what runs at the worst that its cap leaves, and the zones open."""
    running = tuple(
        replace(gang, worst_power_kw=_worst_kw(gang, load, _standing_w(load)))
        if (load := capped.get(gang.uid)) is not None
        else gang
        for gang in snapshot.running
    )
    zones = tuple(replace(zone, admission_open=True) for zone in snapshot.thermal_zones)
    return replace(snapshot, running=running, thermal_zones=zones)
