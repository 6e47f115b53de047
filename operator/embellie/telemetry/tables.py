# SPDX-License-Identifier: Apache-2.0
"""Whole tables out of Prometheus: every series that a query matches, now or over a stretch of time."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import requests
from prometheus_api_client.exceptions import PrometheusApiClientException

from embellie.telemetry.exporters import Series
from embellie.telemetry.prometheus import TooLongAnswerError, connection, in_short

MAX_TABLE_BYTES = 64 << 20
"""All GPUs of a large cluster need less."""
MAX_POINTS = 10_000
"""Prometheus refuses ranges of more than 11,000 points a series."""


class QueryError(Exception):
    """Prometheus did not answer a question; says why."""


class TooLongError(QueryError):
    """The answer is longer than is taken in: the same question is not worth asking again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeOf:
    """One series over time (Unix time [s]); what is not there or not finite is left out."""

    labels: Mapping[str, str]
    at_s: tuple[float, ...]
    values: tuple[float, ...]


class TableSource(Protocol):
    """Answers with whole tables; raises QueryError."""

    def series(self, promql: str, max_age_s: float) -> tuple[Series, ...]:
        """Return the newest sample of every series that a query matches."""
        ...

    def ranges(self, promql: str, start_s: float, end_s: float, step_s: float) -> tuple[RangeOf, ...]:
        """Return every series' samples at a fixed step."""
        ...


class PrometheusTables:
    """Asks one Prometheus."""

    def __init__(self, url: str, *, timeout_s: float = 20.0) -> None:
        self._prometheus = connection(url, timeout_s=timeout_s, max_bytes=MAX_TABLE_BYTES)

    def series(self, promql: str, max_age_s: float) -> tuple[Series, ...]:
        """Return the newest sample of every series that a query matches; raises QueryError."""
        params = {"lookback_delta": f"{max(1, int(max_age_s))}s"}
        found, now_s = [], time.time()
        for one in self._ask(lambda: self._prometheus.custom_query(promql, params=params)):
            labels, pair = _labels(one), _pair(one.get("value"))
            if pair is not None:
                age_s = max(0.0, now_s - pair[0])
                found.append(Series(metric=labels.pop("__name__", ""), labels=labels, value=pair[1], age_s=age_s))
        return tuple(found)

    def ranges(self, promql: str, start_s: float, end_s: float, step_s: float) -> tuple[RangeOf, ...]:
        """Return every series' samples at a fixed step; long ranges are asked for in parts. Raises QueryError."""
        parts: dict[tuple[tuple[str, str], ...], dict[float, float]] = {}
        begin = start_s
        while begin <= end_s:
            until = min(end_s, begin + MAX_POINTS * step_s)
            for one in self._range(promql, begin, until, step_s):
                samples = parts.setdefault(tuple(sorted(_labels(one).items())), {})
                samples.update(pair for raw in one.get("values") or () if (pair := _pair(raw)) is not None)
            begin = until + step_s
        return tuple(
            RangeOf(labels=dict(labels), at_s=tuple(sorted(found)), values=tuple(found[t] for t in sorted(found)))
            for labels, found in parts.items()
        )

    def _range(self, promql: str, start_s: float, end_s: float, step_s: float) -> list[dict[str, Any]]:
        start, end = (datetime.fromtimestamp(at_s, UTC) for at_s in (start_s, end_s))
        # In plain seconds, since Prometheus takes no duration such as 0.1s.
        step = f"{max(0.001, step_s):.3f}"
        return self._ask(lambda: self._prometheus.custom_query_range(promql, start, end, step=step))

    def _ask(self, ask: Callable[[], Any]) -> list[dict[str, Any]]:
        try:
            answer = ask()
        except TooLongAnswerError as error:
            raise TooLongError(f"Prometheus: {in_short(error)}") from error
        except (requests.RequestException, PrometheusApiClientException) as error:
            raise QueryError(f"Prometheus: {in_short(error)}") from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise QueryError("what answers there is not a Prometheus") from error
        if not isinstance(answer, list) or not all(isinstance(one, dict) for one in answer):
            raise QueryError("the query did not return a vector")
        return answer


def _labels(one: Mapping[str, Any]) -> dict[str, str]:
    metric = one.get("metric")
    return {str(k): str(v) for k, v in metric.items()} if isinstance(metric, Mapping) else {}


def _pair(raw: Any) -> tuple[float, float] | None:
    try:
        at_s, value = float(raw[0]), float(raw[1])
    except (IndexError, KeyError, TypeError, ValueError, OverflowError):
        return None
    return (at_s, value) if math.isfinite(at_s) and math.isfinite(value) else None
