# SPDX-License-Identifier: Apache-2.0
"""Answers /metrics, /healthz and /readyz on one port."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from embellie.telemetry.metrics.metric import REGISTRY


class _Listener(ThreadingHTTPServer):
    # Both families where there are both: on a cluster of IPv6 a pod has that address alone.
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    daemon_threads = True


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

        self._server = _Listener(("", port), Handler)
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
