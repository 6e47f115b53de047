# SPDX-License-Identifier: Apache-2.0
"""What a metric is here, and the table that gauges are shown from.

Counters and histograms are prometheus_client's own. Gauges that describe a turn are replaced as a whole by whoever
knows them, so that the series of a zone or a reason that is gone goes with it.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

REGISTRY = CollectorRegistry()


class Kind(StrEnum):
    """The types of Prometheus that are used here."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Topic(StrEnum):
    """What a metric is about; the order is that of the reference page."""

    OPERATOR = "The operator itself"
    WORK = "Work: held, running, decided"
    GRID = "The grid and its forecast"
    POWER = "Power and heat"
    ACCOUNTS = "Energy, emissions, savings and the ledger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric family, as it is documented and shown."""

    name: str
    kind: Kind
    topic: Topic
    unit: str
    """The unit of its samples; the name ends with it, but for counts and for 0 or 1."""
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Value:
    """One sample of a gauge; the labels are in the metric's order."""

    metric: Metric
    value: float
    labels: tuple[str, ...] = ()


_CATALOGUE: dict[str, Metric] = {}


def catalogue() -> Mapping[str, Metric]:
    """Return every metric of ours, by name."""
    return _CATALOGUE


def _declare(metric: Metric) -> Metric:
    if metric.name in _CATALOGUE:
        raise ValueError(f"metric {metric.name} is declared twice")
    _CATALOGUE[metric.name] = metric
    return metric


def gauge(name: str, topic: Topic, unit: str, text: str, labels: tuple[str, ...] = ()) -> Metric:
    """Declare a gauge whose values come through a `Table`."""
    return _declare(Metric(name=name, kind=Kind.GAUGE, topic=topic, unit=unit, help=text, labels=labels))


def lasting_gauge(name: str, topic: Topic, unit: str, text: str) -> Gauge:
    """Declare a gauge without labels that keeps its value until it is set again."""
    _declare(Metric(name=name, kind=Kind.GAUGE, topic=topic, unit=unit, help=text))
    return Gauge(name, text, registry=REGISTRY)


def counter(name: str, topic: Topic, unit: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
    """Declare a counter; its name ends in `_total`."""
    _declare(Metric(name=name, kind=Kind.COUNTER, topic=topic, unit=unit, help=text, labels=labels))
    return Counter(name, text, labels, registry=REGISTRY)


def histogram(
    name: str, topic: Topic, unit: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
) -> Histogram:
    """Declare a histogram."""
    _declare(Metric(name=name, kind=Kind.HISTOGRAM, topic=topic, unit=unit, help=text, labels=labels))
    return Histogram(name, text, labels, buckets=buckets, registry=REGISTRY)


class Table(Collector):
    """Shows gauges that feeders replace as a whole: what a feeder no longer names is gone at the next scrape."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fed: dict[str, tuple[Value, ...]] = {}

    def replace(self, feeder: str, values: Iterable[Value]) -> None:
        """Show these values for a feeder, and nothing that it said before."""
        new = tuple(values)
        for value in new:
            if len(value.labels) != len(value.metric.labels):
                raise ValueError(f"{value.metric.name} takes the labels {value.metric.labels}, got {value.labels}")
        with self._lock:
            self._fed[feeder] = new

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield what is shown now, each metric's series together."""
        with self._lock:
            fed = tuple(self._fed.values())
        families: dict[str, GaugeMetricFamily] = {}
        for values in fed:
            for value in values:
                metric = value.metric
                family = families.get(metric.name)
                if family is None:
                    family = families[metric.name] = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
                family.add_metric(value.labels, value.value)
        yield from families.values()

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name nothing ahead: the registry need not ask for it."""
        yield from ()


TABLE = Table()
REGISTRY.register(TABLE)
