# SPDX-License-Identifier: Apache-2.0
"""From what the outside said to a Snapshot: who is decided about, where it may go, and which terms bind it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from embellie.cluster.taints import Taint
from embellie.control import assemble
from embellie.control.zone_status import grid_zone_status
from embellie.domain.clock import AcceleratedClock, SystemClock
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Flex, Quality, Reading, Workload
from embellie_testbed.views import (
    NOW,
    OWN_NAMESPACE,
    ROW,
    ZONE,
    assembled,
    bare_pod,
    grid_zone,
    inputs,
    job,
    node,
    nodes,
    policy,
    running_pod,
    thermal_zone,
    view,
)

HOUR = timedelta(hours=1)
YOUNG = "2026-02-01T00:00:00Z"


def only(*workloads, **changes) -> Workload:
    (workload,) = assembled(*workloads, **changes).snapshot.workloads
    return workload


def subjects(*workloads, **changes) -> set[str]:
    return {key.name for key in assembled(*workloads, **changes).subjects}


def cells(west: str = "US-CA", east: str = "FR") -> tuple:
    return grid_zone("west", jurisdiction=west), grid_zone("east", jurisdiction=east)


def test_held_work_is_decided_about_and_nothing_else_is():
    found = subjects(
        job("held"),
        bare_pod("gated"),
        job("rigid", flex="rigid", held=False, suspended=False),
        job("unlabelled", flex="", held=False, suspended=False),
        job("suspended-by-its-user", held=False, suspended=True),
        job("runs", held=False, suspended=False),
        job("started", suspended=False),
        job("done", status={"conditions": [{"type": "Complete", "status": "True"}]}),
        job("queued", labels={"kueue.x-k8s.io/queue-name": "q"}),
    )
    assert found == {"held", "gated"}


def test_an_object_that_nobody_thought_of_starts_at_once_within_its_border_and_stops_nobody(monkeypatch):
    read = assemble.read_terms

    def fails_for_one(flex, annotations, *rest):
        if annotations.get("embellie.io/duration") == "unthinkable":
            raise OverflowError("date value out of range")
        return read(flex, annotations, *rest)

    monkeypatch.setattr(assemble, "read_terms", fails_for_one)
    found = assembled(job("odd", duration="unthinkable", residency="FR"), job("plain"), grid_zones=cells())
    odd, plain = (next(w for w in found.snapshot.workloads if w.key.name == name) for name in ("odd", "plain"))
    assert odd.start_now is Reason.INVALID_ANNOTATION
    assert "annotations cannot be read" in odd.start_now_message
    assert {name.partition(".")[0] for name in odd.allowed_cells} == {"east"}
    assert plain.start_now is None


def test_held_work_whose_object_cannot_be_read_starts_at_once_within_its_border():
    odd = replace(job("odd", residency="FR"), unreadable=True)
    free = replace(job("free"), unreadable=True)
    found = {w.key.name: w for w in assembled(odd, free, grid_zones=cells()).snapshot.workloads}
    assert [found[name].start_now for name in ("odd", "free")] == [Reason.INVALID_ANNOTATION] * 2
    assert {name.partition(".")[0] for name in found["odd"].allowed_cells} == {"east"}
    assert found["free"].allowed_cells == frozenset()


def test_shadow_looks_only_at_work_that_is_free_and_not_recorded():
    changes = {"policies": (policy(mode="shadow"),)}
    fresh = job("fresh", held=False, suspended=False)
    seen = job("seen", held=False, suspended=False)
    released = job("released", held=False, suspended=False, released_at="x")
    paused = job("paused", held=False, suspended=True)
    found = assembled(fresh, seen, released, paused, bounds={seen.key.uid: NOW}, **changes)
    assert {k.name for k in found.subjects} == {"fresh"}
    assert found.snapshot.workloads == ()
    assert [w.key.name for w in found.shadow.workloads] == ["fresh"]


def test_a_policy_over_everything_never_covers_system_namespaces_or_our_own():
    strangers = [job(namespace=name) for name in ("kube-system", OWN_NAMESPACE)]
    found = assembled(*strangers)
    assert found.table.enforced_namespaces() == ["research", "vision"]
    assert [w.start_now for w in found.snapshot.workloads] == [Reason.NO_POLICY] * 2


def test_held_work_without_its_label_or_its_policy_starts_at_once():
    assert only(job(flex="")).start_now is Reason.NO_POLICY
    assert only(job(flex="rigid")).start_now is Reason.NO_POLICY
    assert only(job(), policies=()).start_now is Reason.NO_POLICY
    assert only(job(namespace="unheard-of")).start_now is Reason.NO_POLICY
    assert only(job()).start_now is None


def test_bonus_work_waits_for_the_bonus_delay():
    policies = (policy(maxDelaySeconds=3600, bonusMaxDelaySeconds=7200),)
    patient, bonus = only(job(), policies=policies), only(job(flex="bonus"), policies=policies)
    assert patient.latest_start == patient.created_at + HOUR
    assert (bonus.latest_start, bonus.flex) == (bonus.created_at + 2 * HOUR, Flex.BONUS)


def test_a_promised_bound_stands_against_a_later_one_which_is_refused():
    record = job(deadline="2026-07-02T00:00:00Z", duration="1h")
    uid = record.key.uid
    promised = datetime(2026, 7, 1, 20, tzinfo=UTC)
    found = assembled(record, bounds={uid: promised})
    (subject,) = found.subjects.values()
    assert subject.workload.latest_start == promised
    assert subject.refused_bound == datetime(2026, 7, 1, 23, tzinfo=UTC)


def test_an_earlier_bound_is_taken_and_refuses_nothing():
    record = job(deadline="2026-07-01T18:00:00Z", duration="1h")
    found = assembled(record, bounds={record.key.uid: NOW + 20 * HOUR})
    (subject,) = found.subjects.values()
    assert subject.workload.latest_start == datetime(2026, 7, 1, 17, tzinfo=UTC)
    assert subject.refused_bound is None


def test_work_about_which_nothing_changed_is_not_read_again_and_what_changed_is():
    records = job("a"), job("b"), job("c")
    first = inputs(*records)
    before = assemble.assemble(first, SystemClock(), NOW).subjects
    moved = replace(first, bounds={records[1].key.uid: NOW + HOUR}, view=view(*records[:2], job("c")))
    after = assemble.assemble(moved, SystemClock(), NOW + HOUR, before).subjects
    assert [after[r.key] is before[r.key] for r in records] == [True, False, False]
    assert after[records[1].key].workload.latest_start == NOW + HOUR


def test_a_bound_that_only_lost_its_fraction_of_a_second_is_not_refused():
    record = job()
    bound = only(record).latest_start
    found = assembled(record, bounds={record.key.uid: bound - timedelta(seconds=0.9)})
    assert next(iter(found.subjects.values())).refused_bound is None


@pytest.mark.parametrize(
    ("residency", "allowed"),
    [
        ("US-CA", {"west"}),
        ("US", {"west"}),
        ("FR, US", {"west", "east"}),
        ("fr", {"east"}),
        ("DE", set()),
        (",", set()),
    ],
)
def test_residency_leaves_only_cells_that_lie_inside(residency: str, allowed: set[str]):
    found = only(job(residency=residency), grid_zones=cells())
    assert found.allowed_cells == allowed
    assert (found.start_now is Reason.RESIDENCY_UNSATISFIED) is (not allowed)


def test_a_zone_that_does_not_say_where_it_lies_satisfies_no_residency():
    nowhere = (grid_zone("west", jurisdiction=None), grid_zone("east", jurisdiction="FR"))
    assert only(job(residency="FR"), grid_zones=nowhere).allowed_cells == {"east"}
    assert only(job(), grid_zones=nowhere).allowed_cells == {"west", "east"}


def test_zones_that_share_nodes_keep_nobody_inside_a_border():
    zones = (*cells(), grid_zone("also", created=YOUNG, nodeSelector={ZONE: "west"}, jurisdiction="FR"))
    assert only(job(residency="US-CA"), grid_zones=zones).start_now is Reason.RESIDENCY_UNSATISFIED
    assert only(job(residency="FR"), grid_zones=zones).allowed_cells == {"east"}
    assert only(job(), grid_zones=zones).allowed_cells == {"west", "east"}


def test_a_residency_that_is_met_where_the_user_excludes_every_node_is_no_zone():
    found = only(job(residency="FR", pod_spec={"nodeSelector": {ZONE: "west"}}), grid_zones=cells())
    assert found.start_now is Reason.NO_ZONE


def test_the_users_own_constraints_and_the_size_of_its_pods_narrow_the_cells():
    on = (*nodes(("west",)), node("east-0", gpus=4))
    here = {"nodeSelector": {ZONE: "west"}}
    assert only(view=view(job(pod_spec=here), on=on)).allowed_cells == {"west"}
    assert only(view=view(job(gpus=8), on=on)).allowed_cells == {"west"}
    assert only(view=view(job(gpus=4), on=on)).allowed_cells == {"west", "east"}
    assert only(view=view(job(gpus=16), on=on)).start_now is Reason.NO_ZONE
    expression = {"key": ROW, "operator": "NotIn", "values": ["west-r1"]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    away = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}
    assert only(view=view(job(gpus=4, pod_spec=away), on=on)).allowed_cells == {"east"}


def test_workloads_with_different_constraints_get_different_answers_in_one_turn():
    here, there = ({"nodeSelector": {ZONE: zone}} for zone in ("west", "east"))
    found = assembled(job("a", pod_spec=here), job("b", pod_spec=there), job("c"), job("d", residency="FR"))
    allowed = {w.key.name: set(w.allowed_cells) for w in found.snapshot.workloads}
    assert allowed == {"a": {"west"}, "b": {"east"}, "c": {"west", "east"}, "d": set()}


def tainted(key: str, value: str = "", effect: str = "NoSchedule", names: tuple[str, ...] = ("west",)) -> tuple:
    taint = Taint(key=key, value=value, effect=effect)
    return tuple(replace(n, taints=(taint,)) if n.labels[ZONE] in names else n for n in nodes())


def goes(on: tuple, *tolerations: dict[str, str], gpus: int = 8) -> set[str]:
    return set(only(view=view(job(gpus=gpus, pod_spec={"tolerations": list(tolerations)}), on=on)).allowed_cells)


@pytest.mark.parametrize(
    ("toleration", "suffices"),
    [
        ({"key": "team", "operator": "Equal", "value": "vision", "effect": "NoSchedule"}, True),
        ({"key": "team", "value": "vision"}, True),
        ({"key": "team", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "team", "value": "research"}, False),
        ({"key": "team"}, False),
        ({"key": "crew", "operator": "Exists"}, False),
        ({"key": "team", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "team", "operator": "Gt", "value": "vision"}, False),
        ({"operator": "Equal"}, False),
    ],
)
def test_a_cell_of_tainted_nodes_is_only_for_work_that_tolerates_them(toleration: dict[str, str], suffices: bool):
    on = tainted("team", "vision")
    assert goes(on) == {"east"}
    assert goes(on, toleration) == ({"west", "east"} if suffices else {"east"})


def test_every_taint_of_a_node_must_be_tolerated_and_one_such_node_is_enough():
    first = {"key": "team", "operator": "Exists"}
    more = Taint(key="repair", effect="NoExecute")
    both = tuple(replace(n, taints=(*n.taints, more)) if n.taints else n for n in tainted("team"))
    assert goes(both, first) == {"east"}
    assert goes(both, first, {"key": "repair", "operator": "Exists"}) == {"west", "east"}
    assert goes((*both, node("west-9"))) == {"west", "east"}


def test_work_that_tolerates_no_node_is_not_kept_waiting_for_one():
    found = only(view=view(job(), on=tainted("team", names=("west", "east"))))
    assert (found.allowed_cells, found.start_now) == (frozenset(), Reason.NO_ZONE)


def test_a_taint_of_the_gpu_resource_turns_away_only_pods_without_gpus():
    on = tainted("nvidia.com/gpu", "present")
    assert goes(on) == {"west", "east"}
    assert goes(on, gpus=0) == {"east"}
    assert goes(on, {"key": "nvidia.com/gpu", "operator": "Exists"}, gpus=0) == {"west", "east"}
    assert goes(tainted("nvidia.com/gpu", effect="NoExecute")) == {"east"}


def test_tolerations_tell_workloads_of_one_turn_apart_and_the_same_ones_share_an_object():
    mine = {"tolerations": [{"key": "team", "operator": "Exists"}]}
    momentary = {"tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]}
    a, b, c, d = job("a", pod_spec=mine), job("b", pod_spec=mine), job("c"), job("d", pod_spec=momentary)
    found = assembled(view=view(a, b, c, d, on=tainted("team"))).snapshot
    both, east = {"west", "east"}, {"east"}
    assert {w.key.name: set(w.allowed_cells) for w in found.workloads} == {"a": both, "b": both, "c": east, "d": east}
    assert a.constraints is b.constraints
    assert c.constraints is d.constraints


def test_no_work_is_sent_to_a_cell_whose_labels_let_it_into_a_hot_row():
    on = (*nodes(), node("west-9", **{ROW: "west-r2"}))
    rows = (thermal_zone("west-r1"),)
    assert only(view=view(job(), on=on), thermal_zones=rows).allowed_cells == {"west.west-r1", "east"}
    rows = (*rows, thermal_zone("west-r2"))
    mended = only(view=view(job(), on=on), thermal_zones=rows).allowed_cells
    assert mended == {"west.west-r1", "west.west-r2", "east"}


def test_a_zone_with_a_leaking_cell_says_so_and_how_to_mend_it():
    on = (*nodes(), node("west-9", **{ROW: "west-r2"}))
    made = assembled(view=view(on=on), thermal_zones=(thermal_zone("west-r1"),))
    west, east = (
        next(c for c in grid_zone_status(zone, made, {}, NOW).conditions if c.type == "NodesExclusive")
        for zone in made.grid_zones
    )
    assert (str(west.status), west.reason) == ("False", "LeakingCell")
    assert "4 nodes of other cells (west-0, west-1, west-2...)" in west.message
    assert "Give every node of the zone a ThermalZone, or labels that tell them apart." in west.message
    assert str(east.status) == "True"
    told = made.grid_zones[0].model_copy(update={"status": grid_zone_status(made.grid_zones[0], made, {}, NOW)})
    again = grid_zone_status(told, made, {}, NOW + HOUR)
    assert next(c for c in again.conditions if c.type == "NodesExclusive") == west, "the condition did not change"


def test_work_without_gpus_draws_a_little_and_goes_anywhere():
    found = only(bare_pod(gpus=0))
    assert (found.gpus, found.power_kw, found.worst_power_kw) == (0, 0.3, 0.3)
    assert found.allowed_cells == {"west", "east"}


def test_power_follows_the_stated_watts_and_its_worst_case_does_not():
    rated, stated = only(job()), only(job(watts_per_gpu="400"))
    assert stated.power_kw < rated.power_kw
    assert stated.worst_power_kw == rated.worst_power_kw >= rated.power_kw
    assert only(job(watts_per_gpu="7 bananas")).power_kw == rated.power_kw


def test_a_policy_may_hold_only_its_share_of_what_opted_in_under_it():
    both = (
        policy("half", priority=1, maxHeldPercent=50, namespaceSelector={"matchNames": ["research"]}),
        policy("all"),
    )
    crowd = [
        job("a", gpus=8),
        job("b", gpus=8, held=False, suspended=False),
        job("elsewhere", gpus=8, namespace="vision"),
        job("rigid", gpus=8, flex="rigid", held=False, suspended=False),
        job("done", gpus=8, status={"conditions": [{"type": "Complete", "status": "True"}]}),
    ]
    assert assembled(*crowd, policies=both).snapshot.max_held_gpus == {"half": 8.0}


def test_the_policy_that_wins_bounds_the_wait():
    loser = policy("loser", maxDelaySeconds=86400)
    winner = policy("winner", created=YOUNG, priority=1, maxDelaySeconds=600)
    found = only(job(), policies=(loser, winner))
    assert found.policy == "winner"
    assert found.latest_start == found.created_at + timedelta(minutes=10)


def test_readings_and_idle_power_reach_the_zones():
    warm = Reading(value=24.0, age_s=1.0, quality=Quality.FRESH)
    meter = Reading(value=90.0, age_s=1.0, quality=Quality.FRESH)
    found = assembled(
        thermal_zones=(thermal_zone("west-r1"),),
        inlets={"west-r1": warm},
        grid_power={"west": meter},
        grid_zones=(grid_zone("west", nodeIdlePowerWatts=3000, powerUsageEffectivenessPercent=150), grid_zone("east")),
    ).snapshot
    west = next(z for z in found.grid_zones if z.name == "west")
    (hall,) = found.thermal_zones
    assert (west.measured_power_kw, west.base_power_kw) == (meter, pytest.approx(4 * 3.0 * 1.5))
    assert (hall.inlet, hall.supply, hall.base_power_kw) == (warm, None, pytest.approx(12.0))
    assert hall.ambient_grid_zone == "west"


def test_a_thermal_zone_outside_every_grid_zone_still_heats():
    found = assembled(grid_zones=(), thermal_zones=(thermal_zone("west-r1"),)).snapshot
    (hall,) = found.thermal_zones
    assert (hall.base_power_kw, hall.ambient_grid_zone) == (pytest.approx(12.8), None)


def test_an_accelerated_clock_reads_creation_times_in_its_own_time():
    clock = AcceleratedClock(origin=datetime(2022, 9, 1, tzinfo=UTC), wall_origin=NOW, factor=600.0)
    found = only(job(created=NOW + timedelta(seconds=6)), clock=clock, now=clock.from_wall(NOW + timedelta(seconds=7)))
    assert found.created_at == datetime(2022, 9, 1, 1, tzinfo=UTC)
    assert found.latest_start == datetime(2022, 9, 2, 1, tzinfo=UTC)


def test_running_work_without_a_stated_end_is_assumed_to_take_a_day():
    found = assembled(view=view(pods=[running_pod("a", "west-0", started=NOW - HOUR)]))
    (gang,) = found.snapshot.running
    assert gang.expected_end_p90 == NOW + 23 * HOUR


def test_nothing_at_all_is_an_empty_snapshot():
    found = assembled(view=view(on=()), grid_zones=(), policies=(), forecasts={})
    assert found.snapshot.cells == found.snapshot.workloads == found.shadow.workloads == ()


HOSTILE = {
    "a deadline in the year 1": {"deadline": "0001-01-01T00:00:00Z"},
    "a deadline before the calendar": {"deadline": "0001-01-01T00:00:00+12:00"},
    "a deadline after the calendar": {"deadline": "9999-12-31T23:59:59-12:00"},
    "the last deadline": {"deadline": "9999-12-31T23:59:59Z"},
    "a novel": {"deadline": "x" * 100_000, "duration": "9" * 100_000, "max_delay": "1s" * 50_000},
    "digits of another script": {"duration": "٣h", "max_delay": "３h", "watts_per_gpu": "٣٠٠"},
    "a residency in another script": {"residency": "Île-de-France, 日本"},
}


@pytest.mark.parametrize("notes", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_annotation_stops_the_turn_or_moves_the_bound_past_the_policys(notes: dict[str, str]):
    found = only(job(**notes))
    assert found.latest_start <= found.created_at + timedelta(days=1)


@pytest.mark.parametrize("hint", ["²", "1" * 5000, "-1", "0", "", "1.5", "٣"])
def test_no_hint_of_kueues_stops_the_turn(hint: str):
    label = {"kueue.x-k8s.io/max-exec-time-seconds": hint}
    assert only(job(labels=label)).duration_p90_s == 86400.0


def test_kueues_time_limit_is_a_label_and_serves_as_duration():
    assert only(job(labels={"kueue.x-k8s.io/max-exec-time-seconds": "7200"})).duration_p90_s == 7200.0
