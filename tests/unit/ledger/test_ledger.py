# SPDX-License-Identifier: Apache-2.0
"""A ledger that cannot be bent: what is changed, removed or reordered is found and named."""

import io
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from ledgers import by_hand
from sqlalchemy import select
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from embellie.cli.main import cli
from embellie.ledger import (
    Draft,
    Kind,
    Ledger,
    LedgerError,
    LedgerReader,
    LedgerUnavailableError,
    Pseudonyms,
    compact,
    read_export,
    schema,
    store,
    verify,
    write_export,
)
from embellie.ledger.verify import Verification

T0 = datetime(2026, 3, 1, tzinfo=UTC)


def decision(k: int, **more: object) -> Draft:
    return Draft(
        kind=Kind.DECISION,
        at=T0 + timedelta(minutes=k),
        body={"state": "Held", "reason": "CleanerWindow", "k": k, **more},
    )


def account(day: int, kwh: float, *, revision: int = 0) -> Draft:
    start = T0 + timedelta(days=day)
    body = {
        "zone": "west",
        "start": start,
        "end": start + timedelta(hours=1),
        "revision": revision,
        "adds": {"kwh": {"facility": kwh}},
    }
    return Draft(kind=Kind.ACCOUNT, at=start + timedelta(hours=1), body=body)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def filled(path: Path) -> Path:
    with Ledger(path, leader="a", version="1") as ledger:
        for k in range(20):
            ledger.append([decision(k)])
    return path


def checked(path: Path, known: tuple[int, str] | None = None) -> Verification:
    with LedgerReader(path) as reader:
        head = reader.head.seq, reader.head.hash
        return verify(reader.entries(), reader.entries(kinds=[Kind.DAILY]), head=head, known=known)


def change(path: Path, statement: str) -> None:
    with by_hand(path) as connection:
        connection.execute(statement)


def test_an_untouched_ledger_is_whole(filled: Path) -> None:
    result = checked(filled)
    assert result.sound
    assert (result.records, result.segments) == (21, 1)


CHANGES = {
    "body": "body = replace(body, 'Held', 'Hold')",
    "at": "at = replace(at, '2026', '2025')",
    "kind": "kind = 'decisiom'",
    "previous": "previous = 'f' || substr(previous, 2)",
    "hash": "hash = 'f' || substr(hash, 2)",
    "segment": "segment = 2",
}


@pytest.mark.parametrize("column", CHANGES)
def test_one_change_in_any_column_is_found_and_named(filled: Path, column: str) -> None:
    change(filled, f"UPDATE records SET {CHANGES[column]} WHERE seq = 9")  # noqa: S608 - the test's own text
    result = checked(filled)
    assert not result.sound
    assert {finding.seq for finding in result.findings} <= {9, 10}
    assert "record 9" in result.findings[0].what


def test_a_removed_record_is_found_and_named(filled: Path) -> None:
    change(filled, "DELETE FROM records WHERE seq = 7")
    assert [f.what for f in checked(filled).findings] == [
        "record 7 is missing: removed, and no daily record stands for it"
    ]


def test_a_cut_end_is_found(filled: Path) -> None:
    change(filled, "DELETE FROM records WHERE seq > 18")
    assert "records 19 to 21 are missing at the end" in checked(filled).findings[0].what


def test_a_cut_end_whose_head_was_rewritten_too_is_found_by_a_head_known_from_elsewhere(filled: Path) -> None:
    with LedgerReader(filled) as reader:
        head = (reader.head.seq, reader.head.hash)
        entry = next(e for e in reader.entries() if e.seq == 18)
    change(filled, "DELETE FROM records WHERE seq > 18")
    change(filled, "UPDATE state SET value = '18' WHERE name = 'head_seq'")
    change(filled, f"UPDATE state SET value = '{entry.hash}' WHERE name = 'head_hash'")  # noqa: S608 - its own hash
    assert checked(filled).sound
    assert not checked(filled, head).sound


def test_reordered_records_are_found_and_named(filled: Path) -> None:
    change(filled, "UPDATE records SET seq = 1000 WHERE seq = 5")
    change(filled, "UPDATE records SET seq = 5 WHERE seq = 6")
    change(filled, "UPDATE records SET seq = 6 WHERE seq = 1000")
    named = " ".join(f.what for f in checked(filled).findings)
    assert "record 5" in named
    assert "record 6" in named


def test_lines_of_an_export_that_were_swapped_are_found(filled: Path) -> None:
    out = io.StringIO()
    with LedgerReader(filled) as reader:
        write_export(reader.entries(), out)
    lines = out.getvalue().splitlines()
    assert verify(read_export(lines)).sound
    lines[4], lines[5] = lines[5], lines[4]
    assert "reordered" in " ".join(f.what for f in verify(read_export(lines)).findings)


def test_each_leader_has_a_segment_that_carries_the_head_before_it(filled: Path) -> None:
    before = checked(filled)
    with Ledger(filled, leader="b", version="2") as ledger:
        ledger.append([decision(21)])
    with LedgerReader(filled) as reader:
        opened = list(reader.entries(kinds=[Kind.SEGMENT]))[-1]
    assert opened.content["previousHead"] == {"seq": before.head_seq, "hash": before.head_hash}
    assert (opened.content["leader"], opened.content["version"], opened.segment) == ("b", "2", 2)
    assert checked(filled).sound


def test_two_leaders_at_once_never_fork_the_chain(path: Path) -> None:
    with Ledger(path, leader="old", version="1") as old, Ledger(path, leader="new", version="1") as new:
        for k in range(6):
            (old if k % 2 else new).append([decision(k)])
    result = checked(path)
    assert result.sound
    assert result.segments == 6


def test_labels_with_quotes_newlines_and_foreign_letters_are_kept_to_the_letter(path: Path) -> None:
    text = 'a"b\n\\c\u2028 ü 💥 \x00'
    with Ledger(path, leader="a", version="1") as ledger:
        ledger.append([decision(1, message=text)])
    with LedgerReader(path) as reader:
        assert [e.content["message"] for e in reader.entries(kinds=[Kind.DECISION])] == [text]
        out = io.StringIO()
        write_export(reader.entries(), out)
    assert [e.content.get("message") for e in read_export(out.getvalue().splitlines())][-1] == text
    assert checked(path).sound


def test_what_json_cannot_hold_is_refused_and_nothing_is_written(filled: Path) -> None:
    with Ledger(filled, leader="a", version="1") as ledger, pytest.raises(ValueError, match="JSON"):
        ledger.append([decision(1), decision(2, bad=float("nan"))])
    assert checked(filled).records == 21


def test_compaction_keeps_the_chain_and_the_sums(path: Path) -> None:
    with Ledger(path, leader="a", version="1") as ledger:
        for day in range(10):
            ledger.append([decision(day * 1440), account(day, 10.0 + day)])
            if day == 4:
                ledger.append([account(2, -1.5, revision=1)])
        done = compact(ledger, T0 + timedelta(days=6), T0 + timedelta(days=11))
        assert done.removed == 13
        assert compact(ledger, T0 + timedelta(days=6), T0 + timedelta(days=11)).removed == 0
        ledger.append([decision(99999)])
    result = checked(path)
    assert result.sound
    assert result.compacted == 13
    with LedgerReader(path) as reader:
        days = next(iter(reader.entries(kinds=[Kind.DAILY]))).content["days"]
    assert days["2026-03-03"]["zones"]["west"]["adds"]["kwh"]["facility"] == pytest.approx(12.0 - 1.5)
    assert days["2026-03-01"]["decisions"] == {"Held/CleanerWindow": 1}


def test_a_record_removed_beside_compaction_is_still_found(path: Path) -> None:
    test_compaction_keeps_the_chain_and_the_sums(path)
    change(
        path,
        "DELETE FROM records WHERE kind = 'decision' AND seq = (SELECT min(seq) FROM records WHERE kind = 'decision')",
    )
    assert not checked(path).sound


def test_a_changed_daily_account_is_found(path: Path) -> None:
    test_compaction_keeps_the_chain_and_the_sums(path)
    change(path, "UPDATE records SET body = replace(body, '10.5', '9.5') WHERE kind = 'daily'")
    assert any("daily" in f.what for f in checked(path).findings)


def test_a_ledger_of_a_newer_version_is_refused_with_a_sentence(filled: Path) -> None:
    change(filled, "UPDATE state SET value = '99' WHERE name = 'schema_version'")
    for opened in (lambda: Ledger(filled, leader="a", version="1"), lambda: LedgerReader(filled)):
        with pytest.raises(LedgerError, match="newer version of Embellie"):
            opened()


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "notes.txt"
    wrong.write_text("shopping list " * 100)
    with pytest.raises(LedgerError, match="no ledger"):
        LedgerReader(wrong)
    with pytest.raises(LedgerError, match=r"there is no ledger.*the one that leads"):
        LedgerReader(tmp_path / "absent.sqlite")


def test_a_locked_ledger_can_be_written_later(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embellie.ledger.schema.BUSY_MS", 50)
    with Ledger(filled, leader="a", version="1") as ledger:
        blocker = sqlite3.connect(filled, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailableError, match="locked"):
            ledger.append([decision(30)])
        blocker.execute("ROLLBACK")
        blocker.close()
        ledger.append([decision(30)])
    assert checked(filled).sound


def test_a_full_disk_loses_nothing_that_was_written(filled: Path) -> None:
    with Ledger(filled, leader="a", version="1") as ledger:
        cursor = ledger._connection.connection.cursor()
        pages = cursor.execute("PRAGMA page_count").fetchone()[0]
        cursor.execute(f"PRAGMA max_page_count={pages + 2}")
        with pytest.raises(LedgerUnavailableError, match="full"):
            ledger.append([decision(k, padding="x" * 2000) for k in range(100)])
        cursor.execute("PRAGMA max_page_count=1000000")
        cursor.close()
        ledger.append([decision(101)])
    assert checked(filled).sound


def test_a_ledger_that_became_read_only_says_so_and_can_be_written_later(filled: Path) -> None:
    with Ledger(filled, leader="a", version="1") as ledger:
        cursor = ledger._connection.connection.cursor()
        cursor.execute("PRAGMA query_only=ON")
        with pytest.raises(LedgerUnavailableError, match="read-only volume or not ours to write"):
            ledger.append([decision(30)])
        cursor.execute("PRAGMA query_only=OFF")
        cursor.close()
        ledger.append([decision(30)])
    assert checked(filled).sound


@pytest.fixture
def read_only(filled: Path) -> Iterator[Path]:
    with by_hand(filled) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for beside in ("-wal", "-shm"):
        filled.with_name(filled.name + beside).unlink(missing_ok=True)
    filled.chmod(0o400)
    filled.parent.chmod(0o500)
    yield filled
    filled.parent.chmod(0o700)
    filled.chmod(0o600)


def test_a_read_only_ledger_can_be_verified(read_only: Path) -> None:
    assert checked(read_only).sound


def test_pseudonyms_are_the_same_for_one_person_and_need_the_key(tmp_path: Path) -> None:
    names = Pseudonyms.beside(tmp_path / "ledger.sqlite")
    again = Pseudonyms.beside(tmp_path / "ledger.sqlite")
    other = Pseudonyms.beside(tmp_path / "other.sqlite")
    assert names.of("olga") == again.of("olga") != other.of("olga")
    assert "olga" not in names.of("olga")
    assert (tmp_path / "ledger.sqlite.pseudonym-key").stat().st_mode & 0o077 == 0


def test_nothing_is_not_called_whole(path: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    Ledger(path, leader="a", version="1").close()
    fresh = runner.invoke(cli, ["ledger", "verify", "--ledger", str(path)])
    assert (fresh.exit_code, "whole" in fresh.output) == (0, False)
    assert "It holds no records yet" in fresh.output
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    refused = runner.invoke(cli, ["ledger", "verify", str(empty)])
    assert refused.exit_code == 1
    assert "is empty: it is no export of a ledger" in refused.output


def test_the_command_verifies_names_what_is_wrong_and_exits_with_1(filled: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    good = runner.invoke(cli, ["ledger", "verify", "--ledger", str(filled)])
    assert runner.invoke(cli, ["ledger", "verify", str(filled)]).output == good.output, "its own file, not an export"
    assert good.exit_code == 0
    assert "The chain is whole." in good.output
    exported = tmp_path / "out.jsonl"
    assert runner.invoke(cli, ["ledger", "export", "--ledger", str(filled), "--out", str(exported)]).exit_code == 0
    copy = runner.invoke(cli, ["ledger", "verify", str(exported)])
    assert copy.exit_code == 0
    assert "cut off can only be told with a head that was kept" in copy.output
    exported.write_text(exported.read_text().replace('"k":7', '"k":8'))
    bad = runner.invoke(cli, ["ledger", "verify", str(exported)])
    assert bad.exit_code == 1
    assert "WRONG: record 9" in bad.output
    change(filled, "DELETE FROM records WHERE seq = 7")
    bad = runner.invoke(cli, ["ledger", "verify", "--ledger", str(filled)])
    assert bad.exit_code == 1
    assert "record 7 is missing" in bad.output


def test_the_tables_and_what_is_asked_of_them_are_said_in_postgresql_too() -> None:
    dialect = postgresql.dialect()
    tables = [str(CreateTable(table).compile(dialect=dialect)) for table in schema.METADATA.sorted_tables]
    assert any("seq BIGINT NOT NULL" in text and "PRIMARY KEY (seq)" in text for text in tables)
    for text in tables:
        assert "AUTOINCREMENT" not in text
        assert "SERIAL" not in text
    statements = (store._INSERT, store._UPDATE, select(*store._COLUMNS).where(schema.RECORDS.c.at >= "2026"))
    assert all(str(statement.compile(dialect=dialect)) for statement in statements)


def test_a_ledger_goes_on_over_an_upgrade(filled: Path) -> None:
    with Ledger(filled, leader="a", version="2.0") as ledger:
        ledger.append([decision(50)])
    with LedgerReader(filled) as reader:
        assert [e.content["version"] for e in reader.entries(kinds=[Kind.SEGMENT])] == ["1", "2.0"]
    assert checked(filled).sound
