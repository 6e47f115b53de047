# SPDX-License-Identifier: Apache-2.0
"""Trouble with the room and its machines: nodes, sensors, meters, contracts."""

import json
from collections.abc import Callable
from typing import Any

from embellie_testbed.nodes import ROW_LABEL, ZONE_LABEL
from embellie_testbed.soak.site import JURISDICTIONS, ROWS, grid_zone, row
from embellie_testbed.soak.spells import Part
from embellie_testbed.soak.trouble_tools import Act, Tools

INLET = "ipmi_temperature_celsius"
METER = "facility_power_watts"
_COOLS_S = 15.0
"""After which a reading over a limit is no longer fresh, nor believed [s]."""


def cluster_acts(tools: Tools) -> list[Act]:
    """Return what can befall the room."""
    room = Room(tools)
    kinds: list[tuple[str, str, float, Callable[[], None]]] = [
        ("rows hot", "sensors", 3, lambda: room.over({INLET: tools.rng.choice((36, 42, 48))})),
        ("meters over the contract", "sensors", 2, lambda: room.over({METER: 450_000})),
        ("sensors frozen", "sensors", 1, lambda: room.misread(freeze=True)),
        ("sensors absurd", "sensors", 1, lambda: room.misread(absurd={INLET: tools.rng.choice((900, -273, 0))})),
        ("sensors silent", "sensors", 1, lambda: room.misread(drop=tools.rng.choice((True, [INLET], [METER])))),
        ("contract lowered", "zones", 2, room.contract_lowered),
        ("node loses its zone", "nodes", 2, lambda: room.relabelled(ZONE_LABEL)),
        ("node loses its row", "nodes", 1, lambda: room.relabelled(ROW_LABEL)),
        ("node gone", "nodes", 2, room.node_gone),
        ("node drained", "nodes", 1, room.node_drained),
        ("zone deleted", "zones", 1, room.zone_deleted),
        ("zone moved to another country", "zones", 1, room.zone_moved),
        ("zones overlap", "zones", 1, room.zones_overlap),
        ("row deleted", "zones", 1, room.row_deleted),
    ]
    return [Act(name=name, about=about, weight=weight, do=do) for name, about, weight, do in kinds]


class Room:
    """Acts on nodes, sensors and zones."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._site = tools.site

    def over(self, absurd: dict[str, int]) -> None:
        """Let a reading stand over its hard limit."""
        with self._site.journal.spell(f"{absurd}", Part.LIMIT, settle_s=_COOLS_S):
            self.misread(absurd=absurd)

    def misread(self, **wish: Any) -> None:
        """Let sensors misbehave for a while."""
        self._site.exporter.misbehave(**wish)
        try:
            self._tools.wait(5.0, 30.0)
        finally:
            self._site.exporter.misbehave()

    def contract_lowered(self) -> None:
        """Lower the contracted power below what is drawn, and raise it again."""
        name = self._tools.rng.choice(sorted(JURISDICTIONS))
        with self._site.journal.spell("contract lowered", Part.LIMIT, settle_s=_COOLS_S):
            self._site.apply(grid_zone(name, contractedPowerKilowatts=self._tools.rng.choice((1, 15, 30))))
            self._tools.wait(5.0, 25.0)
            self._mend(lambda: self._site.apply(grid_zone(name)))

    def relabelled(self, label: str) -> None:
        """Take a label off a node, or give it another's, and give it back."""
        node = self._node()
        was = node["metadata"]["labels"].get(label)
        if was is None:
            return
        name = node["metadata"]["name"]
        values = [f"{label}-", f"{label}=elsewhere", f"{label}={self._tools.rng.choice(('west', 'east', *ROWS))}"]
        self._tools.kubectl("label", "node", name, "--overwrite", self._tools.rng.choice(values))
        self._tools.wait(2.0, 20.0)
        self._mend(lambda: self._tools.kubectl("label", "node", name, "--overwrite", f"{label}={was}"))

    def node_gone(self) -> None:
        """Delete a node, and bring it back."""
        node = self._node()
        self._tools.kubectl("delete", "node", node["metadata"]["name"], "--wait=false")
        self._tools.wait(2.0, 20.0)
        meta = {key: node["metadata"].get(key, {}) for key in ("name", "labels", "annotations")}
        body = {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {}, "status": _bare(node["status"])}
        self._mend(lambda: self._create(body))

    def node_drained(self) -> None:
        """Evict what runs on a node, as for a repair."""
        name = self._node()["metadata"]["name"]
        found = self._tools.kubectl("get", "pods", "-A", f"--field-selector=spec.nodeName={name}", "-o", "json")
        for pod in json.loads(found)["items"]:
            meta = pod["metadata"]
            self._tools.kubectl("delete", "pod", meta["name"], "-n", meta["namespace"], "--wait=false", check=False)

    def zone_deleted(self) -> None:
        """Delete a GridZone, and make it again."""
        name = self._tools.rng.choice(sorted(JURISDICTIONS))
        self._tools.kubectl("delete", "gridzone", name, "--wait=false")
        self._tools.wait(2.0, 20.0)
        self._mend(lambda: self._site.apply(grid_zone(name)))

    def zone_moved(self) -> None:
        """Correct where a GridZone lies, and correct that again."""
        name = self._tools.rng.choice(sorted(JURISDICTIONS))
        self._site.apply(grid_zone(name, jurisdiction=self._tools.rng.choice(("DE", "US", "FR", "US-CA"))))
        self._tools.wait(5.0, 20.0)
        self._mend(lambda: self._site.apply(grid_zone(name)))

    def zones_overlap(self) -> None:
        """Make a third zone over nodes that belong to another, and delete it."""
        selector = {ROW_LABEL: self._tools.rng.choice(ROWS)}
        self._site.apply(grid_zone("north", nodeSelector=selector))
        self._tools.wait(5.0, 20.0)
        self._mend(lambda: self._tools.kubectl("delete", "gridzone", "north", "--wait=false"))

    def row_deleted(self) -> None:
        """Delete a ThermalZone, and make it again."""
        name = self._tools.rng.choice(ROWS)
        self._tools.kubectl("delete", "thermalzone", name, "--wait=false")
        self._tools.wait(2.0, 15.0)
        self._mend(lambda: self._site.apply(row(name)))

    def _node(self) -> dict[str, Any]:
        nodes = json.loads(self._tools.kubectl("get", "nodes", "-o", "json"))["items"]
        chosen: dict[str, Any] = self._tools.rng.choice(nodes)
        return chosen

    def _create(self, body: dict[str, Any]) -> None:
        rest = self._site.plane.rest()
        try:
            rest.request("POST", "/api/v1/nodes", body)
        finally:
            rest.close()

    def _mend(self, how: Callable[[], object]) -> None:
        self._site.insist(how)


def _bare(status: dict[str, Any]) -> dict[str, Any]:
    return {key: status[key] for key in ("capacity", "allocatable", "addresses", "nodeInfo") if key in status}
