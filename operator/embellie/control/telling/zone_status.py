# SPDX-License-Identifier: Apache-2.0
"""What GridZones and EnergyPolicies say about themselves. Pure: from a turn's assembly to statuses."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np

from embellie.api.energypolicy import EnergyPolicy, EnergyPolicyStatus
from embellie.api.gridstatus import BestWindow, ForecastStatus, GridZoneStatus, PowerOrderStatus
from embellie.api.gridzone import GridZone
from embellie.cluster.plan_objects import PlanRecord
from embellie.control.acting.switch_keeper import SHADOW, Holding
from embellie.control.assembly.assemble import Assembly
from embellie.control.assembly.layout import CellNodes
from embellie.control.telling.condition_book import ConditionBook, say_exclusive, say_promises, say_ready
from embellie.control.work.policies import PolicyTable
from embellie.domain.forecast import Forecast
from embellie.domain.power_orders import current_or_next
from embellie.domain.reasons import BOUND_STATES, Reason, Rung
from embellie.domain.snapshot import GridZoneState
from embellie.thermal.promises import Collision

BEST_WINDOW = timedelta(hours=4)


def grid_zone_status(
    zone: GridZone,
    assembly: Assembly,
    problems: Mapping[str, str],
    wall_now: datetime,
    collisions: Sequence[Collision] = (),
) -> GridZoneStatus:
    """Describe a grid zone.

    Args:
        zone: The object.
        assembly: What the turn knew.
        problems: The sensors' problems (key `gridzone/NAME/power`).
        wall_now: For the conditions' times.
        collisions: Promised starts that some zone cannot carry, as foreseen.
    """
    name = zone.metadata.name
    nodes = assembly.layout.nodes_of_grid_zone.get(name, ())
    state = next(s for s in assembly.snapshot.grid_zones if s.name == name)
    conditions = ConditionBook(zone.status.conditions if zone.status else (), zone.metadata.generation, wall_now)
    leaking = [c for c in assembly.layout.cells if c.grid_zone == name and c.leaks]
    shared = assembly.layout.shared_grid_nodes.get(name, ())
    if leaking and not shared:
        _leaking(conditions, leaking)
    else:
        say_exclusive(conditions, shared, "GridZone")
    _say_forecast(conditions, zone, state.forecast)
    _say_power(conditions, zone, problems.get(f"gridzone/{name}/power"))
    say_promises(conditions, [c for c in collisions if c.reason is Reason.CONTRACTED_POWER and c.zone == name])
    say_ready(conditions, len(nodes), "GridZone")
    return GridZoneStatus.model_validate(
        {
            "conditions": conditions.found,
            "observed_generation": zone.metadata.generation,
            "nodes": len(nodes),
            "gpus": sum(n.gpus for n in nodes),
            "gpus_free": sum(c.gpus_free for c in assembly.snapshot.cells if c.grid_zone == name),
            **_power_fields(state, assembly.snapshot.now),
            **_forecast_fields(state.forecast, assembly.snapshot.now),
        }
    )


def _say_forecast(conditions: ConditionBook, zone: GridZone, forecast: Forecast | None) -> None:
    what = "ForecastAvailable"
    if not (zone.spec.grid_region or zone.spec.sources):
        why = "Neither spec.gridRegion nor spec.sources is set, so nothing waits here."
        conditions.set(what, False, "NoGridRegion", why)
    elif forecast is None:
        why = (
            f"There is no usable forecast for {zone.spec.grid_region or zone.metadata.name}: work starts without "
            "waiting. Look at the forecaster's log."
        )
        conditions.set(what, False, "NoForecast", why)
    elif forecast.rung in (Rung.LIVE, Rung.LAST_GOOD):
        issued = f"Issued {forecast.issued_at:%Y-%m-%d %H:%M} UTC."
        conditions.set(what, True, "Forecast", issued + _because(forecast))
    else:
        why = f"No live feed: the forecast stands on rung {forecast.rung}.{_because(forecast)}"
        conditions.set(what, True, "Degraded", why)


def _say_power(conditions: ConditionBook, zone: GridZone, problem: str | None) -> None:
    if zone.spec.power_sensor is None:
        conditions.set("PowerReadable", None, "NoSensor", "spec.powerSensor is not set; power is reckoned, not read.")
    else:
        conditions.set("PowerReadable", not problem, "Unreadable" if problem else "Fresh", problem or "Read this turn.")


def _leaking(conditions: ConditionBook, leaking: Sequence[CellNodes]) -> None:
    nodes = sorted({node for cell in leaking for node in cell.leaks})
    conditions.set(
        "NodesExclusive",
        False,
        "LeakingCell",
        f"The labels of {', '.join(c.name for c in leaking[:3])} also match {len(nodes)} nodes of other cells "
        f"({', '.join(nodes[:3])}...), so no work is sent there. Give every node of the zone a ThermalZone, or labels "
        "that tell them apart.",
    )


def _because(forecast: Forecast) -> str:
    """Return the forecaster's first reason as a sentence of its own; empty where there is nothing to say."""
    return f" {forecast.reasons[0][0].upper()}{forecast.reasons[0][1:]}." if forecast.reasons else ""


def _power_fields(state: GridZoneState, now: datetime) -> dict[str, object]:
    limit_kw, order = state.limit_kw(now), current_or_next(state.orders, now)
    return {
        "power_limit_kilowatts": round(limit_kw) if math.isfinite(limit_kw) else None,
        "power_order": None
        if order is None
        else PowerOrderStatus(start_time=order.begins, end_time=order.ends, power_kilowatts=round(order.power_kw)),
    }


def _forecast_fields(forecast: Forecast | None, now: datetime) -> dict[str, object]:
    if forecast is None:
        return {}
    slot, median, share = forecast.slot_of(now), forecast.median, forecast.renewable_share
    return {
        "carbon_intensity_grams_per_kilowatt_hour": round(float(forecast.carbon_intensity_mean_g_per_kwh[slot])),
        "renewable_percent": None if share is None else round(100 * float(share[median, slot])),
        "on_site_kilowatts": round(sum(float(plant.power_kw[median, slot]) for plant in forecast.on_site))
        if forecast.on_site
        else None,
        "next_best_window": best_window(forecast, slot),
        "forecast": ForecastStatus.model_validate(
            {
                "issuedTime": forecast.issued_at,
                "rung": str(forecast.rung),
                "modelName": forecast.model_id,
                "signalKind": str(forecast.signal_kind),
                "skillPercent": forecast.skill_percent,
                "horizonHours": max(0, int((forecast.end - now) / timedelta(hours=1))),
                "attribution": forecast.attribution[:16],
                "reasons": forecast.reasons[:16],
            }
        ),
    }


def best_window(forecast: Forecast, slot: int) -> BestWindow | None:
    """Return the cleanest four hours from `slot` on."""
    ahead = forecast.carbon_intensity_mean_g_per_kwh[slot:]
    slots = max(1, round(BEST_WINDOW / forecast.step))
    if len(ahead) < slots:
        return None
    means = np.convolve(ahead, np.ones(slots) / slots, mode="valid")
    first = int(np.argmin(means))
    start = forecast.start + forecast.step * (slot + first)
    return BestWindow(
        start_time=start,
        end_time=start + forecast.step * slots,
        carbon_intensity_grams_per_kilowatt_hour=round(float(means[first])),
    )


def policy_status(
    policy: EnergyPolicy, table: PolicyTable, records: Iterable[PlanRecord], wall_now: datetime, holding: Holding
) -> EnergyPolicyStatus:
    """Describe a policy: what it covers, holds, and which policy wins over it; `holding` is for those that enforce."""
    name = policy.metadata.name
    namespaces = table.namespaces_of(policy)
    conditions = ConditionBook(policy.status.conditions if policy.status else (), policy.metadata.generation, wall_now)
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
        selector = policy.spec.namespace_selector
        scope = "its namespaces" if selector.match_names or selector.match_labels else "every namespace"
        conditions.set("Ready", True, "Applied", f"It applies in {scope}; kube-system and our own are never included.")
    said = holding if policy.enforces else SHADOW
    conditions.set("Holding", said.good, said.reason, said.message)
    held = [r for r in records if r.policy == name and r.state in BOUND_STATES]
    return EnergyPolicyStatus(
        conditions=conditions.found,
        observed_generation=policy.metadata.generation,
        namespaces=len(namespaces),
        workloads_held=len(held),
        gpus_held=sum(r.gpus for r in held),
    )
