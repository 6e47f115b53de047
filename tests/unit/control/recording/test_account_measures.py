# SPDX-License-Identifier: Apache-2.0
"""What a closed interval and a report's saving are as metrics: the same numbers in base units."""

import json
from pathlib import Path

import pytest
from ledgers import T0, ran, report, swinging, write, zone_hour

from embellie.control.recording.account_measures import count_accounts
from embellie.control.recording.savings_desk import savings_of
from embellie.control.recording.witness import PowerClasses, Track
from embellie.domain.reasons import SignalKind
from embellie.ledger import Draft, Kind
from embellie.telemetry.metrics import REGISTRY
from embellie.telemetry.metrics import accounts as told


def shown(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_an_interval_is_counted_in_joules_grams_and_seconds() -> None:
    draft = zone_hour(7, zone="measured-zone", namespace="measured-space")
    count_accounts([draft])
    adds = draft.body["adds"]
    for part, key in (("workloads", "jobs"), ("idle", "idle"), ("overhead", "overhead")):
        assert shown("embellie_energy_joules_total", zone="measured-zone", part=part) == pytest.approx(
            3.6e6 * adds["kwh"][key]
        )
    grams = shown("embellie_emissions_grams_total", zone="measured-zone", signal_kind="AverageLifecycle")
    assert grams == pytest.approx(400 * 6.8 * 1.2)
    assert shown("embellie_namespace_gpu_seconds_total", workload_namespace="measured-space") == 8 * 3600
    row = adds["namespaces"]["measured-space"]
    assert shown("embellie_namespace_energy_joules_total", workload_namespace="measured-space") == pytest.approx(
        3.6e6 * (row["dynamicKwh"] + row["idleKwh"] + row["overheadKwh"])
    )
    assert shown("embellie_embodied_emissions_grams_total", zone="measured-zone") == pytest.approx(adds["embodiedG"])
    # The node has a meter, its GPUs have none: the dynamic part is assumed to be the gang's.
    covered = 1 - adds["kwh"]["estimated"] / (adds["kwh"]["jobs"] + adds["kwh"]["idle"])
    assert 0.1 < covered < 0.9
    assert shown("embellie_energy_covered_ratio", zone="measured-zone") == pytest.approx(covered)


def test_a_zone_without_nodes_is_no_alarm() -> None:
    body = zone_hour(0, zone="empty-zone").body
    adds = {**body["adds"], "kwh": dict.fromkeys(body["adds"]["kwh"], 0.0), "namespaces": {}}
    count_accounts([Draft(kind=Kind.ACCOUNT, at=T0, body={**body, "adds": adds})])
    assert shown("embellie_energy_covered_ratio", zone="empty-zone") == 1.0


def test_a_meter_below_its_parts_never_takes_anything_off_a_counter() -> None:
    draft = zone_hour(7, zone="low-zone")
    body = {**draft.body, "adds": {**draft.body["adds"], "kwh": {**draft.body["adds"]["kwh"], "unexplained": -0.5}}}
    count_accounts([Draft(kind=draft.kind, at=draft.at, body=body)])
    assert shown("embellie_energy_joules_total", zone="low-zone", part="unexplained") == 0.0


def test_a_reports_savings_become_metrics_in_base_units(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    write(path, [*swinging(48), ran(0), ran(1)])
    document = json.loads(report(path, "2026-03-28", "2026-03-30", "--by", "zone", "--format", "json").output)
    whole, west = savings_of(document, "7d")
    saving = document["cluster"]["saving"]
    assert (whole.zone, west.zone, whole.window) == (told.WHOLE, "west", "7d")
    assert whole.signal_kind is SignalKind.AVERAGE_LIFECYCLE
    assert whole.saved_grams == tuple(1000 * saving["savedKg"][key] for key in ("low", "value", "high"))
    assert whole.naive_grams == 1000 * saving["naiveKg"] > 1000
    assert whole.shifted_joules == pytest.approx(3.6e6 * saving["shiftedKwh"]["value"])
    assert whole.peak_change_watts is None
    document["cluster"]["saving"]["gpuHoursLost"] = 2.0
    assert savings_of(document, "7d")[0].lost_gpu_seconds == 7200
    assert west.peak_change_watts == pytest.approx(1000 * saving["peakChangeKw"]["west"]["value"])
    document["cluster"]["saving"] = None
    assert savings_of(document, "7d") == []


def test_what_a_namespace_draws_is_learnt_from_its_last_work() -> None:
    classes = PowerClasses()
    track = Track(
        uid="u", namespace="ml", name="train", kind="Job", flex="", submitted=T0, latest_start=None,
        stated_watts="",
    )  # fmt: skip
    assert classes.watts(track, 700.0) == 700.0
    classes.learn("ml", 300.0, 1000.0)
    assert classes.watts(track, 700.0) == pytest.approx(300.0)
    classes.learn("ml", 600.0, 200.0)
    # A thousand old GPU-hours count as two hundred.
    assert classes.watts(track, 700.0) == pytest.approx(450.0)
    classes.learn("ml", 9000.0, 500.0)
    assert classes.watts(track, 700.0) == pytest.approx(450.0), "no GPU draws so much"
