# SPDX-License-Identifier: Apache-2.0
"""The tables, in types that SQLite and PostgreSQL share, and the engines that open them."""

import os
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Column, Engine, Index, Integer, MetaData, String, Table, Text, create_engine, event

SCHEMA_VERSION = 1
BUSY_MS = 2000
"""So long a writer waits for another one [ms]."""

CHECKPOINT_PAGES = 8000
"""Pages (of 4 KiB) after which a commit waits for the disk; `Ledger.flush` comes sooner."""

METADATA = MetaData()
RECORDS = Table(
    "records",
    METADATA,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("segment", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("at", String(27), nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("body", Text, nullable=False),
)
Index("records_by_kind_and_time", RECORDS.c.kind, RECORDS.c.at)

STATE = Table(
    "state",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("value", String(256), nullable=False),
)
"""`schema_version`, and the head: `head_seq`, `head_hash`, `segment`."""


def writing_engine(path: Path) -> Engine:
    """Open a ledger for writing; the file is made if it is not there.

    A commit survives the end of the process at once, and a power cut from the next `Ledger.flush` on.
    """
    # The driver would begin only at the first write: too late to own the head.
    engine = _engine(f"sqlite:///{path}", {}, begin="BEGIN IMMEDIATE")

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        # Has to come before the first table; pages that compaction frees are given back.
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")

    return engine


def reading_engine(path: Path) -> Engine:
    """Open a ledger for reading only, also one that the operator writes at the same time or on a read-only volume."""
    quoted = str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    # Beside a live writer its log must be read too; where no log can be made (read-only volume), the file is complete.
    frozen = "" if _can_share(path) else "&immutable=1"
    # The driver would read each query in a state of its own; a check must not see a writer go on half-way.
    return _engine(f"sqlite:///file:{quoted}?mode=ro{frozen}&uri=true", {"uri": True}, begin="BEGIN")


def _engine(url: str, options: dict[str, Any], *, begin: str) -> Engine:
    """Open a file whose transactions begin when we say, by `begin`, and not when the driver thinks fit."""
    engine = create_engine(url, connect_args={"timeout": BUSY_MS / 1000, **options})

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.text_factory = _text

    @event.listens_for(engine, "begin")
    def _begun(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _text(stored: bytes) -> str | bytes:
    """Return what SQLite calls text, or its bytes where it is none: what is damaged must be read to be named."""
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return stored


def _can_share(path: Path) -> bool:
    """Tell whether SQLite can keep its shared index beside the file."""
    return path.with_name(path.name + "-shm").exists() or os.access(path.parent, os.W_OK)
