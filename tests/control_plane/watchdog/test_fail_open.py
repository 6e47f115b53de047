# SPDX-License-Identifier: Apache-2.0
"""Fail open: whatever dies, hangs or is taken away, what is held gets out and new work starts as if we were not there.

Operator and watchdog are real processes with the tokens of the chart's ServiceAccounts.
"""

import json
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from users_work import job

from embellie.cluster.client import ApiError, KubeClient
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.processes import until
from embellie_testbed.product import (
    NAMESPACE,
    Program,
    dirty_now_clean_later,
    program,
    start_operator,
    start_watchdog,
    switch_says,
    write_forecast,
)

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(240)]

DEAD_MAN_S = 4
RELEASE_S = 6
HELD = 50


class Site:
    """A cluster in which all labelled work is held, because the forecast is bad for the next six hours."""

    def __init__(self, plane: ControlPlane, kube: KubeClient, forecasts: Path, namespace: str) -> None:
        self.plane, self.kube, self.forecasts, self.namespace = plane, kube, forecasts, namespace
        self.programs: list[Program] = []

    def operator(self, *flags: str) -> Program:
        found = start_operator(self.plane, self.forecasts, flags=("--turn-seconds=1", *flags))
        self.programs.append(found)
        return found

    def watchdog(self) -> Program:
        found = start_watchdog(self.plane, flags=(f"--dead-man-seconds={DEAD_MAN_S}", f"--release-seconds={RELEASE_S}"))
        self.programs.append(found)
        return found

    def holding(self) -> bool:
        return switch_says(self.plane).get("enabled") == "true"

    def start(self) -> Program:
        operator = self.operator()
        until(self.holding, f"the operator holds\n{operator.log()[-2000:]}")
        return operator

    def create(self, name: str, *, dry_run: bool = False, **annotations: str) -> dict:
        path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        dry = {"dryRun": "All"} if dry_run else {}
        body = job(name, self.namespace, gpus=1, **annotations)
        return self.kube.request("POST", path, body=body, params={"fieldManager": "a-user"} | dry)

    def create_many(self, count: int, prefix: str = "train") -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: self.create(f"{prefix}-{i:03}", max_delay=f"{24 - i % 12}h"), range(count)))

    def jobs(self) -> list[dict]:
        return list(self.kube.list_all(f"/apis/batch/v1/namespaces/{self.namespace}/jobs"))

    def held(self) -> list[dict]:
        return [j for j in self.jobs() if j["spec"].get("suspend")]

    def let_go(self) -> dict[str, str]:
        """Return why each Job that is not held was released; an empty reason where it was never held."""
        free = (j["metadata"] for j in self.jobs() if not j["spec"].get("suspend"))
        return {meta["name"]: meta.get("annotations", {}).get("embellie.io/release-reason", "") for meta in free}

    def plans(self, state: str) -> int:
        path = f"/apis/embellie.io/v1alpha1/namespaces/{self.namespace}/workloadplans"
        return sum(1 for p in self.kube.list_all(path) if p.get("status", {}).get("state") == state)

    def state_of(self, plan: str) -> str:
        path = f"/apis/embellie.io/v1alpha1/namespaces/{self.namespace}/workloadplans/{plan}"
        try:
            return self.kube.get(path).get("status", {}).get("state", "")
        except ApiError as error:
            if error.status != 404:
                raise
            return ""

    def lease_of(self, operator: Program) -> dict | None:
        """Return the Lease's spec when this operator leads."""
        lease = json.loads(self.plane.kubectl("get", "lease", "embellie-leader", "-n", NAMESPACE, "-o", "json"))
        return lease["spec"] if (lease["spec"].get("holderIdentity") or "").startswith(operator.name) else None

    def holds(self) -> bool:
        """Tell whether a new Job would be held: the API server notices the switch a moment after it was written."""
        return bool(self.create("probe", dry_run=True)["spec"].get("suspend"))

    def hold_fifty(self) -> None:
        until(self.holds, "the API server holds")
        self.create_many(HELD)
        assert self.let_go() == {}
        until(lambda: self.plans("Held") == HELD or self.let_go(), "every plan says Held")
        assert self.let_go() == {}


def clear(plane: ControlPlane, kube: KubeClient) -> None:
    """Leave no work of earlier modules: whatever waits or runs is planned together, and a crowd starts early."""

    def elsewhere() -> set[str]:
        work = [*kube.list_all("/apis/batch/v1/jobs"), *kube.list_all("/api/v1/pods")]
        return {each["metadata"]["namespace"] for each in work} - {NAMESPACE, "kube-system"}

    for name in elsewhere():
        plane.kubectl("delete", "jobs,pods", "--all", "-n", name, "--wait=false")
    until(lambda: not elsewhere(), "the work of earlier modules is gone")


@pytest.fixture
def site(
    gpu_cluster: ControlPlane, installed_chart: ControlPlane, kube: KubeClient, namespace: str, tmp_path: Path
) -> Iterator[Site]:
    clear(gpu_cluster, kube)
    found = Site(gpu_cluster, kube, tmp_path / "exchange", namespace)
    objects = [
        {
            "apiVersion": "embellie.io/v1alpha1",
            "kind": "GridZone",
            "metadata": {"name": zone},
            "spec": {"nodeSelector": {"topology.kubernetes.io/zone": zone}, "gridRegion": "US-CISO"},
        }
        for zone in ("west", "east")
    ]
    objects.append(
        {
            "apiVersion": "embellie.io/v1alpha1",
            "kind": "EnergyPolicy",
            "metadata": {"name": namespace},
            "spec": {"mode": "enforce", "namespaceSelector": {"matchNames": [namespace]}},
        }
    )
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    gpu_cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(listed))
    for zone in ("west", "east"):
        write_forecast(found.forecasts, zone, dirty_now_clean_later())
    yield found
    for program_ in found.programs:
        if program_.running():
            program_.stop(number=signal.SIGKILL)
    gpu_cluster.kubectl("delete", "gridzones,energypolicies", "--all", "--wait=true")
    gpu_cluster.kubectl("delete", "jobs", "--all", "-n", namespace, "--wait=false")
    gpu_cluster.kubectl("delete", "leases", "--all", "-n", NAMESPACE)
    gpu_cluster.kubectl(
        "patch", "configmap", "embellie-switch", "-n", NAMESPACE, "--type=merge",
        "-p", '{"data":{"enabled":"false","locked":"false","namespaces":","}}',
    )  # fmt: skip


def assert_all_out_and_new_work_starts(site: Site, within_s: float) -> None:
    until(lambda: not site.held(), "everything held is released", within_s)
    assert switch_says(site.plane)["enabled"] == "false"
    assert site.create("newcomer")["spec"].get("suspend") is False
    assert not any("embellie.io/held" in j["metadata"]["labels"] for j in site.jobs())


def test_after_kill_minus_nine_of_the_operator_all_that_it_held_is_released(site: Site):
    operator = site.start()
    site.watchdog()
    site.hold_fifty()
    operator.stop(number=signal.SIGKILL)
    assert_all_out_and_new_work_starts(site, DEAD_MAN_S + RELEASE_S + 10)


def test_a_hung_operator_is_a_dead_one(site: Site):
    operator = site.start()
    site.watchdog()
    site.hold_fifty()
    site.plane.processes.signal(operator.name, signal.SIGSTOP)
    assert_all_out_and_new_work_starts(site, DEAD_MAN_S + RELEASE_S + 10)
    site.plane.processes.signal(operator.name, signal.SIGCONT)


def test_an_operator_that_may_not_release_any_more_is_a_dead_one_until_it_may_again(site: Site):
    role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/embellie-operator"
    rules = site.kube.get(role)["rules"]
    fewer = [{**r, "verbs": [v for v in r["verbs"] if v != "patch" or r["apiGroups"] != ["batch"]]} for r in rules]
    site.start()
    site.watchdog()
    until(site.holds, "the API server holds")
    for name, bound in (("soon", "5s"), ("later", "5h")):
        site.create(name, max_delay=bound)
    try:
        site.kube.json_patch(role, [{"op": "replace", "path": "/rules", "value": fewer}])
        assert_all_out_and_new_work_starts(site, 5 + DEAD_MAN_S + RELEASE_S + 15)
    finally:
        site.kube.json_patch(role, [{"op": "replace", "path": "/rules", "value": rules}])
    until(site.holding, "it holds again")


def test_the_earliest_bound_gets_out_first_and_the_releases_are_paced(site: Site):
    operator = site.start()
    site.watchdog()
    site.hold_fifty()
    operator.stop(number=signal.SIGKILL)
    until(lambda: len(site.held()) < HELD, "the sweep begins", DEAD_MAN_S + 15)
    began = time.monotonic()
    until(lambda: not site.held(), "the sweep ends", RELEASE_S + 15)
    assert time.monotonic() - began > RELEASE_S / 2
    order = sorted(site.jobs(), key=lambda j: j["metadata"]["annotations"]["embellie.io/released-at"])
    hours = [int(j["metadata"]["annotations"]["embellie.io/max-delay"].rstrip("h")) for j in order]
    assert sum(hours[:10]) < sum(hours[-10:])


def test_with_operator_and_watchdog_dead_nothing_is_lost_and_a_restart_takes_over(site: Site):
    operator, watchdog = site.start(), site.watchdog()
    site.hold_fifty()
    site.create("urgent", max_delay="10s")
    for one in (operator, watchdog):
        one.stop(number=signal.SIGKILL)
    time_of_death = time.monotonic()
    until(lambda: time.monotonic() - time_of_death > 11, "the urgent bound passes while nobody is there")
    assert len(site.held()) == HELD + 1
    site.operator()
    until(lambda: "urgent" not in {j["metadata"]["name"] for j in site.held()}, "the urgent job starts at once", 30)
    assert len(site.held()) == HELD
    assert site.plans("Held") == HELD


def test_uninstalling_leaves_nothing_held_though_the_operator_is_alive(site: Site):
    operator = site.start()
    site.hold_fifty()
    config = site.plane.kubeconfig_for(NAMESPACE, "embellie-watchdog")
    argv = [program("embellie-watchdog"), "uninstall", f"--namespace={NAMESPACE}", "--name=embellie"]
    site.plane.processes.start("uninstall", [*argv, f"--release-seconds={RELEASE_S}", f"--kubeconfig={config}"])
    until(lambda: site.plane.processes.exit_code("uninstall") is not None, "the sweep ends", RELEASE_S + 30)
    assert site.plane.processes.exit_code("uninstall") == 0, site.plane.processes.log_tail("uninstall")
    assert operator.running()
    assert site.held() == []
    assert switch_says(site.plane)["locked"] == "true"
    assert site.create("newcomer")["spec"].get("suspend") is False


def test_jobs_created_while_the_switch_goes_off_are_not_left_behind(site: Site):
    operator = site.start()
    site.watchdog()
    operator.stop(number=signal.SIGKILL)
    stop = threading.Event()
    made: list[bool] = []

    def keep_creating() -> None:
        while not stop.is_set():
            made.append(bool(site.create(f"racer-{len(made):04}")["spec"].get("suspend")))

    creator = threading.Thread(target=keep_creating)
    creator.start()
    until(lambda: switch_says(site.plane).get("enabled") == "false", "the watchdog turns the switch off", 30)
    until(lambda: made and not made[-1], "creations come through unheld")
    stop.set()
    creator.join()
    assert any(made)
    until(lambda: not site.held(), "those that were held are swept", RELEASE_S + 20)


def test_a_stopped_operator_turns_the_switch_off(site: Site):
    operator = site.start()
    assert operator.stop() == 0
    assert switch_says(site.plane)["enabled"] == "false"
    assert site.create("newcomer")["spec"].get("suspend") is False


def test_a_lease_passes_within_twenty_seconds_and_two_operators_never_act_twice(site: Site):
    first = site.start()
    second = site.operator()
    site.hold_fifty()
    until(lambda: "complete snapshot" in second.log(), "the second stands by", 60)
    killed_at = datetime.now(UTC)
    first.stop(number=signal.SIGKILL)
    site.create("urgent", max_delay="5s")

    # As the Lease itself tells it: asking for it takes seconds on a busy machine.
    taken_over_at = datetime.fromisoformat(until(lambda: site.lease_of(second), "the second takes over")["acquireTime"])
    assert (taken_over_at - killed_at).total_seconds() < 20
    until(lambda: "urgent" not in {j["metadata"]["name"] for j in site.held()}, "it acts", 15)
    assert len(site.held()) == HELD
    events = site.kube.list_all(f"/apis/events.k8s.io/v1/namespaces/{site.namespace}/events")
    releases = [e["regarding"]["name"] for e in events if e["reason"] == "Released"]
    assert releases.count("urgent") <= 1
    assert second.running()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_when_all_operators_are_replaced_at_once_what_is_held_stays_held(site: Site, how: signal.Signals):
    first, second = site.start(), site.operator()
    site.hold_fifty()
    until(lambda: "complete snapshot" in second.log(), "the second stands by", 60)
    for one in (second, first):
        one.stop(number=how)
    # A new Pod has no forecast yet, and its forecaster needs a while.
    shutil.rmtree(site.forecasts)
    site.forecasts.mkdir()
    news = [site.operator(), site.operator()]
    until(lambda: any(map(site.lease_of, news)), "one of the new ones leads", 60)
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 15 or site.let_go(), "turns go by without a forecast", 30)
    assert site.let_go() == {}
    for zone in ("west", "east"):
        write_forecast(site.forecasts, zone, dirty_now_clean_later())
    until(site.holds, "new work is held again", 60)
    until(lambda: site.plans("Held") == HELD or site.let_go(), "every plan says Held")
    assert site.let_go() == {}
    assert len(site.held()) == HELD


def test_the_api_server_may_restart_under_load(site: Site):
    operator = site.start()
    watchdog = site.watchdog()
    site.hold_fifty()
    stop = threading.Event()
    failures = 0

    def load() -> None:
        nonlocal failures
        number = 0
        while not stop.is_set():
            try:
                site.create(f"load-{number:04}", max_delay="6s")
                number += 1
            except ApiError:
                failures += 1
                stop.wait(0.2)

    creator = threading.Thread(target=load)
    creator.start()
    site.plane.restart_apiserver()
    # While work reaches its bound without end, what waits still gets its answer.
    site.create("afterwards", max_delay="20h")
    until(lambda: site.state_of("job-afterwards"), "the operator goes on", 60)
    stop.set()
    creator.join()
    assert operator.running(), operator.log()[-3000:]
    assert watchdog.running(), watchdog.log()[-3000:]

    def loaded_are_out() -> bool:
        return not any(j["metadata"]["name"].startswith("load-") for j in site.held())

    until(loaded_are_out, "what reached its bound meanwhile is released", 45)
    assert "OperatorLost" not in site.let_go().values()
