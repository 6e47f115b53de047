# SPDX-License-Identifier: Apache-2.0
"""Bad input, end to end: each ends in a condition, an event or a refusal that says what to do, never in a crash, a lost
workload or a workload held past its bound.

One operator serves all tests that want no other clock; each has its own namespace, policies and weather. Its sensors
come from the simulated exporter through the real Prometheus, behind a relay that can hang or be gone.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from operated_site import LIMIT_HOLD_S, MeteredSite
from users_work import ZONE, pod

from embellie.cluster.client import KubeClient
from embellie_testbed.controlplane import CommandError, ControlPlane
from embellie_testbed.exporter import start_exporter
from embellie_testbed.processes import until
from embellie_testbed.product import NAMESPACE, dirty_now_clean_later
from embellie_testbed.prometheus import start_prometheus
from embellie_testbed.relay import HANG_S, Relay

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(240)]

CLEAN = [100.0] * 48


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def released_at(site: MeteredSite, name: str = "train") -> datetime:
    return moment(site.job(name)["metadata"]["annotations"]["embellie.io/released-at"])


@pytest.fixture(scope="module")
def shared(
    gpu_cluster: ControlPlane, installed_chart: ControlPlane, kube: KubeClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MeteredSite]:
    exporter = start_exporter(gpu_cluster, ambient=12.0)
    prometheus = start_prometheus(gpu_cluster, [exporter.target])
    relay = Relay(prometheus.port)
    found = MeteredSite(gpu_cluster, kube, tmp_path_factory.mktemp("exchange"), exporter, prometheus, relay)
    for zone in ("west", "east"):
        found.apply("GridZone", zone, nodeSelector={ZONE: zone}, gridRegion="US-CISO", jurisdiction="US-CA")
    prometheus.wait_for_series("max(ipmi_temperature_celsius)")
    yield found
    found.stop()
    relay.leave()
    for name in ("prometheus", "exporter"):
        gpu_cluster.processes.stop(name, number=signal.SIGKILL)
    gpu_cluster.kubectl("delete", "gridzones", "--all")


@pytest.fixture
def site(shared: MeteredSite, namespace: str) -> Iterator[MeteredSite]:
    """The shared site with a running operator, fair sensors and dirty weather for six hours."""
    shared.namespace = namespace
    shared.weather(dirty_now_clean_later())
    if shared.operator is None or not shared.operator.running():
        shared.start()
    yield shared
    shared.exporter.misbehave()
    shared.relay.hang = False
    shared.relay.come_back()
    shared.plane.kubectl("delete", "energypolicies,thermalzones", "--all")
    shared.plane.kubectl("delete", "jobs", "--all", "-n", namespace, "--cascade=foreground")
    shared.plane.kubectl("delete", "pods", "--all", "-n", namespace, "--grace-period=0", "--force")


def test_a_policy_over_everything_never_holds_in_system_namespaces_or_our_own(site: MeteredSite):
    site.apply("EnergyPolicy", "everything", mode="enforce")
    switch = site.wait_for_switch()
    for system in ("kube-system", "kube-public", "kube-node-lease", NAMESPACE):
        assert f",{system}," not in switch["namespaces"]
        free = site.train("system", namespace=system, gpus=1)
        site.plane.kubectl("delete", "job", "system", "-n", system, "--cascade=foreground")
        assert free["spec"]["suspend"] is False
        assert "embellie.io/held" not in free["metadata"]["labels"]
    assert site.train()["spec"]["suspend"] is True
    assert "kube-system" in site.condition_when("energypolicy", "everything", "Ready", "True")["message"]


def test_naming_a_system_namespace_in_a_policy_is_refused_with_words_that_mend_it(site: MeteredSite):
    with pytest.raises(CommandError, match="remove them from matchNames"):
        site.apply("EnergyPolicy", "bold", namespaceSelector={"matchNames": ["kube-system", site.namespace]})


def test_of_two_policies_the_winner_bounds_the_wait_and_the_loser_names_it(site: MeteredSite):
    site.apply("EnergyPolicy", "winner", mode="enforce", priority=5, maxDelaySeconds=7 * 3600)
    site.hold(maxDelaySeconds=20 * 3600)
    made = site.train(duration="1h")
    plan = site.plan_when(state="Held")
    bound = moment(made["metadata"]["creationTimestamp"]) + timedelta(hours=7)
    assert plan["spec"]["policyName"] == "winner"
    assert moment(plan["spec"]["latestStartTime"]) == bound
    assert "winner" in site.condition_when("energypolicy", site.namespace, "Overlapping", "True")["message"]
    site.condition_when("energypolicy", "winner", "Overlapping", "False")


def test_a_zone_without_nodes_and_zones_that_share_nodes_say_so_and_count_no_gpu_twice(site: MeteredSite):
    site.weather(CLEAN)
    site.hold()
    for name, selector in (("nowhere", {ZONE: "nowhere"}), ("again", {ZONE: "west"})):
        site.apply("GridZone", name, nodeSelector=selector, gridRegion="US-CISO")
    try:
        assert "--show-labels" in site.condition_when("gridzone", "nowhere", "Ready", "False")["message"]
        for name in ("west", "again"):
            shared = site.condition_when("gridzone", name, "NodesExclusive", "False")
            assert "labels of one zone only" in shared["message"]
        gpus = {z["metadata"]["name"]: z["status"].get("gpus") for z in site.get("gridzones")["items"]}
        assert gpus == {"west": 32, "east": 32, "again": 0, "nowhere": 0}
        site.train(pods=5, zone="west")
        # Counted twice, the zone would seat five nodes.
        assert site.plan_when(state="Released")["status"]["reason"] == "NoZone"
    finally:
        site.plane.kubectl("delete", "gridzones", "again", "nowhere")
    site.condition_when("gridzone", "west", "NodesExclusive", "True")


def test_a_thermal_zone_without_nodes_counts_at_its_worst_and_its_neighbours_go_on(site: MeteredSite):
    site.weather(CLEAN)
    site.hold()
    cooling = {"capacityKilowatts": 500}
    site.apply("ThermalZone", "nowhere", nodeSelector={ZONE: "nowhere"}, cooling=cooling)
    site.apply("ThermalZone", "somewhere", nodeSelector={ZONE: "west"}, cooling=cooling)
    try:
        for type_ in ("Ready", "AdmissionOpen"):
            message = site.condition_when("thermalzone", "nowhere", type_, "False")["message"]
            assert "spec.nodeSelector" in message
            assert "--show-labels" in message
        status = {z["metadata"]["name"]: z["status"] for z in site.get("thermalzones")["items"]}
        assert (status["nowhere"]["state"], status["nowhere"]["headroomKilowatts"]) == ("Limited", 0)
        site.condition_when("thermalzone", "somewhere", "Ready", "True")
        site.train(zone="west")
        site.plan_when(state="Released")
        site.is_well()
    finally:
        site.plane.kubectl("delete", "thermalzones", "nowhere", "somewhere")


@pytest.mark.parametrize(
    ("values", "issued_ahead_h", "reasons"),
    [
        ([float("nan"), *CLEAN[1:]], 0, {"ForecastUnavailable"}),
        ([-50.0, *CLEAN[1:]], 0, {"ForecastUnavailable"}),
        ([500.0] * 6 + [1e9] * 42, 0, {"ForecastUnavailable"}),
        (dirty_now_clean_later(), 5, {"ForecastUnavailable"}),
        ([300.0] * 48, 0, {"BestNow", "MinimumSaving"}),
        ([0.0] * 48, 0, {"BestNow", "MinimumSaving"}),
    ],
    ids=["NaN", "negative", "absurd", "from the future", "constant", "nothing but sun"],
)
def test_a_senseless_forecast_holds_nothing(
    site: MeteredSite, values: list[float], issued_ahead_h: int, reasons: set[str]
):
    site.no_weather()
    ahead = datetime.now(UTC) + timedelta(hours=issued_ahead_h) if issued_ahead_h else None
    site.weather(values, now=ahead)
    site.hold()
    site.train(duration="1h")
    assert site.plan_when(state="Released")["status"]["reason"] in reasons
    site.no_weather()
    site.is_well()


def test_annotations_from_hell_release_their_work_and_harm_no_other(site: MeteredSite):
    site.hold()
    notes: dict[str, dict[str, str]] = {
        "year-one": {"deadline": "0001-01-01T00:00:00Z"},
        "before-time": {"deadline": "0001-01-01T00:00:00+12:00"},
        "after-time": {"deadline": "9999-12-31T23:59:59-12:00"},
        "other-script": {"residency": "Île-de-France"},
        "no-room-for-ours": {"max_delay": "1s", "novel": "a" * (256 * 1024 - 60)},
    }
    site.train("well-behaved", duration="1h")
    for name, annotations in notes.items():
        site.train(name, gpus=1, **annotations)
    for name in notes:
        site.plan_when(name, state="Released")
        assert site.job(name)["spec"]["suspend"] is False
    site.plan_when("well-behaved", state="Held")
    site.is_well()


def hot_zone(site: MeteredSite, name: str, **cooling: int) -> None:
    """Let the west's starts depend on an inlet sensor."""
    query = 'max(ipmi_temperature_celsius{zone="west"})'
    sensor = {"name": "inlet", "role": "Inlet", "unit": "Celsius", "query": query, "maxAgeSeconds": 10}
    site.apply("ThermalZone", name, nodeSelector={ZONE: "west"}, sensors=[sensor], cooling=cooling)


def go_down(site: MeteredSite) -> None:
    site.relay.leave()


def go_empty(site: MeteredSite) -> None:
    site.exporter.misbehave(drop=["ipmi_temperature_celsius"])
    site.prometheus.wait_for_series("absent(ipmi_temperature_celsius)")


def go_slow(site: MeteredSite) -> None:
    site.relay.hang = True


def go_absurd(site: MeteredSite) -> None:
    site.exporter.misbehave(absurd={"ipmi_temperature_celsius": 900})
    site.prometheus.wait_for_series("min(ipmi_temperature_celsius) > 800")


@pytest.mark.parametrize(
    ("go_bad", "words", "delay_s"),
    [
        (go_down, "cannot be reached", 12),
        (go_empty, "no series", 12),
        (go_absurd, "900", 12),
        (go_slow, "no answer in time", 30),
    ],
    ids=["down", "empty", "absurd", "slow"],
)
def test_a_sensor_that_cannot_be_trusted_counts_at_its_worst_and_only_until_the_bound(
    site: MeteredSite, go_bad: Callable[[MeteredSite], None], words: str, delay_s: int
):
    site.weather(CLEAN)
    go_bad(site)
    site.hold()
    room = f"room-{words.replace(' ', '-')}"
    hot_zone(site, room, supplyWorstCelsius=30)
    site.condition_when("thermalzone", room, "SensorsTrusted", "False", words)
    made = site.train(zone="west", max_delay=f"{delay_s}s")
    held = site.plan_when(state="Held")
    assert held["status"]["reason"] in ("SensorUntrusted", "HeatLimit")
    if site.relay.hang:
        before, began = site.turns(), time.monotonic()
        until(lambda: site.turns() >= before + 2, "two more turns end", HANG_S - 5)
        assert time.monotonic() - began < HANG_S - 5
    assert site.plan_when(state="Released")["status"]["reason"] == "BoundReached"
    assert released_at(site) <= moment(made["metadata"]["creationTimestamp"]) + timedelta(seconds=delay_s)
    site.is_well()
    if site.relay.hang:
        # It has learned to expect slow turns, and would let the next tests' work go long before its bound.
        site.stop()


def test_why_says_in_words_that_a_job_waits_for_heat(site: MeteredSite):
    site.weather(CLEAN)
    site.hold()
    site.exporter.misbehave()
    # Four idle nodes already make more heat than the row may.
    hot_zone(site, "narrow", capacityKilowatts=10)
    site.train("warm", zone="west", gpus=1, max_delay="10m")
    plan = site.plan_when("warm", state="Held")
    assert plan["status"]["reason"] == "HeatLimit"
    environment = {**os.environ, "KUBECONFIG": str(site.plane.kubeconfig), "TZ": "UTC"}
    command = [str(Path(sys.executable).parent / "embellie"), "why", "job/warm", "-n", site.namespace]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    why = next(line for line in done.stdout.splitlines() if line.startswith("Why: "))
    assert "at worst narrow would carry" in why or "take a thermal zone over its limit" in why
    assert "(HeatLimit)" in why
    status = site.get("thermalzone", "narrow")["status"]
    assert (status["state"], status["bindingLimit"]) == ("Limited", "CoolingCapacity")
    assert "narrow" in site.plane.kubectl("get", "tz")


def test_a_hot_reading_holds_past_the_bound_loudly_and_no_longer_than_it_is_hot_or_may(site: MeteredSite):
    site.weather(CLEAN)
    site.hold()
    site.exporter.misbehave(absurd={"ipmi_temperature_celsius": 40})
    hot_zone(site, "hot")
    site.condition_when("thermalzone", "hot", "WithinLimit", "False")
    site.train("patient", zone="west", gpus=1, max_delay="4s")
    held = site.plan_when("patient", state="HeldByLimit")
    assert held["status"]["reason"] == "LimitReading"
    assert "40.0" in held["status"]["message"]
    bound = moment(held["spec"]["latestStartTime"])

    def warned() -> bool:
        events = site.get("events", "-n", site.namespace)["items"]
        return any((e["reason"], e["type"]) == ("HeldByLimit", "Warning") for e in events)

    until(warned, "a Warning tells that a limit holds")
    site.plan_when("patient", state="Released")
    assert timedelta(seconds=1) < released_at(site, "patient") - bound <= timedelta(seconds=LIMIT_HOLD_S)

    site.train("lucky", zone="west", gpus=1, max_delay="4s")
    bound = moment(site.plan_when("lucky", state="HeldByLimit")["spec"]["latestStartTime"])
    site.exporter.misbehave()
    site.plan_when("lucky", state="Released")
    assert released_at(site, "lucky") - bound < timedelta(seconds=LIMIT_HOLD_S)


def test_a_held_job_that_enters_a_kueue_queue_is_handed_over_as_it_is(site: MeteredSite):
    site.hold()
    site.train(duration="1h")
    site.plan_when(state="Held")
    site.plane.kubectl("label", "job", "train", "-n", site.namespace, "kueue.x-k8s.io/queue-name=team-queue")
    plan = site.plan_when(state="HandedOff")
    assert "team-queue" in plan["status"]["message"]
    until(lambda: "embellie.io/held" not in site.job()["metadata"]["labels"], "our marker is taken off")
    assert site.job()["spec"]["suspend"] is True
    assert "embellie.io/released-at" not in site.job()["metadata"]["annotations"]


def test_a_held_pod_that_enters_a_kueue_queue_loses_our_gate_and_keeps_kueues(site: MeteredSite):
    site.hold()
    admission = {"name": "kueue.x-k8s.io/admission"}
    site.create(pod("probe", site.namespace, spec={"schedulingGates": [admission]}, duration="1h"))
    site.plan_when("probe", kind="pod", state="Held")
    # As Kueue's webhook does after our policies, where a namespace has a LocalQueue named default. Held on, the pod
    # would take Kueue's quota for hours, and be deleted where Kueue waits for its pods to be ready.
    site.plane.kubectl("label", "pod", "probe", "-n", site.namespace, "kueue.x-k8s.io/queue-name=default")
    plan = site.plan_when("probe", kind="pod", state="HandedOff")
    assert "default" in plan["status"]["message"]
    until(lambda: site.pod("probe")["spec"]["schedulingGates"] == [admission], "our gate is taken off")
    assert site.pod("probe")["metadata"]["labels"].keys() == {"embellie.io/flex", "kueue.x-k8s.io/queue-name"}


def test_a_held_pod_that_a_controller_adopts_is_still_ours_to_start(site: MeteredSite):
    site.hold()
    labelled = pod("orphan", site.namespace, duration="1h", spec={"restartPolicy": "Always"})
    labelled["metadata"]["labels"]["app"] = "adopts"
    site.create(labelled)
    site.plan_when("orphan", kind="pod", state="Held")
    template = {"metadata": {"labels": {"app": "adopts"}}, "spec": labelled["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "adopts"}}, "template": template}
    meta = {"name": "adopter", "namespace": site.namespace}
    body = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta, "spec": spec}
    site.plane.kubectl("apply", "-f", "-", input=json.dumps(body))
    until(lambda: site.pod("orphan")["metadata"].get("ownerReferences"), "the ReplicaSet has adopted it")
    site.weather(CLEAN)
    until(lambda: not site.pod("orphan")["spec"].get("schedulingGates"), "it is released")
    site.plane.kubectl("delete", "replicaset", "adopter", "-n", site.namespace)


def test_work_deleted_or_replaced_between_plan_and_write_is_left_alone(site: MeteredSite):
    site.hold()
    for name in ("gone", "replaced"):
        site.train(name, gpus=1, duration="1h")
        site.plan_when(name, state="Held")
    assert site.operator is not None
    site.plane.processes.signal(site.operator.name, signal.SIGSTOP)
    try:
        for name in ("gone", "replaced"):
            site.plane.kubectl("delete", "job", name, "-n", site.namespace)
        # The new one asks for more than the west has: decided about by itself, it gets an answer of its own.
        anew = site.train("replaced", zone="west", pods=5)
        site.weather(CLEAN)
    finally:
        site.plane.processes.signal(site.operator.name, signal.SIGCONT)

    def recorded_anew() -> bool:
        plan = site.plan("replaced")
        known = plan.get("spec", {}).get("workloadRef", {}).get("uid") == anew["metadata"]["uid"]
        return known and plan.get("status", {}).get("reason") == "NoZone"

    until(recorded_anew, "the new object of the old name has a plan of its own")
    until(lambda: not site.plan("gone"), "the plan goes with its workload")
    site.is_well()


def test_a_clock_that_jumps_moves_no_bound_to_a_later_time(site: MeteredSite):
    def jumped(days: float) -> str:
        now = datetime.now(UTC)
        return f"--clock=replay:{(now + timedelta(days=days)).isoformat()},{now.isoformat()},1"

    site.hold()
    site.train(duration="1h")
    first = moment(site.plan_when(state="Held")["spec"]["latestStartTime"])

    site.weather(dirty_now_clean_later(), now=datetime.now(UTC) - timedelta(days=400))
    site.stop()
    site.start(jumped(-400))
    site.wait_for_switch()
    site.train("later", duration="1h")
    site.plan_when("later", state="Held")
    assert site.job()["spec"]["suspend"] is True
    assert moment(site.plan()["spec"]["latestStartTime"]) <= first

    site.stop()
    began = time.monotonic()
    site.start(jumped(400))
    for name in ("train", "later"):
        assert site.plan_when(name, state="Released")["status"]["reason"] == "BoundReached"
    assert time.monotonic() - began < 25
    assert moment(site.plan()["spec"]["latestStartTime"]) <= first
    site.is_well()
    site.stop()
