# SPDX-License-Identifier: Apache-2.0
"""The main job on a real API server: hold, decide, release, explain; the chart by helm, the operator as a process."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from embellie.cluster.client import KubeClient
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.processes import until
from embellie_testbed.product import (
    NAMESPACE,
    Program,
    dirty_now_clean_later,
    in_hours,
    start_operator,
    switch_says,
    write_forecast,
)

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(240)]

ZONES = [
    {
        "apiVersion": "embellie.io/v1alpha1",
        "kind": "GridZone",
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"topology.kubernetes.io/zone": name},
            "gridRegion": region,
            "jurisdiction": jurisdiction,
        },
    }
    for name, region, jurisdiction in (("west", "US-CISO", "US-CA"), ("east", "US-PJM", "US-VA"))
]


def job(name: str, namespace: str, *, flex: str | None = "patient", pods: int = 1, gpus: int = 8, spec=None, **notes):
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"embellie.io/flex": flex} if flex else {},
            "annotations": {f"embellie.io/{k.replace('_', '-')}": v for k, v in notes.items()},
        },
        "spec": {
            "parallelism": pods,
            "completions": pods,
            "backoffLimit": 0,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [
                        {
                            "name": "train",
                            "image": "example.com/train:1",
                            "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
                        }
                    ],
                    **(spec or {}),
                }
            },
        },
    }


def pod(name: str, namespace: str, *, flex: str | None = "patient", gpus: int = 1, spec=None, **notes):
    raw = job(name, namespace, flex=flex, gpus=gpus, spec=spec, **notes)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": raw["metadata"],
        "spec": raw["spec"]["template"]["spec"],
    }


class Site:
    """A cluster with the chart, two zones, a policy and one running operator."""

    def __init__(self, plane: ControlPlane, kube: KubeClient, forecasts: Path, namespace: str) -> None:
        self.plane, self.kube, self.forecasts, self.namespace = plane, kube, forecasts, namespace
        self.operator: Program | None = None

    def start(self, *flags: str) -> Program:
        self.operator = start_operator(self.plane, self.forecasts, flags=("--turn-seconds=1", *flags))
        until(
            lambda: self._alive() and switch_says(self.plane).get("enabled") == "true",
            f"the operator holds\n{self.operator.log()[-2000:]}",
        )
        return self.operator

    def _alive(self) -> bool:
        assert self.operator is not None
        assert self.operator.running(), self.operator.log()[-3000:]
        return True

    def create(self, raw: dict) -> dict:
        base = "/apis/batch/v1" if raw["kind"] == "Job" else "/api/v1"
        plural = "jobs" if raw["kind"] == "Job" else "pods"
        # Not through `create`, which writes as Embellie: these are users' objects.
        path = f"{base}/namespaces/{raw['metadata']['namespace']}/{plural}"
        return self.kube.request("POST", path, body=raw, params={"fieldManager": "a-user"})

    def job(self, name: str) -> dict:
        return self.kube.get(f"/apis/batch/v1/namespaces/{self.namespace}/jobs/{name}")

    def pod(self, name: str) -> dict:
        return self.kube.get(f"/api/v1/namespaces/{self.namespace}/pods/{name}")

    def plan(self, name: str) -> dict:
        found = self.plane.kubectl("get", "wp", name, "-n", self.namespace, "-o", "json", check=False)
        return json.loads(found) if found.strip() else {}

    def plan_when(self, name: str, *, state: str, seconds: float = 90.0) -> dict:
        def ready():
            found = self.plan(name)
            return found if found.get("status", {}).get("state") == state else None

        return until(ready, f"plan {name} says {state}; it says {self.plan(name).get('status')}", seconds)


@pytest.fixture
def site(
    gpu_cluster: ControlPlane, installed_chart: ControlPlane, kube: KubeClient, namespace: str, tmp_path: Path
) -> Iterator[Site]:
    """A site whose operator is not started yet; everything cluster-wide is removed after the test."""
    found = Site(gpu_cluster, kube, tmp_path / "exchange", namespace)
    gpu_cluster.kubectl(
        "apply", "--server-side", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": ZONES})
    )
    policy = {
        "apiVersion": "embellie.io/v1alpha1",
        "kind": "EnergyPolicy",
        "metadata": {"name": namespace},
        "spec": {"mode": "enforce", "namespaceSelector": {"matchNames": [namespace]}, "maxDelaySeconds": 86400},
    }
    gpu_cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(policy))
    for zone in ("west", "east"):
        write_forecast(found.forecasts, zone, dirty_now_clean_later())
    yield found
    if found.operator is not None and found.operator.running():
        found.operator.stop()
    gpu_cluster.kubectl("delete", "gridzones,energypolicies,thermalzones", "--all", "--wait=true")
    gpu_cluster.kubectl("delete", "jobs,pods", "--all", "-n", namespace, "--wait=false", "--grace-period=0")
    gpu_cluster.kubectl(
        "patch", "configmap", "embellie-switch", "-n", NAMESPACE, "--type=merge",
        "-p", '{"data":{"enabled":"false","locked":"false","namespaces":","}}',
    )  # fmt: skip


def test_patient_work_is_held_with_a_plan_that_says_why_and_until_when(site: Site):
    site.start()
    created = site.create(job("train", site.namespace, duration="2h"))
    assert created["spec"]["suspend"] is True
    assert created["metadata"]["labels"]["embellie.io/held"] == "true"

    plan = site.plan_when("job-train", state="Held")
    assert plan["status"]["reason"] == "CleanerWindow"
    assert plan["metadata"]["ownerReferences"][0]["uid"] == created["metadata"]["uid"]
    assert plan["metadata"].get("finalizers") is None
    assert plan["spec"]["latestStartTime"] > plan["status"]["plannedStartTime"]
    assert plan["status"]["emissionsPlannedGrams"] < plan["status"]["emissionsNowGrams"]
    assert site.job("train")["spec"]["suspend"] is True


def test_each_of_a_crowd_that_waits_gets_its_plan_though_no_turn_has_time_to_write_them_all(site: Site):
    site.start()
    names = {f"train-{number:03}" for number in range(400)}
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: site.create(job(name, site.namespace, gpus=1, duration="2h")), sorted(names)))

    def told() -> bool:
        plans = site.kube.list_all(f"/apis/embellie.io/v1alpha1/namespaces/{site.namespace}/workloadplans")
        return {p["spec"]["workloadRef"]["name"] for p in plans if p.get("status", {}).get("state") == "Held"} == names

    until(told, "every job has a plan that says that it is held", 120.0, every_seconds=1.0)


def test_work_starts_when_its_hour_has_come_in_the_zone_that_was_chosen(site: Site):
    write_forecast(site.forecasts, "west", [600.0] * 48)
    write_forecast(site.forecasts, "east", [80.0] * 48)
    site.start()
    site.create(job("train", site.namespace, duration="1h"))
    site.create(pod("probe", site.namespace, duration="1h"))
    site.plan_when("job-train", state="Released")
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
    site.start()
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
    site.operator = start_operator(site.plane, site.forecasts)
    made = site.create(job("train", site.namespace, duration="2h"))
    assert made["spec"].get("suspend") is False
    plan = site.plan_when("job-train", state="Shadow")
    assert plan["status"]["reason"] == "WouldHold"
    assert plan["spec"]["mode"] == "shadow"
    assert switch_says(site.plane)["enabled"] == "false"


def test_the_bound_is_kept_even_when_nothing_is_free(site: Site):
    site.start()
    site.create(job("everything", site.namespace, flex=None, pods=8, gpus=8))
    until(lambda: site.job("everything").get("status", {}).get("active") == 8, "all GPUs are taken")
    began = time.monotonic()
    site.create(job("train", site.namespace, max_delay="8s", duration="1h"))
    assert site.plan_when("job-train", state="Held")["status"]["reason"] == "WaitingForGpus"
    plan = site.plan_when("job-train", state="Released")
    assert time.monotonic() - began < 8.5
    assert plan["status"]["reason"] == "BoundReached"


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
        site.start()
        began = time.monotonic()
        site.create(job("train", site.namespace, max_delay="12s", duration="1h"))
        site.plan_when("job-train", state="Released")
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


@pytest.mark.parametrize(
    ("notes", "reason", "words"),
    [
        ({"deadline": "2020-01-01T00:00:00Z"}, "DeadlineUnreachable", "deadline"),
        ({"deadline": "2099-01-01T00:00:00"}, "InvalidAnnotation", "time zone"),
        ({"deadline": in_hours(3), "duration": "9h"}, "DeadlineUnreachable", "duration"),
        ({"residency": "FR"}, "ResidencyUnsatisfied", "FR"),
    ],
)
def test_work_that_cannot_wait_starts_at_once_and_is_told_why(site: Site, notes: dict, reason: str, words: str):
    site.start()
    site.create(job("train", site.namespace, **notes))
    plan = site.plan_when("job-train", state="Released")
    assert plan["status"]["reason"] == reason
    assert words in plan["status"]["message"]


def test_work_without_a_zone_for_its_residency_is_released_and_stays_pending_instead_of_crossing(site: Site):
    site.start()
    site.create(pod("probe", site.namespace, residency="FR"))
    site.plan_when("pod-probe", state="Released")

    def unschedulable():
        conditions = site.pod("probe").get("status", {}).get("conditions", [])
        return any(c["type"] == "PodScheduled" and c["status"] == "False" for c in conditions)

    until(unschedulable, "the scheduler finds no node in FR")
    assert not site.pod("probe")["spec"].get("nodeName")


def test_residency_outranks_carbon(site: Site):
    write_forecast(site.forecasts, "west", [900.0] * 48)
    write_forecast(site.forecasts, "east", [10.0] * 48)
    site.start()
    site.create(pod("probe", site.namespace, residency="US-CA"))
    assert "west" in until(lambda: site.pod("probe")["spec"].get("nodeName"), "the pod is bound")


@pytest.mark.parametrize("duration", ["7 bananas", "0s", "-3h"])
def test_a_senseless_duration_is_an_event_that_says_how_to_mend_it(site: Site, duration: str):
    site.start()
    site.create(job("train", site.namespace, duration=duration))
    site.plan_when("job-train", state="Held")

    def told():
        events = site.plane.kubectl("get", "events", "-n", site.namespace, "-o", "json")
        return [e for e in json.loads(events)["items"] if e["reason"] == "InvalidAnnotation"]

    event = until(told, "an event names the annotation")[0]
    assert "embellie.io/duration" in event["message"]
    assert "9h30m" in event["message"]


def test_a_later_deadline_is_refused_and_an_earlier_one_taken(site: Site):
    site.start()
    site.create(job("train", site.namespace, deadline=in_hours(10), duration="1h"))
    first = site.plan_when("job-train", state="Held")["spec"]["latestStartTime"]
    site.plane.kubectl(
        "annotate", "job", "train", "-n", site.namespace, "--overwrite", f"embellie.io/deadline={in_hours(20)}"
    )

    def refused():
        events = json.loads(site.plane.kubectl("get", "events", "-n", site.namespace, "-o", "json"))["items"]
        return any(e["reason"] == "DeadlineMovedBack" for e in events)

    until(refused, "an event refuses the later deadline")
    assert site.plan("job-train")["spec"]["latestStartTime"] == first
    site.plane.kubectl(
        "annotate", "job", "train", "-n", site.namespace, "--overwrite", f"embellie.io/deadline={in_hours(8)}"
    )
    until(lambda: site.plan("job-train")["spec"]["latestStartTime"] < first, "the bound moves earlier")


def test_a_job_that_its_user_suspended_after_our_release_stays_suspended(site: Site):
    write_forecast(site.forecasts, "west", [100.0] * 48)
    write_forecast(site.forecasts, "east", [100.0] * 48)
    site.start()
    site.create(job("train", site.namespace))
    site.plan_when("job-train", state="Released")
    site.plane.kubectl("patch", "job", "train", "-n", site.namespace, "--type=merge", "-p", '{"spec":{"suspend":true}}')
    plan = site.plan_when("job-train", state="HandedOff")
    assert plan["status"]["reason"] == "SuspendedByOther"
    assert site.job("train")["spec"]["suspend"] is True
    assert "embellie.io/held" not in site.job("train")["metadata"]["labels"]


def test_a_gate_that_another_controller_removed_counts_as_go(site: Site):
    site.start()
    site.create(pod("probe", site.namespace, duration="1h"))
    site.plan_when("pod-probe", state="Held")
    site.plane.kubectl(
        "patch",
        "pod",
        "probe",
        "-n",
        site.namespace,
        "--type=json",
        "-p",
        '[{"op":"remove","path":"/spec/schedulingGates"}]',
    )
    plan = site.plan_when("pod-probe", state="HandedOff")
    assert plan["status"]["reason"] == "StartedByOther"
    assert "embellie.io/held" not in site.pod("probe")["metadata"]["labels"]


def test_a_users_own_affinity_is_kept_in_every_term(site: Site):
    write_forecast(site.forecasts, "west", [100.0] * 48)
    write_forecast(site.forecasts, "east", [900.0] * 48)
    site.start()
    own = [
        {"matchExpressions": [{"key": "nvidia.com/gpu.product", "operator": "Exists"}]},
        {"matchExpressions": [{"key": "example.com/special", "operator": "In", "values": ["yes"]}]},
    ]
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": own}}}
    site.create(job("train", site.namespace, spec={"affinity": affinity}))
    site.plan_when("job-train", state="Released")
    terms = site.job("train")["spec"]["template"]["spec"]["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"]
    zone = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["west"]}
    assert len(terms) == 2
    for written, mine in zip(terms, own, strict=True):
        assert zone in written["matchExpressions"]
        assert mine["matchExpressions"][0] in written["matchExpressions"]


def test_a_policy_that_goes_away_frees_what_it_held(site: Site):
    site.start()
    site.create(job("train", site.namespace))
    site.plan_when("job-train", state="Held")
    site.plane.kubectl("delete", "energypolicy", site.namespace)
    plan = site.plan_when("job-train", state="Released")
    assert plan["status"]["reason"] == "NoPolicy"
    until(lambda: switch_says(site.plane)["enabled"] == "false", "the switch goes off")


@pytest.mark.parametrize("garbage", ["", "{", '{"schema":"embellie.io/forecast/v1"}', '{"schema":"other"}', "[]"])
def test_a_broken_forecast_file_never_holds_and_never_crashes(site: Site, garbage: str):
    for zone in ("west", "east"):
        for path in (site.forecasts / "forecasts" / zone).iterdir():
            path.write_text(garbage)
    operator = site.start()
    site.create(job("train", site.namespace))
    plan = site.plan_when("job-train", state="Released")
    assert plan["status"]["reason"] == "ForecastUnavailable"
    assert operator.running()


def test_nothing_of_ours_is_written_on_nodes_namespaces_or_work_that_did_not_opt_in(site: Site):
    site.start()
    site.create(pod("stranger", site.namespace, flex=None))
    site.create(job("train", site.namespace))
    site.plan_when("job-train", state="Held")
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
