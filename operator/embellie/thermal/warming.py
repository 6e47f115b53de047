# SPDX-License-Identifier: Apache-2.0
"""Which zones warm faster than a start could be taken back, whatever their model says: nothing new starts there. Pure.

A model foresees only what it has seen: a pump that fails warms the coolant while the model, the steady state and a
reading still far below its margin all allow more. So each limited temperature is also followed by itself. One that
surely rises so fast that it would pass its limit less the margin before the heat of a start could be gone again takes
nothing more until the rise is over.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from embellie.thermal.sensing import ZoneReadings
from embellie.thermal.settings import Role, ZoneSettings
from embellie.thermal.trend import Trend

TAKEN_BACK_S = 600.0
"""From a decision to start until its heat is gone again: pods start, sensor, scrape, turn, checkpoint, grace [s]."""


class Warming:
    """Follows every limited temperature of some zones."""

    def __init__(self) -> None:
        self._trends: dict[tuple[str, Role], Trend] = {}
        self._found: frozenset[str] = frozenset()

    @property
    def zones(self) -> frozenset[str]:
        """Names of the zones that take nothing more until their rise is over."""
        return self._found

    def observe(self, now: datetime, zones: Iterable[ZoneSettings], readings: Mapping[str, ZoneReadings]) -> None:
        """Take one look at each zone; a temperature that cannot be believed is left out."""
        trends: dict[tuple[str, Role], Trend] = {}
        found = set()
        for zone in zones:
            seen = readings.get(zone.name)
            for role, hard_c in zone.limited:
                key, mark_c = (zone.name, role), hard_c - zone.limits.margin_k
                trend = self._trends.get(key, Trend())
                value_c = None if seen is None else seen.value(role)
                if value_c is not None:
                    trend = trend.felt(now, value_c, mark_c, TAKEN_BACK_S)
                    if trend.to_limit_s(mark_c) <= TAKEN_BACK_S:
                        found.add(zone.name)
                trends[key] = trend
        self._trends, self._found = trends, frozenset(found)
