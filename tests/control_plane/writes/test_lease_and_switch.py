# SPDX-License-Identifier: Apache-2.0
"""Election, heartbeat and switch on a real API server."""

import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from embellie.cluster.client import KubeClient, object_path
from embellie.cluster.lease import Heartbeat, LeaseElector
from embellie.cluster.switch import Switch
from embellie.control.acting.switch_keeper import ON, SwitchKeeper
from embellie.watchdog import switch as watchdog_switch
from embellie.watchdog.api import Api
from embellie.watchdog.commands import check
from embellie_testbed.processes import until

pytestmark = pytest.mark.control_plane


def lease_path(namespace: str, name: str = "embellie-leader") -> str:
    return object_path("coordination.k8s.io/v1", "leases", name, namespace=namespace)


def test_when_a_leader_dies_the_other_leads_within_twenty_seconds_and_never_both(
    kube: KubeClient, namespace: str
) -> None:
    lost: list[str] = []
    electors = [
        LeaseElector(kube, namespace, name, on_lost=lambda name=name: lost.append(name)) for name in ("one", "two")
    ]
    leaders: list[int] = []
    watching = threading.Event()

    def watch() -> None:
        while not watching.wait(0.02):
            leaders.append(sum(e.is_leader() for e in electors))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for elector in electors:
            elector.start()
        until(lambda: any(e.is_leader() for e in electors), "nobody leads", 10.0)
        first, second = sorted(electors, key=lambda e: not e.is_leader())
        # As good as killed: no renewal any more, and no word to anybody.
        first._stopping.set()
        until(second.is_leader, "no change of leaders within 20 s", 20.0)
        assert not first.is_leader()
        assert kube.get(lease_path(namespace))["spec"]["holderIdentity"] == second.identity
    finally:
        watching.set()
        watcher.join()
        for elector in electors:
            elector.stop()
    assert max(leaders) == 1
    assert lost == []


def test_a_leader_that_stops_hands_over_within_a_retry(kube: KubeClient, namespace: str) -> None:
    one, two = LeaseElector(kube, namespace, "one"), LeaseElector(kube, namespace, "two")
    assert one.step()
    two.start()
    one.stop()
    assert kube.get(lease_path(namespace))["spec"].get("holderIdentity", "") in ("", "two")
    until(two.is_leader, "nobody took over", 5.0)
    two.stop()


def test_only_one_of_many_wins_the_first_race(kube: KubeClient, namespace: str) -> None:
    electors = [LeaseElector(kube, namespace, f"candidate-{i}") for i in range(8)]
    threads = [threading.Thread(target=elector.step) for elector in electors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(elector.is_leader() for elector in electors) == 1


def test_losing_the_lease_to_another_hand_is_told_at_once(kube: KubeClient, namespace: str) -> None:
    lost = threading.Event()
    elector = LeaseElector(kube, namespace, "one", on_lost=lost.set)
    elector.start()
    until(elector.is_leader, "nobody leads", 5.0)
    taken = {"op": "replace", "path": "/spec/holderIdentity", "value": "usurper"}
    kube.json_patch(lease_path(namespace), [taken])
    assert lost.wait(5.0)
    assert not elector.is_leader()
    elector.stop()
    assert kube.get(lease_path(namespace))["spec"]["holderIdentity"] == "usurper"


def test_a_beat_renews_the_heartbeat(kube: KubeClient, namespace: str) -> None:
    heart = Heartbeat(kube, namespace, "one")
    heart.beat(datetime(2026, 1, 2, 3, 4, 5, 6000, tzinfo=UTC))
    heart.beat(datetime(2026, 1, 2, 3, 4, 20, 7000, tzinfo=UTC))
    spec = kube.get(lease_path(namespace, "embellie-heartbeat"))["spec"]
    assert spec["renewTime"] == "2026-01-02T03:04:20.007000Z"
    assert spec["holderIdentity"] == "one"


def make_switch(kube: KubeClient, namespace: str, **data: str) -> Switch:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "embellie-switch"}, "data": data}
    kube.create(object_path("v1", "configmaps", namespace=namespace), body)
    return Switch(kube, namespace)


def data_of(kube: KubeClient, namespace: str) -> dict[str, str]:
    found = kube.get(object_path("v1", "configmaps", "embellie-switch", namespace=namespace))["data"]
    assert isinstance(found, dict)
    return found


def test_the_switch_is_turned_on_with_its_namespaces_and_off_again(kube: KubeClient, namespace: str) -> None:
    switch = make_switch(kube, namespace, enabled="false", locked="false", namespaces=",", note="kept")
    assert not switch.read().holds
    assert switch.enable(["team-b", "team-a", "team-b"]).holds
    expected = {"enabled": "true", "locked": "false", "namespaces": ",team-a,team-b,", "note": "kept"}
    assert data_of(kube, namespace) == expected
    assert not switch.disable().holds
    assert data_of(kube, namespace)["enabled"] == "false"


def test_a_locked_switch_is_never_turned_on_but_can_be_turned_off(kube: KubeClient, namespace: str) -> None:
    switch = make_switch(kube, namespace, enabled="true", locked="true", namespaces=",a,")
    assert switch.enable(["b"]).locked
    assert data_of(kube, namespace) == {"enabled": "true", "locked": "true", "namespaces": ",a,"}
    switch.disable()
    assert data_of(kube, namespace)["enabled"] == "false"


def test_a_missing_switch_is_off_and_is_not_created(kube: KubeClient, namespace: str) -> None:
    switch = Switch(kube, namespace)
    assert not switch.read().exists
    assert not switch.enable(["a"]).exists
    assert not switch.disable().exists


def test_a_switch_without_any_data_can_be_turned_on(kube: KubeClient, namespace: str) -> None:
    assert make_switch(kube, namespace).enable(["a"]).holds


def test_a_lock_that_comes_between_read_and_write_wins(control_plane: Any, kube: KubeClient, namespace: str) -> None:
    class LockedMeanwhile(KubeClient):
        def json_patch(self, path: str, operations: Any, timeout_s: float = 10.0) -> dict[str, Any]:
            if not locked:
                locked.append(True)
                kube.json_patch(path, [{"op": "replace", "path": "/data/locked", "value": "true"}])
            return super().json_patch(path, operations, timeout_s)

    locked: list[bool] = []
    make_switch(kube, namespace, enabled="false", locked="false", namespaces=",")
    client = LockedMeanwhile.from_environment(control_plane.kubeconfig)
    assert not Switch(client, namespace).enable(["a"]).holds
    assert data_of(kube, namespace) == {"enabled": "false", "locked": "true", "namespaces": ","}
    client.close()


def test_writing_what_the_switch_already_says_writes_nothing(kube: KubeClient, namespace: str) -> None:
    switch = make_switch(kube, namespace, enabled="true", locked="false", namespaces=",a,")
    path = object_path("v1", "configmaps", "embellie-switch", namespace=namespace)
    before = kube.get(path)["metadata"]["resourceVersion"]
    switch.enable(["a"])
    assert kube.get(path)["metadata"]["resourceVersion"] == before


def freeze(kube: KubeClient, namespace: str) -> None:
    path = object_path("v1", "configmaps", "embellie-switch", namespace=namespace)
    kube.json_patch(path, [{"op": "add", "path": "/immutable", "value": True}])


def test_a_switch_that_somebody_made_immutable_is_told_with_its_mend_and_stops_no_turn(
    kube: KubeClient, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = SwitchKeeper(make_switch(kube, namespace, enabled="true", locked="false", namespaces=",a,"))
    keeper.mind(["a"])
    freeze(kube, namespace)
    keeper.mind(["a"])
    assert keeper.holding == ON, "it says what it should"
    for _ in range(2):
        keeper.mind(["a", "b"])
    assert (keeper.holding.good, keeper.holding.reason) == (False, "SwitchImmutable")
    assert "delete it, then run helm upgrade" in keeper.holding.message
    assert caplog.text.count("was made immutable") == 1, "once, not turn after turn"
    keeper.mind([])
    kube.delete(object_path("v1", "configmaps", "embellie-switch", namespace=namespace))
    make_switch(kube, namespace, enabled="false", locked="false", namespaces=",")
    keeper.mind(["a", "b"])
    assert keeper.holding == ON


@pytest.mark.parametrize("lock", [False, True])
def test_a_switch_that_somebody_made_immutable_is_switched_off_by_deleting_it(
    kube: KubeClient, api: Api, namespace: str, lock: bool
) -> None:
    switch = make_switch(kube, namespace, enabled="true", locked="false", namespaces=",a,")
    freeze(kube, namespace)
    (fault,) = [
        says for good, says in check(api, namespace=namespace, name="embellie", heartbeat_within_s=None) if not good
    ]
    assert "made immutable" in fault
    assert watchdog_switch.turn_off(api, namespace, "embellie", lock=lock)
    assert not switch.enable(["a"]).holds, "and nothing turns it on again"
    assert not switch.no_uninstall()
    assert not watchdog_switch.turn_off(api, namespace, "embellie", lock=lock)
