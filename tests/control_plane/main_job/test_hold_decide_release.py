# SPDX-License-Identifier: Apache-2.0
"""The main job on a real API server: hold, decide, release, explain; the chart by helm, the operator as a process."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from operated_site import Site
from users_work import job, pod

from embellie_testbed.processes import until
from embellie_testbed.product import switch_says, write_forecast

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(240)]


def test_patient_work_is_held_with_a_plan_that_says_why_and_until_when(site: Site):
    site.start_holding()
    created = site.create(job("train", site.namespace, duration="2h"))
    assert created["spec"]["suspend"] is True
    assert created["metadata"]["labels"]["embellie.io/held"] == "true"

    plan = site.plan_when(state="Held")
    assert plan["status"]["reason"] == "CleanerWindow"
    assert plan["metadata"]["ownerReferences"][0]["uid"] == created["metadata"]["uid"]
    assert plan["metadata"].get("finalizers") is None
    assert plan["spec"]["latestStartTime"] > plan["status"]["plannedStartTime"]
    assert plan["status"]["emissionsPlannedGrams"] < plan["status"]["emissionsNowGrams"]
    assert site.job("train")["spec"]["suspend"] is True


def test_each_of_a_crowd_that_waits_gets_its_plan_though_no_turn_has_time_to_write_them_all(site: Site):
    site.start_holding()
    names = {f"train-{number:03}" for number in range(400)}
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: site.create(job(name, site.namespace, gpus=1, duration="2h")), sorted(names)))

    def told() -> bool:
        plans = site.kube.list_all(f"/apis/embellie.io/v1alpha1/namespaces/{site.namespace}/workloadplans")
        return {p["spec"]["workloadRef"]["name"] for p in plans if p.get("status", {}).get("state") == "Held"} == names

    until(told, "every job has a plan that says that it is held", 120.0, every_seconds=1.0)


def test_work_starts_when_its_hour_has_come_in_the_zone_that_was_chosen(site: Site):
    write_forecast(site.exchange, "west", [600.0] * 48)
    write_forecast(site.exchange, "east", [80.0] * 48)
    site.start_holding()
    site.create(job("train", site.namespace, duration="1h"))
    site.create(pod("probe", site.namespace, duration="1h"))
    site.plan_when(state="Released")
    released = site.job("train")
    assert released["spec"]["suspend"] is False
    assert "embellie.io/held" not in released["metadata"]["labels"]
    term = released["spec"]["template"]["spec"]["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"]
    assert term == [
        {"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["east"]}]}
    ]
    bound = until(lambda: site.pod("probe")["spec"].get("nodeName"), "the pod is bound")
    assert "east" in bound
    assert "schedulingGates" not in site.pod("probe")["spec"]


def test_unlabelled_and_rigid_work_is_never_touched(site: Site):
    site.start_holding()
    for name, flex in (("plain", None), ("rigid", "rigid")):
        made = site.create(job(name, site.namespace, flex=flex))
        assert made["spec"].get("suspend") is False
        assert "embellie.io/held" not in made["metadata"].get("labels", {})
    until(lambda: site.job("plain").get("status", {}).get("active") == 1, "the plain job runs")
    assert not any(
        field.get("manager") == "embellie"
        for name in ("plain", "rigid")
        for field in site.job(name)["metadata"].get("managedFields", [])
    )


def test_a_shadow_policy_records_and_touches_nothing(site: Site):
    site.plane.kubectl("patch", "energypolicy", site.namespace, "--type=merge", "-p", '{"spec":{"mode":"shadow"}}')
    site.start()
    made = site.create(job("train", site.namespace, duration="2h"))
    assert made["spec"].get("suspend") is False
    plan = site.plan_when(state="Shadow")
    assert plan["status"]["reason"] == "WouldHold"
    assert plan["spec"]["mode"] == "shadow"
    assert switch_says(site.plane)["enabled"] == "false"


def test_the_bound_is_kept_even_when_nothing_is_free(site: Site):
    site.start_holding()
    site.create(job("everything", site.namespace, flex=None, pods=8, gpus=8))
    until(lambda: site.job("everything").get("status", {}).get("active") == 8, "all GPUs are taken")
    began = time.monotonic()
    site.create(job("train", site.namespace, max_delay="8s", duration="1h"))
    assert site.plan_when(state="Held")["status"]["reason"] == "WaitingForGpus"
    plan = site.plan_when(state="Released")
    assert time.monotonic() - began < 8.5
    assert plan["status"]["reason"] == "BoundReached"


def test_work_that_would_run_into_an_order_waits_for_its_end_and_not_for_its_latest_start(site: Site):
    ends = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=6)
    order = {"startTime": "2026-01-01T00:00:00Z", "endTime": ends.isoformat(), "powerKilowatts": 0}
    told = json.dumps({"spec": {"powerOrders": [order]}})
    for zone in ("west", "east"):
        write_forecast(site.exchange, zone, [300.0] * 48)
        site.plane.kubectl("patch", "gridzone", zone, "--type=merge", "-p", told)
    site.start_holding()
    site.create(job("train", site.namespace, duration="1h"))
    plan = site.plan_when(state="Held")
    assert plan["status"]["reason"] == "ContractedPower"
    planned = datetime.fromisoformat(plan["status"]["plannedStartTime"])
    assert ends <= planned <= ends + timedelta(hours=1)
    assert datetime.fromisoformat(plan["spec"]["latestStartTime"]) > planned
    assert "when the order ends" in plan["status"]["message"]
    for zone in ("west", "east"):
        site.plane.kubectl("patch", "gridzone", zone, "--type=merge", "-p", '{"spec":{"powerOrders":[]}}')
    site.plan_when(state="Released")


def no_affinity_here(namespace: str) -> list[dict]:
    """Return another team's admission policy: no Job of this namespace may be confined to nodes."""
    name = f"no-affinity-{namespace}"
    return [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {
                    "resourceRules": [
                        {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["jobs"]}
                    ]
                },
                "validations": [
                    {"expression": "!has(object.spec.template.spec.affinity)", "message": "affinity is not allowed"}
                ],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name,
                "validationActions": ["Deny"],
                "matchResources": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                },
            },
        },
    ]


def test_work_whose_placement_the_cluster_refuses_goes_without_it_once_its_bound_has_come(site: Site):
    listed = {"apiVersion": "v1", "kind": "List", "items": no_affinity_here(site.namespace)}
    site.plane.kubectl("apply", "-f", "-", input=json.dumps(listed))
    try:
        site.start_holding()
        began = time.monotonic()
        site.create(job("train", site.namespace, max_delay="12s", duration="1h"))
        site.plan_when(state="Released")
        assert time.monotonic() - began < 20.0
        released = site.job("train")
        assert released["spec"]["suspend"] is False
        assert "affinity" not in released["spec"]["template"]["spec"]
        assert "embellie.io/cell" not in released["metadata"]["annotations"]
    finally:
        name = f"no-affinity-{site.namespace}"
        kinds = ("validatingadmissionpolicybinding", "validatingadmissionpolicy")
        for kind in kinds:
            site.plane.kubectl("delete", kind, name)


def test_a_policy_that_goes_away_frees_what_it_held(site: Site):
    site.start_holding()
    site.create(job("train", site.namespace))
    site.plan_when(state="Held")
    site.plane.kubectl("delete", "energypolicy", site.namespace)
    plan = site.plan_when(state="Released")
    assert plan["status"]["reason"] == "NoPolicy"
    until(lambda: switch_says(site.plane)["enabled"] == "false", "the switch goes off")


@pytest.mark.parametrize("garbage", ["", "{", '{"schema":"embellie.io/forecast/v1"}', '{"schema":"other"}', "[]"])
def test_a_broken_forecast_file_never_holds_and_never_crashes(site: Site, garbage: str):
    for zone in ("west", "east"):
        for path in (site.exchange / "forecasts" / zone).iterdir():
            path.write_text(garbage)
    operator = site.start_holding()
    site.create(job("train", site.namespace))
    plan = site.plan_when(state="Released")
    assert plan["status"]["reason"] == "ForecastUnavailable"
    assert operator.running()


def test_nothing_of_ours_is_written_on_nodes_namespaces_or_work_that_did_not_opt_in(site: Site):
    site.start_holding()
    site.create(pod("stranger", site.namespace, flex=None))
    site.create(job("train", site.namespace))
    site.plan_when(state="Held")
    objects = [
        *json.loads(site.plane.kubectl("get", "nodes,namespaces", "-o", "json", "--show-managed-fields"))["items"],
        site.pod("stranger"),
    ]
    for found in objects:
        meta = found["metadata"]
        assert not any("kopf" in a or "embellie.io/" in a for a in meta.get("annotations", {})), meta
        assert meta.get("finalizers") is None or not any("embellie" in f or "kopf" in f for f in meta["finalizers"])
        assert not any(f["manager"] in ("embellie", "kopf") for f in meta.get("managedFields", []))
    held = site.job("train")["metadata"]
    assert not any("kopf" in a for a in held.get("annotations", {}))
    assert not any(f["manager"] in ("embellie", "kopf") for f in held.get("managedFields", []))
    assert held.get("finalizers") is None
