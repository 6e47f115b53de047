# SPDX-License-Identifier: Apache-2.0
"""Samples of energy and power out of Prometheus, for the accounts: GPUs, nodes, processors, zone meters.

Raw samples at a fixed step are asked for, never `increase()`: it extrapolates, and what it makes of resets and missing
scrapes cannot be added up. Everything here is outside data: a series that cannot be read is left out.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from embellie.telemetry.exporters import Word, node_of, own_labels, vocabulary
from embellie.telemetry.prometheus import BoundedSession

logger = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 64 << 20
POD_CPU = 'kepler_pod_cpu_joules_total{zone="package"}'
"""Kepler's zones overlap: only the package may be counted."""
_POD_LABELS = (("exported_namespace", "exported_pod"), ("namespace", "pod"), ("pod_namespace", "pod_name"))
PodName = tuple[str, str]
"""Namespace and name."""


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
    problems: list[str] = field(default_factory=list)


def words_for(quantity: str) -> list[Word]:
    """Return what exporters call a quantity, the best word first."""
    return [word for word in vocabulary() if word.quantity == quantity]


class EnergySource:
    """Asks one Prometheus for stretches of samples."""

    def __init__(self, url: str, *, timeout_s: float = 20.0) -> None:
        session = BoundedSession()
        session.max_bytes = MAX_ANSWER_BYTES
        session.headers["User-Agent"] = "embellie"
        self._prometheus = PrometheusConnect(url=url, session=session, timeout=timeout_s, retry=Retry(0, read=False))

    def read(
        self,
        start: datetime,
        end: datetime,
        step_s: float,
        *,
        zone_queries: Mapping[str, str],
        pods: Mapping[PodName, str],
    ) -> EnergySamples:
        """Return the samples of [start, end], wall time.

        Args:
            start: First instant that is asked for.
            end: Last one.
            step_s: Time between two samples [s].
            zone_queries: GridZone -> PromQL of its meter.
            pods: Pods that really held GPUs in this time -> their node: any other name on a GPU is the exporter's own.
        """
        found = EnergySamples()

        def ask(promql: str) -> list[Any]:
            return self._ask(promql, start, end, step_s, found.problems)

        # Of several words for one thing the first that speaks of it counts (vocabulary.csv has them in that order).
        for quantity, counter in (("gpu_energy", True), ("gpu_power", False)):
            for word in words_for(quantity):
                _take_gpus(found, ask(word.metric), word, pods, counter=counter)
        for word in words_for("node_power"):
            _take_nodes(found.nodes, ask(word.metric), word)
        for one in ask(POD_CPU):
            name = _pod(one["metric"], pods)
            if name is not None:
                _extend(found.pod_cpu.setdefault(name, Series()), one, 1.0)
        for zone, promql in zone_queries.items():
            answer = ask(promql)
            if len(answer) == 1:
                _extend(found.zones.setdefault(zone, Series()), answer[0], 1.0)
        return found

    def _ask(self, promql: str, start: datetime, end: datetime, step_s: float, problems: list[str]) -> list[Any]:
        try:
            answer = self._prometheus.custom_query_range(
                promql, start_time=start.astimezone(UTC), end_time=end.astimezone(UTC), step=f"{max(0.001, step_s):.3f}"
            )
        except (requests.RequestException, PrometheusApiClientException, ValueError, TypeError, KeyError) as error:
            problems.append(f"{promql[:60]}: {str(error)[:120]}")
            return []
        if not isinstance(answer, list):
            problems.append(f"{promql[:60]}: the answer is no list of series")
            return []
        return [one for one in answer if isinstance(one, Mapping) and isinstance(one.get("metric"), Mapping)]


def _take_gpus(
    found: EnergySamples, answer: Sequence[Any], word: Word, pods: Mapping[PodName, str], *, counter: bool
) -> None:
    """Take what one metric says of the GPUs that no better metric has told of; series of one GPU are put together."""
    told = set(found.gpus)
    for one in answer:
        labels = one["metric"]
        uuid = str(labels.get("UUID") or labels.get("uuid") or labels.get("gpu_uuid") or "")
        if not uuid or uuid in told or not word.fits(labels):
            continue
        holder = _pod(labels, pods)
        gpu = found.gpus.get(uuid)
        if gpu is None:
            node = pods.get(holder, "") if holder else ""
            gpu = found.gpus[uuid] = GpuSeries(
                node or node_of(labels), str(labels.get("modelName") or labels.get("model") or ""), counter
            )
        weight = _slices(str(labels.get("GPU_I_PROFILE") or ""))
        for at_s, value in _pairs(one):
            # Every pod on a shared card shows the whole card: the card counts once.
            gpu.samples[at_s] = max(value * word.factor, gpu.samples.get(at_s, -math.inf))
            if holder is not None:
                gpu.holders.setdefault(at_s, {})[holder] = weight


def _take_nodes(into: dict[str, Series], answer: Sequence[Any], word: Word) -> None:
    told = set(into)
    meters: dict[str, dict[frozenset[tuple[str, str]], dict[float, float]]] = defaultdict(lambda: defaultdict(dict))
    for one in answer:
        name, own = node_of(one["metric"]), own_labels(one["metric"])
        if name and name not in told and word.fits(one["metric"]):
            # An exporter that is scraped twice tells of one meter twice.
            meters[name][own].update((at_s, value * word.factor) for at_s, value in _pairs(one))
    for name, found in meters.items():
        # Sockets, chassis and power supplies of one node add up.
        sums: dict[float, float] = defaultdict(float)
        for samples in found.values():
            for at_s, value in samples.items():
                sums[at_s] += value
        into[name] = Series(sorted(sums), [sums[at_s] for at_s in sorted(sums)])


def _extend(series: Series, one: Mapping[str, Any], factor: float) -> None:
    for at_s, value in _pairs(one):
        series.at_s.append(at_s)
        series.values.append(value * factor)


def _pairs(one: Mapping[str, Any]) -> list[tuple[float, float]]:
    pairs = []
    for pair in one.get("values") or ():
        try:
            at_s, value = float(pair[0]), float(pair[1])
        except (TypeError, ValueError, IndexError, KeyError):
            continue
        if math.isfinite(at_s) and math.isfinite(value):
            pairs.append((at_s, value))
    return pairs


def _pod(labels: Mapping[str, Any], pods: Mapping[PodName, str]) -> PodName | None:
    """Return the pod that a series tells of: `exported_*` first, and only one that held GPUs."""
    for namespace, name in _POD_LABELS:
        found = (str(labels.get(namespace, "")), str(labels.get(name, "")))
        if found in pods:
            return found
    return None


def _slices(profile: str) -> float:
    """Return the compute slices of a MIG profile (`3g.40gb` has three); 1 without one."""
    head = profile.partition("g.")[0]
    return float(head) if head.isdigit() else 1.0
