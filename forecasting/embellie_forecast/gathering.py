# SPDX-License-Identifier: Apache-2.0
"""Asking sources and keeping what they say: each once at a moment, the newest days anew, older history bit by bit."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from embellie_forecast.sources.archive import Archive
from embellie_forecast.sources.base import Fault, SourceError
from embellie_forecast.sources.catalogue import SourceSpec, make_source
from embellie_forecast.sources.files import Bundle, FileSource
from embellie_forecast.sources.frame import HOUR, Readings
from embellie_forecast.sources.source import Source
from embellie_forecast.sources.transport import Http

FIRST_WINDOW = timedelta(days=35)
"""What the first question covers: enough to judge the newest days against, and to forecast from."""
REVISED = timedelta(days=3)
"""Sources correct themselves for days: each question goes back this far."""
CHUNK = timedelta(days=30)
FAILURES_BEFORE_A_PAUSE = 3
PAUSE = timedelta(hours=6)


@dataclass(slots=True)
class _Backfill:
    """How the question for older history is going."""

    failures: int = 0
    since: datetime | None = None
    """When it was asked last."""


class Gatherer:
    """The sources and archives of all zones, so that zones of one grid share readings."""

    def __init__(self, http: Http, folder: Path | None) -> None:
        self.http = http
        self._folder = folder
        self._archives: dict[str, Archive] = {}
        self._backfills: dict[str, _Backfill] = {}
        self._sources: dict[SourceSpec, Source] = {}
        self._asked: dict[str, tuple[datetime, list[str]]] = {}
        """What each archive's source was last asked at, and what came of it: once at a moment is enough."""

    def source(self, spec: SourceSpec) -> Source:
        """Return the source that a spec names; SourceError where it cannot be."""
        if spec not in self._sources:
            self._sources[spec] = make_source(spec, self.http)
        return self._sources[spec]

    def archive(self, name: str) -> Archive:
        """Return the hourly archive of a name."""
        if name not in self._archives:
            self._archives[name] = Archive(self._folder, name)
        return self._archives[name]

    def fine(self, spec: SourceSpec) -> Archive:
        """Return the archive of what a source said in its own step of less than an hour; often empty."""
        name = f"{spec} in its own step"
        if name not in self._archives:
            self._archives[name] = Archive(self._folder, name, hourly=False)
        return self._archives[name]

    def ask(self, spec: SourceSpec, now: datetime, notes: list[str]) -> tuple[Source | None, Archive]:
        """Return the source, None where it cannot be, and all that it has said; what failed is a note."""
        archive = self.archive(str(spec))
        try:
            source = self.source(spec)
        except SourceError as error:
            notes.append(str(error))
            return None, archive
        self.update(source, archive, now, notes, self.fine(spec))
        return source, archive

    def update(
        self, source: Source, archive: Archive, now: datetime, notes: list[str], fine: Archive | None = None
    ) -> None:
        """Ask for what is new since the last time, unless it was asked at this very moment."""
        asked = self._asked.get(archive.name)
        if asked is None or asked[0] != now:
            first = asked is None
            asked = self._asked[archive.name] = (now, [])
            self._read(source, archive, fine, now, asked[1], first=first)
        notes += asked[1]

    def _read(
        self, source: Source, archive: Archive, fine: Archive | None, now: datetime, notes: list[str], *, first: bool
    ) -> None:
        newest = archive.newest
        begin = now - FIRST_WINDOW if newest is None else max(newest - REVISED, now - FIRST_WINDOW)
        begin = begin.replace(minute=0, second=0, microsecond=0)
        if first and isinstance(source, FileSource | Bundle):
            # A file may have been put right since it was last read, and what it tells may have ended years ago.
            begin = datetime(1970, 1, 1, tzinfo=UTC)
        try:
            readings = source.read(begin, now + source.foresight, now=now)
        except SourceError as error:
            notes.append(str(error))
            return
        notes += [f"{readings.source}: {note}" for note in readings.notes[:3]]
        for kept in (archive, fine if readings.step < HOUR else None):
            if kept is not None:
                kept.add(readings, now=now)
                if kept.problem:
                    notes.append(kept.problem)

    def older(self, source: Source, archive: Archive, now: datetime, history: timedelta) -> bool:
        """Ask for one more piece of older history; tell whether something was learned."""
        state = self._backfills.setdefault(archive.name, _Backfill())
        oldest = archive.oldest
        if oldest is None or oldest <= now - history:
            return False
        if state.failures >= FAILURES_BEFORE_A_PAUSE:
            if state.since is not None and abs(now - state.since) < PAUSE:
                return False
            state.failures = 0
        state.since = now
        begin = max(oldest - CHUNK, now - history - timedelta(hours=1))
        try:
            readings: Readings = source.read(begin, oldest, now=now)
        except SourceError as error:
            if error.fault is Fault.MALFORMED:
                self.http.forget_last()
            state.failures += 1
            return False
        before = len(archive.frame)
        archive.add(readings, now=now)
        if len(archive.frame) == before:
            # The source has nothing older.
            state.failures = FAILURES_BEFORE_A_PAUSE
        return len(archive.frame) > before
