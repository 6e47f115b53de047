# SPDX-License-Identifier: Apache-2.0
"""Of several watchdogs one leads."""

import copy
import threading
from typing import Any

import pytest

from embellie.watchdog.api import ApiError, UnreachableError
from embellie.watchdog.guard import Guard, GuardOptions
from embellie.watchdog.lease import Election


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
