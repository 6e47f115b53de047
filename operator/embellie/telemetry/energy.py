# SPDX-License-Identifier: Apache-2.0
"""Samples of energy and power out of Prometheus, for the accounts: GPUs, nodes, processors, zone meters, plants.

Raw samples at a fixed step are asked for, never `increase()`: it extrapolates, and what it makes of resets and missing
scrapes cannot be added up. Everything here is outside data: a series that cannot be read is left out.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from embellie.telemetry.exporters import Word, node_of, own_labels, words_for
from embellie.telemetry.tables import QueryError, RangeOf, TableSource

POD_CPU = 'kepler_pod_cpu_joules_total{zone="package"}'
"""Kepler's zones overlap: only the package may be counted."""
_POD_LABELS = (("exported_namespace", "exported_pod"), ("namespace", "pod"), ("pod_namespace", "pod_name"))
PodName = tuple[str, str]
"""Namespace and name."""
PlantName = tuple[str, str]
"""GridZone and name."""
_Whose = TypeVar("_Whose", str, PlantName)


@dataclass(slots=True)
class Series:
    """Samples of one thing: instants (Unix time) and values."""

    at_s: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass(slots=True)
class GpuSeries:
    """One GPU: its counter [J] or its power [W], and who held it at each sample."""

    node: str
    product: str = ""
    counter: bool = True
    samples: dict[float, float] = field(default_factory=dict)
    holders: dict[float, dict[PodName, float]] = field(default_factory=dict)
    """Instant -> pod -> its weight (time-slicing: 1 each; MIG: the slices that it has)."""


@dataclass(slots=True)
class EnergySamples:
    """Everything that a stretch of time gave."""

    gpus: dict[str, GpuSeries] = field(default_factory=dict)
    nodes: dict[str, Series] = field(default_factory=dict)
    """Node -> power [W]."""
    pod_cpu: dict[PodName, Series] = field(default_factory=dict)
    zones: dict[str, Series] = field(default_factory=dict)
    """GridZone -> power at its meter, in the unit of its sensor."""
    plants: dict[PlantName, Series] = field(default_factory=dict)
    """Plant -> power that it delivers, in the unit of its meter."""


class EnergySource:
    """Asks for stretches of samples; a question that gets no answer leaves nothing."""

    def __init__(self, tables: TableSource) -> None:
        self._tables = tables

    def read(
        self,
        start: datetime,
        end: datetime,
        step_s: float,
        *,
        zone_queries: Mapping[str, str],
        plant_queries: Mapping[PlantName, str],
        pods: Mapping[PodName, str],
    ) -> EnergySamples:
        """Return the samples of [start, end], wall time.

        Args:
            start: First instant that is asked for.
            end: Last one.
            step_s: Time between two samples [s].
            zone_queries: GridZone -> PromQL of its meter.
            plant_queries: Plant on a site -> PromQL of its meter.
            pods: Pods that really held GPUs in this time -> their node: any other name on a GPU is the exporter's own.
        """
        found = EnergySamples()

        def ask(promql: str) -> tuple[RangeOf, ...]:
            try:
                return self._tables.ranges(promql, start.timestamp(), end.timestamp(), step_s)
            except QueryError:
                return ()

        # Of several words for one thing the first that speaks of it counts (vocabulary.csv has them in that order).
        for quantity, counter in (("gpu_energy", True), ("gpu_power", False)):
            for word in words_for(quantity):
                _take_gpus(found, ask(word.metric), word, pods, counter=counter)
        for word in words_for("node_power"):
            _take_nodes(found.nodes, ask(word.metric), word)
        for one in ask(POD_CPU):
            name = _pod(one.labels, pods)
            if name is not None:
                series = found.pod_cpu.setdefault(name, Series())
                series.at_s += one.at_s
                series.values += one.values
        _take_meters(found.zones, zone_queries, ask)
        _take_meters(found.plants, plant_queries, ask)
        return found


def _take_meters(
    into: dict[_Whose, Series], queries: Mapping[_Whose, str], ask: Callable[[str], tuple[RangeOf, ...]]
) -> None:
    """Take meters that somebody named; one must be a single series."""
    for whose, promql in queries.items():
        answer = ask(promql)
        if len(answer) == 1:
            into[whose] = Series(list(answer[0].at_s), list(answer[0].values))


def _take_gpus(
    found: EnergySamples, answer: Sequence[RangeOf], word: Word, pods: Mapping[PodName, str], *, counter: bool
) -> None:
    """Take what one metric says of the GPUs that no better metric has told of; series of one GPU are put together."""
    told = set(found.gpus)
    for one in answer:
        labels = one.labels
        uuid = labels.get("UUID") or labels.get("uuid") or labels.get("gpu_uuid")
        if not uuid or uuid in told or not word.fits(labels):
            continue
        holder = _pod(labels, pods)
        gpu = found.gpus.get(uuid)
        if gpu is None:
            node = pods.get(holder, "") if holder else ""
            gpu = found.gpus[uuid] = GpuSeries(
                node or node_of(labels), labels.get("modelName") or labels.get("model", ""), counter
            )
        weight = _slices(labels.get("GPU_I_PROFILE", ""))
        for at_s, value in zip(one.at_s, one.values, strict=True):
            # Every pod on a shared card shows the whole card: the card counts once.
            gpu.samples[at_s] = max(value * word.factor, gpu.samples.get(at_s, -math.inf))
            if holder is not None:
                gpu.holders.setdefault(at_s, {})[holder] = weight


def _take_nodes(into: dict[str, Series], answer: Sequence[RangeOf], word: Word) -> None:
    told = set(into)
    meters: dict[str, dict[frozenset[tuple[str, str]], dict[float, float]]] = defaultdict(lambda: defaultdict(dict))
    for one in answer:
        name, own = node_of(one.labels), own_labels(one.labels)
        if name and name not in told and word.fits(one.labels):
            # An exporter that is scraped twice tells of one meter twice.
            meters[name][own].update(zip(one.at_s, (value * word.factor for value in one.values), strict=True))
    for name, found in meters.items():
        # Sockets, chassis and power supplies of one node add up.
        sums: dict[float, float] = defaultdict(float)
        for samples in found.values():
            for at_s, value in samples.items():
                sums[at_s] += value
        into[name] = Series(sorted(sums), [sums[at_s] for at_s in sorted(sums)])


def _pod(labels: Mapping[str, str], pods: Mapping[PodName, str]) -> PodName | None:
    """Return the pod that a series tells of: `exported_*` first, and only one that held GPUs."""
    for namespace, name in _POD_LABELS:
        found = (labels.get(namespace, ""), labels.get(name, ""))
        if found in pods:
            return found
    return None


def _slices(profile: str) -> float:
    """Return the compute slices of a MIG profile (`3g.40gb` has three); 1 without one."""
    head = profile.partition("g.")[0]
    return float(head) if head.isdigit() else 1.0
