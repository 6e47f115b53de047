# SPDX-License-Identifier: Apache-2.0
"""Each interval and each revision is in the ledger once, whoever leads, whatever fails, wherever the clock goes."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from recorder import HOUR, T0, Desk, Hand, Meters, pod, view

from embellie.control.recording import ledger_writer
from embellie.ledger import Draft, Kind, LedgerError, LedgerUnavailableError

TURN = timedelta(minutes=10)
QUARTER = timedelta(minutes=15)


def firsts(desk: Desk) -> Counter[datetime]:
    """Return how often each interval was accounted, revisions aside."""
    return Counter(datetime.fromisoformat(a["start"]) for a in desk.entries(Kind.ACCOUNT) if a["revision"] == 0)


def grid_says(folder: Path, g_per_kwh: int, *, estimated: bool) -> None:
    path = folder / "intensity" / "west.csv"
    path.parent.mkdir(exist_ok=True)
    rows = "".join(f"{(T0 + k * HOUR).isoformat()},{g_per_kwh},{int(estimated)}\n" for k in range(30))
    path.write_text(f"timestamp_utc,ci_lifecycle_g_per_kwh,estimated\n{rows}")


def booked(desk: Desk) -> float:
    return sum(a["adds"]["grams"]["AverageLifecycle"] for a in desk.entries(Kind.ACCOUNT))


def test_two_leaders_in_turn_who_do_not_know_of_each_other_account_each_interval_once(tmp_path: Path) -> None:
    clock, meters = Hand(T0), Meters()
    one, other = Desk(tmp_path, clock, meters), Desk(tmp_path, clock, meters)
    for k in range(12):
        (one if k % 3 else other).turn()
        clock.moment += TURN
    found = firsts(one)
    assert set(found.values()) == {1}
    assert sorted(found) == [T0 + k * QUARTER for k in range(len(found))]


def test_a_leader_that_lost_its_lease_while_it_waited_for_prometheus_writes_no_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, Hand(T0), Meters())
    desk.turn()
    desk.clock.moment += HOUR
    read = desk.recorder._accountant.samples

    def slow(*args: Any) -> Any:
        desk.leads = False
        return read(*args)

    monkeypatch.setattr(desk.recorder._accountant, "samples", slow)
    desk.turn()
    assert not firsts(desk)


def test_revisions_of_which_a_full_disk_took_the_half_are_each_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid_says(tmp_path, 400, estimated=True)
    desk = Desk(tmp_path, Hand(T0), Meters(), interval=HOUR)
    desk.turns(8, HOUR)
    grid_says(tmp_path, 250, estimated=False)
    monkeypatch.setattr(ledger_writer, "BATCH", 3)
    assert desk.recorder._ledger is not None
    append, revised = desk.recorder._ledger.append, []

    def full(drafts: Sequence[Draft], **options: Any) -> object:
        revised.extend(["batch"] * bool(drafts[0].body.get("revision")))
        if len(revised) == 2:
            revised.append("full")
            raise LedgerUnavailableError("the disk is full")
        return append(drafts, **options)

    monkeypatch.setattr(desk.recorder._ledger, "append", full)
    for _ in range(3):
        desk.turn()
    assert "full" in revised
    assert booked(desk) == pytest.approx(250 * 7.2 * len(firsts(desk)))


def test_a_ledger_that_was_given_up_and_opened_again_is_revised_by_what_is_in_it(tmp_path: Path) -> None:
    grid_says(tmp_path, 400, estimated=True)
    desk = Desk(tmp_path, Hand(T0), Meters(), interval=HOUR)
    desk.turns(4, HOUR)
    desk.recorder._give_way(LedgerError("it was no ledger for a moment"))
    desk.turn()
    grid_says(tmp_path, 250, estimated=False)
    for _ in range(2):
        desk.turn()
    assert booked(desk) == pytest.approx(250 * 7.2 * len(firsts(desk)))


@pytest.mark.parametrize("jump", [HOUR, timedelta(days=10)], ids=["an hour", "ten days"])
def test_a_clock_that_was_ahead_and_is_set_right_loses_and_doubles_no_interval(tmp_path: Path, jump: timedelta) -> None:
    desk = Desk(tmp_path, Hand(T0), Meters())

    def go_on(turns: int) -> None:
        for _ in range(turns):
            desk.turn()
            desk.clock.moment += TURN

    go_on(8)
    desk.clock.moment += jump
    go_on(2)
    desk.clock.moment -= jump + 2 * TURN
    go_on(20)
    found = firsts(desk)
    assert set(found.values()) == {1}
    now = desk.clock.moment - TURN
    assert {T0 + k * QUARTER for k in range(int((now - timedelta(minutes=1) - T0) / QUARTER))} <= set(found)
    if jump > timedelta(days=3):
        assert any("set back" in gap["why"] for gap in desk.entries(Kind.GAP))
    # When the days come that were accounted ahead of their time, they are not accounted again.
    desk.clock.moment = max(found)
    go_on(6)
    assert set(firsts(desk).values()) == {1}


def test_what_ends_in_the_interval_in_which_another_replica_begins_to_lead_is_accounted_and_told_once(
    tmp_path: Path,
) -> None:
    clock = Hand(T0)
    first, second = Desk(tmp_path, clock, Meters()), Desk(tmp_path, clock, Meters())
    second.leads = False
    early, late = pod(uid="p1", job="early"), pod(uid="p2", job="late")
    for seen in ((early, late), (early, late), (late,), (late,), (late,)):
        second.recorder.watch(view(*seen))
        first.turn(seen=view(*seen))
        clock.moment += timedelta(minutes=5)
    first.stop()
    clock.moment += timedelta(minutes=2)
    second.recorder.watch(view())
    second.leads = True
    second.turns(4, timedelta(minutes=5), seen=view())
    held_s = {
        uid: [a["adds"]["workloads"].get(uid, {}).get("gpuSeconds", 0.0) for a in second.entries(Kind.ACCOUNT)][:2]
        for uid in ("early", "late")
    }
    assert held_s == {"early": [8 * 600.0, 0.0], "late": [8 * 900.0, 8 * 720.0]}
    ended = [(run["uid"], datetime.fromisoformat(run["end"])) for run in second.entries(Kind.RUN) if not run["running"]]
    assert ended == [("early", T0 + timedelta(minutes=10)), ("late", T0 + timedelta(minutes=27))]
