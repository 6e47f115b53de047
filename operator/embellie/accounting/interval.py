# SPDX-License-Identifier: Apache-2.0
"""One zone's account of one interval, out of samples; pure.

An account says what it *adds* to the totals, nested tables of plain sums. A revision adds its difference, so that sums
are right whatever was revised, and how often.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embellie.accounting.allocation import Allocation, GangUse, NodeEnergy, Share, allocate
from embellie.accounting.embodied import hardware_for
from embellie.accounting.known import Gang, Machine, Price, Tariff, ZoneInterval
from embellie.accounting.meters import Steps, counter_steps, power_steps
from embellie.domain.forecast import FloatArray
from embellie.domain.sums import add_tables

METHOD = "embellie-account/1"
GPU_MAX_W = 2500.0
"""More than any GPU can draw: a step of a counter beyond it is no energy [W]."""
NODE_MAX_W = 200_000.0
ZONE_MAX_W = 1e9
ENOUGH = 0.5
"""A meter that covers at least this share of the interval is scaled to all of it; one that covers less is not used."""


def account_interval(known: ZoneInterval) -> dict[str, Any]:
    """Return the body of an account record."""
    edges = np.array([known.start.timestamp(), known.end.timestamp()])
    length_s = float(edges[1] - edges[0])
    if length_s <= 0:
        raise ValueError("an interval must end after its start")
    meter = power_steps(known.meter.at_s, known.meter.values, max_w=ZONE_MAX_W, longest_s=_bridged_s(length_s))
    meter_kwh, metered_s = _scaled(meter, edges, length_s)
    gpu_use = _gpu_use(known, edges)
    nodes, node_s = [], 0.0
    seats_s = _seats_s(known.gangs, edges)
    for machine in known.machines:
        kwh, covered_s = _scaled(
            power_steps(machine.power.at_s, machine.power.values, max_w=NODE_MAX_W, longest_s=_bridged_s(length_s)),
            edges,
            length_s,
        )
        node_s += covered_s
        nodes.append(_node(machine, kwh, length_s, seats_s.get(machine.name, ()), gpu_use, edges))
    it_kw = _it_kwh(nodes) / length_s * 3600.0
    overhead_kwh = known.overhead.kw(it_kw, known.ambient_c) * length_s / 3600.0
    allocation = allocate(nodes, overhead_kwh=overhead_kwh, meter_kwh=meter_kwh)
    return _body(
        known, allocation, metered_s=metered_s, node_s=node_s, gpu_use=gpu_use, peak_kw=_peak(known, allocation)
    )


@dataclass(slots=True)
class _Used:
    kwh: float = 0.0
    covered_s: float = 0.0


def _gpu_use(known: ZoneInterval, edges: FloatArray) -> dict[tuple[str, str], _Used]:
    """Return what each gang's GPUs drew on each node, as far as it was measured."""
    used: dict[tuple[str, str], _Used] = {}
    gangs = {gang.uid: gang for gang in known.gangs}
    idle_w = {machine.name: machine.gpu_idle_w for machine in known.machines}
    for gpu in known.gpus:
        samples, bridged_s = gpu.samples, _bridged_s(float(edges[1] - edges[0]))
        if gpu.counter:
            steps = counter_steps(samples.at_s, samples.values, max_w=GPU_MAX_W)
        else:
            steps = power_steps(samples.at_s, samples.values, max_w=GPU_MAX_W, longest_s=bridged_s)
        if steps.joules.size == 0:
            continue
        by_time = dict(zip(gpu.samples.at_s, gpu.holders, strict=False))
        held = [by_time.get(float(at_s), {}) for at_s in steps.at_s]
        for uid in {name for holders in held for name in holders}:
            part = _part_of(uid, gangs.get(uid), steps, held, gpu.node, idle_w.get(gpu.node, 0.0)).between(edges)
            entry = used.setdefault((uid, gpu.node), _Used())
            entry.kwh += float(part.kwh[0])
            entry.covered_s += float(part.covered_s[0])
    return used


def _part_of(
    uid: str, gang: Gang | None, steps: Steps, held: Sequence[Mapping[str, float]], node: str, idle_w: float
) -> Steps:
    """Return one gang's part of a GPU's steps.

    Between two samples of which only one shows the gang, the cluster knows when its pod came or went: the gang has that
    time, and all that the step drew above the GPU's idle draw in the rest of it.
    """
    share = np.array([h.get(uid, 0.0) / sum(h.values()) if h else 0.0 for h in held])
    alone = np.array([set(h) <= {uid} for h in held])
    before, after = share[:-1], share[1:]
    weight = (before + after) / 2.0
    joules, known = steps.joules * weight, steps.known * weight
    for k in np.flatnonzero((before > 0.0) != (after > 0.0)):
        first, last = float(steps.at_s[k]), float(steps.at_s[k + 1])
        stays = [stay for stay in gang.stays if stay.node == node] if gang is not None else []
        inside = max((min(stay.end_s, last) - max(stay.start_s, first) for stay in stays), default=0.0)
        part = min(1.0, max(0.0, inside) / (last - first)) if stays else 0.5
        whole = max(before[k], after[k])
        rest_j = idle_w * (last - first) * (1.0 - part)
        drawn = max(0.0, steps.joules[k] - rest_j) if alone[k] and alone[k + 1] else steps.joules[k] * part
        joules[k], known[k] = whole * drawn * steps.known[k], whole * part * steps.known[k]
    return Steps(steps.at_s, joules, known, steps.guessed * weight)


def _node(
    machine: Machine,
    kwh: float | None,
    length_s: float,
    seats_s: Sequence[tuple[Gang, float]],
    gpu_use: Mapping[tuple[str, str], _Used],
    edges: FloatArray,
) -> NodeEnergy:
    uses = []
    shared = sum(seconds for _, seconds in seats_s) > 1.001 * machine.gpus * length_s
    for gang, reserved_s in seats_s:
        seconds = reserved_s
        found = gpu_use.get((gang.uid, machine.name), _Used())
        if shared and found.covered_s > 0.0:
            # Time-slicing: several pods hold one card, and the telemetry says how much of it each has.
            seconds = min(seconds, found.covered_s)
        missing_s = max(0.0, seconds - found.covered_s)
        whole_s = sum(stay.gpus * (stay.end_s - stay.start_s) for stay in gang.stays) or 1.0
        cpu = counter_steps(gang.cpu.at_s, gang.cpu.values, max_w=NODE_MAX_W).between(edges).kwh[0]
        uses.append(
            GangUse(
                gang=gang.uid,
                gpu_seconds=seconds,
                gpu_kwh=found.kwh + gang.watts_per_gpu * missing_s / 3.6e6,
                cpu_kwh=float(cpu) * min(1.0, seconds / whole_s),
                estimated=missing_s > 0.1 * seconds,
            )
        )
    return NodeEnergy(
        name=machine.name,
        seconds=length_s,
        gpus=machine.gpus,
        idle_w=machine.idle_w,
        gpu_idle_w=machine.gpu_idle_w,
        kwh=kwh,
        host_share=machine.host_share,
        uses=tuple(uses),
    )


def _seats_s(gangs: Sequence[Gang], edges: FloatArray) -> dict[str, list[tuple[Gang, float]]]:
    """Return by node which gangs reserved GPUs there in the interval, and how much GPU-time [s]."""
    first, last = float(edges[0]), float(edges[1])
    found: dict[str, list[tuple[Gang, float]]] = {}
    for gang in gangs:
        mine: dict[str, float] = {}
        for stay in gang.stays:
            seconds = stay.gpus * (min(stay.end_s, last) - max(stay.start_s, first))
            if seconds > 0.0:
                mine[stay.node] = mine.get(stay.node, 0.0) + seconds
        for node, seconds in mine.items():
            found.setdefault(node, []).append((gang, seconds))
    return found


def _scaled(steps: Steps, edges: FloatArray, length_s: float) -> tuple[float | None, float]:
    """Return a power meter's energy, scaled over what it missed, and for how long it was there [s]."""
    if steps.joules.size == 0:
        return None, 0.0
    found = steps.between(edges)
    covered_s = float(found.covered_s[0])
    if covered_s < ENOUGH * length_s:
        return None, covered_s
    return float(found.kwh[0]) * length_s / covered_s, covered_s


def _it_kwh(nodes: Sequence[NodeEnergy]) -> float:
    return allocate(nodes, overhead_kwh=0.0, meter_kwh=None).it_kwh


def _bridged_s(length_s: float) -> float:
    """Return the longest silence of a power meter that is bridged: ten minutes, or half of a long interval [s]."""
    return max(600.0, length_s / 2.0)


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
    *,
    metered_s: float,
    node_s: float,
    gpu_use: Mapping[tuple[str, str], _Used],
    peak_kw: float,
) -> dict[str, Any]:
    length_s = (known.end - known.start).total_seconds()
    rates = {machine.name: hardware_for(machine.product).g_per_gpu_hour for machine in known.machines}
    gangs = {gang.uid: gang for gang in known.gangs}
    rows: dict[str, dict[str, Any]] = {"namespaces": {}, "teams": {}, "workloads": {}}
    for uid, share in allocation.gangs.items():
        gang = gangs[uid]
        row = _row(share, known, _embodied(gang, known, rates))
        _add_row(rows["namespaces"], gang.namespace, row)
        _add_row(rows["teams"], gang.team, row)
        _add_row(rows["workloads"], uid, row)
    all_gpu_s = sum(machine.gpus for machine in known.machines) * length_s
    embodied = sum(machine.gpus * rates[machine.name] for machine in known.machines) * length_s / 3600.0
    return {
        "method": METHOD,
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
        "names": {gang.uid: f"{gang.namespace}/{gang.kind.lower()}/{gang.name}" for gang in known.gangs},
        "teamOf": {gang.uid: gang.team for gang in known.gangs if gang.team},
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
                "gpuCovered": sum(used.covered_s for used in gpu_use.values()),
                "gpuReserved": sum(share.gpu_seconds for share in allocation.gangs.values()),
                "gpuAll": all_gpu_s,
                **_priced_seconds(known.prices, length_s),
                **_costed_seconds(known.tariff, length_s),
            },
            **_worth(allocation.facility_kwh, known.prices, known.tariff),
            "embodiedG": embodied,
            **rows,
        },
    }


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


def _row(share: Share, known: ZoneInterval, embodied_g: float) -> dict[str, Any]:
    return {
        "dynamicKwh": share.dynamic_kwh,
        "idleKwh": share.idle_kwh,
        "overheadKwh": share.overhead_kwh,
        "estimatedKwh": share.estimated_kwh,
        "gpuSeconds": share.gpu_seconds,
        **_worth(share.kwh, known.prices, known.tariff),
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
    changed |= _worth(total["kwh"]["facility"], prices, tariff)
    for table in ("namespaces", "teams", "workloads"):
        changed[table] = {
            key: {name: value for name, value in row.items() if name != "cost"}
            | _worth(row["dynamicKwh"] + row["idleKwh"] + row["overheadKwh"], prices, tariff)
            for key, row in total.get(table, {}).items()
        }
    return changed


def _worth(kwh: float, prices: Sequence[Price], tariff: Tariff | None) -> dict[str, dict[str, float]]:
    return {"grams": {str(price.kind): kwh * price.g_per_kwh for price in prices}} | _cost(kwh, tariff)
