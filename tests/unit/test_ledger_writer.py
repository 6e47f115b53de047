# SPDX-License-Identifier: Apache-2.0
"""The recorder: decisions and intervals reach the ledger once each, over restarts, full disks and clock jumps."""

import sqlite3
import threading
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from recorder import HOUR, NOTHING, T0, Desk, Hand, Meters, assembly, pod, record, view

from embellie.api.energypolicy import EnergyPolicy
from embellie.cluster.records import UNCONSTRAINED, NodeRecord, WorkloadRecord
from embellie.cluster.store import View
from embellie.control.accountant import Accountant
from embellie.control.records import Scene
from embellie.control.witness import Witness
from embellie.domain import names
from embellie.domain.reasons import Reason, State
from embellie.ledger import Draft, Kind, LedgerReader, LedgerUnavailableError, verify
from embellie.telemetry.energy import EnergySamples
from embellie.telemetry.intensity import IntensityFolder
from embellie.telemetry.metrics import REGISTRY
from embellie.telemetry.tariffs import TariffFolder
from embellie.thermal.job_power import ClassPower, NothingLearnt


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, Hand(T0), Meters())


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


def test_a_node_without_a_zone_has_a_line_of_its_own_and_is_named(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    stray = NodeRecord(name="lost-7", labels={}, gpus=8, schedulable=True)
    office = NodeRecord(name="no-gpus", labels={}, gpus=0, schedulable=True)
    seen = replace(view(pod(), pod(node="lost-7", uid="p2", job="j2")), nodes=(*view().nodes, stray, office))
    for _ in range(5):
        desk.turn(seen=seen)
        desk.clock.moment += timedelta(minutes=15)
    found = [a for a in desk.entries(Kind.ACCOUNT) if a["zone"] == "(no zone)"]
    assert len(found) == len([a for a in desk.entries(Kind.ACCOUNT) if a["zone"] == "west"]) > 0
    kwh = found[0]["adds"]["kwh"]
    # An idle floor of 3.2 kW, and 8 GPUs of 600 W as stated: 460 W each above their idle draw, 3 % more for the host.
    assert kwh["facility"] == pytest.approx(0.25 * (3.2 + 8 * 0.46 * 1.03))
    assert kwh["estimated"] == pytest.approx(kwh["facility"])
    assert found[0]["nodes"] == {"count": 1, "names": ["lost-7"]}
    assert found[0]["adds"]["grams"] == {}
    assert caplog.text.count("belong to no GridZone (lost-7)") == 1, "it is told once, not at each interval"


class Learnt(NothingLearnt):
    """Jobs called j1 were seen to draw 300 W."""

    def class_power(self, namespace: str, name: str) -> ClassPower | None:
        if not name.startswith("p1"):
            return None
        return ClassPower(mean_w=300.0, sd_w=5.0, samples=50.0, peak_w=310.0, runs=1, pods=frozenset({namespace}))


def test_work_that_nothing_measures_is_taken_to_draw_what_jobs_of_its_name_drew(desk: Desk) -> None:
    desk.recorder._accountant._metering._source.away = True  # type: ignore[union-attr]
    for _ in range(5):
        desk.turn(learnt=Learnt())
        desk.clock.moment += timedelta(minutes=15)
    adds = desk.entries(Kind.ACCOUNT)[0]["adds"]
    assert adds["kwh"]["jobs"] == pytest.approx(0.25 * (3.2 + 8 * (0.3 - 0.14) * 1.03))
    assert adds["kwh"]["estimated"] == pytest.approx(adds["kwh"]["jobs"]), "what was learnt is still no measurement"


def test_only_a_leader_writes(desk: Desk) -> None:
    desk.leads = False
    desk.turn(record())
    assert not desk.path.exists()


def test_each_interval_is_accounted_once_over_a_restart_and_a_clock_that_goes_back(tmp_path: Path) -> None:
    clock, meters = Hand(T0), Meters()
    first = Desk(tmp_path, clock, meters)
    for _ in range(8):
        first.turn()
        clock.moment += timedelta(minutes=10)
    first.stop()
    clock.moment -= timedelta(minutes=25)
    second = Desk(tmp_path, clock, meters)
    for _ in range(9):
        second.turn()
        clock.moment += timedelta(minutes=10)
    accounts = second.entries(Kind.ACCOUNT)
    starts = [a["start"] for a in accounts]
    assert len(starts) == len(set(starts))
    moments = [datetime.fromisoformat(start) for start in starts]
    assert moments == [T0 + k * timedelta(minutes=15) for k in range(len(moments))]
    for account in accounts:
        kwh = account["adds"]["kwh"]
        assert kwh["jobs"] + kwh["idle"] + kwh["overhead"] + kwh["unexplained"] == pytest.approx(7.2 / 4)
    second.stop()


def test_overhead_is_learnt_from_the_meters_of_the_days_before_and_over_a_restart(tmp_path: Path) -> None:
    clock, meters = Hand(T0), Meters()
    meters.zone_w = 9000.0
    first = Desk(tmp_path, clock, meters, interval=timedelta(hours=6))
    for _ in range(12):
        first.turn()
        clock.moment += timedelta(hours=6)
    first.stop()
    bodies = first.entries(Kind.ACCOUNT)
    assert bodies[0]["overheadModel"]["fittedHours"] == 0
    assert bodies[0]["adds"]["kwh"]["unexplained"] > 5.0, "the stated PUE is far too low"
    assert bodies[-1]["overheadModel"]["fittedHours"] >= 48
    assert bodies[-1]["adds"]["kwh"]["unexplained"] == pytest.approx(0.0, abs=0.01)
    second = Desk(tmp_path, clock, meters, interval=timedelta(hours=6))
    for _ in range(2):
        second.turn()
        clock.moment += timedelta(hours=6)
    assert second.entries(Kind.ACCOUNT)[-1]["overheadModel"]["fittedHours"] >= 48
    second.stop()


def test_overhead_is_not_learnt_where_a_node_has_no_meter(tmp_path: Path) -> None:
    clock, meters = Hand(T0), Meters()
    meters.node_w = None
    desk = Desk(tmp_path, clock, meters, interval=timedelta(hours=6))
    for _ in range(12):
        desk.turn()
        clock.moment += timedelta(hours=6)
    assert {body["overheadModel"]["fittedHours"] for body in desk.entries(Kind.ACCOUNT)} == {0}


def test_intervals_without_prometheus_are_estimated_and_never_missing(desk: Desk) -> None:
    desk.recorder._accountant._metering._source.away = True  # type: ignore[union-attr]
    desk.turn()
    desk.clock.moment += HOUR
    desk.turn()
    adds = [a["adds"] for a in desk.entries(Kind.ACCOUNT)]
    assert len(adds) == 3
    assert all(a["kwh"]["estimated"] > 0 and a["seconds"]["metered"] == 0 for a in adds)


def test_a_closed_interval_is_counted_in_the_metrics_once(desk: Desk) -> None:
    def joules() -> float:
        labels = {"zone": "west", "part": "workloads"}
        return REGISTRY.get_sample_value("embellie_energy_joules_total", labels) or 0.0

    before = joules()
    desk.turn()
    desk.clock.moment += timedelta(minutes=20)
    desk.turn()
    desk.turn()
    (account,) = desk.entries(Kind.ACCOUNT)
    assert joules() - before == pytest.approx(3.6e6 * account["adds"]["kwh"]["jobs"])
    assert joules() > before


def test_no_turn_waits_for_a_prometheus_that_does_not_answer(desk: Desk) -> None:
    desk.turn()
    desk.clock.moment += timedelta(minutes=20)
    waited: list[bool] = []

    def hang(*_: object, **__: object) -> EnergySamples:
        # While this is asked, the loop goes on with its next turn.
        turn = threading.Thread(
            target=desk.recorder.turn, args=(assembly(view(pod()), desk.clock), view(pod()), (record(),), {}, NOTHING)
        )
        turn.start()
        turn.join(5.0)
        waited.append(turn.is_alive())
        return EnergySamples()

    desk.recorder._accountant._metering._source.read = hang  # type: ignore[union-attr, method-assign, assignment]
    desk.turn()
    assert waited
    assert not any(waited)


def test_a_clock_that_jumps_by_days_leaves_a_gap_that_is_told(desk: Desk) -> None:
    desk.turn()
    desk.clock.moment += timedelta(days=30)
    desk.turn()
    assert "nothing was accounted from" in desk.entries(Kind.GAP)[0]["why"]


def test_a_gang_that_ended_is_recorded_with_what_it_drew(desk: Desk) -> None:
    desk.turn()
    desk.clock.moment += timedelta(minutes=31)
    desk.turn()
    desk.turn(seen=view())
    desk.clock.moment += timedelta(minutes=31)
    desk.turn(seen=view())
    runs = desk.entries(Kind.RUN)
    assert [run["running"] for run in runs] == [True, False]
    assert runs[1]["uid"] == "j1"
    assert runs[1]["gpus"] == 8
    assert runs[1]["addedKw"] > 0
    assert datetime.fromisoformat(runs[1]["end"]) == T0 + timedelta(minutes=31)


def test_of_a_run_longer_than_accounts_are_kept_open_the_power_is_that_of_its_last_days(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Hand(T0), Meters(), interval=timedelta(hours=6))
    for _ in range(20):
        desk.turn()
        desk.clock.moment += timedelta(hours=6)
    desk.turn(seen=view())
    desk.clock.moment += timedelta(hours=7)
    desk.turn(seen=view())
    ended = desk.entries(Kind.RUN)[-1]
    assert not ended["running"]
    # The node's meter says 6.0 kW and its idle figure 3.2 kW: five days at the difference.
    assert ended["addedKw"] == pytest.approx(2.8, rel=0.02)


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
    monkeypatch.setattr("embellie.control.ledger_writer.KEPT", 3)

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
        desk.recorder._take([Draft(kind=Kind.GAP, at=T0, body={"lost": 0, "why": f"while {len(said)}"})])
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
    monkeypatch.setattr("embellie.control.ledger_writer.FLUSH_S", 0.0)
    desk.turn()
    assert desk.recorder._ledger is not None
    flushed: list[int] = []
    monkeypatch.setattr(desk.recorder._ledger, "flush", lambda: flushed.append(1))
    desk.turn(record())
    desk.turn(record())
    assert flushed == [1]


def test_old_records_become_daily_accounts_once_a_day(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Hand(T0), Meters(), interval=timedelta(hours=6), retention=timedelta(days=1))
    for _ in range(13):
        desk.turn()
        desk.clock.moment += timedelta(hours=6)
    assert len(desk.entries(Kind.DAILY)) >= 2
    oldest = min(datetime.fromisoformat(account["start"]) for account in desk.entries(Kind.ACCOUNT))
    assert oldest >= desk.clock.moment - timedelta(days=2, hours=6)


def test_a_changed_record_keeps_old_records_from_being_compacted_and_nothing_from_being_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path, Hand(T0), Meters(), interval=timedelta(hours=6), retention=timedelta(days=1))
    desk.turn(record())
    desk.stop()
    with sqlite3.connect(desk.path) as ledger:
        ledger.execute("update records set body = replace(body, 'Held', 'Gone') where kind = 'decision'")
    ledger.close()
    desk = Desk(tmp_path, desk.clock, Meters(), interval=timedelta(hours=6), retention=timedelta(days=1))
    for _ in range(9):
        desk.turn()
        desk.clock.moment += timedelta(hours=6)
    assert "old records are not made into daily accounts: record 2 (decision" in caplog.text
    assert "embellie ledger verify" in caplog.text
    assert caplog.text.count("old records are not made") == 1, "it is said once a day"
    with LedgerReader(desk.path) as reader:
        kinds = Counter(entry.kind for entry in reader.entries())
        findings = verify(reader.entries()).findings
    assert (kinds[Kind.DAILY], kinds[Kind.DECISION], kinds[Kind.ACCOUNT]) == (0, 1, 7)
    assert [finding.seq for finding in findings] == [2], "what was changed can still be found"


def test_a_zones_meter_in_kilowatts_is_read_as_such(tmp_path: Path) -> None:
    meters = Meters()
    meters.zone_w = 7.2
    desk = Desk(tmp_path, Hand(T0), meters, interval=HOUR)
    desk.unit = "Kilowatt"
    desk.turn()
    desk.clock.moment += timedelta(minutes=61)
    desk.turn()
    (account,) = desk.entries(Kind.ACCOUNT)
    assert account["adds"]["kwh"]["metered"] == pytest.approx(7.2)


def test_a_turn_is_never_ended_by_what_cannot_be_recorded(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.recorder.turn(SimpleNamespace(), view(), (), {}, NOTHING)  # type: ignore[arg-type]
    assert "could not be recorded" in caplog.text


def test_the_thread_starts_and_stops(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Hand(T0), Meters())
    desk.recorder.start()
    desk.recorder.turn(assembly(view(pod()), desk.clock), view(pod()), (record(),), {}, NOTHING)
    desk.recorder.stop()
    assert not any(thread.name == "ledger" for thread in threading.enumerate())
    assert len(desk.entries(Kind.DECISION)) == 1


def test_a_team_is_named_by_a_label_of_its_namespace(tmp_path: Path) -> None:
    clock = Hand(T0)
    witness = Witness()
    accountant = Accountant(
        clock=clock, source=None, intensity=IntensityFolder(tmp_path), tariffs=TariffFolder(tmp_path),  # type: ignore[arg-type]
        witness=witness, interval=HOUR, team_label="team",
    )  # fmt: skip
    seen = view(pod())
    witness.look(seen, T0, clock.from_wall, {})
    body = accountant.close(T0, T0 + HOUR, Scene(assembly=assembly(seen, clock), view=seen), EnergySamples())[0].body
    assert list(body["adds"]["teams"]) == ["vision"]
