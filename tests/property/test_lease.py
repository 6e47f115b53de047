# SPDX-License-Identifier: Apache-2.0
"""Two candidates with clocks that disagree, pauses and lost answers: never two leaders at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embellie.cluster.client import ApiError
from embellie.cluster.lease import LeaseElector

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class World:
    """True time, and the one Lease that the API server keeps."""

    time_s: float = 0.0
    version: int = 0
    lease: dict[str, Any] | None = None
    watchers: list[Callable[[], None]] = field(default_factory=list)

    def pass_time(self, seconds: float) -> None:
        # In small steps, so that whoever watches sees every moment.
        steps = max(1, int(seconds / 0.5))
        for _ in range(steps):
            self.time_s += seconds / steps
            for watch in self.watchers:
                watch()


@dataclass
class Line:
    """One candidate's line to the API server: slow, and answers may be lost on the way back."""

    world: World
    delay_s: float = 0.0
    lose_request: bool = False
    lose_answer: bool = False
    own_comes_late: bool = False
    """Whether a renewal of its own that had timed out arrives just after each read."""

    def get(self, path: str, params: Mapping[str, str] | None = None, timeout_s: float = 10.0) -> dict[str, Any]:  # noqa: ARG002
        self._travel()
        if self.world.lease is None:
            raise ApiError(404, "NotFound", path)
        read = self.world.lease
        if self.own_comes_late:
            self._write(read)
        return self._answer(read)

    def create(self, path: str, obj: Mapping[str, Any], timeout_s: float = 10.0) -> dict[str, Any]:  # noqa: ARG002
        self._travel()
        if self.world.lease is not None:
            raise ApiError(409, "AlreadyExists", path)
        return self._write(obj)

    def replace(self, path: str, obj: Mapping[str, Any], timeout_s: float = 10.0) -> dict[str, Any]:  # noqa: ARG002
        self._travel()
        assert self.world.lease is not None
        if obj["metadata"]["resourceVersion"] != self.world.lease["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", path)
        return self._write(obj)

    def _travel(self) -> None:
        self.world.pass_time(self.delay_s)
        if self.lose_request:
            raise ApiError(0, "Unreachable", "the request was lost")

    def _write(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        self.world.version += 1
        meta = {**obj["metadata"], "resourceVersion": str(self.world.version)}
        self.world.lease = {**obj, "metadata": meta}
        return self._answer(self.world.lease)

    def _answer(self, lease: dict[str, Any]) -> dict[str, Any]:
        self.world.pass_time(self.delay_s)
        if self.lose_answer:
            raise ApiError(0, "Unreachable", "the answer was lost")
        return {**lease, "spec": dict(lease["spec"])}


@dataclass
class Candidate:
    elector: LeaseElector
    line: Line
    started: list[str]
    lost: list[str]
    rewound: list[str]


def candidate(world: World, name: str, skew_s: float, rate: float = 1.0) -> Candidate:
    line = Line(world)
    started: list[str] = []
    lost: list[str] = []
    rewound: list[str] = []
    elector = LeaseElector(
        line,
        "embellie-system",
        name,
        on_started=lambda: started.append(name),
        on_lost=lambda: lost.append(name),
        on_rewound=lambda: rewound.append(name),
        monotonic=lambda: 1000.0 * len(name) + skew_s + world.time_s * rate,
        wall=lambda: START + timedelta(seconds=world.time_s + 100.0 * skew_s),
    )
    return Candidate(elector, line, started, lost, rewound)


MOVES = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.floats(0.0, 20.0),
        st.sampled_from([0.0, 0.1, 1.0, 2.4, 12.0]),
        st.sampled_from(["fine", "fine", "fine", "lose request", "lose answer", "release"]),
    ),
    min_size=5,
    max_size=60,
)


@settings(deadline=None)
@given(MOVES, st.floats(-5000.0, 5000.0), st.floats(0.9, 1.1))
def test_there_are_never_two_leaders(moves: list[tuple[int, float, float, str]], skew_s: float, rate: float) -> None:
    world = World()
    both = [candidate(world, "a", 0.0), candidate(world, "b", skew_s, rate)]
    busy: set[int] = set()

    def act(who: int, delay_s: float, luck: str) -> None:
        mover = both[who]
        mover.line.delay_s = delay_s
        mover.line.lose_request, mover.line.lose_answer = luck == "lose request", luck == "lose answer"
        busy.add(who)
        if luck == "release":
            mover.elector.release()
        else:
            mover.elector.step()
        busy.discard(who)

    def watch() -> None:
        assert sum(c.elector.is_leader() for c in both) <= 1, f"two leaders at {world.time_s:.1f} s"
        # While one waits for its answer, the other goes on trying.
        if len(busy) == 1 and int(world.time_s * 2) % 4 == 0:
            act(1 - next(iter(busy)), 0.0, "fine")

    world.watchers.append(watch)
    for who, pause_s, delay_s, luck in moves:
        act(who, delay_s, luck)
        world.pass_time(pause_s)
    assert not any(c.rewound for c in both)


def test_a_steady_leader_stays_and_the_other_waits() -> None:
    world = World()
    a, b = candidate(world, "a", 0.0), candidate(world, "b", 777.0)
    for _ in range(30):
        assert a.elector.step()
        assert not b.elector.step()
        world.pass_time(2.0)
    assert (a.started, a.lost, b.started) == (["a"], [], [])
    assert world.lease is not None
    spec = world.lease["spec"]
    assert (spec["acquireTime"], spec["renewTime"]) == ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:58.000000Z")
    assert spec["leaseTransitions"] == 0


def test_a_dead_leader_is_followed_within_the_lease_duration_and_one_retry() -> None:
    world = World()
    a, b = candidate(world, "a", 0.0), candidate(world, "b", -3000.0)
    a.elector.step()
    b.elector.step()
    died_at = world.time_s
    while not b.elector.step():
        world.pass_time(2.0)
    assert 15.0 <= world.time_s - died_at <= 17.0
    assert world.lease is not None
    assert world.lease["spec"]["leaseTransitions"] == 1


def test_a_lease_that_somebody_wrote_to_last_for_years_is_taken_within_minutes() -> None:
    world = World()
    a = candidate(world, "a", 0.0)
    a.elector.step()
    assert world.lease is not None
    written = {"holderIdentity": "nobody", "leaseDurationSeconds": 10**8, "leaseTransitions": 2**31 - 1}
    world.lease["spec"] |= written
    assert not a.elector.step()
    began_at = world.time_s
    while not a.elector.step():
        world.pass_time(2.0)
        assert world.time_s - began_at < 120.0
    assert world.lease["spec"]["leaseTransitions"] == 2**31 - 1, "the API server takes no more"


def test_a_leader_that_cannot_renew_stops_by_itself_before_anyone_else_may_start() -> None:
    world = World()
    a = candidate(world, "a", 0.0)
    a.elector.step()
    a.line.lose_request = True
    world.pass_time(9.0)
    assert a.elector.step(), "an unanswered renewal is no loss yet"
    world.pass_time(1.5)
    assert not a.elector.is_leader()
    assert a.lost == []
    assert not a.elector.step()
    assert a.lost == ["a"]


@pytest.mark.parametrize("backup_has_the_lease", [True, False])
def test_whoever_leads_or_stands_by_notices_an_api_server_that_was_restored_from_a_backup(
    backup_has_the_lease: bool,
) -> None:
    world = World(version=100)
    a, b = candidate(world, "a", 0.0), candidate(world, "b", 777.0)
    for _ in range(3):
        a.elector.step()
        b.elector.step()
    assert world.lease is not None
    of_before = {**world.lease, "metadata": {**world.lease["metadata"], "resourceVersion": "70"}}
    world.version, world.lease = 70, of_before if backup_has_the_lease else None
    a.elector.step()
    b.elector.step()
    assert (a.rewound, b.rewound) == (["a"], ["b"])


def test_a_lease_that_was_handed_back_is_taken_at_once() -> None:
    world = World()
    a, b = candidate(world, "a", 0.0), candidate(world, "b", 5.0)
    a.elector.step()
    assert not b.elector.step()
    a.elector.release()
    assert b.elector.step()
    assert (a.lost, b.started) == ([], ["b"])


def test_a_lease_that_another_took_is_lost_at_once() -> None:
    world = World()
    a = candidate(world, "a", 0.0)
    a.elector.step()
    assert world.lease is not None
    world.lease["spec"]["holderIdentity"] = "somebody else"
    assert not a.elector.step()
    assert a.lost == ["a"]


def test_a_renewal_that_crosses_with_a_late_one_of_its_own_is_no_loss() -> None:
    world = World()
    a = candidate(world, "a", 0.0)
    a.elector.step()
    a.line.own_comes_late = True
    world.pass_time(2.0)
    assert a.elector.step()
    a.line.own_comes_late = False
    assert a.elector.step()
    assert a.lost == []


def test_a_deadline_that_is_no_shorter_than_the_lease_is_refused() -> None:
    with pytest.raises(ValueError, match="renew deadline"):
        LeaseElector(Line(World()), "n", "a", duration_s=10, renew_deadline_s=10.0)


def test_a_lease_counts_from_when_it_was_asked_for_not_from_when_the_answer_came() -> None:
    world = World()
    a = candidate(world, "a", 0.0)
    a.line.delay_s = 4.0
    assert not a.elector.step(), "the answer came 12 s after the request: others may be counting already"
