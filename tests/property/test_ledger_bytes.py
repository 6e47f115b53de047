# SPDX-License-Identifier: Apache-2.0
"""One changed byte anywhere in a ledger's file is found, unless it lies where nothing is stored."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embellie.ledger import Draft, Entry, Kind, Ledger, LedgerError, LedgerReader, verify

T0 = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    with Ledger(path, leader="a", version="1") as ledger:
        for k in range(30):
            ledger.append([Draft(kind=Kind.DECISION, at=T0 + timedelta(minutes=k), body={"k": k, "text": "x" * 300})])
        ledger._pragma("wal_checkpoint(TRUNCATE)")
    return path.read_bytes()


def entries_of(path: Path) -> list[Entry] | None:
    """Return the records, or None where the damage is found."""
    try:
        with LedgerReader(path) as reader:
            if reader.integrity() != "ok":
                return None
            found = list(reader.entries())
            daily = list(reader.entries(kinds=[Kind.DAILY]))
            return found if verify(found, daily, head=(reader.head.seq, reader.head.hash)).sound else None
    except LedgerError:
        return None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 2**31), bits=st.integers(1, 255))
def test_a_changed_byte_is_found_or_changes_no_record(whole: bytes, tmp_path: Path, place: int, bits: int) -> None:
    at = place % len(whole)
    path = tmp_path / "ledger.sqlite"
    for beside in tmp_path.glob("ledger.sqlite*"):
        beside.unlink()
    path.write_bytes(whole)
    before = entries_of(path)
    assert before is not None
    path.write_bytes(whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :])
    after = entries_of(path)
    assert after is None or after == before
