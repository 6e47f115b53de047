# SPDX-License-Identifier: Apache-2.0
"""What the operator would see of a replayed site: the same Snapshot, with sensors that tell the truth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from embellie.domain.forecast import FloatArray, Forecast
from embellie.domain.reasons import Rung
from embellie.domain.snapshot import (
    Cell,
    GridZoneState,
    Quality,
    Reading,
    RunningGang,
    Snapshot,
    ThermalZoneState,
    Workload,
    WorkloadKey,
    WorkloadKind,
)
from planned.model import PlannedJob, PlannedSite

_HORIZON = timedelta(hours=48)

Started = tuple[PlannedJob, str, datetime]
"""A running job, its cell and its start."""


def perfect_forecast(site: PlannedSite) -> Callable[[str, datetime], Forecast | None]:
    """Return a forecaster that knows what comes: the bound of what any forecast could do."""
    zones = {zone.name: zone for zone in site.grid_zones}

    def forecast_at(name: str, now: datetime) -> Forecast | None:
        zone = zones[name]
        signal = zone.signal
        first = (now - signal.start) // signal.step
        slots = slice(max(0, first), max(0, first + _HORIZON // signal.step))
        values = np.asarray(signal.values[slots], dtype=np.float64)
        if first < 0 or values.size == 0 or not np.all(np.isfinite(values)):
            return None
        ambient = zone.ambient_c[slots] if zone.ambient_c is not None else None
        return Forecast(
            zone=name,
            issued_at=now,
            start=signal.start + signal.step * first,
            step=signal.step,
            quantile_levels=(0.1, 0.5, 0.9),
            carbon_intensity_g_per_kwh=np.tile(values, (3, 1)),
            carbon_intensity_mean_g_per_kwh=values,
            renewable_share=np.zeros((3, values.size)),
            ambient_temperature_c=np.tile(ambient, (3, 1)) if ambient is not None else None,
            signal_kind=signal.kind,
            rung=Rung.LIVE,
            model_id="perfect-foresight",
        )

    return forecast_at


class SiteView:
    """Makes snapshots of a replayed site."""

    def __init__(
        self, site: PlannedSite, forecast_at: Callable[[str, datetime], Forecast | None], turn_s: float
    ) -> None:
        self._site = site
        self._forecast_at = forecast_at
        self._turn_s = turn_s
        self._cells = {cell.name: cell for cell in site.cells}
        self._everywhere = frozenset(self._cells)
        self._supply = {zone.name: _supply_c(site, zone) for zone in site.thermal_zones}

    def snapshot(
        self,
        now: datetime,
        held: Sequence[PlannedJob],
        running: Sequence[Started],
        free: Mapping[str, tuple[int, ...]],
    ) -> Snapshot:
        """Return the site as the operator would see it now."""
        cells = tuple(
            Cell(
                name=cell.name,
                grid_zone=cell.grid_zone,
                thermal_zone=cell.thermal_zone,
                gpus_total=cell.nodes * cell.gpus_per_node,
                node_free_gpus=free[cell.name],
                pue=cell.pue,
            )
            for cell in self._site.cells
        )
        return Snapshot(
            now=now,
            turn_s=self._turn_s,
            workloads=tuple(self._workload(job) for job in held),
            cells=cells,
            grid_zones=self._grid_zones(now, running),
            thermal_zones=tuple(self._thermal_zone(zone, now, running) for zone in self._site.thermal_zones),
            running=tuple(self._gang(now, *started) for started in running),
        )

    def _workload(self, job: PlannedJob) -> Workload:
        return Workload(
            key=WorkloadKey(namespace=job.tenant, name=job.id, kind=WorkloadKind.JOB, uid=job.id),
            created_at=job.submit,
            latest_start=job.latest_start,
            pods=job.pods,
            gpus_per_pod=job.gpus_per_pod,
            power_kw=job.power_kw,
            worst_power_kw=job.worst_power_kw,
            duration_p50_s=job.told_duration_s * job.used_share,
            duration_p90_s=job.told_duration_s,
            flex=job.flex,
            tenant=job.tenant,
            policy="replay",
            enforced=True,
            allowed_cells=job.allowed_cells if job.allowed_cells is not None else self._everywhere,
            minimum_saving_percent=job.minimum_saving_percent,
        )

    def _gang(self, now: datetime, job: PlannedJob, cell: str, start: datetime) -> RunningGang:
        half, end = (start + timedelta(seconds=job.told_duration_s * share) for share in (job.used_share, 1.0))
        return RunningGang(
            cell=cell,
            gpus=job.gpus,
            power_kw=job.power_kw,
            worst_power_kw=job.worst_power_kw,
            expected_end_p50=half if now < half else end,
            expected_end_p90=end,
            started_at=start,
        )

    def _grid_zones(self, now: datetime, running: Sequence[Started]) -> tuple[GridZoneState, ...]:
        states = []
        for zone in self._site.grid_zones:
            mine = [cell for cell in self._site.cells if cell.grid_zone == zone.name]
            base = sum(cell.nodes * cell.node_idle_kw * cell.pue for cell in mine)
            names = {cell.name: cell.pue for cell in mine}
            drawn = base + sum(job.power_kw * names[cell] for job, cell, _ in running if cell in names)
            states.append(
                GridZoneState(
                    name=zone.name,
                    contracted_power_kw=zone.contracted_power_kw,
                    base_power_kw=base,
                    measured_power_kw=Reading(value=drawn, age_s=0.0, quality=Quality.FRESH),
                    forecast=self._forecast_at(zone.name, now),
                )
            )
        return tuple(states)

    def _thermal_zone(self, zone: ThermalZoneState, now: datetime, running: Sequence[Started]) -> ThermalZoneState:
        base = sum(cell.nodes * cell.node_idle_kw for cell in self._site.cells if cell.thermal_zone == zone.name)
        heat = base + sum(job.power_kw for job, cell, _ in running if self._cells[cell].thermal_zone == zone.name)
        series = self._supply[zone.name]
        supply = zone.supply_setpoint_c
        if series is not None:
            signal = next(z.signal for z in self._site.grid_zones if z.name == zone.ambient_grid_zone)
            slot = min(max(0, (now - signal.start) // signal.step), series.shape[0] - 1)
            supply = float(series[slot])
        inlet = supply + zone.rise_k_per_kw * heat
        return replace(
            zone,
            base_power_kw=base,
            supply=Reading(value=supply, age_s=0.0, quality=Quality.FRESH),
            inlet=Reading(value=inlet, age_s=0.0, quality=Quality.FRESH),
        )


def _supply_c(site: PlannedSite, zone: ThermalZoneState) -> FloatArray | None:
    """Return the supply that the plant reaches, by step of its grid zone's signal [degC]."""
    ambient_zone = next((z for z in site.grid_zones if z.name == zone.ambient_grid_zone), None)
    if ambient_zone is None or ambient_zone.ambient_c is None:
        return None
    supply: FloatArray = np.maximum(zone.supply_setpoint_c, ambient_zone.ambient_c + zone.ambient_approach_k)
    return supply
