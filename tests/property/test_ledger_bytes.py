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
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A path, not its bytes: Hypothesis shows arguments, and shows no failure whose arguments are long.
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    with Ledger(path, leader="a", version="1") as ledger:
        for k in range(30):
            ledger.append([Draft(kind=Kind.DECISION, at=T0 + timedelta(minutes=k), body={"k": k, "text": "x" * 300})])
        ledger._pragma("wal_checkpoint(TRUNCATE)")
    return path


def changed(content: bytes, at: int, bits: int) -> bytes:
    return content[:at] + bytes([content[at] ^ bits]) + content[at + 1 :]


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
def test_a_changed_byte_is_found_or_changes_no_record(whole: Path, tmp_path: Path, place: int, bits: int) -> None:
    content = whole.read_bytes()
    path = tmp_path / "ledger.sqlite"
    for beside in tmp_path.glob("ledger.sqlite*"):
        beside.unlink()
    path.write_bytes(content)
    before = entries_of(path)
    assert before is not None
    path.write_bytes(changed(content, place % len(content), bits))
    after = entries_of(path)
    assert after is None or after == before


def test_a_damaged_name_of_a_table_is_found_in_our_words(whole: Path, tmp_path: Path) -> None:
    """SQLite's own message then holds bytes that are no text."""
    path = tmp_path / "ledger.sqlite"
    content = whole.read_bytes()
    path.write_bytes(changed(content, content.index(b"CREATE TABLE") + 2, 0x80))
    with pytest.raises(LedgerError, match="it is damaged"):
        LedgerReader(path)
    with pytest.raises(LedgerError, match="it is damaged"):
        Ledger(path, leader="a", version="1")
