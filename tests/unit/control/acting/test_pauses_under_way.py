# SPDX-License-Identifier: Apache-2.0
"""What becomes of what the ladder asks to be paused: only pauses that are told or stand count as heat that goes."""

import itertools
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from switches import switch

from embellie.cluster.actuate import Outcome, ReleaseResult
from embellie.cluster.client import ApiError
from embellie.cluster.records import PodRecord
from embellie.cluster.switch import Switch
from embellie.control.acting.pause_desk import PauseDesk
from embellie.control.assembly.sensors import Readings
from embellie.control.deciding.pause_acts import Pauses
from embellie.control.deciding.pausing import heat_loads, step
from embellie.control.heat.heat_desk import HeatDesk
from embellie.domain.reasons import Reason, State
from embellie.domain.snapshot import Quality, Reading, WorkloadKey
from embellie.domain.times import format_time
from embellie.thermal.sensing import ZoneReadings
from embellie.thermal.settings import Role
from embellie_testbed.views import NOW, assembled, job, nodes, policy, running_pod, thermal_zone, view, with_borders

INLET = {"name": "inlet", "role": "Inlet", "unit": "Celsius", "query": "inlet"}
ZONE = thermal_zone(
    "west-r1", sensors=[INLET], limits={"inletHardCelsius": 32}, cooling={"riseMillikelvinPerKilowatt": 200}
)

LATER: Any = SimpleNamespace(now=lambda: NOW + timedelta(seconds=4.2))
"""The clock when what a turn decided at NOW is written."""


class Row:
    """A row of running Jobs that allow pauses, one a day; what is announced is written on them."""

    def __init__(self, *names: str) -> None:
        self.heat, self.now = HeatDesk(), NOW
        self.jobs = [job(n, held=False, cell="west.west-r1", checkpoint="takes=1h", gpus=4) for n in names]

    def turn(self, celsius: float, minutes: float = 1.0) -> Pauses:
        """Let a turn pass in which the inlet reads so."""
        self.now += timedelta(minutes=minutes)
        inlet = Reading(value=celsius, age_s=1.0, quality=Quality.FRESH)
        zones = {"west-r1": ZoneReadings(by_role={Role.INLET: inlet})}
        readings = Readings(grid_power_kw={}, inlets={"west-r1": inlet}, supplies={}, problems={}, zones=zones)
        self.heat.turn(self.now, [ZONE], readings, {"west-r1": 30.0}, {})
        pods = [running_pod(f"{j.key.name}-p", "west-0", gpus=4, job_uid=j.key.uid) for j in self.jobs]
        seen = view(*self.jobs, pods=pods, on=nodes())
        made = assembled(view=seen, policies=(policy(maxPausesPerDay=1),), thermal_zones=(ZONE,), now=self.now)
        self.heat.remember(made, heat_loads(made, self.jobs, pods, self.now), self.jobs)
        pauses = step(made, self.jobs, pods, self.heat.wanted, (), self.now)
        for announced in pauses.announce:
            self._write(announced.key, {"embellie.io/pause-by": format_time(self.now + announced.takes)})
        for taken_back in pauses.withdraw:
            self._write(taken_back.key, {})
        self.heat.keep_pauses(pauses.under_way)
        return pauses

    def _write(self, key: WorkloadKey, notes: dict[str, str]) -> None:
        said = {"embellie.io/cell": "west.west-r1", "embellie.io/checkpoint": "takes=1h", **notes}
        self.jobs = [replace(j, annotations=said) if j.key == key else j for j in self.jobs]


def names(pauses: Any) -> list[str]:
    return [one.key.name for one in pauses]


def test_work_whose_pause_was_taken_back_is_not_told_again_before_the_ladder_has_come_to_pauses():
    row = Row("train")
    row.turn(25.0)
    assert names(row.turn(32.5).announce) == ["train"]
    assert any(names(row.turn(24.0).withdraw) == ["train"] for _ in range(60))
    for _ in range(3):
        row.turn(24.0, 5.0)
    assert names(row.turn(31.2).announce) == [], "the first rung only closes admission"
    assert row.heat.wanted == frozenset()


@pytest.mark.parametrize(("celsius", "goes_on"), [(32.5, True), (30.0, True), (25.0, False)])
def test_a_new_leader_goes_on_with_a_pause_that_was_announced_while_the_zone_is_hot(celsius: float, goes_on: bool):
    row = Row("train")
    row.turn(25.0)
    assert names(row.turn(32.5).announce) == ["train"]
    row.heat = HeatDesk()
    turns = [row.turn(celsius) for _ in range(4)]
    assert not any(t.announce for t in turns), "it is told once"
    assert [names(t.withdraw) for t in turns if t.withdraw] == ([] if goes_on else [["train"]])


def test_a_new_leader_whose_ladder_fails_goes_on_with_its_turns_and_keeps_what_it_found_paused():
    def fails(*_: Any) -> None:
        raise ValueError("a defect")

    row = Row()
    row.jobs = [job("train", cell="west.west-r1", checkpoint="takes=1h", paused_at=format_time(NOW), gpus=4)]
    row.heat._controller.respond = fails
    assert [names(row.turn(32.5).resume) for _ in range(3)] == [[], [], []]


def test_what_an_earlier_leader_paused_may_go_on_under_a_new_one_once_its_zone_was_cool_for_three_dwells():
    row = Row()
    paused = job("train", cell="west.west-r1", checkpoint="takes=1h", paused_at=format_time(NOW), gpus=4)
    row.jobs = [paused]
    for celsius, minutes, stays in ((32.5, 1.0, True), (30.0, 1.0, True), (25.0, 1.0, True), (25.0, 14.0, True)):
        row.turn(celsius, minutes)
        assert (paused.key.uid in row.heat.wanted) is stays
    for _ in range(4):
        row.turn(25.0, 6.0)
    assert not row.heat.wanted


@pytest.mark.parametrize(("minutes_ago", "stays"), [(0, False), (25, True)])
def test_a_zone_does_not_come_down_while_what_it_paused_is_about_to_go_on_after_its_hour(minutes_ago: int, stays: bool):
    row = Row()
    paused_at = format_time(NOW - timedelta(minutes=minutes_ago))
    row.jobs = [job("train", cell="west.west-r1", checkpoint="takes=1h", paused_at=paused_at, gpus=4)]
    for celsius, minutes in ((32.5, 1.0), (30.0, 1.0), (25.0, 1.0), (25.0, 14.0), (25.0, 6.0)):
        row.turn(celsius, minutes)
    assert bool(row.heat.wanted) is stays


def test_what_may_not_be_paused_any_more_today_does_not_count_as_heat_that_goes():
    row = Row("a", "b")
    row.turn(25.0)
    assert names(row.turn(32.5).announce) == ["a"]
    row.turn(32.5)
    row.turn(32.5)  # the ladder knows of what runs from the turn before
    assert row.heat.wanted == {row.jobs[0].key.uid}


def test_an_announced_pause_is_taken_back_when_its_policy_goes_back_to_shadow():
    due = format_time(NOW - timedelta(minutes=1))
    train = job(held=False, cell="west.west-r1", checkpoint="takes=5m", pause_by=due)
    for mode, suspended in (("enforce", ["train"]), ("shadow", [])):
        found = policy(mode=mode, maxPausesPerDay=2)
        made = assembled(view=view(train, on=nodes()), policies=(found,), thermal_zones=(ZONE,))
        pauses = step(made, [train], (), {train.key.uid}, (), NOW)
        assert (names(pauses.suspend), bool(pauses.withdraw)) == (suspended, not suspended)


def test_a_paused_job_that_takes_its_label_off_goes_on():
    train = job(flex="", cell="west.west-r1", checkpoint="takes=5m", paused_at=format_time(NOW))
    made = assembled(view=view(train, on=nodes()), thermal_zones=(ZONE,))
    assert [one.record for one in step(made, [train], (), {train.key.uid}, (), NOW).resume] == [train]


class Written:
    """Stands in for what writes: notes what it is asked, on an API server that takes no placement."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.placements: list[dict[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *_args: self.calls.append(name) is None

    def release(self, orders: Any) -> list[ReleaseResult]:
        """Let go on what is not confined."""
        self.calls += [f"{order.key.name} in {order.cell}" for order in orders]
        self.placements += [dict(order.placement_labels) for order in orders]
        outcomes = [Outcome.DENIED if order.placement_labels else Outcome.RELEASED for order in orders]
        return [ReleaseResult(key=o.key, outcome=outcome) for o, outcome in zip(orders, outcomes, strict=True)]


@pytest.mark.parametrize(
    ("held_by", "done"),
    [
        (switch(), ["announce", "suspend"]),
        (switch(locked=True), ["withdraw"]),
        (switch(readable=False), ["withdraw"]),
    ],
    ids=["open", "locked", "unreadable"],
)
def test_nothing_is_paused_while_an_uninstall_may_be_under_way_and_what_was_announced_is_taken_back(
    held_by: Switch, done: list[str]
):
    due = format_time(NOW - timedelta(minutes=1))
    told = job("told", held=False, cell="west.west-r1", checkpoint="takes=5m", pause_by=due)
    train = job("train", held=False, cell="west.west-r1", checkpoint="takes=5m")
    seen = view(told, train, on=nodes())
    made = assembled(view=seen, policies=(policy(maxPausesPerDay=2),), thermal_zones=(ZONE,))
    written = Written()
    events = SimpleNamespace(record=lambda _event: None)
    desk: Any = PauseDesk(pauser=written, releaser=written, events=events, switch=held_by, clock=LATER)  # type: ignore[arg-type]  # all that it asks
    desk.turn(made, seen, {told.key.uid, train.key.uid}, {}, (), NOW)
    assert sorted(written.calls) == done


@pytest.mark.parametrize(
    ("minutes", "border", "second"),
    [
        (61, {}, "train in None"),
        (10, {}, "train in west.west-r1"),
        (61, {"residency": "US-CA"}, "train in west.west-r1"),
    ],
    ids=["over", "not over", "bound to a border"],
)
def test_a_pause_that_is_over_ends_without_a_place_where_the_api_server_refuses_the_place(
    minutes: int, border: dict[str, str], second: str
):
    at = format_time(NOW - timedelta(minutes=minutes))
    train = job(cell="west.west-r1", checkpoint="takes=5m", paused_at=at, **border)
    seen = view(train, on=nodes())
    made = assembled(view=seen, policies=(policy(maxPausesPerDay=2),), thermal_zones=(thermal_zone("west-r1"),))
    written, told = Written(), []
    events = SimpleNamespace(record=told.append)
    desk: Any = PauseDesk(pauser=written, releaser=written, events=events, switch=switch(), clock=LATER)  # type: ignore[arg-type]  # all that it asks
    for _ in range(2):
        desk.turn(made, seen, (), {}, (), NOW)
    assert written.calls == ["train in west.west-r1", second]
    assert told[0].reason == "ReleaseFailed"


@pytest.mark.parametrize(
    ("residency", "noted", "labels"),
    [
        ("US-CA", "east", {"topology.kubernetes.io/zone": "west"}),
        ("US-CA", "", {"topology.kubernetes.io/zone": "west"}),
        ("DE", "west.west-r1", {"embellie.io/residency": "DE"}),
    ],
    ids=["noted outside", "noted nowhere", "no zone inside"],
)
def test_what_goes_on_after_a_pause_stays_inside_its_border_whatever_place_is_noted_on_it(
    residency: str, noted: str, labels: dict[str, str]
):
    at = format_time(NOW - timedelta(hours=9))
    train = job(cell=noted, checkpoint="takes=5m", paused_at=at, residency=residency)
    seen = view(train, on=nodes())
    borders = {"grid_zones": with_borders(), "thermal_zones": (ZONE,)}
    made = assembled(view=seen, policies=(policy(maxPausesPerDay=2),), **borders)
    written = Written()
    events = SimpleNamespace(record=lambda _event: None)
    desk: Any = PauseDesk(pauser=written, releaser=written, events=events, switch=switch(), clock=LATER)  # type: ignore[arg-type]  # all that it asks
    desk.turn(made, seen, (), {}, (), NOW)
    assert written.placements == [labels]


def test_what_stays_paused_and_what_goes_on_say_so_and_why():
    both = [
        job(name, cell="west.west-r1", checkpoint="takes=5m", paused_at=format_time(NOW - timedelta(minutes=minutes)))
        for name, minutes in (("stays", 10), ("over", 61))
    ]
    seen = view(*both, on=nodes())
    made = assembled(view=seen, policies=(policy(maxPausesPerDay=2),), thermal_zones=(ZONE,))
    told: list[Any] = []
    desk: Any = PauseDesk(
        pauser=Written(),  # type: ignore[arg-type]  # all that it asks
        releaser=SimpleNamespace(
            release=lambda orders: [ReleaseResult(key=o.key, outcome=Outcome.RELEASED) for o in orders]
        ),  # type: ignore[arg-type]  # all that it asks
        events=SimpleNamespace(record=told.append),  # type: ignore[arg-type]  # all that it asks
        switch=switch(),
        clock=LATER,
    )
    uids = {one.key.uid for one in both}
    (stays, over), resumed, under_way = desk.turn(made, seen, uids, {}, (), NOW, why={both[0].key.uid: "33 °C"})
    assert (stays.state, stays.reason, stays.cell) == (State.PAUSED, Reason.HEAT_PAUSE, "west.west-r1")
    assert "because west.west-r1 has to make less heat (33 °C)" in stays.message
    assert (over.state, over.reason) == (State.RELEASED, Reason.COOLED)
    assert over.message == "Goes on after a pause: its pause has lasted as long as a pause may."
    assert ([one.key.name for one in resumed], under_way) == (["over"], {both[0].key.uid})
    assert [event.reason for event in told] == ["Released"]


def announced_together(count: int, announce: Any, *, pods: Sequence[PodRecord] = (), **others: Any) -> list[str]:
    """Let one turn announce pauses to many Jobs; return the reasons of its events."""
    many = [job(f"train-{i}", gpus=1, held=False, cell="west.west-r1", checkpoint="takes=5m") for i in range(count)]
    heard = [replace(pod, job_uid=many[0].key.uid, hears=True) for pod in pods]
    seen = view(*many, pods=heard, on=nodes())
    made = assembled(view=seen, policies=(policy(maxPausesPerDay=count),), thermal_zones=(ZONE,))
    told: list[Any] = []
    desk: Any = PauseDesk(
        pauser=SimpleNamespace(announce=announce),  # type: ignore[arg-type]  # all that it asks
        releaser=Written(),  # type: ignore[arg-type]  # all that it asks
        events=SimpleNamespace(record=told.append),  # type: ignore[arg-type]  # all that it asks
        switch=switch(),
        clock=LATER,
        **others,
    )
    desk.turn(made, seen, {one.key.uid for one in many}, {}, (), NOW)
    return [event.reason for event in told]


def test_a_checkpoint_has_its_time_from_when_it_is_announced_however_long_the_turn_took_until_then():
    told: list[Any] = []
    announced_together(1, lambda _key, by, *_pods: told.append(by) is None)
    # Whole seconds are written, and none is taken off.
    assert told == [NOW + timedelta(minutes=5, seconds=5)]


def test_one_pause_that_gets_no_answer_keeps_no_other_waiting():
    together = threading.Barrier(4, timeout=10.0)
    announced_together(4, lambda *_args: together.wait() >= 0)
    assert not together.broken


def test_pauses_that_were_not_begun_in_time_are_left_to_the_next_turn():
    begun: list[str] = []
    clock = itertools.chain([0.0, 1.0], itertools.repeat(60.0))
    announced_together(3, lambda key, *_args: begun.append(key.name) is None, monotonic=lambda: next(clock))
    assert len(begun) == 1


def test_only_a_pause_that_was_written_is_told_and_one_that_was_refused_stops_no_other():
    def announce(key: WorkloadKey, *_args: Any) -> bool:
        if key.name == "train-0":
            raise ApiError(403, "Forbidden", "no")
        return key.name == "train-1"

    assert announced_together(3, announce) == ["PauseAnnounced"]


def test_a_pause_that_could_not_be_announced_is_not_announced_turn_after_turn():
    tries: list[str] = []

    def announce(key: WorkloadKey, *_args: Any) -> bool:
        tries.append(key.name)
        raise ApiError(403, "Forbidden", "no")

    train = job(held=False, cell="west.west-r1", checkpoint="takes=5m")
    seen, now_s = view(train, on=nodes()), [0.0]
    made = assembled(view=seen, policies=(policy(maxPausesPerDay=1),), thermal_zones=(ZONE,))
    desk: Any = PauseDesk(
        pauser=SimpleNamespace(announce=announce),  # type: ignore[arg-type]  # all that it asks
        releaser=Written(),  # type: ignore[arg-type]  # all that it asks
        events=SimpleNamespace(record=lambda _event: None),  # type: ignore[arg-type]  # all that it asks
        switch=switch(),
        clock=LATER,
        monotonic=lambda: now_s[0],
    )
    for now_s[0], told in ((1000.0, 1), (1015.0, 1), (1061.0, 2)):
        desk.turn(made, seen, {train.key.uid}, {}, (), NOW)
        assert len(tries) == told
    desk.turn(assembled(), view(on=nodes()), (), {}, (), NOW)
    assert not desk._gave_up, "a Job that is gone is forgotten"


def test_a_leader_that_lost_its_lease_writes_no_more_pauses():
    begun: list[str] = []
    leads = iter([True])
    announced_together(3, lambda key, *_args: begun.append(key.name) is None, may_write=lambda: next(leads, False))
    assert len(begun) == 1


def test_a_checkpoint_has_its_whole_time_in_the_pods_that_are_told_last_too():
    heard: list[Any] = []
    pods = [running_pod(f"pod-{i}", "west-0") for i in range(8)]
    announced_together(1, lambda _key, by, *_pods: heard.append(by) is None, pods=pods)
    assert heard == [NOW + timedelta(minutes=5, seconds=10)]


def test_a_job_whose_pods_were_told_over_several_turns_is_told_the_latest_of_their_instants():
    later = format_time(NOW + timedelta(minutes=9))
    early = replace(running_pod("early", "west-0", started=NOW - timedelta(hours=1)), told=later)
    told: list[Any] = []
    announced_together(1, lambda _key, *words: told.append(words) is None, pods=(early,))
    (by, listeners, knows), *_ = told
    assert (by, listeners, [pod.name for pod in knows]) == (NOW + timedelta(minutes=9), (), ["early"])
