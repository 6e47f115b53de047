# SPDX-License-Identifier: Apache-2.0
"""What became of the forecasts that were issued: errors and coverage by day ahead, beside the health of the feeds.

Issues are remembered for a month (one in six hours, `track/ZONE.json`), compared with what the feed says came, and told
in `health.json` of the exchange directory (docs/reference/forecast-format.md).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from embellie_forecast.documents import known_end
from embellie_forecast.exchange import FORECAST_LEVELS, ForecastDocument, write_atomically
from embellie_forecast.factors import FloatArray
from embellie_forecast.feeds import Fed
from embellie_forecast.finer import hourly
from embellie_forecast.history import ZoneHistory, hour_of, instant_of

SCHEMA = "embellie.io/forecaster-health/v1"
KEPT = timedelta(days=30)
EVERY_HOURS = 6
"""One issue in so many hours is remembered: errors of neighbouring issues say the same."""
DAYS_AHEAD = (1, 2, 3, 4)
SILENT_HOURS = 48
"""A feed that has told nothing for so long is down."""
FEWEST_HOURS = 24
"""So many hours must have come before an error is told."""
SMALLEST = 1.0
"""Below this no error is told as a share of what came [g/kWh]."""
MAX_TRACK_BYTES = 8 << 20
_TARGETS = ("lifecycle", "direct", "renewable_share")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Issue:
    """What one issue said: target -> quantiles, shape (3, slots); slot 0 is `first_hour`."""

    first_hour: int
    said: dict[str, FloatArray]


class TrackRecord:
    """Remembers issues and tells how they did. One object for all zones of an exchange directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._issues: dict[str, list[_Issue]] = {}
        self._feeds: dict[str, list[dict[str, Any]]] = {}
        self._quality: dict[str, list[dict[str, Any]]] = {}

    def note(self, document: ForecastDocument, feeds: Mapping[str, Fed | None], now: datetime) -> None:
        """Take in an issue and what the zone's feeds said then, and write the report.

        Args:
            document: What was issued.
            feeds: Name -> what the feed gave, the preferred first; None where it failed.
            now: The forecaster's time.

        Raises:
            OSError: The directory refuses the report; everything is told again at the next issue.
        """
        zone = document.zone
        issues = self._issues.get(zone)
        if issues is None:
            issues = self._issues[zone] = _read(self._file(zone))
        fresh = _issue_of(document)
        changed = not issues or not 0 <= fresh.first_hour - issues[-1].first_hour < EVERY_HOURS
        if changed:
            oldest = hour_of(now - KEPT)
            issues = [i for i in issues if oldest <= i.first_hour < fresh.first_hour] + [fresh]
            self._issues[zone] = issues
        self._feeds[zone] = [_health(zone, name, fed, now) for name, fed in feeds.items()]
        # By the preferred source, as long as it says something: another one may count otherwise.
        judge = next((fed for fed in feeds.values() if fed is not None), None)
        if judge is not None:
            self._quality[zone] = list(judged(zone, issues, judge.history, now))
        report = {
            "schema": SCHEMA,
            "writtenAt": now.astimezone(UTC).isoformat(),
            "feeds": [row for name in sorted(self._feeds) for row in self._feeds[name]],
            "quality": [row for name in sorted(self._quality) for row in self._quality[name]],
        }
        write_atomically(self._directory / "health.json", json.dumps(report, allow_nan=False, indent=1))
        if changed:
            write_atomically(self._file(zone), _text(issues))

    def forget_all_but(self, zones: set[str]) -> None:
        """Drop what is known of zones that are no longer asked for."""
        for table in (self._issues, self._feeds, self._quality):
            for name in set(table) - zones:
                del table[name]

    def _file(self, zone: str) -> Path:
        return self._directory / "track" / f"{zone}.json"


def _health(zone: str, name: str, fed: Fed | None, now: datetime) -> dict[str, Any]:
    # The present hour too: some feeds tell of it before it is over.
    present = hour_of(now) + 1
    end = None if fed is None else known_end(fed.history, present)
    up = end is not None and present - end < SILENT_HOURS
    return {"zone": zone, "feed": name, "up": up, "lastValueAt": instant_of(end).isoformat() if end and up else None}


def judged(zone: str, issues: list[_Issue], history: ZoneHistory, now: datetime) -> Iterator[dict[str, Any]]:
    """Yield errors and coverage by target and day ahead, over the hours that came."""
    came_by = {
        "lifecycle": history.lifecycle_g_per_kwh,
        "direct": history.direct_g_per_kwh,
        "renewable_share": history.renewable_share,
    }
    present = hour_of(now)
    for target in _TARGETS:
        for day in DAYS_AHEAD:
            said, came = _pairs(issues, target, day, came_by[target], history.first_hour, present)
            if came.size < FEWEST_HOURS:
                continue
            error = np.abs(said[1] - came)
            whole = came >= SMALLEST
            inside = (said[0] <= came) & (came <= said[2])
            relative = target != "renewable_share" and whole.any()
            yield {
                "zone": zone,
                "target": target,
                "leadDay": day,
                "hours": int(came.size),
                "mape": round(float(np.mean(error[whole] / came[whole])), 4) if relative else None,
                "mae": round(float(error.mean()), 4),
                "coverage80": round(float(inside.mean()), 4),
            }


def _pairs(
    issues: list[_Issue], target: str, day: int, came: FloatArray, first_hour: int, present: int
) -> tuple[FloatArray, FloatArray]:
    """Return what was said (3, hours) and what came (hours,) for one day ahead."""
    said_parts, came_parts = [np.empty((3, 0))], [np.empty(0)]
    for issue in issues:
        rows = issue.said.get(target)
        if rows is None:
            continue
        slots = np.arange(24 * (day - 1), min(24 * day, rows.shape[1]))
        hours = issue.first_hour + slots
        known = (hours < present) & (hours >= first_hour) & (hours < first_hour + came.size)
        slots, hours = slots[known], hours[known]
        truth = came[hours - first_hour]
        there = np.isfinite(truth)
        said_parts.append(rows[:, slots[there]])
        came_parts.append(truth[there])
    return np.concatenate(said_parts, axis=1), np.concatenate(came_parts)


def _issue_of(document: ForecastDocument) -> _Issue:
    rows = [document.quantile_levels.index(level) for level in FORECAST_LEVELS]
    main = "direct" if document.signal_kind == "AverageDirect" else "lifecycle"
    step = document.step
    said = {main: hourly(document.carbon_g_per_kwh[rows], step)}
    if document.renewable_share is not None:
        said["renewable_share"] = hourly(document.renewable_share[rows], step)
    if document.direct_g_per_kwh is not None:
        said["direct"] = hourly(document.direct_g_per_kwh[rows], step)
    return _Issue(first_hour=hour_of(document.start), said=said)


def _text(issues: list[_Issue]) -> str:
    told = [
        {
            "firstHour": issue.first_hour,
            "said": {
                name: np.round(rows, 3 if name == "renewable_share" else 1).tolist()
                for name, rows in issue.said.items()
            },
        }
        for issue in issues
    ]
    return json.dumps({"issues": told}, allow_nan=False, separators=(",", ":"))


def _read(path: Path) -> list[_Issue]:
    """Read what was remembered; what cannot be read is forgotten, since it is gathered anew within days."""
    try:
        if path.stat().st_size > MAX_TRACK_BYTES:
            return []
        found = [
            _Issue(
                first_hour=int(entry["firstHour"]),
                said={str(n): np.array(rows, dtype=np.float64) for n, rows in entry["said"].items()},
            )
            for entry in json.loads(path.read_text(encoding="utf-8"))["issues"]
        ]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return []
    good = [i for i in found if all(r.ndim == 2 and r.shape[0] == 3 and np.isfinite(r).all() for r in i.said.values())]
    return sorted(good, key=lambda issue: issue.first_hour)
