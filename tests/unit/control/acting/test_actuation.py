# SPDX-License-Identifier: Apache-2.0
"""Carrying verdicts out: nothing that is decided once gets lost, and nobody waits behind what cannot be written."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from embellie.cluster.actuate import GIVE_UP_AFTER, Outcome, ReleaseOrder, Releaser, ReleaseResult
from embellie.cluster.client import ApiError
from embellie.cluster.events import Event
from embellie.cluster.plans import PlanWriter
from embellie.control.acting.actuation import ECHO_S, Actuation
from embellie.control.deciding.turn import decide
from embellie.domain import names
from embellie.domain.reasons import Reason, State
from embellie.domain.snapshot import Quality, Reading, WorkloadKey, WorkloadKind
from embellie.domain.times import format_time
from embellie_testbed.views import (
    NOW,
    ZONE,
    assembled,
    bare_pod,
    forecast,
    job,
    nodes,
    policy,
    thermal_zone,
    view,
    with_borders,
)

CLEAN_NOW = {name: forecast(name, [100.0] * 48) for name in ("west", "east")}


class Cluster:
    """Holds Jobs of one GPU; writes to those in `stuck` fail, and as many writes of plans as `fails` says."""

    def __init__(self, stuck: frozenset[str] = frozenset()) -> None:
        self.stuck = stuck
        self.fails = 0
        self.refusal = ApiError(500, "InternalError", "etcd has a bad minute")
        self.patched: list[str] = []
        self.applied: list[str] = []

    def get(self, path: str, *_: Any) -> dict[str, Any]:
        name = path.rpartition("/")[2]
        if "/workloadplans/" in path:
            raise ApiError(404, "NotFound", "no such plan")
        meta = {
            "name": name, "namespace": "research", "uid": f"uid-research-{name}", "resourceVersion": "1",
            "labels": {"embellie.io/held": "true", "embellie.io/flex": "patient"},
        }  # fmt: skip
        container = {"name": "main", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
        spec = {"parallelism": 1, "completions": 1, "suspend": True, "template": {"spec": {"containers": [container]}}}
        return {"metadata": meta, "spec": spec}

    def json_patch(self, path: str, *_: Any) -> dict[str, Any]:
        name = path.rpartition("/")[2]
        if name in self.stuck:
            raise ApiError(503, "ServiceUnavailable", "somebody's webhook is away")
        self.patched.append(name)
        return {}

    def apply(self, _path: str, obj: Mapping[str, Any], *, subresource: str = "") -> dict[str, Any]:
        if self.fails:
            self.fails -= 1
            raise self.refusal
        if subresource:
            self.applied.append(obj["status"]["state"])
        return {**obj, "metadata": {**obj["metadata"], "generation": 1}}


class Told:
    """Keeps the reasons of the events that it is given."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def record(self, event: Event) -> bool:
        self.reasons.append(event.reason)
        return True

    def has_told(self, *_: str) -> bool:
        return False

    def give_way(self, *, to_releases: bool) -> None:
        pass


class Away:
    """An API server that is away."""

    def get(self, *_: Any) -> dict[str, Any]:
        raise ApiError(0, "Unreachable", "connection refused")


def order(key: WorkloadKey) -> ReleaseOrder:
    return ReleaseOrder(key=key, placement_labels={}, cell=None, reason="BestNow", released_at=NOW)


def actuation(cluster: Any) -> Actuation:
    told: Any = Told()
    return Actuation(releaser=Releaser(cluster, max_parallel=1), plans=PlanWriter(cluster), events=told)


def test_work_that_cannot_be_released_keeps_nobody_else_waiting_for_longer_than_a_turn():
    stuck = [job(f"stuck-{i}", gpus=1, created=NOW - timedelta(days=3)) for i in range(GIVE_UP_AFTER)]
    free = [job(f"free-{i}", gpus=1, created=NOW - timedelta(days=2)) for i in range(2)]
    cluster = Cluster(stuck=frozenset(j.key.name for j in stuck))
    hand = actuation(cluster)
    for _ in range(2):
        made = assembled(*stuck, *free, forecasts=CLEAN_NOW)
        hand.carry_out(decide(made, (), {}, (), 100, hand.put_back()), made, NOW, 2.0)
    assert cluster.patched == ["free-0", "free-1"]


def test_a_release_that_somebodys_webhook_stops_says_so():
    made = assembled(job("stuck", gpus=1), forecasts=CLEAN_NOW)
    carried = actuation(Cluster(frozenset({"stuck"}))).carry_out(decide(made, (), {}, (), 100), made, NOW, 2.0)
    (record,) = carried.records
    assert (record.state, record.reason) == (State.HELD, Reason.WRITE_CONFLICT)
    assert "somebody's webhook is away" in record.message


class Orders:
    """Keeps what is ordered, and says of each order what it is told to."""

    def __init__(self, outcome: Outcome = Outcome.RELEASED) -> None:
        self.outcome = outcome
        self.kept: list[ReleaseOrder] = []

    def release(self, orders: Sequence[ReleaseOrder], _begin_within_s: float) -> list[ReleaseResult]:
        self.kept += orders
        return [ReleaseResult(key=order.key, outcome=self.outcome) for order in orders]

    def may_release(self, _kind: WorkloadKind) -> bool:
        return True


def ordering(orders: Orders, told: Told) -> Actuation:
    cluster: Any = Cluster()
    return Actuation(releaser=orders, plans=PlanWriter(cluster), events=told)  # type: ignore[arg-type]  # all that it asks


@pytest.mark.parametrize(
    ("outcome", "stands", "events", "put_back"),
    [
        (Outcome.RELEASED, (State.RELEASED, Reason.BEST_NOW), ["Released"], False),
        (Outcome.GONE, None, [], False),
        (Outcome.REPLACED, None, [], False),
        (Outcome.RELEASED_BEFORE, None, [], False),
        (Outcome.NOT_BEGUN, (State.HELD, Reason.RELEASE_RATE), [], False),
        (Outcome.CONFLICT, (State.HELD, Reason.WRITE_CONFLICT), ["Held"], True),
        (Outcome.UNREACHABLE, (State.HELD, Reason.WRITE_CONFLICT), ["Held"], True),
        (Outcome.DENIED, (State.HELD, Reason.WRITE_CONFLICT), ["ReleaseFailed", "Held"], True),
        (Outcome.ALREADY_RELEASED, (State.HANDED_OFF, Reason.STARTED_BY_OTHER), ["HandedOff"], False),
        (Outcome.NOT_OURS, (State.HANDED_OFF, Reason.STARTED_BY_OTHER), ["HandedOff"], False),
    ],
)
def test_what_became_of_a_release_is_what_its_plan_and_its_events_say(
    outcome: Outcome, stands: tuple[State, Reason] | None, events: list[str], put_back: bool
):
    told = Told()
    hand = ordering(Orders(outcome), told)
    made = assembled(job(), forecasts=CLEAN_NOW)
    carried = hand.carry_out(decide(made, (), {}, (), 100), made, NOW, 2.0)
    assert [(r.state, r.reason) for r in carried.records] == ([] if stands is None else [stands])
    assert told.reasons == events
    assert (bool(hand.put_back()), carried.conflicts) == (put_back, outcome is Outcome.CONFLICT)
    assert carried.not_begun is (outcome is Outcome.NOT_BEGUN)


def test_a_release_is_on_its_way_until_the_watch_shows_it_and_no_longer_than_an_echo_takes(
    monkeypatch: pytest.MonkeyPatch,
):
    clock = SimpleNamespace(now=50.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("embellie.control.acting.actuation.time", clock)
    hand, train = ordering(Orders(), Told()), job()
    made = assembled(train, forecasts=CLEAN_NOW)
    hand.carry_out(decide(made, (), {}, (), 100), made, NOW, 2.0)
    place = {train.key.uid: "east"}
    clock.now += ECHO_S - 1.0
    assert hand.in_flight([train]) == place
    clock.now += 1.0
    assert hand.in_flight([train]) == {}, "its echo was lost: it is decided about anew"
    hand.note((), [job(cell="east")])
    assert hand.in_flight([train]) == place, "what goes on after a pause is on its way too"
    assert hand.in_flight([job(held=False)]) == {}


def test_a_release_that_was_refused_is_forgotten_with_its_work():
    hand = ordering(Orders(Outcome.DENIED), Told())
    made = assembled(job(), forecasts=CLEAN_NOW)
    hand.carry_out(decide(made, (), {}, (), 100), made, NOW, 2.0)
    hand.forget_gone([job(), job("other")])
    assert hand.put_back() == {job().key.uid}
    hand.forget_gone([job("other")])
    assert hand.put_back() == frozenset()


def test_what_a_user_must_know_of_held_work_is_told_in_events():
    told = Told()
    hot = {"west-r1": Reading(value=40.0, age_s=1.0, quality=Quality.FRESH)}
    row = {
        "thermal_zones": (thermal_zone("west-r1"),),
        "inlets": hot,
        "view": view(job(max_delay="1s"), on=nodes(("west",))),
    }
    postponed = job("postponed", deadline=format_time(NOW + timedelta(days=3)), duration="1h")
    for made in (
        assembled(**row),
        assembled(job("typo", duration="soon")),
        assembled(postponed, bounds={postponed.key.uid: NOW + timedelta(hours=12)}),
    ):
        ordering(Orders(), told).carry_out(decide(made, (), {}, (), 100), made, NOW, 2.0)
    assert told.reasons == ["HeldByLimit", "Held", "InvalidAnnotation", "Held", "DeadlineMovedBack"]


@pytest.mark.parametrize(
    ("asked", "on", "placed"),
    [
        ({"residency": "FR", "pods": 5}, nodes(), {ZONE: "east"}),
        ({"residency": "FR"}, nodes(("west",)), {ZONE: "east"}),
        ({"residency": "FR, US", "pods": 5}, nodes(("east",), each=1) + nodes(("west",)), {ZONE: "west"}),
        (
            {"residency": "FR, US", "pods": 5, "pod_spec": {"nodeSelector": {ZONE: "east"}}},
            nodes(("east",), each=1) + nodes(("west",)),
            {ZONE: "east"},
        ),
        ({"residency": "DE"}, nodes(), {names.RESIDENCY: "DE"}),
        ({"pods": 5}, nodes(), {}),
    ],
    ids=["too large", "no node", "the larger zone", "its own constraints", "no zone", "free"],
)
def test_what_gets_no_cell_goes_to_the_grid_zone_of_its_residency(asked: Any, on: Any, placed: dict[str, str]):
    orders = Orders()
    hand = ordering(orders, Told())
    made = assembled(view=view(job(**asked), on=on), grid_zones=with_borders(), forecasts=CLEAN_NOW)
    hand.carry_out(decide(made, (), {}, (), 100), made, NOW, 2.0)
    (order,) = orders.kept
    assert (order.cell, dict(order.placement_labels)) == (None, placed)


def test_a_release_carries_the_time_of_its_decision_not_of_the_snapshot():
    orders = Orders()
    hand = ordering(orders, Told())
    made, decided_at = assembled(job(gpus=1), forecasts=CLEAN_NOW), NOW + timedelta(seconds=3)
    hand.carry_out(decide(made, (), {}, (), 100), made, decided_at, 2.0)
    assert [order.released_at for order in orders.kept] == [decided_at]


def test_a_batch_goes_on_as_long_as_some_calls_are_answered():
    keys = [job(f"{'free' if i % GIVE_UP_AFTER == 0 else 'stuck'}-{i}", gpus=1).key for i in range(3 * GIVE_UP_AFTER)]
    cluster: Any = Cluster(stuck=frozenset(key.name for key in keys if key.name.startswith("stuck")))
    outcomes = [result.outcome for result in Releaser(cluster, max_parallel=1).release([order(key) for key in keys])]
    assert outcomes.count(Outcome.RELEASED) == 3
    assert Outcome.NOT_BEGUN not in outcomes


def test_work_that_was_edited_since_is_decided_about_anew_unless_nothing_of_it_could_be_read():
    cluster: Any = Cluster()
    edited = job("train", gpus=2)
    for record, outcome in ((edited, Outcome.CONFLICT), (replace(edited, unreadable=True), Outcome.RELEASED)):
        (result,) = Releaser(cluster).release([replace(order(edited.key), decided_on=record)])
        assert result.outcome is outcome


def test_an_api_server_that_does_not_answer_is_not_asked_for_everybody():
    keys = [job(f"job-{i}", gpus=1).key for i in range(40)]
    away: Any = Away()
    results = Releaser(away).release([order(key) for key in keys])
    found = [result.outcome for result in results]
    assert set(found) == {Outcome.UNREACHABLE, Outcome.NOT_BEGUN}
    assert found.count(Outcome.UNREACHABLE) < 40


class Refusing(Cluster):
    """Refuses writes; `allowed` is what it says when it is asked about our rights, None: it does not say."""

    def __init__(self, allowed: bool | None) -> None:
        super().__init__()
        self.allowed, self.refuses = allowed, True
        self.placed: list[bool] = []

    def json_patch(self, path: str, operations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        if self.refuses:
            raise ApiError(403, "Forbidden", "no")
        self.placed.append(any(o["path"].endswith("/affinity") for o in operations))
        return super().json_patch(path)

    def create(self, _path: str, _review: Mapping[str, Any]) -> dict[str, Any]:
        if self.allowed is None:
            raise ApiError(403, "Forbidden", "no")
        return {"status": {"allowed": self.allowed}}


@pytest.mark.parametrize(("allowed", "powerless"), [(True, False), (False, True), (None, False)])
def test_only_lost_rights_make_the_operator_powerless_not_somebodys_webhook(allowed: bool | None, powerless: bool):
    made, cluster = assembled(job(gpus=1), forecasts=CLEAN_NOW), Refusing(allowed)
    hand, nothing_held = actuation(cluster), assembled(forecasts=CLEAN_NOW)
    assert hand.carry_out(decide(made, (), {}, (), 100), made, NOW, 2.0).powerless is powerless
    for cluster.allowed, still in ((allowed, powerless), (True, False)):
        assert hand.carry_out(decide(nothing_held, (), {}, (), 100), nothing_held, NOW, 2.0).powerless is still


def test_a_pod_that_cannot_be_handed_over_for_want_of_rights_makes_the_operator_powerless_too():
    queued = bare_pod(labels={names.KUEUE_QUEUE_LABEL: "q"})
    made = assembled(queued)
    assert actuation(Refusing(allowed=False)).carry_out(decide(made, (queued,), {}, (), 100), made, NOW, 2.0).powerless


@pytest.mark.parametrize("allowed", [True, False], ids=["the placement was refused", "the rights were gone"])
def test_work_past_its_bound_goes_without_its_place_only_where_that_was_refused(allowed: bool):
    late, cluster = job(gpus=1, created=NOW - timedelta(days=3)), Refusing(allowed)
    hand, made = actuation(cluster), assembled(late, forecasts=CLEAN_NOW)
    hand.carry_out(decide(made, (), {}, (), 100), made, NOW, 2.0)
    cluster.refuses = False
    hand.carry_out(decide(made, (), {}, (), 100), made, NOW, 2.0)
    assert cluster.placed == [not allowed]


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (ApiError(403, "Forbidden", "exceeded quota"), True),
        (ApiError(422, "Invalid", "a ValidatingAdmissionPolicy denied the request"), True),
        (ApiError(500, "InternalError", "a bad minute"), False),
    ],
)
def test_held_work_whose_plan_is_refused_is_told_so(refusal: ApiError, told: bool):
    cluster = Cluster()
    hand, made = actuation(cluster), assembled(job(duration="2h"))
    cluster.fails, cluster.refusal = 1, refusal
    carried = hand.carry_out(decide(made, (), {}, (), 100), made, NOW, 2.0)
    hand.write_plans(carried.records, (), NOW, 2.0)
    assert (names.PLAN_REFUSED in hand._events.reasons) is told


def test_what_shadow_would_have_done_is_written_though_the_first_try_fails():
    watched = job(held=False, suspended=False)
    made = assembled(watched, policies=(policy(mode="shadow"),))
    cluster = Cluster()
    hand = actuation(cluster)
    cluster.fails = 1
    carried = hand.carry_out(decide(made, (watched,), {}, (), 100), made, NOW, 2.0)
    hand.write_plans(carried.records, (watched,), NOW, 2.0)
    assert cluster.applied == []
    # Shadow decides once: the next turn says nothing about it any more.
    later = assembled(view=view(watched), policies=(policy(mode="shadow"),), bounds=hand.promised())
    assert decide(later, (watched,), hand.known(), hand.unwritten(), 100).records == ()
    hand.write_plans((), (watched,), NOW, 2.0)
    assert cluster.applied == ["Shadow"]
