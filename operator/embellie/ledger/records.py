# SPDX-License-Identifier: Apache-2.0
"""What a record is, and how its hash is made. Pure.

A record's hash is the SHA-256 of seven lines: the format, its number, its segment, its kind, its time, the hash of the
record before it, and its body (JSON, which has no line break in it). Anybody can recompute it with `sha256sum`.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

FORMAT = "embellie.io/ledger/v1"
GENESIS = "0" * 64
"""What the first record of a ledger names as the hash before it."""
MAX_BODY_BYTES = 1 << 25
"""Room for an interval in which ten thousand gangs of as many namespaces ran."""


class LedgerError(Exception):
    """The ledger cannot be used as it is; the message says why and how to mend it."""


class ChangedRecordError(LedgerError):
    """A record is not as it was written: nothing may be told or made from it."""


class LedgerUnavailableError(LedgerError):
    """It cannot be written now (full, locked, read-only), and may be later; nothing was recorded."""


class Kind(StrEnum):
    """What a record tells."""

    SEGMENT = "segment"
    """A leader begins to write; carries the hash of the head that it found."""
    DECISION = "decision"
    RUN = "run"
    """A gang ran, from when to when: what counterfactuals are replayed from."""
    ACCOUNT = "account"
    """Energy and emissions of one interval."""
    GAP = "gap"
    """So much could not be recorded, and why."""
    DAILY = "daily"
    """Stands for older records that were compacted; carries their daily accounts and both ends of their chain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What is to be recorded. `at` is in the operator's clock."""

    kind: Kind
    at: datetime
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as it is stored; `body` is JSON text, so that a hash can be recomputed to the byte."""

    seq: int
    segment: int
    kind: str
    at: str
    previous: str
    hash: str
    body: str

    @property
    def content(self) -> dict[str, Any]:
        """The body, read; raises ChangedRecordError where it is none any more."""
        try:
            found: dict[str, Any] = json.loads(self.body)
        except ValueError as error:
            raise ChangedRecordError(
                f"record {self.seq} cannot be read: it was changed after it was written; see what else "
                "is wrong with `embellie ledger verify`, and restore a backup"
            ) from error
        return found

    @property
    def moment(self) -> datetime:
        """When it was recorded, on the operator's clock."""
        return datetime.fromisoformat(self.at)


def digest(seq: int, segment: int, kind: str, at: str, previous: str, body: str) -> str:
    """Return a record's hash (hex)."""
    text = "\n".join((FORMAT, str(seq), str(segment), kind, at, previous, body))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def encode(body: Mapping[str, Any]) -> str:
    """Write a body as JSON on one line, keys in order.

    Raises ValueError for what JSON cannot hold (NaN, infinity) and for a body that is far too large.
    """
    text = json.dumps(_plain(body), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    if len(text) > MAX_BODY_BYTES:
        raise ValueError(f"a record's body must be smaller than {MAX_BODY_BYTES >> 20} MiB, this one has {len(text)} B")
    return text


def _plain(value: Any) -> Any:
    """Turn instants into text and round numbers to twelve digits: more is noise, and half of a record's size."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    if isinstance(value, datetime):
        return stamp(value)
    if isinstance(value, float):
        return float(f"{value:.12g}") if math.isfinite(value) else value
    return value


def stamp(moment: datetime) -> str:
    """Write an instant in UTC, always with microseconds, so that text sorts as time does.

    >>> stamp(datetime(2026, 7, 1, tzinfo=UTC))
    '2026-07-01T00:00:00.000000Z'
    """
    if moment.tzinfo is None:
        raise ValueError("an instant needs a time zone")
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
