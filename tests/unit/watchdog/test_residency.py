# SPDX-License-Identifier: Apache-2.0
"""Released work goes on inside of its border, whatever its user wrote beside it."""

from typing import Any

import pytest

from embellie.watchdog.residency import narrowed_terms, parse_residency, satisfies, with_terms


def zone(name: str, jurisdiction: str | None, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"jurisdiction": jurisdiction, "nodeSelector": labels}}


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
