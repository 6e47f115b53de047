# SPDX-License-Identifier: Apache-2.0
"""The Prometheus that is down, slow, broken or no Prometheus at all: every query gets an answer, in time, in words."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from embellie.control.assembly.sensors import SensorDesk
from embellie.control.telling.thermal_status import thermal_zone_status
from embellie.domain.limits import heat_room_now
from embellie.telemetry.prometheus import NoMetrics, PrometheusSource, Query, single_value
from embellie.telemetry.tables import MAX_POINTS, PrometheusTables, QueryError, TooLongError
from embellie_testbed.views import assembled, nodes, thermal_zone, view

ONE = Query(key="inlet", promql="max(inlet_celsius)", max_age_s=60)


class Server:
    """A local HTTP server that answers as it is told, on the address that it says."""

    def __init__(self) -> None:
        self.answer: Callable[[BaseHTTPRequestHandler], None] = vector(21.5)
        self.asked: list[str] = []
        self.freed = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.asked.append(self.path)
                self.close_connection = True
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self._thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self.freed.set()
        self.http.shutdown()
        self.http.server_close()
        self._thread.join()


def body(content: bytes, status: int = 200, kind: str = "application/json") -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(content)))
        # Said, so that no second request is sent into a connection that is being closed.
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def result(found: object, status: int = 200) -> Callable[[BaseHTTPRequestHandler], None]:
    return body(json.dumps({"status": "success", "data": {"resultType": "vector", "result": found}}).encode(), status)


def vector(*values: object) -> Callable[[BaseHTTPRequestHandler], None]:
    return result([{"metric": {"n": str(i)}, "value": [time.time(), str(v)]} for i, v in enumerate(values)])


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.close()


def source(url: str, *, hurried: bool = False) -> PrometheusSource:
    """Patient where an answer comes, whatever else the machine does; hurried where none will."""
    return (
        PrometheusSource(url, timeout_s=0.4, budget_s=0.8)
        if hurried
        else PrometheusSource(url, timeout_s=20.0, budget_s=25.0)
    )


def test_a_single_number_is_read_with_the_look_back_of_the_sensors_age(server: Server):
    sample = source(server.url).read([ONE])["inlet"]
    assert (sample.value, sample.problem) == (21.5, "")
    assert "lookback_delta=60s" in server.asked[0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (vector(), "no series"),
        (vector(20, 21), "2 series"),
        (vector("NaN"), "nan"),
        (vector("+Inf"), "inf"),
        (vector("warm"), "no number"),
        (result([1700000000, "warm"]), "no number"),
        (result([{"metric": {}, "value": "21"}]), "no number"),
        (result([{"metric": {}, "value": [1, None]}]), "no number"),
        (result([{"metric": {}, "values": [[1, "2"]]}]), "no number"),
        (result([21.5]), "no number"),
        (result({"a": 1}), "not return a vector"),
        (result(None), "not return a vector"),
        (result("21.5"), "not return a vector"),
        (body(b"[]"), "not a Prometheus"),
        (body(b"null"), "not a Prometheus"),
        (body(b'{"data": null}'), "not a Prometheus"),
        (body(b'{"status": "success"}'), "not a Prometheus"),
        (body(b"[" * 100_000), "not a Prometheus"),
        (body(b""), "not JSON"),
        (body(b"<html>please log in</html>", kind="text/html"), "not JSON"),
        (body(b"\xff\xfe\x00garbage"), "JSON"),
        (body(b'{"status":"error","error":"parse error"}', status=400), "parse error"),
        (body(b"oh no", status=500), "500"),
        (body(b"later", status=503), "503"),
        (body(b"x" * (2 << 20)), "longer than 1 MiB"),
    ],
)
def test_an_answer_without_one_finite_number_is_a_sample_that_says_why(server: Server, answer, words: str):
    server.answer = answer
    sample = source(server.url).read([ONE])["inlet"]
    assert sample.value is None
    assert words in sample.problem


def test_a_table_that_is_too_long_is_told_from_one_that_may_come_later(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embellie.telemetry.tables.MAX_TABLE_BYTES", 1 << 10)
    for content, error in ((b"x" * (2 << 10), TooLongError), (b"later", QueryError)):
        server.answer = body(content, status=503)
        with pytest.raises(QueryError) as found:
            PrometheusTables(server.url).series("power", 60.0)
        assert found.type is error


def dropped(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection instead of answering, as a server does with a kept one that it has had for long."""
    handler.connection.shutdown(socket.SHUT_RDWR)


def test_a_connection_that_is_dropped_is_asked_once_more_and_no_more(server: Server):
    def second_time(handler: BaseHTTPRequestHandler) -> None:
        answer = dropped if len(server.asked) == 1 else vector(21.5)
        answer(handler)

    server.answer = second_time
    assert source(server.url).read([ONE])["inlet"].value == 21.5
    server.answer = dropped
    sample = source(server.url).read([ONE])["inlet"]
    assert (sample.value, sample.problem) == (None, "Prometheus: cannot be reached")
    assert len(server.asked) == 4


def test_a_prometheus_that_is_down_is_told_at_once_and_not_tried_again_within_the_turn():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        began = time.monotonic()
        sample = PrometheusSource(url).read([ONE])["inlet"]
    assert sample.value is None
    assert "cannot be reached" in sample.problem
    assert time.monotonic() - began < 10.0, "a refused connection is not tried again and again"


@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp://127.0.0.1", "http://no.such.host.invalid:9090"])
def test_an_address_that_cannot_be_is_a_missing_sample(url: str):
    assert source(url).read([ONE])["inlet"].value is None


def test_reading_stays_within_its_budget_when_nothing_is_answered(server: Server):
    server.answer = lambda _: bool(server.freed.wait(20)) and None
    # One after the other, eight at a time and 0.4 s each, they would take 20 s.
    many = [Query(key=str(i), promql="x", max_age_s=60) for i in range(400)]
    began = time.monotonic()
    samples = source(server.url, hurried=True).read(many)
    assert time.monotonic() - began < 15.0
    assert set(samples) == {q.key for q in many}
    assert all(s.value is None and s.problem for s in samples.values())


def test_a_server_that_sends_a_byte_now_and_then_does_not_keep_the_threads(server: Server):
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        while not server.freed.wait(0.1):
            try:
                handler.wfile.write(b" ")
            except OSError:
                return

    server.answer = drip
    dripped = source(server.url, hurried=True)
    for _ in range(2):
        samples = dripped.read([Query(key=str(i), promql="x", max_age_s=60) for i in range(8)])
        assert all(s.value is None for s in samples.values())
    server.answer = vector(20)
    deadline = time.monotonic() + 30
    while dripped.read([ONE])["inlet"].value is None:
        assert time.monotonic() < deadline, "no thread ever came back"


def test_one_query_that_hangs_does_not_cost_the_others_theirs(server: Server):
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if "hang" in handler.path:
            server.freed.wait(20)
        else:
            vector(20)(handler)

    server.answer = answer
    hung = PrometheusSource(server.url, timeout_s=0.8, budget_s=0.9)
    samples = hung.read([Query(key="bad", promql="hang", max_age_s=60), ONE])
    assert samples["bad"].value is None
    assert samples["inlet"].value == 20.0


def test_without_a_prometheus_every_sensor_is_missing_and_says_so():
    sample = NoMetrics().read([ONE])["inlet"]
    assert sample.value is None
    assert "no Prometheus" in sample.problem


def test_a_number_as_large_as_a_library_is_no_number():
    assert single_value([{"value": [1, "9" * 5000]}])[0] is None


def test_a_query_that_makes_a_scalar_of_its_number_is_read_like_any_other(server: Server):
    for age_s, value in ((0.0, 21.5), (365 * 86400.0, None)):
        server.answer = result([time.time() - age_s, "21.5"])
        assert source(server.url).read([ONE])["inlet"].value == value


# --- what a bad answer does to its zone, and to no other --------------------------------------------------------------

INLET = {"name": "inlet", "role": "Inlet", "unit": "Celsius"}


def one(value: object, age_s: float = 0.0) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer one number of the moment that it is asked at: tests are gathered long before they run."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        result([{"metric": {}, "value": [time.time() - age_s, str(value)]}])(handler)

    return answer


def half(handler: BaseHTTPRequestHandler) -> None:
    """Promise a whole answer, send half of it, and hang up."""
    whole = json.dumps({"status": "success", "data": {"resultType": "vector", "result": []}}).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(whole)))
    handler.end_headers()
    handler.wfile.write(whole[: len(whole) // 2])


def late(handler: BaseHTTPRequestHandler) -> None:
    """Answer rightly, long after anybody waits."""
    handler.server.freed.wait(20)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (vector(), "no series"),
        (vector(20, 21), "2 series"),
        (vector("warm"), "no number"),
        (result([1700000000, "warm"]), "no number"),
        (vector("NaN"), "nan"),
        (one(24.0, 365 * 86400.0), "old"),
        (one(75.2), "compare its query with its unit"),
        (one(-300.0), "compare its query with its unit"),
        (half, ""),
        (late, ""),
    ],
    ids=[
        "nothing",
        "two series",
        "no number",
        "a string",
        "NaN",
        "last year",
        "Fahrenheit",
        "absolute cold",
        "half",
        "late",
    ],
)
def test_a_bad_answer_puts_its_zone_at_its_worst_with_the_sensors_name_and_other_zones_go_on(
    server: Server, answer: Callable[[BaseHTTPRequestHandler], None], words: str
):
    server.http.freed = server.freed
    good = vector(24.0)
    server.answer = lambda handler: (answer if "bad" in handler.path else good)(handler)
    zones = [
        thermal_zone("bad", sensors=[{**INLET, "query": "bad"}], cooling={"riseMillikelvinPerKilowatt": 100}),
        thermal_zone("fine", sensors=[{**INLET, "query": "good"}], cooling={"riseMillikelvinPerKilowatt": 100}),
    ]
    readings = SensorDesk(source(server.url, hurried=answer is late)).read((), zones, {}, {})
    made = assembled(
        thermal_zones=tuple(zones),
        inlets=readings.inlets,
        supplies=readings.supplies,
        view=view(on=nodes(("bad", "fine"))),
    )
    rooms = {z.name: heat_room_now(z) for z in made.snapshot.thermal_zones}
    assert not rooms["bad"].trusted
    if answer is not late:
        # In a hurry the good answer may come too late as well.
        assert rooms["fine"].trusted
    for zone, good_ in zip(zones if answer is not late else zones[:1], ("False", "True"), strict=False):
        status = thermal_zone_status(zone, made, readings.problems, datetime(2026, 7, 1, tzinfo=UTC))
        told = next(c for c in status.conditions if c.type == "SensorsTrusted")
        assert str(told.status) == good_
        if good_ == "False":
            assert str(status.state) == "Unknown"
            assert "inlet: " in told.message
            assert words in told.message


def test_a_table_has_every_series_with_its_age_but_those_that_tell_no_number(server: Server):
    now_s = time.time()
    server.answer = result(
        [
            {"metric": {"__name__": "power", "node": "a"}, "value": [now_s - 30.0, "4.5"]},
            {"metric": {"__name__": "power", "node": "b"}, "value": [now_s, "NaN"]},
            {"metric": {"__name__": "power", "node": "c"}},
        ]
    )
    (found,) = PrometheusTables(server.url).series("power", 60.0)
    assert (found.metric, found.labels, found.value) == ("power", {"node": "a"}, 4.5)
    assert 30.0 <= found.age_s < 60.0
    assert "lookback_delta=60s" in server.asked[0]


def test_a_long_range_is_asked_for_in_parts_that_are_put_together_in_time(server: Server):
    parts = iter([[[15.0, "2"], [0.0, "1"]], [[15.0 * (MAX_POINTS + 1), "3"], [15.0, "x"]]])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        result([{"metric": {"node": "a"}, "values": next(parts)}])(handler)

    server.answer = answer
    (found,) = PrometheusTables(server.url).ranges("power", 0.0, 15.0 * (MAX_POINTS + 10), 15.0)
    assert len(server.asked) == 2
    assert (found.labels, found.at_s) == ({"node": "a"}, (0.0, 15.0, 15.0 * (MAX_POINTS + 1)))
    assert found.values == (1.0, 2.0, 3.0)
