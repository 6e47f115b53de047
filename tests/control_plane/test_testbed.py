# SPDX-License-Identifier: Apache-2.0
"""The testbed itself: what it starts is real, and what it starts is gone afterwards."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from embellie_testbed.controlplane import CommandError, ControlPlane
from embellie_testbed.exporter import start_exporter
from embellie_testbed.kubelet import start_kubelet
from embellie_testbed.paths import REPOSITORY
from embellie_testbed.processes import Processes, ProgramError, until
from embellie_testbed.prometheus import start_prometheus

pytestmark = pytest.mark.control_plane

TOOLS = REPOSITORY / "tools"


def job(name: str, *, gpus: int = 8, pods: int = 1, **annotations: str) -> str:
    notes = {f"testbed.embellie.io/{key.replace('_', '-')}": text for key, text in annotations.items()}
    container = {"name": "train", "image": "train", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    template = {"metadata": {"annotations": notes}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    body = {"completions": pods, "parallelism": pods, "template": template}
    return json.dumps({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": body})


def test_two_control_planes_run_side_by_side_and_do_not_see_each_other(control_plane: ControlPlane) -> None:
    with ControlPlane.start() as other:
        assert other.server != control_plane.server
        other.kubectl("create", "namespace", "only-in-the-other")
        assert "only-in-the-other" in other.kubectl("get", "namespaces")
        assert "only-in-the-other" not in control_plane.kubectl("get", "namespaces")
        directory = other.directory
    assert not directory.exists()


OWNER = """
import signal, sys, time
# Started in the background of a shell, a process ignores SIGINT from birth.
signal.signal(signal.SIGINT, signal.default_int_handler)
from embellie_testbed.controlplane import ControlPlane
with ControlPlane.start(scheduler=True, kwok=True) as plane:
    print(plane.directory, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_when_the_owning_process_is_signalled(number: signal.Signals) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={"PYTHONPATH": str(TOOLS), **_environment()},
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    with owner.stdin, owner.stdout:
        directory = Path(owner.stdout.readline().strip())
        assert directory.is_dir()
        family = psutil.Process(owner.pid).children(recursive=True)
        names = {process.name() for process in family}
        assert {"etcd", "kube-apiserver", "kube-controller", "kube-scheduler", "kwok"} <= {
            n[:15] for n in names
        } | names
        owner.send_signal(number)
        owner.wait(timeout=30)
    until(
        lambda: not any(process.is_running() and process.status() != "zombie" for process in family),
        "all processes end",
        10.0,
    )
    until(lambda: not directory.exists(), "the folder is gone", 10.0)


def test_nothing_runs_on_when_the_keeper_is_killed() -> None:
    processes = Processes()
    pid = processes.start("sleeper", ["sleep", "600"])
    sleeper = psutil.Process(pid)
    keeper = sleeper.parent()
    assert keeper is not None
    keeper.kill()
    until(lambda: not psutil.pid_exists(pid) or sleeper.status() == "zombie", "it ends", 5.0)
    with pytest.raises(ProgramError, match="keeper process is gone"):
        processes.exit_code("sleeper")
    processes.close()
    assert not processes.directory.exists()


def test_a_program_that_ends_early_is_named_with_its_last_words() -> None:
    processes = Processes()
    try:
        processes.start("liar", ["sh", "-c", "echo the disk is on fire; exit 3"])
        with pytest.raises(ProgramError, match=r"(?s)liar ended with code 3.*the disk is on fire"):
            processes.wait_for("liar", lambda: False, seconds=10.0, what="it is ready")
        with pytest.raises(ProgramError, match="no-such-program"):
            processes.start("absent", ["/no-such-program"])
    finally:
        processes.close()


def test_logs_are_kept_on_failure_and_their_place_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plane = ControlPlane.start()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(CommandError, match="kubectl get nonsense ended with 1"), plane:
        plane.kubectl("get", "nonsense")
    kept = Path(capfd.readouterr().err.strip().rsplit(" ", 1)[-1])
    assert kept.is_relative_to(tmp_path)
    assert (kept / "kube-apiserver.log").read_text()
    assert not plane.directory.exists()


def test_a_job_runs_as_long_as_its_annotation_says_and_one_without_runs_on(
    gpu_cluster: ControlPlane, namespace: str
) -> None:
    kubectl = gpu_cluster.kubectl
    kubectl("create", "-n", namespace, "-f", "-", input=job("short", pods=2, run_seconds="2.5"))
    kubectl("create", "-n", namespace, "-f", "-", input=job("endless", gpus=1))
    kubectl("wait", "-n", namespace, "--for=condition=Complete", "job/short", "--timeout=30s")
    status = json.loads(kubectl("get", "job", "short", "-n", namespace, "-o", "json"))["status"]
    assert status["succeeded"] == 2
    pods = json.loads(kubectl("get", "pods", "-n", namespace, "-l", "job-name=short", "-o", "json"))["items"]
    for pod in pods:
        ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        assert 2.0 <= _seconds(ended["startedAt"], ended["finishedAt"]) <= 6.0
    phase = kubectl("get", "pods", "-n", namespace, "-l", "job-name=endless", "-o", "jsonpath={.items[*].status.phase}")
    assert phase == "Running"


def test_the_api_server_restarts_with_its_data_its_port_and_every_kubeconfig() -> None:
    with ControlPlane.start() as plane:
        plane.kubectl("create", "configmap", "survivor", "--from-literal=a=b")
        account = plane.kubeconfig_for("default", "default")
        server, admin = plane.server, plane.kubeconfig.read_bytes()
        plane.restart_apiserver()
        assert plane.server == server
        assert plane.kubeconfig.read_bytes() == admin
        assert plane.kubectl("get", "configmap", "survivor", "-o", "jsonpath={.data.a}") == "b"
        who = plane.kubectl("--kubeconfig", account, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
        assert who == "system:serviceaccount:default:default"
        with pytest.raises(CommandError, match="forbidden"):
            plane.kubectl("--kubeconfig", account, "get", "nodes")


def test_the_binaries_say_which_version_they_are(control_plane: ControlPlane) -> None:
    version = json.loads(control_plane.kubectl("version", "-o", "json"))
    assert version["serverVersion"]["gitVersion"] == version["clientVersion"]["gitVersion"]
    assert version["serverVersion"]["gitVersion"].startswith("v1.")
    assert control_plane.helm("version", "--short").startswith("v3.")
    kinds = control_plane.kubectl("api-resources", "--api-group=admissionregistration.k8s.io")
    assert "admissionregistration.k8s.io/v1 " in next(
        line for line in kinds.splitlines() if line.startswith("mutatingadmissionpolicies ")
    )


def test_a_pod_on_a_node_of_the_small_kubelet_really_runs_restarts_and_ends_in_order(
    fresh_control_plane: ControlPlane,
) -> None:
    plane = fresh_control_plane
    start_kubelet(plane, ("host-1",))
    plane.kubectl("create", "configmap", "words", "--from-literal=first=up")
    script = "trap 'echo asked to go; exit 0' TERM; echo $(cat /etc/words/first); while true; do sleep 0.1; done"
    mounts = [{"name": "words", "mountPath": "/etc/words"}]
    container = {"name": "main", "image": "none", "command": ["sh", "-c", script], "volumeMounts": mounts}
    spec = {"containers": [container], "volumes": [{"name": "words", "configMap": {"name": "words"}}]}
    pod = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "real"}, "spec": spec}
    plane.kubectl("create", "-f", "-", input=json.dumps(pod))
    plane.kubectl("wait", "--for=condition=Ready", "pod/real", "--timeout=20s")

    def container_status(field: str) -> str:
        return plane.kubectl("get", "pod", "real", "-o", f"jsonpath={{.status.containerStatuses[0].{field}}}")

    first = psutil.Process(int(container_status("containerID").removeprefix("process://")))
    first.kill()
    until(lambda: container_status("restartCount") == "1", "it is started again")
    until(lambda: plane.kubectl("logs", "real").splitlines() == ["up", "up"], "both starts are in the log")
    with pytest.raises(CommandError, match="run the command in a shell of your own"):
        plane.kubectl("exec", "real", "--", "true")
    second = psutil.Process(int(container_status("containerID").removeprefix("process://")))
    assert second.pid != first.pid
    log = Path(second.cwd()) / "logs" / "default_real_main.log"

    given_up = {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
    plane.kubectl("patch", "node", "host-1", "--subresource=status", "--patch", json.dumps(given_up))
    plane.kubectl("wait", "--for=condition=Ready", "node/host-1", "--timeout=20s")

    plane.kubectl("delete", "pod", "real", "--grace-period=20", "--timeout=15s")
    assert log.read_text().splitlines() == ["up", "up", "asked to go"]
    assert not second.is_running()


def test_metrics_follow_the_pods_that_really_run_and_prometheus_answers_for_them(
    gpu_cluster: ControlPlane, namespace: str
) -> None:
    exporter = start_exporter(gpu_cluster, ambient=12.0)
    try:
        prometheus = start_prometheus(gpu_cluster, [exporter.target])
        drawn = f'DCGM_FI_DEV_POWER_USAGE{{namespace="{namespace}"}}'
        prometheus.wait_for_series("count(DCGM_FI_DEV_POWER_USAGE)")
        prometheus.wait_for_series('max(ipmi_temperature_celsius{name="Inlet Temp"})')
        assert prometheus.query(drawn) == []

        gpu_cluster.kubectl(
            "create", "-n", namespace, "-f", "-", input=job("train", gpus=4, watts_per_gpu="620", run_seconds="6")
        )
        prometheus.wait_for_series(f"{drawn} > 600")
        series = prometheus.query(drawn)
        assert [value for _, value in series] == [620.0] * 4
        node = {labels["Hostname"] for labels, _ in series}.pop()
        ((_, power),) = prometheus.query(f'ipmi_dcmi_power_consumption_current_watts{{node="{node}"}}')
        assert 3100 + 4 * 480 * 1.03 < power < 3600 + 4 * 480 * 1.03
        ((_, facility),) = prometheus.query("sum(facility_power_watts)")
        ((_, nodes),) = prometheus.query("sum(ipmi_dcmi_power_consumption_current_watts)")
        assert 1.03 < facility / nodes < 1.4

        exporter.misbehave(absurd={"ipmi_temperature_celsius": 900})
        prometheus.wait_for_series("max(ipmi_temperature_celsius) > 800")
        exporter.misbehave()
        prometheus.wait_for_series("max(ipmi_temperature_celsius) < 60")
        prometheus.wait_for_series(f"absent({drawn})")
    finally:
        for name in ("prometheus", "exporter"):
            gpu_cluster.processes.stop(name, number=signal.SIGKILL)


def _environment() -> dict[str, str]:
    import os

    return {key: os.environ[key] for key in ("PATH", "HOME", "XDG_CACHE_HOME") if key in os.environ}


def _seconds(begin: str, end: str) -> float:
    from datetime import datetime

    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
