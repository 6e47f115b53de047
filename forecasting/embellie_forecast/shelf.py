# SPDX-License-Identifier: Apache-2.0
"""The models of each grid: loaded from the registry, trained when they are missing or old, kept only if better."""

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from embellie_forecast.documents import known_end
from embellie_forecast.history import ZoneHistory, hour_of, instant_of
from embellie_forecast.models import (
    CalendarModel,
    Settings,
    TooLittleDataError,
    ZoneModel,
    is_due,
    train_calendar,
    train_zone,
)
from embellie_forecast.registry import Registry, RegistryError

CALENDAR_AGE_HOURS = 28 * 24
TRY_AGAIN = timedelta(days=1)
"""After a training that found too little data, or broke, this long passes before the next."""


@dataclass(slots=True)
class Entry:
    """What is in memory for one grid."""

    model: ZoneModel | None = None
    calendar: CalendarModel | None = None
    looked_up: bool = False
    not_before: datetime | None = None
    """No training before this moment."""
    why: str = "its model is not trained yet"
    """Why there is no model."""


@dataclass(slots=True)
class Shelf:
    """Models by grid."""

    folder: Path | None
    """The registry's folder; None: in memory only."""
    settings: Settings | None
    """How models are trained; None: as they were chosen."""
    _entries: dict[str, Entry] = field(default_factory=dict)

    def _entry(self, key: str) -> Entry:
        """Return what is known about a grid's models, looked up on disk once."""
        found = self._entries.setdefault(key, Entry())
        if not found.looked_up and self.folder is not None:
            registry = Registry(self.folder)
            try:
                if registry.holds(key):
                    found.model = registry.load(key)
                    found.calendar = registry.load_calendar(key)
            except RegistryError as error:
                found.why = str(error)
        found.looked_up = True
        return found

    def model(self, key: str, now: datetime) -> ZoneModel | None:
        """Return the grid's model; None where there is none, or it knows hours after `now` (a clock that jumped)."""
        model = self._entry(key).model
        return model if model is not None and model.until <= now else None

    def calendar(self, key: str) -> CalendarModel | None:
        """Return the grid's model of the calendar; of a year's rhythm, a day more or less tells nothing."""
        return self._entry(key).calendar

    def why_no_model(self, key: str, now: datetime) -> str:
        """Say why `model` is None."""
        model = self._entry(key).model
        if model is not None and model.until > now:
            return (
                f"its model knows hours up to {model.until:%Y-%m-%d %H:%M} UTC, after now: look at this machine's clock"
            )
        return self._entry(key).why

    def needs_training(self, key: str, now: datetime) -> bool:
        """Tell whether a training could better what there is."""
        entry = self._entry(key)
        # After a clock that ran ahead the waiting time would last for ever: it counts for its own length only.
        if entry.not_before is not None and entry.not_before - TRY_AGAIN <= now < entry.not_before:
            return False
        return entry.model is None or (entry.model.until <= now and is_due(entry.model, now))

    def train(
        self, history: ZoneHistory, now: datetime, *, usual_delay: timedelta, past: ZoneHistory | None = None
    ) -> bool:
        """Train on what is known at `now`; tell whether a new model is in use.

        Args:
            history: What the grid's feed has said.
            now: The moment of the training.
            usual_delay: How late the feed's newest hour usually is. One that is later right now is no reason to learn
                without the hours that it will soon tell again: `issue` copes with a late feed.
            past: A longer past of the same grid, for the calendar's model where `history` is too short for one.
        """
        entry = self._entry(history.zone)
        entry.not_before = now + TRY_AGAIN
        had = entry.calendar
        for known in (history, past):
            until = None if known is None else _end_of(known, now)
            if known is None or until is None or not _is_old(entry.calendar, until):
                continue
            entry.calendar = train_calendar(known, until=until) or entry.calendar
        try:
            until = _end_of(history, now)
            # A model learns to do without the hours that its feed is usually late by.
            late = max(1, min(hour_of(now) - hour_of(until), math.ceil(usual_delay / timedelta(hours=1))))
            model = train_zone(history, until=until, settings=self.settings, latency_hours=late)
        except TooLittleDataError as error:
            entry.why = str(error)
            return entry.calendar is not had
        return self._keep(entry, model, history, now)

    def _keep(self, entry: Entry, model: ZoneModel, history: ZoneHistory, now: datetime) -> bool:
        if self.folder is None:
            entry.model = model
            return True
        registry = Registry(self.folder)
        try:
            if entry.model is None:
                registry.save(model, calendar=entry.calendar)
                entry.model = model
                return True
            if registry.offer(model, history, at=now, calendar=entry.calendar):
                entry.model = model
                return True
        except OSError as error:
            print(f"the models' folder {self.folder} cannot be written ({error}); going on without", flush=True)
            entry.model = entry.model or model
            return True
        return False


def _is_old(calendar: CalendarModel | None, until: datetime) -> bool:
    return calendar is None or hour_of(until) - calendar.until_hour >= CALENDAR_AGE_HOURS


def _end_of(history: ZoneHistory, now: datetime) -> datetime:
    return instant_of(known_end(history, hour_of(now)) or min(history.first_hour, hour_of(now)))
