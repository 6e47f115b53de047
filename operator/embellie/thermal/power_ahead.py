# SPDX-License-Identifier: Apache-2.0
"""Whether a grid zone may draw so much more at its worst: by its contract, and by orders that hold or come. Pure.

An order is judged at its beginning, or now where it holds already: what runs ends, so that it is never worse later. As
with heat, only work whose user said how long it runs is ever over by then (`limits.counted_until`).
"""

from datetime import datetime, timedelta

from embellie.domain.limits import SLACK_KW, counted_until
from embellie.domain.power_orders import PowerOrder
from embellie.domain.snapshot import GridZoneState, Snapshot


def allowed_now(zone: GridZoneState, now: datetime) -> str:
    """Say what a zone that is limited may draw now, and whether it is an order that says so."""
    limit_kw = zone.limit_kw(now)
    if zone.contracted_power_kw is not None and zone.contracted_power_kw <= limit_kw:
        return f"{limit_kw:.0f} kW contracted"
    until = max(o.ends for o in zone.orders if o.holds(now) and o.power_kw <= limit_kw)
    return f"{limit_kw:.0f} kW that an order leaves it until {until:%Y-%m-%d %H:%M} UTC"


class PowerAhead:
    """What still runs in the grid zones of a snapshot when an order begins."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._ended: dict[tuple[str, datetime], float] = {}

    def refusal(self, zone: GridZoneState, after_kw: float, run_s: float) -> str | None:
        """Return why a start for so long may not be, in words, or None.

        Args:
            zone: Where.
            after_kw: Facility power with the start and with all that runs or was started, at its worst [kW].
            run_s: For how long the start runs [s].
        """
        now = self._snapshot.now
        if after_kw > zone.limit_kw(now) + SLACK_KW:
            return f"at worst {zone.name} would draw {after_kw:.0f} kW of {allowed_now(zone, now)}"
        for order in zone.orders:
            if now < order.begins < now + timedelta(seconds=run_s) and after_kw > order.power_kw + SLACK_KW:
                then_kw = after_kw - self._ended_kw(zone, order)
                if then_kw > order.power_kw + SLACK_KW:
                    return (
                        f"at worst {zone.name} would draw {then_kw:.0f} kW of {order.power_kw:.0f} kW that an order "
                        f"leaves it from {order.begins:%Y-%m-%d %H:%M} to {order.ends:%Y-%m-%d %H:%M} UTC"
                    )
        return None

    def _ended_kw(self, zone: GridZoneState, order: PowerOrder) -> float:
        """Return what of the running work will be over when an order begins [kW of facility power]."""
        key = zone.name, order.begins
        if key not in self._ended:
            pue = {cell.name: cell.pue for cell in self._snapshot.cells if cell.grid_zone == zone.name}
            self._ended[key] = sum(
                gang.worst_power_kw * pue[gang.cell]
                for gang in self._snapshot.running
                if gang.cell in pue and counted_until(gang, self._snapshot.now) <= order.begins
            )
        return self._ended[key]
