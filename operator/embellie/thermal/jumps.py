# SPDX-License-Identifier: Apache-2.0
"""Which zones have a sensor that jumped a while ago: for so long nothing is learnt of what the zone is like. Pure.

A temperature that leaps by more than a room can, stays there for minutes and leaps back was a sensor's doing, but that
shows only afterwards. Until then it counts as what it says, in everything that is done about heat; it only teaches
nothing that would outlast it: one such leap would widen the zone's margin for hours.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from embellie.thermal.sensing import MAX_STEP_K, ZoneReadings
from embellie.thermal.settings import Role, ZoneSettings

IN_DOUBT = timedelta(minutes=30)
"""How long a temperature that leapt may leap back; one that stays is learnt then."""


class Jumps:
    """Follows every temperature that teaches something of some zones."""

    def __init__(self) -> None:
        self._last_c: dict[tuple[str, Role], float] = {}
        self._until: dict[str, datetime] = {}

    @property
    def zones(self) -> frozenset[str]:
        """Names of the zones of which nothing is to be learnt now."""
        return frozenset(self._until)

    def observe(self, now: datetime, zones: Iterable[ZoneSettings], readings: Mapping[str, ZoneReadings]) -> None:
        """Take one look at each zone; a temperature that cannot be believed is left out."""
        last_c: dict[tuple[str, Role], float] = {}
        until: dict[str, datetime] = {}
        for zone in zones:
            seen = readings.get(zone.name)
            ends = self._until.get(zone.name, now)
            for role, most_k in MAX_STEP_K.items():
                before_c = self._last_c.get((zone.name, role))
                value_c = None if seen is None else seen.value(role)
                if value_c is not None and before_c is not None and abs(value_c - before_c) > most_k:
                    ends = now + IN_DOUBT
                kept_c = before_c if value_c is None else value_c
                if kept_c is not None:
                    last_c[zone.name, role] = kept_c
            if ends > now:
                until[zone.name] = ends
        self._last_c, self._until = last_c, until
