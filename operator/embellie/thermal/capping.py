# SPDX-License-Identifier: Apache-2.0
"""How deep caps go, and when they come up again: lowered at once to what is needed, raised by small steps. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from embellie.thermal.power import WORST_CASE_FACTOR
from embellie.thermal.relief import HeatLoad, caps_for

SETTLE_S = 120.0
"""Time for a measure to show in what is measured [s]."""
STEP = 0.05
"""By so much of the rated power caps go up while what asked for them lasts."""
_LIFT_STEP, _LIFT_EVERY_S = 0.1, 180.0
"""The same, and how often [s], once it is over: power must not come back as a jump."""


def share_needed(
    share: float,
    changed: datetime | None,
    loads: Sequence[HeatLoad],
    spare_kw: float,
    now: datetime,
    *,
    urgent: bool,
    falls: bool,
    dwell_s: float,
) -> float:
    """Return the caps that a hot zone needs, as a share of the rated power (0..1).

    What was ordered has a dwell to show in the temperature, or it would be ordered twice; a limit that is minutes away
    waits only until it shows in the power. Where the zone would settle well below, caps go up by one step a dwell.

    Args:
        share: The caps now.
        changed: When they were set; None: never.
        loads: What runs and stays.
        spare_kw: What may come on top of what they draw now; negative: what has to go [kW].
        now: The present.
        urgent: Whether the hard limit is minutes away.
        falls: Whether the zone cools already.
        dwell_s: How long a measure has to show [s].
    """
    waits_s = SETTLE_S if urgent else max(SETTLE_S, dwell_s)
    if changed is not None and now - changed < timedelta(seconds=waits_s):
        return share
    if spare_kw >= 0.0:
        return min(1.0, share + STEP) if spare_kw >= step_kw(loads) and not urgent else share
    if falls and not urgent:
        return share
    drawn = sum(load.power_kw for load in loads)
    return min(share, caps_for(loads, drawn + spare_kw, WORST_CASE_FACTOR if urgent else 1.0))


def share_lifted(share: float, changed: datetime | None, now: datetime) -> float:
    """Return the caps one step up, where the last change is long enough ago."""
    if changed is not None and now - changed < timedelta(seconds=_LIFT_EVERY_S):
        return share
    return min(1.0, share + _LIFT_STEP)


def step_kw(loads: Sequence[HeatLoad]) -> float:
    """Return what one step up may add at most [kW]."""
    return sum(load.gpus * STEP * load.rated_w for load in loads if load.capable) / 1000.0
