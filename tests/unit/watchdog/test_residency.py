# SPDX-License-Identifier: Apache-2.0
"""Released work goes on inside of its border, whatever its user wrote beside it."""

from typing import Any

import pytest

from embellie.watchdog.residency import confined, parse_residency, required_terms, satisfies, with_terms


def zone(name: str, jurisdiction: str | None, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"jurisdiction": jurisdiction, "nodeSelector": labels}}


def narrowed_terms(spec: dict[str, Any], residency: str, zones: Any) -> list[dict[str, Any]]:
    """Return the required terms of a pod that is confined by its affinity."""
    changes = confined(spec, residency, zones)
    assert set(changes) <= {"affinity"}
    return required_terms({**spec, **changes})


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
    own = [{"matchExpressions": [{"key": "region", "operator": "In", "values": ["south", "east"]}]}]
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
    both = [zone("a", "FR", region="north"), zone("b", "FR", region="south")]
    assert narrowed_terms({"affinity": with_terms({}, [{}])}, "FR", both) == [{}]


OWN = {"affinity": with_terms({}, [{"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["h100"]}]}])}


@pytest.mark.parametrize(
    ("selector", "after"),
    [({}, {"region": "north"}), ({"hall": "2"}, {"hall": "2", "region": "north"}), ({"region": "north"}, None)],
    ids=["none", "another key", "ours already"],
)
def test_a_users_own_list_stays_as_it_is_where_one_zone_lies_inside_so_that_it_can_be_applied_again(
    selector: dict[str, str], after: dict[str, str] | None
) -> None:
    spec = {**OWN, "nodeSelector": selector}
    zones = [zone("a", "FR", region="north"), zone("c", "US", region="west")]
    assert confined(spec, "FR", zones) == ({} if after is None else {"nodeSelector": after})


def test_where_a_users_selector_asks_for_another_place_nothing_of_it_is_changed_and_it_stays_pending() -> None:
    spec = {**OWN, "nodeSelector": {"region": "south"}}
    (term,) = narrowed_terms(spec, "FR", [zone("a", "FR", region="north")])
    assert term["matchExpressions"][1] == {"key": "region", "operator": "In", "values": ["north"]}


def test_what_is_confined_already_is_not_changed() -> None:
    spec = {"affinity": with_terms({}, [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}])}
    for zones in ([zone("a", "FR", region="north")], [zone("a", "FR", region="north"), zone("b", "FR", region="x")]):
        once = {**spec, **confined(spec, "FR", zones)}
        assert not confined(once, "FR", zones)


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
