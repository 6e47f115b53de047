# SPDX-License-Identifier: Apache-2.0
"""The objects that an admin of the demo's cluster would write: zones, policy, namespace."""

import json
from typing import Any

from embellie.domain.names import API_VERSION
from embellie_testbed.demo.scenario import BONUS_MAX_DELAY, MAX_DELAYS, NODES_PER_ZONE, ZONES, Row, ZoneSite
from embellie_testbed.nodes import ROW_LABEL, ZONE_LABEL, NodePool

NAMESPACE = "training"
RELEASE, RELEASE_NAMESPACE = "embellie", "embellie-system"
ROWS_PER_ZONE = 2
MAX_AGE_SECONDS = 30
"""How old a sample may be, in real seconds: Prometheus scrapes every second here."""


def node_pools() -> tuple[NodePool, ...]:
    """Return the cluster's nodes."""
    return tuple(NodePool(zone=site.name, nodes=NODES_PER_ZONE, rows=ROWS_PER_ZONE) for site in ZONES)


def grid_zone(site: ZoneSite, *, power_query: str) -> dict[str, Any]:
    """Write a GridZone with a meter [kW]."""
    return _object(
        "GridZone",
        site.name,
        {
            "nodeSelector": {ZONE_LABEL: site.name},
            "gridRegion": site.region,
            "jurisdiction": site.jurisdiction,
            "latitudeMillidegrees": site.latitude_millidegrees,
            "longitudeMillidegrees": site.longitude_millidegrees,
            "contractedPowerKilowatts": site.contracted_kw,
            "nodeIdlePowerWatts": site.node_idle_watts,
            "gpuIdlePowerWatts": site.gpu_idle_watts,
            "gpuRatedPowerWatts": site.gpu_rated_watts,
            "hostOverheadPercent": site.host_overhead_percent,
            "powerUsageEffectivenessPercent": round(site.pue * 100),
            "powerSensor": {"query": power_query, "unit": "Kilowatt", "maxAgeSeconds": MAX_AGE_SECONDS},
        },
    )


def thermal_zone(row: Row, *, inlet_query: str, supply_query: str) -> dict[str, Any]:
    """Write the ThermalZone of a row of racks."""
    return _object(
        "ThermalZone",
        row.name,
        {
            "nodeSelector": {ROW_LABEL: row.name},
            "gridZoneName": row.zone,
            "sensors": [
                {
                    "name": "inlet",
                    "role": "Inlet",
                    "query": inlet_query,
                    "unit": "Celsius",
                    "maxAgeSeconds": MAX_AGE_SECONDS,
                },
                {
                    "name": "supply",
                    "role": "Supply",
                    "query": supply_query,
                    "unit": "Celsius",
                    "maxAgeSeconds": MAX_AGE_SECONDS,
                },
            ],
            "limits": {"inletHardCelsius": row.inlet_limit_c, "marginKelvin": row.margin_k},
            "cooling": {
                "supplySetpointCelsius": row.setpoint_c,
                "supplyWorstCelsius": row.supply_worst_c,
                "ambientApproachKelvin": row.approach_k,
                "riseMillikelvinPerKilowatt": row.rise_mk_per_kw,
            },
        },
    )


def energy_policy() -> dict[str, Any]:
    """Write the one EnergyPolicy: it acts, in the demo's namespace only."""
    return _object(
        "EnergyPolicy",
        "training",
        {
            "mode": "enforce",
            "namespaceSelector": {"matchNames": [NAMESPACE]},
            "maxDelaySeconds": int(max(MAX_DELAYS).total_seconds()),
            "bonusMaxDelaySeconds": int(BONUS_MAX_DELAY.total_seconds()),
            "assumedDurationSeconds": 6 * 3600,
            "minimumSavingPercent": 2,
        },
    )


def namespace() -> dict[str, Any]:
    """Write the namespace that the jobs live in."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}


def as_list(objects: list[dict[str, Any]]) -> str:
    """Write objects as one List, for `kubectl apply -f -`."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
