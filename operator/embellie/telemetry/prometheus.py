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
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException

logger = logging.getLogger(__name__)


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


class PrometheusSource:
    """Reads from one Prometheus, all sensors at once, within a fixed time."""

    def __init__(self, url: str, *, timeout_s: float = 2.0, budget_s: float = 4.0, parallel: int = 8) -> None:
        session = requests.Session()
        session.headers["User-Agent"] = "embellie"
        self._timeout_s = timeout_s
        self._budget_s = budget_s
        self._prometheus = PrometheusConnect(url=url, session=session, timeout=timeout_s)
        self._pool = ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="promql")

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
            # The lookback is read by Prometheus >= 3.1; older servers ignore it and staleness markers do the work.
            answer = self._prometheus.custom_query(
                query.promql, params={"lookback_delta": f"{max(1, int(query.max_age_s))}s"}
            )
        except (requests.RequestException, PrometheusApiClientException, ValueError, KeyError) as error:
            return Sample(at_s=time.monotonic(), value=None, problem=f"Prometheus: {str(error)[:160]}")
        value, problem = single_value(answer)
        return Sample(at_s=time.monotonic(), value=value, problem=problem)


def single_value(answer: Any) -> tuple[float | None, str]:
    """Take the one finite number out of an instant query's answer, or say why there is none.

    >>> single_value([{"metric": {}, "value": [1700000000, "21.5"]}])
    (21.5, '')
    >>> single_value([])[1]
    'the query returned no series'
    """
    if not isinstance(answer, list):
        return None, "the query did not return a vector"
    if not answer:
        return None, "the query returned no series"
    if len(answer) > 1:
        return None, f"the query returned {len(answer)} series; aggregate them to one, for example with max(...)"
    try:
        value = float(answer[0]["value"][1])
    except (KeyError, IndexError, TypeError, ValueError):
        return None, "the query returned no number"
    if not math.isfinite(value):
        return None, f"the query returned {value}"
    return value, ""
