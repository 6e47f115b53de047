# SPDX-License-Identifier: Apache-2.0
"""From GridZones' contracted power to what it leaves each thermal zone. Pure."""

from collections.abc import Mapping

from embellie.domain.limits import fresh_value
from embellie.domain.snapshot import Snapshot
from embellie.thermal.duties import share_order


def contract_orders(snapshot: Snapshot | None, heat_kw: Mapping[str, float]) -> dict[str, float]:
    """Return the heat that contracted power leaves each thermal zone, while measured power is over it [kW].

    A GridZone without a fresh power reading gives no order: nothing that runs is stopped on a guess.

    Args:
        snapshot: The last turn's; None before the first.
        heat_kw: What each thermal zone makes now.
    """
    found: dict[str, float] = {}
    if snapshot is None:
        return found
    for grid in snapshot.grid_zones:
        measured = fresh_value(grid.measured_power_kw)
        if grid.contracted_power_kw is None or measured is None:
            continue
        inside = {cell.thermal_zone for cell in snapshot.cells if cell.grid_zone == grid.name}
        mine = {name: kw for name, kw in heat_kw.items() if name in inside}
        for name, kw in share_order(grid.contracted_power_kw, measured, mine).items():
            found[name] = min(kw, found.get(name, kw))
    return found
