# SPDX-License-Identifier: Apache-2.0
"""`embellie-forecast serve`: reads the zones, issues a forecast for each on time, and survives whatever it is given."""

import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from embellie_forecast.clock import ForecastClock
from embellie_forecast.exchange import ExchangeError, write_forecast
from embellie_forecast.feeds import ReplayFeed
from embellie_forecast.folders import models_folder
from embellie_forecast.history_files import carried_digest
from embellie_forecast.ladder import Issued, Ladder
from embellie_forecast.live import LiveFeed
from embellie_forecast.measured import write_measured
from embellie_forecast.models import Settings
from embellie_forecast.sources.diskcache import DiskCache
from embellie_forecast.sources.transport import Http
from embellie_forecast.track_record import TrackRecord
from embellie_forecast.zones import Zone, read_zones

POLL_WALL_SECONDS = 0.5
"""How often zones.json is looked at for a zone that has no forecast yet [s of wall time]."""


def make_ladder(
    clock: ForecastClock, cache: Path | None, settings: Settings | None = None, *, own_step: bool = True
) -> Ladder:
    """Return the ladder for a clock: a replay plays the carried data as its live feed, real time asks the sources.

    Args:
        clock: System time, or a replay.
        cache: Folder of models, archives and responses; None: nothing is kept.
        settings: How models are trained; None: as they were chosen.
        own_step: Forecast in a source's own 15 or 30 minutes where it tells them.
    """
    folder = None if cache is None else models_folder(cache)
    if clock.replay:
        # Models of a replay know only what was known then, of these data: they are kept apart by both.
        models = None if folder is None else folder / f"replay-{clock.origin:%Y%m%dT%HZ}-{carried_digest()[:12]}"
        return Ladder(feed=ReplayFeed(), origin=clock.origin, models=models, settings=settings)
    http = Http(cache=None if cache is None else DiskCache(cache / "responses"))
    feed = LiveFeed(http, None if cache is None else cache / "archives")
    return Ladder(feed=feed, origin=None, models=folder, settings=settings, own_step=own_step)


class Service:
    """Issues forecasts for the zones of an exchange directory."""

    def __init__(self, *, directory: Path, clock: ForecastClock, ladder: Ladder, every: timedelta) -> None:
        self._directory = directory
        self._clock = clock
        self._ladder = ladder
        self._every = every
        self._zones: list[Zone] = []
        self._said: set[str] = set()
        self._told: set[str] = set()
        self._track = TrackRecord(directory)
        self._issued: dict[Zone, datetime] = {}
        self._broken: dict[Zone, datetime] = {}
        """Zones whose learning failed at an issue; it is tried again at the next."""
        self._warmed: dict[Zone, datetime] = {}
        """For which issue each zone's model is ready."""
        self.stop = threading.Event()

    def run(self) -> None:
        """Issue until `stop` is set."""
        self._directory.mkdir(parents=True, exist_ok=True)
        while not self.stop.is_set():
            self.turn()
            self.stop.wait(POLL_WALL_SECONDS)

    def turn(self) -> int:
        """Issue what is due, then learn what is missing; return how many forecasts were written."""
        self._read_zones()
        now = self._clock.now()
        written = sum(self._issue(zone) for zone in self._zones if self._is_due(zone, now))
        return written + self._learn()

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

    def _learn(self) -> int:
        """After everybody has a forecast: fetch a piece of older history, or train one zone's models.

        One piece at a turn, so that no forecast waits for it. Returns how many forecasts were written.
        """
        for zone in self._zones:
            if self.stop.is_set():
                return 0
            # The moment of the last issue: what the feed said then is still at hand, and need not be asked for again.
            now = self._issued[zone]
            if self._broken.get(zone) == now:
                continue
            try:
                if self._ladder.backfill(zone, now):
                    return 0
                if not self._ladder.needs_training(zone, now):
                    continue
                began = time.monotonic()
                if not self._ladder.train(zone, now):
                    continue
            except Exception as error:  # noqa: BLE001 - a broken training costs a rung, never the service
                self._broken[zone] = now
                self._say(f"{zone.name}: training failed: {type(error).__name__}: {error}")
                continue
            self._say(f"{zone.name}: models trained in {time.monotonic() - began:.1f} s")
            return sum(self._issue(other) for other in self._zones if _same_grid(other, zone))
        self._warm()
        return 0

    def _warm(self) -> None:
        """When nothing else is to be done: work out for one zone what its next issue will need."""
        for zone in self._zones:
            now = self._issued[zone]
            upcoming = datetime.fromtimestamp((_period(now, self._every) + 1) * self._every.total_seconds(), UTC)
            if self._warmed.get(zone) == upcoming:
                continue
            self._warmed[zone] = upcoming
            try:
                self._ladder.warm(zone, now, upcoming)
            except Exception as error:  # noqa: BLE001 - it is only about time: the issue itself will tell
                self._say(f"{zone.name}: its next issue will take longer: {type(error).__name__}: {error}")
            return

    def _issue(self, zone: Zone) -> int:
        """Issue and write one forecast; return 1, or 0 where the disk refused it."""
        began, now = time.monotonic(), self._clock.now()
        # Also after a failure: a zone that cannot be written is tried next time, not twice a second.
        self._issued[zone] = now
        try:
            issued = self._ladder.issue(zone, now, self._directory)
            write_forecast(self._directory, issued.document)
        except Exception as error:  # noqa: BLE001 - one zone's trouble must not reach the others
            self._say(f"{zone.name}: no forecast written: {type(error).__name__}: {error}")
            return 0
        self._say(f"{zone.name}: {describe(issued)} in {time.monotonic() - began:.2f} s")
        self._remember(zone, issued, now)
        return 1

    def _remember(self, zone: Zone, issued: Issued, now: datetime) -> None:
        """Tell what was measured, and compare earlier issues with it; that this fails costs no forecast."""
        feds = {fed.name: fed for fed in issued.feds}
        named = [source.kind for source in (zone.primary, zone.cross_check) if source is not None] or list(feds)
        self._track.forget_all_but({z.name for z in self._zones})
        try:
            self._track.note(issued.document, {name: feds.get(name) for name in named}, now)
            measured = [fed.measured for fed in issued.feds if fed.measured is not None]
            problem = write_measured(self._directory, zone.name, measured, now)
        except OSError as error:
            problem = f"what was measured cannot be written: {error}"
        if problem and problem not in self._told:
            self._say(f"{zone.name}: {problem}")
            self._told.add(problem)

    def _say(self, sentence: str) -> None:
        print(f"{self._clock.now().astimezone(UTC):%Y-%m-%dT%H:%M:%SZ} {sentence}", flush=True)


def _same_grid(one: Zone, other: Zone) -> bool:
    return (one.grid_region, one.primary) == (other.grid_region, other.primary)


def _period(moment: datetime, every: timedelta) -> int:
    return int(moment.timestamp() // every.total_seconds())


def describe(issued: Issued) -> str:
    """Say in one line what was issued."""
    document = issued.document
    middle = document.carbon_g_per_kwh[document.quantile_levels.index(0.5)]
    per_hour = timedelta(hours=1) // document.step
    best = int(middle[: 48 * per_hour].argmin()) // per_hour
    skill = "" if document.skill_percent is None else f", skill {document.skill_percent} %"
    why = f" ({issued.reasons[0]})" if issued.reasons else ""
    return (
        f"{document.rung.value} {document.model_id}: {middle[0]:.0f} g/kWh now, "
        f"{middle[: 48 * per_hour].min():.0f} in {best} h{skill}{why}"
    )


def stop_on_signals(service: Service) -> None:
    """Let SIGTERM and SIGINT end the service at once, also in the middle of a training: files are whole or absent."""

    def handle(_signum: int, _frame: object) -> None:
        service.stop.set()
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
