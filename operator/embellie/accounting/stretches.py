# SPDX-License-Identifier: Apache-2.0
"""A zone's nodes in one interval, each divided into the stretches in which the same gangs were on it; pure."""

from collections.abc import Mapping, Sequence

import numpy as np

from embellie.accounting.allocation import GangUse, NodeEnergy
from embellie.accounting.attribution import Used, gpu_use
from embellie.accounting.known import Gang, Machine, ZoneInterval
from embellie.accounting.meters import Steps, counter_steps, power_steps
from embellie.domain.forecast import FloatArray

NODE_MAX_W = 200_000.0
ENOUGH = 0.5
"""A meter that covers at least this share of the interval is scaled to all of it; one that covers less is not used."""


def node_parts(known: ZoneInterval, edges: FloatArray) -> tuple[list[NodeEnergy], float, float]:
    """Return the nodes' energy, stretch by stretch, and for how long node meters and GPU telemetry were there [s]."""
    longest_s = bridged_s(float(edges[1] - edges[0]))
    changed: dict[str, list[float]] = {}
    for at_s, node in sorted(changes(known.gangs)):
        changed.setdefault(node, []).append(at_s)
    cuts = {machine.name: _stretches(changed.get(machine.name, ()), edges) for machine in known.machines}
    idle_w = {machine.name: machine.gpu_idle_w for machine in known.machines}
    used = gpu_use(known.gpus, known.gangs, idle_w=idle_w, edges_s=cuts, longest_s=longest_s)
    on_node: dict[str, list[Gang]] = {}
    for gang in known.gangs:
        for node in {stay.node for stay in gang.stays if stay.end_s > edges[0] and stay.start_s < edges[1]}:
            on_node.setdefault(node, []).append(gang)
    nodes: list[NodeEnergy] = []
    node_s = 0.0
    for machine in known.machines:
        power = power_steps(
            machine.power.at_s,
            machine.power.values,
            max_w=NODE_MAX_W,
            longest_s=longest_s,
            changes_s=changed.get(machine.name, ()),
        )
        found, covered_s = _parts_of(machine, cuts[machine.name], power, on_node.get(machine.name, ()), used)
        node_s += covered_s
        nodes += found
    return nodes, node_s, sum(float(one.covered_s.sum()) for one in used.values() if not one.guessed)


def bridged_s(length_s: float) -> float:
    """Return the longest silence of a power meter that is bridged: ten minutes, or half of a long interval [s]."""
    return max(600.0, length_s / 2.0)


def _stretches(changed_s: Sequence[float], edges: FloatArray) -> FloatArray:
    """Return the edges of the stretches in which the same gangs are on a node; `changed_s` is in order of time.

    What a node draws beyond its GPUs (fans) rises faster than their power, and belongs to whoever was there then.
    Changes that follow each other within a sixtieth of the interval are one.
    """
    first, last = float(edges[0]), float(edges[1])
    apart = (last - first) / 60.0
    cuts = [first]
    for at_s in changed_s:
        if cuts[-1] + apart <= at_s <= last - apart:
            cuts.append(at_s)
    return np.array([*cuts, last])


def changes(gangs: Sequence[Gang]) -> set[tuple[float, str]]:
    """Return when work came or went on which node."""
    return {(at_s, s.node) for gang in gangs for s in gang.stays for at_s in (s.start_s, s.end_s)}


def _parts_of(
    machine: Machine,
    cuts: FloatArray,
    meter: Steps,
    gangs: Sequence[Gang],
    used: Mapping[tuple[str, str], Used],
) -> tuple[list[NodeEnergy], float]:
    """Return a node's energy, stretch by stretch, and for how long its meter was there [s]."""
    kwh, covered_s = scaled(meter, cuts)
    seats_s = {gang.uid: _seats_s(gang, machine.name, cuts) for gang in gangs}
    cpu_kwh = {gang.uid: _cpu_kwh(gang, machine.name, cuts) for gang in gangs}
    found = []
    for k, length_s in enumerate(np.diff(cuts)):
        shared = sum(seats[k] for seats in seats_s.values()) > 1.001 * machine.gpus * length_s
        uses = []
        for gang in gangs:
            seconds = float(seats_s[gang.uid][k])
            if seconds <= 0.0:
                continue
            mine = used.get((gang.uid, machine.name))
            gpu_kwh, gpu_s = (float(mine.kwh[k]), float(mine.covered_s[k])) if mine is not None else (0.0, 0.0)
            if shared and gpu_s > 0.0:
                # Time-slicing: several pods hold one card, and the telemetry says how much of it each has.
                seconds = min(seconds, gpu_s)
            missing_s = max(0.0, seconds - gpu_s)
            uses.append(
                GangUse(
                    gang=gang.uid,
                    gpu_seconds=seconds,
                    gpu_kwh=gpu_kwh + gang.watts_per_gpu * missing_s / 3.6e6,
                    cpu_kwh=float(cpu_kwh[gang.uid][k]),
                    estimated=missing_s > 0.1 * seconds or (mine is not None and mine.guessed),
                )
            )
        found.append(
            NodeEnergy(
                name=machine.name,
                seconds=float(length_s),
                gpus=machine.gpus,
                idle_w=machine.idle_w,
                gpu_idle_w=machine.gpu_idle_w,
                kwh=None if kwh is None else float(kwh[k]),
                host_share=machine.host_share,
                uses=tuple(uses),
            )
        )
    return found, covered_s


def _seats_s(gang: Gang, node: str, cuts: FloatArray) -> FloatArray:
    """Return the GPU-time that a gang reserved on a node, by stretch [s]."""
    seconds = np.zeros(cuts.size - 1)
    for stay in gang.stays:
        if stay.node == node:
            inside = np.minimum(stay.end_s, cuts[1:]) - np.maximum(stay.start_s, cuts[:-1])
            seconds += stay.gpus * np.maximum(0.0, inside)
    return seconds


def _cpu_kwh(gang: Gang, node: str, cuts: FloatArray) -> FloatArray:
    """Return what the processors of a gang's pods on a node drew, by stretch [kWh]."""
    kwh = np.zeros(cuts.size - 1)
    for cpu in gang.cpu.get(node, ()):
        kwh += counter_steps(cpu.at_s, cpu.values, max_w=NODE_MAX_W).between(cuts).kwh
    return kwh


def scaled(steps: Steps, cuts: FloatArray) -> tuple[FloatArray | None, float]:
    """Return a power meter's energy by stretch, at its mean power where it was silent, and how long it was there [s].

    None where it was there for less than `ENOUGH` of the interval.
    """
    length_s = float(cuts[-1] - cuts[0])
    found = steps.between(cuts)
    covered_s = float(found.covered_s.sum())
    if steps.joules.size == 0 or covered_s < ENOUGH * length_s:
        return None, covered_s
    silent_s = np.maximum(0.0, np.diff(cuts) - found.covered_s)
    return found.kwh + silent_s * float(found.kwh.sum()) / covered_s, covered_s
