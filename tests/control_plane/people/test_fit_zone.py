# SPDX-License-Identifier: Apache-2.0
"""`embellie thermal fit --zone` against a real Prometheus that remembers a simulated room's last two days."""

import json
import random
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from embellie.cluster.client import KubeClient
from embellie.control.heat.identify import power_query
from embellie_testbed.ambient import Ambient
from embellie_testbed.build import binaries
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.exporter import render
from embellie_testbed.processes import until
from embellie_testbed.product import program
from embellie_testbed.prometheus import Prometheus, start_remembering
from embellie_testbed.room import TRUE_WATTS, Room

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(300)]

HOURS = 48
STEP_S = 60
ROW = "west-r1"
QUERIES = {
    "inlet": ("Inlet", f'max(ipmi_temperature_celsius{{row="{ROW}"}})'),
    "supply": ("Supply", f'max(cooling_supply_temperature_celsius{{row="{ROW}"}})'),
}
METRICS = {
    "ipmi_temperature_celsius", "ipmi_dcmi_power_consumption_current_watts", "cooling_supply_temperature_celsius",
}  # fmt: skip


def a_pod(number: int, node: str, gpus: int, watts: int) -> dict[str, Any]:
    limits = {"nvidia.com/gpu": str(gpus)}
    return {
        "metadata": {
            "uid": f"uid-{number}", "name": f"train-{number}", "namespace": "lab",
            "annotations": {TRUE_WATTS: str(watts)},
        },
        "spec": {"nodeName": node, "containers": [{"resources": {"limits": limits}}]},
        "status": {"phase": "Running"},
    }  # fmt: skip


def remembered(nodes: list[dict[str, Any]], until_s: int) -> Iterator[str]:
    """What the testbed's exporter would have said once a minute, as OpenMetrics with times; jobs come and go."""
    draw = random.Random(1)  # noqa: S311 - jobs that come and go, the same in every run
    now = datetime.fromtimestamp(until_s - HOURS * 3600, UTC)
    room = Room(now=lambda: now, ambient=Ambient(constant_c=14.0))
    row = [n for n in nodes if n["metadata"]["labels"]["example.com/row"] == ROW]
    for node in row:
        room.set_node(node)
    running: list[tuple[datetime, str]] = []
    families: dict[str, list[str]] = {}
    for number in range(HOURS * 3600 // STEP_S):
        for _, uid in [one for one in running if one[0] <= now]:
            room.remove_pod(uid)
        running = [one for one in running if one[0] > now]
        if draw.random() < 0.05:
            pod = a_pod(number, draw.choice(row)["metadata"]["name"], draw.choice((4, 8)), draw.randint(300, 700))
            room.set_pod(pod)
            running.append((now + timedelta(minutes=draw.randint(20, 240)), pod["metadata"]["uid"]))
        for line in render([s for s in room.samples() if s[0] in METRICS]).splitlines():
            name = line.partition("{")[0]
            if not line.startswith("#"):
                families.setdefault(name, []).append(f"{line} {int(now.timestamp())}")
        now += timedelta(seconds=STEP_S)
    for name, lines in families.items():
        yield f"# TYPE {name} gauge"
        yield from lines
    yield "# EOF"


@pytest.fixture(scope="module")
def nodes(gpu_cluster: ControlPlane) -> list[dict[str, Any]]:
    """Those of the row and the others, as the API server has them."""
    return json.loads(gpu_cluster.kubectl("get", "nodes", "-o", "json"))["items"]


@pytest.fixture(scope="module")
def prometheus(
    gpu_cluster: ControlPlane, nodes: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    lines = remembered(nodes, int(time.time()) // STEP_S * STEP_S)
    yield start_remembering(gpu_cluster, lines, tmp_path_factory.mktemp("history"))
    gpu_cluster.processes.stop("prometheus")


@pytest.fixture
def zone(gpu_cluster: ControlPlane, kube: KubeClient) -> Iterator[str]:
    sensors = [{"name": n, "role": r, "unit": "Celsius", "query": q} for n, (r, q) in QUERIES.items()]
    spec = {"nodeSelector": {"example.com/row": ROW}, "sensors": sensors, "cooling": {"capacityKilowatts": 40}}
    body = {"apiVersion": "embellie.io/v1alpha1", "kind": "ThermalZone", "metadata": {"name": ROW}, "spec": spec}
    kube.create("/apis/embellie.io/v1alpha1/thermalzones", body)
    yield ROW
    gpu_cluster.kubectl("delete", "thermalzones", "--all")


def fit(plane: ControlPlane, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [program("embellie"), "--kubeconfig", plane.kubeconfig, "thermal", "fit", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=plane.environment())


def test_a_zones_past_in_prometheus_becomes_a_model_with_residuals_margins_and_a_picture(
    gpu_cluster: ControlPlane, prometheus: Prometheus, zone: str, tmp_path: Path
):
    until(lambda: prometheus.query(f"count_over_time({QUERIES['inlet'][1]}[3h:1m])"), "Prometheus has the past")
    told, drawn = tmp_path / "fit.json", tmp_path / "fit.png"
    done = fit(
        gpu_cluster, "--zone", zone, "--prometheus-url", prometheus.url, "--hours", str(HOURS),
        "--json", told, "--plot", drawn,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "predicted (up) against measured (right)" in done.stdout
    assert "rmse" in done.stdout
    found = json.loads(told.read_text(encoding="utf-8"))
    assert found["schema"] == "zone"
    assert found["rows_fit"] > 0.9 * HOURS * 3600 / STEP_S
    assert found["rows_test"] > 2000
    assert set(found["coverage"]) == set(found["margin_c"]) == {"0.05", "0.01"}
    assert abs(found["coverage"]["0.01"] - 0.99) <= 0.005
    assert found["die_q999_c"] < 2.0, "each minute predicted before it was learnt"
    learnt = found["parameters"]["zone"]
    assert learnt["rise_mk_per_kw"] > 0.0
    assert learnt["trusted"] == 1.0
    assert drawn.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--zone", "no-such-zone"), "there is no ThermalZone 'no-such-zone'"),
        (("--zone", ROW, "--hours", "1"), "raise --hours"),
        (("--zone", ROW, "--prometheus-url", "http://127.0.0.1:9"), "Prometheus"),
    ],
    ids=["no such zone", "too short", "no Prometheus"],
)
def test_what_cannot_be_fitted_is_told_in_a_sentence(
    gpu_cluster: ControlPlane, prometheus: Prometheus, zone: str, arguments: tuple[str, ...], says: str
):
    found = arguments if "--prometheus-url" in arguments else (*arguments, "--prometheus-url", prometheus.url)
    done = fit(gpu_cluster, *found)
    assert done.returncode == 1, done.stdout
    assert says in done.stderr
    assert "Traceback" not in done.stderr


GPU = 'DCGM_FI_DEV_POWER_USAGE{{Hostname="{node}",instance="{node}:9400",UUID="{gpu}",job="{job}"{pod}}}'


def test_a_gpu_that_pods_share_or_that_two_jobs_scrape_counts_once_in_what_a_node_drew(tmp_path: Path):
    shared = [f',exported_namespace="lab",exported_pod="{pod}"' for pod in ("a", "b")]
    said = {
        **{GPU.format(node="n1", gpu="g0", job="dcgm", pod=pod): 300 for pod in shared},
        **{GPU.format(node="n1", gpu="g1", job=job, pod=""): 100 for job in ("dcgm", "annotated")},
        GPU.format(node="n2", gpu="g2", job="dcgm", pod=""): 70,
    }
    expected = [
        {"labels": f'{{Hostname="{node}", instance="{node}:9400"}}', "value": watts}
        for node, watts in (("n1", 400), ("n2", 70))
    ]
    expression = {"expr": power_query("DCGM_FI_DEV_POWER_USAGE"), "eval_time": "5m", "exp_samples": expected}
    series = [{"series": name, "values": f"{watts}x10"} for name, watts in said.items()]
    file = tmp_path / "power.yaml"
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [expression]}
    file.write_text(json.dumps({"rule_files": [], "evaluation_interval": "1m", "tests": [test]}), encoding="utf-8")
    done = subprocess.run([binaries() / "promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
