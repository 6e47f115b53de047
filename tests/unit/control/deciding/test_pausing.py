# SPDX-License-Identifier: Apache-2.0
"""Pausing: only what allows it, announced first, and never longer than a pause may last."""

import time
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from embellie.cluster.records import PodRecord
from embellie.control.deciding.pause_acts import Pauses
from embellie.control.deciding.pausing import heat_loads, pauses_end, said, step
from embellie.control.heat.power import PowerBook
from embellie.control.work.checkpoints import read_checkpoint
from embellie.domain.heat import HeatOutlook
from embellie.domain.times import format_time
from embellie.telemetry.exporters import Measurement
from embellie.thermal.job_power import WORST_SAMPLES
from embellie_testbed.views import NOW, assembled, job, nodes, policy, running_pod, thermal_zone, view

MINUTE = timedelta(minutes=1)
ALLOWED = {"checkpoint": "takes=5m,every=1h"}
PAUSES = policy(maxPausesPerDay=2)
ROOM = (thermal_zone("west-r1"),)


def running(name: str = "train", *, flex: str = "patient", **notes: str):
    return job(name, flex=flex, held=False, suspended=False, cell="west.west-r1", **notes)


def stepped(*workloads, wanted=(), pods=(), in_flight=(), policies=(PAUSES,), now=NOW, zones=ROOM) -> Pauses:
    seen = view(*workloads, pods=pods, on=nodes())
    made = assembled(view=seen, policies=policies, thermal_zones=zones, now=now)
    return step(made, workloads, pods, {w.key.uid for w in workloads} if wanted == "all" else wanted, in_flight, now)


def test_a_pause_is_announced_for_as_long_as_a_checkpoint_takes_to_the_job_and_the_pods_that_listen():
    train = running(**ALLOWED)
    deaf, listener = (running_pod(n, "west-0", gpus=4, job_uid=train.key.uid) for n in ("deaf", "listener"))
    listener = replace(listener, hears=True)
    (announced,) = stepped(train, wanted="all", pods=(deaf, listener)).announce
    assert announced.key == train.key
    assert announced.takes == 5 * MINUTE
    assert announced.listeners == (listener,)


@pytest.mark.parametrize(
    "work",
    [
        running(),
        running(checkpoint="soon"),
        running(flex="", **ALLOWED),
        running(flex="rigid", **ALLOWED),
        job("queued", held=False, suspended=False, labels={"kueue.x-k8s.io/queue-name": "q"}, **ALLOWED),
        job("waits", **ALLOWED),
    ],
)
def test_work_that_does_not_allow_it_or_does_not_run_is_never_paused(work):
    pauses = stepped(work, wanted="all")
    assert (pauses.announce, pauses.suspend) == ((), ())


@pytest.mark.parametrize("policies", [(policy(),), (policy(mode="shadow", maxPausesPerDay=9),), ()])
def test_without_an_enforcing_policy_that_allows_pauses_there_are_none(policies):
    assert stepped(running(**ALLOWED), wanted="all", policies=policies).announce == ()


def test_where_a_pause_may_last_for_no_time_none_is_announced():
    train = running(**ALLOWED)
    made = assembled(view=view(train, on=nodes()), policies=(PAUSES,), thermal_zones=ROOM, max_limit_hold_s=0.0)
    assert step(made, (train,), (), {train.key.uid}, (), NOW).announce == ()


def test_no_more_are_paused_within_a_day_than_the_policy_allows_and_each_once():
    earlier = running("earlier", paused_at=format_time(NOW - 20 * 60 * MINUTE), **ALLOWED)
    crowd = [running(f"train-{i}", **ALLOWED) for i in range(2)]
    assert [a.key.name for a in stepped(earlier, *crowd, wanted="all").announce] == ["train-0"]
    told = replace(crowd[0], annotations={**crowd[0].annotations, "embellie.io/pause-by": format_time(NOW + MINUTE)})
    assert stepped(earlier, told, crowd[1], wanted="all").announce == ()


def test_it_is_suspended_when_its_checkpoint_is_acknowledged_and_else_at_the_announced_instant():
    by = format_time(NOW + MINUTE)
    train = running(pause_by=by, **ALLOWED)
    pods = [running_pod(n, "west-0", gpus=4, job_uid=train.key.uid) for n in ("a", "b")]
    assert stepped(train, wanted="all", pods=pods).suspend == ()
    one = [replace(pods[0], checkpointed=by), pods[1]]
    assert stepped(train, wanted="all", pods=one).suspend == ()
    both = [replace(pod, checkpointed=by) for pod in pods]
    (acknowledged,) = stepped(train, wanted="all", pods=both).suspend
    assert acknowledged.acknowledged
    (by_job,) = stepped(running(pause_by=by, checkpointed=by, **ALLOWED), wanted="all").suspend
    assert by_job.acknowledged
    (late,) = stepped(train, wanted="all", pods=pods, now=NOW + 2 * MINUTE).suspend
    assert not late.acknowledged


def test_an_old_acknowledgement_does_not_count_for_a_new_announcement():
    train = running(pause_by=format_time(NOW + MINUTE), checkpointed=format_time(NOW - MINUTE), **ALLOWED)
    assert stepped(train, wanted="all").suspend == ()


def test_an_announcement_is_taken_back_when_the_zone_has_cooled():
    train = running(pause_by=format_time(NOW + MINUTE), **ALLOWED)
    deaf, listener = (running_pod(n, "west-0", gpus=4, job_uid=train.key.uid) for n in ("deaf", "listener"))
    listener = replace(listener, hears=True, told=format_time(NOW + MINUTE))
    (taken_back,) = stepped(train, pods=(deaf, listener)).withdraw
    assert (taken_back.key, taken_back.listeners) == (train.key, (listener,))


def test_what_is_taken_back_over_several_turns_goes_on_with_the_pods_that_still_believe_it():
    by = format_time(NOW + MINUTE)
    pods = told_pods(by)
    (taken_back,) = stepped(running(pause_by=by, **ALLOWED), pods=pods).withdraw
    assert taken_back.listeners == pods[:1]


def told_pods(told: str = "") -> tuple[PodRecord, ...]:
    """Return two listening pods of `train`, started an hour ago, of which one was told to pause."""
    started = NOW - 60 * MINUTE
    pods = [running_pod(n, "west-0", gpus=4, job_uid=running().key.uid, started=started) for n in ("told", "not-yet")]
    return replace(pods[0], hears=True, told=told), replace(pods[1], hears=True)


def test_pods_that_were_told_by_whoever_died_before_the_job_was_are_told_that_nothing_comes_of_it():
    pods = told_pods(format_time(NOW + MINUTE))
    (taken_back,) = stepped(running(**ALLOWED), pods=pods).withdraw
    assert taken_back.listeners == pods[:1]
    assert stepped(running(**ALLOWED), pods=pods, policies=()).withdraw == (taken_back,), "whatever its policy became"
    assert stepped(running(**ALLOWED), pods=pods, zones=()).withdraw == (taken_back,), "or of its zone"
    hot = stepped(running(**ALLOWED), pods=pods, wanted="all")
    (announced,) = hot.announce
    assert (announced.told, announced.listeners, hot.withdraw) == (pods[:1], pods[1:], ()), "where it is hot it goes on"


@pytest.mark.parametrize("told", [NOW - 20 * MINUTE, NOW + 400 * MINUTE], ids=["long over", "nobody of ours said"])
def test_a_pod_that_was_told_of_another_pause_is_told_anew(told):
    pods = told_pods(format_time(told))
    (announced,) = stepped(running(**ALLOWED), pods=pods, wanted="all").announce
    assert (announced.told, announced.listeners) == ((), pods)


def test_pods_that_were_told_before_their_job_answer_to_what_they_were_told():
    own, by = format_time(NOW + MINUTE), format_time(NOW + 3 * MINUTE)
    train, (early, last) = running(pause_by=by, **ALLOWED), told_pods(own)
    last = replace(last, told=by, checkpointed=by)
    assert stepped(train, wanted="all", pods=(early, last)) == replace(stepped(train, wanted="all"), suspend=())
    (stops,) = stepped(train, wanted="all", pods=(replace(early, checkpointed=own), last)).suspend
    assert stops.acknowledged
    copied = format_time(NOW - 20 * MINUTE)
    old = replace(early, told=copied, checkpointed=copied)
    again = stepped(train, wanted="all", pods=(old, last))
    assert (again.suspend, again.remind[0].listeners) == ((), (old,)), "its manifest was copied with that answer"


@pytest.mark.parametrize("notes", [{}, {"pause_by": format_time(NOW + 2 * MINUTE)}], ids=["being told", "told"])
def test_the_pods_of_a_job_of_thousands_are_gone_through_once_a_turn(notes):
    train, (pod, _) = running(**notes, **ALLOWED), told_pods(format_time(NOW + MINUTE))
    pods = tuple(replace(pod, uid=f"uid-{i}", name=f"pod-{i}") for i in range(4000))
    made = assembled(view=view(train, pods=pods, on=nodes()), policies=(PAUSES,), thermal_zones=ROOM)
    began_s = time.process_time()
    step(made, (train,), pods, {train.key.uid}, (), NOW)
    assert time.process_time() - began_s < 0.5


def test_what_a_template_was_copied_with_is_left_to_its_user():
    pods = told_pods(format_time(NOW - 400 * MINUTE))
    assert stepped(running(**ALLOWED), pods=pods).withdraw == ()
    assert stepped(running(flex="", **ALLOWED), pods=told_pods(format_time(NOW + MINUTE))).withdraw == ()


def test_a_pod_that_comes_after_its_job_was_told_is_told_the_same():
    by = format_time(NOW + MINUTE)
    train, pods = running(pause_by=by, **ALLOWED), told_pods(by)
    (late,) = stepped(train, pods=pods, wanted="all").remind
    assert (late.announced, late.listeners) == (by, pods[1:])
    assert stepped(train, pods=pods[:1], wanted="all").remind == ()
    over = stepped(train, pods=pods, wanted="all", now=NOW + 2 * MINUTE)
    assert (len(over.suspend), over.remind) == (1, ())


def test_work_that_does_not_allow_pauses_is_not_written_to_though_it_carries_an_announcement():
    copied = running(pause_by=format_time(NOW + MINUTE))
    assert stepped(copied, wanted="all").withdraw == () == stepped(copied).withdraw
    told = replace(running_pod("told", "west-0", gpus=4, job_uid=copied.key.uid), hears=True)
    assert stepped(copied, pods=(told,)).withdraw == (), "nor its pod, which heard nothing"
    told = replace(told, told=format_time(NOW + MINUTE))
    assert len(stepped(copied, pods=(told,)).withdraw) == 1, "its pod may have stopped working because of it"


@pytest.mark.parametrize("announced", [format_time(NOW - 400 * MINUTE), "soon", ""])
@pytest.mark.parametrize("flex", ["", "rigid"])
def test_work_that_never_opted_in_is_not_written_to_though_it_was_copied_with_an_announcement(flex, announced):
    copied = running(flex=flex, pause_by=announced, **ALLOWED)
    told = replace(running_pod("told", "west-0", gpus=4, job_uid=copied.key.uid), hears=True, told=announced)
    assert stepped(copied, pods=(told,)).withdraw == () == stepped(copied, pods=(told,), wanted="all").withdraw


def test_work_that_opts_out_after_it_was_told_is_told_that_it_is_not_paused():
    told = running(flex="", pause_by=format_time(NOW + MINUTE), **ALLOWED)
    pod = running_pod("told", "west-0", gpus=4, job_uid=told.key.uid)
    assert len(stepped(told, pods=(pod,), wanted="all").withdraw) == 1


def test_an_announcement_is_taken_off_work_that_its_user_suspended_before_it_starts_again_with_it():
    told = job(held=False, suspended=True, pause_by=format_time(NOW + MINUTE), **ALLOWED)
    assert [w.key for w in stepped(told, wanted="all").withdraw] == [told.key]
    assert stepped(replace(told, flex=""), wanted="all").withdraw == ()


def paused(minutes: int, **notes: str):
    at = format_time(NOW - minutes * MINUTE)
    released = format_time(NOW - 300 * MINUTE)
    return job(**{"paused_at": at, "released_at": released, "cell": "west.west-r1", **ALLOWED, **notes})


def test_a_paused_job_is_not_planned_goes_on_when_heat_allows_it_and_at_the_latest_after_the_limit_hold():
    work = paused(10)
    assert work.paused
    assert assembled(work).snapshot.workloads == ()
    hot = stepped(work, wanted="all")
    assert (hot.resume, hot.standing) == ((), (work,))
    assert stepped(work).resume[0].why == "west-r1 has room for it again"
    assert "as long as a pause may" in stepped(paused(61), wanted="all").resume[0].why
    assert "gone" in stepped(work, wanted="all", zones=()).resume[0].why
    assert "gone" in stepped(paused(10, cell="west"), wanted="all", zones=()).resume[0].why
    assert "no enforcing policy" in stepped(work, wanted="all", policies=()).resume[0].why
    assert stepped(work, in_flight={work.key.uid}) == Pauses()


def test_of_what_is_paused_it_is_known_when_it_goes_on_at_the_latest():
    works = (paused(10), running(**ALLOWED), paused(10, name="strange", paused_at="2999-01-01T00:00:00Z"))
    made = assembled(view=view(*works, on=nodes()), policies=(PAUSES,), max_limit_hold_s=3600.0)
    assert pauses_end(made, works) == {works[0].key.uid: NOW + 50 * MINUTE}


def test_what_goes_on_has_to_fit_the_next_hours_however_short_a_pause_may_be():
    work = paused(10)
    made = assembled(view=view(work, on=nodes()), policies=(PAUSES,), thermal_zones=ROOM, max_limit_hold_s=3600.0)
    for hours, goes_on in ((3, False), (4, True)):
        ahead = np.array([500.0] * hours + [1.0] * 20)
        hot = HeatOutlook(start=NOW, step=60 * MINUTE, removable_kw=ahead, pue=np.ones(ahead.size))
        zones = tuple(replace(zone, outlook=hot) for zone in made.snapshot.thermal_zones)
        seen = replace(made, snapshot=replace(made.snapshot, thermal_zones=zones))
        assert bool(step(seen, (work,), (), (), (), NOW).resume) is goes_on


def test_a_paused_job_comes_back_at_what_its_kind_was_seen_to_draw():
    book = PowerBook()
    for k in range(WORST_SAMPLES):
        pod = f"train-{k % 3}-x7k2p"
        told = Measurement(quantity="gpu_power", unit="W", value=300.0, node="west-0", namespace="research", pod=pod)
        book.take([told])
    work = paused(10)
    seen = view(work, on=nodes())
    base_kw = assembled(view=seen, thermal_zones=ROOM).snapshot.thermal_zones[0].base_power_kw
    zone = thermal_zone("west-r1", cooling={"capacityKilowatts": int(base_kw) + 3})
    for learnt, goes_on in ((PowerBook(), False), (book, True)):
        made = assembled(view=seen, policies=(PAUSES,), thermal_zones=(zone,), learnt=learnt)
        assert bool(step(made, (work,), (), (), (), NOW).resume) is goes_on


def test_work_that_was_released_after_its_pause_is_not_paused_any_more():
    assert not job(paused_at="2026-01-01T00:00:00Z", released_at="2026-01-01T00:10:00Z").paused
    assert not running(paused_at="2026-01-01T00:00:00Z").paused


@pytest.mark.parametrize("paused_at", ["9999-12-31T23:59:59Z", "2099-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "soon"])
def test_a_pause_whose_time_cannot_be_ours_ends_at_once_and_stops_no_turn(paused_at: str):
    work = job(paused_at=paused_at, cell="west.west-r1", **ALLOWED)
    assert "as long as a pause may" in stepped(work, wanted="all").resume[0].why


def test_a_pause_says_since_when_why_and_until_when_at_most():
    work = paused(10)
    words = said(work, assembled(work, thermal_zones=ROOM), "31.2 °C is over 31.0 °C")
    assert words == (
        "Paused since 2026-07-01 13:10 UTC because west.west-r1 has to make less heat (31.2 °C is over 31.0 °C); "
        "goes on when there is room again, at the latest 2026-07-01 14:10 UTC."
    )


def test_loads_say_what_may_be_paused_and_when_its_last_checkpoint_was():
    train, plain = running(**ALLOWED), running("plain")
    started = NOW - 150 * MINUTE
    pods = [running_pod(w.key.name, "west-0", gpus=4, job_uid=w.key.uid, started=started) for w in (train, plain)]
    seen = view(train, plain, pods=pods, on=nodes())
    made = assembled(view=seen, policies=(PAUSES,), thermal_zones=ROOM)
    loads = {load.key: load for load in heat_loads(made, (train, plain), pods, NOW)}
    pausable = loads[train.key.uid]
    assert pausable.pausable
    assert not loads[plain.key.uid].pausable
    assert pausable.last_checkpoint == started + 120 * MINUTE
    assert (pausable.zone, pausable.nodes, pausable.gpus) == ("west-r1", ("west-0",), 4)


def test_bonus_work_is_the_first_to_be_asked():
    found = [running(flex, flex=flex, **ALLOWED) for flex in ("patient", "bonus")]
    pods = [running_pod(w.key.name, "west-0", gpus=4, job_uid=w.key.uid) for w in found]
    made = assembled(view=view(*found, pods=pods, on=nodes()), policies=(PAUSES,), thermal_zones=ROOM)
    patient, bonus = heat_loads(made, found, pods, NOW)
    assert bonus.priority < patient.priority


@pytest.mark.parametrize("text", ["", "5m", "every=1h", "takes=5m,takes=6m", "takes=soon", "takes=2h", "takes=-5m"])
def test_a_checkpoint_that_cannot_be_read_is_refused_with_a_way_to_mend_it(text):
    with pytest.raises(ValueError, match=r"takes=|9h30m|shorten"):
        read_checkpoint(text)
