# SPDX-License-Identifier: Apache-2.0
"""How a watch of plans is taken up again, over real sockets."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from embellie.cluster.client import KubeClient, load_configuration
from embellie.cluster.plan_watch import PlanWatch
from embellie_testbed.processes import until

BOOKMARK = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}}


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """Return the address of a server that cuts each connection in the middle of its answer, and what it was asked."""
    seen: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    seen.append(connection.recv(65536).decode().split()[1])
                    line = json.dumps(BOOKMARK).encode() + b"\n"
                    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    connection.sendall(f"{len(line):x}\r\n".encode() + line + b"\r\n")

        threading.Thread(target=serve, daemon=True).start()
        host, port = listening.getsockname()
        yield f"http://{host}:{port}", seen
        listening.shutdown(socket.SHUT_RDWR)


def test_a_watch_that_a_proxy_cuts_goes_on_soon_where_it_was_cut(
    asked: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embellie.cluster.plan_watch.SOON_S", 0.01)
    monkeypatch.setattr("embellie.cluster.plan_watch.ENDS_AT_ONCE_S", 0.0)
    url, seen = asked
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    client = KubeClient(load_configuration(tmp_path / "config"))
    watch = PlanWatch(client, lambda _uid, _gone: None, leads=lambda: True)
    watch.start()
    until(lambda: len(seen) > 2, "it is taken up again and again", seconds=5.0)
    watch.stop()
    versions = [parse_qs(urlsplit(path).query).get("resourceVersion") for path in seen[:3]]
    assert versions == [None, ["7"], ["7"]]
    client.close()
