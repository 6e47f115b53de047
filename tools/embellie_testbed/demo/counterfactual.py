# SPDX-License-Identifier: Apache-2.0
"""The same arrivals first come first served: same nodes, same grids, same rooms, by the project's own simulator."""

from collections.abc import Mapping
from datetime import timedelta

from embellie.accounting import HeatSite, Signal, ZonePower
from embellie.domain.reasons import SignalKind
from embellie.domain.snapshot import Flex as DomainFlex
from embellie.simulation import SimCell, SimGridZone, SimJob, SimSite, simulate
from embellie_testbed.demo.grid import GridTruth
from embellie_testbed.demo.history import History, added_kw, latest_start
from embellie_testbed.demo.scenario import (
    GPUS_PER_NODE,
    NODES_PER_ZONE,
    ROWS,
    ZONES,
    DemoJob,
    Flex,
    Row,
    Scenario,
    ZoneSite,
    sites,
)

_HOUR = timedelta(hours=1)


def nodes_per_row(zone: str) -> int:
    """Return how many nodes stand on each row of a zone."""
    return NODES_PER_ZONE // sum(1 for row in ROWS if row.zone == zone)


def signal(truth: GridTruth) -> Signal:
    """Return a grid's life-cycle average intensity as it really was."""
    return Signal(start=truth.start, step=_HOUR, values=truth.carbon_g_per_kwh, kind=SignalKind.AVERAGE_LIFECYCLE)


def zone_power(site: ZoneSite) -> ZonePower:
    """Return what a zone draws idle and what its building adds."""
    return ZonePower(name=site.name, idle_kw=NODES_PER_ZONE * site.node_idle_watts / 1000, pue=site.pue)


def row_power(row: Row) -> ZonePower:
    """Return what a row's machines draw idle, without the building: that is what warms it."""
    site = sites()[row.zone]
    return ZonePower(name=row.name, idle_kw=nodes_per_row(row.zone) * site.node_idle_watts / 1000, pue=1.0)


def heat_site(row: Row, truth: GridTruth) -> HeatSite:
    """Return a row as its engineer measured it, under the weather as it really was."""
    supply = (truth.ambient_c + row.approach_k).clip(min=row.setpoint_c)
    return HeatSite(
        start=truth.start,
        step=_HOUR,
        supply_c=supply,
        rise_k_per_kw=row.rise_mk_per_kw / 1000,
        inlet_limit_c=row.inlet_limit_c,
    )


def sim_site(truths: Mapping[str, GridTruth]) -> SimSite:
    """Describe the demo's cluster to the simulator."""
    return SimSite(
        cells=tuple(
            SimCell(
                name=f"{row.zone}.{row.name}",
                grid_zone=row.zone,
                thermal_zone=row.name,
                nodes=nodes_per_row(row.zone),
                gpus_per_node=GPUS_PER_NODE,
                pue=sites()[row.zone].pue,
                node_idle_kw=sites()[row.zone].node_idle_watts / 1000,
            )
            for row in ROWS
        ),
        grid_zones=tuple(SimGridZone(name=site.name, signal=signal(truths[site.name])) for site in ZONES),
    )


def sim_job(job: DemoJob) -> SimJob:
    """Describe a job to the simulator. Zones draw alike, so the first one's constants serve for all."""
    site = ZONES[0]
    held = job.flex in (Flex.PATIENT, Flex.BONUS)
    return SimJob(
        id=job.name,
        submit=job.submit,
        duration_s=job.duration.total_seconds(),
        pods=job.pods,
        gpus_per_pod=job.gpus_per_pod,
        power_kw=added_kw(job.gpus, job.watts_per_gpu, site),
        latest_start=latest_start(job) or job.submit,
        flex=DomainFlex(job.flex.value) if held else DomainFlex.RIGID,
    )


def simulated(scenario: Scenario, truths: Mapping[str, GridTruth]) -> History:
    """Run the scenario's arrivals through the simulator, first come first served."""
    site = sim_site(truths)
    result = simulate([sim_job(job) for job in scenario.jobs], site)
    if result.never_started:
        raise ValueError(f"jobs that fit nowhere, even on an empty cluster: {', '.join(result.never_started)}")
    return History(stays=tuple(result.by_thermal_zone(site)), jobs=result.runs)
