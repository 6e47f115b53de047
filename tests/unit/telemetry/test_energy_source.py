# SPDX-License-Identifier: Apache-2.0
"""Energy out of Prometheus: both vocabularies, renamed labels, idle and shared GPUs, and answers that are none."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest

from embellie.telemetry.energy import EnergySamples, EnergySource
from embellie.telemetry.tables import PrometheusTables

T0 = datetime(2026, 7, 1, tzinfo=UTC)
PODS = {("ml", "train-0"): "n1", ("ml", "train-1"): "n1"}
OLD, NEW = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "DCGM_FI_DEV_GPU_ENERGY_JOULES_TOTAL"


class Server:
    """Answers query_range with what a test put in."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlparse(self.path).query).get("query", [""])[0]
                found = outer.answers.get(query, [])
                whole = {"status": "success", "data": {"resultType": "matrix", "result": found}}
                body = found.encode() if isinstance(found, str) else json.dumps(whole).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.close()


def series(labels: dict[str, str], *values: object, at: float = 0.0) -> dict[str, Any]:
    return {"metric": labels, "values": [[T0.timestamp() + at + 60 * k, str(v)] for k, v in enumerate(values)]}


def read(server: Server, **zones: str) -> EnergySamples:
    source = EnergySource(PrometheusTables(server.url))
    return source.read(T0, T0 + timedelta(minutes=15), 60, zone_queries=zones, plant_queries={}, pods=PODS)


def test_millijoules_of_the_old_vocabulary_and_joules_of_the_new_one_are_the_same_energy(server: Server) -> None:
    server.answers[OLD] = [series({"UUID": "G1", "Hostname": "n1"}, 1_000_000, 7_000_000)]
    server.answers[NEW] = [series({"UUID": "G2", "hostname": "n2"}, 1000, 7000)]
    found = read(server)
    assert sorted(found.gpus["G1"].samples.values()) == sorted(found.gpus["G2"].samples.values()) == [1000, 7000]
    assert (found.gpus["G1"].node, found.gpus["G2"].node) == ("n1", "n2")


def test_a_gpu_that_both_vocabularies_tell_of_counts_once(server: Server) -> None:
    server.answers[OLD] = [series({"UUID": "G1", "Hostname": "n1"}, 9_000_000)]
    server.answers[NEW] = [series({"UUID": "G1", "hostname": "n1"}, 1000)]
    server.answers["DCGM_FI_DEV_POWER_USAGE"] = [series({"UUID": "G1", "Hostname": "n1"}, 400)]
    gpu = read(server).gpus["G1"]
    assert list(gpu.samples.values()) == [1000]
    assert gpu.counter


def test_exported_labels_win_and_the_exporter_s_own_pod_is_nobody(server: Server) -> None:
    own = {"namespace": "gpu-operator", "pod": "dcgm-exporter-x", "Hostname": "n1"}
    server.answers[OLD] = [
        series({**own, "UUID": "G1", "exported_namespace": "ml", "exported_pod": "train-0"}, 1),
        series({**own, "UUID": "G2"}, 1),
        series({"UUID": "G3", "namespace": "ml", "pod": "train-1", "Hostname": "n1"}, 1),
    ]
    holders = {uuid: list(gpu.holders.values()) for uuid, gpu in read(server).gpus.items()}
    assert holders["G1"] == [{("ml", "train-0"): 1.0}]
    assert holders["G2"] == []
    assert holders["G3"] == [{("ml", "train-1"): 1.0}]


def test_time_slicing_and_mig_show_the_card_once_with_every_pod_on_it(server: Server) -> None:
    shared = [series({"UUID": "G1", "Hostname": "n1", "namespace": "ml", "pod": p, "GPU_I_PROFILE": m}, 5000)
              for p, m in (("train-0", "3g.40gb"), ("train-1", "1g.10gb"))]  # fmt: skip
    server.answers[NEW] = shared
    gpu = read(server).gpus["G1"]
    assert list(gpu.samples.values()) == [5000]
    assert list(gpu.holders.values()) == [{("ml", "train-0"): 3.0, ("ml", "train-1"): 1.0}]


def test_a_pod_that_ends_leaves_an_idle_gpu_and_one_counter(server: Server) -> None:
    base = {"UUID": "G1", "Hostname": "n1"}
    server.answers[NEW] = [
        series({**base, "namespace": "ml", "pod": "train-0"}, 1000, 2000),
        series(base, 2100, at=120.0),
    ]
    gpu = read(server).gpus["G1"]
    assert sorted(gpu.samples.values()) == [1000, 2000, 2100]
    assert len(gpu.holders) == 2


def test_chassis_of_a_node_add_up_and_a_better_meter_wins(server: Server) -> None:
    server.answers["kepler_platform_watts"] = [
        series({"node_name": "n1", "chassis_id": "1"}, 3000),
        series({"node_name": "n1", "chassis_id": "2"}, 400),
    ]
    server.answers["ipmi_power_watts"] = [series({"instance": "n2:9290", "name": "Pwr Consumption"}, 2500)]
    found = read(server).nodes
    assert (found["n1"].values, found["n2"].values) == ([3400.0], [2500.0])


def test_a_node_whose_exporter_is_scraped_twice_draws_once(server: Server) -> None:
    server.answers["kepler_platform_watts"] = [
        series({"node_name": "n1", "chassis_id": "1", "job": job, "instance": f"{job}:9102", "pod": pod}, 3000, 3100)
        for job, pod in (("kepler", "kepler-x1"), ("kubernetes-pods", "kepler-x1"))
    ]
    assert read(server).nodes["n1"].values == [3000.0, 3100.0]


def test_a_zone_meter_must_be_one_series(server: Server) -> None:
    server.answers["one"] = [series({}, 5000)]
    server.answers["two"] = [series({"a": "1"}, 1), series({"a": "2"}, 1)]
    assert set(read(server, west="one", east="two").zones) == {"west"}


@pytest.mark.parametrize(
    "answer", ["<html>", '{"status":"error","error":"no"}', '{"status":"success","data":{"result":7}}']
)
def test_an_answer_that_is_none_leaves_nothing_and_the_others_count(server: Server, answer: str) -> None:
    server.answers[NEW] = answer
    server.answers["kepler_platform_watts"] = [series({"node_name": "n1"}, 3000)]
    found = read(server)
    assert found.gpus == {}
    assert found.nodes["n1"].values == [3000.0]


def test_values_that_are_no_numbers_are_left_out(server: Server) -> None:
    server.answers[NEW] = [series({"UUID": "G1", "Hostname": "n1"}, "NaN", "+Inf", 1000)]
    assert list(read(server).gpus["G1"].samples.values()) == [1000]


def test_without_a_prometheus_there_are_no_samples() -> None:
    source = EnergySource(PrometheusTables("http://127.0.0.1:9", timeout_s=0.5))
    assert source.read(T0, T0, 60, zone_queries={}, plant_queries={}, pods={}) == EnergySamples()
