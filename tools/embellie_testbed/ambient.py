# SPDX-License-Identifier: Apache-2.0
"""The temperature outside, per zone, from a table of hours."""

import csv
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambient:
    """Temperatures by zone, straight lines between the hours of a table; a constant where there is no table."""

    constant_c: float = 15.0
    series: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    """Per zone (POSIX seconds, degC), in order of time."""

    @classmethod
    def read(cls, path: Path) -> "Ambient":
        """Read a CSV file with the columns `timestamp_utc`, `zone` and `ambient_c`."""
        found: dict[str, list[tuple[float, float]]] = {}
        with path.open(encoding="utf-8", newline="") as handle:
            for line in csv.DictReader(handle):
                moment = datetime.fromisoformat(line["timestamp_utc"])
                moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
                found.setdefault(line["zone"], []).append((moment.timestamp(), float(line["ambient_c"])))
        return cls(series={zone: tuple(sorted(points)) for zone, points in found.items()})

    def at(self, zone: str, moment: datetime) -> float:
        """Return the temperature outside a zone; beyond the table its nearest end [degC]."""
        points = self.series.get(zone)
        if not points:
            return self.constant_c
        when = moment.timestamp()
        after = bisect_right(points, when, key=lambda point: point[0])
        if after == 0:
            return points[0][1]
        if after == len(points):
            return points[-1][1]
        (t0, c0), (t1, c1) = points[after - 1], points[after]
        return c0 + (c1 - c0) * (when - t0) / (t1 - t0)
