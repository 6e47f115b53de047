# SPDX-License-Identifier: Apache-2.0
"""What the forecaster says about its feeds and its own errors: `health.json` in the shared directory.

Outside data: what cannot be believed is left out, and the rest is shown. The format is in
docs/reference/forecast-format.md.
"""

import json
import logging
import math
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from embellie.domain.times import parse_time
from embellie.telemetry.metrics import Value, grid

SCHEMA = "embellie.io/forecaster-health/v1"
MAX_FILE_BYTES = 1 << 20
MAX_ENTRIES = 2000
"""Feeds, and rows of quality, that are shown at most."""
OLDEST = timedelta(days=2)
"""A report older than this tells nothing about now."""
_TARGETS = ("lifecycle", "direct", "renewable_share")
logger = logging.getLogger(__name__)


class ForecasterHealth:
    """Reads `DIR/health.json`, and again only when it changed."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "health.json"
        self._read_at: float | None = None
        self._document: Mapping[str, Any] = {}

    def values(self, now: datetime) -> list[Value]:
        """Return what the report says; nothing without one that is believed and young enough."""
        try:
            changed = self._path.stat().st_mtime
            if changed != self._read_at:
                self._read_at = changed
                self._document = _read(self._path)
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError) as error:
            self._document = {}
            logger.warning("%s is passed over: %s", self._path, error)
            return []
        written = parse_time(self._document.get("writtenAt"))
        if written is None or not now - OLDEST < written < now + OLDEST:
            return []
        return [*_feeds(self._document, now), *_quality(self._document)]


def _read(path: Path) -> Mapping[str, Any]:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"is longer than {MAX_FILE_BYTES >> 20} MiB")
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(f"schema must be {SCHEMA}")
    return document


def _rows(document: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    rows = document.get(name)
    if isinstance(rows, list):
        yield from (row for row in rows[:MAX_ENTRIES] if isinstance(row, dict))


def _feeds(document: Mapping[str, Any], now: datetime) -> Iterator[Value]:
    seen = set()
    for row in _rows(document, "feeds"):
        labels = (str(row.get("zone"))[:63], str(row.get("feed"))[:63])
        if labels in seen or not isinstance(row.get("up"), bool):
            continue
        seen.add(labels)
        yield Value(grid.FEED_UP, float(row["up"]), labels)
        last = parse_time(row.get("lastValueAt"))
        if last is not None:
            yield Value(grid.FEED_AGE, max(0.0, (now - last).total_seconds()), labels)


def _quality(document: Mapping[str, Any]) -> Iterator[Value]:
    seen = set()
    for row in _rows(document, "quality"):
        target, day = row.get("target"), row.get("leadDay")
        labels = (str(row.get("zone"))[:63], str(target), str(day))
        if labels in seen or target not in _TARGETS or day not in (1, 2, 3, 4):
            continue
        seen.add(labels)
        for metric, key, most in ((grid.FORECAST_ERROR, "mape", 100.0), (grid.FORECAST_COVERAGE, "coverage80", 1.0)):
            value = row.get(key)
            if isinstance(value, int | float) and math.isfinite(value) and 0.0 <= value <= most:
                yield Value(metric, float(value), labels)
