# SPDX-License-Identifier: Apache-2.0
"""Answers `kubectl logs` for the processes of the small kubelet, on loopback."""

import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_FOLLOW_SECONDS = 0.2
_NO_EXEC = (
    b"pods are processes of this machine here, and nothing can be executed in them: "
    b"run the command in a shell of your own\n"
)


def serve_logs(port: int, *, certificate: Path, key: Path, log_of: Callable[[str, str, str], Path]) -> None:
    """Serve, in a thread of its own, the log file of each (namespace, pod, container)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer /containerLogs/NAMESPACE/POD/CONTAINER as a kubelet does."""
            address = urllib.parse.urlsplit(self.path)
            parts = address.path.strip("/").split("/")
            log = log_of(parts[1], parts[2], parts[3]) if len(parts) == 4 and parts[0] == "containerLogs" else None
            if log is None or not log.is_file():
                self.send_error(404)
                return
            query = urllib.parse.parse_qs(address.query)
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.end_headers()
            self._write(log, tail=query.get("tailLines", [""])[0], follow=query.get("follow", [""])[0] == "true")

        def do_POST(self) -> None:
            """Refuse `kubectl exec`, attach and port-forward in words: kubectl prints what it is answered."""
            self.send_response(501)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(_NO_EXEC)))
            self.end_headers()
            self.wfile.write(_NO_EXEC)

        def _write(self, log: Path, *, tail: str, follow: bool) -> None:
            with log.open("rb") as handle:
                content = handle.read()
                if tail.isdigit():
                    lines = content.splitlines(keepends=True)
                    content = b"".join(lines[len(lines) - min(len(lines), int(tail)) :])
                try:
                    self.wfile.write(content)
                    while follow:
                        time.sleep(_FOLLOW_SECONDS)
                        self.wfile.write(handle.read())
                        self.wfile.flush()
                except OSError:
                    # Whoever followed has gone.
                    return

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
