# SPDX-License-Identifier: Apache-2.0
"""Which cells a workload may use: by its border, its size, its own constraints and the nodes' taints. Pure."""

from collections.abc import Iterable, Iterator, Mapping

from embellie.api.gridzone import GridZoneSpec
from embellie.cluster.affinity import matches_node
from embellie.cluster.records import NodeRecord, WorkloadRecord
from embellie.cluster.taints import tolerated
from embellie.control.assembly.layout import Layout
from embellie.control.assembly.zone_states import DEFAULT_GRID
from embellie.control.work.terms import residency_allows
from embellie.domain import names


class Places:
    """Asked thousands of times a turn with few different questions, and answers each once."""

    def __init__(self, layout: Layout, specs: Mapping[str, GridZoneSpec]) -> None:
        self._layout = layout
        self._specs = specs
        self._allowed: dict[object, frozenset[str]] = {}
        self._shelter: dict[object, Mapping[str, str]] = {}
        self._most_demanding: dict[frozenset[str], GridZoneSpec] = {}
        self._most_pods: dict[tuple[frozenset[str], int], int] = {}
        self._contested = self._contested_zones()

    def _contested_zones(self) -> frozenset[str]:
        """Zones that share nodes with another: their labels do not keep a workload inside one jurisdiction."""
        return frozenset(self._layout.shared_grid_nodes)

    def shelter(self, record: WorkloadRecord) -> Mapping[str, str]:
        """Return the labels that keep work without a cell inside its residency; empty where no zone lies there.

        They are those of the GridZone that could seat most of it if it were empty, over the borders of cells.
        """
        key = _asked(record)
        if key not in self._shelter:
            residency = record.annotations.get(names.RESIDENCY, "")
            inside = [zone for zone in sorted(self._specs) if self._inside(zone, residency)]
            best = max(inside, key=lambda zone: self._most_seats(zone, record), default=None)
            self._shelter[key] = {} if best is None else self._specs[best].node_selector
        return self._shelter[key]

    def _most_seats(self, grid_zone: str, record: WorkloadRecord) -> int:
        suitable = self._suitable(self._layout.nodes_of_grid_zone.get(grid_zone, ()), record)
        return sum(n.gpus // max(1, record.gpus_per_pod) for n in suitable)

    def spec_for(self, allowed: frozenset[str]) -> GridZoneSpec:
        """Return the power figures to plan with: the most demanding of the allowed cells."""
        if allowed not in self._most_demanding:
            zones = {c.grid_zone for c in self._layout.cells if c.name in allowed}
            specs = [self._specs[z] for z in sorted(zones)] or [DEFAULT_GRID]
            self._most_demanding[allowed] = max(specs, key=lambda s: s.gpu_rated_power_watts - s.gpu_idle_power_watts)
        return self._most_demanding[allowed]

    def usable(self, record: WorkloadRecord) -> frozenset[str]:
        """Return the cells that a workload may use; none where no cell is large enough: only outside can it be spread.

        None either for what opted out while it was held: it is no more confined than if it had never opted in.
        """
        if not record.opted_in:
            return frozenset()
        allowed = self.allowed(record)
        if not self.seats(record, allowed) or (record.unreadable and not record.annotations.get(names.RESIDENCY)):
            return frozenset()
        return allowed

    def allowed(self, record: WorkloadRecord) -> frozenset[str]:
        """Return the cells whose border, nodes and taints suit a workload."""
        key = _asked(record)
        if key not in self._allowed:
            residency = record.annotations.get(names.RESIDENCY, "")
            self._allowed[key] = frozenset(
                c.name
                for c in self._layout.cells
                # Its labels would also let the workload into another row's heat or another grid's power.
                if not c.leaks
                and (not residency or self._inside(c.grid_zone, residency))
                and any(self._suitable(c.nodes, record))
            )
        return self._allowed[key]

    def seats(self, record: WorkloadRecord, allowed: frozenset[str]) -> bool:
        """Tell whether some cell could seat the whole gang if it were empty."""
        if not allowed or not record.gpus:
            return True
        key = allowed, record.gpus_per_pod
        if key not in self._most_pods:
            cells = (c for c in self._layout.cells if c.name in allowed)
            self._most_pods[key] = max(sum(n.gpus // record.gpus_per_pod for n in c.nodes) for c in cells)
        return self._most_pods[key] >= record.pods

    def _inside(self, grid_zone: str, residency: str) -> bool:
        return grid_zone not in self._contested and residency_allows(
            residency, self._specs[grid_zone].jurisdiction or ""
        )

    @staticmethod
    def _suitable(nodes: Iterable[NodeRecord], record: WorkloadRecord) -> Iterator[NodeRecord]:
        """Yield the nodes on which a pod of it could run."""
        pod_spec = record.constraints.as_pod_spec()
        for node in nodes:
            if (
                node.gpus >= record.gpus_per_pod
                and record.constraints.devices <= node.devices
                and matches_node(pod_spec, node.labels, node.name)
                and tolerated(node.taints, record.constraints.tolerations, uses_gpus=record.gpus_per_pod > 0)
            ):
                yield node


def _asked(record: WorkloadRecord) -> tuple[int, str, int]:
    """Return what tells apart the questions about where work may run."""
    # Constraints are compared by identity: unconstrained work, the common case, shares one object.
    return id(record.constraints), record.annotations.get(names.RESIDENCY, ""), record.gpus_per_pod
