# SPDX-License-Identifier: Apache-2.0
"""Real watchdog processes against a real API server: who is released, in which order, and who stops it."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from embellie.watchdog import names, switch
from embellie.watchdog.api import Api, ApiError, UnreachableError, connect, namespaced
from embellie.watchdog.lease import lease_path, micro_time, read_lease
from embellie.watchdog.sweep import list_held
from embellie_testbed.processes import until

pytestmark = pytest.mark.control_plane

NAME = "embellie"


@pytest.fixture
def api(control_plane: Any) -> Api:
    return connect(Path(control_plane.kubeconfig))


def make_job(api: Api, namespace: str, name: str, *, held: bool = True, **annotations: str) -> dict[str, Any]:
    labels = {"embellie.io/flex": "patient"} | ({names.HELD_LABEL: "true"} if held else {})
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "train"}]}
    meta = {"name": name, "labels": labels, "annotations": {k.replace("_", "/", 1): v for k, v in annotations.items()}}
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta,
        "spec": {"suspend": True, "template": {"spec": pod}},
    }
    return api.create(namespaced("apis/batch/v1", namespace, "jobs"), body)


def make_pod(api: Api, namespace: str, name: str, *gates: str) -> dict[str, Any]:
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {names.HELD_LABEL: "true", "embellie.io/flex": "patient"}},
        "spec": {"schedulingGates": [{"name": g} for g in gates], "containers": [{"name": "c", "image": "train"}]},
    }
    return api.create(namespaced("api/v1", namespace, "pods"), body)


def make_plan(api: Api, job: dict[str, Any], latest_start: datetime) -> None:
    meta = job["metadata"]
    ref = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"]}
    spec = {
        "workloadRef": ref,
        "latestStartTime": latest_start.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "policyName": "p",
        "mode": "enforce",
    }
    body = {
        "apiVersion": "embellie.io/v1alpha1",
        "kind": "WorkloadPlan",
        "metadata": {"name": f"job-{meta['name']}"},
        "spec": spec,
    }
    api.create(namespaced("apis/embellie.io/v1alpha1", meta["namespace"], "workloadplans"), body)


def make_switch(api: Api, namespace: str, **data: str) -> None:
    values = {"enabled": "true", "locked": "false", "namespaces": f",{namespace},", **data}
    meta = {"name": names.switch_name(NAME)}
    api.create(
        namespaced("api/v1", namespace, "configmaps"),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": values},
    )


def beat(api: Api, namespace: str, age_seconds: float = 0.0) -> None:
    """Complete a turn, as the operator would."""
    spec = {
        "holderIdentity": "operator",
        "renewTime": micro_time(datetime.now(UTC) - timedelta(seconds=age_seconds)),
        "leaseDurationSeconds": 120,
    }
    if read_lease(api, namespace, names.heartbeat_name(NAME)):
        api.merge_patch(lease_path(namespace, names.heartbeat_name(NAME)), {"spec": spec})
        return
    meta = {"name": names.heartbeat_name(NAME)}
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
    api.create(lease_path(namespace), body)


def job_of(api: Api, namespace: str, name: str) -> dict[str, Any]:
    return api.get(namespaced("apis/batch/v1", namespace, "jobs", name))


def released(api: Api, namespace: str, name: str) -> bool:
    job = job_of(api, namespace, name)
    return job["spec"]["suspend"] is False and names.HELD_LABEL not in job["metadata"]["labels"]


def events(api: Api, namespace: str, reason: str = names.EVENT_REASON) -> list[dict[str, Any]]:
    found = [e for e in api.list(namespaced("apis/events.k8s.io/v1", namespace, "events")) if e.get("reason") == reason]
    return sorted(found, key=lambda e: str(e["eventTime"]))


def held_in(api: Api, namespace: str) -> list[str]:
    return [h.name for h in list_held(api) if h.namespace == namespace]


@contextmanager
def watchdog(
    control_plane: Any, log: Path, verb: str, namespace: str, *more: str, kubeconfig: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    with log.open("w") as out:
        command = [sys.executable, "-m", "embellie.watchdog.main", verb, "--namespace", namespace]
        process = subprocess.Popen(
            [*command, "--kubeconfig", str(kubeconfig or control_plane.kubeconfig), *more],
            stdout=subprocess.PIPE,
            stderr=out,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def guard_options(dead_man: float = 2.0, release: float = 5.0, identity: str = "one") -> list[str]:
    seconds = ["--dead-man-seconds", str(dead_man), "--release-seconds", str(release)]
    return [*seconds, "--health-port", "0", "--identity", identity]


def test_when_the_heartbeat_stops_all_is_released_earliest_latest_start_first(
    control_plane: Any, api: Api, namespace: str, tmp_path: Path
) -> None:
    make_switch(api, namespace)
    beat(api, namespace)
    day = datetime(2030, 1, 1, tzinfo=UTC)
    for index in range(15):  # created in the order of falling latest starts
        make_plan(api, make_job(api, namespace, f"j{index:02d}"), day - timedelta(hours=index))
    make_job(api, namespace, "without-a-plan")
    make_pod(api, namespace, "pod", names.GATE, "other.io/gate")
    users = make_job(api, namespace, "suspended-by-its-user", held=False)
    with watchdog(control_plane, tmp_path / "log", "run", namespace, *guard_options()):
        until(lambda: not held_in(api, namespace), "nothing is held")
        until(lambda: len(events(api, namespace)) == 17, "17 events")
    first, *_, last = (datetime.fromisoformat(e["eventTime"]) for e in events(api, namespace))
    assert timedelta(seconds=2.5) < last - first < timedelta(seconds=6), "the releases were not paced"
    state = switch.read(api, namespace, NAME)
    assert (state.enabled, state.locked) == (False, False)
    order = [e["regarding"]["name"] for e in events(api, namespace)]
    assert set(order[:2]) == {"without-a-plan", "pod"}
    assert order[2:] == [f"j{index:02d}" for index in reversed(range(15))]
    job = job_of(api, namespace, "j00")
    assert job["metadata"]["annotations"][names.RELEASE_REASON] == "OperatorLost"
    assert job["spec"]["suspend"] is False
    pod = api.get(namespaced("api/v1", namespace, "pods", "pod"))
    assert [g["name"] for g in pod["spec"]["schedulingGates"]] == ["other.io/gate"]
    untouched = job_of(api, namespace, "suspended-by-its-user")
    assert untouched["metadata"]["managedFields"] == users["metadata"]["managedFields"] or untouched["spec"]["suspend"]
    assert untouched["spec"]["suspend"] is True


def test_while_the_heart_beats_nothing_is_touched_and_sigterm_ends_it_within_two_seconds(
    control_plane: Any, api: Api, namespace: str, tmp_path: Path
) -> None:
    make_switch(api, namespace)
    make_job(api, namespace, "held")
    log = tmp_path / "log"
    beat(api, namespace)
    with watchdog(control_plane, log, "run", namespace, *guard_options()) as process:
        until(lambda: "leadership-won" in log.read_text(), "it leads")
        for _ in range(10):
            beat(api, namespace)
            time.sleep(0.5)  # the beat's own period
        assert not released(api, namespace, "held")
        assert switch.read(api, namespace, NAME).enabled
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == 0
        assert time.monotonic() - begun < 2.0
    lease = api.get(lease_path(namespace, names.election_name(NAME)))
    assert not lease["spec"].get("holderIdentity"), "it did not hand over"


def test_a_heartbeat_that_comes_back_stops_the_sweep(
    control_plane: Any, api: Api, namespace: str, tmp_path: Path
) -> None:
    make_switch(api, namespace)
    beat(api, namespace, age_seconds=3600)
    for index in range(60):
        make_job(api, namespace, f"j{index:02d}")
    log, stop = tmp_path / "log", threading.Event()
    with watchdog(control_plane, log, "run", namespace, *guard_options(release=60)):
        until(lambda: "released" in log.read_text(), "it releases")

        def live() -> None:
            while not stop.wait(0.3):
                beat(api, namespace)

        heart = threading.Thread(target=live)
        heart.start()
        try:
            until(lambda: "sweep-ended" in log.read_text(), "the sweep ends")
            left = len(held_in(api, namespace))
            until(lambda: "heartbeat-returned" in log.read_text(), "the heartbeat is back")
            assert 30 < left < 60
            assert len(held_in(api, namespace)) == left
        finally:
            stop.set()
            heart.join()


def test_creations_that_race_the_switch_are_released_too(
    control_plane: Any, api: Api, namespace: str, tmp_path: Path
) -> None:
    make_switch(api, namespace)
    beat(api, namespace, age_seconds=3600)
    make_job(api, namespace, "first")
    with watchdog(control_plane, tmp_path / "log", "run", namespace, *guard_options()):
        until(lambda: released(api, namespace, "first"), "the first is released")
        make_job(api, namespace, "late")
        until(lambda: released(api, namespace, "late"), "the late one is released")
        until(lambda: '"clean": true' in (tmp_path / "log").read_text(), "the sweep is clean")
        make_job(api, namespace, "later-still")
        until(lambda: released(api, namespace, "later-still"), "the last one is released")


def test_of_two_watchdogs_one_acts_and_the_other_takes_over(
    control_plane: Any, api: Api, namespace: str, tmp_path: Path
) -> None:
    make_switch(api, namespace)
    beat(api, namespace, age_seconds=3600)
    for index in range(20):
        make_job(api, namespace, f"j{index:02d}")
    one, two = tmp_path / "one", tmp_path / "two"
    with (
        watchdog(control_plane, one, "run", namespace, *guard_options(identity="one")) as first,
        watchdog(control_plane, two, "run", namespace, *guard_options(identity="two")) as second,
    ):
        until(lambda: not held_in(api, namespace), "nothing is held")
        until(lambda: len(events(api, namespace)) >= 20, "20 events")
        acted = [log for log in (one, two) if '"released"' in log.read_text()]
        assert len(acted) == 1
        assert len(events(api, namespace)) == 20
        leader = first if acted == [one] else second
        leader.kill()
        make_job(api, namespace, "after-the-leader")
        until(lambda: released(api, namespace, "after-the-leader"), "the last one is released", 25.0)


def test_an_api_server_that_restarts_in_the_middle_is_waited_for(
    control_plane: Any, api: Api, namespace: str, tmp_path: Path
) -> None:
    make_switch(api, namespace)
    beat(api, namespace, age_seconds=3600)
    for index in range(40):
        make_job(api, namespace, f"j{index:02d}")
    log = tmp_path / "log"
    with watchdog(control_plane, log, "run", namespace, *guard_options(release=30)) as process:
        until(lambda: '"released"' in log.read_text(), "it releases")
        control_plane.restart_apiserver()
        fresh = connect(Path(control_plane.kubeconfig))

        def empty() -> bool:
            try:
                return not held_in(fresh, namespace)
            except (ApiError, UnreachableError):
                return False

        until(empty, "nothing is left", 90.0)
        assert process.poll() is None


def test_a_sweep_keeps_every_workload_inside_its_residency(
    control_plane: Any, api: Api, namespace: str, tmp_path: Path
) -> None:
    zone = {
        "apiVersion": "embellie.io/v1alpha1",
        "kind": "GridZone",
        "metadata": {"name": namespace},
        "spec": {"nodeSelector": {"grid": namespace}, "jurisdiction": "FR"},
    }
    zones = "/apis/embellie.io/v1alpha1/gridzones"
    api.create(zones, zone)
    make_job(api, namespace, "french", **{"embellie.io_residency": "FR"})
    make_job(api, namespace, "martian", **{"embellie.io_residency": "MARS/1"})
    try:
        with watchdog(control_plane, tmp_path / "log", "release", namespace, "--all") as process:
            assert process.wait(timeout=60) == 0
    finally:
        api.call("DELETE", f"{zones}/{namespace}")

    def terms(name: str) -> Any:
        spec = job_of(api, namespace, name)["spec"]["template"]["spec"]
        return spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]

    french = [e for t in terms("french") for e in t["matchExpressions"]]
    assert any(e["key"] == "grid" and namespace in e["values"] for e in french)
    assert terms("martian") == [
        {"matchExpressions": [{"key": "embellie.io/residency", "operator": "In", "values": ["MARS-1"]}]}
    ]
    assert released(api, namespace, "martian")


def test_an_uninstall_beside_a_live_operator_leaves_nothing_held(
    control_plane: Any, api: Api, namespace: str, tmp_path: Path
) -> None:
    make_switch(api, namespace)
    for index in range(50):
        make_job(api, namespace, f"j{index:02d}")
    stop = threading.Event()
    held_late: list[str] = []

    def live_operator() -> None:
        """Re-enables each turn, and the admission holds new work as long as the switch is not locked."""
        while not stop.wait(0.2):
            api.merge_patch(switch.path(namespace, NAME), {"data": {"enabled": "true"}})
            state = switch.read(api, namespace, NAME)
            if state.enabled and not state.locked and len(held_late) < 100:
                held_late.append(f"late-{len(held_late)}")
                make_job(api, namespace, held_late[-1])

    operator = threading.Thread(target=live_operator)
    operator.start()
    try:
        until(lambda: held_late, "one more is held")
        seconds = ["--release-seconds", "5", "--timeout-seconds", "60"]
        with watchdog(control_plane, tmp_path / "log", "uninstall", namespace, *seconds) as process:
            out, _ = process.communicate(timeout=90)
            assert process.returncode == 0, out
    finally:
        stop.set()
        operator.join()
    assert "nothing is held any more" in out
    assert not held_in(api, namespace)
    assert switch.read(api, namespace, NAME).locked
    assert events(api, namespace, "Uninstalled")


def test_an_uninstall_that_cannot_finish_says_so(control_plane: Any, api: Api, namespace: str, tmp_path: Path) -> None:
    make_switch(api, namespace)
    for index in range(20):
        make_job(api, namespace, f"j{index:02d}")
    seconds = ["--release-seconds", "60", "--timeout-seconds", "1"]
    with watchdog(control_plane, tmp_path / "log", "uninstall", namespace, *seconds) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "still held" in out
    assert "rescue-by-hand" in out


def test_the_check_names_what_is_wrong_and_what_to_do(
    control_plane: Any, api: Api, namespace: str, tmp_path: Path
) -> None:
    def check(*more: str) -> tuple[int, str]:
        with watchdog(control_plane, tmp_path / "log", "check", namespace, "--wait-seconds", "0.5", *more) as process:
            out, _ = process.communicate(timeout=30)
        return process.returncode, out

    code, out = check()
    assert code == 1
    assert "helm upgrade" in out
    make_switch(api, namespace)
    assert check()[0] == 0
    assert check("--heartbeat-within=120")[0] == 1
    beat(api, namespace)
    code, out = check("--heartbeat-within=120")
    assert (code, out.count("ok ")) == (0, 3)


def test_the_check_does_not_take_a_beat_of_long_ago_for_a_sign_of_life(
    control_plane: Any, api: Api, namespace: str, tmp_path: Path
) -> None:
    make_switch(api, namespace)
    beat(api, namespace, age_seconds=3600.0)
    options = ["--wait-seconds", "0.5", "--heartbeat-within=120"]
    with watchdog(control_plane, tmp_path / "log", "check", namespace, *options) as process:
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "not within 120 s of now" in out


def test_its_own_token_and_the_fence_let_it_do_all_of_its_work(
    installed_chart: Any, api: Api, namespace: str, tmp_path: Path
) -> None:
    system = "embellie-system"
    token = installed_chart.kubeconfig_for(system, "embellie-watchdog")
    log = tmp_path / "log"
    job = make_job(api, namespace, "job", **{"embellie.io_residency": "FR"})
    make_plan(api, job, datetime(2030, 1, 1, tzinfo=UTC))
    make_pod(api, namespace, "pod", "other.io/gate", names.GATE)
    api.merge_patch(switch.path(system, NAME), {"data": {"enabled": "true"}})
    with watchdog(installed_chart, log, "check", system, kubeconfig=token) as process:
        assert process.wait(timeout=60) == 0, log.read_text()
    with watchdog(installed_chart, log, "run", system, *guard_options(), kubeconfig=token) as process:
        until(lambda: not held_in(api, namespace), log.read_text())
        until(lambda: len(events(api, namespace)) == 2, log.read_text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == 0
    assert not switch.read(api, system, NAME).enabled
    # Namespaces of earlier tests may be on their way out, and take no events.
    lines = [line for line in log.read_text().splitlines() if "being terminated" not in line]
    assert not [line for line in lines if "forbidden" in line.lower() or "failed" in line]
    pod = api.get(namespaced("api/v1", namespace, "pods", "pod"))
    assert [g["name"] for g in pod["spec"]["schedulingGates"]] == ["other.io/gate"]
