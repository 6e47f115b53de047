# SPDX-License-Identifier: Apache-2.0
"""What exporters call things: one table (vocabulary.csv) turns every dialect into the same measurements.

A row gives a metric's name, the factor to the kept unit, and which label values it is about. Of several rows for one
quantity the first that a node speaks counts, so that a GPU that two exporters see is counted once. Labels differ too:
the node is `hostname`, `Hostname`, `node`, `node_name` or the host of `instance`; the pod is `pod`, or `exported_pod`
where Prometheus kept its own. GPUs without a pod are idle, and theirs all the same.
"""

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

_NODE_LABELS = ("node", "hostname", "Hostname", "node_name", "nodename", "kubernetes_node", "instance")
_DEVICE_LABELS = ("UUID", "uuid", "gpu_uuid", "gpu", "device")
OF_THE_SCRAPE = (
    "job", "instance", "endpoint", "service", "namespace", "pod", "container", "prometheus", "prometheus_replica"
)  # fmt: skip
"""Labels that Prometheus gives a series: an exporter that is scraped twice tells of one thing twice."""
_HELPERS = ("node_hwmon_sensor_label",)
"""Metrics that carry no reading but name one."""
PERCENT_ABOVE = 1.5
"""A ratio beyond this was a percentage under a ratio's name (seen between two DCGM releases)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One row of the table."""

    quantity: str
    unit: str
    exporter: str
    metric: str
    factor: float
    select: tuple[tuple[str, re.Pattern[str]], ...]

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Tell whether the row is about a series with these labels."""
        return all(pattern.fullmatch(labels.get(name, "")) for name, pattern in self.select)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series as it was read, with its age."""

    metric: str
    labels: Mapping[str, str]
    value: float
    age_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One thing that was measured, in the kept unit of its quantity."""

    quantity: str
    unit: str
    value: float
    node: str
    device: str = ""
    """Which GPU (its UUID), fan or sensor; empty where the node has one of the kind."""
    namespace: str = ""
    pod: str = ""
    age_s: float = 0.0


@cache
def vocabulary() -> tuple[Word, ...]:
    """Return the table."""
    text = (resources.files("embellie.telemetry") / "vocabulary.csv").read_text(encoding="utf-8")
    return tuple(
        Word(
            quantity=row["quantity"],
            unit=row["unit"],
            exporter=row["exporter"],
            metric=row["metric"],
            factor=float(row["factor"]),
            select=tuple(
                (name, re.compile(pattern))
                for name, _, pattern in (part.partition("~") for part in row["select"].split(";") if part)
            ),
        )
        for row in csv.DictReader(text.splitlines())
    )


def words_for(quantity: str) -> list[Word]:
    """Return what exporters call a quantity, the best word first."""
    return [word for word in vocabulary() if word.quantity == quantity]


def selector(*quantities: str) -> str:
    """Return the PromQL that reads some quantities in every dialect; the answer is for `measurements`.

    >>> selector("gpu_temp_margin")
    '{__name__=~"DCGM_FI_DEV_GPU_TEMP_LIMIT|DCGM_FI_DEV_GPU_TEMP_MARGIN_CELSIUS"}'
    """
    names = {word.metric for word in vocabulary() if word.quantity in quantities}
    if any(word.exporter == "node_exporter" for word in vocabulary() if word.quantity in quantities):
        names.update(_HELPERS)
    return '{__name__=~"' + "|".join(sorted(names)) + '"}'


def measurements(series: Sequence[Series]) -> tuple[Measurement, ...]:
    """Return what series say, once for each node, device and quantity, in the order of the table.

    Sockets, chassis and power supplies that one exporter tells of one by one add up to their node's power.
    """
    named = tuple(_with_sensor_labels(series))
    by_metric: dict[str, list[Series]] = {}
    for one in named:
        by_metric.setdefault(one.metric, []).append(one)
    # One value beyond a ratio tells that all of the metric are percentages: 1 may then be a hundredth.
    percents = {name for name, several in by_metric.items() if max(s.value for s in several) > PERCENT_ABOVE}
    # Where Prometheus kept its own labels, `pod` is the exporter's: an idle GPU must not be taken for its exporter's.
    scraped = any("exported_pod" in one.labels for one in named)
    taken: dict[tuple[str, str], tuple[str, str]] = {}
    found: dict[tuple[str, str, str], Measurement] = {}
    parts: set[tuple[str, frozenset[tuple[str, str]]]] = set()
    for word in vocabulary():
        for one in by_metric.get(word.metric, ()):
            if not word.fits(one.labels) or not math.isfinite(one.value):
                continue
            node = node_of(one.labels)
            speaker = (word.exporter, word.metric if not word.quantity.startswith("gpu_") else "")
            if taken.setdefault((word.quantity, node), speaker) != speaker:
                continue
            measured = _measurement(word, one, node, percent=word.metric in percents, scraped=scraped)
            key = (word.quantity, node, measured.device)
            before = found.setdefault(key, measured)
            if word.quantity == "node_power" and (part := (node, own_labels(one.labels))) not in parts:
                parts.add(part)
                if before is not measured:
                    found[key] = replace(
                        measured, value=before.value + measured.value, age_s=max(before.age_s, measured.age_s)
                    )
    return tuple(found.values())


def own_labels(labels: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """Return the labels that an exporter gave a series, without those of the scrape."""
    return frozenset((name, str(value)) for name, value in labels.items() if name not in OF_THE_SCRAPE)


def _measurement(word: Word, one: Series, node: str, *, percent: bool, scraped: bool) -> Measurement:
    value = one.value * word.factor
    if word.unit == "ratio" and word.factor == 1.0 and percent:
        value /= 100.0
    labels = one.labels
    return Measurement(
        quantity=word.quantity,
        unit=word.unit,
        value=value,
        node=node,
        device=_device(word, labels),
        namespace=_first(labels, ("exported_namespace",) if scraped else ("namespace", "pod_namespace")),
        pod=_first(labels, ("exported_pod",) if scraped else ("pod", "pod_name")),
        age_s=one.age_s,
    )


def node_of(labels: Mapping[str, str]) -> str:
    """Return the node's name; the port and the brackets of an address fall off."""
    for name in _NODE_LABELS:
        value = labels.get(name, "")
        if value:
            return value.rsplit(":", 1)[0].strip("[]") if name == "instance" else value
    return ""


def _first(labels: Mapping[str, str], names: Sequence[str]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")


def _device(word: Word, labels: Mapping[str, str]) -> str:
    if word.quantity.startswith("gpu_"):
        device = next((labels[name] for name in _DEVICE_LABELS if labels.get(name)), "")
        instance = labels.get("GPU_I_ID", "")
        return f"{device}/{instance}" if instance else device
    if word.quantity == "fan_speed":
        return labels.get("name") or labels.get("sensor") or labels.get("id", "")
    return labels.get("rPDU2PhaseStatusIndex") or labels.get("path", "")


def _with_sensor_labels(series: Sequence[Series]) -> Iterable[Series]:
    """Give hwmon readings the label that node_exporter keeps in a series of its own."""
    names = {
        (node_of(s.labels), s.labels.get("chip", ""), s.labels.get("sensor", "")): s.labels.get("label", "")
        for s in series
        if s.metric in _HELPERS
    }
    for one in series:
        if one.metric in _HELPERS:
            continue
        key = (node_of(one.labels), one.labels.get("chip", ""), one.labels.get("sensor", ""))
        label = names.get(key) if one.metric.startswith("node_hwmon_") else None
        if label is None:
            yield one
        else:
            yield Series(metric=one.metric, labels={**one.labels, "label": label}, value=one.value, age_s=one.age_s)
