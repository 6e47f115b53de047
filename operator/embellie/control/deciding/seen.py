# SPDX-License-Identifier: Apache-2.0
"""What a turn found out, and whether there is anything to decide about it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from embellie.api.gridzone import GridZone
from embellie.api.thermalzone import ThermalZone
from embellie.cluster.plan_objects import PlanRecord
from embellie.cluster.store import View
from embellie.control import pace
from embellie.control.assembly.assemble import Assembly
from embellie.control.assembly.sensors import Readings
from embellie.control.deciding.turn import Verdicts
from embellie.domain.forecast import Forecast
from embellie.domain.reasons import State
from embellie.domain.snapshot import Snapshot, ThermalZoneState


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a turn found out before it decides."""

    version: int
    view: View
    grid_zones: tuple[GridZone, ...]
    thermal_zones: tuple[ThermalZone, ...]
    readings: Readings
    forecasts: Mapping[str, Forecast]
    heat: Mapping[str, ThermalZoneState]
    to_pause: frozenset[str]
    now: datetime

    @property
    def forecasts_to_come(self) -> bool:
        """Whether a zone that can be forecast has no usable forecast yet."""
        return any(is_forecast(zone) and zone.metadata.name not in self.forecasts for zone in self.grid_zones)

    @property
    def key(self) -> tuple[object, ...]:
        """What decisions rest on, but for the temperatures' decimals and the time of day."""
        issues = tuple((name, f.issued_at, f.rung) for name, f in sorted(self.forecasts.items()))
        closed = tuple(sorted(name for name, state in self.heat.items() if not state.admission_open))
        return self.version, issues, tuple(sorted(self.readings.problems)), closed, self.to_pause


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """Until when the last decisions stand if nothing changes."""

    key: tuple[object, ...] | None = None
    until: float = 0.0
    namespaces: Sequence[str] = ()
    records: Sequence[PlanRecord] = ()
    """Of them, what may not be written down yet."""

    def may_go_on(self, key: tuple[object, ...], now_s: float) -> bool:
        """Tell whether there is nothing to decide."""
        return self.key == key and now_s < self.until


@dataclass(frozen=True, slots=True)
class Lead:
    """Since when this process leads."""

    began_s: float
    """[monotonic s]"""
    began_at: datetime
    """In the operator's clock."""

    def awaits_forecasts(self, seen: Seen, now_s: float) -> bool:
        """Tell whether the forecaster has not spoken of all zones yet, and still has time to.

        It counts from when this process began to lead: on a busy machine the first forecast of a standby may take long.
        """
        return seen.forecasts_to_come and now_s - self.began_s < pace.FIRST_FORECAST_S


def is_forecast(zone: GridZone) -> bool:
    """Tell whether a zone says enough of itself to be forecast."""
    return bool(zone.spec.grid_region or zone.spec.sources or zone.spec.on_site)


def is_settled(verdicts: Verdicts, snapshot: Snapshot) -> bool:
    """Tell whether a turn left nothing open: nothing was let go or handed off, and everything held got its answer.

    Work without an answer (no forecast was read yet) has no record, and only a full turn minds its bound.
    """
    answered = {record.key for record in verdicts.records}
    return not verdicts.releases and not verdicts.hand_offs and all(w.key in answered for w in snapshot.workloads)


def next_due(verdicts: Verdicts, now: datetime) -> timedelta:
    """Time until the first planned start or bound, in the operator's clock."""
    held = [r for r in verdicts.records if r.state is not State.SHADOW]
    due = [min(r.planned_start or r.latest_start, r.latest_start) for r in held]
    return min(due, default=now + timedelta(days=1)) - now


def expected_power_kw(assembly: Assembly) -> dict[str, float]:
    """Expected power of each thermal zone now [kW], to tell a frozen sensor from a quiet room."""
    zone_of: Mapping[str, str | None] = {c.name: c.thermal_zone for c in assembly.snapshot.cells}
    power = {z.name: z.base_power_kw for z in assembly.snapshot.thermal_zones}
    for gang in assembly.snapshot.running:
        zone = zone_of.get(gang.cell)
        if zone in power and zone is not None:
            power[zone] += gang.power_kw
    return power


def expected_facility_kw(assembly: Assembly) -> dict[str, float]:
    """Expected facility power of each grid zone now [kW], to tell a frozen meter from a quiet site."""
    cells = {c.name: c for c in assembly.snapshot.cells}
    power = {z.name: z.base_power_kw for z in assembly.snapshot.grid_zones}
    for gang in assembly.snapshot.running:
        cell = cells.get(gang.cell)
        if cell is not None:
            power[cell.grid_zone] += gang.power_kw * cell.pue
    return power
