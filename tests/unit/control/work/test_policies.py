# SPDX-License-Identifier: Apache-2.0
"""Which policy wins, and where admission may hold."""

from datetime import UTC, datetime

from embellie.api.energypolicy import EnergyPolicy
from embellie.cluster.records import UNCONSTRAINED, NamespaceRecord, WorkloadRecord
from embellie.control.work.policies import PolicyTable
from embellie.domain.snapshot import WorkloadKey, WorkloadKind

NAMESPACES = [
    NamespaceRecord(name="research", labels={"team": "nlp"}),
    NamespaceRecord(name="vision", labels={"team": "vision"}),
    NamespaceRecord(name="kube-system", labels={}),
    NamespaceRecord(name="embellie-system", labels={}),
]


def policy(name: str, created: str = "2026-01-01T00:00:00Z", **spec) -> EnergyPolicy:
    return EnergyPolicy.model_validate(
        {"metadata": {"name": name, "uid": name, "creationTimestamp": created}, "spec": {"mode": "enforce", **spec}}
    )


def workload(namespace: str = "research", **labels: str) -> WorkloadRecord:
    return WorkloadRecord(
        key=WorkloadKey(namespace=namespace, name="train", kind=WorkloadKind.JOB, uid="u"),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        flex="patient",
        held=True,
        waiting=True,
        finished=False,
        pods=1,
        gpus_per_pod=1,
        annotations={},
        labels=labels,
        constraints=UNCONSTRAINED,
    )


def table(*policies: EnergyPolicy) -> PolicyTable:
    return PolicyTable(policies, NAMESPACES, "embellie-system")


def test_a_policy_that_selects_everything_never_reaches_system_namespaces_or_our_own():
    everything = table(policy("all"))
    assert everything.enforced_namespaces() == ["research", "vision"]
    assert everything.match(workload("kube-system")) is None
    assert everything.match(workload("embellie-system")) is None


def test_the_higher_priority_wins_then_the_older_then_the_name():
    young_high = policy("young", created="2026-02-01T00:00:00Z", priority=5)
    assert table(policy("old"), young_high).match(workload()).metadata.name == "young"
    newer = policy("a-newer", created="2026-02-01T00:00:00Z")
    assert table(newer, policy("z-older")).match(workload()).metadata.name == "z-older"
    assert table(policy("b"), policy("a")).match(workload()).metadata.name == "a"


def test_the_loser_knows_who_overrules_it_and_the_winner_nobody():
    winner, loser = policy("winner", priority=1), policy("loser")
    found = table(winner, loser)
    assert found.overruled_by(loser) == ["winner"]
    assert found.overruled_by(winner) == []


def test_policies_that_share_no_namespace_do_not_overlap():
    one = policy("one", namespaceSelector={"matchNames": ["research"]})
    other = policy("other", namespaceSelector={"matchLabels": {"team": "vision"}})
    found = table(one, other)
    assert found.overruled_by(one) == found.overruled_by(other) == []
    assert found.match(workload("vision")).metadata.name == "other"


def test_only_enforce_policies_reach_the_switch():
    assert table(policy("watching", mode="shadow")).enforced_namespaces() == []
    assert table(policy("watching", mode="shadow")).match(workload()).metadata.name == "watching"


def test_where_a_policy_in_shadow_wins_for_all_work_nothing_is_held_at_creation():
    everywhere, research = policy("all"), {"namespaceSelector": {"matchNames": ["research"]}}
    watched = policy("watched", mode="shadow", priority=1, **research)
    assert table(everywhere, watched).enforced_namespaces() == ["vision"]
    some = policy("some", mode="shadow", priority=1, workloadSelector={"matchLabels": {"team": "a"}}, **research)
    assert table(everywhere, some).enforced_namespaces() == ["research", "vision"]
    assert table(everywhere, policy("late", mode="shadow", **research)).enforced_namespaces() == ["research", "vision"]


def test_the_workload_selector_narrows_a_policy():
    found = table(policy("big", workloadSelector={"matchLabels": {"size": "big"}}))
    assert found.match(workload(size="big")) is not None
    assert found.match(workload(size="small")) is None
