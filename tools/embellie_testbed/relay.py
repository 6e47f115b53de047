# SPDX-License-Identifier: Apache-2.0
"""A relay before an HTTP service that can be told to hang or to be gone, on one port that does not change."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from embellie_testbed.processes import free_port

HANG_S = 20.0
"""A hanging relay answers after this long [s]."""


class Relay:
    """Passes GET requests on; `hang` lets answers wait, `leave` refuses connections until `come_back`."""

    def __init__(self, upstream_port: int) -> None:
        self.port = free_port()
        self.hang = False
        self.upstream_port = upstream_port
        self.freed = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self.come_back()

    @property
    def url(self) -> str:
        """Its base address."""
        return f"http://127.0.0.1:{self.port}"

    def come_back(self) -> None:
        """Listen, if it does not."""
        if self._server is not None:
            return
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Pass one request on."""
                if relay.hang:
                    relay.freed.wait(HANG_S)
                _pass_on(self, relay.upstream_port)

            def log_message(self, *_: object) -> None:
                """Say nothing: a line per request helps nobody."""

        self.freed.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def leave(self) -> None:
        """Stop listening; what hangs is answered."""
        if self._server is not None:
            self.freed.set()
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def _pass_on(handler: BaseHTTPRequestHandler, port: int) -> None:
    upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        upstream.request("GET", handler.path)
        answer = upstream.getresponse()
        content = answer.read()
        handler.send_response(answer.status)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)
    except OSError:
        # Whoever asked has gone, or there is nobody to ask: the connection just ends.
        handler.close_connection = True
    finally:
        upstream.close()
