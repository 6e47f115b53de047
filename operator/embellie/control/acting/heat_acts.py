# SPDX-License-Identifier: Apache-2.0
"""What the ladder orders beyond our own work is carried out here: PowerCaps for nodes, and the taint of the last rung.

Both act on nodes, so they need more consent than a pause: an EnergyPolicy in mode enforce, a switch that no uninstall
has locked, the measure in the zone's ladder, and for caps an agent on the node. Both fail open: a cap expires, and a
taint stands only while a fresh reading shows the zone to be hot, and never longer than a limit may hold.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from embellie.cluster.node_taints import NodeTaints
from embellie.cluster.power_caps import Cap, PowerCaps
from embellie.cluster.switch import Switch
from embellie.control.assembly.layout import Layout
from embellie.thermal.relief import CapOrder, HeatLoad, worst_kw


class HeatActs:
    """Carries the orders of one leader's turns out; `turn` never raises."""

    def __init__(self, *, caps: PowerCaps, taints: NodeTaints, switch: Switch, max_taint_s: float) -> None:
        self._caps = caps
        self._taints = taints
        self._switch = switch
        self._max_taint = timedelta(seconds=max_taint_s)
        self._since: dict[str, datetime] = {}

    def capped(self, now: datetime) -> frozenset[str]:
        """Return the nodes on which a cap of ours stands."""
        return frozenset(self._caps.standing(now))

    def as_capped(self, loads: Iterable[HeatLoad], now: datetime) -> tuple[HeatLoad, ...]:
        """Return the loads with the caps that stand on all their nodes: those of a leader before us too."""
        standing = self._caps.standing(now)
        found = []
        for load in loads:
            caps = [standing[node] for node in load.nodes if node in standing]
            found.append(_under(load, max(caps)) if caps and len(caps) == len(load.nodes) else load)
        return tuple(found)

    def turn(
        self,
        now: datetime,
        layout: Layout,
        hot: Iterable[str],
        orders: Sequence[CapOrder],
        loads: Sequence[HeatLoad],
        *,
        enforced: bool,
    ) -> None:
        """Make caps and taints what this turn wants.

        Args:
            now: In the operator's clock.
            layout: Which nodes the zones have, and which of them carry our taint.
            hot: Zones whose nodes shall take nothing new.
            orders: Caps for workloads.
            loads: What the orders are about.
            enforced: Whether any policy enforces; in shadow nothing is touched.
        """
        bounded = self._bounded(now, hot, layout)
        may = enforced and bool(bounded or orders) and self._switch.no_uninstall()
        tainted = {node.name: zone for zone in bounded for node in layout.nodes_of_thermal_zone.get(zone, ())}
        self._taints.turn(tainted if may else {}, layout.overheated, now)
        self._caps.turn(by_node(orders, loads) if may else {}, now)

    def _bounded(self, now: datetime, hot: Iterable[str], layout: Layout) -> list[str]:
        """Leave out the zones whose taint stood as long as a limit may hold, under a leader before this one too."""
        self._since = {zone: self._since.get(zone) or min([now, *_tainted_at(layout, zone)]) for zone in hot}
        return sorted(zone for zone, since in self._since.items() if now - since < self._max_taint)


def _tainted_at(layout: Layout, zone: str) -> list[datetime]:
    nodes = layout.nodes_of_thermal_zone.get(zone, ())
    return [node.overheated_since for node in nodes if node.overheated == zone and node.overheated_since is not None]


def _under(load: HeatLoad, cap_w: float) -> HeatLoad:
    """Return a load as it is under a cap: it draws no more than that leaves it."""
    return replace(load, cap_w=cap_w, power_kw=min(load.power_kw, worst_kw(load, cap_w, 1.0)))


def by_node(orders: Sequence[CapOrder], loads: Sequence[HeatLoad]) -> dict[str, Cap]:
    """Return each node's cap: the highest of those of its work, so that none of it is capped below its knee."""
    known: Mapping[str, HeatLoad] = {load.key: load for load in loads}
    found: defaultdict[str, list[tuple[CapOrder, HeatLoad]]] = defaultdict(list)
    for order in orders:
        load = known.get(order.key)
        if load is not None and load.capable:
            for node in order.nodes:
                found[node].append((order, load))
    caps = {}
    for node, several in found.items():
        order, load = max(several, key=lambda one: (one[0].watts_per_gpu, one[0].key))
        knee_w = -int(-max(one.knee_w for _, one in several) // 1)
        cap_w = max(knee_w, -int(-order.watts_per_gpu // 1))
        caps[node] = Cap(
            cap_w=cap_w,
            knee_w=knee_w,
            expires=order.expires,
            zone=load.zone,
            reason=f"{load.zone}: {order.reason}" if order.reason else f"{load.zone} cools down",
        )
    return caps
