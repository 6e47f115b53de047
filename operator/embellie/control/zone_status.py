# SPDX-License-Identifier: Apache-2.0
"""What GridZones, ThermalZones and EnergyPolicies say about themselves. Pure: from a turn's assembly to statuses."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np

from embellie.api.conditions import Conditions, ConditionStatus, set_condition
from embellie.api.energypolicy import EnergyPolicy, EnergyPolicyStatus
from embellie.api.gridzone import BestWindow, ForecastStatus, GridZone, GridZoneStatus
from embellie.api.thermalzone import ThermalZone, ThermalZoneStatus
from embellie.cluster.plan_objects import PlanRecord
from embellie.control.assemble import Assembly
from embellie.control.layout import CellNodes
from embellie.control.policies import PolicyTable
from embellie.domain.forecast import Forecast
from embellie.domain.limits import fresh_value
from embellie.domain.reasons import Rung, State
from embellie.domain.snapshot import Reading
from embellie.thermal.headroom import Headroom, ZoneState, headroom, worst_load_kw

BEST_WINDOW_SLOTS = 4


class _Conditions:
    """Collects one object's conditions; the times are wall times, like the API server's."""

    def __init__(self, before: Conditions, generation: int, wall_now: datetime) -> None:
        self.found = before
        self._generation = generation
        self._now = wall_now

    def set(self, type_: str, good: bool | None, reason: str, message: str) -> None:
        status = ConditionStatus.UNKNOWN if good is None else ConditionStatus.TRUE if good else ConditionStatus.FALSE
        self.found = set_condition(
            self.found,
            type_=type_,
            status=status,
            reason=reason,
            message=message,
            now=self._now,
            observed_generation=self._generation,
        )


def grid_zone_status(
    zone: GridZone, assembly: Assembly, problems: Mapping[str, str], wall_now: datetime
) -> GridZoneStatus:
    """Describe a grid zone; `problems` are the sensors' (key `gridzone/NAME/power`)."""
    name = zone.metadata.name
    nodes = assembly.layout.nodes_of_grid_zone.get(name, ())
    state = next(s for s in assembly.snapshot.grid_zones if s.name == name)
    conditions = _Conditions(zone.status.conditions if zone.status else (), zone.metadata.generation, wall_now)
    leaking = [c for c in assembly.layout.cells if c.grid_zone == name and c.leaks]
    shared = assembly.layout.shared_grid_nodes.get(name, ())
    if leaking and not shared:
        _leaking(conditions, leaking)
    else:
        _exclusive(conditions, shared, "GridZone")
    forecast = state.forecast
    if zone.spec.grid_region is None:
        conditions.set("ForecastAvailable", False, "NoGridRegion", "spec.gridRegion is not set, so nothing waits here.")
    elif forecast is None:
        conditions.set(
            "ForecastAvailable",
            False,
            "NoForecast",
            f"There is no usable forecast for {zone.spec.grid_region}: work starts without waiting. Look at the "
            "forecaster's log.",
        )
    elif forecast.rung in (Rung.LIVE, Rung.LAST_GOOD):
        conditions.set("ForecastAvailable", True, "Forecast", f"Issued {forecast.issued_at:%Y-%m-%d %H:%M} UTC.")
    else:
        conditions.set(
            "ForecastAvailable", True, "Degraded", f"No live feed: the forecast stands on rung {forecast.rung}."
        )
    if zone.spec.power_sensor is None:
        conditions.set("PowerReadable", None, "NoSensor", "spec.powerSensor is not set; power is reckoned, not read.")
    else:
        problem = problems.get(f"gridzone/{name}/power")
        conditions.set("PowerReadable", not problem, "Unreadable" if problem else "Fresh", problem or "Read this turn.")
    _ready_by_nodes(conditions, len(nodes), "GridZone")
    return GridZoneStatus.model_validate(
        {
            "conditions": conditions.found,
            "observed_generation": zone.metadata.generation,
            "nodes": len(nodes),
            "gpus": sum(n.gpus for n in nodes),
            "gpus_free": sum(c.gpus_free for c in assembly.snapshot.cells if c.grid_zone == name),
            **_forecast_fields(forecast, assembly.snapshot.now),
        }
    )


def _exclusive(conditions: _Conditions, shared: Iterable[str], kind: str) -> None:
    names = sorted(shared)
    if names:
        conditions.set(
            "NodesExclusive",
            False,
            "SharedNodes",
            f"{len(names)} nodes match another {kind} too ({', '.join(names[:3])}...): the oldest {kind} has them. "
            "Give each node labels of one zone only.",
        )
    else:
        conditions.set("NodesExclusive", True, "Exclusive", f"No node matches another {kind}.")


def _leaking(conditions: _Conditions, leaking: Sequence[CellNodes]) -> None:
    nodes = sorted({node for cell in leaking for node in cell.leaks})
    conditions.set(
        "NodesExclusive",
        False,
        "LeakingCell",
        f"The labels of {', '.join(c.name for c in leaking[:3])} also match {len(nodes)} nodes of other cells "
        f"({', '.join(nodes[:3])}...), so no work is sent there. Give every node of the zone a ThermalZone, or labels "
        "that tell them apart.",
    )


def _ready_by_nodes(conditions: _Conditions, nodes: int, kind: str) -> None:
    if nodes:
        conditions.set("Ready", True, "NodesFound", f"{nodes} GPU nodes belong to it.")
    else:
        conditions.set(
            "Ready",
            False,
            "NoNodes",
            f"spec.nodeSelector matches no node with GPUs that is not in an older {kind}: compare it with kubectl get "
            "nodes --show-labels.",
        )


def _forecast_fields(forecast: Forecast | None, now: datetime) -> dict[str, object]:
    if forecast is None:
        return {}
    slot = min(max(0, int((now - forecast.start) / forecast.step)), forecast.n_slots - 1)
    median = forecast.quantile_levels.index(0.5)
    return {
        "carbon_intensity_grams_per_kilowatt_hour": round(float(forecast.carbon_intensity_mean_g_per_kwh[slot])),
        "renewable_percent": round(100 * float(forecast.renewable_share[median, slot])),
        "next_best_window": best_window(forecast, slot),
        "forecast": ForecastStatus.model_validate(
            {
                "issuedTime": forecast.issued_at,
                "rung": str(forecast.rung),
                "modelName": forecast.model_id,
                "signalKind": str(forecast.signal_kind),
                "skillPercent": forecast.skill_percent,
                "horizonHours": max(0, int((forecast.end - now) / timedelta(hours=1))),
            }
        ),
    }


def best_window(forecast: Forecast, slot: int) -> BestWindow | None:
    """Return the cleanest stretch of four slots from `slot` on."""
    ahead = forecast.carbon_intensity_mean_g_per_kwh[slot:]
    if len(ahead) < BEST_WINDOW_SLOTS:
        return None
    means = np.convolve(ahead, np.ones(BEST_WINDOW_SLOTS) / BEST_WINDOW_SLOTS, mode="valid")
    first = int(np.argmin(means))
    start = forecast.start + forecast.step * (slot + first)
    return BestWindow(
        start_time=start,
        end_time=start + forecast.step * BEST_WINDOW_SLOTS,
        carbon_intensity_grams_per_kilowatt_hour=round(float(means[first])),
    )


def thermal_zone_status(
    zone: ThermalZone, assembly: Assembly, problems: Mapping[str, str], wall_now: datetime
) -> ThermalZoneStatus:
    """Describe a thermal zone; `problems` are the sensors' (key `thermalzone/NAME/SENSOR`)."""
    name = zone.metadata.name
    nodes = assembly.layout.nodes_of_thermal_zone.get(name, ())
    state = next(s for s in assembly.snapshot.thermal_zones if s.name == name)
    room = zone_headroom(name, assembly)
    conditions = _Conditions(zone.status.conditions if zone.status else (), zone.metadata.generation, wall_now)
    _exclusive(conditions, assembly.layout.shared_thermal_nodes.get(name, ()), "ThermalZone")
    own = {key.rsplit("/", 1)[1]: why for key, why in problems.items() if key.startswith(f"thermalzone/{name}/")}
    if not zone.spec.sensors:
        conditions.set(
            "SensorsTrusted", None, "NoSensors", "spec.sensors is empty: the worst case of spec.cooling holds."
        )
    elif own:
        words = "; ".join(f"{sensor}: {why}" for sensor, why in sorted(own.items()))
        conditions.set("SensorsTrusted", False, "Untrusted", f"The worst case counts until they read again: {words}.")
    else:
        conditions.set("SensorsTrusted", True, "Fresh", "All sensors read this turn.")
    if room.state is ZoneState.OVER_LIMIT:
        conditions.set("WithinLimit", False, "OverHardLimit", "A fresh inlet reading stands at or over the hard limit.")
    else:
        conditions.set("WithinLimit", True, "BelowLimit", "No fresh reading stands over the hard limit.")
    _ready_by_nodes(conditions, len(nodes), "ThermalZone")
    return ThermalZoneStatus.model_validate(
        {
            "conditions": conditions.found,
            "observed_generation": zone.metadata.generation,
            "nodes": len(nodes),
            "state": str(room.state),
            "inlet_celsius": _ceiling(state.inlet),
            "supply_celsius": _ceiling(state.supply),
            "headroom_kilowatts": None
            if math.isinf(room.headroom_kw)
            else max(-1_000_000, math.floor(room.headroom_kw)),
            "binding_limit": None if math.isinf(room.headroom_kw) else str(room.bound),
        }
    )


def zone_headroom(name: str, assembly: Assembly) -> Headroom:
    """Return how much more worst-case power a thermal zone can take now."""
    state = next(z for z in assembly.snapshot.thermal_zones if z.name == name)
    return headroom(state, worst_load_kw(state, assembly.snapshot.cells, assembly.snapshot.running))


def _ceiling(reading: Reading | None) -> int | None:
    value = fresh_value(reading)
    return None if value is None else math.ceil(value)


def policy_status(
    policy: EnergyPolicy, table: PolicyTable, records: Iterable[PlanRecord], wall_now: datetime
) -> EnergyPolicyStatus:
    """Describe a policy: what it covers, holds, and which policy wins over it."""
    name = policy.metadata.name
    namespaces = table.namespaces_of(policy)
    conditions = _Conditions(policy.status.conditions if policy.status else (), policy.metadata.generation, wall_now)
    winners = table.overruled_by(policy)
    if winners:
        conditions.set(
            "Overlapping",
            True,
            "Overruled",
            f"Overruled by {', '.join(winners[:5])}: the higher spec.priority wins, then the older policy.",
        )
    else:
        conditions.set("Overlapping", False, "Unopposed", "No other policy wins over it.")
    if not namespaces:
        conditions.set(
            "Ready", False, "NoNamespaces", "spec.namespaceSelector selects no namespace that may be held in."
        )
    else:
        scope = "every namespace but the protected ones" if policy.spec.namespace_selector is None else "its namespaces"
        conditions.set("Ready", True, "Applied", f"It applies in {scope}; kube-system and our own are never included.")
    held = [r for r in records if r.policy == name and r.state in (State.HELD, State.HELD_BY_LIMIT)]
    return EnergyPolicyStatus(
        conditions=conditions.found,
        observed_generation=policy.metadata.generation,
        namespaces=len(namespaces),
        workloads_held=len(held),
        gpus_held=sum(r.gpus for r in held),
    )
