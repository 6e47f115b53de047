# SPDX-License-Identifier: Apache-2.0
"""From what the outside said to a Snapshot: who is decided about, where it may go, and which terms bind it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from embellie.control.acting.actuation import placement
from embellie.control.assembly import assemble
from embellie.control.work.durations import MIN_HISTORY
from embellie.domain.clock import AcceleratedClock, SystemClock
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Flex, Quality, Reading
from embellie_testbed.views import (
    NOW,
    OWN_NAMESPACE,
    assembled,
    bare_pod,
    grid_zone,
    inputs,
    job,
    only,
    policy,
    running_pod,
    thermal_zone,
    view,
    with_borders,
)

HOUR = timedelta(hours=1)
YOUNG = "2026-02-01T00:00:00Z"


def subjects(*workloads, **changes) -> set[str]:
    return {key.name for key in assembled(*workloads, **changes).subjects}


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
    found = assembled(job("odd", duration="unthinkable", residency="FR"), job("plain"), grid_zones=with_borders())
    odd, plain = (next(w for w in found.snapshot.workloads if w.key.name == name) for name in ("odd", "plain"))
    assert odd.start_now is Reason.INVALID_ANNOTATION
    assert "annotations cannot be read" in odd.start_now_message
    assert odd.latest_start == odd.created_at
    assert {name.partition(".")[0] for name in odd.allowed_cells} == {"east"}
    assert plain.start_now is None


def test_held_work_whose_object_cannot_be_read_starts_at_once_within_its_border():
    odd = replace(job("odd", residency="FR"), unreadable=True)
    free = replace(job("free"), unreadable=True)
    found = {w.key.name: w for w in assembled(odd, free, grid_zones=with_borders()).snapshot.workloads}
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


@pytest.mark.parametrize("flex", ["", "rigid"])
def test_work_that_opts_out_while_it_is_held_is_confined_to_its_border_alone(flex: str):
    assert only(job(flex=flex)).allowed_cells == frozenset()
    found = assembled(job(flex=flex, residency="FR"), grid_zones=with_borders())
    (subject,) = found.subjects.values()
    assert subject.workload.allowed_cells == frozenset()
    assert placement(subject.record, None, found) == {"topology.kubernetes.io/zone": "east"}


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


@pytest.mark.parametrize(
    ("first", "then", "wanted"),
    [
        ({"max_delay": "1h"}, {"max_delay": "10h"}, timedelta(hours=10)),
        ({"max_delay": "1h"}, {}, timedelta(hours=24)),
        ({"deadline": "2026-07-02T01:00:00Z"}, {"deadline": "2026-07-09T00:00:00Z"}, timedelta(hours=24)),
    ],
)
def test_who_asks_to_wait_longer_is_refused_by_a_word_without_a_stated_duration_too(
    first: dict[str, str], then: dict[str, str], wanted: timedelta
):
    early, late = job(**first), job(**then)
    before = assembled(early)
    (found,) = before.subjects.values()
    assert found.refused_bound is None
    seen = replace(inputs(late), bounds={late.key.uid: found.workload.latest_start})
    (subject,) = assemble.assemble(seen, SystemClock(), NOW, before.subjects).subjects.values()
    assert subject.workload.latest_start == found.workload.latest_start
    assert subject.refused_bound == subject.workload.created_at + wanted


def test_a_guess_that_shrinks_by_itself_is_no_refusal():
    record = job(deadline="2026-07-02T01:00:00Z")
    before = assembled(record)
    earlier = only(record).latest_start - HOUR
    seen = replace(inputs(record), bounds={record.key.uid: earlier})
    (subject,) = assemble.assemble(seen, SystemClock(), NOW, before.subjects).subjects.values()
    assert (subject.workload.latest_start, subject.refused_bound) == (earlier, None)


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


def test_what_earlier_work_used_of_its_statements_moves_the_expected_end_and_no_bound():
    times = {"startTime": "2026-06-01T00:00:00Z", "completionTime": "2026-06-01T03:00:00Z"}
    done = [
        job(
            f"done-{i}",
            held=False,
            duration="6h",
            status={**times, "conditions": [{"type": "Complete", "status": "True"}]},
        )
        for i in range(MIN_HISTORY)
    ]
    new = job("new", duration="8h", deadline=(NOW + 20 * HOUR).isoformat())
    (alone,), (told,) = assembled(new).snapshot.workloads, assembled(new, *done).snapshot.workloads
    assert (alone.duration_p50_s, told.duration_p50_s) == (8 * 3600.0, 4 * 3600.0)
    assert (told.duration_p90_s, told.latest_start) == (alone.duration_p90_s, alone.latest_start)


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
