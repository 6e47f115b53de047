# SPDX-License-Identifier: Apache-2.0
"""The CRD types as the operator uses them: reading objects, writing statuses, setting conditions."""

import json
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum

import pytest
from pydantic import ValidationError

from embellie.api import EnergyPolicy, GridZone, ThermalZone, WorkloadPlan
from embellie.api.conditions import ConditionStatus, find_condition, set_condition
from embellie.api.energypolicy import PolicyMode
from embellie.api.gridstatus import CarbonSignalKind, ForecastRung, GridZoneStatus
from embellie.api.meta import GROUP, MESSAGE_LENGTH, VERSION, format_time
from embellie.api.schema import structural
from embellie.api.workloadplan import PlannedKind, PlanReason, PlanState, Wait, WorkloadPlanStatus
from embellie.domain import names
from embellie.domain.reasons import Reason, Rung, SignalKind, State
from embellie.domain.snapshot import WorkloadKind

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("in_the_api", "in_the_domain"),
    [
        (PlanState, State),
        (PlanReason, Reason),
        (ForecastRung, Rung),
        (CarbonSignalKind, SignalKind),
        (PlannedKind, WorkloadKind),
    ],
)
def test_the_words_of_the_api_are_those_of_the_domain(in_the_api: type[StrEnum], in_the_domain: type[StrEnum]) -> None:
    assert [word.value for word in in_the_api] == [word.value for word in in_the_domain]


def test_group_and_version_are_those_of_the_domain() -> None:
    assert f"{GROUP}/{VERSION}" == names.API_VERSION


def test_an_object_is_read_with_its_defaults_and_without_what_it_does_not_know() -> None:
    zone = ThermalZone.parse(
        {
            "apiVersion": "embellie.io/v1alpha1",
            "kind": "ThermalZone",
            "metadata": {
                "name": "row",
                "generation": 3,
                "creationTimestamp": "2026-03-01T12:00:00Z",
                "managedFields": [{"manager": "kubectl"}],
            },
            "spec": {"nodeSelector": {"row": "a"}, "fromTheFuture": 1},
        }
    )
    assert zone.metadata.generation == 3
    assert zone.metadata.creation_timestamp == NOON
    assert zone.spec.limits.margin_kelvin == 3
    assert zone.spec.cooling.capacity_kilowatts is None
    assert zone.spec.sensors == ()
    assert zone.status.conditions == ()


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"nodeSelector": {}},
        {"nodeSelector": {"a": "b" * 64}},
        {"nodeSelector": {"a": "b"}, "contractedPowerKilowatts": 0},
        {"nodeSelector": {"a": "b"}, "jurisdiction": "france"},
        {"nodeSelector": {"a": "b"}, "powerSensor": {"query": "x", "unit": "Horse"}},
    ],
)
def test_a_spec_outside_the_schema_is_refused_by_the_types_too(spec: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GridZone.parse({"metadata": {"name": "zone"}, "spec": spec})


def test_a_status_of_another_version_counts_as_absent_and_never_drops_the_object() -> None:
    zone = GridZone.parse(
        {
            "metadata": {"name": "zone"},
            "spec": {"nodeSelector": {"a": "b"}},
            "status": {"nodes": "many", "forecast": {"rung": "Ladder"}},
        }
    )
    assert zone.spec.node_selector == {"a": "b"}
    assert zone.status.nodes is None


def test_a_status_is_written_in_plain_json_without_what_is_unknown() -> None:
    status = WorkloadPlanStatus(
        state=PlanState.HELD,
        planned_start_time=datetime(2026, 3, 1, 14, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=2))),
        waits_on=(Wait(kind="Quota", message="no quota"),),
    )
    written = status.to_json_object()
    assert written == {
        "conditions": [],
        "state": "Held",
        "plannedStartTime": "2026-03-01T12:00:00Z",
        "waitsOn": [{"kind": "Quota", "message": "no quota"}],
        "history": [],
    }
    assert WorkloadPlanStatus.model_validate(json.loads(json.dumps(written))) == status


def test_times_are_cut_to_whole_seconds_and_never_rounded_past_a_promise() -> None:
    written = format_time(NOON + timedelta(microseconds=999_999))
    assert written == "2026-03-01T12:00:00Z"
    plan = {"workloadRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}, "mode": "shadow"}
    parsed = WorkloadPlan.parse({"metadata": {"name": "p"}, "spec": {**plan, "latestStartTime": written}})
    assert parsed.spec.latest_start_time == NOON
    with pytest.raises(ValidationError):
        WorkloadPlan.parse({"metadata": {"name": "p"}, "spec": {**plan, "latestStartTime": "2026-03-01T12:00:00"}})


def test_a_message_that_is_too_long_is_cut_instead_of_refused() -> None:
    message = WorkloadPlanStatus(message="é" * 9000).message
    assert message is not None
    assert len(message) == MESSAGE_LENGTH
    assert message.endswith("…")


@pytest.mark.parametrize(
    ("value", "written"),
    [(7.6, 8), (-5, 0), (10**9, 1_000_000), (float("nan"), None), (float("inf"), None), (None, None)],
)
def test_a_number_of_a_status_is_clipped_instead_of_refused(value: float | None, written: int | None) -> None:
    status = GridZoneStatus.model_validate({"nodes": value, "carbonIntensityGramsPerKilowattHour": value})
    assert status.nodes == written
    assert status.carbon_intensity_grams_per_kilowatt_hour == (None if written is None else min(written, 5000))


def test_an_empty_name_in_a_status_means_none() -> None:
    status = WorkloadPlanStatus(grid_zone_name="", cell_name="")
    assert (status.grid_zone_name, status.cell_name) == (None, None)


def test_a_policy_only_watches_unless_told_otherwise() -> None:
    policy = EnergyPolicy.parse({"metadata": {"name": "p"}, "spec": {}})
    assert policy.spec.mode is PolicyMode.SHADOW
    assert policy.spec.namespace_selector.match_names == ()
    assert policy.spec.workload_selector.match_labels == {}


def test_types_do_not_change_once_made() -> None:
    policy = EnergyPolicy.parse({"metadata": {"name": "p"}, "spec": {}})
    with pytest.raises(ValidationError):
        policy.spec.priority = 5  # type: ignore[misc]


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    later, latest = NOON + timedelta(hours=1), NOON + timedelta(hours=2)
    first = set_condition(
        (), type_="Ready", status=ConditionStatus.UNKNOWN, reason="New", message="", now=NOON, observed_generation=1
    )
    other = set_condition(
        first, type_="NodesExclusive", status=ConditionStatus.TRUE, reason="Fresh", message="", now=NOON
    )
    same = set_condition(
        other,
        type_="Ready",
        status=ConditionStatus.UNKNOWN,
        reason="Still",
        message="m",
        now=later,
        observed_generation=2,
    )
    ready = find_condition(same, "Ready")
    assert ready is not None
    assert (ready.last_transition_time, ready.reason, ready.observed_generation) == (NOON, "Still", 2)
    changed = set_condition(same, type_="Ready", status=ConditionStatus.TRUE, reason="Ok", message="", now=latest)
    ready = find_condition(changed, "Ready")
    assert ready is not None
    assert ready.last_transition_time == latest
    assert [condition.type for condition in changed] == ["Ready", "NodesExclusive"]
    assert find_condition(changed, "Sunny") is None


def test_a_union_has_no_structural_schema_and_is_refused() -> None:
    with pytest.raises(ValueError, match="a union has no structural schema"):
        structural({"anyOf": [{"type": "string"}, {"type": "integer"}]}, {})
