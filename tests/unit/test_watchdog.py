# SPDX-License-Identifier: Apache-2.0
"""The watchdog's pure parts: names, order and pace, residency, the patch, and who counts as gone."""

import copy
import json
import socket
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes import client

from embellie.domain import names as domain_names
from embellie.domain.reasons import Reason
from embellie.watchdog import names
from embellie.watchdog.api import Api, ApiError, NoAnswerError, UnreachableError
from embellie.watchdog.guard import Guard, GuardOptions
from embellie.watchdog.lease import Election, Heartbeat, micro_time
from embellie.watchdog.main import main
from embellie.watchdog.release import JOB, POD, Held, is_held, release_patch, workload_event
from embellie.watchdog.residency import narrowed_terms, parse_residency, satisfies, with_terms
from embellie.watchdog.sweep import in_order, rate_per_second

WALL = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def job(name: str = "train", *, suspend: bool = True, marker: str | None = "true", **meta: Any) -> Held:
    labels = {"embellie.io/flex": "patient"} | ({names.HELD_LABEL: marker} if marker else {})
    metadata = {"namespace": "team-a", "name": name, "uid": f"uid-{name}", "resourceVersion": "7", "labels": labels}
    spec = {"suspend": suspend, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}
    return Held(kind=JOB, obj={"metadata": {**metadata, **meta}, "spec": spec})


def pod(gates: list[str], spec: dict[str, Any] | None = None, **meta: Any) -> Held:
    metadata = {"namespace": "team-a", "name": "p", "uid": "u", "resourceVersion": "9", "labels": {"x": "y"}}
    metadata["labels"] = {names.HELD_LABEL: "true"}
    return Held(
        kind=POD,
        obj={
            "metadata": {**metadata, **meta},
            "spec": {"schedulingGates": [{"name": g} for g in gates]} | (spec or {}),
        },
    )


def zone(name: str, jurisdiction: str | None, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"jurisdiction": jurisdiction, "nodeSelector": labels}}


def test_its_own_constants_equal_those_of_the_domain() -> None:
    for name in (
        "GROUP", "VERSION", "HELD_LABEL", "GATE", "RESIDENCY", "RELEASED_AT", "RELEASE_REASON", "OVERHEATED",
        "MANAGED_BY_LABEL", "FIELD_MANAGER", "KUEUE_QUEUE_LABEL", "MOST_ANNOTATION_BYTES",
    ):  # fmt: skip
        assert getattr(names, name) == getattr(domain_names, name)
    for name in ("OPERATOR_LOST", "UNINSTALLED", "RELEASED_BY_ADMIN"):
        assert getattr(names, name) == Reason[name].value


def test_without_the_marker_an_object_is_not_ours() -> None:
    assert is_held(job().obj)
    assert not is_held(job(marker=None).obj)
    assert not is_held(job(marker="false").obj)


def test_a_job_is_released_by_one_patch_that_guards_before_it_writes() -> None:
    operations = release_patch(job(), {names.RELEASE_REASON: "OperatorLost"})
    assert [o["op"] for o in operations] == ["test", "test", "test", "add", "remove", "add", "add"]
    assert operations[:3] == [
        {"op": "test", "path": "/metadata/uid", "value": "uid-train"},
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "test", "path": "/metadata/labels/embellie.io~1held", "value": "true"},
    ]
    assert {"op": "add", "path": "/spec/suspend", "value": False} in operations
    assert {
        "op": "add",
        "path": "/metadata/annotations/embellie.io~1release-reason",
        "value": "OperatorLost",
    } in operations


def test_only_our_own_gate_is_removed_wherever_it_stands() -> None:
    operations = release_patch(pod(["other.io/gate", names.GATE]), {})
    assert {"op": "test", "path": "/spec/schedulingGates/1/name", "value": names.GATE} in operations
    assert [o["path"] for o in operations if o["op"] == "remove"] == [
        "/spec/schedulingGates/1",
        "/metadata/labels/embellie.io~1held",
    ]


@pytest.mark.parametrize("started", [job(suspend=False), pod(["other.io/gate"])])
def test_what_another_hand_started_only_loses_the_marker(started: Held) -> None:
    operations = release_patch(started, {names.RELEASE_REASON: "OperatorLost"})
    assert [o["path"] for o in operations if o["op"] != "test"] == ["/metadata/labels/embellie.io~1held"]


def test_a_job_in_a_kueue_queue_only_loses_the_marker_and_is_kueues_to_start() -> None:
    queued = job()
    queued.obj["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "gpus"
    operations = release_patch(queued, {names.RELEASE_REASON: "OperatorLost"})
    assert [o["path"] for o in operations if o["op"] != "test"] == ["/metadata/labels/embellie.io~1held"]


def test_a_pod_in_a_kueue_queue_loses_our_gate_and_keeps_kueues() -> None:
    queued = pod([names.GATE, "kueue.x-k8s.io/admission"])
    queued.obj["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "gpus"
    paths = [o["path"] for o in release_patch(queued, {}) if o["op"] == "remove"]
    assert paths == ["/spec/schedulingGates/0", "/metadata/labels/embellie.io~1held"]


def test_existing_annotations_are_kept() -> None:
    operations = release_patch(job(annotations={"mine": "1"}), {"a": "b"})
    assert {"op": "add", "path": "/metadata/annotations", "value": {}} not in operations


def test_work_whose_own_annotations_leave_no_room_for_ours_is_released_without_them() -> None:
    full = {"mine": "ä" * ((names.MOST_ANNOTATION_BYTES - 10) // 2)}
    operations = release_patch(job(annotations=full), {names.RELEASE_REASON: "OperatorLost"})
    marker = "/metadata/labels/embellie.io~1held"
    assert [o["path"] for o in operations if o["op"] != "test"] == ["/spec/suspend", marker]


@pytest.mark.parametrize(
    ("jurisdiction", "residency", "inside"),
    [
        ("FR", "FR", True),
        ("fr", " FR , DE", True),
        ("US-CA", "US", True),
        ("US", "US-CA", False),
        ("USX", "US", False),
        ("", "FR", False),
        ("FR", "", False),
    ],
)
def test_a_zone_lies_inside_a_residency_when_its_jurisdiction_does(
    jurisdiction: str, residency: str, inside: bool
) -> None:
    assert satisfies(jurisdiction, parse_residency(residency)) is inside


def test_zones_that_differ_in_one_label_become_one_term() -> None:
    zones = [zone("a", "FR", region="north"), zone("b", "FR", region="south"), zone("c", "US", region="west")]
    assert narrowed_terms({}, "FR", zones) == [
        {"matchExpressions": [{"key": "region", "operator": "In", "values": ["north", "south"]}]}
    ]


def test_every_or_ed_term_of_the_user_is_narrowed_and_none_is_added() -> None:
    own = [
        {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["h100"]}]},
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]},
    ]
    spec = {"affinity": with_terms({}, own)}
    terms = narrowed_terms(spec, "FR", [zone("a", "FR", region="north"), zone("b", "FR", hall="2")])
    ours = {"key": "region", "operator": "In", "values": ["north"]}
    assert len(terms) == 2
    assert terms[0]["matchExpressions"] == [own[0]["matchExpressions"][0], ours]
    assert terms[1] == {**own[1], "matchExpressions": [ours]}


def test_a_term_takes_the_first_zone_that_it_does_not_contradict() -> None:
    own = [{"matchExpressions": [{"key": "region", "operator": "In", "values": ["south"]}]}]
    zones = [zone("a", "FR", region="north", hall="1"), zone("b", "FR", region="south")]
    terms = narrowed_terms({"affinity": with_terms({}, own)}, "FR", zones)
    assert terms[0]["matchExpressions"][1] == {"key": "region", "operator": "In", "values": ["south"]}


@pytest.mark.parametrize("zones", [None, [], [zone("c", "US", region="west")], [zone("d", None, region="x")]])
def test_where_no_zone_is_known_to_lie_inside_the_workload_stays_pending_and_crosses_nothing(zones: Any) -> None:
    assert narrowed_terms({}, "FR, DE", zones) == [
        {"matchExpressions": [{"key": "embellie.io/residency", "operator": "In", "values": ["FR", "DE"]}]}
    ]


def test_a_zone_that_shares_nodes_with_another_keeps_nothing_inside() -> None:
    shared = zone("a", "FR", region="north") | {
        "status": {"conditions": [{"type": "NodesExclusive", "status": "False"}]}
    }
    assert narrowed_terms({}, "FR", [shared])[0]["matchExpressions"][0]["key"] == "embellie.io/residency"


def test_a_term_that_matches_no_node_does_not_begin_to() -> None:
    assert narrowed_terms({"affinity": with_terms({}, [{}])}, "FR", [zone("a", "FR", region="north")]) == [{}]


def test_an_unreadable_residency_still_makes_a_valid_affinity() -> None:
    terms = narrowed_terms({}, "Île de France!; x", None)
    assert terms[0]["matchExpressions"][0]["values"] == ["LE-DE-FRANCE---X"]
    assert narrowed_terms({}, ",,", None)[0]["matchExpressions"][0]["values"] == ["unreadable"]


def test_the_rest_of_the_users_affinity_is_kept() -> None:
    spec = {
        "affinity": {"podAffinity": {"x": 1}, "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    }
    affinity = with_terms(spec, [{"matchExpressions": []}])
    assert affinity["podAffinity"] == {"x": 1}
    assert "preferredDuringSchedulingIgnoredDuringExecution" in affinity["nodeAffinity"]
    assert "requiredDuringSchedulingIgnoredDuringExecution" not in spec["affinity"]["nodeAffinity"]


def test_work_without_a_plan_goes_first_then_the_earliest_latest_start() -> None:
    held = [job(n, creationTimestamp=f"2026-07-01T0{i}:00:00Z") for i, n in enumerate(["a", "b", "c", "d"])]
    latest = {"uid-a": WALL + timedelta(days=2), "uid-b": WALL + timedelta(days=1)}
    assert [h.name for h in in_order(reversed(held), latest)] == ["c", "d", "b", "a"]


def test_the_pace_brings_all_out_in_time_and_never_crawls() -> None:
    assert rate_per_second(10, 300.0) == 5.0
    assert 10_000 / rate_per_second(10_000, 300.0) < 300.0
    assert rate_per_second(100, -3.0) >= 100.0


def lease(renewed: datetime) -> dict[str, Any]:
    return {"metadata": {"uid": "u"}, "spec": {"renewTime": micro_time(renewed)}}


def test_a_heartbeat_that_does_not_change_for_the_limit_is_stale() -> None:
    heart = Heartbeat(120.0, longest_gap_seconds=6.0)
    for second in range(0, 120, 2):
        heart.observe(lease(WALL), float(second), WALL)
        assert not heart.stale
    heart.observe(lease(WALL), 120.0, WALL)
    assert heart.stale
    heart.observe(lease(WALL + timedelta(seconds=1)), 122.0, WALL)
    assert not heart.stale


def test_time_without_an_api_server_is_not_silence_of_the_operator() -> None:
    heart = Heartbeat(120.0, longest_gap_seconds=6.0)
    heart.observe(lease(WALL), 0.0, WALL)
    heart.observe(lease(WALL), 1000.0, WALL)
    assert heart.silent_seconds == 6.0


def test_a_lease_that_was_old_at_our_start_is_watched_for_a_quarter_of_the_limit_and_no_longer() -> None:
    heart = Heartbeat(120.0, longest_gap_seconds=6.0)
    heart.observe(lease(WALL - timedelta(hours=1)), 0.0, WALL)
    assert not heart.stale
    for second in range(2, 32, 2):
        heart.observe(lease(WALL - timedelta(hours=1)), float(second), WALL)
    assert heart.stale


def test_a_clock_that_is_ahead_does_not_help_or_harm() -> None:
    heart = Heartbeat(120.0, longest_gap_seconds=6.0)
    heart.observe(lease(WALL + timedelta(hours=5)), 0.0, WALL)
    assert heart.silent_seconds == 0.0


def test_a_missing_lease_counts_from_when_we_first_looked_and_one_that_appears_is_life() -> None:
    heart = Heartbeat(4.0, longest_gap_seconds=6.0)
    heart.observe(None, 0.0, WALL)
    heart.observe(None, 5.0, WALL)
    assert heart.stale
    heart.observe(lease(WALL), 6.0, WALL)
    assert not heart.stale
    heart.observe(None, 11.0, WALL)
    assert heart.stale


def test_a_lease_with_an_unreadable_time_is_no_head_start() -> None:
    heart = Heartbeat(4.0, longest_gap_seconds=6.0)
    heart.observe({"metadata": {}, "spec": {"renewTime": "7 bananas"}}, 0.0, WALL)
    assert heart.silent_seconds == 0.0


class Leases:
    """The API server of the election's one Lease.

    `refuses` is the status of every answer, 0 for none at all; `full` refuses writes alone.
    """

    def __init__(self) -> None:
        self.now, self.version = 0.0, 0
        self.lease: dict[str, Any] | None = None
        self.refuses: int | None = None
        self.full = False

    def get(self, path: str) -> dict[str, Any]:
        self._answer(404 if self.lease is None or path.endswith("heartbeat") else None, path)
        return copy.deepcopy(self.lease or {})

    def create(self, path: str, body: dict[str, Any]) -> None:
        self._answer(409 if self.lease is not None else None, path)
        self._keep(body)

    def replace(self, path: str, body: dict[str, Any]) -> None:
        self._answer(None if body["metadata"]["resourceVersion"] == str(self.version) else 409, path)
        self._keep(body)

    def _answer(self, fault: int | None, path: str) -> None:
        if self.refuses == 0:
            raise UnreachableError("connection refused")
        if self.refuses or fault:
            raise ApiError(self.refuses or fault or 0, "Refused", path)

    def _keep(self, body: dict[str, Any]) -> None:
        if self.full:
            raise ApiError(500, "InternalError", "etcdserver: mvcc: database space exceeded")
        self.version += 1
        self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}


def candidates(leases: Leases, *identities: str) -> list[Election]:
    api: Any = leases
    where = {"namespace": "n", "name": "embellie"}
    return [Election(api, identity=i, monotonic=lambda: leases.now, **where) for i in identities]


def test_one_watchdog_leads_for_as_long_as_it_renews() -> None:
    leases = Leases()
    one, other = candidates(leases, "one", "other")
    for leases.now in range(0, 60, 2):
        for candidate in (one, other):
            candidate.step()
        assert (one.leads, other.leads) == (True, False)
    assert leases.lease is not None
    assert leases.lease["spec"]["leaseTransitions"] == 0


def test_a_watchdog_that_died_is_followed_once_its_lease_has_run_out_and_not_before() -> None:
    leases = Leases()
    one, other = candidates(leases, "one", "other")
    one.step()
    for leases.now in range(1, 20):
        other.step()
        assert other.leads is (leases.now >= 1 + 15)
        assert one.leads is (leases.now < 10)


def test_a_lease_that_somebody_wrote_to_last_for_years_is_taken_within_minutes() -> None:
    leases = Leases()
    (one,) = candidates(leases, "one")
    one.step()
    assert leases.lease is not None
    leases.lease["spec"] |= {"holderIdentity": "nobody", "leaseDurationSeconds": 10**8, "leaseTransitions": 2**31 - 1}
    for leases.now in range(1, 120, 2):
        one.step()
    assert one.leads
    assert leases.lease["spec"]["leaseTransitions"] == 2**31 - 1, "the API server takes no more"


@pytest.mark.parametrize("status", [0, 503])
def test_a_watchdog_whose_renewals_get_no_answer_leads_until_they_are_overdue(status: int) -> None:
    leases = Leases()
    (one,) = candidates(leases, "one")
    one.step()
    leases.refuses = status
    leases.now = 9.0
    one.step()
    assert one.leads
    leases.now = 10.0
    one.step()
    assert not one.leads
    leases.refuses = None
    one.step()
    assert one.leads


def test_time_in_which_the_api_server_takes_no_writes_is_not_silence_of_the_operator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leases: Any = Leases()
    monkeypatch.setattr("embellie.watchdog.guard.time.monotonic", lambda: leases.now)
    options = {"namespace": "n", "name": "embellie", "dead_man_seconds": 30.0, "release_seconds": 5.0}
    guards = [Guard(leases, GuardOptions(identity=i, **options), threading.Event()) for i in ("one", "other")]

    def go_on(seconds: int) -> None:
        for _ in range(0, seconds, 2):
            leases.now += 2
            for guard in guards:
                guard._election.step()
                guard._observe()

    go_on(10)
    leases.full = True
    go_on(600)
    assert max(guard._heartbeat.silent_seconds for guard in guards) < 20
    leases.full = False
    go_on(10)
    assert not any(guard._heartbeat.stale for guard in guards), "the operator has a moment to come to itself"
    go_on(60)
    assert all(guard._heartbeat.stale for guard in guards)


def test_a_watchdog_that_leaves_lets_the_other_lead_at_once_and_takes_nothing_from_it() -> None:
    leases = Leases()
    one, other = candidates(leases, "one", "other")
    one.step()
    one.resign()
    assert not one.leads
    other.step()
    assert other.leads
    one.resign()
    assert leases.lease is not None
    assert leases.lease["spec"]["holderIdentity"] == "other"


def test_of_two_that_find_no_lease_at_the_same_moment_one_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    leases = Leases()
    one, other = candidates(leases, "one", "other")
    monkeypatch.setattr("embellie.watchdog.lease.read_lease", lambda *_: None)
    one.step()
    other.step()
    assert (one.leads, other.leads) == (True, False)


def test_an_event_has_what_the_api_server_asks_for_whatever_the_name() -> None:
    long = job("x" * 219 + "-" + "y" * 30)
    event = workload_event(long, reason="ReleasedByWatchdog", note="n" * 2000, identity="i" * 200)
    assert len(event["metadata"]["name"]) <= 253
    assert "-." not in event["metadata"]["name"]
    assert (event["type"], len(event["note"]), len(event["reportingInstance"])) == ("Warning", 1000, 128)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--dead-man-seconds", "0"], "must be a number of seconds"),
        (["run", "--dead-man-seconds", "a minute"], "must be a number of seconds"),
        (["run", "--release-seconds", "86401"], "must be a number of seconds"),
        (["release"], "--all"),
    ],
)
def test_nonsense_on_the_command_line_is_refused_in_a_sentence(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


def test_a_missing_kubeconfig_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    assert main(["check", "--kubeconfig", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_log_line_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    from embellie.watchdog.log import log

    log("released", workload="job/team-a/train")
    assert json.loads(capsys.readouterr().err)["event"] == "released"


def test_a_call_that_was_taken_and_not_answered_is_told_from_an_api_server_that_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("embellie.watchdog.api.TIMEOUT_SECONDS", (0.1, 0.1))
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        settings = client.Configuration(host=f"http://127.0.0.1:{port}")
        settings.retries = False
        with pytest.raises(NoAnswerError):
            Api(settings).get("/version")
    with pytest.raises(UnreachableError) as away:
        Api(settings).get("/version")
    assert not isinstance(away.value, NoAnswerError)
