# SPDX-License-Identifier: Apache-2.0
"""The CustomResourceDefinitions on a real API server: what it takes, what it refuses, and in which words."""

import copy
import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from crd_objects import ACCEPTED, REFUSED, REMOVED, TRANSITIONS, VALID, Json

from embellie.api import KINDS, EnergyPolicy, GridZone, ThermalZone, WorkloadPlan
from embellie.api.conditions import ConditionStatus, set_condition
from embellie.api.generate import FOLDERS, REPOSITORY, file_name
from embellie.api.gridstatus import ForecastStatus, GridZoneStatus
from embellie.api.meta import Resource, Scope
from embellie.api.thermalzone import ThermalZoneStatus
from embellie.api.workloadplan import PlanReason, PlanState, Revision, Wait, WorkloadPlanSpec, WorkloadPlanStatus
from embellie_testbed.rest import ApiError, Rest

pytestmark = pytest.mark.control_plane

SAMPLES = REPOSITORY / "manifests" / "samples"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def rest(control_plane: Any) -> Iterator[Rest]:
    for folder_file in (REPOSITORY / FOLDERS[0] / file_name(kind) for kind in KINDS):
        control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", folder_file)
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", *[_crd_path(k) for k in KINDS])
    connection = control_plane.rest()
    yield connection
    connection.close()


def _crd_path(kind: type[Resource]) -> str:
    return f"crd/{kind.definition.crd_name}"


def _collection(kind: type[Resource], namespace: str = "default") -> str:
    inside = f"namespaces/{namespace}/" if kind.definition.scope is Scope.NAMESPACED else ""
    return f"/apis/embellie.io/v1alpha1/{inside}{kind.definition.plural}"


def _object(kind: type[Resource], spec: Json, name: str = "sample") -> Json:
    return {
        "apiVersion": "embellie.io/v1alpha1",
        "kind": kind.definition.kind,
        "metadata": {"name": name},
        "spec": copy.deepcopy(spec),
    }


def _changed(body: Json, path: str, value: object) -> Json:
    """Set `path` below the spec (or below the object, with a leading slash) to a value."""
    keys: list[Any] = path.strip("/").split("/") if path.startswith("/") else ["spec", *filter(None, path.split("."))]
    target: Any = body
    for key in keys[:-1]:
        target = target[int(key)] if key.isdigit() else target.setdefault(key, {})
    if value is REMOVED:
        del target[keys[-1]]
    else:
        target[keys[-1]] = value
    return body


def _dry_run(rest: Rest, kind: type[Resource], body: Json) -> Json:
    return rest.request("POST", f"{_collection(kind)}?dryRun=All&fieldValidation=Strict", body)


def _answer(error: ApiError) -> str:
    """Return the message as kubectl would print it."""
    content = str(error).partition(": ")[2]
    try:
        message: str = json.loads(content)["message"]
    except ValueError:
        return content
    return message


@pytest.fixture
def stored_plan(rest: Rest, namespace: str) -> tuple[str, Json]:
    body = _object(WorkloadPlan, VALID["workloadplan"][1])
    return f"{_collection(WorkloadPlan, namespace)}/sample", rest.request(
        "POST", _collection(WorkloadPlan, namespace), body
    )


@pytest.mark.parametrize("name", VALID)
def test_a_full_object_is_taken(rest: Rest, name: str) -> None:
    kind, spec = VALID[name]
    stored = _dry_run(rest, kind, _object(kind, spec))
    assert kind.parse(stored) != kind.parse(_object(kind, spec)), "the server fills in uid and creation"
    assert _spec(kind, stored) == _spec(kind, _object(kind, spec))
    assert _contains(stored["spec"], spec)


def _spec(kind: type[Resource], raw: Json) -> Any:
    return kind.parse(raw).to_json_object()["spec"]


def _contains(whole: Any, part: Any) -> bool:
    """Tell whether every value of `part` is found at its place in `whole`."""
    if isinstance(part, dict):
        return all(key in whole and _contains(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(_contains, whole, part))
    return bool(whole == part)


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_at_the_edge_of_a_rule_is_taken(rest: Rest, name: str) -> None:
    kind, spec = VALID[ACCEPTED[name][0]][0], ACCEPTED[name][1]
    assert _dry_run(rest, kind, _object(kind, spec))["spec"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_refused_in_words_that_help(rest: Rest, name: str) -> None:
    case = REFUSED[name]
    kind, spec = VALID[case.kind]
    body = _object(kind, spec)
    body = {**body, "spec": case.value} if not case.path else _changed(body, case.path, case.value)
    with pytest.raises(ApiError) as refusal:
        _dry_run(rest, kind, body)
    assert refusal.value.status in {400, 422}
    assert case.answer in _answer(refusal.value)


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_promise_once_made_cannot_be_taken_back(rest: Rest, stored_plan: tuple[str, Json], name: str) -> None:
    path, stored = stored_plan
    case = TRANSITIONS[name]
    with pytest.raises(ApiError) as refusal:
        rest.request("PUT", path, _changed(copy.deepcopy(stored), case.path, case.value))
    assert refusal.value.status == 422
    assert case.answer in _answer(refusal.value)
    with pytest.raises(ApiError):
        rest.request("PUT", path, _changed(copy.deepcopy(stored), case.path.partition(".")[0], REMOVED))
    assert rest.get(path)["spec"] == stored["spec"]


def test_the_latest_start_may_stay_or_move_earlier(rest: Rest, stored_plan: tuple[str, Json]) -> None:
    path, stored = stored_plan
    same = rest.request("PUT", path, stored)
    earlier = rest.request("PUT", path, _changed(same, "latestStartTime", "2026-03-02T11:59:59Z"))
    assert WorkloadPlan.parse(earlier).spec.latest_start_time == datetime(2026, 3, 2, 11, 59, 59, tzinfo=UTC)
    written_elsewhere = _changed(earlier, "latestStartTime", "2026-03-02T13:59:59+02:00")
    assert rest.request("PUT", path, written_elsewhere)["spec"]["latestStartTime"] == "2026-03-02T13:59:59+02:00"


def test_every_rule_is_seen_refusing_something(rest: Rest) -> None:
    answers = [case.answer for case in (*REFUSED.values(), *TRANSITIONS.values())]
    messages = {
        rule["message"]
        for kind in KINDS
        for rule in _rules(yaml.safe_load((REPOSITORY / FOLDERS[0] / file_name(kind)).read_text(encoding="utf-8")))
    }
    assert messages
    assert [message for message in messages if not any(answer in message for answer in answers)] == []


def _rules(node: object) -> Iterator[Json]:
    if isinstance(node, dict):
        yield from node.get("x-kubernetes-validations", [])
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else []:
        yield from _rules(child)


def test_the_defaults_of_the_server_are_those_of_the_types(rest: Rest) -> None:
    for kind, spec in (
        (GridZone, {"nodeSelector": {"zone": "a"}, "powerSensor": {"query": "x", "unit": "Watt"}}),
        (ThermalZone, {"nodeSelector": {"row": "a"}, "startRampKilowattsPerMinute": 5}),
        (EnergyPolicy, {}),
    ):
        stored = _dry_run(rest, kind, _object(kind, spec))
        from_types = kind.parse(_object(kind, spec)).to_json_object()["spec"]
        assert stored["spec"] == _without_empty(from_types) | {
            key: value for key, value in stored["spec"].items() if value == {}
        }


def _without_empty(spec: Json) -> Json:
    """Leave out empty lists and maps, which the server leaves out too."""
    kept = {k: _without_empty(v) if isinstance(v, dict) else v for k, v in spec.items()}
    return {k: v for k, v in kept.items() if v not in ([], {})}


STATUSES: dict[str, Any] = {
    "gridzone": GridZoneStatus(
        nodes=16,
        gpus_free=100,
        carbon_intensity_grams_per_kilowatt_hour=240,
        forecast=ForecastStatus(issued_time=NOON, rung="Live", skill_percent=-12),
    ),
    "thermalzone": ThermalZoneStatus(nodes=8, state="Limited", inlet_celsius=29, headroom_kilowatts=-3),
    "workloadplan": WorkloadPlanStatus(
        state=PlanState.HELD,
        reason=PlanReason.CLEANER_WINDOW,
        message="x" * 5000,
        planned_start_time=NOON,
        likely_start_p50_time=NOON,
        emissions_now_grams=5_000_000_000,
        cell_name="west.west-a",
        waits_on=(Wait(kind="Quota", message="the namespace's quota is used up"),),
        history=(Revision(time=NOON, state="Held", reason="BestNow", message="m"),),
    ),
}


@pytest.mark.parametrize("name", STATUSES)
def test_a_status_that_the_types_write_comes_back_the_same(rest: Rest, namespace: str, name: str) -> None:
    kind, spec = VALID[name]
    collection = _collection(kind, namespace)
    created = rest.request("POST", collection, _object(kind, spec, name=namespace))
    path = f"{collection}/{namespace}"
    conditions = set_condition(
        (), type_="Ready", status=ConditionStatus.TRUE, reason="Planned", message="", now=NOON, observed_generation=1
    )
    status = STATUSES[name].model_copy(update={"conditions": conditions, "observed_generation": 1})
    try:
        assert rest.request("PUT", path, {**created, "status": {"nodes": 5}}).get("status") is None
        body = {"status": status.to_json_object()}
        patched = rest.request("PATCH", f"{path}/status", body, "application/merge-patch+json")
        assert kind.parse(patched).status == status  # type: ignore[attr-defined]
        wrong = {"status": {"state": "Sleeping", "nodes": -1}}
        with pytest.raises(ApiError, match=r"status\.(state|nodes)"):
            rest.request("PATCH", f"{path}/status", wrong, "application/merge-patch+json")
    finally:
        rest.request("DELETE", path)


def test_a_plan_is_found_by_its_state_and_its_workload(rest: Rest, stored_plan: tuple[str, Json]) -> None:
    path, _ = stored_plan
    body = {"status": {"state": "Held", "reason": "CleanerWindow"}}
    rest.request("PATCH", f"{path}/status", body, "application/merge-patch+json")
    collection = path.rpartition("/")[0]
    for selector, found in (
        ("status.state=Held,spec.workloadRef.name=train", 1),
        ("status.state=Released", 0),
        ("spec.policyName=other", 0),
    ):
        assert len(rest.objects(f"{collection}?fieldSelector={selector}")) == found


def test_the_spec_that_the_types_write_is_taken(rest: Rest) -> None:
    spec = WorkloadPlanSpec.model_validate(VALID["workloadplan"][1]).to_json_object()
    assert _dry_run(rest, WorkloadPlan, _object(WorkloadPlan, spec))["spec"] == VALID["workloadplan"][1]


def test_all_four_kinds_are_established(control_plane: Any, rest: Rest) -> None:
    crds = json.loads(control_plane.kubectl("get", *[_crd_path(k) for k in KINDS], "-o", "json"))["items"]
    for crd in crds:
        conditions = {c["type"]: c for c in crd["status"]["conditions"]}
        assert conditions["Established"]["status"] == "True"
        assert conditions["NamesAccepted"]["status"] == "True"
        assert "NonStructuralSchema" not in conditions
    assert len(crds) == len(KINDS)


def test_kubectl_explains_a_field_with_its_unit(control_plane: Any, rest: Rest) -> None:
    text = " ".join(control_plane.kubectl("explain", "gridzone.spec.contractedPowerKilowatts").split())
    assert "FIELD: contractedPowerKilowatts <integer>" in text
    assert "contractedPowerKilowatts is the most that the zone may draw from the grid, cooling included [kW]." in text


def test_the_short_names_are_ours_alone_and_the_category_lists_all_kinds(control_plane: Any, rest: Rest) -> None:
    command = [str(control_plane.binaries / "kubectl"), "get", "-A"]
    short_names = ",".join(kind.definition.short_name for kind in KINDS)
    for asked in (short_names, "embellie"):
        done = subprocess.run(
            [*command, asked], env=control_plane.environment(), capture_output=True, text=True, timeout=60, check=True
        )
        assert "could also match" not in done.stderr
        assert "deprecated" not in done.stderr


def test_the_columns_of_kubectl_answer_the_first_question(control_plane: Any, rest: Rest, namespace: str) -> None:
    kind, spec = VALID["gridzone"]
    rest.request("POST", _collection(kind), _object(kind, spec, name=namespace))
    try:
        status = {"status": STATUSES["gridzone"].to_json_object()}
        path = f"{_collection(kind)}/{namespace}/status"
        rest.request("PATCH", path, status, "application/merge-patch+json")
        header, row = control_plane.kubectl("get", "gz", namespace).splitlines()
        assert header.split("  ")[0] == "NAME"
        assert [c.strip() for c in header.split("  ") if c.strip()] == [
            "NAME", "READY", "GRID", "CI NOW", "RENEWABLE %", "BEST WINDOW", "GPUS FREE", "RUNG", "AGE",
        ]  # fmt: skip
        assert row.split()[1:3] == ["US-CISO", "240"]
    finally:
        rest.request("DELETE", f"{_collection(kind)}/{namespace}")


def _sample_files() -> list[Path]:
    return sorted(SAMPLES.glob("*.yaml"))


@pytest.mark.parametrize("path", _sample_files(), ids=lambda path: path.name)
def test_a_sample_is_taken_as_it_stands(control_plane: Any, rest: Rest, path: Path) -> None:
    control_plane.kubectl("create", "namespace", "research", check=False)
    documents = [d for d in yaml.safe_load_all(path.read_text(encoding="utf-8")) if d["kind"] != "Namespace"]
    text = yaml.safe_dump_all(documents)
    done = control_plane.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", input=text)
    assert len(done.splitlines()) == len(documents) > 0
