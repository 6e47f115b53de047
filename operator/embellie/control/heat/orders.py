# SPDX-License-Identifier: Apache-2.0
"""From what GridZones may draw, now and soon, to what that leaves each thermal zone. Pure."""

from collections.abc import Mapping
from datetime import datetime

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.domain.limits import fresh_value
from embellie.domain.power_orders import least_limits_kw
from embellie.domain.snapshot import Snapshot
from embellie.thermal.duties import AHEAD_S, share_order


def contract_orders(snapshot: Snapshot | None, heat_kw: Mapping[str, float], now: datetime) -> dict[str, FloatArray]:
    """Return the heat that contracts and orders leave each thermal zone at each of `duties.AHEAD_S` [kW].

    By what is measured now. A GridZone without a fresh power reading gives no order: nothing that runs is stopped on a
    guess.

    Args:
        snapshot: The last turn's; None before the first.
        heat_kw: What each thermal zone makes now.
        now: The present.
    """
    found: dict[str, FloatArray] = {}
    if snapshot is None:
        return found
    for grid in snapshot.grid_zones:
        measured = fresh_value(grid.measured_power_kw)
        allowed_kw = least_limits_kw(grid.contracted_power_kw, grid.orders, now, AHEAD_S, AHEAD_S)
        if measured is None or not np.isfinite(allowed_kw).any():
            continue
        inside = {cell.thermal_zone for cell in snapshot.cells if cell.grid_zone == grid.name}
        mine = {name: kw for name, kw in heat_kw.items() if name in inside}
        for name, kw in share_order(allowed_kw, measured, mine).items():
            found[name] = np.minimum(kw, found.get(name, kw))
    return found
