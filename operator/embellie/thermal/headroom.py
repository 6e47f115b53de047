# SPDX-License-Identifier: Apache-2.0
"""How much more heat a thermal zone can take now, and which limit says so."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from embellie.domain.limits import HeatBound, heat_room_now, over_hard_inlet
from embellie.domain.snapshot import Cell, RunningGang, ThermalZoneState


class ZoneState(StrEnum):
    """A thermal zone in one word."""

    NORMAL = "Normal"
    LIMITED = "Limited"
    OVER_LIMIT = "OverLimit"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """What a thermal zone can still take."""

    headroom_kw: float
    """Heat that may be added at worst case [kW]; negative when over, infinite without a limit."""
    load_worst_kw: float
    bound: HeatBound
    trusted: bool
    state: ZoneState


def worst_load_kw(zone: ThermalZoneState, cells: Sequence[Cell], running: Sequence[RunningGang]) -> float:
    """Return the heat of a zone with all its running work at worst case [kW]."""
    inside = {cell.name for cell in cells if cell.thermal_zone == zone.name}
    return zone.base_power_kw + math.fsum(gang.worst_power_kw for gang in running if gang.cell in inside)


def headroom(zone: ThermalZoneState, load_worst_kw: float) -> Headroom:
    """Return a zone's headroom at a worst-case load.

    Args:
        zone: The zone as it is now.
        load_worst_kw: Its heat at worst case [kW].
    """
    room = heat_room_now(zone)
    left = room.limit_kw - load_worst_kw
    if over_hard_inlet(zone):
        state = ZoneState.OVER_LIMIT
    elif not room.trusted:
        state = ZoneState.UNKNOWN
    elif left <= 0.0:
        state = ZoneState.LIMITED
    else:
        state = ZoneState.NORMAL
    return Headroom(headroom_kw=left, load_worst_kw=load_worst_kw, bound=room.bound, trusted=room.trusted, state=state)
