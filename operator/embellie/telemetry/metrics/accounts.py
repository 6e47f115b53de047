# SPDX-License-Identifier: Apache-2.0
"""Metrics of energy, emissions, savings and the ledger, and how those who keep the accounts tell them.

Energy and emissions are counted once for each closed interval. What later data changes is shown beside the counters,
never taken off them. Savings come for whole windows, because the lower bounds of days do not add up to the lower bound
of a month.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from embellie.domain.reasons import SignalKind
from embellie.telemetry.metrics.bounded import Bounded
from embellie.telemetry.metrics.metric import TABLE, Topic, Value, counter, gauge

_ACCOUNTS = Topic.ACCOUNTS
PARTS = ("workloads", "idle", "overhead", "unexplained")

ENERGY = counter(
    "embellie_energy_joules_total",
    _ACCOUNTS,
    "joules",
    "Energy drawn, per GridZone and part: workloads, idle (nodes that are free), overhead (cooling and losses), "
    "unexplained (the meter's rest).",
    ("zone", "part"),
)
EMISSIONS = counter(
    "embellie_emissions_grams_total",
    _ACCOUNTS,
    "grams",
    "Operational emissions [gCO2e], location-based, energy of metered plants on the site counted, per GridZone and "
    "kind of signal. Never add two kinds.",
    ("zone", "signal_kind"),
)
EMBODIED = counter(
    "embellie_embodied_emissions_grams_total",
    _ACCOUNTS,
    "grams",
    "Embodied emissions of the hardware [gCO2e], by GPU time, per GridZone.",
    ("zone",),
)
COVERED = gauge(
    "embellie_energy_covered_ratio",
    _ACCOUNTS,
    "ratio",
    "Share of the last closed interval's energy that a meter or an exporter measured, per GridZone; the rest is "
    "estimated.",
    ("zone",),
)
NAMESPACE_ENERGY = counter(
    "embellie_namespace_energy_joules_total",
    _ACCOUNTS,
    "joules",
    "Energy of a namespace's workloads, its share of idle and overhead included; namespaces past the first 500 are "
    "counted as _other_.",
    ("workload_namespace",),
)
NAMESPACE_EMISSIONS = counter(
    "embellie_namespace_emissions_grams_total",
    _ACCOUNTS,
    "grams",
    "Operational emissions of a namespace's workloads [gCO2e], by kind of signal; bounded like the energy.",
    ("workload_namespace", "signal_kind"),
)
NAMESPACE_GPU_SECONDS = counter(
    "embellie_namespace_gpu_seconds_total",
    _ACCOUNTS,
    "seconds",
    "GPU time that a namespace's workloads held [GPU seconds]; bounded like the energy.",
    ("workload_namespace",),
)
REVISIONS = gauge(
    "embellie_emissions_revision_grams",
    _ACCOUNTS,
    "grams",
    "What late grid data has changed so far in the emissions of the last 72 hours against their first count [gCO2e], "
    "per GridZone and kind of signal; it is read back from the ledger when a leader begins.",
    ("zone", "signal_kind"),
)
SAVED = gauge(
    "embellie_saved_emissions_grams",
    _ACCOUNTS,
    "grams",
    "Emissions saved against the replayed counterfactual [gCO2e], per GridZone, kind of signal, window (1d, 7d, 30d) "
    "and estimate (low, expected, high: a 90 % interval). Negative when more was emitted.",
    ("zone", "signal_kind", "window", "estimate"),
)
SAVED_NAIVE = gauge(
    "embellie_saved_emissions_naive_grams",
    _ACCOUNTS,
    "grams",
    "The sum over jobs of what each would have emitted more, had it started when it came [gCO2e]: it ignores that a "
    "delayed job lets another run. To compare, not to claim.",
    ("zone", "signal_kind", "window"),
)
COUNTERFACTUAL_LOST = gauge(
    "embellie_saving_lost_gpu_seconds",
    _ACCOUNTS,
    "seconds",
    "GPU time that the counterfactual would have used and that was not used, per GridZone and window [GPU seconds].",
    ("zone", "window"),
)
SHIFTED = gauge(
    "embellie_saving_shifted_joules",
    _ACCOUNTS,
    "joules",
    "Energy drawn at another time than in the counterfactual, per GridZone and window.",
    ("zone", "window"),
)
PEAK_CHANGE = gauge(
    "embellie_saving_peak_change_watts",
    _ACCOUNTS,
    "watts",
    "Highest power less that of the counterfactual, per GridZone and window; negative is a lower peak.",
    ("zone", "window"),
)
LEDGER_RECORDING = gauge(
    "embellie_ledger_recording", _ACCOUNTS, "0 or 1", "1 while the ledger takes records; 0 while it cannot be written."
)
LEDGER_RECORDS = gauge(
    "embellie_ledger_records", _ACCOUNTS, "records", "Records in the ledger, compacted ones not counted."
)
LEDGER_FAILURES = gauge(
    "embellie_ledger_unwritten_records", _ACCOUNTS, "records", "Records that this leader could not write and lost."
)
LEDGER_LAST = gauge(
    "embellie_ledger_last_record_timestamp_seconds",
    _ACCOUNTS,
    "seconds",
    "When the newest record was written [Unix time].",
)
LEDGER_SIZE = gauge("embellie_ledger_size_bytes", _ACCOUNTS, "bytes", "Size of the ledger's file.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneInterval:
    """One GridZone's account of one closed interval."""

    zone: str
    joules: Mapping[str, float]
    """By part: workloads, idle, overhead, unexplained."""
    grams: Mapping[SignalKind, float]
    embodied_grams: float
    covered_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceInterval:
    """One namespace's share of one closed interval."""

    namespace: str
    joules: float
    grams: Mapping[SignalKind, float]
    gpu_seconds: float


WHOLE = "_all_"
"""Stands for the whole cluster where a zone is named: bounds of zones do not add up to a bound of the cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """One GridZone's saving over a window, or the cluster's (`WHOLE`), with its 90 % interval."""

    zone: str
    signal_kind: SignalKind
    window: str
    """1d, 7d or 30d."""
    saved_grams: tuple[float, float, float]
    """Low, expected, high."""
    naive_grams: float
    lost_gpu_seconds: float
    shifted_joules: float
    peak_change_watts: float | None
    """None for the cluster: its zones' peaks are drawn from different meters, and do not add up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerHealth:
    """How the ledger is."""

    recording: bool
    records: int
    failures: int
    last_record_at: datetime | None
    size_bytes: int


_namespaces = Bounded(limit=500)


def count_interval(zones: Iterable[ZoneInterval], namespaces: Iterable[NamespaceInterval]) -> None:
    """Count one closed interval; each interval once, whatever restarts.

    Raises ValueError for what is negative or not a number, before anything is counted.
    """
    zones, namespaces = tuple(zones), tuple(namespaces)
    for zone in zones:
        _all_counts(f"zone {zone.zone}", *zone.joules.values(), *zone.grams.values(), zone.embodied_grams)
    for entry in namespaces:
        _all_counts(f"namespace {entry.namespace}", entry.joules, *entry.grams.values(), entry.gpu_seconds)
    covered = []
    for zone in zones:
        for part, joules in zone.joules.items():
            ENERGY.labels(zone.zone, part).inc(joules)
        for kind, grams in zone.grams.items():
            EMISSIONS.labels(zone.zone, kind).inc(grams)
        EMBODIED.labels(zone.zone).inc(zone.embodied_grams)
        covered.append(Value(COVERED, zone.covered_ratio, (zone.zone,)))
    for entry in namespaces:
        name = _namespaces.label(entry.namespace)
        NAMESPACE_ENERGY.labels(name).inc(entry.joules)
        NAMESPACE_GPU_SECONDS.labels(name).inc(entry.gpu_seconds)
        for kind, grams in entry.grams.items():
            NAMESPACE_EMISSIONS.labels(name, kind).inc(grams)
    TABLE.replace("interval", covered)


def expect_zones(zones: Iterable[str]) -> None:
    """Begin the counters of zones at 0, so that `increase` also sees their first interval."""
    for zone in zones:
        for part in PARTS:
            ENERGY.labels(zone, part)
        EMBODIED.labels(zone)


def _all_counts(whose: str, *amounts: float) -> None:
    if not all(math.isfinite(amount) and amount >= 0.0 for amount in amounts):
        raise ValueError(f"{whose}: energy, emissions and time must be finite and at least 0, got {amounts}")


def show_revisions(grams: Mapping[tuple[str, SignalKind], float]) -> None:
    """Show what late data changed, by zone and kind of signal [g]."""
    TABLE.replace("revisions", [Value(REVISIONS, g, (zone, kind)) for (zone, kind), g in grams.items()])


def show_savings(savings: Iterable[Saving]) -> None:
    """Show the savings of all windows."""
    values = []
    for s in savings:
        for estimate, grams in zip(("low", "expected", "high"), s.saved_grams, strict=True):
            values.append(Value(SAVED, grams, (s.zone, s.signal_kind, s.window, estimate)))
        values.append(Value(SAVED_NAIVE, s.naive_grams, (s.zone, s.signal_kind, s.window)))
        values.append(Value(COUNTERFACTUAL_LOST, s.lost_gpu_seconds, (s.zone, s.window)))
        values.append(Value(SHIFTED, s.shifted_joules, (s.zone, s.window)))
        if s.peak_change_watts is not None:
            values.append(Value(PEAK_CHANGE, s.peak_change_watts, (s.zone, s.window)))
    # Power, time and energy do not depend on the kind of signal: said once for each zone and window.
    TABLE.replace("savings", {(v.metric, v.labels): v for v in values}.values())


def show_ledger(health: LedgerHealth) -> None:
    """Show how the ledger is."""
    values = [
        Value(LEDGER_RECORDING, float(health.recording)),
        Value(LEDGER_RECORDS, health.records),
        Value(LEDGER_FAILURES, health.failures),
        Value(LEDGER_SIZE, health.size_bytes),
    ]
    if health.last_record_at is not None:
        values.append(Value(LEDGER_LAST, health.last_record_at.timestamp()))
    TABLE.replace("ledger", values)
