# SPDX-License-Identifier: Apache-2.0
"""Real watchdog processes against a real API server: who is released, in which order, and who stops it."""

import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from watched_cluster import (
    NAME,
    beat,
    events,
    guard_options,
    held_in,
    job_of,
    make_job,
    make_plan,
    make_pod,
    make_switch,
    released,
    watchdog,
)

from embellie.watchdog import names, switch
from embellie.watchdog.api import Api, ApiError, UnreachableError, connect, namespaced
from embellie.watchdog.lease import lease_path
from embellie_testbed.processes import until

pytestmark = pytest.mark.control_plane


def test_when_the_heartbeat_stops_all_is_released_earliest_latest_start_first(
    control_plane: Any, api: Api, namespace: str, tmp_path: Path
) -> None:
    make_switch(api, namespace)
    beat(api, namespace)
    day = datetime(2030, 1, 1, tzinfo=UTC)
    for index in range(15):  # created in the order of falling latest starts
        make_plan(api, make_job(api, namespace, f"j{index:02d}"), day - timedelta(hours=index))
    make_job(api, namespace, "without-a-plan")
    make_pod(api, namespace, "pod", names.GATE, "other.io/gate")
    users = make_job(api, namespace, "suspended-by-its-user", held=False)
    with watchdog(control_plane, tmp_path / "log", "run", namespace, *guard_options()):
        until(lambda: not held_in(api, namespace), "nothing is held")
        until(lambda: len(events(api, namespace)) == 17, "17 events")
    first, *_, last = (datetime.fromisoformat(e["eventTime"]) for e in events(api, namespace))
    assert timedelta(seconds=2.5) < last - first < timedelta(seconds=6), "the releases were not paced"
    state = switch.read(api, namespace, NAME)
    assert (state.enabled, state.locked) == (False, False)
    order = [e["regarding"]["name"] for e in events(api, namespace)]
    assert set(order[:2]) == {"without-a-plan", "pod"}
    moved = [abs(order.index(f"j{index:02d}") - (16 - index)) for index in range(15)]
    assert max(moved) <= 3, "only a write that stalls for a moment is overtaken by the next ones"
    job = job_of(api, namespace, "j00")
    assert job["metadata"]["annotations"][names.RELEASE_REASON] == "OperatorLost"
    assert job["spec"]["suspend"] is False
    pod = api.get(namespaced("api/v1", namespace, "pods", "pod"))
    assert [g["name"] for g in pod["spec"]["schedulingGates"]] == ["other.io/gate"]
    untouched = job_of(api, namespace, "suspended-by-its-user")
    assert untouched["spec"]["suspend"] is True
    assert untouched["spec"] == users["spec"]
    assert untouched["metadata"].get("annotations") == users["metadata"].get("annotations")


def test_while_the_heart_beats_nothing_is_touched_and_sigterm_ends_it_within_two_seconds(
    control_plane: Any, api: Api, namespace: str, tmp_path: Path
) -> None:
    make_switch(api, namespace)
    make_job(api, namespace, "held")
    log = tmp_path / "log"
    beat(api, namespace)
    with watchdog(control_plane, log, "run", namespace, *guard_options()) as process:
        until(lambda: "leadership-won" in log.read_text(), "it leads")
        for _ in range(10):
            beat(api, namespace)
            time.sleep(0.5)  # the beat's own period
        assert not released(api, namespace, "held")
        assert switch.read(api, namespace, NAME).enabled
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == 0
        assert time.monotonic() - begun < 2.0
    lease = api.get(lease_path(namespace, names.election_name(NAME)))
    assert not lease["spec"].get("holderIdentity"), "it did not hand over"


def test_a_heartbeat_that_comes_back_stops_the_sweep(
    control_plane: Any, api: Api, namespace: str, tmp_path: Path
) -> None:
    make_switch(api, namespace)
    beat(api, namespace, age_seconds=3600)
    for index in range(60):
        make_job(api, namespace, f"j{index:02d}")
    log, stop = tmp_path / "log", threading.Event()
    with watchdog(control_plane, log, "run", namespace, *guard_options(release=60)):
        until(lambda: "released" in log.read_text(), "it releases")

        def live() -> None:
            while not stop.wait(0.3):
                beat(api, namespace)

        heart = threading.Thread(target=live)
        heart.start()
        try:
            until(lambda: "sweep-ended" in log.read_text(), "the sweep ends")
            left = len(held_in(api, namespace))
            until(lambda: "heartbeat-returned" in log.read_text(), "the heartbeat is back")
            assert 30 < left < 60
            assert len(held_in(api, namespace)) == left
        finally:
            stop.set()
            heart.join()


def test_creations_that_race_the_switch_are_released_too(
    control_plane: Any, api: Api, namespace: str, tmp_path: Path
) -> None:
    make_switch(api, namespace)
    beat(api, namespace, age_seconds=3600)
    make_job(api, namespace, "first")
    with watchdog(control_plane, tmp_path / "log", "run", namespace, *guard_options()):
        until(lambda: released(api, namespace, "first"), "the first is released")
        make_job(api, namespace, "late")
        until(lambda: released(api, namespace, "late"), "the late one is released")
        until(lambda: '"clean": true' in (tmp_path / "log").read_text(), "the sweep is clean")
        make_job(api, namespace, "later-still")
        until(lambda: released(api, namespace, "later-still"), "the last one is released")


def test_of_two_watchdogs_one_acts_and_the_other_takes_over(
    control_plane: Any, api: Api, namespace: str, tmp_path: Path
) -> None:
    make_switch(api, namespace)
    beat(api, namespace, age_seconds=3600)
    for index in range(20):
        make_job(api, namespace, f"j{index:02d}")
    one, two = tmp_path / "one", tmp_path / "two"
    with (
        watchdog(control_plane, one, "run", namespace, *guard_options(identity="one")) as first,
        watchdog(control_plane, two, "run", namespace, *guard_options(identity="two")) as second,
    ):
        until(lambda: not held_in(api, namespace), "nothing is held")
        until(lambda: len(events(api, namespace)) >= 20, "20 events")
        acted = [log for log in (one, two) if '"released"' in log.read_text()]
        assert len(acted) == 1
        assert len(events(api, namespace)) == 20
        leader = first if acted == [one] else second
        leader.kill()
        make_job(api, namespace, "after-the-leader")
        until(lambda: released(api, namespace, "after-the-leader"), "the last one is released", 25.0)


def test_an_api_server_that_restarts_in_the_middle_is_waited_for(
    control_plane: Any, api: Api, namespace: str, tmp_path: Path
) -> None:
    make_switch(api, namespace)
    beat(api, namespace, age_seconds=3600)
    for index in range(40):
        make_job(api, namespace, f"j{index:02d}")
    log = tmp_path / "log"
    with watchdog(control_plane, log, "run", namespace, *guard_options(release=30)) as process:
        until(lambda: '"released"' in log.read_text(), "it releases")
        control_plane.restart_apiserver()
        fresh = connect(Path(control_plane.kubeconfig))

        def empty() -> bool:
            try:
                return not held_in(fresh, namespace)
            except (ApiError, UnreachableError):
                return False

        until(empty, "nothing is left", 90.0)
        assert process.poll() is None
