# SPDX-License-Identifier: Apache-2.0
"""`embellie-forecast serve`: reads the zones, issues a forecast for each on time, and survives whatever it is given."""

import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from embellie_forecast.clock import ForecastClock
from embellie_forecast.exchange import ExchangeError, Zone, read_zones, write_forecast
from embellie_forecast.feeds import Feed, NoFeed, ReplayFeed
from embellie_forecast.ladder import Issued, Ladder
from embellie_forecast.model import Params

POLL_WALL_SECONDS = 0.5
"""How often zones.json is looked at for a zone that has no forecast yet [s of wall time]."""


def make_ladder(clock: ForecastClock, cache: Path | None, params: Params | None = None) -> Ladder:
    """Return the ladder for a clock: a replay plays the carried data as its live feed, real time has no feed."""
    params = params or Params()
    feed: Feed = ReplayFeed(params.delays) if clock.replay else NoFeed()
    return Ladder(feed=feed, origin=clock.origin if clock.replay else None, params=params, cache=cache)


class Service:
    """Issues forecasts for the zones of an exchange directory."""

    def __init__(self, *, directory: Path, clock: ForecastClock, ladder: Ladder, every: timedelta) -> None:
        self._directory = directory
        self._clock = clock
        self._ladder = ladder
        self._every = every
        self._zones: list[Zone] = []
        self._said: set[str] = set()
        self._issued: dict[Zone, datetime] = {}
        self.stop = threading.Event()

    def run(self) -> None:
        """Issue until `stop` is set."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for left in (self._directory / "forecasts").glob("*/.*.tmp"):
            left.unlink(missing_ok=True)
        while not self.stop.is_set():
            self.turn()
            self.stop.wait(POLL_WALL_SECONDS)

    def turn(self) -> int:
        """Issue what is due and train what is missing; return how many forecasts were written."""
        self._read_zones()
        now = self._clock.now()
        due = [zone for zone in self._zones if self._is_due(zone, now)]
        for region in sorted({zone.grid_region for zone in due if zone.grid_region}):
            self._load_models(region, now)
        written = sum(self._issue(zone) for zone in due)
        return written + self._train_missing()

    def _is_due(self, zone: Zone, now: datetime) -> bool:
        last = self._issued.get(zone)
        # `now < last`: the clock has jumped back, and what was issued then lies in the future now.
        return last is None or now < last or _period(now, self._every) > _period(last, self._every)

    def _read_zones(self) -> None:
        try:
            self._zones, problems = read_zones(self._directory)
        except ExchangeError as error:
            problems = [f"{error}; going on with the {len(self._zones)} zones known so far"]
        for problem in problems:
            if problem not in self._said:
                self._say(problem)
        self._said = set(problems)

    def _load_models(self, region: str, now: datetime) -> None:
        try:
            if self._ladder.needs_training(region, now):
                self._ladder.load_or_train(region, now, may_train=False)
        except Exception as error:  # noqa: BLE001 - a broken model costs a rung, never the service
            self._say(f"{region}: the stored model cannot be used: {error}")

    def _train_missing(self) -> int:
        """Train, after everybody has a forecast from a lower rung, and issue again; return how many were written."""
        written = 0
        for region in sorted({zone.grid_region for zone in self._zones if zone.grid_region}):
            now = self._clock.now()
            if self.stop.is_set() or not self._ladder.needs_training(region, now):
                continue
            began = time.monotonic()
            try:
                self._ladder.load_or_train(region, now)
            except Exception as error:  # noqa: BLE001 - a broken training costs a rung, never the service
                self._say(f"{region}: training failed: {type(error).__name__}: {error}")
                continue
            self._say(f"{region}: models trained in {time.monotonic() - began:.1f} s")
            written += sum(self._issue(zone) for zone in self._zones if zone.grid_region == region)
        return written

    def _issue(self, zone: Zone) -> int:
        """Issue and write one forecast; return 1, or 0 where the disk refused it."""
        began, now = time.monotonic(), self._clock.now()
        # Also after a failure: a zone that cannot be written is tried next time, not twice a second.
        self._issued[zone] = now
        try:
            issued = self._ladder.issue(zone.name, zone.grid_region, now, self._directory)
            write_forecast(self._directory, issued.document)
        except Exception as error:  # noqa: BLE001 - one zone's trouble must not reach the others
            self._say(f"{zone.name}: no forecast written: {type(error).__name__}: {error}")
            return 0
        self._say(f"{zone.name}: {describe(issued)} in {time.monotonic() - began:.2f} s")
        return 1

    def _say(self, sentence: str) -> None:
        print(f"{self._clock.now().astimezone(UTC):%Y-%m-%dT%H:%M:%SZ} {sentence}", flush=True)


def _period(moment: datetime, every: timedelta) -> int:
    return int(moment.timestamp() // every.total_seconds())


def describe(issued: Issued) -> str:
    """Say in one line what was issued."""
    document = issued.document
    middle = document.carbon_g_per_kwh[document.quantile_levels.index(0.5)]
    best = int(middle[:48].argmin())
    skill = "" if document.skill_percent is None else f", skill {document.skill_percent} %"
    why = f" ({issued.reasons[-1]})" if issued.reasons else ""
    return (
        f"{document.rung.value} {document.model_id}: {middle[0]:.0f} g/kWh now, "
        f"{middle[best]:.0f} in {best} h{skill}{why}"
    )


def stop_on_signals(service: Service) -> None:
    """Let SIGTERM and SIGINT end the service at once, also in the middle of a training: files are whole or absent."""

    def handle(_signum: int, _frame: object) -> None:
        service.stop.set()
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
