# SPDX-License-Identifier: Apache-2.0
"""Single values out of Prometheus, hostile until parsed.

Only the custom queries of prometheus-api-client are used, with a timeout and a look-back as short as the reading may
be old: Prometheus would otherwise serve a value for five minutes after its target went away.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import requests
import urllib3
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

logger = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 1 << 20
"""One number needs less; more is an answer to another question, and must not fill the memory."""

CLOCKS_DIFFER_S = 60.0
"""Prometheus' clock and ours may differ by so much before its answers count as old [s]."""

_AT_ONCE = 8
"""Questions that one source asks at a time."""


class TooLongAnswerError(requests.RequestException):
    """More came than is taken in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One sensor's question."""

    key: str
    promql: str
    max_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What came back: a number, or why there is none."""

    at_s: float
    """When it was asked, on the monotonic clock [s]."""
    value: float | None
    problem: str = ""


class MetricsSource(Protocol):
    """Answers sensors' questions; never raises, never takes longer than its time budget."""

    def read(self, queries: Sequence[Query]) -> Mapping[str, Sample]:
        """Return a sample for every query, by key."""
        ...


class NoMetrics:
    """The source of an installation without Prometheus: every sensor is missing."""

    def read(self, queries: Sequence[Query]) -> Mapping[str, Sample]:
        """Return a missing sample for every query."""
        now = time.monotonic()
        return {q.key: Sample(at_s=now, value=None, problem="no Prometheus is configured") for q in queries}


class BoundedSession(requests.Session):
    """A session whose answers end: `timeout` bounds the whole answer, where requests bounds only each silence in it.

    Otherwise a server that sends a byte a second would keep a thread for ever.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Ask, and read the answer as far as the time and the size go; raises requests.RequestException."""
        give_up_at = time.monotonic() + float(kwargs["timeout"])
        response = super().request(*args, **{**kwargs, "stream": True})
        content = bytearray()
        try:
            # `read1` comes back with what is there, so that a trickle cannot hide behind a large read.
            while chunk := response.raw.read1(1 << 16, decode_content=True):
                content += chunk
                if time.monotonic() > give_up_at:
                    raise requests.Timeout
                if len(content) > self._max_bytes:
                    raise TooLongAnswerError(f"the answer is longer than {self._max_bytes >> 20} MiB")
        except urllib3.exceptions.ReadTimeoutError as error:
            raise requests.Timeout from error
        except urllib3.exceptions.HTTPError as error:
            raise requests.ConnectionError(str(error)) from error
        finally:
            response.close()
        response._content = bytes(content)  # noqa: SLF001 - what `stream=False` does, but bounded
        return response


def connection(url: str, *, timeout_s: float, max_bytes: int) -> PrometheusConnect:
    """Return a client whose answers end in time and size, and that tries once."""
    session = BoundedSession(max_bytes)
    session.headers["User-Agent"] = "embellie"
    # The client would try four times, six seconds apart in all.
    return PrometheusConnect(url=url, session=session, timeout=timeout_s, retry=Retry(0, read=False))


class PrometheusSource:
    """Reads from one Prometheus, all sensors at once, within a fixed time."""

    def __init__(self, url: str, *, timeout_s: float = 2.0, budget_s: float = 4.0) -> None:
        self._budget_s = budget_s
        self._prometheus = connection(url, timeout_s=timeout_s, max_bytes=MAX_ANSWER_BYTES)
        self._pool = ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="promql")

    def read(self, queries: Sequence[Query]) -> Mapping[str, Sample]:
        """Ask all queries in parallel; what is not back in time counts as missing."""
        started = time.monotonic()
        futures = {q.key: self._pool.submit(self._ask, q) for q in queries}
        samples = {}
        for key, future in futures.items():
            left = max(0.0, started + self._budget_s - time.monotonic())
            try:
                samples[key] = future.result(timeout=left)
            except TimeoutError:
                future.cancel()
                samples[key] = Sample(at_s=time.monotonic(), value=None, problem="Prometheus is too slow")
        return samples

    def _ask(self, query: Query) -> Sample:
        try:
            answer = self._answer(query)
        except (requests.RequestException, PrometheusApiClientException) as error:
            return Sample(at_s=time.monotonic(), value=None, problem=f"Prometheus: {in_short(error)}")
        except (ValueError, TypeError, KeyError, RecursionError):
            return Sample(at_s=time.monotonic(), value=None, problem="what answers there is not a Prometheus")
        value, problem = single_value(answer)
        late_s = answered_late_s(answer, time.time())
        if value is not None and late_s > query.max_age_s + CLOCKS_DIFFER_S:
            return Sample(at_s=time.monotonic(), value=None, problem=f"the answer is {late_s:.0f} s old")
        return Sample(at_s=time.monotonic(), value=value, problem=problem)

    def _answer(self, query: Query) -> Any:
        # The lookback is read by Prometheus >= 3.1; older servers ignore it and staleness markers do the work.
        params = {"lookback_delta": f"{max(1, int(query.max_age_s))}s"}
        try:
            return self._prometheus.custom_query(query.promql, params=params)
        except requests.ConnectionError as error:
            if not (error.args and isinstance(error.args[0], urllib3.exceptions.ProtocolError)):
                raise
            # A kept connection that was closed in this moment says nothing of the server: once more, on a new one.
            return self._prometheus.custom_query(query.promql, params=params)


def answered_late_s(answer: Any, now_s: float) -> float:
    """Return how long ago an instant answer says that it was true [s]; 0 where it does not say."""
    try:
        return max(0.0, now_s - float(_pair(answer)[0]))
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        return 0.0


def in_short(error: Exception) -> str:
    """Say what went wrong so that the same trouble has the same words each turn."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError):
        return "cannot be reached"
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return "the answer is not JSON"
    return str(error)[:160]


def single_value(answer: Any) -> tuple[float | None, str]:
    """Take the one finite number out of an instant query's answer, or say why there is none.

    >>> single_value([{"metric": {}, "value": [1700000000, "21.5"]}])
    (21.5, '')
    >>> single_value([1700000000, "21.5"])
    (21.5, '')
    >>> single_value([])[1]
    'the query returned no series'
    """
    if not isinstance(answer, list):
        return None, "the query did not return a vector"
    if not answer:
        return None, "the query returned no series"
    if len(answer) > 1 and not _is_scalar(answer):
        return None, f"the query returned {len(answer)} series; aggregate them to one, for example with max(...)"
    try:
        pair = _pair(answer)
        value = float(pair[1]) if isinstance(pair, list) else None
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        value = None
    if value is None:
        return None, "the query returned no number"
    if not math.isfinite(value):
        return None, f"the query returned {value}"
    return value, ""


def _is_scalar(answer: Any) -> bool:
    """Tell a scalar's or a string's answer, an instant and a text, from a vector's, a list of objects."""
    return isinstance(answer[-1], str)


def _pair(answer: Any) -> Any:
    """Return the instant and the value of an answer; raises what comes of any other shape."""
    return answer if _is_scalar(answer) else answer[0]["value"]
