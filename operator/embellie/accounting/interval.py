# SPDX-License-Identifier: Apache-2.0
"""One zone's account of one interval, out of samples; pure.

An account says what it *adds* to the totals, nested tables of plain sums. A revision adds its difference, so that sums
are right whatever was revised, and how often.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from embellie.accounting.allocation import Allocation, NodeEnergy, Share, allocate
from embellie.accounting.embodied import hardware_for
from embellie.accounting.known import Gang, Price, Tariff, ZoneInterval
from embellie.accounting.meters import power_steps
from embellie.accounting.onsite import NET_METER, NO_DRAW, Delivered, any_metered, by_kind, delivered, spared_g_per_kwh
from embellie.accounting.stretches import bridged_s, changes, node_parts, scaled
from embellie.domain.reasons import SignalKind
from embellie.domain.sums import add_tables

METHOD = "embellie-account/4"
METHOD_ON_SITE = "embellie-account/5"
"""Of intervals of zones with metered plants; without any, both versions are one."""
ZONE_MAX_W = 1e9


def account_interval(known: ZoneInterval) -> dict[str, Any]:
    """Return the body of an account record."""
    edges = np.array([known.start.timestamp(), known.end.timestamp()])
    length_s = float(edges[1] - edges[0])
    if length_s <= 0:
        raise ValueError("an interval must end after its start")
    longest_s = bridged_s(length_s)
    meter = power_steps(
        known.meter.at_s,
        known.meter.values,
        max_w=ZONE_MAX_W,
        longest_s=longest_s,
        changes_s=[at_s for at_s, _ in changes(known.gangs)],
    )
    metered, metered_s = scaled(meter, edges)
    meter_kwh = None if metered is None else float(metered.sum())
    nodes, node_s, gpu_s = node_parts(known, edges)
    it_kw = _it_kwh(nodes) / length_s * 3600.0
    overhead_kwh = known.overhead.kw(it_kw, known.ambient_c) * length_s / 3600.0
    allocation = allocate(nodes, overhead_kwh=overhead_kwh, meter_kwh=meter_kwh)
    return _body(
        known,
        allocation,
        _plants(known, allocation),
        metered_s=metered_s,
        node_s=node_s,
        gpu_s=gpu_s,
        peak_kw=_peak(known, allocation),
    )


def _it_kwh(nodes: Sequence[NodeEnergy]) -> float:
    return allocate(nodes, overhead_kwh=0.0, meter_kwh=None).it_kwh


def _peak(known: ZoneInterval, allocation: Allocation) -> float:
    first, last = known.start.timestamp(), known.end.timestamp()
    inside = [
        v / 1000.0
        for at, v in zip(known.meter.at_s, known.meter.values, strict=True)
        if first <= at < last and 0 <= v < ZONE_MAX_W
    ]
    return max(inside, default=allocation.facility_kwh * 3600.0 / (last - first))


def _body(
    known: ZoneInterval,
    allocation: Allocation,
    plants: Sequence[Delivered],
    *,
    metered_s: float,
    node_s: float,
    gpu_s: float,
    peak_kw: float,
) -> dict[str, Any]:
    length_s = (known.end - known.start).total_seconds()
    rates = {machine.name: hardware_for(machine.product).g_per_gpu_hour for machine in known.machines}
    # Gangs of before and after are known too, for what they drew at the edges.
    there = [gang for gang in known.gangs if gang.uid in allocation.gangs]
    all_gpu_s = sum(machine.gpus for machine in known.machines) * length_s
    embodied = sum(machine.gpus * rates[machine.name] for machine in known.machines) * length_s / 3600.0
    own = {"onSite": by_kind(plants, allocation.facility_kwh, length_s)} if plants else {}
    spared = spared_g_per_kwh(known.prices, own.get("onSite", {}), allocation.facility_kwh)
    return {
        "method": method_of(own),
        "zone": known.zone,
        "start": known.start,
        "end": known.end,
        "revision": 0,
        "peakKw": peak_kw,
        "ambientC": known.ambient_c,
        "signals": [signal_entry(price) for price in known.prices],
        "tariff": tariff_entry(known.tariff),
        "overheadModel": {
            "fixedKw": known.overhead.fixed_kw,
            "perIt": known.overhead.per_it,
            "perItKelvin": known.overhead.per_it_kelvin,
            "freeCoolingC": known.overhead.free_cooling_c,
            "fittedHours": known.overhead.hours,
        },
        "names": {gang.uid: f"{gang.namespace}/{gang.kind.lower()}/{gang.name}" for gang in there},
        "teamOf": {gang.uid: gang.team for gang in there if gang.team},
        **({"plants": [_plant_entry(plant) for plant in plants]} if plants else {}),
        "adds": {
            "kwh": {
                "jobs": allocation.jobs_it_kwh,
                "idle": allocation.idle.it_kwh,
                "overhead": allocation.overhead_kwh,
                "unexplained": allocation.unexplained_kwh,
                "facility": allocation.facility_kwh,
                "metered": allocation.meter_kwh or 0.0,
                "estimated": allocation.estimated_kwh,
            },
            "seconds": {
                "length": length_s,
                "metered": metered_s,
                "nodeSeconds": length_s * len(known.machines),
                "nodesMetered": node_s,
                "gpuCovered": gpu_s,
                "gpuReserved": sum(share.gpu_seconds for share in allocation.gangs.values()),
                "gpuAll": all_gpu_s,
                **_priced_seconds(known.prices, length_s),
                **_costed_seconds(known.tariff, length_s),
            },
            **own,
            **_worth(allocation.facility_kwh, known.prices, known.tariff, spared),
            "embodiedG": embodied,
            **_rows(known, allocation, rates, spared),
        },
    }


def method_of(adds: Mapping[str, Any]) -> str:
    """Return the method by which an interval's sums are made."""
    return METHOD_ON_SITE if "onSite" in adds else METHOD


def _plants(known: ZoneInterval, allocation: Allocation) -> list[Delivered]:
    """Return what each plant delivered; none where no plant has a meter."""
    if not any_metered(known.plants):
        return []
    plants = known.plants
    if allocation.meter_kwh is not None and allocation.meter_kwh < NET_METER * allocation.it_kwh:
        plants = tuple(replace(plant, unread=plant.unread or NO_DRAW) for plant in plants)
    return [delivered(plant, known.start.timestamp(), known.end.timestamp()) for plant in plants]


def _plant_entry(plant: Delivered) -> dict[str, Any]:
    told = {"name": plant.name, "kind": plant.kind, "deliveredKwh": plant.kwh, "coveredSeconds": plant.covered_s}
    return told | ({"missing": plant.missing} if plant.missing else {})


def _rows(
    known: ZoneInterval, allocation: Allocation, rates: Mapping[str, float], spared: Mapping[SignalKind, float]
) -> dict[str, dict[str, Any]]:
    """Return what each workload adds, and the sums of each namespace's and each team's.

    Args:
        known: The interval.
        allocation: Its energy, divided.
        rates: Embodied emissions of a GPU of each node [gCO2e/h].
        spared: What on-site energy spares of each kilowatt-hour, by kind of signal [g/kWh].
    """
    gangs = {gang.uid: gang for gang in known.gangs}
    rows: dict[str, dict[str, Any]] = {"namespaces": {}, "teams": {}, "workloads": {}}
    for uid, share in allocation.gangs.items():
        gang = gangs[uid]
        row = _row(share, known, _embodied(gang, known, rates), spared)
        _add_row(rows["namespaces"], gang.namespace, row)
        _add_row(rows["teams"], gang.team, row)
        _add_row(rows["workloads"], uid, row)
    return rows


def _priced_seconds(prices: Sequence[Price], length_s: float) -> dict[str, float]:
    found = {}
    for price in prices:
        found[f"priced{price.kind}"] = length_s
        found[f"estimated{price.kind}"] = length_s if price.quality != "measured" else 0.0
    return found


def _costed_seconds(tariff: Tariff | None, length_s: float) -> dict[str, float]:
    return {} if tariff is None else {f"costed{tariff.currency}": length_s}


def _cost(kwh: float, tariff: Tariff | None) -> dict[str, dict[str, float]]:
    """Return what energy cost, by currency: sums of two currencies stay two sums."""
    return {} if tariff is None else {"cost": {tariff.currency: kwh / 1000.0 * tariff.per_mwh}}


def tariff_entry(tariff: Tariff | None) -> dict[str, Any] | None:
    """Return how an electricity price is told in a record."""
    if tariff is None:
        return None
    return {"perMwh": tariff.per_mwh, "currency": tariff.currency, "source": tariff.source}


def signal_entry(price: Price) -> dict[str, Any]:
    """Return how a price is told in a record."""
    return {
        "kind": str(price.kind),
        "gPerKwh": price.g_per_kwh,
        "quality": price.quality,
        "source": price.source,
    }


def _embodied(gang: Gang, known: ZoneInterval, rates: Mapping[str, float]) -> float:
    first, last = known.start.timestamp(), known.end.timestamp()
    return sum(
        stay.gpus * max(0.0, min(stay.end_s, last) - max(stay.start_s, first)) / 3600.0 * rates.get(stay.node, 0.0)
        for stay in gang.stays
    )


def _row(share: Share, known: ZoneInterval, embodied_g: float, spared: Mapping[SignalKind, float]) -> dict[str, Any]:
    return {
        "dynamicKwh": share.dynamic_kwh,
        "idleKwh": share.idle_kwh,
        "overheadKwh": share.overhead_kwh,
        "estimatedKwh": share.estimated_kwh,
        "gpuSeconds": share.gpu_seconds,
        **_worth(share.kwh, known.prices, known.tariff, spared),
        "embodiedG": embodied_g,
    }


def _add_row(table: dict[str, Any], key: str, row: Mapping[str, Any]) -> None:
    before = table.get(key)
    table[key] = dict(row) if before is None else add_tables(before, row)


def repriced(total: Mapping[str, Any], prices: Sequence[Price], tariff: Tariff | None) -> dict[str, Any]:
    """Return an interval's sums with other prices: energy stays, grams and cost follow."""
    length_s = total["seconds"]["length"]
    seconds = {k: v for k, v in total["seconds"].items() if not k.startswith(("priced", "estimated", "costed"))}
    changed = {name: part for name, part in total.items() if name != "cost"}
    changed["seconds"] = {**seconds, **_priced_seconds(prices, length_s), **_costed_seconds(tariff, length_s)}
    spared = spared_g_per_kwh(prices, total.get("onSite", {}), total["kwh"]["facility"])
    changed |= _worth(total["kwh"]["facility"], prices, tariff, spared)
    for table in ("namespaces", "teams", "workloads"):
        changed[table] = {
            key: {name: value for name, value in row.items() if name != "cost"}
            | _worth(row["dynamicKwh"] + row["idleKwh"] + row["overheadKwh"], prices, tariff, spared)
            for key, row in total.get(table, {}).items()
        }
    return changed


def _worth(
    kwh: float, prices: Sequence[Price], tariff: Tariff | None, spared: Mapping[SignalKind, float]
) -> dict[str, dict[str, float]]:
    """Return what energy emitted, what on-site energy spared of that (`sparedGrams`, where any was used), and its cost.

    The grid alone would come to both together.
    """
    # What was drawn from plants only emits nothing directly; rounding must not make that less.
    grams = {str(p.kind): kwh * max(0.0, p.g_per_kwh - spared.get(p.kind, 0.0)) for p in prices}
    own = {"sparedGrams": {str(kind): kwh * g_per_kwh for kind, g_per_kwh in spared.items()}} if spared else {}
    return {"grams": grams} | own | _cost(kwh, tariff)
