# SPDX-License-Identifier: Apache-2.0
"""What the kubelet asks a pod is answered by whichever address it calls."""

import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from embellie.telemetry.metrics import server
from embellie.watchdog import health

NEEDS_IPV6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine answers on IPv4 only")
ADDRESSES = ["127.0.0.1", pytest.param("::1", marks=NEEDS_IPV6)]


@pytest.mark.parametrize("listener", [server._Listener, health._Listener])
@pytest.mark.parametrize("address", ADDRESSES)
def test_probes_are_answered_on_both_families(listener: type[ThreadingHTTPServer], address: str) -> None:
    with listener(("", 0), BaseHTTPRequestHandler) as listening:
        socket.create_connection((address, listening.server_address[1]), timeout=5).close()
