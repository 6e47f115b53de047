# SPDX-License-Identifier: Apache-2.0
"""`/healthz` for the kubelet: 200 while the loop turns, 503 when it hangs."""

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Listener(ThreadingHTTPServer):
    # Both families where there are both: on a cluster of IPv6 a pod has that address alone. As the operator's own
    # server has it, of which the watchdog imports nothing.
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    daemon_threads = True


def serve_health(port: int, alive: Callable[[], bool]) -> ThreadingHTTPServer:
    """Answer `/healthz` and `/readyz` on a thread of its own; the caller shuts the server down."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            known = self.path in {"/healthz", "/readyz"}
            status = 404 if not known else 200 if alive() else 503
            body = {200: b"ok\n", 404: b"not found\n", 503: b"the loop hangs\n"}[status]
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Probes are not worth a line."""

    server = _Listener(("", port), Handler)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
