# SPDX-License-Identifier: Apache-2.0
"""The CustomResourceDefinitions on a real API server: what it takes, what it refuses, and in which words."""

import copy
import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from embellie.api import KINDS, EnergyPolicy, GridZone, PowerCap, ThermalZone, WorkloadPlan
from embellie.api.conditions import ConditionStatus, set_condition
from embellie.api.generate import FOLDERS, REPOSITORY, file_name
from embellie.api.gridstatus import ForecastStatus, GridZoneStatus
from embellie.api.meta import Resource, Scope
from embellie.api.thermalzone import ThermalZoneStatus
from embellie.api.workloadplan import PlanReason, PlanState, Revision, Wait, WorkloadPlanSpec, WorkloadPlanStatus
from embellie_testbed.rest import ApiError, Rest

pytestmark = pytest.mark.control_plane

Json = dict[str, Any]

SAMPLES = REPOSITORY / "manifests" / "samples"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

VALID: dict[str, tuple[type[Resource], Json]] = {
    "gridzone": (
        GridZone,
        {
            "nodeSelector": {"topology.kubernetes.io/zone": "west"},
            "gridRegion": "US-CISO",
            "jurisdiction": "US-CA",
            "latitudeMillidegrees": 36_800,
            "longitudeMillidegrees": -119_800,
            "contractedPowerKilowatts": 140,
            "powerSensor": {"query": "sum(facility_power_watts)", "unit": "Watt"},
            "sources": {
                "primary": {"kind": "EIA", "area": "CISO"},
                "crossCheck": {"kind": "ElectricityMaps", "area": "US-CAL-CISO"},
                "weather": "OpenMeteo",
            },
            "onSite": [
                {
                    "name": "roof",
                    "kind": "Solar",
                    "peakKilowatts": 30,
                    "tiltDegrees": 20,
                    "azimuthDegrees": 180,
                    "meter": {"query": "sum(pv_power_watts)", "unit": "Watt"},
                },
                {"name": "hill", "kind": "Wind", "peakKilowatts": 900, "hubHeightMeters": 120},
            ],
            "certifications": ["ISO 50001"],
        },
    ),
    "thermalzone": (
        ThermalZone,
        {
            "nodeSelector": {"example.com/row": "west-r1"},
            "gridZoneName": "west",
            "sensors": [
                {"name": "inlet", "role": "Inlet", "query": "max(inlet)", "unit": "Celsius"},
                {"name": "supply", "role": "Supply", "query": "max(supply)", "unit": "Fahrenheit"},
            ],
            "limits": {"inletHardCelsius": 32, "marginKelvin": 3},
            "cooling": {"capacityKilowatts": 70, "supplySetpointCelsius": 20, "supplyWorstCelsius": 27},
            "startRampKilowattsPerMinute": 20,
        },
    ),
    "energypolicy": (
        EnergyPolicy,
        {
            "mode": "enforce",
            "priority": 10,
            "namespaceSelector": {"matchNames": ["research"], "matchLabels": {"team": "physics"}},
            "workloadSelector": {"matchLabels": {"app.kubernetes.io/part-of": "training"}},
            "maxDelaySeconds": 86_400,
        },
    ),
    "workloadplan": (
        WorkloadPlan,
        {
            "workloadRef": {"apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": "0b1c2d3e"},
            "latestStartTime": "2026-03-02T12:00:00Z",
            "policyName": "research",
            "mode": "enforce",
        },
    ),
    "powercap": (
        PowerCap,
        {
            "capWatts": 490,
            "kneeWatts": 420,
            "expiryTime": "2026-03-02T12:00:00Z",
            "thermalZoneName": "west-a",
            "reason": "The row stands above its limit.",
        },
    ),
}


class Refused(NamedTuple):
    """A change to a valid object's spec, and a part of the answer."""

    kind: str
    path: str
    value: object
    answer: str


REMOVED = object()

REFUSED = {
    # Rules in CEL. Every rule of every kind needs a line here; a test below counts them.
    "a latitude without a longitude": Refused(
        "gridzone", "longitudeMillidegrees", REMOVED, "must be given together: add the missing one"
    ),
    "a GPU that draws more idle than at work": Refused(
        "gridzone", "gpuIdlePowerWatts", 800, "gpuRatedPowerWatts must be greater than or equal to gpuIdlePowerWatts"
    ),
    "a node label that cannot exist": Refused(
        "gridzone", "nodeSelector", {"a b": "west"}, "every key must be a label key, such as topology"
    ),
    "a grid zone called with a dot": Refused("gridzone", "/metadata/name", "eu.west", "dashes, without dots"),
    "a thermal zone called with a dot": Refused(
        "thermalzone", "/metadata/name", "row.a", "because a place is named <gridzone>.<thermalzone>"
    ),
    "a thermal zone's node label that cannot exist": Refused(
        "thermalzone", "nodeSelector", {"/row": "a"}, "every key must be a label key"
    ),
    "a hard limit at the setpoint": Refused(
        "thermalzone", "limits.inletHardCelsius", 20, "raise the limit, reduce the margin or lower the setpoint"
    ),
    "a margin that eats the whole limit": Refused(
        "thermalzone", "limits.marginKelvin", 12, "raise the limit, reduce the margin or lower the setpoint"
    ),
    "a worst supply colder than the setpoint": Refused(
        "thermalzone", "cooling.supplyWorstCelsius", 19, "greater than or equal to cooling.supplySetpoint"
    ),
    "a thermal zone that limits nothing": Refused(
        "thermalzone", "", {"nodeSelector": {"row": "a"}}, "must be given, or the zone limits nothing"
    ),
    "a policy for kube-system": Refused(
        "energypolicy", "namespaceSelector.matchNames", ["research", "kube-system"], "remove them from matchNames"
    ),
    "a policy with a namespace label that cannot exist": Refused(
        "energypolicy", "namespaceSelector.matchLabels", {"-team": "a"}, "every key must be a label key"
    ),
    "a policy with a workload label that cannot exist": Refused(
        "energypolicy", "workloadSelector.matchLabels", {"team/": "a"}, "every key must be a label key"
    ),
    "a policy that weighs nothing": Refused(
        "energypolicy", "weights", {"carbonPercent": 0}, "raise one of them, or remove weights to plan by carbon alone"
    ),
    "a cap below the knee": Refused("powercap", "capWatts", 400, "slower faster than it gets cheaper"),
    "a cap of a card that does not exist": Refused("powercap", "capWatts", 9000, "less than or equal to 5000"),
    "a cap without an end": Refused("powercap", "expiryTime", REMOVED, "spec.expiryTime: Required value"),
    "bonus work that waits less than patient work": Refused(
        "energypolicy", "bonusMaxDelaySeconds", 3600, "raise bonusMaxDelaySeconds or lower maxDelaySeconds"
    ),
    "a feed without its area": Refused("gridzone", "sources.primary", {"kind": "EIA"}, "such as CISO for EIA"),
    "a feed that checks itself": Refused(
        "gridzone", "sources.crossCheck", {"kind": "EIA", "area": "PJM"}, "a feed cannot check itself"
    ),
    "wind with a tilt": Refused("gridzone", "onSite.1.tiltDegrees", 20, "must not be given for kind Wind"),
    "panels with a hub": Refused("gridzone", "onSite.0.hubHeightMeters", 99, "must not be given for kind Solar"),
    "panels nowhere": Refused(
        "gridzone",
        "",
        {"nodeSelector": {"zone": "a"}, "onSite": [{"name": "roof", "kind": "Solar", "peakKilowatts": 1}]},
        "must be given for a solar plant",
    ),
    # Bounds, enumerations, patterns, uniqueness.
    "a zone that selects every node": Refused("gridzone", "nodeSelector", {}, "should have at least 1 properties"),
    "a zone without a selector": Refused("gridzone", "nodeSelector", REMOVED, "spec.nodeSelector: Required value"),
    "a label value that cannot exist": Refused("gridzone", "nodeSelector", {"zone": "we st"}, "spec.nodeSelector.zone"),
    "a contract of nothing": Refused("gridzone", "contractedPowerKilowatts", 0, "greater than or equal to 1"),
    "a contract in words": Refused("gridzone", "contractedPowerKilowatts", "140", "must be of type integer"),
    "a contract in fractions": Refused("gridzone", "contractedPowerKilowatts", 140.5, "must be of type integer"),
    "a PUE below one": Refused("gridzone", "powerUsageEffectivenessPercent", 90, "greater than or equal to 100"),
    "a latitude beyond the pole": Refused("gridzone", "latitudeMillidegrees", 90_001, "less than or equal to 90000"),
    "a grid region in small letters": Refused("gridzone", "gridRegion", "us-ciso", "spec.gridRegion in body"),
    "a country that is no code": Refused("gridzone", "jurisdiction", "France", "spec.jurisdiction"),
    "a sensor in horsepower": Refused("gridzone", "powerSensor.unit", "Horsepower", '"Watt", "Kilowatt"'),
    "a sensor without a query": Refused("gridzone", "powerSensor.query", "", "spec.powerSensor.query"),
    "two plants of one name": Refused(
        "gridzone", "onSite", [{"name": "roof", "kind": "Solar", "peakKilowatts": 1}] * 2, "spec.onSite[1]: Duplicate"
    ),
    "a coal plant on site": Refused(
        "gridzone", "onSite", [{"name": "roof", "kind": "Coal", "peakKilowatts": 1}], '"Solar", "Wind"'
    ),
    "panels that hang over": Refused("gridzone", "onSite.0.tiltDegrees", 91, "less than or equal to 90"),
    "a feed that nobody knows": Refused("gridzone", "sources.primary.kind", "Oracle", '"Eco2mix", "EIA"'),
    "an area that reaches out": Refused("gridzone", "sources.primary.area", "../etc", "sources.primary.area"),
    "the same certificate twice": Refused("gridzone", "certifications", ["A", "A"], "certifications[1]: Duplicate"),
    "a misspelt field": Refused("gridzone", "contractedPower", 5, 'unknown field "spec.contractedPower"'),
    "a sensor's role that does not exist": Refused(
        "thermalzone", "sensors.0.role", "Outlet", '"Inlet", "Return", "Supply"'
    ),
    "a temperature in watts": Refused(
        "thermalzone", "sensors.0.unit", "Watt", "unit must be Celsius, Fahrenheit or Kelvin for a temperature"
    ),
    "a soft limit above the hard one": Refused(
        "thermalzone", "limits.inletSoftCelsius", 33, "inletSoftCelsius must be less than inletHardCelsius"
    ),
    "a cooling capacity of zero": Refused(
        "thermalzone", "cooling.capacityKilowatts", 0, "greater than or equal to 1"
    ),
    "two sensors of one name": Refused("thermalzone", "sensors.1.name", "inlet", "spec.sensors[1]: Duplicate value"),
    "a sample believed for a day": Refused("thermalzone", "sensors.0.maxAgeSeconds", 86_400, "less than or equal to"),
    "more with one unit failed than with all": Refused(
        "thermalzone", "cooling.capacityAllUnitsKilowatts", 60, "must be greater than or equal to capacityKilowatts"
    ),
    "a permit for no time at all": Refused(
        "thermalzone",
        "rejectionCeilings",
        [{"name": "night", "heatKilowatts": 90, "fromHour": 22, "toHour": 22}],
        "write 0 and 24 for the whole day",
    ),
    "a limit that melts": Refused("thermalzone", "limits.inletHardCelsius", 200, "less than or equal to 90"),
    "a ramp of zero": Refused("thermalzone", "startRampKilowattsPerMinute", 0, "greater than or equal to 1"),
    "a mode that does not exist": Refused("energypolicy", "mode", "dry-run", '"shadow", "enforce"'),
    "a negative delay": Refused("energypolicy", "maxDelaySeconds", -1, "greater than or equal to 0"),
    "a delay in words": Refused("energypolicy", "maxDelaySeconds", "24h", "must be of type integer"),
    "a delay of a year": Refused("energypolicy", "maxDelaySeconds", 31_536_000, "less than or equal to 2592000"),
    "more than everything held": Refused("energypolicy", "maxHeldPercent", 101, "less than or equal to 100"),
    "a namespace named twice": Refused("energypolicy", "namespaceSelector.matchNames", ["a", "a"], "Duplicate value"),
    "a plan without a bound": Refused("workloadplan", "latestStartTime", REMOVED, "latestStartTime: Required value"),
    "a bound that is no time": Refused("workloadplan", "latestStartTime", "tomorrow", "must be of type date-time"),
    "a plan for a Deployment": Refused("workloadplan", "workloadRef.kind", "Deployment", '"Job", "Pod"'),
}  # fmt: skip

TRANSITIONS = {
    "a bound that moves later": Refused(
        "workloadplan",
        "latestStartTime",
        "2026-03-02T12:00:01Z",
        "latestStartTime must not move later, it is a promise",
    ),
    "a plan that changes its workload": Refused(
        "workloadplan", "workloadRef.uid", "another", "workloadRef must not change: delete this plan"
    ),
}

ACCEPTED = {
    "a grid zone with a selector and nothing else": ("gridzone", {"nodeSelector": {"zone": "west"}}),
    "a thermal zone that only spreads starts": (
        "thermalzone",
        {"nodeSelector": {"row": "a"}, "startRampKilowattsPerMinute": 5},
    ),
    "a thermal zone that knows only its capacity": (
        "thermalzone",
        {"nodeSelector": {"row": "a"}, "cooling": {"capacityKilowatts": 60}},
    ),
    "a thermal zone whose limit is just above the setpoint": (
        "thermalzone",
        {
            "nodeSelector": {"row": "a"},
            "limits": {"inletHardCelsius": 24},
            "cooling": {"riseMillikelvinPerKilowatt": 100, "supplyWorstCelsius": 20},
        },
    ),
    "an empty policy": ("energypolicy", {}),
    "a policy whose two delays are equal": ("energypolicy", {"maxDelaySeconds": 60, "bonusMaxDelaySeconds": 60}),
    "a feed that needs no area": ("gridzone", {"nodeSelector": {"z": "a"}, "sources": {"primary": {"kind": "NESO"}}}),
    "wind without a place": (
        "gridzone",
        {"nodeSelector": {"zone": "a"}, "onSite": [{"name": "hill", "kind": "Wind", "peakKilowatts": 1}]},
    ),
    "a site on the equator at Greenwich": (
        "gridzone",
        {"nodeSelector": {"zone": "a"}, "latitudeMillidegrees": 0, "longitudeMillidegrees": 0},
    ),
}


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
