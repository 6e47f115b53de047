# SPDX-License-Identifier: Apache-2.0
"""The metrics' names, units and help follow the conventions; the page stays small; accounts are told once."""

import re
from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest
from proof import page

from embellie.domain.reasons import SignalKind
from embellie.telemetry.metrics import REGISTRY, TABLE, Kind, Metric, Topic, Value, accounts, catalogue, grid, work
from embellie.telemetry.metrics.bounded import OTHER, Bounded, largest

COUNTED = (
    "GPUs",
    "workloads",
    "level",
    "conflicts",
    "objects",
    "turns",
    "decisions",
    "releases",
    "records",
    "0 or 1",
    "",
)


@pytest.fixture(autouse=True)
def _clean_table() -> Iterator[None]:
    before = dict(TABLE._fed)
    yield
    TABLE._fed = before


@pytest.mark.parametrize("metric", catalogue().values(), ids=lambda m: m.name)
def test_a_metric_is_named_after_its_unit_and_says_what_it_is(metric: Metric):
    name = metric.name
    assert re.fullmatch(r"embellie_[a-z0-9_]+", name)
    assert (metric.kind is Kind.COUNTER) == name.endswith("_total")
    stem = name.removesuffix("_total")
    if metric.unit in COUNTED or not metric.unit:
        assert not re.search(r"_(seconds|joules|grams|watts|celsius|ratio|bytes)$", stem)
    else:
        assert stem.endswith("_" + metric.unit.replace(" ", "_"))
    assert metric.help.endswith((".", "]"))
    assert "\n" not in metric.help
    # Scrapers put labels of their own; ours must not be among them.
    assert not set(metric.labels) & {
        "namespace",
        "pod",
        "instance",
        "job",
        "container",
        "service",
        "endpoint",
        "quantile",
    }


def test_only_what_was_asked_for_has_a_label_for_each_workload():
    assert {m.name for m in catalogue().values() if "workload" in m.labels} == {work.WORKLOAD_BOUND.name}


def test_a_value_with_the_wrong_labels_is_refused():
    with pytest.raises(ValueError, match="takes the labels"):
        TABLE.replace("test", [Value(work.FREE_GPUS, 1.0, ("west", "more"))])


def test_strange_names_cannot_break_the_page():
    strange = 'quo"te\nnew\\line'
    TABLE.replace("test", [Value(grid.FEED_UP, 1.0, (strange, "é")), Value(grid.FEED_UP, 0.0, ("west", ""))])
    page = generate_latest(REGISTRY).decode()
    assert 'embellie_feed_up{feed="é",zone="quo\\"te\\nnew\\\\line"} 1.0' in page
    assert all(line.startswith(("#", "embellie_", "process_")) for line in page.splitlines())


@pytest.mark.parametrize("per_workload", [False, True])
def test_the_page_is_small_with_5000_workloads(per_workload: bool):
    TABLE.replace("test", [*page.crowded(), *(page.thousands_of_workloads() if per_workload else [])])
    text = generate_latest(REGISTRY)
    assert text.count(b"embellie_workload_latest_start_timestamp_seconds{") == 5000 * per_workload
    assert len(text) < page.MOST_BYTES


def test_the_first_namespaces_keep_their_label_and_later_ones_share_one():
    bounded = Bounded(limit=2)
    assert [bounded.label(name) for name in ("a", "b", "c", "a", "d")] == ["a", "b", OTHER, "a", OTHER]
    assert largest({"a": 1.0, "b": 5.0, "c": 2.0}, 2) == {"b": 5.0, "c": 2.0, OTHER: 1.0}
    assert largest({}, 2) == {}


def interval(joules: float) -> accounts.ZoneInterval:
    return accounts.ZoneInterval(
        zone="accounted",
        joules={"workloads": joules, "idle": 1.0},
        grams={SignalKind.AVERAGE_LIFECYCLE: 5.0, SignalKind.AVERAGE_DIRECT: 3.0},
        embodied_grams=2.0,
        covered_ratio=0.9,
    )


def shown(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_intervals_add_up_and_kinds_of_signal_stay_apart():
    before = shown("embellie_energy_joules_total", zone="accounted", part="workloads") or 0.0
    share = accounts.NamespaceInterval(
        namespace="team", joules=4.0, grams={SignalKind.AVERAGE_LIFECYCLE: 1.0}, gpu_seconds=60.0
    )
    for _ in range(2):
        accounts.count_interval([interval(10.0)], [share])
    assert shown("embellie_energy_joules_total", zone="accounted", part="workloads") == before + 20
    direct = shown("embellie_emissions_grams_total", zone="accounted", signal_kind="AverageDirect")
    lifecycle = shown("embellie_emissions_grams_total", zone="accounted", signal_kind="AverageLifecycle")
    assert (direct, lifecycle) == (6.0, 10.0)
    assert shown("embellie_energy_covered_ratio", zone="accounted") == 0.9
    assert shown("embellie_namespace_gpu_seconds_total", workload_namespace="team") == 120


@pytest.mark.parametrize("joules", [-1.0, float("nan"), float("inf")])
def test_an_impossible_interval_is_refused_before_anything_is_counted(joules: float):
    before = shown("embellie_energy_joules_total", zone="accounted", part="idle") or 0.0
    with pytest.raises(ValueError, match="zone accounted"):
        accounts.count_interval([interval(5.0), interval(joules)], [])
    assert (shown("embellie_energy_joules_total", zone="accounted", part="idle") or 0.0) == before


def test_savings_are_told_with_their_interval_and_negative_ones_too():
    saving = accounts.Saving(
        zone="_all_",
        signal_kind=SignalKind.AVERAGE_LIFECYCLE,
        window="7d",
        saved_grams=(-50.0, -10.0, 30.0),
        naive_grams=90.0,
        lost_gpu_seconds=3600.0,
        shifted_joules=7.2e6,
        peak_change_watts=-5000.0,
    )
    accounts.show_savings([saving])
    labels = {"zone": "_all_", "signal_kind": "AverageLifecycle", "window": "7d"}
    found = [shown("embellie_saved_emissions_grams", **labels, estimate=e) for e in ("low", "expected", "high")]
    assert found == [-50, -10, 30]
    assert shown("embellie_saving_peak_change_watts", zone="_all_", window="7d") == -5000
    accounts.show_savings([])
    assert shown("embellie_saved_emissions_grams", **labels, estimate="low") is None


def test_the_ledgers_health_is_told():
    health = accounts.LedgerHealth(recording=False, records=12, failures=3, last_record_at=None, size_bytes=4096)
    accounts.show_ledger(health)
    assert shown("embellie_ledger_recording") == 0
    assert shown("embellie_ledger_unwritten_records") == 3
    assert shown("embellie_ledger_last_record_timestamp_seconds") is None
    accounts.show_revisions({("west", SignalKind.AVERAGE_LIFECYCLE): -7.0})
    assert shown("embellie_emissions_revision_grams", zone="west", signal_kind="AverageLifecycle") == -7


def test_every_topic_has_metrics():
    assert {m.topic for m in catalogue().values()} == set(Topic)
