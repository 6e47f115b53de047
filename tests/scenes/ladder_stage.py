# SPDX-License-Identifier: Apache-2.0
"""Providers on real sockets, a forecaster and an operator of one zone, at a time that the test sets."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embellie.domain.forecast import Forecast
from embellie.telemetry.forecasts import ForecastDirectory
from embellie_forecast.clock import ForecastClock
from embellie_forecast.exchange import ForecastDocument, newest_document
from embellie_forecast.exchange import Rung as OurRung
from embellie_forecast.history import hour_of
from embellie_forecast.history_files import load_carried
from embellie_forecast.ladder import Ladder
from embellie_forecast.live import LiveFeed
from embellie_forecast.models import Settings
from embellie_forecast.models.targets import Kernel
from embellie_forecast.service import Service
from embellie_forecast.sources.transport import Http, Patience
from embellie_testbed.providers import Behaviour, Server, everything, truth_at

BEGIN = datetime(2021, 7, 2, 6, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
TINY = Settings(
    kernels=(Kernel(gamma=0.005, alpha=0.1),), max_training_days=60, refit_days=90, warm_up_days=20, calibration_days=15
)
ZONE: dict[str, Any] = {
    "name": "east",
    "gridRegion": "US-PJM",
    "latitudeMillidegrees": 39_000,
    "longitudeMillidegrees": -77_500,
    "sources": {
        "primary": {"kind": "EIA", "area": "PJM"},
        "crossCheck": {"kind": "ElectricityMaps", "area": "US-MIDA-PJM"},
        "weather": "OpenMeteo",
    },
}


@lru_cache
def pjm() -> Callable[[datetime], dict[str, float]]:
    """What really happened in PJM, as the providers tell it."""
    history = load_carried("US-PJM")

    @cache
    def truth(moment: datetime) -> dict[str, float]:
        row = hour_of(moment) - history.first_hour
        found = {f"gen_{name}_mw": float(mw[row]) for name, mw in history.generation_mw.items() if np.isfinite(mw[row])}
        found["ci_lifecycle_g_per_kwh"] = round(float(history.lifecycle_g_per_kwh[row]), 1)
        found["re_pct"] = round(100.0 * float(history.renewable_share[row]), 1)
        return {**truth_at(moment), **found}

    return truth


class Stage:
    """Providers, forecaster and operator of one zone, at a time that the test sets."""

    def __init__(self, server: Server, folder: Path, cache: Path | None = None) -> None:
        self.server = server
        self.folder = folder
        self.down: set[str] = set()
        server.answer = everything
        server.truth = pjm()
        server.behaviour = Behaviour(reply=self._reply)
        self.tell(ZONE)
        self.operator = ForecastDirectory(folder)
        self.restart(cache)
        self.at(BEGIN)

    def _reply(self, server: Server, _n: int) -> tuple[int, dict[str, str], bytes] | None:
        path = server.requests[-1][0]
        return (503, {}, b"") if any(path.startswith(prefix) for prefix in self.down) else None

    def restart(self, cache: Path | None = None) -> None:
        """Start a forecaster that remembers only what lies in `cache`."""
        http = Http(patience=Patience(silence_s=20.0, attempts=1), pause=lambda _s: None)
        feed = LiveFeed(http, None if cache is None else cache / "archives")
        models = None if cache is None else cache / "models"
        self.ladder = Ladder(feed=feed, origin=None, models=models, settings=TINY)
        self.service = Service(directory=self.folder, clock=self.clock(BEGIN), ladder=self.ladder, every=HOUR)

    def clock(self, moment: datetime) -> ForecastClock:
        return ForecastClock(origin=moment, wall_origin=datetime.now(UTC), factor=1e-6, replay=True)

    def tell(self, zone: dict[str, Any]) -> None:
        (self.folder / "zones.json").write_text(json.dumps({"zones": [zone]}))

    def at(self, moment: datetime) -> None:
        self.now = self.server.now = moment
        self.service._clock = self.clock(moment)

    def turn(self) -> Forecast:
        """Let the forecaster issue, and return what the operator reads."""
        self.service._issued.clear()
        assert self.service.turn() >= 1
        found = self.operator.latest("east", self.now)
        assert found is not None
        assert found.issued_at == self.now.replace(microsecond=0)
        return found

    def document(self) -> ForecastDocument:
        found = newest_document(self.folder, "east", rungs=frozenset(OurRung), not_after=self.now)
        assert found is not None
        return found

    def learn(self) -> None:
        """Let the forecaster fetch history and train, until there is nothing left to learn; a minute goes by."""
        for _ in range(40):
            if self.service.turn() > 0:
                break
        self.at(self.now + timedelta(minutes=1))


def settle(server: Server, patch: pytest.MonkeyPatch) -> None:
    for name in ("ODRE", "EIA", "ELECTRICITYMAPS", "OPENMETEO", "OPENMETEO_PREVIOUS", "PROMETHEUS"):
        patch.setenv(f"EMBELLIE_{name}_URL", server.url)
    patch.setenv("EIA_API_KEY", "a")
    patch.setenv("ELECTRICITYMAPS_TOKEN", "b")
    patch.setattr("embellie_forecast.live.HISTORY", timedelta(days=65))


def health(stage: Stage) -> dict[str, bool]:
    rows = json.loads((stage.folder / "health.json").read_text())["feeds"]
    return {row["feed"]: row["up"] for row in rows}
