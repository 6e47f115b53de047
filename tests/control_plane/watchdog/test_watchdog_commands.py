# SPDX-License-Identifier: Apache-2.0
"""Real watchdog commands against a real API server: release, uninstall, check; and all of it with its own token."""

import signal
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from watched_cluster import (
    NAME,
    beat,
    events,
    guard_options,
    held_in,
    job_of,
    make_job,
    make_plan,
    make_pod,
    make_switch,
    released,
    watchdog,
)

from embellie.watchdog import names, switch
from embellie.watchdog.api import Api, namespaced
from embellie_testbed.processes import until

pytestmark = pytest.mark.control_plane


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
