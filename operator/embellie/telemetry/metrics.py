# SPDX-License-Identifier: Apache-2.0
"""What the operator tells about itself: Prometheus metrics, liveness and readiness, on one port."""

import contextlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

REGISTRY = CollectorRegistry()

HELD = Gauge("embellie_held_workloads", "Workloads held, by state.", ["state"], registry=REGISTRY)
HELD_GPUS = Gauge("embellie_held_gpus", "GPUs that held workloads ask for.", registry=REGISTRY)
OLDEST_BOUND = Gauge(
    "embellie_overdue_seconds", "Longest time that a held workload is past its latest start.", registry=REGISTRY
)
RELEASES = Counter("embellie_releases_total", "Workloads released, by reason.", ["reason"], registry=REGISTRY)
FAILED_RELEASES = Counter(
    "embellie_release_failures_total", "Releases that could not be written, by result.", ["result"], registry=REGISTRY
)
TURNS = Counter("embellie_turns_total", "Turns, by outcome.", ["outcome"], registry=REGISTRY)
TURN_SECONDS = Histogram(
    "embellie_turn_seconds",
    "Duration of one turn, by part.",
    ["part"],
    buckets=(0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
    registry=REGISTRY,
)
LEADER = Gauge("embellie_leader", "1 on the replica that acts.", registry=REGISTRY)
SWITCH = Gauge("embellie_holding_enabled", "1 while new work may be held.", registry=REGISTRY)
CARBON_INTENSITY = Gauge(
    "embellie_carbon_intensity_grams_per_kilowatt_hour",
    "Forecast carbon intensity of the current slot, per zone and signal kind.",
    ["zone", "signal_kind"],
    registry=REGISTRY,
)
FORECAST_AGE = Gauge(
    "embellie_forecast_age_seconds", "Age of the forecast in use, per zone.", ["zone"], registry=REGISTRY
)
HEADROOM = Gauge(
    "embellie_thermal_headroom_watts", "Heat that a thermal zone can still take.", ["zone"], registry=REGISTRY
)
ZONE_POWER = Gauge(
    "embellie_zone_worst_case_watts", "Facility power of a grid zone at worst case.", ["zone"], registry=REGISTRY
)


class Server:
    """Serves /metrics, /healthz and /readyz."""

    def __init__(self, port: int, healthy: Callable[[], bool], ready: Callable[[], bool]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(REGISTRY))
                elif self.path in ("/healthz", "/readyz"):
                    good = healthy() if self.path == "/healthz" else ready()
                    self._answer(200 if good else 503, "application/json", json.dumps({"ok": good}).encode())
                else:
                    self._answer(404, "text/plain", b"not found\n")

            def _answer(self, code: int, content_type: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                # Whoever asked may have given up waiting.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
                """Probes are not worth a log line."""

        self._server = ThreadingHTTPServer(("", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()
