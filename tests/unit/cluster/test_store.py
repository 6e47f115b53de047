# SPDX-License-Identifier: Apache-2.0
"""The store: events and lists together, whatever order they come in."""

import contextlib
import threading

import pytest

from embellie.cluster.records import bare_record, parse_bare_pod, parse_job
from embellie.cluster.store import Resource, Store
from embellie.domain import names
from embellie.domain.snapshot import WorkloadKind


def job(uid: str, *, held: bool = True, suspend: bool = True, gpus: str = "8", **meta) -> dict:
    labels = {names.FLEX_LABEL: "patient"} | ({names.HELD_LABEL: "true"} if held else {})
    return {
        "metadata": {
            "namespace": "research",
            "name": uid,
            "uid": uid,
            "labels": labels,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            **meta,
        },
        "spec": {
            "suspend": suspend,
            "parallelism": 2,
            "completions": 2,
            "template": {"spec": {"containers": [{"resources": {"limits": {names.GPU_RESOURCE: gpus}}}]}},
        },
    }


@pytest.mark.parametrize(("written", "gpus"), [("8", 8), ("8e0", 8), ("1k", 1000), ("0", 0)])
def test_gpus_are_counted_however_the_api_server_writes_their_number(written: str, gpus: int):
    record = parse_job(job("one", gpus=written))
    assert record is not None
    assert record.gpus_per_pod == gpus


def uids(store: Store) -> set[str]:
    return {w.key.uid for w in store.view().workloads}


def test_a_list_prunes_what_is_gone_and_keeps_what_an_event_brought_meanwhile():
    store = Store()
    store.apply(Resource.JOBS, "ADDED", job("gone"))
    store.begin_list(Resource.JOBS)
    store.apply(Resource.JOBS, "ADDED", job("new"))
    assert store.replace(Resource.JOBS, [job("listed")]) == 1
    assert uids(store) == {"new", "listed"}


def test_a_list_that_is_older_than_an_event_does_not_undo_it():
    store = Store()
    store.apply(Resource.JOBS, "ADDED", job("one"))
    store.begin_list(Resource.JOBS)
    store.apply(Resource.JOBS, "MODIFIED", job("one", held=False, suspend=False))
    store.apply(Resource.JOBS, "ADDED", job("two"))
    store.apply(Resource.JOBS, "DELETED", job("two"))
    store.replace(Resource.JOBS, [job("one"), job("two")])
    assert uids(store) == {"one"}
    assert store.view().workloads[0].held is False


def test_new_held_work_wakes_the_loop_and_repeated_news_does_not():
    store = Store()
    store.apply(Resource.JOBS, "ADDED", job("one"))
    assert store.wake.is_set()
    store.wake.clear()
    store.apply(Resource.JOBS, "MODIFIED", job("one"))
    assert not store.wake.is_set()
    store.apply(Resource.JOBS, "DELETED", job("one"))
    assert store.wake.is_set()


def test_work_that_did_not_opt_in_wakes_nobody_but_its_gpus_count():
    store = Store()
    plain = job("one", held=False, suspend=False)
    plain["metadata"]["labels"] = {}
    store.apply(Resource.JOBS, "ADDED", plain)
    assert not store.wake.is_set()
    assert store.view().workloads[0].gpus == 16
    assert store.view().workloads[0].opted_in is False


def test_a_pod_that_acknowledges_its_pause_wakes_the_loop():
    store = Store()
    train = {
        "metadata": {"namespace": "research", "name": "train-0", "uid": "pod", "annotations": {}},
        "spec": {"nodeName": "gpu-0", "containers": [{"resources": {"limits": {names.GPU_RESOURCE: "8"}}}]},
        "status": {"phase": "Running"},
    }
    train["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "train", "uid": "job", "controller": True}]
    store.apply(Resource.PODS, "ADDED", train)
    assert not store.wake.is_set()
    train["metadata"]["annotations"] = {names.CHECKPOINTED: "2026-01-01T00:00:00Z"}
    store.apply(Resource.PODS, "MODIFIED", train)
    assert store.wake.is_set()
    store.wake.clear()
    store.apply(Resource.PODS, "MODIFIED", train)
    assert not store.wake.is_set()


def test_what_comes_while_a_plan_is_made_is_there_after_it_even_after_one_that_failed():
    store, began = Store(), threading.Event()

    def tell() -> None:
        began.set()
        store.apply(Resource.JOBS, "ADDED", job("late"))

    told = threading.Thread(target=tell)
    with contextlib.suppress(RuntimeError), store.still(60.0):
        told.start()
        began.wait()
        told.join(0.1)
        assert uids(store) == set()
        raise RuntimeError
    told.join()
    assert uids(store) == {"late"}


def test_a_plan_that_takes_too_long_keeps_no_event_waiting():
    store = Store()
    with store.still(0.01):
        for uid in ("one", "two"):
            store.apply(Resource.JOBS, "ADDED", job(uid))
        assert uids(store) == {"one", "two"}


def test_garbage_in_foreign_fields_is_read_as_nothing():
    raw = job("one", gpus="many")
    raw["spec"]["parallelism"] = None
    raw["metadata"]["creationTimestamp"] = "yesterday"
    record = parse_job(raw)
    assert record is not None
    assert record.gpus == 0


@pytest.mark.parametrize(
    ("kind", "spec", "waits"),
    [
        (WorkloadKind.POD, "garbage", True),
        (WorkloadKind.JOB, {"suspend": True}, True),
        (WorkloadKind.JOB, {"suspend": False}, False),
        (WorkloadKind.JOB, "garbage", False),
    ],
)
def test_of_what_cannot_be_read_only_a_suspended_job_and_any_gated_pod_wait(kind, spec, waits):
    record = bare_record({**job("one"), "spec": spec}, kind)
    assert record is not None
    assert (record.held, record.waiting) == (True, waits)
    assert bare_record({**job("one", held=False), "spec": spec}, kind) is None


def test_what_carries_our_marker_stays_in_sight_whatever_else_its_user_takes_off():
    raw = job("one", gpus="0")
    raw["metadata"]["labels"] = {names.HELD_LABEL: "true"}
    pod = {"metadata": raw["metadata"], "spec": {"schedulingGates": [{"name": names.GATE}]}}
    for record in (parse_job(raw), parse_bare_pod(pod)):
        assert record is not None
        assert (record.held, record.waiting, record.opted_in, record.gpus) == (True, True, False, 0)
    raw["metadata"]["labels"] = {}
    assert parse_job(raw) is None
    assert parse_bare_pod(pod | {"metadata": raw["metadata"]}) is None


def test_terms_under_a_name_that_nobody_reads_are_named():
    raw = job("one")
    raw["metadata"]["annotations"] = {
        "embellie.io/deadlines": "2030-01-01T00:00:00Z",
        names.DURATION: "2h",
        "a.b/c": "",
    }
    raw["metadata"]["labels"] |= {names.RESIDENCY: "FR", "team": "vision"}
    told = (
        "annotation embellie.io/deadlines: Embellie knows no such annotation",
        "label embellie.io/residency: it is read as an annotation only",
    )
    pod = {"metadata": raw["metadata"], "spec": {"schedulingGates": [{"name": names.GATE}]}}
    assert [record.strays for record in (parse_job(raw), parse_bare_pod(pod)) if record] == [told, told]
    assert parse_job(job("one")).strays == ()


def test_terms_that_stand_in_the_pod_template_only_are_named():
    raw = job("one")
    raw["metadata"]["annotations"] = {names.DURATION: "2h"}
    notes = {names.DURATION: "2h", names.RESIDENCY: "FR", names.CHECKPOINT: "takes=5m", names.WATTS_PER_GPU: "400"}
    raw["spec"]["template"]["metadata"] = {"annotations": notes}
    record = parse_job(raw)
    assert record is not None
    assert record.strays == ("annotation embellie.io/residency of the pod template: it is read on the Job itself only",)


def test_of_thousands_of_stray_terms_a_few_are_named():
    raw = job("one")
    raw["metadata"]["annotations"] = {f"embellie.io/x{i:05}": "" for i in range(15_000)}
    record = parse_job(raw)
    assert record is not None
    assert len(record.strays) == 4


def test_a_pods_gpus_count_init_containers_by_their_largest():
    raw = job("one", gpus="2")
    raw["spec"]["template"]["spec"]["initContainers"] = [
        {"resources": {"requests": {names.GPU_RESOURCE: "4"}}},
        {"resources": {}},
    ]
    assert parse_job(raw).gpus_per_pod == 4


def test_an_object_that_cannot_be_read_costs_nobody_else_and_is_not_kept_as_it_was(monkeypatch):
    store = Store()
    store.apply(Resource.JOBS, "ADDED", job("one"))
    parse = parse_job

    def fails_for_one(raw):
        if raw["metadata"].get("annotations"):
            raise RecursionError("nobody thought of this")
        return parse(raw)

    monkeypatch.setattr("embellie.cluster.store.parse_job", fails_for_one)
    odd = {"annotations": {"odd": "x", names.RESIDENCY: "FR"}}
    store.apply(Resource.JOBS, "MODIFIED", job("one", **odd))
    store.apply(Resource.JOBS, "ADDED", job("free", held=False, **odd))
    store.replace(Resource.JOBS, [job("one", **odd), job("free", held=False, **odd), job("two")])
    assert uids(store) == {"one", "two"}
    one = next(w for w in store.view().workloads if w.key.uid == "one")
    assert (one.unreadable, one.held, one.waiting, one.gpus) == (True, True, True, 0)
    assert one.annotations == {names.RESIDENCY: "FR"}
