# SPDX-License-Identifier: Apache-2.0
"""WorkloadPlans and Events on a real API server."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import chain, repeat
from typing import Any

import pytest
from plan_records import NOW, plan_record

from embellie.cluster import catalogue
from embellie.cluster.client import ApiError, KubeClient, object_path
from embellie.cluster.events import QUEUE_SIZE, REPORTING_CONTROLLER, EventRecorder
from embellie.cluster.plan_objects import plan_name
from embellie.cluster.plan_watch import PlanWatch
from embellie.cluster.plans import PlanWriter
from embellie.domain import names
from embellie.domain.reasons import Reason, State
from embellie.domain.snapshot import WorkloadKey, WorkloadKind
from embellie.domain.times import format_time
from embellie_testbed.processes import until

pytestmark = pytest.mark.control_plane


def make_job(kube: KubeClient, namespace: str, name: str = "train") -> WorkloadKey:
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "suspend": True,
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}},
        },
    }
    made = kube.create(object_path("batch/v1", "jobs", namespace=namespace), body)
    return WorkloadKey(namespace=namespace, name=name, kind=WorkloadKind.JOB, uid=made["metadata"]["uid"])


def plan_path(key: WorkloadKey) -> str:
    return object_path(names.API_VERSION, "workloadplans", plan_name(key), namespace=key.namespace)


def version(kube: KubeClient, key: WorkloadKey) -> str:
    return str(kube.get(plan_path(key))["metadata"]["resourceVersion"])


@pytest.fixture
def watched(kube: KubeClient) -> Iterator[PlanWriter]:
    """Return a writer that hears what others do to plans, with a clock of its own."""
    writer = PlanWriter(kube, monotonic=lambda: CLOCK[0])
    watch = PlanWatch(kube, writer.hear, leads=lambda: True)
    watch.start()
    yield writer
    watch.stop()


CLOCK = [1000.0]


def meddle(kube: KubeClient, key: WorkloadKey, **status: Any) -> None:
    """Write into a plan's status as another controller, or a person with an editor, would."""
    operations = [{"op": "add", "path": f"/status/{field}", "value": value} for field, value in status.items()]
    params = {"fieldManager": "somebody"}
    kube.request("PATCH", f"{plan_path(key)}/status", operations, params, "application/json-patch+json")


def test_what_somebody_else_writes_into_a_plan_is_put_right_by_the_next_turns_and_without_a_fight(
    watched: PlanWriter, kube: KubeClient, namespace: str
) -> None:
    key = make_job(kube, namespace)
    record = plan_record(key, likely_start_p90=None)
    watched.write([record], NOW)
    right = kube.get(plan_path(key))["status"]
    assert "likelyStartP90Time" not in right

    def turn() -> bool:
        watched.write([record], NOW)
        return bool(kube.get(plan_path(key))["status"] == right)

    meddle(kube, key, message="Mine.", likelyStartP90Time="2031-01-01T00:00:00Z")
    assert kube.get(plan_path(key))["status"] != right
    until(turn, "the next turns put it right")
    before = version(kube, key)
    assert turn(), "once"
    assert version(kube, key) == before

    meddle(kube, key, message="Mine!")
    time.sleep(1.0)  # the watch has heard of it, and nothing shows that it has
    assert not turn(), "whoever goes on is not written against turn after turn"
    CLOCK[0] += 31.0
    assert turn()


class SentPlans:
    """The client, that notes which plans of a namespace each watch was sent."""

    def __init__(self, kube: KubeClient, namespace: str) -> None:
        self._kube, self._namespace = kube, namespace
        self.sent: list[set[str]] = []

    def watch(self, *where: Any, since: str) -> Iterator[Any]:
        """Watch for some seconds: shortly before the end the API server tells how far it came."""
        self.sent.append(set())
        for event in self._kube.watch(*where, since=since):
            meta = event["object"].get("metadata", {})
            if meta.get("namespace") == self._namespace:
                self.sent[-1].add(meta["name"])
            yield event


def test_a_watch_of_plans_goes_on_where_the_last_one_ended(
    kube: KubeClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embellie.cluster.plan_watch.LASTS_S", 4)
    early, late = (make_job(kube, namespace, name) for name in ("early", "late"))
    PlanWriter(kube).write([plan_record(early)], NOW)
    client: Any = SentPlans(kube, namespace)
    heard: list[str] = []
    watch = PlanWatch(client, lambda uid, _gone: heard.append(uid), leads=lambda: True)
    watch.hear()
    PlanWriter(kube).write([plan_record(late)], NOW)
    meddle(kube, late, message="Mine.")
    watch.hear()
    watch.hear()
    assert client.sent == [{plan_name(early)}, {plan_name(late)}, set()]
    assert late.uid in heard
    watch._version = "1"
    with suppress(ApiError):
        watch.hear()  # the API server has forgotten what happened since
    watch.hear()
    assert client.sent[-1] == {plan_name(early), plan_name(late)}


def test_a_watch_of_plans_that_a_proxy_ends_at_once_goes_on_where_it_ended_too(
    kube: KubeClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embellie.cluster.plan_watch.LASTS_S", 1)  # too short for the bookmark before the end
    early, late = (make_job(kube, namespace, name) for name in ("early", "late"))
    PlanWriter(kube).write([plan_record(early)], NOW)
    client: Any = SentPlans(kube, namespace)
    heard: list[str] = []
    watch = PlanWatch(client, lambda uid, _gone: heard.append(uid), leads=lambda: True)
    watch.hear()
    watch.hear()
    PlanWriter(kube).write([plan_record(late)], NOW)
    meddle(kube, late, message="Mine.")
    watch.hear()
    watch.hear()
    assert client.sent == [{plan_name(early)}, set(), {plan_name(late)}, set()]
    assert late.uid in heard


def test_a_plan_that_somebody_deletes_is_back_after_the_next_turns(
    watched: PlanWriter, kube: KubeClient, namespace: str
) -> None:
    key = make_job(kube, namespace)
    watched.write([plan_record(key)], NOW)
    meddle(kube, key, message="Mine.")
    until(lambda: watched.write([plan_record(key)], NOW).written == 1, "the watch hears")
    CLOCK[0] += 31.0
    kube.delete(plan_path(key))
    until(lambda: watched.write([plan_record(key)], NOW).written == 1, "it is written again")
    assert kube.get(plan_path(key))["status"]["state"] == "Held"


def test_a_bound_that_somebody_moved_earlier_stands_and_their_words_do_not(
    watched: PlanWriter, kube: KubeClient, namespace: str
) -> None:
    key = make_job(kube, namespace)
    watched.write([plan_record(key)], NOW)
    operations = [
        {"op": "replace", "path": "/spec/latestStartTime", "value": "2026-05-02T08:00:00Z"},
        {"op": "replace", "path": "/spec/policyName", "value": "theirs"},
    ]
    kube.request("PATCH", plan_path(key), operations, {"fieldManager": "somebody"}, "application/json-patch+json")

    def stands() -> bool:
        watched.write([plan_record(key)], NOW)
        spec = kube.get(plan_path(key))["spec"]
        return (spec["latestStartTime"], spec["policyName"]) == ("2026-05-02T08:00:00Z", plan_record(key).policy)

    until(stands, "promises may be moved earlier by an admin, and only that")
    assert format_time(watched.promised()[key.uid]) == "2026-05-02T08:00:00Z", "and whoever decides keeps it"


def test_a_plan_is_written_with_its_owner_and_only_when_it_says_something_new(kube: KubeClient, namespace: str) -> None:
    key = make_job(kube, namespace)
    writer = PlanWriter(kube)
    assert writer.write([plan_record(key)], NOW).written == 1
    plan = kube.get(plan_path(key))
    assert plan["metadata"]["ownerReferences"][0]["uid"] == key.uid
    assert plan["spec"]["latestStartTime"] == "2026-05-02T12:00:00Z"
    assert plan["status"]["state"] == "Held"
    assert plan["status"]["observedGeneration"] == plan["metadata"]["generation"]
    before = version(kube, key)
    nearly = plan_record(key, planned_start=NOW + timedelta(hours=9, minutes=10), now_g=1001.0, message="Or so.")
    assert writer.write([nearly], NOW + timedelta(minutes=1)).written == 0
    assert version(kube, key) == before
    released = plan_record(key, state=State.RELEASED, reason=Reason.BEST_NOW)
    assert writer.write([released], NOW + timedelta(hours=1)).written == 1
    status = kube.get(plan_path(key))["status"]
    assert [entry["state"] for entry in status["history"]] == ["Held", "Released"]
    assert status["sinceTime"] == "2026-05-01T13:00:00Z"


def test_after_a_restart_the_same_answer_is_not_written_again_and_the_history_goes_on(
    kube: KubeClient, namespace: str
) -> None:
    key = make_job(kube, namespace)
    PlanWriter(kube).write([plan_record(key)], NOW)
    before = version(kube, key)
    writer = PlanWriter(kube)
    assert writer.load() >= 1
    known = writer.known()[key.uid]
    assert (known.latest_start, known.state, known.reason) == (NOW + timedelta(hours=24), "Held", "CleanerWindow")
    assert writer.write([plan_record(key)], NOW).written == 0
    assert version(kube, key) == before
    writer.write([plan_record(key, state=State.RELEASED, reason=Reason.BEST_NOW)], NOW)
    assert len(kube.get(plan_path(key))["status"]["history"]) == 2


def test_the_bound_never_moves_later_even_if_the_record_says_so(kube: KubeClient, namespace: str) -> None:
    key = make_job(kube, namespace)
    writer = PlanWriter(kube)
    writer.write([plan_record(key)], NOW)
    later = plan_record(key, latest_start=NOW + timedelta(hours=48), reason=Reason.WAITING_FOR_GPUS)
    report = writer.write([later], NOW)
    assert writer.known()[key.uid].latest_start == NOW + timedelta(hours=24)
    assert not report.failed
    assert kube.get(plan_path(key))["spec"]["latestStartTime"] == "2026-05-02T12:00:00Z"
    writer.write([plan_record(key, latest_start=NOW + timedelta(hours=2))], NOW)
    assert kube.get(plan_path(key))["spec"]["latestStartTime"] == "2026-05-01T14:00:00Z"


def test_an_earlier_bound_that_the_writer_did_not_know_of_is_kept(kube: KubeClient, namespace: str) -> None:
    key = make_job(kube, namespace)
    PlanWriter(kube).write([plan_record(key, latest_start=NOW + timedelta(hours=1))], NOW)
    stranger = PlanWriter(kube)
    report = stranger.write([plan_record(key)], NOW)
    assert (report.written, report.failed) == (1, {})
    assert stranger.known()[key.uid].latest_start == NOW + timedelta(hours=1)
    assert stranger.promised()[key.uid] == NOW + timedelta(hours=1)
    assert kube.get(plan_path(key))["spec"]["latestStartTime"] == "2026-05-01T13:00:00Z"


def test_the_plan_of_a_predecessor_makes_way(kube: KubeClient, namespace: str) -> None:
    key = make_job(kube, namespace)
    old = replace(key, uid="00000000-0000-0000-0000-000000000000")
    body = {
        "apiVersion": names.API_VERSION,
        "kind": "WorkloadPlan",
        "metadata": {"name": plan_name(key)},
        "spec": {
            "workloadRef": {"apiVersion": "batch/v1", "kind": "Job", "name": key.name, "uid": old.uid},
            "latestStartTime": "2026-05-01T12:30:00Z",
            "mode": "enforce",
        },
    }
    kube.create(object_path(names.API_VERSION, "workloadplans", namespace=namespace), body)
    report = PlanWriter(kube).write([plan_record(key)], NOW)
    assert (report.written, report.failed) == (1, {})
    spec = kube.get(plan_path(key))["spec"]
    assert spec["workloadRef"]["uid"] == key.uid
    assert spec["latestStartTime"] == "2026-05-02T12:00:00Z"


def test_a_plan_that_somebody_deleted_comes_back(kube: KubeClient, namespace: str) -> None:
    key = make_job(kube, namespace)
    writer = PlanWriter(kube)
    writer.write([plan_record(key)], NOW)
    kube.delete(plan_path(key))
    changed = plan_record(key, reason=Reason.WAITING_FOR_GPUS)
    assert list(writer.write([changed], NOW).failed) == [key.uid]
    assert writer.write([changed], NOW).written == 1
    assert kube.get(plan_path(key))["status"]["reason"] == "WaitingForGpus"


def test_a_list_that_was_made_beside_a_turn_forgets_what_was_removed_and_nothing_that_was_written_since(
    kube: KubeClient, namespace: str
) -> None:
    removed, stands = make_job(kube, namespace, "removed"), make_job(kube, namespace, "stands")
    writer = PlanWriter(kube)
    writer.write([plan_record(removed), plan_record(stands)], NOW)
    kube.delete(plan_path(removed))
    listed = writer.read()
    new, changed = make_job(kube, namespace, "new"), plan_record(stands, reason=Reason.WAITING_FOR_GPUS)
    writer.write([changed, plan_record(new)], NOW)
    writer.take(listed)
    assert removed.uid not in writer.known()
    report = writer.write([plan_record(removed), changed, plan_record(new)], NOW)
    assert (report.written, report.failed) == (1, {}), "only what was removed is written again"
    assert writer.promised()[removed.uid] == plan_record(removed).latest_start


def test_the_plan_of_work_that_was_deleted_without_it_is_removed(kube: KubeClient, namespace: str) -> None:
    gone, stays = make_job(kube, namespace, "gone"), make_job(kube, namespace, "stays")
    PlanWriter(kube).write([plan_record(gone), plan_record(stays)], NOW)
    # What `kubectl delete --cascade=orphan` makes of it; the collector itself may not know our kinds yet.
    kube.json_patch(plan_path(gone), [{"op": "remove", "path": "/metadata/ownerReferences"}])
    writer = PlanWriter(kube)
    writer.load()
    plans = kube.list_all(object_path(names.API_VERSION, "workloadplans", namespace=namespace))
    assert [plan["metadata"]["name"] for plan in plans] == ["job-stays"]
    assert stays.uid in writer.known()
    assert gone.uid not in writer.known()


def test_what_the_time_does_not_suffice_for_comes_next_turn_and_releases_come_first(
    kube: KubeClient, namespace: str
) -> None:
    held = [plan_record(make_job(kube, namespace, f"held-{i}")) for i in range(3)]
    released = plan_record(make_job(kube, namespace, "released"), state=State.RELEASED, reason=Reason.BEST_NOW)
    # Time is up after the first of them.
    ticks = chain([0.0, 0.0], repeat(9.0))
    writer = PlanWriter(kube, max_parallel=1, monotonic=lambda: next(ticks))
    report = writer.write([*held, released], NOW, begin_within_s=1.0)
    assert (report.written, report.not_begun) == (1, 3)
    assert list(writer.known()) == [released.key.uid]
    patient = PlanWriter(kube)
    assert patient.write([*held, released], NOW).not_begun == 0


def test_a_replica_that_lost_the_lease_writes_no_plan(kube: KubeClient, namespace: str) -> None:
    key = make_job(kube, namespace)
    assert PlanWriter(kube, may_write=lambda: False).write([plan_record(key)], NOW).not_begun == 1


def events_of(kube: KubeClient, namespace: str) -> list[dict[str, Any]]:
    found = kube.list_all(object_path("events.k8s.io/v1", "events", namespace=namespace))
    return [event for event in found if event.get("reportingController") == REPORTING_CONTROLLER]


def test_every_event_of_the_catalogue_is_accepted(kube: KubeClient, namespace: str) -> None:
    key = make_job(kube, namespace)
    written = [
        catalogue.held(key, "Waits for wind."),
        catalogue.would_hold(key, "It would have waited."),
        catalogue.released(key, "BestNow", "Starts now."),
        catalogue.held_by_limit(key, "Inlet at 34 °C."),
        catalogue.plan_refused(key, "exceeded quota: plans"),
        catalogue.handed_off(key, "Somebody set suspend: false."),
        catalogue.release_failed(key, "forbidden"),
        catalogue.invalid_annotation(key, "embellie.io/duration", "ü" * 3000),
        catalogue.deadline_moved_back(key, NOW + timedelta(hours=1), NOW),
        catalogue.pause_announced(key, NOW),
        catalogue.pause_withdrawn(key),
        catalogue.paused(key, "Paused because its zone is hot.", acknowledged=False),
    ]
    made_here = [make for make in vars(catalogue).values() if getattr(make, "__module__", "") == catalogue.__name__]
    assert len(written) == len(made_here)
    recorder = EventRecorder(kube, "pod-1")
    assert all(recorder.record(event) for event in written)
    recorder.close(20.0)
    assert (recorder.written, recorder.dropped) == (len(written), 0)
    found = {event["reason"]: event for event in events_of(kube, namespace)}
    assert set(found) == {event.reason for event in written}
    assert found["Held"]["regarding"]["uid"] == key.uid
    assert found["Held"]["type"] == "Normal"
    assert found["HeldByLimit"]["type"] == "Warning"
    assert found["InvalidAnnotation"]["note"].endswith("…")


def test_events_wait_while_starts_are_due_and_are_said_afterwards(kube: KubeClient, namespace: str) -> None:
    key = make_job(kube, namespace)
    recorder = EventRecorder(kube, "pod-1")
    recorder.give_way(to_releases=True)
    for number in range(5):
        recorder.record(catalogue.released(replace(key, uid=f"u{number}"), "BestNow", "Now."))
    assert recorder.written <= 1
    recorder.give_way(to_releases=False)
    until(lambda: recorder.written == 5, "what waited was not said", 10.0)
    recorder.close(20.0)


def test_the_same_event_is_written_once_an_hour(kube: KubeClient, namespace: str) -> None:
    key = make_job(kube, namespace)
    clock = [0.0]
    recorder = EventRecorder(kube, "pod-1", monotonic=lambda: clock[0])
    assert not recorder.has_told(key.uid, catalogue.HELD)
    assert recorder.record(catalogue.held(key, "For 9 hours."))
    assert recorder.has_told(key.uid, catalogue.HELD)
    assert not recorder.record(catalogue.held(key, "For 8 hours."))
    assert recorder.record(catalogue.released(key, "BestNow", "Now."))
    clock[0] = 3601.0
    assert not recorder.has_told(key.uid, catalogue.HELD)
    assert recorder.record(catalogue.held(key, "For 8 hours."))
    recorder.close(20.0)
    assert sorted(event["reason"] for event in events_of(kube, namespace)) == ["Held", "Held", "Released"]


def test_events_never_hold_anybody_up_and_what_was_not_said_may_be_said_again(kube: KubeClient, namespace: str) -> None:
    key = make_job(kube, namespace)
    recorder = EventRecorder(kube, "pod-1", rate_per_s=0.001, burst=1)
    keys = [replace(key, uid=f"u{i}") for i in range(QUEUE_SIZE + 1000)]
    started = time.monotonic()
    taken = [recorder.record(catalogue.handed_off(each, "x")) for each in keys]
    assert time.monotonic() - started < 2.0
    assert taken.count(False) == recorder.dropped > 0
    assert not recorder.record(catalogue.handed_off(keys[0], "x")), "queued or written: a repetition"
    until(lambda: recorder.written == 1, "the burst was not written", 10.0)
    recorder._queue.queue.clear()
    assert recorder.record(catalogue.handed_off(keys[-1], "x"))
    recorder._queue.queue.clear()
    recorder.close(20.0)
