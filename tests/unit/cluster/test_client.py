# SPDX-License-Identifier: Apache-2.0
"""The client's manners: who it says it is, how long it waits, and what it repeats. Spoken to over real sockets."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from kubernetes.config import incluster_config

from embellie import __version__
from embellie.cluster import client as client_module
from embellie.cluster.client import ApiError, ConfigurationError, KubeClient, load_configuration
from embellie.domain.clock import parse_clock

Answer = tuple[int, dict[str, str], Any]


class Server(ThreadingHTTPServer):
    """Answers each request from a script and remembers it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = []
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """One connection of it."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        assert isinstance(self.server, Server)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, self.path, dict(self.headers.items()), body))
        status, headers, payload = self.server.answers.pop(0)
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
    setattr(Handler, f"do_{method}", Handler.answer)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def kubeconfig(path: Path, url: str) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "secret-token"}}],
    }
    path.write_text(json.dumps(config))
    return path


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def client(server: Server, tmp_path: Path, waits: list[float]) -> Iterator[KubeClient]:
    made = KubeClient(load_configuration(kubeconfig(tmp_path / "config", server.url)), sleep=waits.append)
    yield made
    made.close()


def status(code: int, reason: str, **more: Any) -> dict[str, Any]:
    return {"kind": "Status", "code": code, "reason": reason, "message": f"because {reason}", **more}


def test_a_kubeconfig_token_is_sent_with_our_user_agent(server: Server, client: KubeClient) -> None:
    server.answers = [(200, {}, {"ok": True})]
    assert client.get("/api/v1/nodes/a") == {"ok": True}
    headers = server.seen[0][2]
    assert headers["Authorization"] == "Bearer secret-token"
    assert headers["User-Agent"] == f"embellie/{__version__}"


def test_a_clock_behind_the_api_servers_is_set_right_and_one_that_is_ahead_counts_as_it_is(
    server: Server, client: KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = parse_clock("system", client.behind)

    def after_an_answer_of(seconds_from_now: float) -> float:
        date = formatdate(time.time() + seconds_from_now, usegmt=True)
        monkeypatch.setattr(Handler, "date_time_string", lambda *_: date)
        server.answers = [(200, {}, {})]
        client.get("/api/v1/nodes/a")
        return (clock.now() - datetime.now(UTC)).total_seconds()

    assert after_an_answer_of(0.0) == pytest.approx(0.0, abs=0.1)
    assert after_an_answer_of(600.0) == pytest.approx(600.0, abs=1.5)
    before = client.behind()
    after_an_answer_of(597.0)
    assert client.behind() == before, "an answer that took its time is no other clock"
    assert after_an_answer_of(-600.0) == pytest.approx(0.0, abs=0.1)
    monkeypatch.setattr(Handler, "date_time_string", lambda *_: "soon")
    server.answers = [(200, {}, {"ok": True})]
    assert client.get("/api/v1/nodes/a") == {"ok": True}


@pytest.fixture
def in_cluster(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    token, ca = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("pod-token\n")
    ca.write_text("unused without TLS")
    host, port = server.server_address[:2]
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(host))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(port))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(ca))
    monkeypatch.setattr(client_module, "IN_CLUSTER_TOKEN", token)
    return token


def test_a_pod_sends_its_token_and_the_rotated_one_later(
    server: Server, in_cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = load_configuration()
    assert configuration.host.startswith("https://")
    configuration.host = server.url
    client = KubeClient(configuration)
    assert client.authorization() == "bearer pod-token"
    in_cluster.write_text("rotated")
    assert client.authorization() == "bearer pod-token", "not asked again at once"
    loader = configuration.refresh_api_key_hook.__closure__[0].cell_contents  # type: ignore[union-attr]
    loader.token_expires_at = loader.token_expires_at.min
    monkeypatch.setattr(client_module, "AUTH_CACHE_S", 0.0)
    monkeypatch.setattr(client, "_auth_until", 0.0)
    assert client.authorization() == "bearer rotated"
    client.close()


def test_a_refused_token_is_read_again_once(server: Server, client: KubeClient) -> None:
    server.answers = [(401, {}, status(401, "Unauthorized")), (200, {}, {})]
    assert client.get("/x") == {}
    server.answers = [(401, {}, status(401, "Unauthorized"))] * 2
    with pytest.raises(ApiError) as failure:
        client.get("/x")
    assert failure.value.status == 401
    assert len(server.seen) == 4


def test_no_cluster_at_all_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigurationError, match="--kubeconfig"):
        load_configuration(tmp_path / "nothing-here")


@pytest.mark.parametrize("code", [429, 503])
def test_what_the_server_asks_to_repeat_is_repeated_after_its_own_delay(
    server: Server, client: KubeClient, waits: list[float], code: int
) -> None:
    server.answers = [(code, {"Retry-After": "1"}, status(code, "Later")), (200, {}, {"done": True})]
    assert client.json_patch("/x", []) == {"done": True}
    assert len(waits) == 1
    assert 1.0 <= waits[0] <= 1.3


def test_repeating_is_bounded(server: Server, client: KubeClient) -> None:
    server.answers = [(503, {}, b"<html>a proxy</html>")] * 9
    with pytest.raises(ApiError) as failure:
        client.get("/x")
    assert failure.value.unreachable
    assert "a proxy" in failure.value.message
    assert len(server.seen) == client_module.MAX_ATTEMPTS


def test_a_longer_wait_than_the_call_may_take_is_not_waited(
    server: Server, client: KubeClient, waits: list[float]
) -> None:
    server.answers = [(429, {"Retry-After": "60"}, status(429, "TooManyRequests"))]
    with pytest.raises(ApiError) as failure:
        client.get("/x", timeout_s=5.0)
    assert failure.value.retry_after_s == 60.0
    assert waits == []


@pytest.mark.parametrize("code", [400, 403, 404, 409, 422, 500, 504])
def test_other_refusals_are_never_repeated(server: Server, client: KubeClient, code: int) -> None:
    server.answers = [(code, {}, status(code, "No"))]
    with pytest.raises(ApiError) as failure:
        client.create("/x", {})
    assert (failure.value.status, failure.value.reason, failure.value.message) == (code, "No", "because No")
    assert failure.value.conflict == (code in (409, 422))
    assert len(server.seen) == 1


def test_a_refusal_that_names_fields_is_no_lost_race(server: Server, client: KubeClient) -> None:
    refusal = {**status(422, "Invalid"), "details": {"causes": [{"field": "spec", "message": "no"}]}}
    server.answers = [(422, {}, refusal), (422, {}, status(422, "Invalid"))]
    for invalid in (True, False):
        with pytest.raises(ApiError) as failure:
            client.create("/x", {})
        assert (failure.value.invalid, failure.value.conflict) == (invalid, not invalid)


def test_a_refusal_without_a_status_says_what_was_asked(server: Server, client: KubeClient) -> None:
    server.answers = [(404, {}, b"404 page not found\n")]
    with pytest.raises(ApiError) as failure:
        client.request("GET", "/apis/embellie.io/v1alpha1/workloadplans", params={"limit": "5"})
    assert failure.value.message == f"GET {server.url}/apis/embellie.io/v1alpha1/workloadplans: 404 page not found"


def test_nobody_there_is_unreachable_and_a_write_is_not_repeated(tmp_path: Path) -> None:
    with Server() as stopped:
        url = stopped.url
    waits: list[float] = []
    client = KubeClient(load_configuration(kubeconfig(tmp_path / "config", url)), sleep=waits.append)
    with pytest.raises(ApiError) as failure:
        client.json_patch("/x", [])
    assert failure.value.status == 0
    assert failure.value.unreachable
    assert waits == []
    client.close()


def test_an_answer_that_is_not_json_is_unreachable(server: Server, client: KubeClient) -> None:
    server.answers = [(200, {}, b"<html>login</html>")] * client_module.MAX_ATTEMPTS
    with pytest.raises(ApiError, match="not JSON"):
        client.get("/x")


def page(names: str, token: str, version: str) -> Answer:
    items = [{"metadata": {"name": name}} for name in names]
    return 200, {}, {"metadata": {"resourceVersion": version, "continue": token}, "items": items}


def listed(client: KubeClient) -> tuple[str, str]:
    listing = client.list_all("/api/v1/pods", {"labelSelector": "a=b"})
    return "".join(item["metadata"]["name"] for item in listing), listing.resource_version


def test_a_list_is_read_page_by_page(server: Server, client: KubeClient) -> None:
    server.answers = [page("ab", "t1", "7"), page("c", "", "7")]
    assert listed(client) == ("abc", "7")
    assert [seen[1] for seen in server.seen] == [
        "/api/v1/pods?limit=500&labelSelector=a%3Db",
        "/api/v1/pods?limit=500&labelSelector=a%3Db&continue=t1",
    ]


def test_an_expired_list_goes_on_from_a_newer_snapshot(server: Server, client: KubeClient) -> None:
    expired = status(410, "Expired", metadata={"continue": "t2"})
    server.answers = [page("ab", "t1", "7"), (410, {}, expired), page("c", "", "9")]
    assert listed(client) == ("abc", "7")


def test_an_expired_list_without_a_way_on_starts_again_once(server: Server, client: KubeClient) -> None:
    expired = (410, {}, status(410, "Expired"))
    server.answers = [page("a", "t1", "7"), expired, page("a", "t1", "9"), page("b", "", "9")]
    assert listed(client) == ("aab", "9")
    server.answers = [page("a", "t1", "7"), expired, page("a", "t1", "9"), expired]
    with pytest.raises(ApiError):
        listed(client)


def test_each_verb_says_what_it_sends(server: Server, client: KubeClient) -> None:
    calls: list[tuple[Callable[[], Any], str, str, str]] = [
        (
            lambda: client.apply("/x", {"a": 1}, subresource="status"),
            "PATCH",
            "/x/status",
            "application/apply-patch+yaml",
        ),
        (lambda: client.json_patch("/x", [{"op": "test"}]), "PATCH", "/x", "application/json-patch+json"),
        (lambda: client.create("/x", {"a": 1}), "POST", "/x", "application/json"),
        (lambda: client.delete("/x", uid="u"), "DELETE", "/x", "application/json"),
    ]
    for call, method, path, content_type in calls:
        server.answers = [(200, {}, {})]
        call()
        seen = server.seen[-1]
        assert (seen[0], seen[1].partition("?")[0], seen[2]["Content-Type"]) == (method, path, content_type)
    assert server.seen[0][1].endswith("?fieldManager=embellie&force=true")
    assert json.loads(server.seen[-1][3])["preconditions"] == {"uid": "u"}


def test_deleting_what_is_gone_is_no_error(server: Server, client: KubeClient) -> None:
    server.answers = [(404, {}, status(404, "NotFound"))]
    client.delete("/x")
    assert [seen[:2] for seen in server.seen] == [("DELETE", "/x")]
