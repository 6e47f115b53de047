# SPDX-License-Identifier: Apache-2.0
"""What a replay needs: jobs, a site, and what comes out."""

from dataclasses import dataclass, replace
from datetime import datetime

from embellie.accounting import Run, Signal, ZonePower
from embellie.domain.snapshot import Flex


@dataclass(frozen=True, slots=True, kw_only=True)
class SimJob:
    """One gang of a trace."""

    id: str
    submit: datetime
    duration_s: float
    pods: int
    gpus_per_pod: int
    power_kw: float
    """What it adds to idle nodes [kW of IT power]."""
    latest_start: datetime
    """Its bound where a planner holds it; first come first served has none."""
    flex: Flex = Flex.PATIENT
    allowed_cells: frozenset[str] | None = None
    """None: any cell."""

    @property
    def gpus(self) -> int:
        """GPUs of the whole gang."""
        return self.pods * self.gpus_per_pod


@dataclass(frozen=True, slots=True, kw_only=True)
class SimCell:
    """Equal nodes in one grid zone and one thermal zone."""

    name: str
    grid_zone: str
    thermal_zone: str | None = None
    nodes: int
    gpus_per_node: int = 8
    pue: float = 1.2
    node_idle_kw: float = 3.2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimGridZone:
    """A grid zone with the intensity that it really had."""

    name: str
    signal: Signal


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimSite:
    """A cluster on its grids."""

    cells: tuple[SimCell, ...]
    grid_zones: tuple[SimGridZone, ...]

    @property
    def gpus(self) -> int:
        """GPUs of the whole site."""
        return sum(cell.nodes * cell.gpus_per_node for cell in self.cells)

    def zone_powers(self) -> list[ZonePower]:
        """Return each grid zone's idle power and overhead (weighted over its cells), for the accounts."""
        powers = []
        for zone in self.grid_zones:
            mine = [cell for cell in self.cells if cell.grid_zone == zone.name]
            idle = sum(cell.nodes * cell.node_idle_kw for cell in mine)
            facility = sum(cell.nodes * cell.node_idle_kw * cell.pue for cell in mine)
            powers.append(ZonePower(name=zone.name, idle_kw=idle, pue=facility / idle if idle else 1.0))
        return powers


@dataclass(frozen=True, slots=True, kw_only=True)
class SimResult:
    """What ran, by grid zone. `cells` names the cell of each run, in the same order."""

    runs: tuple[Run, ...]
    cells: tuple[str, ...]
    never_started: tuple[str, ...]
    """Jobs that fit nowhere, even on an empty site."""

    def by_thermal_zone(self, site: SimSite) -> list[Run]:
        """Return the runs with their thermal zone as the zone, for heat curves."""
        zones = {cell.name: cell.thermal_zone for cell in site.cells}
        return [
            replace(run, zone=zones[cell] or "") for run, cell in zip(self.runs, self.cells, strict=True) if zones[cell]
        ]
