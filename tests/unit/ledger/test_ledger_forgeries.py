# SPDX-License-Identifier: Apache-2.0
"""Forgeries by somebody who knows how hashes are made, and the hash as the documentation describes it."""

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ledgers import by_hand, run

from embellie.ledger import (
    ChangedRecordError,
    Draft,
    Entry,
    Kind,
    Ledger,
    LedgerReader,
    LedgerUnavailableError,
    compact,
    verify,
)
from embellie.ledger.records import digest

T0 = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "ledger.sqlite"
    with Ledger(found, leader="a", version="1") as ledger:
        ledger.append([Draft(kind=Kind.DECISION, at=T0 + timedelta(hours=k), body={"k": k}) for k in range(10)])
    with Ledger(found, leader="b", version="1") as ledger:
        ledger.append([Draft(kind=Kind.DECISION, at=T0 + timedelta(days=9), body={"k": 99})])
    return found


def entries(path: Path, *kinds: Kind) -> list[Entry]:
    with LedgerReader(path) as reader:
        return list(reader.entries(kinds=kinds))


def forged(entry: Entry, **changes: object) -> Entry:
    """A record with other content and a hash that fits it."""
    bent = replace(entry, **changes)  # type: ignore[arg-type]
    return replace(bent, hash=digest(bent.seq, bent.segment, bent.kind, bent.at, bent.previous, bent.body))


def found_in(chain: Iterator[Entry] | list[Entry], daily: list[Entry] = []) -> str:  # noqa: B006 - never changed
    return "; ".join(finding.what for finding in verify(chain, daily).findings)


def test_a_hash_is_that_of_the_seven_lines_of_the_documentation(path: Path) -> None:
    for entry in entries(path):
        lines = ("embellie.io/ledger/v1", str(entry.seq), str(entry.segment), entry.kind, entry.at, entry.previous)
        assert entry.hash == hashlib.sha256("\n".join((*lines, entry.body)).encode()).hexdigest()


def test_a_record_that_was_changed_and_hashed_anew_no_longer_bears_the_next(path: Path) -> None:
    chain = entries(path)
    chain[4] = forged(chain[4], body='{"k":7}')
    assert found_in(chain) == "record 6 does not follow record 5: one of them was changed or reordered"


def test_a_byte_that_makes_a_record_no_text_is_found_and_the_record_named(path: Path, tmp_path: Path) -> None:
    export = tmp_path / "ledger.jsonl"
    assert run("ledger", "export", "--ledger", str(path), "--out", str(export)).exit_code == 0
    lines = export.read_bytes().splitlines(keepends=True)
    export.write_bytes(b"".join([*lines[:4], lines[4].replace(b'"k":3', b'"k":\xb3'), *lines[5:]]))
    of_export = run("ledger", "verify", str(export))
    assert of_export.exit_code == 1
    assert "WRONG: record 5 (decision, " in of_export.output
    export.write_bytes(b"".join([*lines[:4], lines[4].replace(b'"seq":', b'"s\xb3q":'), *lines[5:]]))
    assert "line 5, after record 4, is not a record" in run("ledger", "verify", str(export)).output
    with by_hand(path) as connection:
        connection.execute("UPDATE records SET body = CAST(X'7B226B223AB37D' AS TEXT) WHERE seq = 5")
    of_ledger = run("ledger", "verify", "--ledger", str(path))
    assert of_ledger.exit_code == 1
    assert "WRONG: record 5 (decision, " in of_ledger.output


def test_a_segment_that_does_not_carry_the_head_before_it_is_named(path: Path) -> None:
    chain = entries(path)
    place = next(k for k, entry in enumerate(chain) if entry.segment == 2)
    body = json.loads(chain[place].body)
    body["previousHead"]["hash"] = "f" * 64
    chain[place] = forged(chain[place], body=json.dumps(body))
    assert "segment 2 does not carry the hash of the head before it" in found_in(chain)


def test_a_record_that_was_put_into_another_segment_is_named(path: Path) -> None:
    chain = entries(path)
    for k in range(5, len(chain)):
        segment = chain[k].segment + 1
        chain[k] = forged(chain[k], segment=segment, previous=chain[k - 1].hash)
    assert "record 6 is in segment 2, after segment 1" in found_in(chain)


def test_a_daily_record_that_stands_for_another_chain_is_named(path: Path) -> None:
    with Ledger(path, leader="c", version="1") as ledger:
        assert compact(ledger, T0 + timedelta(days=1), T0 + timedelta(days=10)).removed == 10
    (daily,) = entries(path, Kind.DAILY)
    assert found_in(entries(path), [daily]) == ""
    body = json.loads(daily.body)
    body["replaces"]["before"] = "f" * 64
    assert "were compacted from another chain" in found_in(entries(path), [forged(daily, body=json.dumps(body))])


def test_a_head_known_from_elsewhere_finds_a_chain_that_was_written_anew(path: Path) -> None:
    chain = entries(path)
    head = (chain[-1].seq, chain[-1].hash)
    chain[4] = forged(chain[4], body='{"k":7}')
    for k in range(5, len(chain)):
        body = chain[k].body.replace(chain[k].previous, chain[k - 1].hash)
        chain[k] = forged(chain[k], previous=chain[k - 1].hash, body=body)
    assert verify(chain).sound, "nobody can tell from within"
    assert "another hash was expected" in verify(chain, head=head).findings[0].what
    assert "the chain was written anew" in verify(chain, known=head).findings[0].what


def test_a_head_that_was_kept_stays_good_while_the_ledger_grows(path: Path) -> None:
    with LedgerReader(path) as reader:
        kept = reader.head.seq, reader.head.hash
    with Ledger(path, leader="c", version="1") as ledger:
        ledger.append([Draft(kind=Kind.DECISION, at=T0 + timedelta(days=9), body={"k": k}) for k in range(5)])
        assert run("ledger", "verify", "--ledger", str(path), "--head", f"{kept[0]}:{kept[1]}").exit_code == 0
        wrong = run("ledger", "verify", "--ledger", str(path), "--head", f"{kept[0]}:{'f' * 64}")
        assert wrong.exit_code == 1
        assert f"record {kept[0]} is not the one that was known" in wrong.output
        compact(ledger, T0 + timedelta(days=20), T0 + timedelta(days=20))
    inside = run("ledger", "verify", "--ledger", str(path), "--head", f"{kept[0] - 3}:{'f' * 64}")
    assert inside.exit_code == 0
    assert "was compacted since, so that its hash cannot be compared" in inside.output


def test_a_check_beside_a_writer_sees_the_ledger_as_it_was_when_it_began(path: Path) -> None:
    with LedgerReader(path) as reader, Ledger(path, leader="c", version="1") as ledger:
        head = reader.head.seq, reader.head.hash
        ledger.append([Draft(kind=Kind.DECISION, at=T0, body={})])
        daily = list(reader.entries(kinds=[Kind.DAILY]))
        compact(ledger, T0 + timedelta(days=20), T0 + timedelta(days=20))
        assert reader.integrity() == "ok"
        result = verify(reader.entries(), daily, head=head)
    assert result.sound, result.findings
    assert result.head_seq == head[0]
    assert verify(entries(path), entries(path, Kind.DAILY)).sound


@pytest.mark.parametrize("hashed_anew", [False, True])
def test_what_was_changed_is_never_compacted_away(path: Path, *, hashed_anew: bool) -> None:
    entry = forged(entries(path)[4], body='{"k":7}')
    with by_hand(path) as connection:
        if hashed_anew:
            connection.execute("UPDATE records SET hash = ? WHERE seq = 5", (entry.hash,))
        connection.execute("UPDATE records SET body = ? WHERE seq = 5", (entry.body,))
    with Ledger(path, leader="c", version="1") as ledger:
        with pytest.raises(ChangedRecordError, match=r"record (5|6) "):
            compact(ledger, T0 + timedelta(days=20), T0 + timedelta(days=20))
        ledger.append([Draft(kind=Kind.DECISION, at=T0, body={})])
    assert len(entries(path)) == 15
    assert found_in(entries(path))


def test_compaction_at_the_very_end_is_walked_over_to_the_head(tmp_path: Path) -> None:
    """All but the daily record itself may be compacted; old records after a daily one are compacted by the next."""
    path = tmp_path / "ledger.sqlite"
    with Ledger(path, leader="a", version="1") as ledger:
        ledger.append([Draft(kind=Kind.GAP, at=T0, body={"lost": 3, "why": "full"})] * 2)
        compact(ledger, T0 + timedelta(days=1), T0 + timedelta(days=2))
    with LedgerReader(path) as reader:
        head = (reader.head.seq, reader.head.hash)
    result = verify(entries(path), entries(path, Kind.DAILY), head=head)
    assert result.sound
    (daily,) = entries(path, Kind.DAILY)
    assert daily.content["days"]["2026-03-01"]["lost"] == 6


def test_one_daily_record_stands_for_so_many_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The package has a function of the module's name.
    monkeypatch.setattr(sys.modules[compact.__module__], "MAX_RUN", 4)
    path = tmp_path / "ledger.sqlite"
    with Ledger(path, leader="a", version="1") as ledger:
        ledger.append([Draft(kind=Kind.DECISION, at=T0, body={"k": k}) for k in range(10)])
        done = compact(ledger, T0 + timedelta(days=1), T0 + timedelta(days=2))
    assert (done.removed, done.spans) == (10, 3)
    assert verify(entries(path), entries(path, Kind.DAILY)).sound


def test_the_highest_power_of_a_day_outlives_compaction(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    bodies = [
        {"zone": "west", "start": T0, "end": T0 + timedelta(hours=1), "revision": 0, "adds": {}, "peakKw": kw}
        for kw in (5.0, 9.0, 7.0)
    ]
    with Ledger(path, leader="a", version="1") as ledger:
        ledger.append([Draft(kind=Kind.ACCOUNT, at=T0, body=body) for body in bodies])
        compact(ledger, T0 + timedelta(days=1), T0 + timedelta(days=2))
    (daily,) = entries(path, Kind.DAILY)
    assert daily.content["days"]["2026-03-01"]["zones"]["west"]["peakKw"] == 9.0


def test_flushing_brings_the_log_to_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr("embellie.ledger.store.os.fsync", lambda handle: synced.append(f"/proc/self/fd/{handle}"))
    with Ledger(path, leader="d", version="1") as ledger:
        ledger.append([Draft(kind=Kind.DECISION, at=T0, body={})])
        # A reader of an older state keeps the checkpoint from passing: the log itself has to be safe.
        with by_hand(path) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM records").fetchone()
            ledger.flush()
    assert len(synced) == 1


def test_of_two_leaders_that_compact_the_same_records_one_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both daily accounts would count: the sums of those days would be doubled."""
    late = T0 + timedelta(days=20)
    with Ledger(path, leader="old", version="1") as old, Ledger(path, leader="new", version="1") as new:
        append = old.append

        def overtaken(drafts: list[Draft], **options: Any) -> object:
            compact(new, late, late)
            return append(drafts, **options)

        monkeypatch.setattr(old, "append", overtaken)
        with pytest.raises(LedgerUnavailableError, match="another leader has compacted"):
            compact(old, late, late)
    numbers = [json.loads(entry.body)["replaces"]["first"] for entry in entries(path, Kind.DAILY)]
    assert len(numbers) == len(set(numbers)) > 0
    assert not found_in(entries(path), entries(path, Kind.DAILY))
