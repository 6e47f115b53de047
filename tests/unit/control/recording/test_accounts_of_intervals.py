# SPDX-License-Identifier: Apache-2.0
"""What the recorder accounts for each interval: nodes, runs, overhead and gaps, over restarts and clock jumps."""

import threading
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from recorder import HOUR, NOTHING, T0, Desk, Hand, Meters, assembly, pod, record, view

from embellie.cluster.records import NodeRecord
from embellie.control.recording.accountant import Accountant
from embellie.control.recording.records import Scene
from embellie.control.recording.witness import Witness
from embellie.ledger import Kind
from embellie.telemetry.energy import EnergySamples
from embellie.telemetry.intensity import IntensityFolder
from embellie.telemetry.metrics import REGISTRY
from embellie.telemetry.tariffs import TariffFolder
from embellie.thermal.job_power import ClassPower, NothingLearnt


def test_a_node_without_a_zone_has_a_line_of_its_own_and_is_named(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    stray = NodeRecord(name="lost-7", labels={}, gpus=8, schedulable=True)
    office = NodeRecord(name="no-gpus", labels={}, gpus=0, schedulable=True)
    seen = replace(view(pod(), pod(node="lost-7", uid="p2", job="j2")), nodes=(*view().nodes, stray, office))
    desk.turns(5, timedelta(minutes=15), seen=seen)
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
    desk.turns(5, timedelta(minutes=15), learnt=Learnt())
    adds = desk.entries(Kind.ACCOUNT)[0]["adds"]
    assert adds["kwh"]["jobs"] == pytest.approx(0.25 * (3.2 + 8 * (0.3 - 0.14) * 1.03))
    assert adds["kwh"]["estimated"] == pytest.approx(adds["kwh"]["jobs"]), "what was learnt is still no measurement"


def test_each_interval_is_accounted_once_over_a_restart_and_a_clock_that_goes_back(tmp_path: Path) -> None:
    clock, meters = Hand(T0), Meters()
    first = Desk(tmp_path, clock, meters)
    first.turns(8, timedelta(minutes=10))
    first.stop()
    clock.moment -= timedelta(minutes=25)
    second = Desk(tmp_path, clock, meters)
    second.turns(9, timedelta(minutes=10))
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
    first.turns(12, timedelta(hours=6))
    first.stop()
    bodies = first.entries(Kind.ACCOUNT)
    assert bodies[0]["overheadModel"]["fittedHours"] == 0
    assert bodies[0]["adds"]["kwh"]["unexplained"] > 5.0, "the stated PUE is far too low"
    assert bodies[-1]["overheadModel"]["fittedHours"] >= 48
    assert bodies[-1]["adds"]["kwh"]["unexplained"] == pytest.approx(0.0, abs=0.01)
    second = Desk(tmp_path, clock, meters, interval=timedelta(hours=6))
    second.turns(2, timedelta(hours=6))
    assert second.entries(Kind.ACCOUNT)[-1]["overheadModel"]["fittedHours"] >= 48
    second.stop()


def test_overhead_is_not_learnt_where_a_node_has_no_meter(tmp_path: Path) -> None:
    clock, meters = Hand(T0), Meters()
    meters.node_w = None
    desk = Desk(tmp_path, clock, meters, interval=timedelta(hours=6))
    desk.turns(12, timedelta(hours=6))
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
    desk.turns(20, timedelta(hours=6))
    desk.turn(seen=view())
    desk.clock.moment += timedelta(hours=7)
    desk.turn(seen=view())
    ended = desk.entries(Kind.RUN)[-1]
    assert not ended["running"]
    # The node's meter says 6.0 kW and its idle figure 3.2 kW: five days at the difference.
    assert ended["addedKw"] == pytest.approx(2.8, rel=0.02)


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
