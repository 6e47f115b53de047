# SPDX-License-Identifier: Apache-2.0
"""Appending to a ledger and reading it."""

import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from embellie.ledger import schema
from embellie.ledger.records import (
    FORMAT,
    GENESIS,
    Draft,
    Entry,
    Kind,
    LedgerError,
    LedgerUnavailableError,
    digest,
    encode,
    stamp,
)
from embellie.ledger.schema import RECORDS, STATE

_CHUNK = 2000
_FAILURES = (DatabaseError, UnicodeDecodeError)
"""What SQLite's driver raises: the second where its own words hold a damaged name."""
_INSERT = insert(RECORDS)
_UPDATE = update(STATE).where(STATE.c.name == bindparam("which")).values(value=bindparam("now"))


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain."""

    seq: int
    hash: str
    segment: int

    def __str__(self) -> str:
        """As `ledger verify --head` takes it."""
        return f"{self.seq}:{self.hash}"


class _Opened(ABC):
    """What is closed at the end of a `with`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the file."""


@contextmanager
def _opening(engine: Engine, path: Path) -> Iterator[None]:
    """Say in our words why a ledger cannot be opened, and leave nothing open then."""
    try:
        yield
    except _FAILURES as error:
        engine.dispose()
        raise _explained(error, path) from error
    except LedgerError:
        engine.dispose()
        raise


class Ledger(_Opened):
    """A ledger that one leader writes. Not for several threads at once.

    Every append reads the head that is stored: if somebody else has written since (an older leader that does not know
    yet that it is none), a new segment is opened, which names the head that it found. The chain never forks.
    """

    def __init__(self, path: Path, *, leader: str, version: str) -> None:
        """Open the ledger at `path`; nothing is written before the first append.

        Raises LedgerError where the file is none or was written by a newer version, LedgerUnavailableError where it
        cannot be written now.
        """
        self._path = path
        self._leader, self._version = leader, version
        self._head: Head | None = None
        self.overtaken = False
        """Whether somebody else has written since it was opened."""
        self._engine = schema.writing_engine(path)
        with _opening(self._engine, path):
            with self._engine.begin() as connection:
                schema.METADATA.create_all(connection)
                self._known = _found_head(connection, path)
                self._count = int(connection.execute(select(func.count()).select_from(RECORDS)).scalar_one())
            self._connection = self._engine.connect()

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._path

    @property
    def count(self) -> int:
        """Records in it."""
        return self._count

    def append(self, drafts: Sequence[Draft], *, replacing: tuple[int, int] | None = None, alone: bool = False) -> Head:
        """Record all of `drafts` or nothing; return the new head.

        `replacing` removes the records from one number to another in the same transaction: only `compact` does so, and
        with a daily record that stands for them. `alone` refuses where another leader has written since the ledger was
        opened: what is recorded may then be recorded already.

        Raises LedgerUnavailableError where nothing could be recorded, and ValueError for a body that JSON cannot hold.
        """
        bodies = [encode(draft.body) for draft in drafts]
        try:
            with self._connection.begin():
                head = _found_head(self._connection, self._path)
                self.overtaken = self.overtaken or head != self._known
                if alone and self.overtaken:
                    raise LedgerUnavailableError(f"another leader has written to {self._path} meanwhile")
                rows: list[dict[str, object]] = []
                if self._head is None or head != self._head:
                    head = self._open_segment(head, drafts[0].at, rows)
                for draft, body in zip(drafts, bodies, strict=True):
                    head = _chain(rows, head, draft.kind, stamp(draft.at), body)
                self._connection.execute(_INSERT, rows)
                if replacing is not None:
                    gone = self._connection.execute(delete(RECORDS).where(RECORDS.c.seq.between(*replacing))).rowcount
                    if gone != replacing[1] - replacing[0] + 1:
                        raise LedgerUnavailableError(f"another leader has compacted {self._path} meanwhile")
                _write_head(self._connection, head)
        except _FAILURES as error:
            self._head = None
            raise _explained(error, self._path) from error
        self._head = self._known = head
        self._count += len(rows) - (0 if replacing is None else replacing[1] - replacing[0] + 1)
        return head

    def flush(self) -> None:
        """Make everything so far survive a power cut."""
        try:
            # Not left to the checkpoint, which passes over what a reader of an older state (a report) still needs.
            with suppress(FileNotFoundError):
                log = os.open(self._path.with_name(self._path.name + "-wal"), os.O_RDONLY)
                try:
                    os.fsync(log)
                finally:
                    os.close(log)
            self._pragma("wal_checkpoint(PASSIVE)")
        except OSError as error:
            raise LedgerUnavailableError(f"{self._path} cannot be flushed to its disk: {error.strerror}") from error
        except (*_FAILURES, sqlite3.Error) as error:
            raise _explained(error, self._path) from error

    def give_back_space(self) -> None:
        """Return what removed records held to the file system."""
        try:
            self._pragma("incremental_vacuum")
        except (*_FAILURES, sqlite3.Error) as error:
            raise _explained(error, self._path) from error

    def _pragma(self, text: str) -> None:
        # Not through SQLAlchemy, which would begin a transaction first.
        cursor = self._connection.connection.cursor()
        try:
            cursor.execute(f"PRAGMA {text}")
            cursor.fetchall()
        finally:
            cursor.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        self._engine.dispose()

    def _open_segment(self, head: Head, at: datetime, rows: list[dict[str, object]]) -> Head:
        body = {
            "format": FORMAT,
            "leader": self._leader,
            "version": self._version,
            "previousHead": {"seq": head.seq, "hash": head.hash},
        }
        opened = Head(head.seq, head.hash, head.segment + 1)
        return _chain(rows, opened, Kind.SEGMENT, stamp(at), encode(body))


class LedgerReader(_Opened):
    """Reads a ledger, in order, in constant memory, as it was when it was opened: a writer beside it goes on unseen."""

    def __init__(self, path: Path) -> None:
        """Open the ledger at `path`; raises LedgerError where there is none, or a newer version wrote it."""
        if not path.is_file():
            raise LedgerError(
                f"there is no ledger at {path}; name it with --ledger (the operator's: its --ledger-path). Of several "
                "operators without a common volume only the one that leads has it: its pod holds the lease "
                "embellie-heartbeat"
            )
        self._path = path
        self._engine = schema.reading_engine(path)
        with _opening(self._engine, path):
            self._connection = self._engine.connect()
            try:
                self.head = _require_head(self._connection, path)
            except Exception:
                self._connection.close()
                raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        self._engine.dispose()

    def entries(
        self,
        *,
        kinds: Sequence[Kind] = (),
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[Entry]:
        """Yield records by number; `since` and `until` bound the time at which they were recorded."""
        query = select(*_COLUMNS).order_by(RECORDS.c.seq)
        if kinds:
            query = query.where(RECORDS.c.kind.in_([str(kind) for kind in kinds]))
        if since is not None:
            query = query.where(RECORDS.c.at >= stamp(since))
        if until is not None:
            query = query.where(RECORDS.c.at < stamp(until))
        try:
            for row in self._connection.execute(query, execution_options={"yield_per": _CHUNK}):
                yield _entry(row)
        except _FAILURES as error:
            raise _explained(error, self._path) from error

    def integrity(self) -> str:
        """Return what SQLite itself says about the file: `ok`, or what is broken."""
        try:
            return str(self._connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
        except _FAILURES as error:
            return str(getattr(error, "orig", error))


_COLUMNS = (
    RECORDS.c.seq,
    RECORDS.c.segment,
    RECORDS.c.kind,
    RECORDS.c.at,
    RECORDS.c.previous,
    RECORDS.c.hash,
    RECORDS.c.body,
)


def _entry(row: Any) -> Entry:
    # A damaged file can hold anything in any column; what is no text cannot have the right hash.
    seq, segment, *texts = row
    return Entry(seq, segment, *(text if isinstance(text, str) else repr(text) for text in texts))


def _chain(rows: list[dict[str, object]], head: Head, kind: Kind, at: str, body: str) -> Head:
    seq = head.seq + 1
    name = digest(seq, head.segment, kind, at, head.hash, body)
    rows.append(
        {
            "seq": seq,
            "segment": head.segment,
            "kind": str(kind),
            "at": at,
            "previous": head.hash,
            "hash": name,
            "body": body,
        }
    )
    return Head(seq, name, head.segment)


def _state(connection: Connection) -> dict[str, str]:
    return {str(name): str(value) for name, value in connection.execute(select(STATE.c.name, STATE.c.value))}


def _found_head(connection: Connection, path: Path) -> Head:
    """Read the head; a new ledger gets its state."""
    state = _state(connection)
    if not state:
        values = {"schema_version": str(schema.SCHEMA_VERSION), "head_seq": "0", "head_hash": GENESIS, "segment": "0"}
        connection.execute(insert(STATE), [{"name": name, "value": value} for name, value in values.items()])
        return Head(0, GENESIS, 0)
    return _head_of(state, path)


def _require_head(connection: Connection, path: Path) -> Head:
    state = _state(connection)
    if not state:
        raise LedgerError(f"{path} holds no ledger: its table of states is empty")
    return _head_of(state, path)


def _head_of(state: dict[str, str], path: Path) -> Head:
    try:
        version = int(state["schema_version"])
        head = Head(int(state["head_seq"]), state["head_hash"], int(state["segment"]))
    except (KeyError, ValueError) as error:
        raise LedgerError(
            f"{path} is damaged: its table of states lacks a readable {error}; restore a backup"
        ) from error
    if version > schema.SCHEMA_VERSION:
        raise LedgerError(
            f"{path} was written by a newer version of Embellie (ledger schema {version}, this one knows up to "
            f"{schema.SCHEMA_VERSION}); use that version, or give this one another file"
        )
    return head


def _write_head(connection: Connection, head: Head) -> None:
    values = {"head_seq": str(head.seq), "head_hash": head.hash, "segment": str(head.segment)}
    connection.execute(_UPDATE, [{"which": name, "now": value} for name, value in values.items()])


def _explained(error: DatabaseError | sqlite3.Error | UnicodeDecodeError, path: Path) -> LedgerError:
    """Turn the database's words into ours."""
    said = str(getattr(error, "orig", None) or error)
    low = said.lower()
    damaged = any(words in low for words in ("no such table", "not a database", "malformed"))
    if damaged or isinstance(error, UnicodeDecodeError):
        return LedgerError(f"{path} is no ledger, or it is damaged ({said}); name another file, or restore a backup")
    if "locked" in low or "busy" in low:
        why = f"another program holds {path} locked; end it, or wait until it is done"
    elif "readonly" in low or "read-only" in low:
        why = f"{path} is on a read-only volume or not ours to write; make it writable for the operator's user"
    elif "full" in low or "disk i/o" in low or "file too big" in low:
        why = f"the disk of {path} is full or failing ({said}); make room, or move the ledger to a larger volume"
    elif "unable to open" in low:
        why = f"{path} cannot be opened or made; its folder must exist and be writable for the operator's user"
    elif isinstance(error, IntegrityError):
        why = f"another leader wrote to {path} at the same moment"
    elif isinstance(error, (OperationalError, sqlite3.OperationalError)):
        why = f"{path} cannot be used now: {said}"
    else:
        return LedgerError(f"{path} cannot be used: {said}")
    return LedgerUnavailableError(why)
