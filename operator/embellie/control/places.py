# SPDX-License-Identifier: Apache-2.0
"""Which cells a workload may use: by its border, its size, its own constraints and the nodes' taints. Pure."""

from collections.abc import Callable, Mapping

from embellie.api.gridzone import GridZoneSpec
from embellie.cluster.affinity import matches_node
from embellie.cluster.records import Constraints, WorkloadRecord
from embellie.cluster.taints import tolerated
from embellie.control.layout import CellNodes, Layout
from embellie.control.terms import residency_allows
from embellie.control.zone_states import DEFAULT_GRID
from embellie.domain import names


class Places:
    """Asked thousands of times a turn with few different questions, and answers each once."""

    def __init__(self, layout: Layout, specs: Mapping[str, GridZoneSpec]) -> None:
        self._layout = layout
        self._specs = specs
        self._allowed: dict[object, frozenset[str]] = {}
        self._most_demanding: dict[frozenset[str], GridZoneSpec] = {}
        self._most_pods: dict[tuple[frozenset[str], int], int] = {}
        self._contested = self._contested_zones()

    def _contested_zones(self) -> frozenset[str]:
        """Zones that share nodes with another: their labels do not keep a workload inside one jurisdiction."""
        return frozenset(self._layout.shared_grid_nodes)

    def any_in(self, residency: str) -> bool:
        """Tell whether some zone lies inside a residency for certain."""
        return any(
            residency_allows(residency, self._specs[c.grid_zone].jurisdiction or "")
            for c in self._layout.cells
            if c.grid_zone not in self._contested
        )

    def spec_for(self, allowed: frozenset[str]) -> GridZoneSpec:
        """Return the power figures to plan with: the most demanding of the allowed cells."""
        if allowed not in self._most_demanding:
            zones = {c.grid_zone for c in self._layout.cells if c.name in allowed}
            specs = [self._specs[z] for z in sorted(zones)] or [DEFAULT_GRID]
            self._most_demanding[allowed] = max(specs, key=lambda s: s.gpu_rated_power_watts - s.gpu_idle_power_watts)
        return self._most_demanding[allowed]

    def allowed(self, record: WorkloadRecord) -> frozenset[str]:
        """Return the cells whose border, nodes and taints suit a workload."""
        residency = record.annotations.get(names.RESIDENCY, "")
        # Constraints are compared by identity: unconstrained work, the common case, shares one object.
        key = (id(record.constraints), residency, record.gpus_per_pod)
        if key not in self._allowed:
            self._allowed[key] = frozenset(
                c.name
                for c in self._layout.cells
                # Its labels would also let the workload into another row's heat or another grid's power.
                if not c.leaks
                and (not residency or self._inside(c.grid_zone, residency))
                and self._fits(c, record.constraints, record.gpus_per_pod)
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
    def _fits(cell: CellNodes, constraints: Constraints, gpus_per_pod: int) -> bool:
        pod_spec = constraints.as_pod_spec()
        match: Callable[..., bool] = matches_node
        return any(
            n.gpus >= gpus_per_pod
            and match(pod_spec, n.labels, n.name)
            and tolerated(n.taints, constraints.tolerations, uses_gpus=gpus_per_pod > 0)
            for n in cell.nodes
        )
