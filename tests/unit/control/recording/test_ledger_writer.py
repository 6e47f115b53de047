# SPDX-License-Identifier: Apache-2.0
"""The recorder: decisions reach the ledger once each, with no name that a policy hides, over full disks and changes."""

import threading
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from ledgers import by_hand
from recorder import NOTHING, T0, Desk, Hand, Meters, assembly, pod, record, view

from embellie.api.energypolicy import EnergyPolicy
from embellie.cluster.records import UNCONSTRAINED, WorkloadRecord
from embellie.cluster.store import View
from embellie.domain import names
from embellie.domain.reasons import Reason, State
from embellie.ledger import Draft, Kind, LedgerReader, LedgerUnavailableError, verify
from embellie.telemetry.metrics import REGISTRY


def test_a_decision_is_recorded_when_it_changes_and_not_each_turn(desk: Desk) -> None:
    for _ in range(3):
        desk.turn(record())
    desk.turn(record(State.RELEASED, Reason.BEST_NOW))
    found = desk.entries(Kind.DECISION)
    assert [(d["state"], d["reason"]) for d in found] == [("Held", "CleanerWindow"), ("Released", "BestNow")]
    assert len(found[0]["inputsHash"]) == 64
    assert found[0]["message"] == 'Waits: "quoted"\nand on.'
    assert found[0]["alternatives"]["plannedLowG"] == 70.0


def started_by(person: str) -> View:
    """Return a cluster in which somebody has started the work of `record` by hand."""
    job = WorkloadRecord(
        key=record().key, created_at=T0, flex="patient", held=False, labels={}, annotations={names.GO: person},
        pods=1, gpus_per_pod=8, waiting=False, finished=False, constraints=UNCONSTRAINED,
    )  # fmt: skip
    return replace(view(), workloads=(job,))


def policy(user_names: str | None) -> EnergyPolicy:
    spec = {} if user_names is None else {"userNames": user_names}
    return EnergyPolicy.model_validate(
        {"apiVersion": "embellie.io/v1alpha1", "kind": "EnergyPolicy", "metadata": {"name": "p"}, "spec": spec}
    )


@pytest.mark.parametrize(
    ("policies", "named"),
    [((policy(None),), True), ((policy("Plain"),), True), ((policy("Pseudonyms"),), False), ((), False)],
    ids=["by default", "plainly", "pseudonyms", "the policy is gone"],
)
def test_who_started_work_by_hand_reaches_the_ledger_only_as_the_policy_says(
    desk: Desk, policies: tuple[EnergyPolicy, ...], named: bool
) -> None:
    for state in (State.RELEASED, State.HANDED_OFF):
        desk.turn(record(state), seen=started_by("alice@example.org"), policies=policies)
    people = {d["overriddenBy"] for d in desk.entries(Kind.DECISION)}
    assert len(people) == 1, "one person has one name"
    assert (people == {"alice@example.org"}) is named
    assert all(person.startswith("person-") for person in people) is not named
    desk.stop()
    written = b"".join(file.read_bytes() for file in desk.path.parent.iterdir() if file.is_file())
    assert (b"alice" in written) is named


def test_without_a_key_for_pseudonyms_nobody_is_named(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.path.with_name(desk.path.name + ".pseudonym-key").write_text("cut", encoding="ascii")
    desk.turn(record(State.RELEASED), seen=started_by("alice"), policies=(policy("Pseudonyms"),))
    assert [d["overriddenBy"] for d in desk.entries(Kind.DECISION)] == ["person"]
    assert "recorded without a name" in caplog.text
    assert "alice" not in caplog.text


def test_only_a_leader_writes(desk: Desk) -> None:
    desk.leads = False
    desk.turn(record())
    assert not desk.path.exists()


def test_work_that_is_deleted_while_it_waits_is_recorded_once(desk: Desk) -> None:
    desk.turn(record())
    desk.turn()
    desk.turn()
    desk.turn(record(State.RELEASED, Reason.BEST_NOW, uid="w2"))
    desk.turn()
    told = [(d["workload"]["uid"], d["state"]) for d in desk.entries(Kind.DECISION)]
    assert told == [("w1", "Held"), ("w1", "Deleted"), ("w2", "Released")]


def test_a_ledger_that_cannot_be_written_loses_nothing_that_fits_and_counts_the_rest(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [record()]
    desk.turn(*said)
    assert desk.recorder._ledger is not None
    append = desk.recorder._ledger.append
    monkeypatch.setattr(desk.recorder._outbox, "_most", 3)

    def full(*_: object, **__: object) -> None:
        raise LedgerUnavailableError("the disk is full")

    monkeypatch.setattr(desk.recorder._ledger, "append", full)
    for k in range(5):
        said.append(record(uid=f"w{k + 2}"))
        desk.turn(*said)
    assert desk.recorder._trouble == "the disk is full"
    monkeypatch.setattr(desk.recorder._ledger, "append", append)
    desk.turn(*said)
    assert [d["workload"]["uid"] for d in desk.entries(Kind.DECISION)] == ["w1", "w4", "w5", "w6"]
    gap = desk.entries(Kind.GAP)
    assert [(g["lost"], g["why"]) for g in gap] == [(2, "the disk is full")]
    desk.recorder._tell_health()
    assert REGISTRY.get_sample_value("embellie_ledger_unwritten_records") == 2
    assert REGISTRY.get_sample_value("embellie_ledger_recording") == 1


def test_what_comes_while_the_ledger_fails_is_written_once_and_in_order(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.turn(record())
    assert desk.recorder._ledger is not None
    append = desk.recorder._ledger.append
    said = [record()]

    def full(*_: object, **__: object) -> None:
        # The loop goes on while the disk is asked.
        desk.recorder._outbox.put([Draft(kind=Kind.GAP, at=T0, body={"lost": 0, "why": f"while {len(said)}"})])
        raise LedgerUnavailableError("the disk is full")

    monkeypatch.setattr(desk.recorder._ledger, "append", full)
    for k in range(2):
        said.append(record(uid=f"w{k + 2}"))
        desk.turn(*said)
    monkeypatch.setattr(desk.recorder._ledger, "append", append)
    desk.turn(*said)
    assert [d["workload"]["uid"] for d in desk.entries(Kind.DECISION)] == ["w1", "w2", "w3"]
    assert [d["why"] for d in desk.entries(Kind.GAP)] == ["while 2", "while 3"]


def test_what_is_written_is_flushed_to_the_disk_soon_and_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embellie.control.recording.ledger_writer.FLUSH_S", 0.0)
    desk.turn()
    assert desk.recorder._ledger is not None
    flushed: list[int] = []
    monkeypatch.setattr(desk.recorder._ledger, "flush", lambda: flushed.append(1))
    desk.turn(record())
    desk.turn(record())
    assert flushed == [1]


def test_old_records_become_daily_accounts_once_a_day(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Hand(T0), Meters(), interval=timedelta(hours=6), retention=timedelta(days=1))
    desk.turns(13, timedelta(hours=6))
    assert len(desk.entries(Kind.DAILY)) >= 2
    oldest = min(datetime.fromisoformat(account["start"]) for account in desk.entries(Kind.ACCOUNT))
    assert oldest >= desk.clock.moment - timedelta(days=2, hours=6)


def test_a_changed_record_keeps_old_records_from_being_compacted_and_nothing_from_being_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path, Hand(T0), Meters(), interval=timedelta(hours=6), retention=timedelta(days=1))
    desk.turn(record())
    desk.stop()
    with by_hand(desk.path) as ledger:
        ledger.execute("update records set body = replace(body, 'Held', 'Gone') where kind = 'decision'")
    desk = Desk(tmp_path, desk.clock, Meters(), interval=timedelta(hours=6), retention=timedelta(days=1))
    desk.turns(9, timedelta(hours=6))
    assert "old records are not made into daily accounts: record 2 (decision" in caplog.text
    assert "embellie ledger verify" in caplog.text
    assert caplog.text.count("old records are not made") == 1, "it is said once a day"
    with LedgerReader(desk.path) as reader:
        kinds = Counter(entry.kind for entry in reader.entries())
        findings = verify(reader.entries()).findings
    assert (kinds[Kind.DAILY], kinds[Kind.DECISION], kinds[Kind.ACCOUNT]) == (0, 1, 7)
    assert [finding.seq for finding in findings] == [2], "what was changed can still be found"


def test_a_turn_is_never_ended_by_what_cannot_be_recorded(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.recorder.turn(SimpleNamespace(), view(), (), {}, NOTHING)  # type: ignore[arg-type]
    assert "could not be recorded" in caplog.text
    desk.recorder.watch(SimpleNamespace(workloads=()))  # type: ignore[arg-type]
    assert "could not be seen" in caplog.text, "nor is standing by"


def test_the_thread_starts_and_stops(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Hand(T0), Meters())
    desk.recorder.start()
    desk.recorder.turn(assembly(view(pod()), desk.clock), view(pod()), (record(),), {}, NOTHING)
    desk.recorder.stop()
    assert not any(thread.name == "ledger" for thread in threading.enumerate())
    assert len(desk.entries(Kind.DECISION)) == 1
