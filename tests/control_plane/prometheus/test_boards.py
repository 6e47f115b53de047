# SPDX-License-Identifier: Apache-2.0
"""Every query of every board, rule and alert, on a real Prometheus that scrapes a real operator."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from users_work import job

from embellie.telemetry.metrics import Kind, catalogue
from embellie_boards.queries import BoardQuery, board_queries, expanded
from embellie_testbed.controlplane import ControlPlane
from embellie_testbed.exporter import Exporter, start_exporter
from embellie_testbed.paths import CHART, REPOSITORY
from embellie_testbed.processes import free_port, until
from embellie_testbed.product import NAMESPACE, Program, dirty_now_clean_later, start_operator, write_forecast
from embellie_testbed.prometheus import Prometheus, start_prometheus

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(300)]

FILES = CHART / "files"
SAMPLES = REPOSITORY / "manifests" / "samples"
BOARDS = sorted((FILES / "dashboards").glob("*.json"))
RANGE_S = 300.0
VARIABLES = {"zone": ".+", "thermal_zone": ".+", "detail_zone": "west-r1", "signal": "AverageLifecycle"}

EVENTS = ("event Another leader", "event Holding switched")
"""They say something only when it happens: what they look at must have data."""
ALARMS = ("event Alerts", "Which alerts fire?")
"""They have a test of their own, in which something is wrong."""
AWAITED = {
    # Savings are of whole days, and are told once somebody has had them reckoned.
    "embellie_saved_emissions_grams",
    "embellie_saved_emissions_naive_grams",
    "embellie_saving_lost_gpu_seconds",
    "embellie_saving_shifted_joules",
    "embellie_saving_peak_change_watts",
    # Tenants are compared once two of them have waited or worked.
    "embellie_tenants_jain_ratio",
}
"""Metrics that this scene does not feed. What feeds one takes it off this list: a test fails where one has data."""
ON_REQUEST = {
    "embellie_workload_latest_start_timestamp_seconds",  # --workload-metrics
    "embellie_thermal_return_celsius",  # rooms that are cooled with liquid
    "embellie_thermal_return_limit_celsius",
}


def rules() -> list[dict[str, Any]]:
    found = []
    for path in sorted((FILES / "rules").glob("*.yaml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            found += group["rules"]
    return found


def quick_rules(folder: Path) -> list[Path]:
    """The chart's rules, evaluated every second and alerting at once: the same expressions, in the time of a test."""
    paths = []
    for path in sorted((FILES / "rules").glob("*.yaml")):
        text = re.sub(r"interval: \w+", "interval: 1s", path.read_text(encoding="utf-8"))
        paths.append(folder / path.name)
        paths[-1].write_text(re.sub(r" for: \w+", " for: 0s", text), encoding="utf-8")
    return paths


HEALTH = {
    "schema": "embellie.io/forecaster-health/v1",
    "feeds": [{"zone": z, "feed": "eia", "up": True, "lastValueAt": "2026-01-01T00:00:00Z"} for z in ("west", "east")],
    "quality": [
        {"zone": z, "target": "lifecycle", "leadDay": day, "mape": 0.1 * day, "coverage80": 0.8}
        for z in ("west", "east")
        for day in (1, 2, 3, 4)
    ],
}


def zones() -> list[dict[str, Any]]:
    """The zones of the samples, whose meters count as lost after seconds."""
    found = []
    for name in ("01-gridzones.yaml", "02-thermalzones.yaml"):
        found += list(yaml.safe_load_all((SAMPLES / name).read_text(encoding="utf-8")))
    for zone in found:
        if zone["kind"] == "GridZone":
            zone["spec"]["powerSensor"]["maxAgeSeconds"] = 10
    return found


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A cluster with held and running work, its operator, and a Prometheus that has scraped it for a while."""

    prometheus: Prometheus
    operator: Program
    exporter: Exporter
    page: str


@pytest.fixture(scope="module")
def scene(
    gpu_cluster: ControlPlane, installed_chart: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("boards")
    exchange = folder / "exchange"
    for zone in ("west", "east"):
        path = write_forecast(exchange, zone, dirty_now_clean_later(96))
        document = json.loads(path.read_text(encoding="utf-8"))
        document["ambientTemperatureCelsius"] = [[celsius] * 96 for celsius in (-2.0, 2.0, 6.0)]
        document["skillPercent"] = 30
        path.write_text(json.dumps(document), encoding="utf-8")
    report = HEALTH | {"writtenAt": datetime.now(UTC).isoformat()}
    (exchange / "health.json").write_text(json.dumps(report), encoding="utf-8")
    policy = {
        "apiVersion": "embellie.io/v1alpha1",
        "kind": "EnergyPolicy",
        "metadata": {"name": "boards"},
        "spec": {"mode": "enforce", "namespaceSelector": {"matchNames": ["boards"]}, "maxDelaySeconds": 86400},
    }
    gpu_cluster.kubectl("create", "namespace", "boards")
    gpu_cluster.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all([*zones(), policy]))
    exporter = start_exporter(gpu_cluster, ambient=12.0)
    port = free_port()
    prometheus = start_prometheus(gpu_cluster, [exporter.target, f"127.0.0.1:{port}"], rules=quick_rules(folder))
    prometheus.wait_for_series("facility_power_watts")
    flags = ("--turn-seconds=1", f"--ledger-path={folder / 'ledger.db'}", "--ledger-interval-seconds=60")
    operator = start_operator(gpu_cluster, exchange, flags=flags, prometheus_url=prometheus.url, port=port)
    until(lambda: prometheus.query("embellie_holding_enabled == 1"), f"holding is on\n{operator.log()[-2000:]}", 60)
    for number in range(3):
        gpu_cluster.kubectl("create", "-f", "-", input=json.dumps(job(f"wait-{number}", "boards", duration="2h")))
    gpu_cluster.kubectl("create", "-f", "-", input=json.dumps(job("run", "boards", max_delay="5s", duration="2h")))
    until(lambda: prometheus.query("sum(embellie_held_workloads) == 3"), "three wait and one runs", 60)
    until(lambda: prometheus.query("sum(embellie_running_workloads) > 0"), "it runs", 60)
    closed = "count_over_time(namespace:embellie_energy_joules_total:sum[1m]) > 3"
    until(lambda: prometheus.query(closed), "an interval is closed", 170)
    # Rates need two samples in the recorded series as well.
    until(
        lambda: prometheus.query("count_over_time(namespace:embellie_held_gpus:sum[1m]) > 5"), "rules were recorded", 60
    )
    page = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    yield Scene(prometheus=prometheus, operator=operator, exporter=exporter, page=page)
    operator.stop()
    gpu_cluster.kubectl("delete", "gridzones,energypolicies,thermalzones", "--all", "--wait=true")
    gpu_cluster.kubectl("delete", "namespace", "boards", "--wait=false")
    off = '{"data":{"enabled":"false","locked":"false","namespaces":","}}'
    gpu_cluster.kubectl("patch", "configmap", "embellie-switch", "-n", NAMESPACE, "--type=merge", "-p", off)


def ask(prometheus: Prometheus, query: BoardQuery) -> list[Any]:
    promql = expanded(query, RANGE_S, VARIABLES)
    if query.panel in EVENTS:
        promql = promql.removesuffix(" > 0")
    if query.instant:
        return list(prometheus.ask("query", query=promql)["result"])
    now = time.time()
    span = {"start": str(now - RANGE_S), "end": str(now), "step": "15"}
    return list(prometheus.ask("query_range", query=promql, **span)["result"])


def selected(prometheus: Prometheus, promql: str) -> set[str]:
    """Names of the metrics that an expression reads, as Prometheus itself parses it."""
    found: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if node.get("type") in ("vectorSelector", "matrixSelector"):
                found.add(node["name"] or next(m["value"] for m in node["matchers"] if m["name"] == "__name__"))
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(prometheus.ask("parse_query", query=promql))
    return found


RECORDED = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def ours(prometheus: Prometheus, promql: str) -> set[str]:
    """The metrics of ours that an expression rests on, recorded series followed to what they are made of."""
    names: set[str] = set()
    for name in selected(prometheus, promql):
        names |= ours(prometheus, RECORDED[name]) if name in RECORDED else {name}
    return {re.sub(r"_(bucket|sum|count)$", "", n) if n.startswith("embellie_turn_seconds") else n for n in names}


def is_awaited(prometheus: Prometheus, promql: str) -> bool:
    return bool(ours(prometheus, promql) & AWAITED)


@pytest.mark.parametrize("board", BOARDS, ids=lambda p: p.stem)
def test_every_query_of_a_board_returns_data(scene: Scene, board: Path):
    empty = []
    for query in board_queries(board):
        if query.panel in ALARMS:
            continue
        promql = expanded(query, RANGE_S, VARIABLES)
        series = ask(scene.prometheus, query)
        if not series and not is_awaited(scene.prometheus, promql):
            empty.append(f"{query.panel}: {promql}")
    assert not empty, "\n".join(empty)


def test_every_recording_rule_records_and_every_alert_reads_what_is_there(scene: Scene):
    empty = []
    for rule in rules():
        if "record" in rule:
            if not scene.prometheus.query(rule["record"]) and not is_awaited(scene.prometheus, rule["expr"]):
                empty.append(rule["record"])
            continue
        empty += [
            f"{rule['alert']} reads {name}"
            for name in selected(scene.prometheus, rule["expr"])
            if not scene.prometheus.query(name) and not is_awaited(scene.prometheus, name)
        ]
    assert not empty, "\n".join(empty)
    # Prometheus itself evaluates them all.
    groups = scene.prometheus.ask("rules")["groups"]
    assert sum(len(g["rules"]) for g in groups) == len(rules())
    assert [r["lastError"] for g in groups for r in g["rules"] if r.get("lastError")] == []


def test_a_cluster_that_is_well_alerts_nobody(scene: Scene):
    # The first interval began before anything was measured.
    until(lambda: scene.prometheus.query("min(embellie_energy_covered_ratio) >= 0.95"), "an interval was measured", 150)
    until(
        lambda: not scene.prometheus.query('ALERTS{alertname="EmbellieEnergyNotMeasured",alertstate="firing"}'),
        "its alert has ended",
        30,
    )
    firing = {labels["alertname"] for labels, _ in scene.prometheus.query('ALERTS{alertstate="firing"}')}
    assert firing == set()


def test_every_metric_has_the_type_and_the_help_that_it_is_declared_with(scene: Scene):
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", scene.page, flags=re.MULTILINE))
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", scene.page, flags=re.MULTILINE))
    shown = {name for name in types if name.startswith("embellie_") and not name.endswith("_created")}
    declared = catalogue()
    assert shown - set(declared) == set()
    counters = {n for n in AWAITED if declared[n].kind is Kind.COUNTER}
    assert set(declared) - shown == (AWAITED | ON_REQUEST) - counters
    for name in shown:
        assert types[name] == declared[name].kind
        assert helps[name].replace("\\n", "\n") == declared[name].help
    stored = scene.prometheus.ask("metadata")
    for name in shown:
        assert stored[name][0]["type"] == declared[name].kind


def test_metrics_that_this_scene_does_not_feed_have_no_data(scene: Scene):
    """So that the list of them stays true."""
    with_data = {name for name in AWAITED | ON_REQUEST if scene.prometheus.query(name)}
    assert with_data == set()


def test_the_numbers_are_those_of_the_cluster(scene: Scene):
    def value(promql: str) -> float:
        ((_, number),) = scene.prometheus.query(promql)
        return number

    assert value("embellie_leader") == 1
    held = {labels["reason"]: gpus for labels, gpus in scene.prometheus.query("embellie_held_gpus > 0")}
    assert held == {"CleanerWindow": 24}
    assert value("namespace:embellie_held_gpus:sum") == 24
    assert value("sum(embellie_running_gpus)") == 8
    assert value("sum(embellie_running_gpus) + sum(embellie_free_gpus)") == 64
    assert value("embellie_past_bound_workloads{state='Held'}") == 0
    decided = scene.prometheus.query('sum by (state) (embellie_decisions_total{state=~"Held|Released"})')
    assert {labels["state"]: n for labels, n in decided} | {"Held": 3} == {"Held": 3, "Released": 1}, scene.page
    assert value("max(embellie_held_wait_used_ratio)") < 0.1
    assert value('embellie_carbon_intensity_grams_per_kilowatt_hour{zone="west"}') == 500
    assert value('embellie_forecast_rung{zone="west",rung="Live"}') == 1
    assert value('zone:embellie_forecast_rung:level{zone="west"}') == 5
    assert value('embellie_forecast_skill_ratio{zone="west"}') == 0.3
    assert value('embellie_ambient_forecast_celsius{zone="west",lead_hours="24",level="0.9"}') == 6
    assert value("sum(embellie_sensor_trusted)") == value("count(embellie_sensor_trusted)") > 0
    # The exporter's own meter and ours agree, since the sensor reads it.
    assert value('embellie_zone_power_watts{zone="west",source="measured"}') == pytest.approx(
        value('sum(facility_power_watts{zone="west"})'), rel=0.02
    )
    assert value("embellie_lost_gpu_seconds_total{cause='Choice'}") > 0


def test_prometheus_finds_nothing_to_complain_about_in_the_page(scene: Scene):
    import subprocess

    from embellie_testbed.build import binaries

    done = subprocess.run(
        [binaries() / "promtool", "check", "metrics"], input=scene.page, capture_output=True, text=True, check=False
    )
    complaints = [
        line for line in (done.stdout + done.stderr).splitlines() if line and not re.match(r"process_|python_", line)
    ]
    assert complaints == []


def test_what_goes_wrong_is_alerted_and_seen_on_the_boards(scene: Scene):
    scene.exporter.misbehave(drop=True)
    firing = 'ALERTS{alertname="EmbellieSensorUntrusted",alertstate="firing",zone="west",sensor="power"}'
    until(lambda: scene.prometheus.query(firing), "the alert about the meter fires", 90)
    queries = [q for path in BOARDS for q in board_queries(path) if q.panel in ALARMS]
    assert len(queries) == len(BOARDS) + 1
    for query in queries:
        assert ask(scene.prometheus, query), query
    (untrusted,) = (q for p in BOARDS for q in board_queries(p) if q.panel == "How many sensors fail?")
    assert float(ask(scene.prometheus, untrusted)[0]["value"][1]) > 0
