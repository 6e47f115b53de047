# SPDX-License-Identifier: Apache-2.0
"""The pure middle of a turn: what is released and how much at once, what was handed to others, what shadow records."""

from dataclasses import replace
from datetime import timedelta

import pytest

from embellie.cluster.patches import format_time
from embellie.cluster.plan_objects import plan_status
from embellie.cluster.records import WorkloadRecord
from embellie.control.deciding.seen import Rest, is_settled
from embellie.control.deciding.turn import Verdicts, decide
from embellie.domain.plan import Plan
from embellie.domain.reasons import Reason, State
from embellie.domain.snapshot import Quality, Reading
from embellie_testbed.views import (
    NOW,
    assembled,
    bare_pod,
    forecast,
    grid_zone,
    job,
    known,
    nodes,
    only,
    policy,
    running_pod,
    thermal_zone,
    view,
)

HOUR = timedelta(hours=1)
QUEUE = {"kueue.x-k8s.io/queue-name": "team-queue"}
CLEAN_NOW = {name: forecast(name, [100.0] * 48) for name in ("west", "east")}


def decided(*workloads, plans=None, in_flight=(), max_releases=100, **changes) -> Verdicts:
    plans = plans or {}
    bounds = {uid: plan.latest_start for uid, plan in plans.items()}
    made = assembled(*workloads, bounds=bounds, in_flight=dict.fromkeys(in_flight, "west"), **changes)
    return decide(made, changes["view"].workloads if "view" in changes else workloads, plans, in_flight, max_releases)


def test_a_term_that_nobody_reads_is_told_in_the_plan_and_delays_nothing_more():
    stray = "annotation embellie.io/deadlines: Embellie knows no such annotation"
    plain, misspelt = job("plain"), replace(job("misspelt"), strays=(stray,))
    found = {record.key.name: record for record in decided(plain, misspelt).records}
    assert found["misspelt"].latest_start == found["plain"].latest_start
    ready = [
        plan_status(record, {}, NOW, None)["conditions"][0]["message"] for record in (found["plain"], found["misspelt"])
    ]
    assert ready == ["The plan is current.", stray]


def test_what_was_planned_into_a_zone_that_is_gone_waits_for_it_until_its_bound_and_what_is_new_does_not():
    zones = (grid_zone("west", jurisdiction="FR"),)
    waits, new, other = (job(name, residency="US-CA") for name in ("waits", "new", "refused"))
    due = job("due", residency="US-CA", max_delay="1h", created=NOW - HOUR)
    planned = {waits.key.uid: known(), due.key.uid: known(bound=NOW)}
    plans = {**planned, other.key.uid: known(reason=Reason.WRITE_CONFLICT, cell="")}
    first = decided(waits, new, due, other, plans=plans, grid_zones=zones)
    assert sorted(named(first)) == ["due", "new", "refused"]
    assert reasons(first)["waits"] == (State.HELD, Reason.RESIDENCY_UNSATISFIED)
    (record,) = (r for r in first.records if r.key == waits.key)
    assert record.planned_start == record.latest_start
    waiting = {waits.key.uid: known(reason=Reason.RESIDENCY_UNSATISFIED, cell="")}
    assert named(decided(waits, plans=waiting, grid_zones=zones)) == []
    back = decided(waits, plans=waiting)
    assert reasons(back) == {"waits": (State.HELD, Reason.CLEANER_WINDOW)}


def test_what_was_planned_waits_until_then_while_nodes_that_boot_offer_no_gpus_and_what_is_new_does_not():
    waits, due, new = (job(name) for name in ("waits", "due", "new"))
    start = NOW + 3 * HOUR
    plans = {waits.key.uid: known(planned_start=format_time(start)), due.key.uid: known(planned_start=format_time(NOW))}
    booting = {"view": view(waits, due, new, on=())}
    first = decided(plans=plans, **booting)
    assert sorted(named(first)) == ["due", "new"]
    (record,) = (r for r in first.records if r.key == waits.key)
    assert (record.state, record.reason, record.planned_start) == (State.HELD, Reason.NO_ZONE, start)
    still = {waits.key.uid: known(planned_start=format_time(start), reason=Reason.NO_ZONE, cell="")}
    assert named(decided(plans=still, view=view(waits, on=()))) == []
    assert reasons(decided(waits, plans=still)) == {"waits": (State.HELD, Reason.CLEANER_WINDOW)}


def named(verdicts: Verdicts) -> list[str]:
    return [d.key.name for d in verdicts.releases]


def reasons(verdicts: Verdicts) -> dict[str, tuple[State, Reason]]:
    return {r.key.name: (r.state, r.reason) for r in verdicts.records}


def test_dirty_hours_hold_and_clean_ones_release():
    assert reasons(decided(job(duration="2h"))) == {"train": (State.HELD, Reason.CLEANER_WINDOW)}
    clean = decided(job(duration="2h"), forecasts=CLEAN_NOW)
    assert named(clean) == ["train"]
    assert reasons(clean) == {"train": (State.RELEASED, Reason.BEST_NOW)}


@pytest.mark.parametrize(("mode", "held"), [("enforce", True), ("shadow", False)])
def test_a_record_says_all_that_was_decided(mode: str, held: bool):
    (record,) = decided(job(held=held, suspended=held, duration="2h"), policies=(policy("night", mode=mode),)).records
    assert (record.mode, record.policy, record.gpus) == (mode, "night", 8)
    assert record.planned_start is not None
    assert NOW < record.planned_start == record.likely_start_p50 <= record.likely_start_p90
    assert record.grid_zone in ("west", "east")
    assert record.cell.partition(".")[0] == record.grid_zone
    assert record.planned_low_g < record.planned_g < record.planned_high_g < record.now_g
    assert record.energy_wh == pytest.approx(1000.0 * only(job()).power_kw * 2.0)


def test_no_more_are_released_than_a_turn_may_write_and_the_rest_say_so():
    crowd = [job(f"job-{i}", gpus=1, created=NOW - timedelta(minutes=9 - i)) for i in range(5)]
    verdicts = decided(*crowd, forecasts=CLEAN_NOW, max_releases=2)
    assert named(verdicts) == ["job-0", "job-1"]
    assert verdicts.more_due
    assert reasons(verdicts)["job-1"] == (State.RELEASED, Reason.BEST_NOW)
    for name in ("job-2", "job-3", "job-4"):
        assert reasons(verdicts)[name] == (State.HELD, Reason.RELEASE_RATE)
    assert "Starts in a moment" in next(r.message for r in verdicts.records if r.key.name == "job-4")
    assert not decided(*crowd, forecasts=CLEAN_NOW, max_releases=5).more_due


def test_a_release_that_was_refused_goes_behind_all_others_even_at_its_bound():
    refused = job("refused", gpus=1, max_delay="1h", created=NOW - 3 * HOUR)
    due = job("due", gpus=1, max_delay="1h", created=NOW - HOUR)
    made = assembled(refused, due, forecasts=CLEAN_NOW)
    verdicts = decide(made, (refused, due), {}, (), 1, put_back={refused.key.uid})
    assert named(verdicts) == ["due"]
    assert named(decide(made, (refused, due), {}, (), 2, put_back={refused.key.uid})) == ["due", "refused"]


def test_what_has_reached_its_bound_goes_before_everything_else():
    due = job("due", gpus=1, max_delay="1h", created=NOW - HOUR)
    overdue = job("overdue", gpus=1, max_delay="1h", created=NOW - 2 * HOUR)
    old = job("old", gpus=1, created=NOW - 9 * HOUR)
    verdicts = decided(old, due, overdue, forecasts=CLEAN_NOW, max_releases=2)
    assert named(verdicts) == ["overdue", "due"]


def test_a_bound_inside_the_next_turn_counts_as_reached():
    soon = job(max_delay="1h", created=NOW - HOUR + timedelta(seconds=29))
    assert reasons(decided(soon))["train"] == (State.RELEASED, Reason.BOUND_REACHED)
    later = job(max_delay="1h", created=NOW - HOUR + timedelta(seconds=31))
    assert reasons(decided(later))["train"][1] is not Reason.BOUND_REACHED


def test_a_promised_bound_outlives_a_longer_policy_and_a_later_deadline():
    plans = {job().key.uid: known(bound=NOW)}
    assert reasons(decided(job(duration="1h"), plans=plans))["train"] == (State.RELEASED, Reason.BOUND_REACHED)


def test_a_clock_that_jumps_ahead_releases_and_one_that_jumps_back_moves_no_bound():
    plans = {job().key.uid: known(bound=NOW + HOUR)}
    assert named(decided(job(duration="1h"), plans=plans, now=NOW + timedelta(days=400))) == ["train"]
    back = decided(job(duration="1h"), plans=plans, now=NOW - timedelta(days=400))
    assert all(r.latest_start <= NOW + HOUR for r in back.records)


def test_a_hot_inlet_holds_at_the_bound_only_as_long_as_it_may():
    hot = {"west-r1": Reading(value=40.0, age_s=1.0, quality=Quality.FRESH)}
    changes = {
        "view": view(job(max_delay="1h", created=NOW - HOUR), on=nodes(("west",))),
        "thermal_zones": (thermal_zone("west-r1"),),
        "inlets": hot,
    }
    held = decided(**changes, max_limit_hold_s=60.0)
    assert reasons(held)["train"] == (State.HELD_BY_LIMIT, Reason.LIMIT_READING)
    assert named(decided(**changes, max_limit_hold_s=60.0, now=NOW + timedelta(seconds=61))) == ["train"]
    stale = {"west-r1": Reading(value=40.0, age_s=300.0, quality=Quality.STALE)}
    assert named(decided(**{**changes, "inlets": stale}, max_limit_hold_s=60.0)) == ["train"]


def test_held_work_that_runs_was_started_by_another_hand():
    started = job(suspended=False)
    verdicts = decided(started, plans={started.key.uid: known()})
    assert verdicts.to_unmark == (started.key,)
    (record,) = verdicts.hand_offs
    assert (record.state, record.reason) == (State.HANDED_OFF, Reason.STARTED_BY_OTHER)
    assert verdicts.records == ()


def test_work_that_its_user_let_go_says_by_whom():
    for who, said in (("anna", "Started with `embellie go` by anna."), ("", "Started with `embellie go`.")):
        started = job(held=False, suspended=False, go=who)
        (record,) = decided(started, plans={started.key.uid: known()}).hand_offs
        assert (record.state, record.reason) == (State.HANDED_OFF, Reason.STARTED_BY_OTHER)
        assert record.message == said


def test_a_pod_whose_gate_another_controller_removed_was_started_by_another_hand():
    opened = bare_pod(gates=["example.com/other"])
    verdicts = decided(opened, plans={opened.key.uid: known()})
    assert verdicts.to_unmark == (opened.key,)
    assert verdicts.hand_offs[0].reason is Reason.STARTED_BY_OTHER


def test_other_gates_of_a_held_pod_are_told_and_left_alone():
    (record,) = decided(bare_pod(gates=["example.com/other", "embellie.io/hold"], duration="1h")).records
    assert record.waits_on == (("SchedulingGate", "scheduling gate example.com/other of another controller"),)


def test_work_that_was_started_before_anything_was_written_is_unmarked_without_words():
    started = job(suspended=False)
    verdicts = decided(started)
    assert verdicts.to_unmark == (started.key,)
    assert verdicts.hand_offs == ()


@pytest.mark.parametrize("queued", [job(labels=QUEUE, max_delay="1s"), bare_pod(labels=QUEUE, max_delay="1s")])
def test_held_work_that_enters_a_kueue_queue_is_handed_over_unstarted(queued: WorkloadRecord):
    verdicts = decided(queued, plans={queued.key.uid: known()})
    assert verdicts.to_unmark == (queued.key,)
    assert verdicts.releases == ()
    assert verdicts.records == ()
    assert "team-queue" in verdicts.hand_offs[0].message


def test_work_released_by_the_watchdog_is_recorded_with_its_reason():
    gone = job(held=False, suspended=False, released_at="2026-07-01T13:00:00Z", release_reason="OperatorLost")
    (record,) = decided(gone, plans={gone.key.uid: known()}).hand_offs
    assert (record.state, record.reason) == (State.RELEASED, Reason.OPERATOR_LOST)


def test_a_release_reason_that_nobody_knows_is_somebody_elses():
    gone = job(held=False, suspended=False, released_at="2026-07-01T13:00:00Z", release_reason="BecauseISaidSo")
    (record,) = decided(gone, plans={gone.key.uid: known()}).hand_offs
    assert (record.state, record.reason) == (State.RELEASED, Reason.STARTED_BY_OTHER)


def test_a_start_that_its_user_noted_in_no_form_of_ours_is_not_told_as_ours():
    gone = job(held=False, suspended=False, released_at="<b>soon</b>\n" * 10_000, release_reason="BestNow")
    (record,) = decided(gone, plans={gone.key.uid: known()}).hand_offs
    assert (record.state, record.reason) == (State.HANDED_OFF, Reason.STARTED_BY_OTHER)
    assert "soon" not in record.message


def test_work_that_its_user_suspends_after_our_release_is_left_to_its_user():
    paused = job(held=False, suspended=True, released_at="2026-07-01T13:00:00Z", release_reason="BestNow")
    verdicts = decided(paused, plans={paused.key.uid: known("Released")})
    (record,) = verdicts.hand_offs
    assert (record.state, record.reason) == (State.HANDED_OFF, Reason.SUSPENDED_BY_OTHER)
    assert verdicts.releases == ()
    assert verdicts.to_unmark == ()


@pytest.mark.parametrize("left", [job(held=False, suspended=True), bare_pod(held=False, gates=["embellie.io/hold"])])
def test_work_that_waits_without_our_marker_is_never_said_to_have_started(left: WorkloadRecord):
    (record,) = decided(left, plans={left.key.uid: known()}).hand_offs
    assert (record.state, record.reason) == (State.HANDED_OFF, Reason.SUSPENDED_BY_OTHER)
    assert "embellie.io/held off while it waited" in record.message


@pytest.mark.parametrize("cell", ["Not a name", "x" * 300, "a.b.c", "west.west-r1", ""])
def test_what_another_hand_did_can_be_written_down_whatever_stands_in_our_annotations(cell: str):
    started = job(suspended=False, cell=cell, pods=2_000_000)
    (record,) = decided(started, plans={started.key.uid: known()}).hand_offs
    status = plan_status(record, {}, NOW, None)
    # More, or another form, the API server refuses; and with it all that the plan says.
    assert status["gpus"] <= 10_000_000
    assert status.get("cellName") == (cell if cell == "west.west-r1" else None)


@pytest.mark.parametrize("state", ["HandedOff", "Released", "Shadow"])
def test_a_last_word_is_said_once(state: str):
    runs = job(held=False, suspended=False, released_at="2026-07-01T13:00:00Z", release_reason="BestNow")
    assert decided(runs, plans={runs.key.uid: known(state)}).hand_offs == ()


def test_a_release_that_has_not_come_back_yet_is_nobodys_else():
    echo = job(suspended=False)
    verdicts = decided(echo, plans={echo.key.uid: known()}, in_flight=(echo.key.uid,))
    assert verdicts.hand_offs == ()
    waiting = job()
    assert decided(waiting, in_flight=(waiting.key.uid,)).records == ()


def test_work_that_finished_while_nobody_looked_gets_its_last_word_and_no_more():
    done = job(held=False, suspended=False, status={"conditions": [{"type": "Complete", "status": "True"}]})
    (word,) = decided(done, plans={done.key.uid: known()}).hand_offs
    assert word.state is State.HANDED_OFF
    assert decided(done, plans={done.key.uid: known(state="Released")}).hand_offs == ()
    assert decided(job(status={"conditions": [{"type": "Failed", "status": "True"}]})).records == ()


def test_shadow_decides_once_at_first_sight_and_releases_nothing():
    seen = job(held=False, suspended=False, duration="2h")
    shadow = {"policies": (policy(mode="shadow"),)}
    first = decided(seen, **shadow)
    assert reasons(first) == {"train": (State.SHADOW, Reason.WOULD_HOLD)}
    assert first.releases == ()
    assert decided(seen, **shadow, plans={seen.key.uid: known("Shadow")}).records == ()
    clean = decided(seen, **shadow, forecasts=CLEAN_NOW)
    assert reasons(clean) == {"train": (State.SHADOW, Reason.WOULD_START)}
    assert clean.releases == ()


def test_shadow_work_takes_no_room_from_held_work():
    crowd = [job(f"shadow-{i}", held=False, suspended=False, namespace="vision", gpus=8) for i in range(20)]
    both = (
        policy("watch", mode="shadow", namespaceSelector={"matchNames": ["vision"]}),
        policy("act", namespaceSelector={"matchNames": ["research"]}),
    )
    verdicts = decided(*crowd, job(), policies=both, forecasts=CLEAN_NOW)
    assert named(verdicts) == ["train"]


def test_work_that_only_shadow_covers_any_more_is_released():
    verdicts = decided(job(), policies=(policy(mode="shadow"),))
    assert named(verdicts) == ["train"]
    assert reasons(verdicts)["train"] == (State.RELEASED, Reason.NO_POLICY)


def test_released_work_that_is_on_its_way_is_not_given_away_again():
    on = nodes(("west",), each=1)
    first = job("first", held=False, suspended=False, released_at="x", cell="west", gpus=8)
    second = job("second", gpus=8, duration="1h")
    plans = {first.key.uid: known(state="Released")}
    verdicts = decided(view=view(first, second, on=on), plans=plans, forecasts=CLEAN_NOW)
    assert named(verdicts) == []
    assert reasons(verdicts)["second"] == (State.HELD, Reason.WAITING_FOR_GPUS)
    bound = view(second, pods=[running_pod("x", "west-0")], on=on)
    assert named(decided(view=bound, forecasts=CLEAN_NOW)) == []


def test_a_turn_without_anything_decides_nothing():
    verdicts = decided(view=view(on=()), grid_zones=(), policies=(), forecasts={})
    standing = Plan(decisions=(), objective_g=0.0)
    assert verdicts == Verdicts(
        releases=(), records=(), hand_offs=(), to_unmark=(), more_due=False, newcomers=False, standing=standing,
        collisions=(),
    )  # fmt: skip


def test_a_plan_that_could_not_be_written_at_once_stands_but_not_over_a_bound():
    crowd = [job(f"job-{i}", gpus=1) for i in range(4)]
    first = decided(*crowd, max_releases=2, forecasts=CLEAN_NOW)
    assert first.more_due
    assert not first.newcomers
    left = [j for j in crowd if j.key not in {d.key for d in first.releases}]
    newcomer = job("newcomer", gpus=1)
    made = assembled(*left, newcomer, forecasts=CLEAN_NOW)
    second = decide(made, (*left, newcomer), {}, (), 100, (), first.standing)
    assert sorted(named(second)) == sorted(j.key.name for j in left)
    assert second.newcomers, "who came since is planned in the very next turn"
    urgent = job("urgent", gpus=1, max_delay="1s")
    made = assembled(*left, urgent, forecasts=CLEAN_NOW)
    third = decide(made, (*left, urgent), {}, (), 100, (), first.standing)
    assert "urgent" in named(third)


def test_a_plan_that_stands_never_takes_work_to_a_place_that_an_edit_has_closed_to_it_since():
    zones = (grid_zone("west"), grid_zone("east", jurisdiction="FR"))
    crowd = [job(f"job-{i}", gpus=1) for i in range(2)]
    first = decided(*crowd, max_releases=1, grid_zones=zones, forecasts=CLEAN_NOW)
    (left,) = (j for j in crowd if j.key not in {d.key for d in first.releases})
    (planned,) = (d for d in first.standing.decisions if d.key == left.key)
    edited = job(left.key.name, gpus=1, residency="US-CA" if planned.cell == "east" else "FR")
    made = assembled(edited, grid_zones=zones, forecasts=CLEAN_NOW)
    (release,) = decide(made, (edited,), {}, (), 1, (), first.standing).releases
    assert {release.cell} == made.subjects[edited.key].workload.allowed_cells


def test_equal_inputs_give_equal_verdicts():
    crowd = [job(f"job-{i}", gpus=1) for i in range(4)]
    assert decided(*crowd) == decided(*crowd)
    assert decided(*crowd, forecasts=CLEAN_NOW) == decided(*crowd, forecasts=CLEAN_NOW)


def test_a_turn_that_left_work_without_an_answer_is_not_settled():
    waiting = job("waiting", gpus=1)
    held = {waiting.key.uid: known()}
    made = assembled(waiting, bounds={waiting.key.uid: held[waiting.key.uid].latest_start}, forecasts={})
    young = decide(made, (waiting,), held, (), 100, leads_since=NOW)
    assert young.records == ()
    assert not is_settled(young, made.snapshot)
    dirty = assembled(waiting)
    answered = decide(dirty, (waiting,), {}, (), 100)
    assert answered.releases == ()
    assert is_settled(answered, dirty.snapshot)


def test_what_was_decided_stands_until_something_changes_or_is_due():
    rest = Rest(key=("as it was",), until=10.0)
    assert rest.may_go_on(("as it was",), 9.9)
    assert not rest.may_go_on(("as it was",), 10.0)
    assert not rest.may_go_on(("changed",), 9.9)
