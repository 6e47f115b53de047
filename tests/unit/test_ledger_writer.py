# SPDX-License-Identifier: Apache-2.0
"""The recorder: decisions and intervals reach the ledger once each, over restarts, full disks and clock jumps."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embellie.api.energypolicy import EnergyPolicy
from embellie.api.gridzone import GridZone
from embellie.cluster.plan_objects import PlanRecord
from embellie.cluster.records import UNCONSTRAINED, NamespaceRecord, NodeRecord, PodRecord, WorkloadRecord
from embellie.cluster.store import View
from embellie.control.accountant import Accountant
from embellie.control.assemble import Assembly, Inputs, assemble
from embellie.control.ledger_writer import LedgerOptions, Recorder
from embellie.control.records import Scene
from embellie.control.witness import Witness
from embellie.domain import names
from embellie.domain.reasons import Reason, SignalKind, State
from embellie.domain.snapshot import WorkloadKey, WorkloadKind
from embellie.ledger import Kind, LedgerReader, LedgerUnavailableError, verify
from embellie.telemetry.energy import EnergySamples, Series
from embellie.telemetry.intensity import IntensityFolder, read_intensity
from embellie.telemetry.tariffs import TariffFolder, read_tariffs
from embellie.telemetry.zone_files import ZoneFileError
from embellie.thermal.job_power import ClassPower, LearntPower, NothingLearnt

T0 = datetime(2026, 7, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOTHING = NothingLearnt()


class Hand:
    """A clock that a test moves by hand."""

    def __init__(self, now: datetime) -> None:
        self.moment = now

    def now(self) -> datetime:
        return self.moment

    def from_wall(self, wall: datetime) -> datetime:
        return wall

    def to_wall(self, moment: datetime) -> datetime:
        return moment

    def wall_seconds(self, duration: timedelta) -> float:
        return duration.total_seconds()


class Meters:
    """A Prometheus that knows each node's power, and can be away."""

    def __init__(self) -> None:
        self.away = False

    def read(self, start: datetime, end: datetime, step_s: float, **_: Any) -> EnergySamples:
        samples = EnergySamples()
        if not self.away:
            at = [start.timestamp() + k * step_s for k in range(int((end - start).total_seconds() / step_s) + 1)]
            samples.nodes["n1"] = Series(at, [6000.0] * len(at))
            samples.zones["west"] = Series(list(at), [7200.0] * len(at))
        return samples


def grid_zone(name: str = "west") -> GridZone:
    return GridZone.model_validate(
        {
            "apiVersion": "embellie.io/v1alpha1",
            "kind": "GridZone",
            "metadata": {"name": name},
            "spec": {
                "nodeSelector": {"zone": name},
                "powerSensor": {"query": "facility", "unit": "Watt"},
            },
        }
    )


def pod(node: str = "n1", uid: str = "p1", job: str = "j1") -> PodRecord:
    return PodRecord(
        uid=uid, namespace="ml", name=uid, job_uid=job, node=node, gpus=8, watts_per_gpu="600",
        created_at=T0 - HOUR, started_at=T0 - HOUR,
    )  # fmt: skip


def view(*pods: PodRecord) -> View:
    return View(
        workloads=(),
        pods=pods,
        nodes=(NodeRecord(name="n1", labels={"zone": "west"}, gpus=8, schedulable=True),),
        namespaces=(NamespaceRecord(name="ml", labels={"team": "vision"}),),
        grid_zones=(),
        thermal_zones=(),
        energy_policies=(),
    )


def assembly(seen: View, clock: Hand, *policies: EnergyPolicy) -> Assembly:
    inputs: dict[str, Any] = {
        "view": seen, "grid_zones": (grid_zone(),), "thermal_zones": (), "policies": policies, "forecasts": {},
        "grid_power": {}, "inlets": {}, "supplies": {}, "bounds": {}, "in_flight": {}, "own_namespace": "embellie",
        "turn_s": 15.0, "period_s": 15.0, "max_limit_hold_s": 3600.0,
    }  # fmt: skip
    return assemble(Inputs(**inputs), clock, clock.now())


def record(state: State = State.HELD, reason: Reason = Reason.CLEANER_WINDOW, uid: str = "w1") -> PlanRecord:
    return PlanRecord(
        key=WorkloadKey(namespace="ml", name="train", kind=WorkloadKind.JOB, uid=uid), latest_start=T0 + 6 * HOUR,
        policy="p", mode="enforce", state=state, reason=reason, message='Waits: "quoted"\nand on.', cell="west",
        grid_zone="west", planned_start=T0 + HOUR, likely_start_p50=None, likely_start_p90=None, now_g=100.0,
        planned_g=80.0, planned_low_g=70.0, planned_high_g=95.0, energy_wh=1000.0, gpus=8,
    )  # fmt: skip


class Desk:
    """A recorder on a clock that is moved by hand, run step by step instead of on its thread."""

    def __init__(self, folder: Path, clock: Hand, meters: Meters, **options: Any) -> None:
        self.path = folder / "ledger.sqlite"
        self.clock, self.leads = clock, True
        self.recorder = Recorder(
            LedgerOptions(path=self.path, **options), clock=clock, source=meters, exchange=folder, identity="me",  # type: ignore[arg-type]
            is_leader=lambda: self.leads,
        )  # fmt: skip

    def turn(
        self,
        *records: PlanRecord,
        seen: View | None = None,
        policies: tuple[EnergyPolicy, ...] = (),
        learnt: LearntPower = NOTHING,
    ) -> None:
        seen = seen or view(pod())
        self.recorder.turn(assembly(seen, self.clock, *policies), seen, records, {}, learnt)
        self.recorder._retry_at = 0.0
        self.recorder._once()

    def stop(self) -> None:
        if self.recorder._ledger is not None:
            self.recorder._ledger.close()

    def entries(self, *kinds: Kind) -> list[dict[str, Any]]:
        with LedgerReader(self.path) as reader:
            assert verify(
                reader.entries(), reader.entries(kinds=[Kind.DAILY]), head=(reader.head.seq, reader.head.hash)
            ).sound
            return [entry.content for entry in reader.entries(kinds=kinds)]


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
        return ClassPower(mean_w=300.0, sd_w=5.0, samples=50.0, peak_w=310.0, runs=frozenset({namespace}))


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


def test_intervals_without_prometheus_are_estimated_and_never_missing(desk: Desk) -> None:
    desk.recorder._accountant._metering._source.away = True  # type: ignore[union-attr]
    desk.turn()
    desk.clock.moment += HOUR
    desk.turn()
    adds = [a["adds"] for a in desk.entries(Kind.ACCOUNT)]
    assert len(adds) == 3
    assert all(a["kwh"]["estimated"] > 0 and a["seconds"]["metered"] == 0 for a in adds)


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


def test_a_ledger_that_cannot_be_written_loses_nothing_that_fits_and_counts_the_rest(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.turn(record())
    assert desk.recorder._ledger is not None
    append = desk.recorder._ledger.append
    monkeypatch.setattr("embellie.control.ledger_writer.KEPT", 3)

    def full(*_: object, **__: object) -> None:
        raise LedgerUnavailableError("the disk is full")

    monkeypatch.setattr(desk.recorder._ledger, "append", full)
    for k in range(5):
        desk.turn(record(uid=f"w{k + 2}"))
    assert desk.recorder._trouble == "the disk is full"
    monkeypatch.setattr(desk.recorder._ledger, "append", append)
    desk.turn()
    assert [d["workload"]["uid"] for d in desk.entries(Kind.DECISION)] == ["w1", "w4", "w5", "w6"]
    gap = desk.entries(Kind.GAP)
    assert [(g["lost"], g["why"]) for g in gap] == [(2, "the disk is full")]


def test_late_grid_data_makes_a_revision_whose_difference_is_visible(tmp_path: Path) -> None:
    folder = tmp_path / "intensity"
    folder.mkdir()
    series = folder / "west.csv"
    series.write_text(
        "timestamp_utc,ci_lifecycle_g_per_kwh,estimated\n2026-07-01T00:00:00Z,400,1\n2026-07-01T01:00:00Z,400,1\n"
    )
    desk = Desk(tmp_path, Hand(T0), Meters())
    desk.turn()
    desk.clock.moment += timedelta(minutes=20)
    desk.turn()
    series.write_text(
        "timestamp_utc,ci_lifecycle_g_per_kwh,estimated\n2026-07-01T00:00:00Z,250,0\n2026-07-01T01:00:00Z,400,1\n"
    )
    import os

    os.utime(series, (1, 1))
    desk.turn()
    desk.turn()
    first, revision = desk.entries(Kind.ACCOUNT)
    assert first["adds"]["grams"]["AverageLifecycle"] == pytest.approx(400 * 1.8)
    assert (revision["revision"], revision["why"]) == (1, "late grid data")
    assert revision["adds"]["grams"]["AverageLifecycle"] == pytest.approx(-150 * 1.8)
    assert "kwh" not in revision["adds"]
    assert [p["gPerKwh"] for p in (*revision["before"], *revision["signals"])] == [400.0, 250.0]


def test_prices_are_booked_and_one_that_comes_late_is_added_by_a_revision(tmp_path: Path) -> None:
    folder = tmp_path / "prices"
    folder.mkdir()
    desk = Desk(tmp_path, Hand(T0), Meters())
    desk.turn()
    desk.clock.moment += timedelta(minutes=20)
    desk.turn()
    (folder / "west.csv").write_text("timestamp_utc,price_eur_per_mwh\n2026-07-01T00:00:00Z,-20\n")
    desk.turn()
    desk.turn()
    first, revision = desk.entries(Kind.ACCOUNT)
    assert first["tariff"] is None
    assert "cost" not in first["adds"]
    assert revision["tariff"] == {"perMwh": -20.0, "currency": "EUR", "source": "west.csv"}
    assert revision["adds"]["cost"] == {"EUR": pytest.approx(-20 * 1.8 / 1000)}
    assert "grams" not in revision["adds"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("timestamp_utc,price\n2026-07-01T00:00:00Z,1\n", "one price such as price_eur_per_mwh"),
        ("timestamp_utc,price_eur_per_mwh,price_usd_per_mwh\n2026-07-01T00:00:00Z,1,2\n", "more than one currency"),
    ],
)
def test_a_price_file_that_cannot_be_used_says_how_to_mend_it(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "west.csv"
    path.write_text(text)
    with pytest.raises(ZoneFileError, match=words):
        read_tariffs(path)


def test_prices_ahead_repeat_the_last_known_day_and_start_only_where_they_are_known(tmp_path: Path) -> None:
    path = tmp_path / "west.csv"
    rows = "".join(f"{(T0 + k * HOUR).isoformat()},{k}\n" for k in range(30))
    path.write_text(f"timestamp_utc,price_usd_per_mwh\n{rows}")
    tariffs = read_tariffs(path)
    assert tariffs.currency == "USD"
    ahead = tariffs.ahead(T0 + 2 * HOUR, HOUR, 96)
    assert ahead is not None
    assert ahead[:30].tolist() == [*range(2, 30), 6, 7]
    assert ahead[95] == ahead[95 - 24]
    assert tariffs.ahead(T0 + 40 * HOUR, HOUR, 24) is None


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
    body = accountant.close(T0, T0 + HOUR, Scene(assembly=assembly(seen, clock), view=seen))[0].body
    assert list(body["adds"]["teams"]) == ["vision"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("time,ci\n1,2\n", "columns timestamp_utc"),
        ("timestamp_utc,ci_direct_g_per_kwh\n2026-07-01T00:00:00,1\n", "no time zone"),
        ("timestamp_utc,ci_direct_g_per_kwh\nyesterday,1\n", "is no time"),
        ("timestamp_utc,ci_direct_g_per_kwh\n2026-07-01T00:00:00Z,1\n2026-07-01T00:07:00Z,1\n", "15, 30 or 60"),
    ],
)
def test_an_intensity_file_that_cannot_be_used_says_how_to_mend_it(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "west.csv"
    path.write_text(text)
    with pytest.raises(ZoneFileError, match=words):
        read_intensity(path)


def test_holes_and_absurd_values_of_a_grid_series_are_holes_and_kinds_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "west.csv"
    path.write_text(
        "timestamp_utc,ci_lifecycle_g_per_kwh,ci_marginal_g_per_kwh\n2026-07-01T00:00:00Z,,700\n"
        "2026-07-01T01:00:00Z,-5,nan\n2026-07-01T02:00:00Z,9999,1\n2026-07-01T02:00:00Z,310,1\n"
    )
    found = read_intensity(path)
    assert found.at(SignalKind.AVERAGE_LIFECYCLE, T0) is None
    assert found.at(SignalKind.AVERAGE_LIFECYCLE, T0 + HOUR) is None
    revised = found.at(SignalKind.AVERAGE_LIFECYCLE, T0 + 2.5 * HOUR)
    assert revised is not None
    assert revised.g_per_kwh == 310
    assert found.at(SignalKind.AVERAGE_DIRECT, T0) is None
    marginal = found.at(SignalKind.MARGINAL, T0)
    assert marginal is not None
    assert marginal.g_per_kwh == 700
