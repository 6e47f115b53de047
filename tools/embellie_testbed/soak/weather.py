# SPDX-License-Identifier: Apache-2.0
"""Plays the forecaster, an hour a minute: forecasts that swing, stay away, grow old, or are nonsense."""

import random
import threading
from datetime import timedelta
from pathlib import Path

from embellie_testbed.product import write_forecast
from embellie_testbed.soak.spells import now

STEP_S = 60
SLOTS = 45
_EVERY_S = 12.0
_NONSENSE = ("", "{", "[]", '{"schema":"embellie.io/forecast/v1"}', '{"schema":"other"}', "\x00\x01")


class Weather:
    """Writes forecasts of some zones, in one thread."""

    def __init__(self, exchange: Path, zones: tuple[str, ...], seed: str) -> None:
        self._exchange = exchange
        self._zones = zones
        self._rng = random.Random(seed)

    def run(self, stop: threading.Event) -> None:
        """Issue forecasts until told to stop."""
        while not stop.wait(_EVERY_S * self._rng.random()):
            self.issue(self._rng.choices(("swings", "flat", "none", "old", "nonsense"), (70, 8, 10, 6, 6))[0])

    def issue(self, how: str) -> None:
        """Issue one forecast for each zone."""
        for zone in self._zones:
            if how in ("swings", "flat"):
                write_forecast(self._exchange, zone, self._values(how), step_seconds=STEP_S)
            elif how == "old":
                then = now() - timedelta(seconds=STEP_S * SLOTS * self._rng.random() * 2)
                write_forecast(self._exchange, zone, self._values("swings"), now=then, step_seconds=STEP_S)
            elif how == "nonsense":
                path = self._exchange / "forecasts" / zone / f"{now():%Y%m%dT%H%M%SZ}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self._rng.choice(_NONSENSE), encoding="utf-8")
        self._tidy()

    def _values(self, how: str) -> list[float]:
        if how == "flat":
            return [300.0] * SLOTS
        # Dirty now more often than not, or nothing would wait.
        first = self._rng.choice((600.0, 600.0, 600.0, 100.0))
        return [first, *(float(self._rng.randint(50, 600)) for _ in range(SLOTS - 1))]

    def _tidy(self) -> None:
        for zone in self._zones:
            for path in sorted((self._exchange / "forecasts" / zone).glob("*.json"))[:-8]:
                path.unlink()
